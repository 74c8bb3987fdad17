"""The bytes of storages out of the source, each byte hashed as it passes, in the order of the file.

What is hashed is what is copied: one pass, one read of every byte.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, Self

from safeload.errors import LimitError, MalformedError
from safeload.findings import escape
from safeload.program import COMPLEX, DTYPE_BITS, Region, StorageSpec
from safeload.source import Limits, Source
from safeload.trust.digest import TreeHasher

__all__ = ["CHUNK", "Tape", "must_unpack", "plain_reader", "storage_bytes"]

CHUNK: Final = 8 << 20
"""Bytes read at once; a multiple of every element's size."""

_PACKED: Final = 1 << 20
_SMALL: Final = 1 << 16

Reader = Callable[[int, int], memoryview]
"""Takes offset and length, at most `CHUNK`; what it returns is good until the next call."""


class _Hash(Protocol):
    """What `hashlib` and `TreeHasher` have in common."""

    def update(self, data: memoryview, /) -> None:
        """Go on with `data`."""
        ...


class Tape:
    """Reads a source from its beginning to its end, hashing everything on the way. Use as a context manager.

    Two threads hash while the caller does something with what was read; they are waited for before its memory is used again.

    Args:
        source: The file.
        progress: Told how many bytes have passed.
    """

    def __init__(self, source: Source, progress: Callable[[int], None] | None = None) -> None:
        self._source = source
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._tree = TreeHasher()
        self._digests: tuple[_Hash, _Hash] = (self._sha256, self._tree)
        size = min(CHUNK, max(source.size, 1))
        self._scratch = [memoryview(bytearray(size)) for _ in range(2)]
        self._busy: list[list[Future[None]]] = [[], []]
        # One thread each: what is hashed must stay in order.
        self._hashers = [ThreadPoolExecutor(1, "safeload-hash") for _ in range(2)]
        self.position = 0

    def read(self, offset: int, nbytes: int) -> memoryview:
        """Go forward to `offset` and return what lies there.

        Raises:
            MalformedError: it lies behind what was read already: two storages share bytes of the file.
        """
        if offset < self.position:
            raise MalformedError("storages overlap in the file", where=f"{self._source.name}@{offset}").under("SL204")
        while self.position < offset:
            self._take(min(CHUNK, offset - self.position))
        return self._take(nbytes)

    def _take(self, nbytes: int) -> memoryview:
        self._scratch.reverse()
        self._busy.reverse()
        for done in self._busy[0]:
            done.result()
        view = self._scratch[0][:nbytes]
        self._source.readinto(self.position, view, keep=False)
        if nbytes < _SMALL:
            # Not worth a hand-over, but its turn must come after what was handed over.
            for pending in self._busy[1]:
                pending.result()
            self._busy = [[], []]
            self._sha256.update(view)
            self._tree.update(view)
        else:
            self._busy[0] = [hasher.submit(digest.update, view) for hasher, digest in zip(self._hashers, self._digests, strict=True)]
        self.position += nbytes
        if self._progress is not None:
            self._progress(nbytes)
        return view

    def finish(self) -> tuple[str, str]:
        """Read what is left, and return `sha256` and `sha256-tree` of the file."""
        while self.position < self._source.size:
            self._take(min(CHUNK, self._source.size - self.position))
        for done in (*self._busy[0], *self._busy[1]):
            done.result()
        return self._sha256.hexdigest(), self._tree.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hasher in self._hashers:
            hasher.shutdown()


def plain_reader(source: Source) -> Reader:
    """Return a reader that goes wherever it is asked to, and hashes nothing."""
    scratch = memoryview(bytearray(min(CHUNK, max(source.size, 1))))

    def read(offset: int, nbytes: int) -> memoryview:
        view = scratch[:nbytes]
        source.readinto(offset, view, keep=False)
        return view

    return read


def storage_bytes(read: Reader, root: StorageSpec, limits: Limits, where: str) -> Iterator[memoryview]:
    """Yield a storage's bytes, unpacked, little-endian, in pieces of `CHUNK` but the last.

    Args:
        read: From a `Tape`, or `plain_reader`.
        root: A storage with a region.
        limits: Bounds on unpacking.
        where: The source's name, for messages.

    Raises:
        MalformedError: the CRC differs, or it does not unpack to what it promises.
        LimitError: it would unpack to more than `limits` grant.
    """
    region = root.region
    if region is None or not region.nbytes:
        return
    place = f"{where}!{escape(region.member)}" if region.member else where
    pieces = _stored(read, region) if region.packed is None else _unpacked(read, region, limits, place)
    swap = _real_size(root.dtype) if _is_big_endian(root) else 1
    crc = 0
    for piece in pieces:
        if region.crc32 is not None:
            crc = zlib.crc32(piece, crc)
        yield _swapped(piece, swap) if swap > 1 else piece
    if not region.check(crc):
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
    out = bytearray(piece)
    for first in range(size // 2):
        last = size - 1 - first
        out[first::size], out[last::size] = out[last::size], out[first::size]
    return memoryview(out)


def _stored(read: Reader, region: Region) -> Iterator[memoryview]:
    for start in range(0, region.nbytes, CHUNK):
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
