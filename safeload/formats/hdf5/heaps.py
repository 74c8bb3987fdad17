"""The three heaps of HDF5: names of old groups, values of variable length, and the fractal heap of large groups."""

from __future__ import annotations

from typing import Final

from safeload.formats.hdf5.space import NotAnalysedError, Space, bad
from safeload.formats.hdf5.trees import records
from safeload.lean_dataclass import dataclass

__all__ = ["FractalHeap", "GlobalHeaps", "local_heap"]

_COLLECTION: Final = 1 << 26  # bytes of one collection of a global heap
_OBJECTS: Final = 1 << 20
_BLOCKS: Final = 1 << 16
_ROWS: Final = 64


def local_heap(space: Space, address: int) -> memoryview:
    """Return the bytes of a local heap, in which old groups keep names.

    Raises:
        MalformedError: it is cut short.
    """
    cursor = space.cursor(address, 8 + 2 * space.length_size + space.offset_size, "a local heap")
    cursor.signature(b"HEAP")
    cursor.version(0)
    cursor.skip(3)
    size = cursor.length()
    cursor.length()
    return space.view(cursor.address(), size, "a local heap")


class GlobalHeaps:
    """Values of variable length, in collections that are read once each."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._collections: dict[int, dict[int, memoryview]] = {}

    def value(self, address: int, index: int) -> memoryview:
        """Return one value.

        Raises:
            MalformedError: there is none, or the collection is cut short.
        """
        if address not in self._collections:
            self._collections[address] = self._read(address)
        found = self._collections[address].get(index)
        if found is None:
            raise bad(f"value {index} is not in the global heap", self.space.base + address)
        return found

    def _read(self, address: int) -> dict[int, memoryview]:
        space = self.space
        cursor = space.cursor(address, 8 + space.length_size, "a global heap")
        cursor.signature(b"GCOL")
        cursor.version(1)
        cursor.skip(3)
        size = cursor.length()
        if size > _COLLECTION:
            raise bad(f"a global heap of {size} bytes in one piece", cursor.start)
        cursor = space.cursor(address, size, "a global heap")
        cursor.skip(8 + space.length_size)
        found: dict[int, memoryview] = {}
        while cursor.left >= 8 + space.length_size:
            index = cursor.number(2)
            cursor.skip(6)
            nbytes = cursor.length()
            if not index:
                break  # what is left is free
            if index in found:
                raise bad(f"two values of a global heap have the number {index}", cursor.start + cursor.at)
            found[index] = cursor.take(nbytes)
            cursor.skip(min(-nbytes % 8, cursor.left))
        return found


@dataclass(frozen=True, slots=True)
class _Block:
    """One direct block: where it begins in the heap's own addresses, and where it lies."""

    start: int
    size: int
    address: int


class FractalHeap:
    """The heap in which large groups keep links and objects keep many attributes.

    Args:
        space: The file.
        address: Of its header.

    Raises:
        MalformedError: it contradicts itself.
        NotAnalysedError: its blocks are packed.
    """

    def __init__(self, space: Space, address: int) -> None:
        self.space = space
        wide = space.length_size
        cursor = space.within(address, 22 + 12 * wide + 3 * space.offset_size + 64, "a fractal heap")
        cursor.signature(b"FRHP")
        cursor.version(0)
        self.id_size, filters, self.flags = cursor.number(2), cursor.number(2), cursor.number(1)
        if filters:
            raise NotAnalysedError("a fractal heap whose blocks are packed", where=f"@{cursor.start}").under("SL815")
        largest = cursor.number(4)
        cursor.length()
        self.huge = cursor.address()
        cursor.length()
        cursor.address()
        cursor.skip(8 * wide)
        self.width, self.first, self.most, bits = cursor.number(2), cursor.length(), cursor.length(), cursor.number(2)
        cursor.number(2)
        root, rows = cursor.address(), cursor.number(2)
        cursor.sealed()
        self._check(bits, cursor.start)
        self.offset_width = (bits + 7) // 8
        # As the library computes them: of a power of two the bits behind it, of any other number all of its bits.
        self.length_width = min((self.most.bit_length() + 6) // 8, (max(1, largest).bit_length() - 1) // 8 + 1)
        self.blocks: list[_Block] = []
        self._seen = 0
        self._places: dict[int, tuple[int, int]] | None = None
        if root != space.undefined and not rows:
            self.blocks.append(_Block(0, self.first, root))
        elif root != space.undefined:
            self._indirect(root, rows, 0, 0)

    def _check(self, bits: int, at: int) -> None:
        powers = all(number and not number & number - 1 for number in (self.width, self.first, self.most))
        if not powers or self.first > self.most or not 0 < bits <= 64 or self.most >= 1 << 40:
            raise bad("a fractal heap whose sizes are no powers of two, or too large", at)

    def _rows(self) -> int:
        """Rows of direct blocks."""
        return self.most.bit_length() - self.first.bit_length() + 2

    def _row_size(self, row: int) -> int:
        return self.first if row < 2 else self.first << row - 1

    def _indirect(self, address: int, rows: int, start: int, depth: int) -> None:
        """Gather the direct blocks below an indirect one."""
        self._seen += 1
        if self._seen > _BLOCKS or depth > _ROWS or rows > _ROWS:
            raise bad("a fractal heap of too many blocks", self.space.base + address)
        space = self.space
        size = 5 + space.offset_size + self.offset_width + rows * self.width * space.offset_size + 4
        cursor = space.cursor(address, size, "an indirect block of a fractal heap")
        cursor.signature(b"FHIB")
        cursor.version(0)
        cursor.skip(space.offset_size + self.offset_width)
        children = [cursor.address() for _ in range(rows * self.width)]
        cursor.sealed()
        direct = self._rows()
        for number, child in enumerate(children):
            row = number // self.width
            nbytes = self._row_size(row)
            if child != space.undefined:
                if row < direct:
                    self.blocks.append(_Block(start, nbytes, child))
                else:
                    inner = nbytes.bit_length() - (self.first * self.width).bit_length() + 1
                    self._indirect(child, inner, start, depth + 1)
            start += nbytes
            if len(self.blocks) > _BLOCKS:
                raise bad("a fractal heap of too many blocks", cursor.start)

    def value(self, identity: memoryview) -> memoryview:
        """Return the object that a heap id stands for.

        Raises:
            MalformedError: it lies in no block.
            NotAnalysedError: its id is of a kind that is not read.
        """
        kind = identity[0] >> 4 & 3
        if kind == 2:
            return self._tiny(identity)
        if kind == 1:
            return self._huge(identity)
        if kind != 0:
            raise NotAnalysedError(f"an object of a fractal heap of kind {kind}").under("SL815")
        offset = int.from_bytes(identity[1 : 1 + self.offset_width], "little")
        nbytes = int.from_bytes(identity[1 + self.offset_width : 1 + self.offset_width + self.length_width], "little")
        for block in self.blocks:
            if block.start <= offset < block.start + block.size:
                if offset + nbytes > block.start + block.size:
                    break
                return self.space.view(block.address + offset - block.start, nbytes, "an object of a fractal heap")
        raise bad(f"byte {offset} of a fractal heap lies in none of its blocks")

    def _huge(self, identity: memoryview) -> memoryview:
        """An object that is too large for a block: its place stands in the id, or in a tree by the id's number."""
        wide, long = self.space.offset_size, self.space.length_size
        if wide + long < self.id_size:
            address = int.from_bytes(identity[1 : 1 + wide], "little")
            nbytes = int.from_bytes(identity[1 + wide : 1 + wide + long], "little")
            return self.space.view(address, nbytes, "a large object of a fractal heap")
        if self._places is None:
            found = ((record.address(), record.length(), record.length()) for record in records(self.space, self.huge, 1))
            self._places = {number: (address, nbytes) for address, nbytes, number in found}
        number = int.from_bytes(identity[1 : 1 + min(long, self.id_size - 1)], "little")
        if number not in self._places:
            raise bad(f"large object {number} is in no tree of its fractal heap")
        return self.space.view(*self._places[number], "a large object of a fractal heap")

    def _tiny(self, identity: memoryview) -> memoryview:
        if self.id_size <= 17:
            size, start = (identity[0] & 15) + 1, 1
        else:
            size, start = ((identity[0] & 15) << 8 | identity[1]) + 1, 2
        if start + size > len(identity):
            raise bad("an object inside a heap id that is longer than the id")
        return identity[start : start + size]

