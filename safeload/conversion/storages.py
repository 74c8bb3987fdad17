"""The storages of a manifest over the entries of its file: checked, and put together where they were cut apart.

A storage whose entries lie behind one another, unchanged, is simply a range of the file. Any other (a transposed tensor
was written in the order that other tools read) is put back in order when its bytes are asked for: it gets a place behind
the end of the file, and `restored` gives a source that has bytes there.
"""

from __future__ import annotations

import bisect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, Final

from safeload.conversion.carriers import dense
from safeload.conversion.gather import flip, gather, inverse
from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats.manifest import KEY, Manifest
from safeload.lean_dataclass import dataclass, field
from safeload.program import DTYPE_BITS, Region, StorageSpec, TensorSpec
from safeload.source import Source

__all__ = ["Bound", "Piece", "Whole", "bind", "restored", "restored_chunks"]

_CHUNK: Final = 8 << 20
ReadAt = Callable[[int, int], "bytes | bytearray | memoryview"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of a storage.

    Attributes:
        offset: Its first byte in the file.
        nbytes: Bytes.
        itemsize: Bytes per element.
        shape: Elements per dimension of the tensor that it is, when it must be put back in order.
        stride: At which it found its elements in the storage; None for a plain range.
        flip: See `gather.flip`.
        real: Bytes of one real number, for `flip`.
    """

    offset: int
    nbytes: int
    itemsize: int = 1
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] | None = None
    flip: str = ""
    real: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    """A storage that is put together: `offset` is its place behind the end of the file."""

    offset: int
    nbytes: int
    pieces: tuple[Piece, ...]


@dataclass(slots=True)
class Bound:
    """The storages of a manifest, bound to one file.

    Attributes:
        specs: In the order of the manifest.
        wholes: Those that must be put together.
        by_offset: The same, by their place.
        size: Bytes of the file, with the places behind its end.
        payloads: Where long bytes of the tree lie.
    """

    specs: list[StorageSpec] = field(default_factory=list)
    wholes: list[Whole] = field(default_factory=list)
    by_offset: dict[int, Whole] = field(default_factory=dict)
    size: int = 0
    payloads: list[Region] = field(default_factory=list)


def _bad(message: str) -> MalformedError:
    return MalformedError(f"the manifest is not valid: {message}", where=f"!{KEY}").under("SL401")


def bind(manifest: Manifest, table: Mapping[str, TensorSpec], size: int) -> Bound:
    """Find the bytes of every storage of a manifest.

    Args:
        manifest: Parsed.
        table: The file's tensors by name.
        size: Bytes of the file.

    Raises:
        MalformedError: an entry is missing, is used twice, or has another size than the storage says.
    """
    bound = Bound(size=size)
    owner: dict[str, tuple[str, ...]] = {}
    regions: dict[tuple[str, ...], Region] = {}
    for number, found in enumerate(manifest.storages):
        bound.specs.append(_spec(number, found, table, bound, owner, regions))
    for name in manifest.payloads:
        spec = table.get(name)
        if spec is None or spec.storage.region is None or spec.dtype != "uint8" or name in owner:
            raise _bad(f"there are no bytes named '{escape(name, 60)}'")
        bound.payloads.append(spec.storage.region)
    return bound


def _spec(
    number: int, found: dict[str, Any], table: Mapping[str, TensorSpec], bound: Bound, owner: dict[str, tuple[str, ...]],
    regions: dict[tuple[str, ...], Region],
) -> StorageSpec:  # fmt: skip
    dtype, numel = found["dtype"], found["numel"]
    nbytes = numel * DTYPE_BITS[dtype] // 8
    location, typed, swap = found.get("location", "cpu"), "untyped" not in found, sys.byteorder == "big"
    if "base" in found:
        base = bound.specs[found["base"]]
        if base.dtype != dtype or found["offset"] + numel > base.numel:
            raise _bad(f"storage {number} leaves the storage that it is a slice of")
        return StorageSpec(f"#{number}", dtype, numel, nbytes, location, None, typed, swap, base, found["offset"])
    if "of" not in found:
        return StorageSpec(f"#{number}", dtype, numel, nbytes, location, None, typed, swap)
    names = tuple(piece if type(piece) is str else str(piece["entry"]) for piece in found["of"])
    if any(owner.setdefault(name, names) != names for name in names) or len(set(names)) != len(names):
        raise _bad(f"storage {number} has entries that another storage has, or one twice")
    if names not in regions or not names:
        regions[names] = _region(number, found["of"], names, table, bound)
    region = regions[names]
    if region.nbytes != nbytes:
        raise _bad(f"storage {number} has {nbytes} bytes, and its entries have {region.nbytes}")
    return StorageSpec(names[0] if names else f"#{number}", dtype, numel, nbytes, location, region, typed, swap)


def _region(number: int, of: list[Any], names: tuple[str, ...], table: Mapping[str, TensorSpec], bound: Bound) -> Region:
    pieces = [_piece(number, piece, name, table) for piece, name in zip(of, names, strict=True)]
    total = sum(piece.nbytes for piece in pieces)
    plain = all(piece.stride is None for piece in pieces)
    if plain and all(left.offset + left.nbytes == right.offset for left, right in itertools.pairwise(pieces)):
        return Region(pieces[0].offset if pieces else 0, total, member=names[0] if names else None)
    whole = Whole(bound.size, total, tuple(pieces))
    bound.wholes.append(whole)
    bound.by_offset[whole.offset] = whole
    bound.size += total
    return Region(whole.offset, total, member=names[0])


def _piece(number: int, piece: Any, name: str, table: Mapping[str, TensorSpec]) -> Piece:
    spec = table.get(name)
    region = spec.storage.region if spec is not None else None
    if region is None:
        raise _bad(f"storage {number} is made of '{escape(name, 60)}', which is not in the file")
    if type(piece) is str:
        return Piece(region.offset, region.nbytes)
    shape, stride, size = tuple(piece["shape"]), tuple(piece["stride"]), piece["itemsize"]
    if prod(shape) * size != region.nbytes or not dense(shape, stride):
        raise _bad(f"'{escape(name, 60)}' is not in the order that storage {number} says")
    return Piece(region.offset, region.nbytes, size, shape, stride, piece.get("flip", ""), piece.get("real", size))


def restored_chunks(read: ReadAt, pieces: tuple[Piece, ...], chunk: int = _CHUNK) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the bytes of a storage from its entries, in the storage's own order.

    Args:
        read: Takes offset in the file and length.
        pieces: In the storage's order.
        chunk: Bytes that are read at once where they lie in that order.
    """
    for piece in pieces:
        if piece.stride is None:
            for start in range(0, piece.nbytes, chunk):
                yield read(piece.offset + start, min(chunk, piece.nbytes - start))
            continue
        shape, stride = inverse(piece.shape, piece.stride)

        def fetch(at: int, nbytes: int, piece: Piece = piece) -> bytes | bytearray | memoryview:
            data = read(piece.offset + at, nbytes)
            if piece.flip:
                data = bytearray(data)
                flip(data, piece.flip, piece.real)
            return data

        yield from gather(fetch, shape, stride, piece.itemsize)


class _Restored:
    """The bytes of a file, and behind its end those of storages that are put together."""

    def __init__(self, source: Source, bound: Bound) -> None:
        self._source = source
        self._wholes = bound.wholes
        self._starts = [whole.offset for whole in bound.wholes]
        self.size = bound.size
        self._lock = threading.Lock()
        self._made: dict[int, memoryview] = {}

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        """Fill `view`; a read never crosses from one storage to another."""
        if offset + len(view) <= self._source.size:
            # Kept by the source itself: a digest that is taken later goes over this very memory.
            self._source.readinto(offset, view, keep=keep)
            return len(view)
        index = bisect.bisect_right(self._starts, offset) - 1
        whole = self._wholes[index] if index >= 0 else None
        if whole is None or offset + len(view) > whole.offset + whole.nbytes:
            return 0
        data = self._bytes(whole)
        view[:] = data[offset - whole.offset : offset - whole.offset + len(view)]
        return len(view)

    def _bytes(self, whole: Whole) -> memoryview:
        with self._lock:
            if whole.offset not in self._made:
                out = bytearray(whole.nbytes)
                at = 0
                for piece in whole.pieces:
                    # Read through `view`, so that what is used here is what a later digest sees; at once, however small the runs are.
                    self._source.view(piece.offset, piece.nbytes)
                    for chunk in restored_chunks(self._source.view, (piece,)):
                        out[at : at + len(chunk)] = chunk
                        at += len(chunk)
                self._made[whole.offset] = memoryview(out)
            return self._made[whole.offset]

    def close(self) -> None:
        """The source belongs to whoever opened it."""


def restored(source: Source, bound: Bound) -> Source:
    """Return a source that also has the storages that are put together; `source` itself when there are none."""
    return Source(_Restored(source, bound), source.name) if bound.wholes else source
