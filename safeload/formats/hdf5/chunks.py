"""Where the chunks of a dataset lie, by each of the indexes that the library writes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final

from safeload.formats.hdf5.datasets import Layout
from safeload.formats.hdf5.datatypes import Dataspace
from safeload.formats.hdf5.space import Cursor, NotAnalysedError, Space, bad
from safeload.formats.hdf5.trees import leaves, records
from safeload.lean_dataclass import dataclass

__all__ = ["Chunk", "chunks"]

_CHUNKS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: where it lies, how many bytes are stored, and which filters were left out (bit by bit)."""

    address: int
    nbytes: int
    mask: int = 0


def chunks(space: Space, layout: Layout, dataspace: Dataspace, whole: int, *, packed: bool) -> Iterator[Chunk]:
    """Yield the chunks that were written.

    Args:
        space: The file.
        layout: A chunked one.
        dataspace: Of the dataset.
        whole: Bytes of a chunk when it is unpacked.
        packed: Chunks go through filters.

    Raises:
        MalformedError: an index is cut short, or leads outside the file.
        NotAnalysedError: an index that is not read.
    """
    if layout.address is None:
        return
    found = _of_index(space, layout, dataspace, whole, packed)
    for count, chunk in enumerate(found):
        if count >= _CHUNKS:
            raise bad(f"a dataset of more than {_CHUNKS} chunks", space.base + layout.address)
        if chunk.address != space.undefined:
            yield chunk


def _of_index(space: Space, layout: Layout, dataspace: Dataspace, whole: int, packed: bool) -> Iterator[Chunk]:
    address = layout.address or 0
    if layout.index == "tree":
        for head, at in leaves(space, address, 1, 8 + 8 * len(layout.chunk)):
            yield Chunk(at, int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little"))
    elif layout.index == "single":
        yield Chunk(address, layout.nbytes or whole)
    elif layout.index == "implicit":
        count = prod(-(-size // max(1, step)) for size, step in zip(dataspace.shape or (), layout.chunk, strict=False))
        yield from (Chunk(address + number * whole, whole) for number in range(min(count, _CHUNKS + 1)))
    elif layout.index == "B-tree":
        offsets = 8 * (len(layout.chunk) - 1)
        for record in records(space, address, 10, 11):
            record.data = record.data[: len(record.data) - offsets]
            yield _entry(record, len(record.data), whole, packed)
    elif layout.index == "fixed array":
        yield from _fixed(space, address, whole, packed)
    elif layout.index == "extensible array":
        yield from _Extensible(space, address, whole, packed).walk()
    else:
        raise NotAnalysedError(f"chunks whose index is {layout.index}").under("SL815")


def _entry(cursor: Cursor, size: int, whole: int, packed: bool) -> Chunk:
    """An element of an index: an address and, for packed chunks, their size and mask."""
    address = cursor.address()
    rest = size - cursor.space.offset_size
    if not packed:
        cursor.skip(rest)
        return Chunk(address, whole)
    return Chunk(address, cursor.number(max(0, rest - 4)), cursor.number(4))


# ---- fixed arrays


def _fixed(space: Space, address: int, whole: int, packed: bool) -> Iterator[Chunk]:
    header = space.cursor(address, 12 + space.length_size + space.offset_size, "a fixed array")
    header.signature(b"FAHD")
    header.version(0)
    header.skip(1)
    size, bits, count, block = header.number(1), header.number(1), header.length(), header.address()
    header.sealed()
    if block == space.undefined:
        return
    if count > _CHUNKS or bits > 32 or size < space.offset_size:
        raise bad(f"a fixed array of {count} elements of {size} bytes", header.start)
    paged = count > 1 << bits
    pages = -(-count // (1 << bits)) if paged else 0
    front = 6 + space.offset_size + (-(-pages // 8) if paged else 0)
    cursor = _block(space, block, b"FADB", front, 0 if paged else count * size)
    cursor.at = front
    if not paged:
        yield from (_entry(cursor, size, whole, packed) for _ in range(count))
        return
    yield from _pages(space, block + front + 4, count, 1 << bits, size, whole, packed, bytes(cursor.data[6 + space.offset_size : front]))


def _block(space: Space, address: int, signature: bytes, front: int, size: int) -> Cursor:
    """A sealed block of `front` bytes and `size` bytes of elements."""
    cursor = space.cursor(address, front + size + 4, "a block of an index of chunks")
    cursor.skip(front + size)
    cursor.sealed()
    cursor.at = 0
    cursor.signature(signature)
    cursor.version(0)
    return cursor


def _pages(space: Space, start: int, count: int, most: int, size: int, whole: int, packed: bool, written: bytes) -> Iterator[Chunk]:
    """Elements in pages, each sealed; one whose bit is not set was never written."""
    for page in range(-(-count // most)):
        held = min(most, count - page * most)
        if written[page // 8] >> 7 - page % 8 & 1:
            cursor = space.cursor(start + page * (most * size + 4), held * size + 4, "a page of an index of chunks")
            cursor.skip(held * size)
            cursor.sealed()
            cursor.at = 0
            for _ in range(held):
                yield _entry(cursor, size, whole, packed)


# ---- extensible arrays


class _Extensible:
    """An index block that holds the first elements, then data blocks that double in size, named there or in secondary blocks."""

    def __init__(self, space: Space, address: int, whole: int, packed: bool) -> None:
        self.space, self.whole, self.packed = space, whole, packed
        header = space.cursor(address, 16 + 6 * space.length_size + space.offset_size, "an extensible array")
        header.signature(b"EAHD")
        header.version(0)
        header.skip(1)
        self.size, self.bits, self.inner, self.least, self.pointers, page_bits = (header.number(1) for _ in range(6))
        header.skip(6 * space.length_size)
        self.index = header.address()
        header.sealed()
        powers = all(number and not number & number - 1 for number in (self.least, self.pointers))
        if not powers or self.bits > 64 or page_bits > 32 or self.size < space.offset_size or self.pointers < 2:
            raise bad("an extensible array whose sizes are no powers of two", header.start)
        self.page = 1 << page_bits
        self.offset_width = (self.bits + 7) // 8

    def walk(self) -> Iterator[Chunk]:
        """Yield every element."""
        space = self.space
        if self.index == space.undefined:
            return
        blocks = 1 + max(0, self.bits - (self.least.bit_length() - 1))
        direct = 2 * (self.pointers.bit_length() - 1)
        addresses, secondary = 2 * (self.pointers - 1), max(0, blocks - direct)
        front = 6 + space.offset_size
        size = self.inner * self.size + (addresses + secondary) * space.offset_size
        cursor = _block(space, self.index, b"EAIB", front, size)
        cursor.at = front
        for _ in range(self.inner):
            yield _entry(cursor, self.size, self.whole, self.packed)
        named = [cursor.address() for _ in range(addresses)]
        lengths = [self._length(block) for block in range(direct) for _ in range(1 << block // 2)]
        for at, length in zip(named, lengths, strict=False):
            yield from self._data(at, length, None)
        for number in range(secondary):
            at = cursor.address()
            if at != space.undefined:
                yield from self._secondary(at, direct + number)

    def _length(self, block: int) -> int:
        """Elements of a data block below super block number `block`."""
        return self.least << (block + 1) // 2

    def _secondary(self, address: int, block: int) -> Iterator[Chunk]:
        space, count, length = self.space, 1 << block // 2, self._length(block)
        pages = -(-length // self.page) if length > self.page else 0
        each = -(-pages // 8)
        front = 6 + space.offset_size + self.offset_width + count * each
        if count > _CHUNKS:
            raise bad(f"a secondary block of {count} blocks", space.base + address)
        cursor = _block(space, address, b"EASB", front, count * space.offset_size)
        bitmaps = bytes(cursor.data[front - count * each : front])
        cursor.at = front
        for number in range(count):
            yield from self._data(cursor.address(), length, bitmaps[number * each : (number + 1) * each] if pages else None)

    def _data(self, address: int, length: int, bitmap: bytes | None) -> Iterator[Chunk]:
        space = self.space
        if address == space.undefined:
            return
        if length > _CHUNKS:
            raise bad(f"a data block of {length} elements", space.base + address)
        front = 6 + space.offset_size + self.offset_width
        paged = length > self.page
        cursor = _block(space, address, b"EADB", front, 0 if paged else length * self.size)
        cursor.at = front
        if not paged:
            yield from (_entry(cursor, self.size, self.whole, self.packed) for _ in range(length))
            return
        written = bitmap or b"\xff" * (-(-length // self.page) // 8 + 1)
        yield from _pages(space, address + front + 4, length, self.page, self.size, self.whole, self.packed, written)
