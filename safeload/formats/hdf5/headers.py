"""Object headers: the list of messages of which a group, a dataset or a named datatype consists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.formats.hdf5.space import Cursor, Space, bad
from safeload.lean_dataclass import dataclass

__all__ = ["Message", "read_header"]

_CONTINUATION: Final = 0x10
_MESSAGES: Final = 200_000
_BLOCKS: Final = 20_000
_WHAT: Final = "an object header"


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        kind: Its type's number.
        flags: Bit 1: the message lies elsewhere, and what stands here says where.
        cursor: Its bytes.
    """

    kind: int
    flags: int
    cursor: Cursor

    @property
    def shared(self) -> bool:
        """Whether its bytes say where the message lies."""
        return bool(self.flags & 2)


def read_header(space: Space, address: int) -> list[Message]:
    """Return all messages of an object, from all of its blocks.

    Raises:
        MalformedError: a block lies outside the file, is cut short, or follows itself.
        NotAnalysedError: a version that is not read.
    """
    newer = bytes(space.view(address, 4, _WHAT)) == b"OHDR"
    flags, first = _newer_start(space, address) if newer else (0, _older_start(space, address))
    found: list[Message] = []
    todo, seen = [first], {first.start}
    while todo:
        for message in _messages(todo.pop(), flags if newer else None):
            if message.kind != _CONTINUATION:
                found.append(message)
                continue
            at, size = message.cursor.address(), message.cursor.length()
            block = _newer_block(space, at, size) if newer else space.cursor(at, size, _WHAT)
            if block.start in seen or len(seen) > _BLOCKS:
                raise bad("a block of an object header follows itself", block.start)
            seen.add(block.start)
            todo.append(block)
        if len(found) > _MESSAGES:
            raise bad(f"an object of more than {_MESSAGES} messages", first.start)
    return found


def _older_start(space: Space, address: int) -> Cursor:
    """The first block of a header of version 1."""
    cursor = space.cursor(address, 16, _WHAT)
    cursor.version(1)
    cursor.skip(7)
    return space.cursor(address + 16, cursor.number(4), _WHAT)


def _newer_start(space: Space, address: int) -> tuple[int, Cursor]:
    """The flags and the first block of a header of version 2."""
    cursor = space.within(address, 6 + 16 + 4 + 8, _WHAT)
    cursor.signature(b"OHDR")
    cursor.version(2)
    flags = cursor.number(1)
    cursor.skip((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    size = cursor.number(1 << (flags & 3))
    return flags, _sealed(space, address, cursor.at, cursor.at + size + 4)


def _newer_block(space: Space, address: int, size: int) -> Cursor:
    """A block that continues a header of version 2."""
    space.cursor(address, 4, _WHAT).signature(b"OCHK")
    return _sealed(space, address, 4, size)


def _sealed(space: Space, address: int, front: int, size: int) -> Cursor:
    """What lies between the front of a block and its checksum, which must be right."""
    block = space.cursor(address, size, _WHAT)
    if size < front + 4:
        raise bad(f"a block of an object header has {size} bytes", block.start)
    block.skip(size - 4)
    block.sealed()
    return Cursor(space, block.data[front : size - 4], block.start + front, _WHAT)


def _messages(block: Cursor, flags: int | None) -> Iterator[Message]:
    """The messages of one block; `flags` are those of a newer header, None for an older one."""
    order = 2 if flags is not None and flags & 4 else 0
    while block.left >= (8 if flags is None else 4 + order):
        if flags is None:
            kind, size, own = block.number(2), block.number(2), block.number(1)
            block.skip(3)
        else:
            kind, size, own = block.number(1), block.number(2), block.number(1)
            block.skip(order)
        start = block.start + block.at
        yield Message(kind, own, Cursor(block.space, block.take(size), start, f"message {kind:#04x} of an object header"))
