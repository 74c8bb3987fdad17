"""Attributes: small named values of an object, in its header or, when there are many, in a fractal heap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.formats.hdf5.datatypes import Dataspace, Datatype, read_dataspace, read_datatype
from safeload.formats.hdf5.headers import Message, read_header
from safeload.formats.hdf5.heaps import FractalHeap
from safeload.formats.hdf5.space import Cursor, NotAnalysedError, Space, bad
from safeload.formats.hdf5.trees import records
from safeload.lean_dataclass import dataclass

__all__ = ["Attribute", "datatype_of", "read_attributes"]

DATATYPE, ATTRIBUTE, ATTRIBUTE_INFO = 0x03, 0x0C, 0x15
_ATTRIBUTES: Final = 200_000


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its name (hostile until escaped), what its elements are, how many, and their bytes."""

    name: str
    kind: Datatype
    dataspace: Dataspace
    data: memoryview


def datatype_of(space: Space, cursor: Cursor, *, shared: bool) -> Datatype:
    """Read a datatype message, or the named datatype that stands in its place.

    Raises:
        MalformedError: it is cut short, or leads to no datatype.
        NotAnalysedError: it lies in the file's table of shared messages.
    """
    if not shared:
        return read_datatype(cursor)
    version, kind = cursor.version(1, 2, 3), cursor.number(1)
    if version == 1:
        cursor.skip(6)
    elif version == 3 and kind == 1:
        raise NotAnalysedError("a datatype in the table of shared messages", where=f"@{cursor.start}").under("SL815")
    for message in read_header(space, cursor.address()):
        if message.kind == DATATYPE and not message.shared:
            return read_datatype(message.cursor)
    raise bad("a named datatype is no datatype", cursor.start)


def read_attributes(space: Space, messages: list[Message]) -> Iterator[Attribute | NotAnalysedError]:
    """Yield the attributes of an object; one that is not read as the error that says why.

    Raises:
        MalformedError: one is cut short, or there are too many.
    """
    for count, (cursor, shared) in enumerate(_places(space, messages)):
        if count >= _ATTRIBUTES:
            raise bad(f"an object of more than {_ATTRIBUTES} attributes")
        if shared:
            yield NotAnalysedError("an attribute in the table of shared messages", where=f"@{cursor.start}").under("SL815")
            continue
        try:
            yield _attribute(space, cursor)
        except NotAnalysedError as error:
            yield error


def _places(space: Space, messages: list[Message]) -> Iterator[tuple[Cursor, bool]]:
    for message in messages:
        if message.kind == ATTRIBUTE:
            yield message.cursor, message.shared
        elif message.kind == ATTRIBUTE_INFO:
            yield from _dense(space, message.cursor)


def _dense(space: Space, info: Cursor) -> Iterator[tuple[Cursor, bool]]:
    info.version(0)
    if info.number(1) & 1:
        info.skip(2)
    heap_at, index = info.address(), info.address()
    if heap_at == space.undefined:
        return
    heap = FractalHeap(space, heap_at)
    for record in records(space, index, 8):
        identity = record.take(heap.id_size)
        shared = bool(record.number(1) & 2)
        raw = memoryview(b"") if shared else heap.value(identity)
        yield Cursor(space, raw, record.start, "an attribute"), shared


def _attribute(space: Space, cursor: Cursor) -> Attribute:
    version, flags = cursor.version(1, 2, 3), cursor.number(1)
    sizes = [cursor.number(2) for _ in range(3)]
    if version == 3:
        cursor.skip(1)

    def part(size: int, what: str) -> Cursor:
        start = cursor.start + cursor.at
        data = cursor.take(size)
        if version == 1:
            cursor.skip(min(-size % 8, cursor.left))
        return Cursor(space, data, start, what)

    name = bytes(part(sizes[0], "an attribute's name").data).partition(b"\0")[0].decode("utf-8", "backslashreplace")
    shared = version > 1 and bool(flags & 1)
    kind = datatype_of(space, part(sizes[1], "an attribute's datatype"), shared=shared)
    if version > 1 and flags & 2:
        raise NotAnalysedError("a dataspace in the table of shared messages", where=f"@{cursor.start}").under("SL815")
    dataspace = read_dataspace(part(sizes[2], "an attribute's dataspace"))
    nbytes = dataspace.count * kind.size
    return Attribute(name, kind, dataspace, cursor.take(nbytes))
