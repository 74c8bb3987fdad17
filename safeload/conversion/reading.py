"""The bytes of storages out of the source, each byte hashed as it passes, in the order of the file.

What is hashed is what is copied: one pass, one read of every byte.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import Final, Self

from safeload.background import Task, Worker
from safeload.errors import LimitError, MalformedError
from safeload.findings import escape
from safeload.hashing.crc import crc32
from safeload.parallel import workers
from safeload.program import COMPLEX, DTYPE_BITS, Region, StorageSpec
from safeload.source import Limits, Source

__all__ = ["CHUNK", "PIECE", "Tape", "must_unpack", "plain_reader", "storage_bytes"]

CHUNK: Final = 1 << 20
"""Bytes that are handed on at once, and should still be in a core's own cache when they are; a multiple of every element's size."""

PIECE: Final = CHUNK
"""Bytes that a `Tape` reads at once."""

_PIECES: Final = 16  # so that neither the chain nor the caller waits for a little delay of the other

_FORMATS: Final = {2: "H", 4: "I", 8: "Q"}
_PACKED: Final = 1 << 20
_SMALL: Final = 1 << 20

Reader = Callable[[int, int], memoryview]
"""Takes offset and length, at most `CHUNK`; what it returns is good until the next call."""


class Tape:
    """Reads a source from its beginning to its end, hashing everything on the way. Use as a context manager.

    The file passes in pieces. While the caller does something with one, a thread follows the chain of `sha256` through it, and is
    done with it before its memory is used again.

    Args:
        source: The file.
        progress: Told how many bytes have passed.
    """

    def __init__(self, source: Source, progress: Callable[[int], None] | None = None) -> None:
        self._source, self._progress = source, progress
        self._worker, self._hasher = Worker(alone=source.size < _SMALL or workers() == 1), hashlib.sha256()
        pieces = 1 if source.size <= PIECE else _PIECES
        self._memory = [memoryview(bytearray(min(PIECE, max(source.size, 1)))) for _ in range(pieces)]
        self._busy: list[Task | None] = [None] * pieces
        self._scratch = memoryview(b"")
        self._piece = memoryview(b"")
        self._start = 0  # of the piece
        self.position = 0

    def read(self, offset: int, nbytes: int) -> memoryview:
        """Go forward to `offset` and return what lies there.

        Raises:
            MalformedError: it lies behind what was read already: two storages share bytes of the file.
        """
        self._source.check(offset, nbytes, "a storage")
        if offset < self.position:
            raise MalformedError("storages overlap in the file", where=f"{self._source.name}@{offset}").under("SL204")
        while offset >= self._end and self._end < self._source.size:
            self._next()
        self._pass(offset + nbytes)
        at = offset - self._start
        if offset + nbytes <= self._end:
            return self._piece[at : at + nbytes]
        # It goes on in the next pieces, so its parts are put together.
        self._scratch = self._scratch or memoryview(bytearray(CHUNK))
        done = 0
        while done < nbytes:
            part = self._piece[at : at + nbytes - done]
            self._scratch[done : done + len(part)] = part
            done, at = done + len(part), 0
            if done < nbytes:
                self._next()
        return self._scratch[:nbytes]

    @property
    def _end(self) -> int:
        return self._start + len(self._piece)

    def _pass(self, position: int) -> None:
        if self._progress is not None:
            self._progress(position - self.position)
        self.position = position

    def _next(self) -> None:
        """Read the next piece, once nobody needs the memory any more."""
        self._memory.append(self._memory.pop(0))
        task = self._busy.pop(0)
        if task is not None:
            task.wait()
        self._start = self._end
        piece = self._piece = self._memory[-1][: min(PIECE, self._source.size - self._start)]
        self._source.readinto(self._start, piece, keep=False)
        self._busy.append(self._worker.submit(lambda: self._hasher.update(piece)))

    def finish(self) -> str:
        """Read what is left, and return the `sha256` of the file."""
        while self._end < self._source.size:
            self._next()
            self._pass(self._end)
        for task in self._busy:
            if task is not None:
                task.wait()
        return self._hasher.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.__exit__(*error)


def plain_reader(source: Source) -> Reader:
    """Return a reader that goes wherever it is asked to, and hashes nothing."""
    scratch = memoryview(bytearray(min(CHUNK, max(source.size, 1))))

    def read(offset: int, nbytes: int) -> memoryview:
        view = scratch[:nbytes]
        source.readinto(offset, view, keep=False)
        return view

    return read


def storage_bytes(read: Reader, root: StorageSpec, limits: Limits, where: str, *, check: bool = True) -> Iterator[memoryview]:
    """Yield a storage's bytes, unpacked, little-endian, in pieces of `CHUNK` but the first and the last.

    Args:
        read: From a `Tape`, or `plain_reader`.
        root: A storage with a region.
        limits: Bounds on unpacking.
        where: The source's name, for messages.
        check: False where the CRC was compared already.

    Raises:
        MalformedError: the CRC differs, or it does not unpack to what it promises.
        LimitError: it would unpack to more than `limits` grant.
    """
    region = root.region
    if region is None or not region.nbytes:
        return
    place = f"{where}!{escape(region.member)}" if region.member else where
    swap = _real_size(root.dtype) if _is_big_endian(root) else 1
    first = CHUNK - region.offset % CHUNK if swap == 1 else CHUNK  # so that none of the next goes on in a next piece of a tape
    pieces = _stored(read, region, first) if region.packed is None else _unpacked(read, region, limits, place)
    crc = 0
    for piece in pieces:
        if check and region.crc32 is not None:
            crc = crc32(piece, crc)
        yield _swapped(piece, swap) if swap > 1 else piece
    if check and not region.check(crc):
        raise MalformedError(f"the bytes have CRC {crc:08x}, and {region.crc32:08x} is recorded", where=place).under("SL209")


def must_unpack(root: StorageSpec) -> bool:
    """Whether a storage's bytes do not lie in the file as they are: deflated, or of the other byte order."""
    return root.region is None or root.region.packed is not None or (_is_big_endian(root) and _real_size(root.dtype) > 1)


def _is_big_endian(root: StorageSpec) -> bool:
    return root.swap != (sys.byteorder == "big")


def _real_size(dtype: str) -> int:
    size = DTYPE_BITS[dtype] // 8
    return size // 2 if dtype in COMPLEX else size


def _swapped(piece: memoryview, size: int) -> memoryview:
    """A copy with the bytes of every number turned round."""
    out = array(_FORMATS[size], bytes(piece))
    out.byteswap()
    return memoryview(out).cast("B")


def _stored(read: Reader, region: Region, first: int) -> Iterator[memoryview]:
    yield read(region.offset, min(first, region.nbytes))
    for start in range(first, region.nbytes, CHUNK):
        yield read(region.offset + start, min(CHUNK, region.nbytes - start))


def _unpacked(read: Reader, region: Region, limits: Limits, where: str) -> Iterator[memoryview]:
    """Inflate one raw deflate stream that must give exactly what it promises from exactly its bytes."""
    packed = region.packed or 0
    if region.nbytes > packed * limits.inflate_ratio or region.nbytes > limits.inflate_bytes:
        raise LimitError(f"{packed} bytes that unpack to {region.nbytes}", where=where).under("SL208")
    machine = zlib.decompressobj(-15)
    out = bytearray()
    total, fed, pending = 0, 0, b""
    try:
        while not machine.eof:
            if not pending and fed < packed:
                pending = bytes(read(region.offset + fed, min(_PACKED, packed - fed)))
                fed += len(pending)
            piece = machine.decompress(pending, min(CHUNK - len(out), region.nbytes - total) + 1)
            total += len(piece)
            if total > region.nbytes or (not piece and not pending):
                break  # more than it promises, or nothing left to give it and nothing left in it
            pending = machine.unconsumed_tail
            out += piece
            if len(out) > CHUNK:
                yield memoryview(bytes(out[:CHUNK]))
                del out[:CHUNK]
    except zlib.error as error:
        raise MalformedError(f"cannot be unpacked: {escape(str(error))}", where=where).under("SL203") from None
    if not machine.eof or total != region.nbytes or fed != packed or machine.unused_data:
        raise MalformedError(f"unpacks to {total} bytes, and {region.nbytes} are promised", where=where).under("SL203")
    for start in range(0, len(out), CHUNK):
        yield memoryview(bytes(out[start : start + CHUNK]))
