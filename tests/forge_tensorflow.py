"""Forges TensorFlow's protobuf files: graphs, functions, SavedModels, the index of a checkpoint."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from tests.forge_protobuf import fixed, msg, number, varint

__all__ = [
    "asset", "attr", "called", "checkpoint", "const", "entry", "fingerprint", "function", "graph", "keras_object", "meta", "node",
    "saved", "shape", "text", "variable",
]  # fmt: skip


def attr(key: str, *value: bytes) -> bytes:
    """One attribute: `value` is the AttrValue's fields."""
    return msg(5, msg(1, key), msg(2, *value))


def text(key: str, value: str) -> bytes:
    return attr(key, msg(2, value))


def called(key: str, name: str) -> bytes:
    """An attribute that names a function."""
    return attr(key, msg(10, msg(1, name)))


def node(op: str, *inputs: str, name: str | None = None, attrs: Sequence[bytes] = ()) -> bytes:
    """A NodeDef."""
    return msg(1, name or op.lower()) + msg(2, op) + b"".join(msg(3, one) for one in inputs) + b"".join(attrs)


def const(name: str, *texts: str) -> bytes:
    """A constant of texts."""
    held = number(1, 7) + msg(2, b"") + b"".join(msg(8, one) for one in texts)
    return node("Const", name=name, attrs=[attr("dtype", number(6, 7)), attr("value", msg(8, held))])


def shape(*sizes: int) -> bytes:
    return b"".join(msg(2, number(1, size)) for size in sizes)


def function(name: str, *nodes: bytes, arguments: Sequence[str] = ()) -> bytes:
    """A FunctionDef."""
    signature = msg(1, name) + b"".join(msg(2, msg(1, one)) for one in arguments)
    return msg(1, signature) + b"".join(msg(3, one) for one in nodes)


def graph(*nodes: bytes, functions: Sequence[bytes] = (), more: bytes = b"") -> bytes:
    """A GraphDef."""
    library = msg(2, *(msg(1, one) for one in functions)) if functions else b""
    return b"".join(msg(1, one) for one in nodes) + library + msg(4, number(1, 2000)) + more


def asset(tensor: str, filename: str) -> bytes:
    """An AssetFileDef, as a field of a MetaGraph."""
    return msg(6, msg(1, msg(1, f"{tensor}:0")), msg(2, filename))


def keras_object(metadata: str, identifier: str = "_tf_keras_layer") -> bytes:
    """A SavedObject of Keras."""
    return msg(1, msg(4, msg(1, identifier), msg(2, number(1, 1)), msg(3, metadata)))


def variable(name: str, kind: int, *sizes: int) -> bytes:
    """A SavedObject with a variable."""
    return msg(1, msg(7, number(1, kind), msg(2, shape(*sizes)), msg(6, name)))


def meta(held: bytes, *more: bytes, objects: Sequence[bytes] = ()) -> bytes:
    """A MetaGraphDef."""
    info = msg(1, msg(2, b""), msg(4, "serve"), msg(5, "2.21.0"))
    return info + msg(2, held) + b"".join(more) + (msg(7, *objects) if objects else b"")


def saved(held: bytes, *more: bytes, objects: Sequence[bytes] = ()) -> bytes:
    """A SavedModel of one MetaGraph."""
    return number(1, 1) + msg(2, meta(held, *more, objects=objects))


def fingerprint() -> bytes:
    return b"".join(number(field, (1 << 63) + field) for field in (1, 2, 3, 4, 5)) + msg(6, number(1, 2)) + msg(7, "0123456789")


# ---- checkpoints


def _entry(key: bytes, value: bytes) -> bytes:
    return varint(0) + varint(len(key)) + varint(len(value)) + key + value


def _block(*entries: bytes) -> bytes:
    return b"".join(entries) + struct.pack("<II", 0, 1)


def entry(offset: int, size: int, kind: int = 1, sizes: Sequence[int] = (2,), shard: int = 0) -> bytes:
    """A BundleEntryProto."""
    return number(1, kind) + msg(2, shape(*sizes)) + number(3, shard) + number(4, offset) + number(5, size) + fixed(6, 0.0)


def checkpoint(tensors: Mapping[str, bytes], *, shards: int = 1, index: bytes | None = None, data: bytes | None = None) -> bytes:
    """The index of a checkpoint; `index` and `data` in place of the blocks that belong there."""
    header = number(1, shards) + msg(3, number(1, 1))
    block = data or _block(_entry(b"", header), *(_entry(key.encode(), value) for key, value in sorted(tensors.items())))
    out = block + bytes(5)
    extra = len(out)
    out += _block() + bytes(5)
    at = len(out)
    held = index or _block(_entry(b"\xff", varint(0) + varint(len(block))))
    out += held + bytes(5)
    footer = varint(extra) + varint(8) + varint(at) + varint(len(held))
    return out + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
