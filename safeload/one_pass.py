"""One pass over a file's bytes, on several cores: read, CRC and leaf digests while a piece is in the cache.

`Source` calls it with the ranges that it holds or is about to hold. A leaf is the unit of work: a thread reads the parts of its
leaf that are still in the file straight into the memory that will keep them, and hashes them there. What no range covers is
read, hashed and forgotten.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from safeload.parallel import Crc, in_parallel, workers

__all__ = ["GRAIN", "Range", "run"]

GRAIN: Final = 4 << 20
"""Bytes of one unit of work where nobody wants leaves."""

STEP: Final = 1 << 19
"""Bytes that are read before they are hashed: they should still be in a core's own cache then."""

_WORTH_THREADS: Final = 4 << 20

Fetch = Callable[[int, memoryview], None]


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


def run(ranges: Sequence[Range], size: int, fetch: Fetch, *, leaf: int | None, only: Sequence[int] | None = None) -> list[bytes]:
    """Fill fresh ranges and take the SHA-256 of every leaf of the file.

    Args:
        ranges: In file order, without overlap.
        size: Bytes of the file.
        fetch: Fills a view from an offset, or raises. Called from several threads at once.
        leaf: Bytes of a leaf; None to fill only.
        only: Numbers of the leaves that are wanted; None for all.

    Returns:
        The digests, in order; nothing without `leaf`.

    Raises:
        SafeloadError: what `fetch` raises.
    """
    starts = [held.start for held in ranges]
    unit = leaf or GRAIN
    if leaf is None:
        wanted = sorted({unit_at for held in ranges if held.fresh for unit_at in _units(held, unit)})
    else:
        wanted = list(range(-(-size // unit))) if only is None else list(only)
    digests: list[bytes] = [b""] * (len(wanted) if leaf else 0)

    def work(index: int) -> None:
        begin = wanted[index] * unit
        hasher = hashlib.sha256() if leaf else None
        _one(ranges, starts, begin, min(begin + unit, size), fetch, hasher)
        if hasher is not None:
            digests[index] = hasher.digest()

    in_parallel(len(wanted), work, workers() if len(wanted) * unit > _WORTH_THREADS else 1)
    return digests


def _units(held: Range, unit: int) -> range:
    return range(held.start // unit, (held.start + len(held.view) - 1) // unit + 1) if held.view else range(0)


def _one(ranges: Sequence[Range], starts: list[int], begin: int, end: int, fetch: Fetch, hasher: hashlib._Hash | None) -> None:
    """Do one unit of work: the bytes of the file from `begin` to `end`."""
    at = max(0, bisect_right(starts, begin) - 1)
    position = begin
    while position < end:
        held = ranges[at] if at < len(ranges) else None
        if held is not None and held.start + len(held.view) <= position:
            at += 1
            continue
        if held is None or held.start > position:
            stop = end if held is None else min(end, held.start)
            if hasher is not None:
                _gap(position, stop, fetch, hasher)
            position = stop
            continue
        stop = min(end, held.start + len(held.view))
        part = held.view[position - held.start : stop - held.start]
        if not held.fresh:
            if hasher is not None:
                hasher.update(part)
        else:
            for first in range(0, len(part), STEP):
                piece = part[first : first + STEP]
                fetch(position + first, piece)
                if held.crc is not None:
                    held.crc.update(held.base + position + first - held.start, piece)
                if hasher is not None:
                    hasher.update(piece)
        position = stop


def _gap(begin: int, end: int, fetch: Fetch, hasher: hashlib._Hash) -> None:
    scratch = memoryview(bytearray(min(STEP, end - begin)))
    for position in range(begin, end, STEP):
        piece = scratch[: min(STEP, end - position)]
        fetch(position, piece)
        hasher.update(piece)
