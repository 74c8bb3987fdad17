"""ONNX."""

from __future__ import annotations

from typing import Final

from tests.forge_onnx import attribute, external, function, graph, model, nested, node, tensor
from tests.forge_protobuf import msg
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_BRANCH: Final = attribute("then_branch", msg(6, graph(node("Relu"))), kind=5)


def _branch(bad: bytes) -> bytes:
    return model(node("If", "", attribute("then_branch", msg(6, graph(tensors=[bad])))))


ROWS: Final = [
    FormatRow(
        format="onnx",
        title="ONNX",
        written_by="PyTorch's and other exporters, ONNX Runtime",
        reads="every graph, function and node; of tensors their shapes and places; no numbers",
        order=21,
        benign={
            "standard operators, a branch, a tensor": lambda: model(node("Add"), node("If", "", _BRANCH), tensors=[tensor()]),
            "operators of ONNX Runtime": lambda: model(node("FusedMatMul", "com.microsoft"), node("Scaler", "ai.onnx.ml")),
            "a function of its own": lambda: model(node("F", "local"), functions=[function("F", "local", node("Add"))]),
            "its data in a file beside it": lambda: {"m.onnx": model(tensors=[external("weights.npy")]), "weights.npy": _npy()},
        },
        hostile={
            "data in `../../etc/passwd` (CVE-2022-25882)": (lambda: model(tensors=[external("../../etc/passwd")]), "SL711"),
            "data in `a/../../x` (CVE-2024-27318, CVE-2025-51480, CVE-2026-27489)": (lambda: _branch(external("a/../../x")), "SL711"),
            "data in `/etc/passwd`": (lambda: model(tensors=[external("/etc/passwd")]), "SL711"),
            "data at an address in memory": (lambda: model(tensors=[external("*/_ORT_MEM_ADDR_/*", ("offset", "1"))]), "SL711"),
            "entries that set attributes of the loader (CVE-2026-34445)": (
                lambda: model(tensors=[external("a.bin", ("__class__", "x"))]),
                "SL711",
            ),
            "an operator out of a library": (lambda: model(node("Mine", "my.company")), "SL712"),
            "an operator that runs a Python function": (lambda: model(node("PythonOp", "com.microsoft")), "SL713"),
            "two graphs": (lambda: model(more=msg(7, graph(node("Neg")))), "SL714"),
            "graphs nested 40 deep": (lambda: nested(40), "SL714"),
            "a shape of 2⁶² elements over 8 bytes": (lambda: model(tensors=[tensor(dims=(1 << 61, 2))]), "SL715"),
            "a function that calls itself": (lambda: model(functions=[function("F", "d", node("F", "d"))]), "SL716"),
            "a function with an operator's name": (lambda: model(functions=[function("Add", "", node("Mul"))]), "SL716"),
            "an unknown field": (lambda: model(more=msg(99, "x")), "SL717"),
        },
    )
]


def _npy() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(8)
