"""Forges flatbuffers, and TensorFlow Lite models as such: any table, with pointers and counts as they are told."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "Numbers",
    "Table",
    "Tables",
    "flatbuffer",
    "flex_options",
    "int8",
    "int32",
    "kind",
    "model",
    "numbers",
    "operator",
    "tensor",
    "uint8",
    "uint32",
    "uint64",
]


def int8(value: int) -> bytes:
    return struct.pack("<b", value)


def uint8(value: int) -> bytes:
    return struct.pack("<B", value)


def int32(value: int) -> bytes:
    return struct.pack("<i", value)


def uint32(value: int) -> bytes:
    return struct.pack("<I", value)


def uint64(value: int) -> bytes:
    return struct.pack("<Q", value)


@dataclass(eq=False)
class Table:
    """Fields by number: bytes stand in the table itself, anything else is pointed to."""

    fields: Mapping[int, object] = field(default_factory=dict)


@dataclass(eq=False)
class Tables:
    """A vector of tables; `count` in place of the true one."""

    items: Sequence[Table]
    count: int | None = None


@dataclass(eq=False)
class Numbers:
    """A vector of numbers, as bytes; `count` counts elements."""

    data: bytes
    count: int


def flatbuffer(root: Table, identifier: bytes = b"TFL3") -> bytes:
    """Lay tables out so that every pointer leads on; a table that stands twice is written once."""
    out = bytearray(8)
    out[4:8] = identifier
    places: dict[int, int] = {}
    todo: list[tuple[object, int]] = [(root, 0)]
    while todo:
        value, pointer = todo.pop(0)
        if id(value) in places and places[id(value)] > pointer:
            out[pointer : pointer + 4] = uint32(places[id(value)] - pointer)
            continue
        out += bytes(-len(out) % 8)
        if isinstance(value, Table):
            start = _table(out, value, todo)
        else:
            start = len(out)
            _vector(out, value, todo)
        places[id(value)] = start
        out[pointer : pointer + 4] = uint32(start - pointer)
    return bytes(out)


def _table(out: bytearray, table: Table, todo: list[tuple[object, int]]) -> int:
    last = max(table.fields, default=-1)
    listed = len(out)
    out += bytes(4 + 2 * (last + 1))
    out += bytes(-len(out) % 8)
    start = len(out)
    out += bytes(4)
    for number in range(last + 1):
        if number not in table.fields:
            continue
        value = table.fields[number]
        inline = value if isinstance(value, bytes) else bytes(4)
        out += bytes(-(len(out) - start) % len(inline))
        out[listed + 4 + 2 * number : listed + 6 + 2 * number] = struct.pack("<H", len(out) - start)
        if not isinstance(value, bytes):
            todo.append((value, len(out)))
        out += inline
    struct.pack_into("<HH", out, listed, 4 + 2 * (last + 1), len(out) - start)
    struct.pack_into("<i", out, start, start - listed)
    return start


def _vector(out: bytearray, value: object, todo: list[tuple[object, int]]) -> None:
    if isinstance(value, str):
        out += uint32(len(value.encode())) + value.encode() + b"\0"
    elif isinstance(value, Numbers):
        out += uint32(value.count) + value.data
    elif isinstance(value, Tables):
        out += uint32(len(value.items) if value.count is None else value.count)
        for item in value.items:
            todo.append((item, len(out)))
            out += bytes(4)


# ---- models


def numbers(*values: int) -> Numbers:
    return Numbers(b"".join(map(int32, values)), len(values))


def tensor(name: str = "t", shape: Sequence[int] = (2,), dtype: int = 0, buffer: int = 1) -> Table:
    return Table({0: numbers(*shape), 1: int8(dtype), 2: uint32(buffer), 3: name})


def kind(code: int, custom: str | None = None) -> Table:
    """An OperatorCode."""
    return Table({0: int8(min(code, 127)), 3: int32(code)} | ({1: custom} if custom is not None else {}))


def operator(
    number: int = 0, inputs: Sequence[int] = (0,), outputs: Sequence[int] = (0,), more: Mapping[int, object] | None = None
) -> Table:
    return Table({0: uint32(number), 1: numbers(*inputs), 2: numbers(*outputs)} | dict(more or {}))


def model(
    *operators: Table,
    kinds: Sequence[Table] | None = None,
    tensors: Sequence[Table] | None = None,
    buffers: Sequence[bytes] = (b"", bytes(8)),
    graphs: Sequence[Sequence[Table]] = (),
    more: Mapping[int, object] | None = None,
    version: int = 3,
) -> bytes:
    """A model: one subgraph of `operators`, and `graphs` of further ones."""

    def subgraph(held: Sequence[Table]) -> Table:
        return Table({0: Tables(tensors if tensors is not None else [tensor()]), 1: numbers(0), 2: numbers(0), 3: Tables(held), 4: "main"})

    fields: dict[int, object] = {
        0: uint32(version),
        1: Tables(kinds if kinds is not None else [kind(0)]),
        2: Tables([subgraph(one) for one in (operators, *graphs)]),
        3: "forged",
        4: Tables([Table({0: Numbers(data, len(data))} if data else {}) for data in buffers]),
    }
    return flatbuffer(Table(fields | dict(more or {})))


def flex_options(name: str, node: bytes) -> Numbers:
    """What the converter writes for an operator of TensorFlow: a vector of two texts."""
    width = 4
    first = len(name).to_bytes(width, "little") + name.encode() + b"\0"
    second = len(node).to_bytes(width, "little") + node + b"\0"
    out = first + second
    start = len(out) + width
    out += (2).to_bytes(width, "little")
    out += (start - width).to_bytes(width, "little") + (start + width - len(first) - width).to_bytes(width, "little")
    out += bytes([5 << 2 | 2, 5 << 2 | 2])
    out += (len(out) - start).to_bytes(width, "little") + bytes([10 << 2 | 2, width])
    return Numbers(out, len(out))
