"""The two kinds of B-tree: of version 1 for old groups and chunks, of version 2 for large groups and many attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.formats.hdf5.space import Cursor, Space, bad

__all__ = ["leaves", "records"]

_NODES: Final = 1 << 20
_DEPTH: Final = 64


def leaves(space: Space, address: int, kind: int, key_size: int) -> Iterator[tuple[memoryview, int]]:
    """Yield (key, address of the child) of every entry at level 0 of a tree of version 1, from left to right.

    Args:
        space: The file.
        address: Of the root.
        kind: 0 for a group, 1 for chunks.
        key_size: Bytes of a key.

    Raises:
        MalformedError: a node is cut short, stands there twice, or lies at the wrong level.
    """
    seen: set[int] = set()
    todo = [(address, -1)]
    what = "a B-tree's node"
    while todo:
        at, expected = todo.pop()
        if at in seen or len(seen) > _NODES:
            raise bad("a B-tree's node stands there twice, or there are too many", space.base + at)
        seen.add(at)
        cursor = space.cursor(at, 8, what)
        cursor.signature(b"TREE")
        found, level, count = cursor.number(1), cursor.number(1), cursor.number(2)
        if found != kind or expected not in (-1, level) or level > _DEPTH:
            raise bad(f"a B-tree's node of type {found} at level {level}", cursor.start)
        size = 8 + 2 * space.offset_size + count * (key_size + space.offset_size)
        cursor = space.cursor(at, size, what)
        cursor.skip(8 + 2 * space.offset_size)
        entries = [(cursor.take(key_size), cursor.address()) for _ in range(count)]
        if level:
            todo += [(child, level - 1) for _, child in reversed(entries)]
        else:
            yield from entries


def records(space: Space, address: int, *kinds: int) -> Iterator[Cursor]:
    """Yield every record of a tree of version 2.

    Args:
        space: The file.
        address: Of its header.
        kinds: The types that are expected.

    Raises:
        MalformedError: a node is cut short, stands there twice, or holds more records than it has room for.
        NotAnalysedError: a version that is not read.
    """
    cursor = space.cursor(address, 22 + space.offset_size + space.length_size, "a B-tree")
    cursor.signature(b"BTHD")
    cursor.version(0)
    kind, size, width, depth = cursor.number(1), cursor.number(4), cursor.number(2), cursor.number(2)
    cursor.skip(2)
    root, count, total = cursor.address(), cursor.number(2), cursor.length()
    cursor.sealed()
    if kind not in kinds or depth > _DEPTH or not width or size < 16 + width:
        raise bad(f"a B-tree of type {kind}, depth {depth}, {width} bytes a record", cursor.start)
    if root == space.undefined:
        return
    yield from _Tree(space, size, width, depth, total).walk(root, count)


class _Tree:
    """How many records each level may hold decides how wide the counts are that stand beside each child."""

    def __init__(self, space: Space, size: int, width: int, depth: int, total: int) -> None:
        self.space, self.size, self.width, self.depth, self.total = space, size, width, depth, total
        room = (size - 10) // width  # in a leaf: signature, version, type, checksum
        self.count_width = (room.bit_length() - 1) // 8 + 1
        most, self.total_widths = room, [0]
        for level in range(1, depth + 1):
            pointer = space.offset_size + self.count_width + self.total_widths[-1]
            inner = max(0, size - 10 - pointer) // (width + pointer)
            most = (inner + 1) * most + inner
            self.total_widths.append((max(1, most).bit_length() - 1) // 8 + 1 if level else 0)

    def walk(self, root: int, count: int) -> Iterator[Cursor]:
        """Yield the records below a node, those of inner nodes too."""
        seen: set[int] = set()
        todo = [(root, count, self.depth)]
        while todo:
            at, held, level = todo.pop()
            if at in seen or len(seen) > _NODES:
                raise bad("a B-tree's node stands there twice, or there are too many", self.space.base + at)
            seen.add(at)
            cursor = self._node(at, held, level)
            for _ in range(held):
                start = cursor.start + cursor.at
                yield Cursor(self.space, cursor.take(self.width), start, "a B-tree's record")
            if level:
                for _ in range(held + 1):
                    child, below = cursor.address(), cursor.number(self.count_width)
                    cursor.skip(self.total_widths[level - 1])
                    todo.append((child, below, level - 1))

    def _node(self, at: int, held: int, level: int) -> Cursor:
        pointer = self.space.offset_size + self.count_width + (self.total_widths[level - 1] if level else 0)
        used = 6 + held * self.width + ((held + 1) * pointer if level else 0)
        if used + 4 > self.size:
            raise bad(f"a B-tree's node of {held} records has room for fewer", self.space.base + at)
        cursor = self.space.cursor(at, used + 4, "a B-tree's node")
        cursor.skip(used)
        cursor.sealed()
        cursor.at = 0
        cursor.signature(b"BTIN" if level else b"BTLF")
        cursor.version(0)
        cursor.skip(1)
        return cursor
