"""Make the lists of known operators anew, from the packages that define them; for maintainers, when those have new versions.

Run: python tests/operator_lists.py onnx

    onnx        pip install onnx onnxruntime
    tensorflow  pip install tensorflow-cpu
    torch       pip install torch==2.13.0

Each list is a fact about a package, and is kept in the package of safeload so that a scan needs none of them.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

FORMATS: Final = Path(__file__).parents[1] / "safeload" / "formats"


def write(name: str, made_of: str, operators: Mapping[str, set[str]]) -> None:
    """Write one list, wrapped so that a change of it can be read."""
    blocks = []
    for key, names in sorted(operators.items()):
        text = ", ".join(json.dumps(one) for one in sorted(names))
        body = textwrap.wrap(text, 150, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False, break_long_words=False)
        blocks.append(f"    {json.dumps(key)}: [\n" + "\n".join(body) + "\n    ]")
    head = f'{{\n  "made of": {json.dumps(f"{made_of}, see tests/operator_lists.py")},\n  "operators": {{\n'
    (FORMATS / f"{name}_operators.json").write_text(head + ",\n".join(blocks) + "\n  }\n}\n", "utf-8")


def of_onnx() -> None:
    """By domain: ONNX's own in all versions, and ONNX Runtime's as its build for CPUs has them."""
    defs = import_module("onnx.defs")
    runtime = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found: dict[str, set[str]] = {}
    schemas: list[Any] = [*defs.get_all_schemas_with_history(), *runtime.get_all_operator_schema()]
    for schema in schemas:
        found.setdefault(schema.domain, set()).add(schema.name)
    write("onnx", f"onnx {version('onnx')} and onnxruntime {version('onnxruntime')} (CPU)", found)


def of_tensorflow() -> None:
    """All that the library registers, internal ones included."""
    session = import_module("tensorflow.python.client.pywrap_tf_session")
    found = import_module("tensorflow.core.framework.op_def_pb2").OpList()
    found.ParseFromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    write("tensorflow", f"tensorflow-cpu {version('tensorflow-cpu')}", {"": {one.name for one in found.op}})


LISTS: Final[Mapping[str, Callable[[], None]]] = {"onnx": of_onnx, "tensorflow": of_tensorflow}


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        LISTS[wanted]()
