"""skops files."""

from __future__ import annotations

from typing import Final

from tests.forge_skops import array_file, estimator, node, skops, text
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_OBJECT: Final = node("ObjectNode", "builtins.list", content=text([1]))

ROWS: Final = [
    FormatRow(
        format="skops",
        title="skops",
        written_by="skops, for scikit-learn",
        reads="every node of the schema by everything that it names, every member",
        order=60,
        benign={
            "an estimator and its array": lambda: skops(
                estimator(C=text(1.0), coef_=node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy")), {"1.npy": array_file()}
            ),
        },
        hostile={
            "a function that starts processes": (lambda: skops(estimator(f=node("FunctionNode", "os.system"))), "SL841"),
            "a method of another object than it claims (CVE-2025-54413)": (
                lambda: skops(node("MethodNode", "sklearn.svm._classes.SVC", content={"func": "append", "obj": _OBJECT})),
                "SL843",
            ),
            "an operator under another type's name (CVE-2025-54412)": (
                lambda: skops(node("OperatorFuncNode", "sklearn.svm.methodcaller", attrs=node("TupleNode", "builtins.tuple", content=[]))),
                "SL843",
            ),
            "a type of the model's own": (lambda: skops(node("ObjectNode", "my_package.Model")), "SL842"),
            "a pickle beside the schema": (lambda: skops(estimator(), {"1.bin": b"cos\nsystem\n(S'true'\ntR."}), "SL101"),
        },
    ),
]
