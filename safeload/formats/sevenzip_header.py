"""The header of a 7z archive: which packed streams there are, how they were made, and which members lie in what comes out.

Everything is checked against everything: a number that counts too much, a vector that is too short, a property twice, a byte that
nothing asked for is an error. Source: 7zFormat.txt of the 7-Zip distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.lean_dataclass import dataclass, field
from safeload.source import Limits

__all__ = ["Coder", "Entry", "Folder", "Header", "Streams", "parse_header", "parse_streams"]

END, HEADER, PROPERTIES, ADDITIONAL, MAIN, FILES, PACK, UNPACK, SUBSTREAMS = range(9)
SIZE, CRC, FOLDER, UNPACK_SIZES, NUMBERS, EMPTY_STREAM, EMPTY_FILE, ANTI, NAMES = range(9, 18)
CREATED, ACCESSED, MODIFIED, ATTRIBUTES, COMMENT, ENCODED, START, DUMMY = range(18, 26)

_CODERS: Final = 32  # in one folder; 7-Zip writes at most five
_UNIX: Final = 0x8000  # in the attributes: the high half is a Unix mode
_MOST: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Coder:
    """One step of unpacking: its method's id and properties, how many streams go in and come out."""

    method: bytes
    properties: bytes
    inputs: int
    outputs: int


@dataclass(slots=True)
class Folder:
    """Packed streams that are unpacked together into one.

    Attributes:
        coders: In the order of the header.
        chain: Their numbers in the order of unpacking; None when they are no simple chain.
        sizes: Bytes that each coder gives.
        packed: How many packed streams go in.
        crc: Of what comes out, or None.
        members: Size and CRC (or None) of each member in it.
    """

    coders: list[Coder]
    chain: list[int] | None
    packed: int
    main: int
    sizes: list[int] = field(default_factory=list)
    crc: int | None = None
    members: list[tuple[int, int | None]] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes that come out."""
        return self.sizes[self.main]


@dataclass(slots=True)
class Streams:
    """Where the packed streams lie, counted from behind the signature header, and what they unpack to."""

    offset: int = 0
    packed: list[int] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """One member.

    Attributes:
        name: Decoded; hostile until escaped.
        has_stream: Whether it has bytes in a folder.
        is_dir: It is a directory.
        anti: It stands for "delete this".
        mode: Its Unix mode, or 0.
    """

    name: str = ""
    has_stream: bool = True
    is_dir: bool = False
    anti: bool = False
    mode: int = 0


@dataclass(slots=True)
class Header:
    """All that the header says."""

    streams: Streams
    entries: list[Entry]


class _Cursor:
    """Reads the header's fields in order."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            MalformedError: there are not so many.
        """
        if count > len(self.data) - self.at:
            raise MalformedError(f"the header ends {count - len(self.data) + self.at} bytes too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """A number: the first byte says by its leading ones how many more there are."""
        first = self.byte()
        mask, value = 0x80, 0
        for index in range(8):
            if not first & mask:
                return value | (first & mask - 1) << 8 * index
            value |= self.byte() << 8 * index
            mask >>= 1
        return value

    def count(self, what: str, most: int, width: float = 0) -> int:
        """A number of things, each of which takes at least `width` bytes of the header."""
        found = self.number()
        if found > most or found * width > len(self.data) - self.at:
            raise LimitError(f"{found} {what}; the header has room for fewer")
        return found

    def size(self) -> int:
        """A number of bytes in the file or in memory."""
        found = self.number()
        if found > _MOST:
            raise MalformedError(f"a size of {found} bytes")
        return found

    def bits(self, count: int) -> list[bool]:
        """A bit for each of `count` things, highest first; what fills the last byte must be zero."""
        raw = self.take(-(-count // 8))
        found = [bool(raw[index >> 3] & 0x80 >> (index & 7)) for index in range(count)]
        if count % 8 and raw[-1] & (0xFF >> count % 8):
            raise MalformedError("a vector of bits with more bits than things")
        return found

    def defined(self, count: int) -> list[bool]:
        """Which of `count` things have a value: all, or as a vector says."""
        return [True] * count if self.byte() else self.bits(count)

    def digests(self, count: int) -> list[int | None]:
        """CRCs of those that have one."""
        return [int.from_bytes(self.take(4), "little") if there else None for there in self.defined(count)]

    def expect(self, wanted: int, what: str) -> None:
        """Raise unless the next number is `wanted`."""
        found = self.number()
        if found != wanted:
            raise MalformedError(f"property {found} of the header where {what} ({wanted}) must be")


def parse_header(data: bytes, limits: Limits) -> Header:
    """Read a header that begins with its first property.

    Raises:
        MalformedError: it contradicts itself, ends early, or holds what the format does not know.
        LimitError: more members than `limits.members`.
    """
    cursor = _Cursor(data)
    cursor.expect(HEADER, "the header")
    header = Header(Streams(), [])
    kind = cursor.number()
    if kind == PROPERTIES:
        while cursor.number():
            cursor.take(cursor.size())
        kind = cursor.number()
    if kind == ADDITIONAL:
        raise MalformedError("additional streams, which no writer makes")
    if kind == MAIN:
        header.streams = _streams(cursor, limits)
        kind = cursor.number()
    if kind == FILES:
        header.entries = _files(cursor, limits)
        kind = cursor.number()
    if kind != END or cursor.at != len(data):
        raise MalformedError(f"{len(data) - cursor.at} bytes of the header are left over")
    return header


def parse_streams(data: bytes, limits: Limits) -> Streams:
    """Read what says how a packed header is unpacked; `data` begins with the property "encoded header"."""
    cursor = _Cursor(data)
    cursor.expect(ENCODED, "an encoded header")
    streams = _streams(cursor, limits)
    if cursor.at != len(data):
        raise MalformedError(f"{len(data) - cursor.at} bytes of the header are left over")
    return streams


# ---- streams


def _streams(cursor: _Cursor, limits: Limits) -> Streams:
    streams = Streams()
    kind = cursor.number()
    if kind == PACK:
        _pack(cursor, streams, limits)
        kind = cursor.number()
    if kind == UNPACK:
        _unpack(cursor, streams, limits)
        kind = cursor.number()
    for folder in streams.folders:
        folder.members = [(folder.nbytes, folder.crc)]
    if kind == SUBSTREAMS:
        _substreams(cursor, streams, limits)
        kind = cursor.number()
    if kind != END:
        raise MalformedError(f"property {kind} of the header where the streams end")
    if sum(folder.packed for folder in streams.folders) != len(streams.packed):
        raise MalformedError(f"{len(streams.packed)} packed streams, and the folders take another number")
    return streams


def _pack(cursor: _Cursor, streams: Streams, limits: Limits) -> None:
    streams.offset = cursor.size()
    count = cursor.count("packed streams", limits.members, 1)
    kind = cursor.number()
    if kind == SIZE:
        streams.packed = [cursor.size() for _ in range(count)]
        kind = cursor.number()
    if kind == CRC:
        cursor.digests(count)
        kind = cursor.number()
    if kind != END or len(streams.packed) != count:
        raise MalformedError("the packed streams have no sizes")


def _unpack(cursor: _Cursor, streams: Streams, limits: Limits) -> None:
    cursor.expect(FOLDER, "the folders")
    count = cursor.count("folders", limits.members, 2)
    if cursor.byte():
        raise MalformedError("folders that are described in another stream")
    streams.folders = [_folder(cursor) for _ in range(count)]
    cursor.expect(UNPACK_SIZES, "the sizes")
    for folder in streams.folders:
        folder.sizes = [cursor.size() for coder in folder.coders for _ in range(coder.outputs)]
    kind = cursor.number()
    if kind == CRC:
        for folder, crc in zip(streams.folders, cursor.digests(count), strict=True):
            folder.crc = crc
        kind = cursor.number()
    if kind != END:
        raise MalformedError(f"property {kind} of the header where the folders end")


def _folder(cursor: _Cursor) -> Folder:
    count = cursor.number()
    if not 1 <= count <= _CODERS:
        raise LimitError(f"a folder of {count} coders; {_CODERS} are read")
    coders = []
    for _ in range(count):
        flags = cursor.byte()
        if flags & 0xC0:
            raise MalformedError("a coder with reserved bits set")
        method = cursor.take(flags & 15)
        inputs, outputs = (cursor.number(), cursor.number()) if flags & 0x10 else (1, 1)
        if not (1 <= inputs <= _CODERS and 1 <= outputs <= _CODERS):
            raise LimitError(f"a coder of {inputs} inputs and {outputs} outputs")
        coders.append(Coder(method, cursor.take(cursor.size()) if flags & 0x20 else b"", inputs, outputs))
    inputs, outputs = sum(coder.inputs for coder in coders), sum(coder.outputs for coder in coders)
    bonds = [(cursor.number(), cursor.number()) for _ in range(outputs - 1)]
    packed = inputs - len(bonds)
    if packed < 1:
        raise MalformedError("a folder without a packed stream")
    taken = [cursor.number() for _ in range(packed)] if packed > 1 else []
    bound, given = {left for left, _ in bonds}, {right for _, right in bonds}
    if len(bound) != len(bonds) or len(given) != len(bonds) or any(left >= inputs or right >= outputs for left, right in bonds):
        raise MalformedError("the coders of a folder are bound twice, or to what is not there")
    if taken and (len(set(taken)) != packed or bound & set(taken) or max(taken) >= inputs):
        raise MalformedError("the packed streams of a folder go where others go")
    main = next(number for number in range(outputs) if number not in given)
    simple = all(coder.inputs == coder.outputs == 1 for coder in coders)
    return Folder(coders, _chain(bonds, count) if simple else None, packed, main)


def _chain(bonds: list[tuple[int, int]], count: int) -> list[int]:
    """The coders' numbers from the packed stream to what comes out, for coders of one input and one output each."""
    feeds = {right: left for left, right in bonds}  # output → the input that it goes to
    first = next(number for number in range(count) if number not in {left for left, _ in bonds})
    chain = [first]
    while chain[-1] in feeds and len(chain) <= count:
        chain.append(feeds[chain[-1]])
    if len(chain) != count:
        raise MalformedError("the coders of a folder go in a circle")
    return chain


def _substreams(cursor: _Cursor, streams: Streams, limits: Limits) -> None:
    counts = [1] * len(streams.folders)
    kind = cursor.number()
    if kind == NUMBERS:
        counts = [cursor.count("members", limits.members) for _ in streams.folders]
        if sum(counts) > limits.members:
            raise LimitError(f"{sum(counts)} members; {limits.members} are read")
        kind = cursor.number()
    sizes = [cursor.size() for count in counts for _ in range(count - 1)] if kind == SIZE else []
    if kind == SIZE:
        kind = cursor.number()
    elif any(count > 1 for count in counts):
        raise MalformedError("members without sizes")
    unknown = sum(count for count, folder in zip(counts, streams.folders, strict=True) if count != 1 or folder.crc is None)
    crcs: list[int | None] = [None] * unknown
    if kind == CRC:
        crcs = cursor.digests(unknown)
        kind = cursor.number()
    if kind != END:
        raise MalformedError(f"property {kind} of the header where the members' sizes end")
    _divide(streams, counts, iter(sizes), iter(crcs))


def _divide(streams: Streams, counts: list[int], sizes: Iterator[int], crcs: Iterator[int | None]) -> None:
    """Give each folder its members."""
    for folder, count in zip(streams.folders, counts, strict=True):
        own = [next(sizes) for _ in range(count - 1)]
        if count:
            own.append(folder.nbytes - sum(own))
            if own[-1] < 0:
                raise MalformedError("the members of a folder are larger than what it unpacks to")
        elif folder.nbytes:
            raise MalformedError(f"a folder of {folder.nbytes} bytes and no members")
        known = [folder.crc] if count == 1 and folder.crc is not None else [next(crcs) for _ in range(count)]
        folder.members = list(zip(own, known, strict=True))


# ---- files


def _files(cursor: _Cursor, limits: Limits) -> list[Entry]:
    count = cursor.count("members", limits.members, 1 / 16)
    entries = [Entry() for _ in range(count)]
    empty: list[bool] = []
    empty_file: list[bool] = []
    anti: list[bool] = []
    seen: set[int] = set()
    while kind := cursor.number():
        if kind in seen and kind != DUMMY:
            raise MalformedError(f"property {kind} of the members stands twice")
        seen.add(kind)
        inner = _Cursor(cursor.take(cursor.size()))
        if kind == EMPTY_STREAM:
            empty = inner.bits(count)
        elif kind in (EMPTY_FILE, ANTI):
            found = inner.bits(sum(empty))
            empty_file, anti = (found, anti) if kind == EMPTY_FILE else (empty_file, found)
        elif kind == NAMES:
            _names(inner, entries)
        elif kind == ATTRIBUTES:
            _attributes(inner, entries)
        elif kind == DUMMY:
            if inner.data.strip(b"\0"):
                raise MalformedError("padding that is not zeros")
            inner.at = len(inner.data)
        elif kind in (CREATED, ACCESSED, MODIFIED, START):
            there = inner.defined(count)
            if inner.byte():
                raise MalformedError("times that are kept in another stream")
            inner.take(8 * sum(there))
        else:
            raise MalformedError(f"property {kind} of the members, which is not known")
        if inner.at != len(inner.data):
            raise MalformedError(f"{len(inner.data) - inner.at} bytes of property {kind} are left over")
    if count and NAMES not in seen:
        raise MalformedError("the members have no names")
    _empties(entries, empty, empty_file, anti)
    return entries


def _empties(entries: list[Entry], empty: list[bool], empty_file: list[bool], anti: list[bool]) -> None:
    number = 0
    for entry, without in zip(entries, empty, strict=False):
        if without:
            entry.has_stream = False
            entry.is_dir = not (empty_file and empty_file[number])
            entry.anti = bool(anti and anti[number])
            number += 1


def _names(inner: _Cursor, entries: list[Entry]) -> None:
    if inner.byte():
        raise MalformedError("names that are kept in another stream")
    raw = inner.take(len(inner.data) - inner.at)
    if len(raw) % 2:
        raise MalformedError("names of half a character")
    names = raw.decode("utf-16-le", "surrogatepass").split("\0")
    if len(names) != len(entries) + 1 or names.pop():
        raise MalformedError(f"{len(names)} names for {len(entries)} members")
    for entry, name in zip(entries, names, strict=True):
        entry.name = name


def _attributes(inner: _Cursor, entries: list[Entry]) -> None:
    there = inner.defined(len(entries))
    if inner.byte():
        raise MalformedError("attributes that are kept in another stream")
    for entry, has in zip(entries, there, strict=True):
        if has:
            value = int.from_bytes(inner.take(4), "little")
            entry.mode = value >> 16 if value & _UNIX else 0
