"""Reads from a pinned file that prove themselves leaf by leaf: what `safeload.open` and its tensors stand on.

The list of leaves comes from the cache, where it proves itself by giving the pinned `sha256-tree`, or from one pass over the
file. With the list, only what is used is hashed: at once, everything that was parsed; with a tensor, its own leaves and those of the
header that says where it lies.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from safeload.errors import PinError
from safeload.formats import Contents
from safeload.source import Source
from safeload.trust.digest import LEAF_BYTES

if TYPE_CHECKING:
    from safeload.gate import Gate

__all__ = ["Verified"]

_KEPT_LEAVES: Final = 8  # tensors that are asked for one after the other mostly share leaves


class Verified:
    """Verified reads of one source.

    Args:
        source: The file.
        leaves: The digest of each leaf, proved against the pin.
        starts: Where stored storages begin, in file order.
        ends: Where they end.
    """

    def __init__(self, source: Source, leaves: list[bytes], starts: list[int], ends: list[int]) -> None:
        self._source = source
        self._leaves = leaves
        self._starts, self._ends = starts, ends
        self._checked: set[int] = set()
        self._kept: OrderedDict[int, memoryview] = OrderedDict()

    @classmethod
    def of(cls, source: Source, contents: Contents, gate: Gate) -> Verified:
        """Get the list of leaves for a pinned file, and check what was parsed so far.

        Raises:
            PinError: the file, or what was read of it, is not what the pin says.
        """
        from safeload.lockfile import require_match
        from safeload.trust.cache import read_leaves, write_leaves

        regions = {spec.region for spec in contents.storages if spec.region is not None and spec.region.packed is None}
        places = sorted((region.offset, region.offset + region.nbytes) for region in regions)
        starts, ends = [first for first, _ in places], [last for _, last in places]
        pin = gate.pin
        tree = pin.file.sha256_tree if pin is not None else None
        listed = read_leaves(source.size, tree) if tree is not None else None
        if listed is None or pin is None:
            # The source hashes what it has handed out as it was handed out, so all that was parsed is covered.
            gate.match()
            leaves = source.leaves(LEAF_BYTES)
            if tree is not None:
                write_leaves(tree, leaves)
            return cls(source, leaves, starts, ends)
        require_match(
            pin, size=source.size, sha256=pin.file.sha256, format=gate.report.format, globals=gate.report.globals, where=source.name
        )
        made = cls(source, listed, starts, ends)
        made.check(_touched(_parsed(source, contents, starts, ends)))
        return made

    def check(self, wanted: list[int]) -> None:
        """Compare the leaves with these numbers as the source has them: what was read of them, and the rest from the file.

        Raises:
            PinError: one is another than the pinned one.
        """
        todo = [index for index in wanted if index not in self._checked]
        for index, found in zip(todo, self._source.some_leaves(LEAF_BYTES, todo), strict=True):
            self._compare(index, found)
        self._checked.update(todo)

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset` with verified bytes.

        Raises:
            PinError: a leaf that it touches, or that its header lies in, is not the pinned one.
        """
        end = offset + len(view)
        touched = range(offset // LEAF_BYTES, -(-end // LEAF_BYTES)) if view else range(0)
        fresh: dict[int, memoryview] = {}
        shared: dict[int, memoryview] = {}  # leaves that have bytes of others too
        for index in touched:
            start, stop = self._bounds(index)
            if offset <= start and stop <= end:  # a whole leaf is read to where it is wanted, and hashed there
                fresh[index] = view[start - offset : stop - offset]
            elif index in self._kept:
                shared[index] = self._kept[index]
            else:
                fresh[index] = shared[index] = memoryview(bytearray(stop - start))
        wanted = sorted({*fresh, *(index for index in self._header(offset) if index not in shared)})
        parts = [(index * LEAF_BYTES, part) for index, part in fresh.items()]
        for index, found in zip(wanted, self._source.leaves_into(LEAF_BYTES, wanted, parts), strict=True):
            self._compare(index, found)
        self._checked.update(wanted)
        for index, leaf in shared.items():
            start, stop = self._bounds(index)
            low, high = max(start, offset), min(stop, end)
            view[low - offset : high - offset] = leaf[low - start : high - start]
            self._keep(index, leaf)

    def _bounds(self, index: int) -> tuple[int, int]:
        return index * LEAF_BYTES, min((index + 1) * LEAF_BYTES, self._source.size)

    def _keep(self, index: int, leaf: memoryview) -> None:
        self._kept[index] = leaf
        while len(self._kept) > _KEPT_LEAVES:
            self._kept.popitem(last=False)

    def _header(self, offset: int) -> list[int]:
        """What stands between a storage and the one before it said where it begins: the leaves of what was read of that, if unchecked."""
        at = bisect_right(self._starts, offset) - 1
        if at <= 0:
            return []
        low, high = self._ends[at - 1], self._starts[at]
        held = self._source.held()
        parts = [part for part in held[_first_behind(held, low) :] if part[0] < high]
        return [index for index in _touched(parts) if index not in self._checked]

    def _compare(self, index: int, found: bytes) -> None:
        if found != self._leaves[index]:
            start, stop = self._bounds(index)
            raise PinError(
                f"bytes {start} to {stop} are not those of the pinned file",
                where=self._source.name,
                expected=f"sha256:{self._leaves[index].hex()}",
                found=f"sha256:{found.hex()}",
            ).under("SL601")


def _first_behind(held: list[tuple[int, int]], low: int) -> int:
    """The index of the first range that begins at or behind `low`, or reaches over it."""
    at = bisect_left(held, (low, 0))
    return at - 1 if at and held[at - 1][0] + held[at - 1][1] > low else at


def _touched(ranges: list[tuple[int, int]]) -> list[int]:
    """The numbers of all leaves that ranges touch."""
    found: set[int] = set()
    for start, nbytes in ranges:
        if nbytes:
            found.update(range(start // LEAF_BYTES, (start + nbytes - 1) // LEAF_BYTES + 1))
    return sorted(found)


def _parsed(source: Source, contents: Contents, starts: list[int], ends: list[int]) -> list[tuple[int, int]]:
    """What was read and must be right before anything is believed.

    All of it, but for local headers of a torch archive that lie alone between two storages: those matter to the second one only, and
    are checked with it, because each of them lies in another leaf of a large file.
    """
    held = source.held()
    archive = source.parsed.get("zip")
    if contents.format != "torch-zip" or archive is None:
        return held
    storages = set(starts)
    others = sorted(member.region.offset for member in archive.members if member.region.offset not in storages)
    found = []
    for start, nbytes in held:
        at = bisect_right(starts, start) - 1
        # A header is read with some bytes of the storage behind it, which are then used from there.
        alone = 0 <= at < len(starts) - 1 and ends[at] <= start and start + nbytes <= ends[at + 1]
        if not alone or bisect_left(others, ends[at]) != bisect_left(others, starts[at + 1]):
            found.append((start, nbytes))
    return found
