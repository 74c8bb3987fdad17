"""UBJSON, draft 12, as XGBoost writes it: JSON's values with a byte for the type and big-endian lengths in front.

Strict: every length is compared with what is left before anything is taken, so what comes out is never much larger than what
went in. Arrays of one number type come out as `array.array`, in the machine's byte order.
Source: ubjson.org, and xgboost/src/common/json.cc.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Any, Final

from safeload.errors import MalformedError

__all__ = ["parse_ubjson"]

_DEPTH: Final = 100
_CONTAINERS: Final = 2_000_000  # an empty one takes thirty times as much memory as it has bytes
_NUMBERS: Final = {"i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q", "d": ">f", "D": ">d"}
_STRUCTS: Final = {ord(marker): struct.Struct(form) for marker, form in _NUMBERS.items()}
_LENGTHS: Final = frozenset(b"iUIlL")
# marker → array's type code: of the same size on every machine that Python runs on, checked when the array is made
_TYPED: Final = {105: "b", 85: "B", 73: "h", 108: "i", 76: "q", 100: "f", 68: "d"}
_PLAIN: Final = {ord("Z"): None, ord("T"): True, ord("F"): False}
_OPEN: Final = {ord("["): ord("]"), ord("{"): ord("}")}
_END: Final = object()


def parse_ubjson(data: memoryview) -> tuple[Any, tuple[str, ...], int]:
    """Parse one value.

    Args:
        data: From the value's first byte on.

    Returns:
        The value, the keys that stand twice in one object, and where it ends.

    Raises:
        MalformedError: with the offset, when it breaks.
    """
    reader = _Reader(data)
    value = reader.value(reader.byte(), 0)
    return value, tuple(reader.repeated), reader.at


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at, self.containers = data, 0, 0
        self.repeated: list[str] = []

    def bad(self, message: str) -> MalformedError:
        return MalformedError(message, where=f"@{self.at}")

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise self.bad("the document ends within a value")
        self.at += 1
        return self.data[self.at - 1]

    def take(self, nbytes: int) -> memoryview:
        if nbytes > len(self.data) - self.at:
            raise self.bad(f"{nbytes} bytes are announced, and {len(self.data) - self.at} are left")
        self.at += nbytes
        return self.data[self.at - nbytes : self.at]

    def marker(self) -> int:
        """The next marker, behind no-ops."""
        marker = self.byte()
        while marker == 0x4E:
            marker = self.byte()
        return marker

    def length(self) -> int:
        marker = self.byte()
        if marker not in _LENGTHS:
            raise self.bad(f"a length of the type 0x{marker:02x}")
        form = _STRUCTS[marker]
        number = int(form.unpack(self.take(form.size))[0])
        if number < 0:
            raise self.bad(f"a length of {number}")
        return number

    def text(self) -> str:
        raw = self.take(self.length())
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            raise self.bad("a text is not UTF-8") from None

    def value(self, marker: int, depth: int) -> Any:
        """The value behind a marker that was read."""
        while marker == 0x4E:
            marker = self.byte()
        if marker in _STRUCTS:
            form = _STRUCTS[marker]
            return form.unpack(self.take(form.size))[0]
        if marker in _PLAIN:
            return _PLAIN[marker]
        if marker == 0x53:  # S
            return self.text()
        if marker == 0x43:  # C
            return chr(self.byte())
        if marker == 0x48:  # H: a number as text
            return self.text()
        if marker not in _OPEN:
            raise self.bad(f"a value of the unknown type 0x{marker:02x}")
        if depth >= _DEPTH:
            raise self.bad(f"nested deeper than {_DEPTH} levels")
        self.containers += 1
        if self.containers > _CONTAINERS:
            raise self.bad(f"more than {_CONTAINERS} arrays and objects")
        return self.items(depth) if marker == 0x5B else self.pairs(depth)

    def head(self) -> tuple[int | None, int | None, int | None]:
        """How a container goes on: (type of all values, their number, the first byte when neither is given)."""
        first = self.byte()
        kind = None
        if first == 0x24:  # $
            kind = self.byte()
            first = self.byte()
            if first != 0x23:
                raise self.bad("a typed container without a count")
        if first != 0x23:  # #
            return None, None, first
        count = self.length()
        width = _STRUCTS[kind].size if kind in _STRUCTS else 1
        if kind in _PLAIN or count * width > len(self.data) - self.at:  # values of no bytes could be any number of them
            raise self.bad(f"a container of {count} values, and {len(self.data) - self.at} bytes are left")
        return kind, count, None

    def items(self, depth: int) -> Any:
        kind, count, first = self.head()
        if kind in _TYPED and count is not None:
            return self.numbers(kind, count)
        found: list[Any] = []
        if count is not None:
            found.extend(self.value(self.byte() if kind is None else kind, depth + 1) for _ in range(count))
            return found
        marker = first
        while marker != 0x5D:
            found.append(self.value(self.marker() if marker is None else marker, depth + 1))
            marker = self.marker()
        return found

    def numbers(self, kind: int, count: int) -> array[Any]:
        made = array(_TYPED[kind])
        if made.itemsize != _STRUCTS[kind].size:
            raise self.bad("this machine has no numbers of that size")
        made.frombytes(self.take(count * made.itemsize))
        if sys.byteorder == "little":
            made.byteswap()
        return made

    def pairs(self, depth: int) -> dict[str, Any]:
        kind, count, first = self.head()
        found: dict[str, Any] = {}
        while (count is None and first != 0x7D) or (count is not None and count > 0):
            if first is not None:
                self.at -= 1  # it is the first byte of the key's length
            key = self.text()
            if key in found and len(self.repeated) < 8:
                self.repeated.append(key)
            found[key] = self.value(self.byte() if kind is None else kind, depth + 1)
            if count is not None:
                count -= 1
            else:
                first = self.marker()
        return found
