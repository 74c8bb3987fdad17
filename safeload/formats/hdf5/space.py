"""The bytes of an HDF5 file by address, every one checked and paid for.

Structures of an HDF5 file do not share bytes, so all that is read of them together is no more than the file. A file whose
structures lie in one another could be read for ever; here it costs its own size a few times over, and then it is refused.
Source of all layouts: the HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.source import Source

__all__ = ["Cursor", "NotAnalysedError", "Space", "bad", "checksum"]

_PAGE: Final = 1 << 15
_WHOLE: Final = 1 << 20
_GRANTED: Final = (4 << 20, 3)  # bytes of structures: so many, and so many times the size of the file


class NotAnalysedError(MalformedError):
    """A structure that this reader does not read; the message names it."""


def bad(message: str, offset: int | None = None) -> MalformedError:
    """An error about the structure at an offset of the file."""
    return MalformedError(message, where="" if offset is None else f"@{offset}").under("SL811")


class Space:
    """Addresses of one file.

    Attributes:
        source: The file.
        base: What addresses count from, in bytes from the file's first.
        offset_size: Bytes of an address.
        length_size: Bytes of a length.
        undefined: The address that means none.
    """

    def __init__(self, source: Source, base: int, offset_size: int, length_size: int) -> None:
        self.source, self.base, self.offset_size, self.length_size = source, base, offset_size, length_size
        self.undefined = (1 << 8 * offset_size) - 1
        self._left = _GRANTED[0] + _GRANTED[1] * source.size
        # Going back in a compressed file means unpacking it anew, so all of it is taken at once.
        self._whole = source.view(0, source.size) if source.size <= _WHOLE or source.sequential else None

    def view(self, address: int, nbytes: int, what: str) -> memoryview:
        """Return bytes at an address.

        Raises:
            MalformedError: they do not lie in the file.
            LimitError: more was read than a file of this size has structures.
        """
        at = self.base + address
        if address == self.undefined or at + nbytes > self.source.size:
            raise bad(f"{what} lies at byte {at} to {at + nbytes}, and the file has {self.source.size}", min(at, self.source.size))
        self._left -= nbytes + 8
        if self._left < 0:
            raise LimitError("the structures of the file take more reading than it has bytes: they lie in one another").under("SL811")
        if self._whole is not None:
            return self._whole[at : at + nbytes]
        first, last = at // _PAGE * _PAGE, min(self.source.size, -(-(at + nbytes) // _PAGE) * _PAGE)
        return self.source.view(first, last - first, what)[at - first : at - first + nbytes]

    def cursor(self, address: int, nbytes: int, what: str) -> Cursor:
        """Return bytes at an address, to be read one field after the other."""
        return Cursor(self, self.view(address, nbytes, what), self.base + address, what)

    def within(self, address: int, most: int, what: str) -> Cursor:
        """Like `cursor`, for a structure of unknown length: `most` bytes, or what there is until the end of the file."""
        return self.cursor(address, max(1, min(most, self.source.size - self.base - address)), what)


class Cursor:
    """One field after the other of a structure.

    Attributes:
        data: The structure's bytes.
        at: The next byte of it.
        start: Where it lies in the file.
    """

    __slots__ = ("at", "data", "space", "start", "what")

    def __init__(self, space: Space, data: memoryview, start: int, what: str) -> None:
        self.space, self.data, self.start, self.what, self.at = space, data, start, what, 0

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self.data) - self.at

    def take(self, count: int) -> memoryview:
        """The next bytes.

        Raises:
            MalformedError: there are not so many.
        """
        start = self.at
        end = start + count
        if count < 0 or end > len(self.data):
            raise bad(f"{self.what} is cut short: {count} bytes are due, and {self.left} are left", self.start + start)
        self.at = end
        return self.data[start:end]

    def number(self, width: int) -> int:
        """The next unsigned little-endian number of `width` bytes."""
        return int.from_bytes(self.take(width), "little")

    def address(self) -> int:
        """The next address."""
        return self.number(self.space.offset_size)

    def length(self) -> int:
        """The next length."""
        return self.number(self.space.length_size)

    def skip(self, count: int) -> None:
        """Pass by."""
        self.take(count)

    def signature(self, expected: bytes) -> None:
        """Pass by four letters.

        Raises:
            MalformedError: others stand there.
        """
        found = bytes(self.take(len(expected)))
        if found != expected:
            raise bad(f"{self.what} does not begin with '{expected.decode()}' but with {found.hex(' ')}", self.start)

    def version(self, *known: int) -> int:
        """The next byte as a version.

        Raises:
            NotAnalysedError: it is none of those that are known.
        """
        found = self.number(1)
        if found not in known:
            raise NotAnalysedError(f"{self.what} of version {found}", where=f"@{self.start}").under("SL815")
        return found

    def text(self) -> bytes:
        """The next bytes up to a NUL, which is passed by.

        Raises:
            MalformedError: there is none.
        """
        raw = bytes(self.data[self.at :])
        end = raw.find(0)
        if end < 0:
            raise bad(f"{self.what} holds a text without end", self.start + self.at)
        self.at += end + 1
        return raw[:end]

    def sealed(self) -> None:
        """Compare the checksum that stands here with the bytes in front of it.

        Raises:
            MalformedError: it is another.
        """
        computed, at = checksum(self.data[: self.at]), self.at
        stored = self.number(4)
        if computed != stored:
            raise bad(f"{self.what} has the checksum {computed:08x}, and {stored:08x} is recorded", self.start + at)


_MASK: Final = 0xFFFFFFFF


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for first, second, third in ((4, 6, 8), (16, 19, 4)):
        a = (a - c & _MASK) ^ (c << first & _MASK | c >> 32 - first)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ (a << second & _MASK | a >> 32 - second)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ (b << third & _MASK | b >> 32 - third)
        b = b + a & _MASK
    return a, b, c


def checksum(data: memoryview | bytes) -> int:
    """Return Bob Jenkins' lookup3 hash, by which HDF5 seals its newer structures."""
    size = len(data)
    a = b = c = 0xDEADBEEF + size & _MASK
    last = (size - 1) // 12 * 12 if size else 0
    for x, y, z in _triples(bytes(data[:last])):
        a, b, c = _mixed(a + x & _MASK, b + y & _MASK, c + z & _MASK)
    if not size:
        return c
    x, y, z = next(_triples(bytes(data[last:]).ljust(12, b"\0")))
    a, b, c = a + x & _MASK, b + y & _MASK, c + z & _MASK
    c = _last(c, b, 14)
    a = _last(a, c, 11)
    b = _last(b, a, 25)
    c = _last(c, b, 16)
    a = _last(a, c, 4)
    b = _last(b, a, 14)
    return _last(c, b, 24)


def _last(target: int, other: int, turn: int) -> int:
    return (target ^ other) - (other << turn & _MASK | other >> 32 - turn) & _MASK


def _triples(data: bytes) -> Iterator[tuple[int, int, int]]:
    for at in range(0, len(data), 12):
        yield (
            int.from_bytes(data[at : at + 4], "little"),
            int.from_bytes(data[at + 4 : at + 8], "little"),
            int.from_bytes(data[at + 8 : at + 12], "little"),
        )
