"""The bytes of attributes and of those datasets in which programs keep more than numbers: texts, opaque bytes, variable length.

Numbers are never read. Chunks are read only where such bytes lie in them, as they are or through the three filters that are
arithmetic and no library (deflate, shuffle, checksum), which are done here within bounds.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from math import prod
from typing import Final

from safeload.formats.hdf5 import datatypes as d
from safeload.formats.hdf5.chunks import Chunk, chunks
from safeload.formats.hdf5.datasets import CHUNKED, COMPACT, CONTIGUOUS, Filter, Layout
from safeload.formats.hdf5.datatypes import Dataspace, Datatype
from safeload.formats.hdf5.heaps import GlobalHeaps
from safeload.formats.hdf5.space import NotAnalysedError, Space, bad
from safeload.lean_dataclass import dataclass

__all__ = ["Reader", "holds_bytes", "holds_references"]

_DEFLATE, _SHUFFLE, _FLETCHER = 1, 2, 3
_CHUNK: Final = 1 << 28
_ELEMENTS: Final = 200_000
_BYTES: Final = 1 << 28


def holds_bytes(kind: Datatype, depth: int = 0) -> bool:
    """Whether values of this type may be a stream or a text: strings, opaque bytes, variable length, or compounds of those."""
    if depth > 8:
        return True
    if kind.kind in (d.STRING, d.OPAQUE, d.VARIABLE):
        return True
    if kind.kind == d.COMPOUND:
        return any(holds_bytes(member, depth + 1) for _, _, member in kind.members)
    return kind.kind == d.ARRAY and kind.base is not None and holds_bytes(kind.base, depth + 1)


def holds_references(kind: Datatype) -> bool:
    """Whether values of this type lead to other objects of the file."""
    return kind.kind == d.REFERENCE or (kind.base is not None and holds_references(kind.base))


@dataclass(slots=True)
class Reader:
    """Reads values, at a price that is bounded for the whole file."""

    space: Space
    heaps: GlobalHeaps
    elements: int = _ELEMENTS
    left: int = _BYTES

    def pay(self, nbytes: int) -> None:
        """Take from what may be read.

        Raises:
            NotAnalysedError: it is more than is granted.
        """
        self.left -= nbytes
        self.elements -= 1
        if self.left < 0 or self.elements < 0:
            raise NotAnalysedError("more texts and bytes than are looked at in one file").under("SL815")

    def values(self, kind: Datatype, count: int, data: memoryview) -> Iterator[bytes]:
        """Yield the byte strings in `count` elements.

        Raises:
            MalformedError: a value of variable length lies nowhere.
            NotAnalysedError: there are too many.
        """
        if kind.size <= 0 or not holds_bytes(kind):
            return
        for index in range(min(count, len(data) // kind.size)):
            yield from self._element(kind, data[index * kind.size : (index + 1) * kind.size], 0)

    def _element(self, kind: Datatype, data: memoryview, depth: int) -> Iterator[bytes]:
        if depth > 8:
            raise NotAnalysedError("values that are nested too deep").under("SL815")
        if kind.kind in (d.STRING, d.OPAQUE):
            self.pay(len(data))
            yield bytes(data)
        elif kind.kind == d.VARIABLE and kind.base is not None:
            yield from self._variable(kind, data, depth)
        elif kind.kind == d.COMPOUND:
            for _, offset, member in kind.members:
                if holds_bytes(member):
                    yield from self._element(member, data[offset : offset + member.size], depth + 1)
        elif kind.kind == d.ARRAY and kind.base is not None and kind.base.size and holds_bytes(kind.base):
            for start in range(0, len(data), kind.base.size):
                yield from self._element(kind.base, data[start : start + kind.base.size], depth + 1)

    def _variable(self, kind: Datatype, data: memoryview, depth: int) -> Iterator[bytes]:
        """A value of variable length: how many, and where in the global heap."""
        base, width = kind.base, self.space.offset_size
        count, address, index = (int.from_bytes(data[a:b], "little") for a, b in ((0, 4), (4, 4 + width), (4 + width, 8 + width)))
        if base is None or not count or address in (0, self.space.undefined):
            return
        found = self.heaps.value(address, index)
        size = 1 if kind.text else base.size
        if count * size > len(found):
            raise bad(f"a value of {count} elements of {size} bytes has {len(found)} bytes in the global heap", self.space.base + address)
        held = found[: count * size]
        if kind.text or base.size == 1:
            self.pay(len(held))
            yield bytes(held)
        elif holds_bytes(base):
            for start in range(0, len(held), size):
                yield from self._element(base, held[start : start + size], depth + 1)

    # ---- datasets

    def dataset(self, kind: Datatype, dataspace: Dataspace, layout: Layout, filters: list[Filter]) -> Iterator[bytes]:
        """Yield the byte strings of a dataset.

        Raises:
            MalformedError: a piece lies outside the file, or does not unpack to what it should.
            NotAnalysedError: it lies in chunks that are not found or not unpacked here, or there is too much of it.
        """
        for data in self.pieces(kind, dataspace, layout, filters):
            yield from self.values(kind, len(data) // max(1, kind.size), data)

    def pieces(self, kind: Datatype, dataspace: Dataspace, layout: Layout, filters: list[Filter]) -> Iterator[memoryview]:
        """Yield the raw bytes of a dataset; of a chunk, also those that lie behind the dataset's edge."""
        if layout.kind == COMPACT:
            yield layout.data
        elif layout.address is None and not layout.index.startswith("of kind"):
            return  # nothing was written
        elif layout.kind == CONTIGUOUS and layout.address is not None:
            nbytes = dataspace.count * kind.size
            if nbytes > self.left:
                raise NotAnalysedError(f"{nbytes} bytes of {kind.name}").under("SL815")
            self.left -= nbytes
            yield self.space.view(layout.address, nbytes, "a dataset")
        elif layout.kind == CHUNKED:
            yield from self._chunks(kind, dataspace, layout, filters)

    def _chunks(self, kind: Datatype, dataspace: Dataspace, layout: Layout, filters: list[Filter]) -> Iterator[memoryview]:
        whole = prod(layout.chunk[:-1]) * kind.size
        if whole > _CHUNK or whole <= 0:
            raise NotAnalysedError(f"{kind.name} in chunks of {whole} bytes").under("SL815")
        unknown = next((step for step in filters if step.number not in (_DEFLATE, _SHUFFLE, _FLETCHER)), None)
        if unknown is not None:
            raise NotAnalysedError(f"{kind.name} in chunks that go through filter {unknown.number}").under("SL815")
        for chunk in chunks(self.space, layout, dataspace, whole, packed=bool(filters)):
            yield self._chunk(chunk, whole, kind, filters)

    def _chunk(self, chunk: Chunk, whole: int, kind: Datatype, filters: list[Filter]) -> memoryview:
        """One chunk, unpacked to at most `whole` bytes."""
        self.left -= whole
        if self.left < 0:
            raise NotAnalysedError("more texts and bytes than are looked at in one file").under("SL815")
        data = self.space.view(chunk.address, chunk.nbytes, "a chunk")
        for number in range(len(filters) - 1, -1, -1):
            if chunk.mask >> number & 1:
                continue
            step = filters[number]
            if step.number == _DEFLATE:
                data = memoryview(_inflated(data, whole + 4 * len(filters), self.space.base + chunk.address))
            elif step.number == _FLETCHER:
                data = data[:-4]
            else:
                data = memoryview(_unshuffled(bytes(data), step.values[0] if step.values else kind.size))
        if len(data) > whole:
            raise bad(f"a chunk of {whole} bytes unpacks to {len(data)}", self.space.base + chunk.address)
        return data


def _inflated(data: memoryview, most: int, offset: int) -> bytes:
    machine = zlib.decompressobj()
    try:
        found = machine.decompress(data, most + 1)
    except zlib.error:
        raise bad("a chunk's deflate data is broken", offset) from None
    if len(found) > most:
        raise bad(f"a chunk unpacks to more than {most} bytes", offset)
    return found


def _unshuffled(data: bytes, size: int) -> bytes:
    """Put the bytes of each element together again."""
    if size <= 1 or size > len(data):
        return data
    count = len(data) // size
    out = bytearray(data)
    for index in range(size):
        out[index : count * size : size] = data[index * count : (index + 1) * count]
    return bytes(out)
