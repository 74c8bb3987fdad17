"""What a group leads to: its links, as old groups and as new ones keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.formats.hdf5.headers import Message
from safeload.formats.hdf5.heaps import FractalHeap, local_heap
from safeload.formats.hdf5.space import Cursor, Space, bad
from safeload.formats.hdf5.trees import leaves, records
from safeload.lean_dataclass import dataclass

__all__ = ["Link", "read_links"]

LINK_INFO, LINK, SYMBOL_TABLE = 0x02, 0x06, 0x11
_SOFT: Final = 2
_LINKS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Link:
    """One name in a group.

    Attributes:
        name: Decoded; hostile until escaped.
        address: Of the object's header, for a hard link; else None.
        target: For a soft link the path, for an external one "file:path"; else None.
        kind: "hard", "soft", "external" or "user-defined".
    """

    name: str
    address: int | None = None
    target: str | None = None
    kind: str = "hard"


def read_links(space: Space, messages: list[Message]) -> Iterator[Link]:
    """Yield the links of a group; of anything else there are none.

    Raises:
        MalformedError: a structure is cut short, or leads back to itself.
        NotAnalysedError: a structure that is not read.
    """
    for count, link in enumerate(_links(space, messages)):
        if count >= _LINKS:
            raise bad(f"a group of more than {_LINKS} links")
        yield link


def _links(space: Space, messages: list[Message]) -> Iterator[Link]:
    for message in messages:
        if message.kind == SYMBOL_TABLE:
            yield from _old(space, message.cursor.address(), message.cursor.address())
        elif message.kind == LINK:
            yield _link(message.cursor)
        elif message.kind == LINK_INFO:
            yield from _dense(space, message.cursor)


def _text(raw: memoryview | bytes) -> str:
    return bytes(raw).decode("utf-8", "backslashreplace")


# ---- old groups: a B-tree over symbol nodes, names in a local heap


def _old(space: Space, tree: int, heap_at: int) -> Iterator[Link]:
    heap = local_heap(space, heap_at)
    for _, node in leaves(space, tree, 0, space.length_size):
        yield from _symbols(space, node, heap)


def _symbols(space: Space, address: int, heap: memoryview) -> Iterator[Link]:
    """The entries of one symbol node."""
    what = "a symbol node"
    cursor = space.cursor(address, 8, what)
    cursor.signature(b"SNOD")
    cursor.version(1)
    cursor.skip(1)
    count = cursor.number(2)
    cursor = space.cursor(address, 8 + count * (2 * space.offset_size + 24), what)
    cursor.skip(8)
    for _ in range(count):
        name, header, kind = cursor.address(), cursor.address(), cursor.number(4)
        cursor.skip(4)
        scratch = cursor.take(16)
        if kind == _SOFT:
            yield Link(_at(heap, name, cursor.start), target=_at(heap, int.from_bytes(scratch[:4], "little"), cursor.start), kind="soft")
        else:
            yield Link(_at(heap, name, cursor.start), header)


def _at(heap: memoryview, offset: int, where: int) -> str:
    """A name in a local heap, up to its NUL."""
    step = 64
    while offset < len(heap):
        piece = bytes(heap[offset : offset + step])
        end = piece.find(0)
        if end >= 0:
            return _text(piece[:end])
        if len(piece) < step:
            break
        step *= 8
    raise bad(f"a name at byte {offset} of a local heap of {len(heap)} bytes has no end", where)


# ---- new groups: links as messages, in the header or in a fractal heap


def _dense(space: Space, info: Cursor) -> Iterator[Link]:
    info.version(0)
    if info.number(1) & 1:
        info.skip(8)
    heap_at, index = info.address(), info.address()
    if heap_at == space.undefined:
        return
    heap = FractalHeap(space, heap_at)
    for record in records(space, index, 5):
        record.skip(4)
        raw = heap.value(record.take(heap.id_size))
        yield _link(Cursor(space, raw, record.start, "a link"))


def _link(cursor: Cursor) -> Link:
    cursor.version(1)
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 8 else 0
    cursor.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = _text(cursor.take(cursor.number(1 << (flags & 3))))
    if kind == 0:
        return Link(name, cursor.address())
    data = Cursor(cursor.space, cursor.take(cursor.number(2)), cursor.start, "a link's target")
    if kind == 1:
        return Link(name, target=_text(data.data), kind="soft")
    if kind == 64:
        data.skip(1)
        return Link(name, target=f"{_text(data.text())}:{_text(data.text())}", kind="external")
    return Link(name, target=f"of type {kind}", kind="user-defined")
