"""A strict tar reader: ustar, GNU long names and pax headers; whatever extracts in a surprising way, or readers differ on, is a finding.

No file is ever extracted. Members are read where they lie, under the name that the stdlib's tarfile (and so torch's old
tar loader) would give them. Compressed tar files are unpacked by whoever reads the compression.
"""

from __future__ import annotations

import posixpath
from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.container import Archive, Member, Notes, check_duplicates, check_name, qualified
from safeload.formats.tar_header import BLOCK, FITS, Header, checksum_fits, parse_header, parse_pax
from safeload.formats.zip_read import iter_member, read_member, read_member_into
from safeload.program import Region
from safeload.source import Limits, Source

__all__ = ["Archive", "Member", "iter_member", "looks_like_tar", "read_member", "read_member_into", "read_tar"]

_EXTENSION_BYTES: Final = 1 << 20
_PADDING_BYTES: Final = 1 << 20
_REGULAR: Final = (b"0", b"\0", b"7")
_LINKS: Final = {b"1": "a hard link", b"2": "a symbolic link"}
_DEVICES: Final = {b"3": "a character device", b"4": "a block device", b"6": "a named pipe"}
_DECIDING: Final = (b"path", b"linkpath", b"size")


def looks_like_tar(source: Source) -> bool:
    """Whether the file begins with a header whose checksum fits, with or without a magic: what tarfile opens."""
    return source.size >= BLOCK and checksum_fits(source.read(0, BLOCK))


def read_tar(source: Source, limits: Limits, *, member: str | None = None) -> Archive:
    """Read the structure of a tar file, without touching the data.

    Args:
        source: The whole file, or the bytes of a member of another container.
        limits: Bounds: `members`.
        member: What the containers around it call it, joined by "!"; None at top level.

    Returns:
        Members in the order of the file, findings, and in `error` why the structure could not be read to its end.
        Links, devices and sparse files are members without bytes that may be read. Never raises for content.
    """
    notes = Notes(member)
    reader = _Reader(source, limits, notes)
    error: str | None = None
    try:
        reader.walk()
    except SafeloadError as caught:
        error = caught.message
        notes.add(caught.rule or "SL219", error, offset=reader.position)
    archive = Archive(members=tuple(reader.members), error=error)
    archive.by_name = check_duplicates(notes, reader.members, reader.keys)
    archive.findings = notes.done()
    return archive


class _Reader:
    """Goes from header to header."""

    def __init__(self, source: Source, limits: Limits, notes: Notes) -> None:
        self.source, self.limits, self.notes = source, limits, notes
        self.position = 0
        self.members: list[Member] = []
        self.keys: list[str] = []
        self._long: dict[bytes, bytes] = {}  # b"L" and b"K" of the next member
        self._pax: dict[bytes, bytes] | None = None

    def walk(self) -> None:
        """Read members up to the end blocks, and account for what follows them.

        Raises:
            MalformedError: a header is broken or reaches out of the file.
        """
        while self.position < self.source.size:
            if self.position + BLOCK > self.source.size:
                raise MalformedError(f"ends within a header, after {self.source.size - self.position} of {BLOCK} bytes")
            block = self.source.read(self.position, BLOCK)
            if not any(block):
                self._check_pending()
                self._check_end()
                return
            header = parse_header(block)
            for odd in header.odd:
                self.notes.add("SL220", odd, offset=self.position)
            if header.kind in (b"L", b"K"):
                self._read_long(header)
            elif header.kind in (b"x", b"X", b"g"):
                self._read_pax(header)
            else:
                if len(self.members) >= self.limits.members:
                    raise MalformedError(f"more than {self.limits.members} members")
                self._read_member(header)
        self._check_pending()
        message = "no end blocks: it may be cut off" if self.source.size else "there are no bytes"
        self.notes.add("SL219", message, offset=self.position, level=Level.WARNING)

    # ---- extension headers

    def _extension(self, header: Header) -> bytes:
        """The data of an extension header; the position moves behind it."""
        if header.size > _EXTENSION_BYTES:
            raise MalformedError(f"an extension header of {header.size} bytes; {_EXTENSION_BYTES} are read")
        data = self.source.read(self.position + BLOCK, header.size, "an extension header")
        self._move(self.position + BLOCK, header.size)
        return data

    def _move(self, offset: int, nbytes: int) -> None:
        """Go behind `nbytes` bytes at `offset` and the zeros that fill their last block."""
        stop, padding = offset + nbytes, -nbytes % BLOCK
        self.position = stop + padding
        filled = self.source.read(stop, min(padding, self.source.size - stop))
        if len(filled) < padding:
            self.notes.add("SL219", "ends within the last block of a member", offset=stop, level=Level.WARNING)
        if any(filled):
            self.notes.add("SL205", "the rest of a member's last block is not zeros", offset=stop, level=Level.WARNING)

    def _read_long(self, header: Header) -> None:
        start = self.position
        data = self._extension(header)
        if header.kind in self._long or self._pax is not None:
            self.notes.add("SL220", "several extension headers for one member, and readers differ in which one wins", offset=start)
        text, _, rest = data.partition(b"\0")
        if any(rest):
            self.notes.add("SL205", "bytes behind the end of a long name", offset=start)
        self._long[header.kind] = text

    def _read_pax(self, header: Header) -> None:
        start = self.position
        records = parse_pax(self._extension(header))
        sparse = any(key.startswith(b"GNU.sparse.") for key in records)
        if header.kind == b"g":
            if sparse or any(key in records for key in _DECIDING):
                self.notes.add("SL219", "a global header gives one name, size or layout to every member that follows", offset=start)
            return
        if self._pax is not None or self._long:
            self.notes.add("SL220", "several extension headers for one member, and readers differ in which one wins", offset=start)
        self._pax = {**(self._pax or {}), **records}

    def _check_pending(self) -> None:
        if self._long or self._pax is not None:
            self.notes.add("SL219", "an extension header that no member follows", offset=self.position)

    # ---- members

    def _read_member(self, header: Header) -> None:
        start = self.position
        pax, long = self._pax or {}, self._long
        self._pax, self._long = None, {}
        directory = header.kind == b"5" or (header.kind == b"\0" and header.name.endswith(b"/"))
        raw = self._name(header, pax, long, start)
        name = _text(raw.rstrip(b"/") if directory or b"path" in pax else raw)
        size = self._size(header, pax, name)
        problem = self._kind(header, pax, long, name)
        offset = start + BLOCK
        if header.kind == b"S":
            while header.extended:
                header.extended = bool(self.source.read(offset, BLOCK, "a sparse header")[504])
                offset += BLOCK
        if directory or header.kind in _LINKS or header.kind in _DEVICES:
            if size:
                message = f"has {size} bytes, and its kind has no data: readers differ in where the next member begins"
                self.notes.add("SL219", message, name=name)
            size = 0
        elif name.endswith("/") and size:
            self.notes.add("SL220", f"is a directory by its name, and yet has {size} bytes", name=name)
        region = Region(offset, size, None, None, qualified(self.notes.outer, name))
        fits = offset + size <= self.source.size
        problem = problem if fits else "its bytes leave the file"
        self.members.append(Member(name, region, start, 0, 0, 0, directory, problem))
        self.keys.append(check_name(self.notes, "SL212", name, dotted=None))
        if name and not _is_utf8(raw):
            self.notes.add("SL212", f"member name '{escape(name)}' is not UTF-8", name=name, level=Level.WARNING)
        if not fits:
            message = f"'{escape(name)}' has {size} bytes from byte {offset}, and the file ends at {self.source.size}"
            raise MalformedError(message).under("SL502")
        self._move(offset, size)

    def _name(self, header: Header, pax: dict[bytes, bytes], long: dict[bytes, bytes], start: int) -> bytes:
        """The name that tarfile gives the member; a second, different one is a finding."""
        plain = header.name
        if header.prefix and header.kind != b"S":
            plain = header.prefix + b"/" + plain
            if not header.posix:
                self.notes.add("SL220", "a name prefix without ustar's magic: some readers leave it away", offset=start)
        given = [text for text in (long.get(b"L"), pax.get(b"path"), pax.get(b"GNU.sparse.name")) if text is not None]
        if b"GNU.sparse.name" in pax:
            given = given[-1:]  # with it the other names are made up on purpose
        for text in given:
            same = text.rstrip(b"/") == plain.rstrip(b"/")
            if not same and len(text) <= 100 and text.isascii() and b"GNU.sparse.name" not in pax:
                message = f"the header names it '{escape(_text(plain))}', its extension '{escape(_text(text))}', which would have had room"
                self.notes.add("SL219", message, offset=start)
        if len(set(given)) > 1:
            self.notes.add("SL219", "two extension headers give it different names", offset=start)
        return given[-1] if given else plain

    def _size(self, header: Header, pax: dict[bytes, bytes], name: str) -> int:
        """The size that tarfile and POSIX take: pax before the header."""
        stated = pax.get(b"size")
        if stated is None:
            return header.size
        if not stated.isdigit() or len(stated) > 19:
            raise MalformedError(f"'{escape(name)}': the pax size is no number: {stated[:30]!r}")
        size = int(stated)
        if size != header.size and (size < FITS or header.size):
            message = f"the header says {header.size} bytes, its pax header {size}: readers differ in where the next member begins"
            self.notes.add("SL219", message, name=name)
        return size

    def _kind(self, header: Header, pax: dict[bytes, bytes], long: dict[bytes, bytes], name: str) -> str | None:
        """Report what is no plain file or directory; return why its bytes may not be read, or None."""
        kind = header.kind
        if kind in _LINKS:
            target = _text(pax.get(b"linkpath", long.get(b"K", header.link)))
            out = _leaves(target if kind == b"1" else posixpath.join(posixpath.dirname(name), target))
            where = ", which is outside the archive" if out else ""
            message = f"is {_LINKS[kind]} to '{escape(target)}'{where}"
            self.notes.add("SL212", message, name=name, level=Level.ERROR if out else Level.WARNING)
            return f"it is {_LINKS[kind]}"
        if b"K" in long or b"linkpath" in pax:
            self.notes.add("SL220", "is no link, and yet an extension header says where it points", name=name)
        if kind in _DEVICES:
            self.notes.add("SL212", f"is {_DEVICES[kind]}", name=name)
            return f"it is {_DEVICES[kind]}"
        if kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in pax):
            self.notes.add("SL212", "is a sparse file: readers that do not know them see other bytes", name=name, level=Level.WARNING)
            return "it is a sparse file"
        if kind not in _REGULAR and kind != b"5":
            shown = escape(kind.decode("latin-1"))
            self.notes.add("SL220", f"is of type '{shown}', which some readers take for a plain file", name=name)
        return None

    # ---- behind the last member

    def _check_end(self) -> None:
        """Two zero blocks, then nothing but zeros up to a whole record."""
        rest = self.source.size - self.position
        if rest < 2 * BLOCK:
            self.notes.add("SL219", "one end block instead of two", offset=self.position, level=Level.WARNING)
        data = self.source.read(self.position, min(rest, _PADDING_BYTES))
        used = len(data.rstrip(b"\0"))
        if used or rest > _PADDING_BYTES:
            first = len(data) - len(data.lstrip(b"\0")) if used else len(data)
            message = f"{rest - first} bytes behind the end of the archive belong to no member"
            self.notes.add("SL205", message, offset=self.position + first)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _leaves(path: str) -> bool:
    """Whether a path, taken from the top of the archive, leads out of it."""
    flat = posixpath.normpath(path.replace("\\", "/"))
    return flat.startswith(("/", "../")) or flat == ".." or "\0" in path or path[1:2] == ":"
