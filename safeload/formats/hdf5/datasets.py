"""Where the elements of a dataset lie: in the header, in one piece, in chunks, or in other files."""

from __future__ import annotations

from typing import Final

from safeload.formats.hdf5.headers import Message
from safeload.formats.hdf5.heaps import GlobalHeaps, local_heap
from safeload.formats.hdf5.space import Cursor, NotAnalysedError, Space, bad
from safeload.lean_dataclass import dataclass, field

__all__ = ["Filter", "Layout", "external_files", "read_filters", "read_layout", "virtual_sources"]

COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)
_RANK: Final = 33
_FILES: Final = 10_000
_FILTERS: Final = 32  # as the library's own bound


@dataclass(frozen=True, slots=True)
class Filter:
    """One step through which chunks go: its registered number, its name as far as the file has it, its parameters."""

    number: int
    name: str
    values: tuple[int, ...] = ()


@dataclass(slots=True)
class Layout:
    """Where the elements lie.

    Attributes:
        kind: COMPACT, CONTIGUOUS, CHUNKED or VIRTUAL.
        data: For a compact one, the bytes.
        address: Of the bytes, or of the chunks' index; None where nothing was written.
        nbytes: For a contiguous one.
        chunk: Elements of a chunk per dimension, and at last bytes of an element.
        index: For chunks, the index's name.
        heap: For a virtual one: address and number of its description in the global heap.
    """

    kind: int
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    address: int | None = None
    nbytes: int = 0
    chunk: tuple[int, ...] = ()
    index: str = ""
    heap: tuple[int, int] | None = None


def read_layout(cursor: Cursor) -> Layout:
    """Read a data layout message.

    Raises:
        MalformedError: it is cut short.
        NotAnalysedError: a version or kind that is not read.
    """
    version = cursor.version(1, 2, 3, 4, 5)
    if version < 3:
        return _old(cursor)
    kind = cursor.number(1)
    if kind == COMPACT:
        return Layout(kind, data=cursor.take(cursor.number(2)))
    if kind == CONTIGUOUS:
        address, nbytes = cursor.address(), cursor.length()
        return Layout(kind, address=_defined(cursor, address), nbytes=nbytes)
    if kind == VIRTUAL and version > 3:
        return Layout(kind, heap=(cursor.address(), cursor.number(4)))
    if kind != CHUNKED:
        raise NotAnalysedError(f"a data layout of kind {kind}", where=f"@{cursor.start}").under("SL815")
    if version == 3:
        rank = cursor.number(1)
        address = cursor.address()
        return Layout(kind, address=_defined(cursor, address), chunk=_numbers(cursor, rank, 4), index="tree")
    return _newer_chunks(cursor)


def _newer_chunks(cursor: Cursor) -> Layout:
    flags, rank, width = cursor.number(1), cursor.number(1), cursor.number(1)
    chunk = _numbers(cursor, rank, width)
    kind = cursor.number(1)
    if kind == 1:  # one chunk
        nbytes = 0
        if flags & 2:
            nbytes = cursor.length()
            cursor.skip(4)
        return Layout(CHUNKED, address=_defined(cursor, cursor.address()), nbytes=nbytes, chunk=chunk, index="single")
    names = {2: "implicit", 3: "fixed array", 4: "extensible array", 5: "B-tree"}
    if kind not in names:
        return Layout(CHUNKED, chunk=chunk, index=f"of kind {kind}")
    cursor.skip({2: 0, 3: 1, 4: 5, 5: 6}[kind])
    return Layout(CHUNKED, address=_defined(cursor, cursor.address()), chunk=chunk, index=names[kind])


def _old(cursor: Cursor) -> Layout:
    rank, kind = cursor.number(1), cursor.number(1)
    cursor.skip(5)
    address = cursor.address() if kind != COMPACT else None
    sizes = _numbers(cursor, rank, 4)
    if kind == COMPACT:
        return Layout(kind, data=cursor.take(cursor.number(4)))
    if kind == CONTIGUOUS:
        return Layout(kind, address=_defined(cursor, address), nbytes=-1)
    if kind != CHUNKED:
        raise NotAnalysedError(f"a data layout of kind {kind}", where=f"@{cursor.start}").under("SL815")
    return Layout(kind, address=_defined(cursor, address), chunk=sizes, index="tree")


def _defined(cursor: Cursor, address: int | None) -> int | None:
    return None if address == cursor.space.undefined else address


def _numbers(cursor: Cursor, count: int, width: int) -> tuple[int, ...]:
    if count > _RANK or width > 8:
        raise bad(f"a data layout of {count} dimensions, {width} bytes each", cursor.start)
    return tuple(cursor.number(width) for _ in range(count))


def read_filters(cursor: Cursor) -> list[Filter]:
    """Read a filter pipeline message. Nothing is put through it here.

    Raises:
        MalformedError: it is cut short.
        NotAnalysedError: a version that is not read.
    """
    version, count = cursor.version(1, 2), cursor.number(1)
    if count > _FILTERS:
        raise bad(f"{count} filters", cursor.start)
    if version == 1:
        cursor.skip(6)
    found = []
    for _ in range(count):
        number = cursor.number(2)
        named = version == 1 or number >= 256
        length = cursor.number(2) if named else 0
        cursor.skip(2)
        values = cursor.number(2)
        name = bytes(cursor.take(length)).partition(b"\0")[0].decode("utf-8", "backslashreplace")
        if version == 1:
            cursor.skip(-length % 8)
        found.append(Filter(number, name, tuple(cursor.number(4) for _ in range(values))))
        if version == 1 and values % 2:
            cursor.skip(4)
    return found


def external_files(space: Space, message: Message) -> list[str]:
    """Return the names of the files in which a dataset's bytes lie.

    Raises:
        MalformedError: the list is cut short.
        NotAnalysedError: a version that is not read.
    """
    cursor = message.cursor
    cursor.version(1)
    cursor.skip(5)
    used = cursor.number(2)
    heap = local_heap(space, cursor.address())
    found = []
    for _ in range(min(used, _FILES)):
        name = Cursor(space, heap, cursor.start, "a list of external files")
        name.skip(cursor.length())
        cursor.skip(2 * space.length_size)
        found.append(name.text().decode("utf-8", "backslashreplace"))
    return found


def virtual_sources(heaps: GlobalHeaps, layout: Layout) -> list[tuple[str, str]]:
    """Return (file, dataset) of the sources of a virtual dataset; "." is the file itself.

    Only the first source is sure to be found: what lies between two of them is a selection, which is not read here.

    Raises:
        MalformedError: the description is cut short.
        NotAnalysedError: a version that is not read.
    """
    if layout.heap is None or layout.heap[0] == heaps.space.undefined:
        return []
    cursor = Cursor(heaps.space, heaps.value(*layout.heap), heaps.space.base + layout.heap[0], "a virtual dataset")
    version = cursor.version(0, 1)
    count = cursor.length()
    if not count:
        return []
    if version == 1 and cursor.number(1):
        return [("?", "?")]  # names that are shared between entries: which file it is does not matter for the verdict
    return [(cursor.text().decode("utf-8", "backslashreplace"), cursor.text().decode("utf-8", "backslashreplace"))]
