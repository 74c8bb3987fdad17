"""Tables of a flatbuffer, read in place with every offset checked: what the generated accessors of any language trust.

A table points to a list of where its fields lie, fields point to tables, vectors and texts further on. All of it are numbers from the
file, and nothing in the format keeps two pointers from meeting: so how often tables are visited is bounded, too.
Source: the FlatBuffers internals document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.source import Source

__all__ = ["Flatbuffer", "Table", "Vector"]

_PAGE: Final = 1 << 16
_VISITS: Final = 1_000_000  # tables of one file; and no more than its bytes can hold, had each only one pointer to it
_TEXT: Final = 1 << 16


class Flatbuffer:
    """The bytes of one flatbuffer, by pages.

    Args:
        source: The file.
        rule: What an offset breaks that leads nowhere.
    """

    def __init__(self, source: Source, rule: str) -> None:
        self.source, self.rule, self.size = source, rule, source.size
        self._pages: dict[int, memoryview] = {}
        self._left = self._most = min(_VISITS, 64 + self.size // 8)

    def bad(self, message: str, offset: int) -> MalformedError:
        """An error at a byte of the file."""
        return MalformedError(message, where=f"@{max(0, offset)}").under(self.rule)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return some bytes.

        Raises:
            MalformedError: they do not lie in the file.
        """
        if offset < 0 or nbytes < 0 or offset + nbytes > self.size:
            raise self.bad(f"{nbytes} bytes at {offset}, and the file has {self.size}", offset)
        number, at = divmod(offset, _PAGE)
        if at + nbytes <= _PAGE:
            return bytes(self._page(number)[at : at + nbytes])
        out = bytearray()
        while len(out) < nbytes:
            number, at = divmod(offset + len(out), _PAGE)
            out += self._page(number)[at : at + nbytes - len(out)]
        return bytes(out)

    def _page(self, number: int) -> memoryview:
        page = self._pages.get(number)
        if page is None:
            start = number * _PAGE
            page = self._pages[number] = self.source.view(start, min(_PAGE, self.size - start))
        return page

    def number(self, offset: int, nbytes: int, *, signed: bool = False) -> int:
        """Return an integer."""
        return int.from_bytes(self.read(offset, nbytes), "little", signed=signed)

    def follow(self, offset: int) -> int:
        """Return where a pointer leads: always further on, and into the file."""
        target = offset + self.number(offset, 4)
        if target == offset or target + 4 > self.size:
            raise self.bad(f"a pointer from {offset} to {target}, in a file of {self.size} bytes", offset)
        return target

    def table(self, offset: int) -> Table:
        """Return the table at an offset.

        Raises:
            MalformedError: it, or its list of fields, does not lie in the file.
            LimitError: more tables were visited than any model has.
        """
        self._left -= 1
        if self._left < 0:
            raise LimitError(f"more than {self._most} tables are visited", where=f"@{offset}").under(self.rule)
        fields = offset - self.number(offset, 4, signed=True)
        length, size = self.number(fields, 2), self.number(fields + 2, 2)
        if length < 4 or length % 2 or size < 4 or fields + length > self.size or offset + size > self.size:
            raise self.bad(f"a table at {offset} whose fields are listed at {fields}, in a file of {self.size} bytes", offset)
        return Table(self, offset, size, self.read(fields, length))

    def root(self) -> Table:
        """Return the outermost table."""
        return self.table(self.follow(0))


class Table:
    """One table. Fields are counted from 0."""

    __slots__ = ("_buffer", "_fields", "_size", "offset")

    def __init__(self, buffer: Flatbuffer, offset: int, size: int, fields: bytes) -> None:
        self._buffer, self.offset, self._size, self._fields = buffer, offset, size, fields

    def _at(self, field: int, nbytes: int) -> int | None:
        place = 4 + 2 * field
        if place + 2 > len(self._fields):
            return None
        at = self._fields[place] | self._fields[place + 1] << 8
        if not at:
            return None
        if at < 4 or at + nbytes > self._size:
            raise self._buffer.bad(f"field {field} of a table lies outside of it", self.offset)
        return self.offset + at

    def integer(self, field: int, nbytes: int, default: int = 0, *, signed: bool = True) -> int:
        """Return a number, or its default where the file leaves it out."""
        at = self._at(field, nbytes)
        return default if at is None else self._buffer.number(at, nbytes, signed=signed)

    def table(self, field: int) -> Table | None:
        """Return the table that a field points to."""
        at = self._at(field, 4)
        return None if at is None else self._buffer.table(self._buffer.follow(at))

    def vector(self, field: int, nbytes: int) -> Vector | None:
        """Return the vector that a field points to, of elements of so many bytes.

        Raises:
            MalformedError: it ends behind the file.
        """
        at = self._at(field, 4)
        if at is None:
            return None
        start = self._buffer.follow(at)
        count = self._buffer.number(start, 4)
        if start + 4 + count * nbytes > self._buffer.size:
            raise self._buffer.bad(f"a vector of {count} elements at {start}, in a file of {self._buffer.size} bytes", start)
        return Vector(self._buffer, start + 4, count, nbytes)

    def text(self, field: int) -> str | None:
        """Return the text that a field points to; bytes that are not UTF-8 as escapes."""
        found = self.vector(field, 1)
        if found is None:
            return None
        return self._buffer.read(found.start, min(found.count, _TEXT)).decode("utf-8", "backslashreplace")


class Vector:
    """Elements behind one another: `start` is the first byte, `count` how many."""

    __slots__ = ("_buffer", "_nbytes", "count", "start")

    def __init__(self, buffer: Flatbuffer, start: int, count: int, nbytes: int) -> None:
        self._buffer, self.start, self.count, self._nbytes = buffer, start, count, nbytes

    def integers(self, most: int, *, signed: bool = True) -> list[int]:
        """Return all numbers.

        Raises:
            MalformedError: there are more than `most`.
        """
        if self.count > most:
            raise self._buffer.bad(f"a vector of {self.count} numbers; {most} are read", self.start)
        raw, width = self._buffer.read(self.start, self.count * self._nbytes), self._nbytes
        return [int.from_bytes(raw[at : at + width], "little", signed=signed) for at in range(0, len(raw), width)]

    def tables(self) -> Iterator[Table]:
        """Yield the tables that the elements point to."""
        for index in range(self.count):
            yield self._buffer.table(self._buffer.follow(self.start + 4 * index))

    def table(self, index: int) -> Table:
        """Return one of them."""
        return self._buffer.table(self._buffer.follow(self.start + 4 * index))
