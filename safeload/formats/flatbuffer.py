"""Enough of FlatBuffers to read named fields: tables, texts and lists of numbers, every offset checked before it is followed.

Source: the FlatBuffers internals page, "binary format": little-endian, offsets relative to where they stand.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from safeload.errors import MalformedError

__all__ = ["Table", "root_table"]

_WIDTHS: Final = {"i": 4, "f": 4, "d": 8, "q": 8, "B": 1}


def _word(data: memoryview, at: int, nbytes: int, *, signed: bool = False) -> int:
    if not 0 <= at <= len(data) - nbytes:
        raise MalformedError(f"an offset that leads to byte {at} of {len(data)}", where=f"@{max(at, 0)}").under("SL851")
    return int.from_bytes(data[at : at + nbytes], "little", signed=signed)


def root_table(data: memoryview) -> Table:
    """The table that a buffer begins with.

    Raises:
        MalformedError: an offset leaves the buffer.
    """
    return Table(data, _word(data, 0, 4))


@dataclass(frozen=True, slots=True)
class Table:
    """A table at an offset of a buffer. Fields are numbered as in the schema; a missing one is None, "" or empty."""

    data: memoryview
    at: int

    def _field(self, number: int) -> int | None:
        """Where a field stands; None when it is left out."""
        vtable = self.at - _word(self.data, self.at, 4, signed=True)
        size = _word(self.data, vtable, 2)
        if 4 + 2 * number + 2 > size:
            return None
        offset = _word(self.data, vtable + 4 + 2 * number, 2)
        return self.at + offset if offset else None

    def _target(self, number: int) -> int | None:
        """What a field of a text, list or table points to."""
        place = self._field(number)
        return None if place is None else place + _word(self.data, place, 4)

    def _bytes(self, at: int, width: int) -> memoryview:
        count = _word(self.data, at, 4)
        if count * width > len(self.data) - at - 4:
            message = f"a list of {count} values of {width} bytes, and {len(self.data) - at - 4} bytes are left"
            raise MalformedError(message, where=f"@{at}").under("SL851")
        return self.data[at + 4 : at + 4 + count * width]

    def text(self, number: int) -> str | None:
        """A text; undecodable bytes are replaced."""
        at = self._target(number)
        return None if at is None else bytes(self._bytes(at, 1)).decode("utf-8", "replace")

    def table(self, number: int) -> Table | None:
        """A table within."""
        at = self._target(number)
        return None if at is None else Table(self.data, at)

    def numbers(self, number: int, kind: str) -> array[Any]:
        """A list of numbers: "i" and "f" of four bytes, "d" and "q" of eight, "B" of one."""
        at = self._target(number)
        made = array(kind)
        if at is not None:
            made.frombytes(self._bytes(at, _WIDTHS[kind]))
            if sys.byteorder == "big":
                made.byteswap()
        return made

    def _each(self, number: int, most: int) -> Iterator[int]:
        at = self._target(number)
        if at is None:
            return
        count = len(self._bytes(at, 4)) // 4
        if count > most:
            raise MalformedError(f"a list of {count} entries; at most {most} are read", where=f"@{at}").under("SL851")
        for place in range(at + 4, at + 4 + 4 * count, 4):
            yield place + _word(self.data, place, 4)

    def tables(self, number: int, most: int) -> Iterator[Table]:
        """A list of tables, of which there may be `most`."""
        return (Table(self.data, at) for at in self._each(number, most))

    def texts(self, number: int, most: int) -> Iterator[str]:
        """A list of texts, of which there may be `most`."""
        return (bytes(self._bytes(at, 1)).decode("utf-8", "replace") for at in self._each(number, most))
