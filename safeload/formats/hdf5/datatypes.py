"""Datatypes, dataspaces: what the elements of a dataset or an attribute are, and how many."""

from __future__ import annotations

from math import prod
from typing import Final

from safeload.formats.hdf5.space import Cursor, NotAnalysedError, bad
from safeload.lean_dataclass import dataclass

__all__ = ["Dataspace", "Datatype", "read_dataspace", "read_datatype"]

_DEPTH: Final = 16
_MEMBERS: Final = 10_000
_RANK: Final = 32
_MOST: Final = 1 << 62

FIXED, FLOAT, TIME, STRING, BITS, OPAQUE, COMPOUND, REFERENCE, ENUM, VARIABLE, ARRAY, COMPLEX = range(12)

# (bits, exponent's bits, mantissa's bits) of the floats that torch or numpy have a name for.
_FLOATS: Final = {
    (16, 5, 10): "float16", (32, 8, 23): "float32", (64, 11, 52): "float64", (16, 8, 7): "bfloat16", (128, 15, 112): "float128",
    (8, 4, 3): "float8_e4m3", (8, 5, 2): "float8_e5m2", (80, 15, 64): "float80", (96, 15, 64): "float96", (128, 15, 64): "float128",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Datatype:
    """What one element is.

    Attributes:
        kind: The class's number.
        size: Bytes of one element where it stands.
        name: For people: "float32", "string", "opaque[8]".
        base: What a variable-length element, an array or an enumeration consists of.
        members: Of a compound: name, offset in bytes, type.
        text: Of a variable-length element: whether it is a string.
    """

    kind: int
    size: int
    name: str
    base: Datatype | None = None
    members: tuple[tuple[str, int, Datatype], ...] = ()
    text: bool = False


@dataclass(frozen=True, slots=True)
class Dataspace:
    """How many elements there are.

    Attributes:
        shape: Elements per dimension; None for a null dataspace, which has none.
    """

    shape: tuple[int, ...] | None

    @property
    def count(self) -> int:
        """Elements."""
        return 0 if self.shape is None else prod(self.shape)


def read_dataspace(cursor: Cursor) -> Dataspace:
    """Read a dataspace message.

    Raises:
        MalformedError: it is cut short, or stands for more elements than can be counted.
        NotAnalysedError: a version that is not read.
    """
    version, rank, flags = cursor.version(1, 2), cursor.number(1), cursor.number(1)
    kind = cursor.number(1)
    if version == 1:
        cursor.skip(4)
        kind = 1 if rank else 0
    if rank > _RANK or kind > 2:
        raise bad(f"a dataspace of {rank} dimensions and kind {kind}", cursor.start)
    shape = tuple(cursor.length() for _ in range(rank))
    if flags & 1:
        cursor.skip(rank * cursor.space.length_size)
    if prod(shape) >= _MOST:
        raise bad(f"a dataspace of {prod(shape)} elements", cursor.start)
    return Dataspace(None if kind == 2 else shape)


def read_datatype(cursor: Cursor, depth: int = 0) -> Datatype:
    """Read a datatype; the cursor is left behind it.

    Raises:
        MalformedError: it is cut short, too deep, or contradicts itself.
        NotAnalysedError: a version or class that is not read.
    """
    if depth > _DEPTH:
        raise bad(f"a datatype nested deeper than {_DEPTH}", cursor.start + cursor.at)
    first = cursor.number(1)
    kind, version = first & 15, first >> 4
    bits, size = cursor.number(3), cursor.number(4)
    if kind > COMPLEX or version > 5:
        raise NotAnalysedError(f"a datatype of class {kind}, version {version}", where=f"@{cursor.start}").under("SL815")
    if kind == COMPOUND:
        return _compound(cursor, version, bits & 0xFFFF, size, depth)
    if kind == VARIABLE:
        base = read_datatype(cursor, depth + 1)
        text = bits & 15 == 1
        return Datatype(kind, size, "string" if text else f"variable[{base.name}]", base, text=text)
    if kind == ARRAY:
        return _array(cursor, version, size, depth)
    if kind == ENUM:
        return _enumeration(cursor, version, bits & 0xFFFF, size, depth)
    if kind == COMPLEX:
        base = read_datatype(cursor, depth + 1)
        return Datatype(kind, size, f"complex{size * 8}", base)
    return _scalar(cursor, kind, version, bits, size)


def _scalar(cursor: Cursor, kind: int, version: int, bits: int, size: int) -> Datatype:
    if kind == FIXED:
        cursor.skip(4)
        return Datatype(kind, size, f"{'int' if bits & 8 else 'uint'}{size * 8}")
    if kind == FLOAT:
        cursor.skip(5)
        exponent = cursor.number(1)
        cursor.skip(1)
        mantissa = cursor.number(1)
        cursor.skip(4)
        return Datatype(kind, size, _FLOATS.get((size * 8, exponent, mantissa), f"float{size * 8}"))
    if kind == OPAQUE:
        cursor.skip(bits & 0xFF)
        return Datatype(kind, size, f"opaque[{size}]")
    cursor.skip({TIME: 2, BITS: 4}.get(kind, 0))
    reference = ("reference", "region reference")[bits & 15] if bits & 15 < 2 else "new reference"
    name = {TIME: f"time{size * 8}", STRING: f"string[{size}]", BITS: f"bits{size * 8}"}.get(kind, reference)
    return Datatype(kind, size, name)


def _compound(cursor: Cursor, version: int, count: int, size: int, depth: int) -> Datatype:
    if count > _MEMBERS:
        raise bad(f"a compound of {count} members", cursor.start)
    members = []
    for _ in range(count):
        name = _name(cursor, version)
        width = 4 if version < 3 else max(1, (size.bit_length() + 7) // 8)
        offset = cursor.number(width)
        shape: tuple[int, ...] = ()
        if version == 1:
            rank = cursor.number(1)
            cursor.skip(11)
            shape = tuple(cursor.number(4) for _ in range(4))[: min(rank, 4)]
        inner = read_datatype(cursor, depth + 1)
        if shape:
            inner = Datatype(ARRAY, inner.size * prod(shape), f"{inner.name}{list(shape)}", inner)
        if offset + inner.size > size:
            raise bad(f"a member of a compound ends at byte {offset + inner.size} of {size}", cursor.start)
        members.append((name, offset, inner))
    names = [name for name, _, _ in members]
    if names == ["r", "i"] and members[0][2].kind == FLOAT:
        return Datatype(COMPOUND, size, f"complex{size * 8}", members=tuple(members))
    return Datatype(COMPOUND, size, f"compound[{size}]", members=tuple(members))


def _name(cursor: Cursor, version: int) -> str:
    start = cursor.at
    raw = cursor.text()
    if version < 3:
        cursor.skip(-(cursor.at - start) % 8)
    return raw.decode("utf-8", "backslashreplace")


def _array(cursor: Cursor, version: int, size: int, depth: int) -> Datatype:
    rank = cursor.number(1)
    if rank > _RANK:
        raise bad(f"an array of {rank} dimensions as an element", cursor.start)
    if version < 3:
        cursor.skip(3)
    shape = [cursor.number(4) for _ in range(rank)]
    if version < 3:
        cursor.skip(4 * rank)
    base = read_datatype(cursor, depth + 1)
    if base.size * prod(shape) != size:
        raise bad(f"an array of {prod(shape)} elements of {base.size} bytes as an element of {size}", cursor.start)
    return Datatype(ARRAY, size, f"{base.name}{shape}", base)


def _enumeration(cursor: Cursor, version: int, count: int, size: int, depth: int) -> Datatype:
    base = read_datatype(cursor, depth + 1)
    names = [_name(cursor, version) for _ in range(count)]
    cursor.skip(count * base.size)
    truth = [name.upper() for name in names] == ["FALSE", "TRUE"]
    return Datatype(ENUM, size, "bool" if truth and size == 1 else base.name, base)
