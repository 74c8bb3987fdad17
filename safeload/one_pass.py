"""One pass over a file's bytes, on several cores: read, CRC and leaf digests while a piece is in the cache.

`Source` calls it with the ranges that it holds or is about to hold. A group of leaves is the unit of work: a thread
reads a piece of each of its leaves straight into the memory that will keep it, and hashes the pieces side by side. What no range covers is
read, hashed and forgotten.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from safeload.lean_dataclass import dataclass, field
from safeload.parallel import Crc, in_parallel, workers

if TYPE_CHECKING:
    from safeload.hashing.fingerprint import Fingerprint

__all__ = ["GRAIN", "Range", "Share", "run"]

GRAIN: Final = 4 << 20
"""Bytes of one unit of work where nobody wants leaves."""

STEP: Final = 1 << 17
"""Bytes of a leaf that are read before they are hashed: those of all lanes should still be in a core's own cache then."""

_FILL_STEP: Final = 1 << 19  # likewise, where only a CRC is taken
_WORTH_THREADS: Final = 4 << 20

Fetch = Callable[[int, memoryview, bool], None]
"""Fills a view from an offset; told whether the view stays, as a part of the snapshot, or is used again for something else."""


@dataclass(slots=True)
class Range:
    """Bytes of the file in memory.

    Attributes:
        start: Where they begin in the file.
        view: The memory.
        fresh: They have to be read into it first; else they are there.
        crc: Takes the CRC of fresh bytes, or None.
        base: Where in `crc`'s range the view begins.
    """

    start: int
    view: memoryview
    fresh: bool = False
    crc: Crc | None = None
    base: int = 0


@dataclass(slots=True)
class Share:
    """One process' share of the leaves of a file that several processes load.

    Attributes:
        first: The number of the first leaf that this process hashes.
        last: The first one behind them.
        key: For the fingerprints of all leaves, as `hashing.fingerprint.key_of` makes it.
        fingerprints: Of every leaf as it is in this process' memory, once the pass was made.
    """

    first: int
    last: int
    key: bytes
    fingerprints: dict[int, bytes] = field(default_factory=dict)


def run(
    ranges: Sequence[Range], size: int, fetch: Fetch, *, leaf: int | None, only: Sequence[int] | None = None, share: Share | None = None
) -> list[bytes]:
    """Fill fresh ranges and take the SHA-256 of every leaf of the file.

    Args:
        ranges: In file order, without overlap.
        size: Bytes of the file.
        fetch: See `Fetch`; may raise. Called from several threads at once.
        leaf: Bytes of a leaf; None to fill only.
        only: Numbers of the leaves that are wanted; None for all.
        share: Hash these leaves alone, and take the fingerprints of all; without `only`.

    Returns:
        The digests, in order; nothing without `leaf`. With `share`, those of its leaves.

    Raises:
        SafeloadError: what `fetch` raises.
    """
    starts = [held.start for held in ranges]
    work = _Work(ranges, starts, size, fetch)
    if leaf is None:
        units = sorted({unit_at for held in ranges if held.fresh for unit_at in _units(held, GRAIN)})
        threads = workers() if len(units) * GRAIN > _WORTH_THREADS else 1
        in_parallel(len(units), lambda index: work.fill(units[index] * GRAIN, GRAIN), threads)
        return []
    from safeload.hashing import width  # whoever only fills does not pay for it

    wanted = list(range(-(-size // leaf))) if only is None else list(only)
    threads = workers() if len(wanted) * leaf > _WORTH_THREADS else 1
    others: list[int] = []
    if share is not None:
        others = [number for number in wanted if not share.first <= number < share.last]
        wanted = wanted[share.first : share.last]
    together = max(1, min(width(), -(-len(wanted) // threads)))
    digests: list[bytes] = []
    groups = [wanted[at : at + together] for at in range(0, len(wanted), together)]
    found: list[list[bytes]] = [[] for _ in groups]

    def group(index: int) -> None:
        if index >= len(groups):
            work.compared(others[index - len(groups)], leaf)
        else:
            found[index] = work.leaves([number * leaf for number in groups[index]], leaf)

    work.share = share
    in_parallel(len(groups) + len(others), group, threads)
    for part in found:
        digests += part
    return digests


def _units(held: Range, unit: int) -> range:
    return range(held.start // unit, (held.start + len(held.view) - 1) // unit + 1) if held.view else range(0)


@dataclass(slots=True)
class _Work:
    """The ranges of one pass, and how bytes that are in none of them are had."""

    ranges: Sequence[Range]
    starts: list[int]
    size: int
    fetch: Fetch
    share: Share | None = None

    def fill(self, begin: int, nbytes: int) -> None:
        """Read what is fresh of the file's bytes from `begin` on, and nothing else."""
        end = min(begin + nbytes, self.size)
        for start in range(begin, end, _FILL_STEP):
            for _ in self._parts(start, min(start + _FILL_STEP, end), gaps=False):
                pass

    def leaves(self, begins: list[int], leaf: int) -> list[bytes]:
        """Return the SHA-256 of the leaves that begin there, hashed side by side.

        A leaf that is cut off by the file's end has another length than the others, and is hashed behind them.
        """
        from safeload.hashing import BLOCK, lanes

        whole = [begin for begin in begins if begin + leaf <= self.size] if leaf % BLOCK == 0 else []
        digests: dict[int, bytes] = {}
        hashers = lanes(len(whole)) if whole else None
        scratch = [memoryview(bytearray())] * len(whole)
        seen = [self._fingerprint() for _ in whole]
        for at in range(0, leaf if hashers is not None else 0, STEP):
            windows = []
            for lane, begin in enumerate(whole):
                window, scratch[lane] = self._window(begin + at, min(STEP, leaf - at), scratch[lane])
                windows.append(window)
                if (fingerprint := seen[lane]) is not None:
                    fingerprint.update(window)
            if hashers is not None:
                hashers.update(windows, min(STEP, leaf - at))
        if hashers is not None:
            digests.update(zip(whole, hashers.digests(), strict=True))
        for begin, fingerprint in zip(whole, seen, strict=True):
            self._saw(begin // leaf, fingerprint)
        for begin in begins:
            if begin not in digests:
                digests[begin] = self._alone(begin, min(begin + leaf, self.size), leaf)
        return [digests[begin] for begin in begins]

    def _alone(self, begin: int, end: int, leaf: int) -> bytes:
        import hashlib

        hasher, fingerprint = hashlib.sha256(), self._fingerprint()
        scratch = memoryview(bytearray())
        for start in range(begin, end, STEP):
            part, scratch = self._window(start, min(STEP, end - start), scratch)
            hasher.update(part)
            if fingerprint is not None:
                fingerprint.update(part)
        self._saw(begin // leaf, fingerprint)
        return hasher.digest()

    def compared(self, number: int, leaf: int) -> None:
        """Read what is fresh of a leaf that another process hashes, and take its fingerprint."""
        begin, end = number * leaf, min((number + 1) * leaf, self.size)
        fingerprint, scratch = self._fingerprint(), memoryview(bytearray())
        for start in range(begin, end, STEP):
            part, scratch = self._window(start, min(STEP, end - start), scratch)
            if fingerprint is not None:
                fingerprint.update(part)
        self._saw(number, fingerprint)

    def _fingerprint(self) -> Fingerprint | None:
        if self.share is None:
            return None
        from safeload.hashing.fingerprint import Fingerprint

        return Fingerprint(self.share.key)

    def _saw(self, number: int, fingerprint: Fingerprint | None) -> None:
        if self.share is not None and fingerprint is not None:
            self.share.fingerprints[number] = fingerprint.value()

    def _window(self, begin: int, nbytes: int, scratch: memoryview) -> tuple[memoryview, memoryview]:
        """Return bytes of the file in one piece, and the scratch memory that was made for it where no range has just those."""
        if not self._touched(begin, begin + nbytes):
            scratch = scratch or memoryview(bytearray(STEP))
            self.fetch(begin, scratch[:nbytes], False)
            return scratch[:nbytes], scratch
        parts = list(self._parts(begin, begin + nbytes))
        if len(parts) == 1:
            return parts[0], scratch
        if not scratch:
            scratch = memoryview(bytearray(STEP))
        at = 0
        for part in parts:
            scratch[at : at + len(part)] = part
            at += len(part)
        return scratch[:nbytes], scratch

    def _touched(self, begin: int, end: int) -> bool:
        """Whether a range has any of these bytes."""
        at = bisect_right(self.starts, begin) - 1
        if at >= 0 and self.ranges[at].start + len(self.ranges[at].view) > begin:
            return True
        return at + 1 < len(self.starts) and self.starts[at + 1] < end

    def _parts(self, begin: int, end: int, *, gaps: bool = True) -> Iterator[memoryview]:
        """Yield the file's bytes from `begin` to `end`; what is fresh is read first, and its CRC taken.

        Args:
            begin: Where.
            end: Likewise; what no range holds is taken into memory as one piece.
            gaps: Also read, and yield, what no range holds.
        """
        ranges, fetch = self.ranges, self.fetch
        at = max(0, bisect_right(self.starts, begin) - 1)
        position = begin
        while position < end:
            held = ranges[at] if at < len(ranges) else None
            if held is not None and held.start + len(held.view) <= position:
                at += 1
                continue
            if held is None or held.start > position:
                stop = end if held is None else min(end, held.start)
                if gaps:
                    part = memoryview(bytearray(stop - position))
                    fetch(position, part, False)
                    yield part
                position = stop
                continue
            stop = min(end, held.start + len(held.view))
            part = held.view[position - held.start : stop - held.start]
            if held.fresh:
                fetch(position, part, True)
                if held.crc is not None:
                    held.crc.update(held.base + position - held.start, part)
            if gaps or held.fresh:
                yield part
            position = stop
