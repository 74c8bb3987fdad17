"""Forges ONNX models, message by message."""

from __future__ import annotations

from collections.abc import Sequence

from tests.forge_protobuf import msg, number

__all__ = ["attribute", "external", "function", "graph", "model", "nested", "node", "tensor", "training"]

FLOAT = 1


def tensor(name: str = "w", dims: Sequence[int] = (2,), kind: int = FLOAT, raw: bytes | None = bytes(8), *more: bytes) -> bytes:
    """A TensorProto."""
    out = b"".join(number(1, size) for size in dims) + number(2, kind) + msg(8, name)
    return out + (msg(9, raw) if raw is not None else b"") + b"".join(more)


def external(location: str | bytes | None, *pairs: tuple[str, str], dims: Sequence[int] = (2,), flag: bool = True) -> bytes:
    """A TensorProto whose data lies in another file."""
    entries = [] if location is None else [msg(13, msg(1, "location"), msg(2, location))]
    entries += [msg(13, msg(1, key), msg(2, value)) for key, value in pairs]
    return tensor("w", dims, FLOAT, None, *entries, number(14, 1) if flag else b"")


def attribute(name: str, *parts: bytes, kind: int = 0) -> bytes:
    """An AttributeProto: `parts` are its value's fields (4 text, 5 tensor, 6 graph, 11 graphs …)."""
    return msg(1, name) + b"".join(parts) + (number(20, kind) if kind else b"")


def node(name: str = "Add", domain: str = "", *attributes: bytes, overload: str = "") -> bytes:
    """A NodeProto."""
    out = msg(1, "x") + msg(2, "y") + msg(4, name) + b"".join(msg(5, one) for one in attributes)
    return out + (msg(7, domain) if domain else b"") + (msg(8, overload) if overload else b"")


def graph(*nodes: bytes, tensors: Sequence[bytes] = (), more: bytes = b"") -> bytes:
    """A GraphProto."""
    return b"".join(msg(1, one) for one in nodes) + msg(2, "g") + b"".join(msg(5, one) for one in tensors) + more


def function(name: str, domain: str, *nodes: bytes, more: bytes = b"") -> bytes:
    """A FunctionProto."""
    return msg(1, name) + b"".join(msg(7, one) for one in nodes) + msg(10, domain) + more


def training(*graphs: bytes) -> bytes:
    """A TrainingInfoProto."""
    return b"".join(msg(index, one) for index, one in enumerate(graphs, 1))


def model(
    *nodes: bytes, tensors: Sequence[bytes] = (), functions: Sequence[bytes] = (), more: bytes = b"", whole: bytes | None = None
) -> bytes:
    """A ModelProto; `whole` in place of the graph."""
    held = graph(*nodes, tensors=tensors) if whole is None else whole
    out = number(1, 8) + msg(2, "forge") + msg(7, held) + msg(8, number(2, 17))
    return out + b"".join(msg(25, one) for one in functions) + more


def nested(depth: int) -> bytes:
    """A model whose graphs lie in one another."""
    held = graph(node())
    for _ in range(depth):
        held = graph(node("If", "", attribute("then_branch", msg(6, held), kind=5)))
    return model(whole=held)
