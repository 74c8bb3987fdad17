"""7z archives: their structure is checked byte by byte, their members are read as files of their own.

Members are unpacked in the order of the archive, because many lie in one packed stream. A stream that breaks is looked at as far as it
goes: models have been published that end in nonsense right behind what they run.
Source: 7zFormat.txt of the 7-Zip distribution.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.container import Member, Notes, check_duplicates, check_name
from safeload.formats.nested import InnerReading, Members, Unpacked, inner_reading, too_deep
from safeload.formats.sevenzip_header import ENCODED, Entry, Folder, Header, Streams, parse_header, parse_streams
from safeload.formats.sevenzip_unpack import cannot_unpack, unpack_folder
from safeload.program import Region
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["MAGIC", "SevenZipFile"]

MAGIC: Final = b"7z\xbc\xaf\x27\x1c"
_START: Final = 32  # bytes of the signature header
_HEADER: Final = 64 << 20
_ENCODINGS: Final = 4  # a packed header of a packed header: 7-Zip reads them, nobody writes them
_WHOLE: Final = 256 << 20  # members up to here are unpacked once and kept, larger ones as far as somebody reads


class SevenZipFile:
    """The format "7z"."""

    name: Final = "7z"

    def claims(self, source: Source) -> bool:
        """By its magic."""
        return source.head(len(MAGIC)) == MAGIC

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the header, then every member as a file of its own."""
        contents = Contents(format=self.name)
        if too_deep(reading, contents):
            return contents
        inner = inner_reading(source, reading)
        notes = Notes(None)
        archive = _Archive(source, inner, notes)
        try:
            header = archive.header()
            archive.account(header)
            folders = _folders(header)
        except SafeloadError as error:
            contents.error = error.message
            rule = error.rule if error.rule in ("SL208", "SL222", "SL502") else "SL221"
            contents.findings += [*notes.done(), finding(rule, error.message)]
            return contents
        _names(header.entries, notes)
        contents.metadata["members"] = str(len(header.entries))
        contents.findings += notes.done()
        contents.end = source.size
        members = Members(inner, contents)
        for number, (folder, entries) in enumerate(folders):
            if not _read_folder(archive, header.streams, number, folder, entries, members):
                break
        members.done()
        return contents


class _Archive:
    """The file around the header: where packed streams lie, and that every byte is accounted for."""

    def __init__(self, source: Source, reading: InnerReading, notes: Notes) -> None:
        self.source, self.reading, self.notes = source, reading, notes
        self._used: list[tuple[int, int, str]] = [(0, _START, "the signature header")]

    def header(self) -> Header:
        """Read the signature header and what it points to, unpacking the header where it is packed.

        Raises:
            SafeloadError: there is none, or it is broken.
        """
        source = self.source
        start = source.read(0, _START, "the signature header")
        if start[6] != 0:
            raise MalformedError(f"7z version {start[6]}.{start[7]}; 0 is known")
        if zlib.crc32(start[12:]) != int.from_bytes(start[8:12], "little"):
            raise MalformedError("the signature header's CRC does not agree: it was cut off, or changed")
        offset, size = int.from_bytes(start[12:20], "little"), int.from_bytes(start[20:28], "little")
        if not size:
            return Header(Streams(), [])
        if offset + size > source.size - _START:
            message = f"the header would end at byte {_START + offset + size}, and the file has {source.size}"
            raise MalformedError(message).under("SL502")
        if size > _HEADER:
            raise LimitError(f"a header of {size} bytes; {_HEADER} are read").under("SL208")
        data = source.read(_START + offset, size, "the header")
        self._used.append((_START + offset, size, "the header"))
        if zlib.crc32(data) != int.from_bytes(start[28:32], "little"):
            raise MalformedError("the header's CRC does not agree with its bytes")
        for _ in range(_ENCODINGS):
            if data[:1] != bytes([ENCODED]):
                return parse_header(data, self.reading.limits)
            data = self._unpacked(parse_streams(data, self.reading.limits))
        raise MalformedError("a header that is packed again and again")

    def _unpacked(self, streams: Streams) -> bytes:
        """The header that lies in a folder of its own."""
        if len(streams.folders) != 1:
            raise MalformedError(f"a packed header in {len(streams.folders)} folders")
        folder = streams.folders[0]
        reason = cannot_unpack(folder)
        if reason is not None:
            raise MalformedError(f"the header is {reason[0]}: nothing is known of the members").under("SL222")
        if folder.nbytes > _HEADER:
            raise LimitError(f"a header that unpacks to {folder.nbytes} bytes; {_HEADER} are read").under("SL208")
        offset, size = self.place(streams, 0)
        self._used.append((offset, size, "the packed header"))
        data = b"".join(unpack_folder(self.source, folder, offset, size))
        self.reading.budget.spend(len(data), folder.nbytes)
        if folder.crc is not None and zlib.crc32(data) != folder.crc:
            raise MalformedError("the packed header's CRC does not agree with its bytes")
        return data

    def place(self, streams: Streams, number: int) -> tuple[int, int]:
        """Where the first packed stream of a folder lies: offset in the file, bytes."""
        first = sum(folder.packed for folder in streams.folders[:number])
        return _START + streams.offset + sum(streams.packed[:first]), streams.packed[first]

    def account(self, header: Header) -> None:
        """Report bytes that belong to nothing, and streams that overlap.

        Raises:
            MalformedError: a packed stream leaves the file.
        """
        at = _START + header.streams.offset
        for size in header.streams.packed:
            self._used.append((at, size, "a packed stream"))
            at += size
        if at > self.source.size:
            raise MalformedError(f"packed streams end at byte {at}, and the file has {self.source.size}").under("SL502")
        position = 0
        for start, size, what in sorted(self._used):
            if start > position:
                self.notes.add("SL205", f"{start - position} bytes in front of {what} belong to no member", offset=position)
            elif start < position and size:
                self.notes.add("SL204", f"{what} begins at byte {start}, and what lies before it ends at {position}", offset=start)
            position = max(position, start + size)
        if position < self.source.size:
            self.notes.add("SL205", f"{self.source.size - position} bytes behind the archive belong to no member", offset=position)


def _folders(header: Header) -> list[tuple[Folder, list[tuple[Entry, int, int | None]]]]:
    """Which entries lie in which folder, with size and CRC, in order.

    Raises:
        MalformedError: there are more or fewer of them than the folders have room for.
    """
    with_bytes = iter([entry for entry in header.entries if entry.has_stream])
    found = []
    for folder in header.streams.folders:
        entries = []
        for size, crc in folder.members:
            entry = next(with_bytes, None)
            if entry is None:
                raise MalformedError("the folders have room for more members than there are")
            entries.append((entry, size, crc))
        found.append((folder, entries))
    if next(with_bytes, None) is not None:
        raise MalformedError("the folders have room for fewer members than there are")
    return found


def _names(entries: list[Entry], notes: Notes) -> None:
    """Report names that extracting would trip over, and members that are no plain files."""
    shown = [Member(entry.name, Region(0, 0), 0, 0, 0, 0, entry.is_dir) for entry in entries]
    keys = [check_name(notes, "SL210", entry.name) for entry in entries]
    check_duplicates(notes, shown, keys)
    for entry in entries:
        if entry.anti:
            notes.add("SL221", "stands for the removal of a file that is there already", name=entry.name)
        kind = stat.S_IFMT(entry.mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a symbolic link" if kind == stat.S_IFLNK else "no plain file"
            notes.add("SL212", f"is {what}", name=entry.name, level=Level.WARNING if kind == stat.S_IFLNK else None)


def _read_folder(
    archive: _Archive, streams: Streams, number: int, folder: Folder, entries: list[tuple[Entry, int, int | None]], members: Members
) -> bool:
    """Read the members of one folder; whether there is anything left to spend."""
    reason = cannot_unpack(folder)
    if reason is not None:
        rule = "SL206" if reason[1] else "SL222"
        members.contents.findings.append(finding(rule, f"{len(entries)} members, '{escape(entries[0][0].name)}' first: {reason[0]}"))
        members.contents.error = members.contents.error or f"members are {reason[0]}"
        return True
    offset, packed = archive.place(streams, number)
    stream = _Stream(archive, folder, offset, packed)
    begin = 0
    for entry, size, crc in entries:
        if not members.granted():
            return False
        stream.read(entry, begin, size, crc, members)
        begin += size
    stream.finish(members, entries[-1][0].name if entries else "")
    return True


class _Stream:
    """What one folder unpacks to, gone through once for all small members; a large one gets an unpacking of its own."""

    def __init__(self, archive: _Archive, folder: Folder, offset: int, packed: int) -> None:
        self._source, self._budget = archive.source, archive.reading.budget
        self._folder, self._offset, self._packed = folder, offset, packed
        self._pieces = self._unpack()
        self._rest = memoryview(b"")
        self._broken: SafeloadError | None = None

    def _unpack(self) -> Iterator[bytes]:
        return unpack_folder(self._source, self._folder, self._offset, self._packed)

    def read(self, entry: Entry, begin: int, size: int, crc: int | None, members: Members) -> None:
        """Read one member that lies `begin` bytes into the folder."""
        name = f"{self._source.name}!{escape(entry.name)}"
        large = size > min(_WHOLE, self._budget.memory)
        data, value = bytearray(), 0
        for piece in self._next(size):
            value = zlib.crc32(piece, value)
            if not large:
                data += piece
        broken = self._broken
        try:
            if large:
                inner = Source(Unpacked(size, lambda: self._from(begin, size), self._budget), name)
            else:
                self._budget.memory -= len(data)
                inner = Source.open(bytes(data), name=name)
            found = members.read(entry.name, inner) if large or data or broken is None else None
            if not large and (found is None or not found.parts):
                self._budget.memory += len(data)
            if broken is None and crc is not None and value != crc:
                raise MalformedError(f"the bytes have CRC {value:08x}, and {crc:08x} is recorded").under("SL209")
        except MemoryError:
            members.failed(entry.name, LimitError(f"{size} bytes do not fit into memory").under("SL208"))
        except SafeloadError as error:
            members.failed(entry.name, error)
        if broken is not None:
            members.failed(entry.name, broken)

    def _next(self, size: int) -> Iterator[memoryview]:
        """The next bytes of the folder, fewer when it breaks."""
        while size and self._broken is None:
            if not self._rest:
                try:
                    piece = next(self._pieces, b"")
                    self._budget.spend(len(piece), self._folder.nbytes)
                except SafeloadError as error:
                    self._broken = error if error.rule else error.under("SL221")
                    return
                if not piece:
                    self._broken = MalformedError("its folder ends in front of it").under("SL221")
                    return
                self._rest = memoryview(piece)
            part = self._rest[:size]
            self._rest = self._rest[len(part) :]
            size -= len(part)
            yield part

    def _from(self, begin: int, size: int) -> Iterator[memoryview]:
        """Unpack anew, and give the bytes of one member."""
        at = 0
        for piece in self._unpack():
            part = memoryview(piece)[max(0, begin - at) : max(0, begin + size - at)]
            at += len(piece)
            if part:
                yield part
            else:
                self._budget.spend(len(piece), self._folder.nbytes)
            if at >= begin + size:
                return

    def finish(self, members: Members, name: str) -> None:
        """See that the folder ends where its last member does."""
        if self._broken is not None:
            return
        try:
            left = next(self._pieces, b"")
        except SafeloadError as error:
            members.failed(name, error if error.rule else error.under("SL221"))
        else:
            if left or self._rest:
                members.failed(name, MalformedError("the folder goes on behind its last member").under("SL221"))
