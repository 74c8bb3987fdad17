"""Ranges of an output that are ranges of a source: compared on all cores, in the very pass that hashes the output."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence
from typing import Final

from safeload.conversion.storages import Piece
from safeload.errors import UnsupportedError
from safeload.lean_dataclass import dataclass
from safeload.parallel import in_parallel, workers
from safeload.program import StorageSpec
from safeload.source import Source
from safeload.trust.digest import tree_digest

__all__ = ["Alike", "NotTheSameError", "compare_ranges", "ranges_of"]

_UNIT: Final = 4 << 20
_STEP: Final = 1 << 17
_WORTH_THREADS: Final = 4 << 20


class NotTheSameError(UnsupportedError):
    """An output does not hold what its source holds. It is a defect of ours, or of the disk; nothing was left behind."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Bytes that must be the same in two files.

    Attributes:
        start: Where they begin in the output.
        nbytes: How many.
        source: What they were copied from.
        at: Where they begin there.
        what: For messages.
    """

    start: int
    nbytes: int
    source: Source
    at: int
    what: str


def ranges_of(root: StorageSpec, pieces: Sequence[Piece], source: Source, what: str) -> list[Alike] | None:
    """The ranges of one storage, when all of its entries are plain ranges of it.

    Args:
        root: A storage whose bytes lie in the source as they are.
        pieces: Its entries, in its order.
        source: The file that it lies in.
        what: For messages.
    """
    region, at = root.region, 0
    found = []
    for piece in pieces:
        if piece.stride is not None or piece.flip or region is None:
            return None
        found.append(Alike(piece.offset, piece.nbytes, source, region.offset + at, what))
        at += piece.nbytes
    if region is None or at != region.nbytes:
        raise NotTheSameError(f"{what}: its entries have {at} bytes")
    return found


class _Comparing:
    """The bytes of an output; whatever is read of it is compared with what it must be."""

    def __init__(self, output: Source, ranges: Sequence[Alike]) -> None:
        self.size = output.size
        self.compared = 0
        self._output = output
        self._ranges = sorted(ranges, key=lambda one: one.start)
        self._starts = [one.start for one in self._ranges]
        self._lock = threading.Lock()
        self._own = threading.local()

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        """Fill `view`, as a `Source` asks for it.

        Raises:
            NotTheSameError: with the place of a difference.
        """
        self._output.readinto(offset, view, keep=False)
        end, compared = offset + len(view), 0
        index = max(0, bisect.bisect_right(self._starts, offset) - 1)
        while index < len(self._ranges) and self._starts[index] < end:
            one = self._ranges[index]
            low, high = max(one.start, offset), min(one.start + one.nbytes, end)
            if low < high:
                self._compare(one, low, view[low - offset : high - offset])
                compared += high - low
            index += 1
        with self._lock:
            self.compared += compared
        return len(view)

    def _compare(self, one: Alike, low: int, found: memoryview) -> None:
        wanted: bytearray = getattr(self._own, "wanted", bytearray())
        if len(wanted) != len(found):
            wanted = self._own.wanted = bytearray(len(found))
        place = low - one.start
        one.source.readinto(one.at + place, memoryview(wanted), keep=False)
        # A byte array is compared with a view at once, two views item by item.
        if wanted != found:
            raise NotTheSameError(f"{one.what}: bytes differ between {place} and {place + len(found)}")

    def close(self) -> None:
        """The output is closed by whoever opened it."""


def compare_ranges(output: Source, ranges: Sequence[Alike], *, digest: bool) -> str:
    """Compare ranges of one file with what they must be, each byte once.

    Args:
        output: The file.
        ranges: Without overlap.
        digest: Also read everything else, and hash all of it.

    Returns:
        The `sha256-tree` of the file, or "".

    Raises:
        NotTheSameError: with the place of a difference.
    """
    comparing = _Comparing(output, ranges)
    tree = tree_digest(Source(comparing, output.name)) if digest else ""
    if not digest:
        units = [(one.start + at, min(_UNIT, one.nbytes - at)) for one in ranges for at in range(0, one.nbytes, _UNIT)]

        def unit(index: int) -> None:
            start, nbytes = units[index]
            scratch = memoryview(bytearray(min(_STEP, nbytes)))
            for at in range(0, nbytes, _STEP):
                comparing.into(start + at, scratch[: min(_STEP, nbytes - at)])

        in_parallel(len(units), unit, workers() if len(units) * _UNIT > _WORTH_THREADS else 1)
    wanted = sum(one.nbytes for one in ranges)
    if comparing.compared != wanted:
        raise NotTheSameError(f"{comparing.compared} bytes were compared, and {wanted} were to be")
    return tree
