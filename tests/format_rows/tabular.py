"""skops files, boosted trees, PMML."""

from __future__ import annotations

from typing import Final

from tests.forge_boosting import (
    catboost,
    catboost_json,
    lightgbm,
    lightgbm_tree,
    pmml,
    ubjson,
    xgboost,
    xgboost_binary,
    xgboost_json,
    xgboost_tree,
)
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
    FormatRow(
        format="xgboost-json",
        title="XGBoost JSON",
        written_by="XGBoost 1.0 and newer",
        reads="every index of every tree, texts that read like code",
        order=61,
        benign={"one tree": xgboost_json},
        hostile={
            "a child that is not there": (lambda: xgboost_json(xgboost_tree(left_children=[7, -1, -1])), "SL851"),
            "a tree that goes round": (lambda: xgboost_json(xgboost_tree(left_children=[0, -1, -1])), "SL851"),
            "code in an attribute": (lambda: xgboost_json(attributes={"note": "__import__('os').system('true')"}), "SL852"),
        },
    ),
    FormatRow(
        format="xgboost-ubjson",
        title="XGBoost UBJSON",
        written_by="XGBoost 1.6 and newer",
        reads="as JSON, every length before it is used",
        order=62,
        benign={"one tree": lambda: ubjson(xgboost())},
        hostile={
            "a feature that is not there": (lambda: ubjson(xgboost(xgboost_tree(split_indices=[9, 0, 0]))), "SL851"),
            "a length that leaves the file": (lambda: b"{L" + bytes(7) + b"\x07learnerS" + b"L\x7f" + bytes(7), "SL855"),
        },
    ),
    FormatRow(
        format="xgboost-binary",
        title="XGBoost binary",
        written_by="XGBoost before 3.0",
        reads="field by field, every index of every tree",
        order=63,
        benign={"one tree": xgboost_binary, "one tree, before version 1.0": lambda: xgboost_binary(magic=b"")},
        hostile={"a tree that goes round": (lambda: xgboost_binary([(1, 2, 1), (0, -1, 0), (-1, -1, 0)]), "SL851")},
    ),
    FormatRow(
        format="lightgbm",
        title="LightGBM text",
        written_by="LightGBM",
        reads="every size and index, texts that read like code",
        order=64,
        benign={"one tree": lightgbm},
        hostile={
            "tree sizes that leave the file": (lambda: lightgbm(sizes="99999999"), "SL851"),
            "a child that is not there": (lambda: lightgbm(lightgbm_tree(left_child="9 -1")), "SL851"),
            "code in a parameter": (lambda: lightgbm(parameters="[data: os.system('true')]"), "SL852"),
        },
    ),
    FormatRow(
        format="catboost",
        title="CatBoost `.cbm`",
        written_by="CatBoost",
        reads="the core's flatbuffer, its texts and the splits of its trees",
        order=65,
        benign={"one tree": catboost},
        hostile={
            "a core that leaves the file": (lambda: catboost(length=1 << 30), "SL851"),
            "splits that are not there": (lambda: catboost(sizes=[5]), "SL851"),
            "code in a text": (lambda: catboost(info={"params": "os.system('true')"}), "SL852"),
        },
    ),
    FormatRow(
        format="catboost-json",
        title="CatBoost JSON",
        written_by="CatBoost",
        reads="splits and leaves of every tree, texts that read like code",
        order=66,
        benign={"one tree": catboost_json},
        hostile={"fewer leaves than splits": (lambda: catboost_json(oblivious_trees=[{"leaf_values": [1], "splits": [{}]}]), "SL851")},
    ),
    FormatRow(
        format="pmml",
        title="PMML",
        written_by="JPMML, CatBoost, SPSS, KNIME and others",
        reads="the document to its end, without document types, entities or anything outside",
        order=67,
        benign={"a regression": pmml, "an extension": lambda: pmml('<Extension name="x" value="1"/>')},
        hostile={
            "an external entity": (lambda: pmml("&x;", before='<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), "SL853"),
            "entities that grow": (lambda: pmml("&x;", before='<!DOCTYPE PMML [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>'), "SL853"),
            "a function by the name of a Java class": (lambda: pmml('<Apply function="java.lang.Runtime"/>'), "SL854"),
            "code in an extension": (lambda: pmml("<Extension>Runtime.getRuntime()</Extension>"), "SL852"),
        },
    ),
]
