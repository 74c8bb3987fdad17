"""A strict ZIP reader: whatever readers could disagree on is a finding.

Three statements about each member are compared: the central directory's, the local header's and the data descriptor's.
Local headers, data and descriptors must fill the file from its first byte to the directory, each byte once.

A reader that is more lenient than this one must never see something that was not looked at here: where readers differ,
the reading of the loader inside torch is followed (absolute offsets, central directory), and the difference is reported.
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import Final

from safeload.errors import SafeloadError
from safeload.findings import Level, escape
from safeload.formats.container import Archive, Member, Notes, check_duplicates, qualified
from safeload.formats.first_bytes import looks_like_zip, trailing_zip
from safeload.formats.plain import plain_reader
from safeload.formats.zip_directory import (
    FLAG_DESCRIPTOR,
    End,
    Entry,
    check_extra,
    check_flags,
    find_end,
    read_directory,
)
from safeload.formats.zip_read import check_crc, iter_member, read_member, read_member_into
from safeload.program import Region
from safeload.source import Limits, Source

__all__ = [
    "Archive",
    "Member",
    "archive_of",
    "check_crc",
    "iter_member",
    "looks_like_zip",
    "read_archive",
    "read_member",
    "read_member_into",
    "trailing_zip",
]

_LOCAL: Final = Struct("<4s5H3L2H")
_WORDS: Final = Struct("<4L")
_HERE: Final = "local header"
_MAX32: Final = 0xFFFFFFFF
_Header = tuple[bytes, int, int, int, int, int, int, int, int, int, int]


def read_archive(source: Source, limits: Limits, *, member: str | None = None) -> Archive:
    """Read the structure of a ZIP file, without unpacking anything.

    Args:
        source: The whole file, or the bytes of a member of another container.
        limits: Bounds: `members`, `inflate_ratio`, `inflate_bytes`.
        member: What the containers around it call it, joined by "!"; None at top level.

    Returns:
        Members in the order of the directory, findings, and in `error` why the structure could not be read to its end.
        Never raises for content.
    """
    notes = Notes(member)
    archive = Archive()
    try:
        _read(source, limits, notes, archive)
    except SafeloadError as error:
        archive.error = error.message
    if archive.error is not None:
        notes.add("SL201", archive.error)
    archive.findings = notes.done()
    return archive


def archive_of(source: Source, limits: Limits) -> Archive:
    """Like `read_archive` of a whole file, parsed once for all readers that ask whether it is theirs."""
    found: Archive | None = source.parsed.get("zip")
    if found is None:
        found = source.parsed["zip"] = read_archive(source, limits)
    return found


def _read(source: Source, limits: Limits, notes: Notes, archive: Archive) -> None:
    end = find_end(source, notes)
    if isinstance(end, str):
        archive.error = end
        return
    archive.comment = end.comment
    plain = _plain_members(source, end, limits, notes)
    if plain is not None:
        archive.members = plain
        archive.by_name = {member.name: member for member in plain}
        return
    entries, archive.error = read_directory(source, end, limits, notes)
    if archive.error is not None and not entries:
        return
    layout = _Layout(source, end, entries, notes)
    regions = layout.walk()
    _check_sizes(entries, limits, notes)
    archive.members = tuple(
        Member(entry.name, region, entry.offset, entry.method, entry.flags, entry.crc32, entry.raw.endswith(b"/"), entry.problem)
        for entry, region in zip(entries, regions, strict=True)
    )
    archive.by_name = check_duplicates(notes, archive.members, [entry.key for entry in entries])
    if layout.unrecorded:
        notes.add("SL209", f"{layout.unrecorded} members have no recorded CRC, as torch.save writes them when told so", level=Level.NOTE)


def _plain_members(source: Source, end: End, limits: Limits, notes: Notes) -> tuple[Member, ...] | None:
    """The members of an archive in which nothing is out of the ordinary; None for any other, and for one that breaks."""
    # Of a file elsewhere, headers are asked for together: the pass below would wait for each.
    if end.offset + end.size != end.boundary or not end.size or source.address is not None:
        return None

    def fetch(start: int, stop: int) -> memoryview:
        return source.view(start, stop - start, "a local header")

    directory = source.view(end.offset, end.size, "the central directory")
    outer = "" if notes.outer is None else qualified(notes.outer, "")
    found = plain_reader().Plain(directory, end.offset, fetch, outer, limits.members).read()
    return tuple(found) if found is not None and len(found) == end.count else None


def _check_sizes(entries: list[Entry], limits: Limits, notes: Notes) -> None:
    """Refuse what would unpack to more than its bytes can hold, or to more in all than is granted."""
    total = 0
    for entry in entries:
        if entry.method != 8 or entry.problem is not None:
            continue
        if entry.nbytes > entry.packed * limits.inflate_ratio:
            entry.problem = f"{entry.packed} bytes cannot unpack to {entry.nbytes}"
        elif total + entry.nbytes > limits.inflate_bytes:
            entry.problem = f"the members unpack to more than {limits.inflate_bytes} bytes"
        else:
            total += entry.nbytes
            continue
        notes.add("SL208", entry.problem, name=entry.name)


# torch's alignment, by length, as long as it is the usual 64 bytes: most extra data there is.
_PADDING: Final = {length: b"FB" + (length - 4).to_bytes(2, "little") + b"Z" * (length - 4) for length in range(4, 4 + 64)}


def _is_padding(extra: bytes) -> bool:
    """Whether extra data is nothing but torch's alignment: one field "FB" full of "Z"."""
    if extra == _PADDING.get(len(extra)):
        return True
    return extra[:2] == b"FB" and int.from_bytes(extra[2:4], "little") == len(extra) - 4 and not extra[4:].strip(b"Z")


# Headers at most this far apart are fetched together: one read of so many bytes costs less than a second call.
_NEAR: Final = 4096
_WINDOW: Final = 1 << 20
_SLACK: Final = 256


class _Layout:
    """Goes through local headers in the order of the file and accounts for every byte up to the directory."""

    def __init__(self, source: Source, end: End, entries: list[Entry], notes: Notes) -> None:
        self.source, self.end, self.entries, self.notes = source, end, entries, notes
        self.unrecorded = 0
        self._outer = "" if notes.outer is None else qualified(notes.outer, "")
        self._first = 0
        self._bytes = b""
        for entry in entries if end.shift else ():
            entry.offset += end.shift
        self._offsets = [entry.offset for entry in entries]
        self._order = range(len(entries))
        if any(left > right for left, right in zip(self._offsets, self._offsets[1:], strict=False)):
            self._sorted = sorted(self._order, key=self._offsets.__getitem__)
            self._offsets.sort()
        else:
            self._sorted = list(self._order)

    def walk(self) -> list[Region]:
        """Check everything; return the region of each entry, in the order of the entries."""
        regions: list[Region | None] = [None] * len(self.entries)
        self.source.expect(lambda: [(entry.offset, 30 + len(entry.raw) + _SLACK) for entry in self.entries])
        position, before = self.end.shift, None
        for index in self._sorted:
            entry = self.entries[index]
            start = entry.offset
            if start != position or (before is not None and before.flags & FLAG_DESCRIPTOR):
                self._between(before, position, start, entry)
            if start < position:
                # Not looked at again: extra data of a million overlapping headers would be read a million times.
                regions[index] = self._nowhere(entry, "it overlaps another member")
                continue
            regions[index], stop = self._member(entry)
            if stop >= position:
                position, before = stop, entry
        if self.end.offset != position or (before is not None and before.flags & FLAG_DESCRIPTOR):
            self._between(before, position, self.end.offset, None)
        return [region for region in regions if region is not None]

    # ---- bytes

    def _fetch(self, start: int, stop: int) -> int:
        """Have the bytes from `start` to `stop` in `_bytes`, and give the index of `start` in them."""
        if start < self._first or stop > self._first + len(self._bytes):
            last = bisect_left(self._offsets, start)
            far = stop
            # Take following headers along as long as they are near one another.
            while last < len(self._offsets) and self._offsets[last] - far <= _NEAR and far - start < _WINDOW:
                far = max(far, self._offsets[last] + _SLACK)
                last += 1
            far = max(stop, min(far, self.end.offset, self.source.size))
            self._bytes = bytes(self.source.view(start, far - start, "a local header"))
            self._first = start
        return start - self._first

    # ---- one member

    def _member(self, entry: Entry) -> tuple[Region, int]:
        """Read a local header; return where the data lies and the first byte behind it."""
        start = entry.offset
        stop = start + 30 + len(entry.raw)
        if stop > self.end.offset:
            self.notes.add("SL201", f"its local header would be at byte {start}, which is not in front of the directory", name=entry.name)
            return self._nowhere(entry, "its local header is not in the file"), start
        at = self._fetch(start, stop)
        data = self._bytes
        header = _LOCAL.unpack_from(data, at)
        signature, _, flags, method, _, _, crc, packed, nbytes, names, extras = header
        if signature != b"PK\3\4":
            self.notes.add("SL203", f"no local header at byte {start}", name=entry.name)
            return self._nowhere(entry, "its local header is not where the directory says"), start
        first = start + 30 + names + extras
        past = first + entry.packed
        if past > self.end.offset:
            self.notes.add("SL204", f"its {entry.packed} bytes from byte {first} reach into the directory or farther", name=entry.name)
            return self._nowhere(entry, "its bytes do not lie in front of the directory"), start
        middle = at + 30 + names
        if middle + extras > len(data):
            at = self._fetch(start, first)
            data, middle = self._bytes, at + 30 + names
        raw, extra = data[at + 30 : middle], data[middle : middle + extras]
        same = packed == entry.packed and nbytes == entry.nbytes and crc == entry.crc32
        if not (
            (not extra or _is_padding(extra)) and flags == entry.flags and method == entry.method and raw == entry.raw
            and (same or (flags & FLAG_DESCRIPTOR and not (packed or nbytes or crc)))
        ):  # fmt: skip
            self._compare(entry, header, raw, extra)
        recorded = entry.crc32 or not (extra[:2] == b"FB" and flags & FLAG_DESCRIPTOR and method == 0 and entry.nbytes)
        self.unrecorded += not recorded
        region = Region(
            first,
            entry.nbytes,
            None if entry.method == 0 else entry.packed,
            entry.crc32 if recorded else None,
            self._outer + entry.name,
        )
        if first + entry.nbytes > self.source.size and entry.method == 0:
            entry.problem = "its bytes leave the file"
        return region, past

    def _nowhere(self, entry: Entry, problem: str) -> Region:
        """A region without bytes, for a member that has no place in the file."""
        entry.problem = problem
        return Region(min(max(entry.offset, 0), self.source.size), 0, None, None, self._outer + entry.name)

    def _compare(self, entry: Entry, header: _Header, raw: bytes, extra: bytes) -> None:
        """Say in which way a local header disagrees with the directory, if it does."""
        _, _, flags, method, _, _, crc, packed, nbytes, _, _ = header
        name, add = entry.name, self.notes.add
        if raw != entry.raw:
            add("SL203", f"the local header names it '{escape(raw.decode('utf-8', 'backslashreplace'))}'", name=name)
        if flags != entry.flags:
            add("SL203", f"flags: the directory says {entry.flags:#06x}, the local header {flags:#06x}", name=name)
            check_flags(flags, _HERE, name, self.notes)
        if method != entry.method:
            add("SL203", f"method: the directory says {entry.method}, the local header {method}", name=name)
        wide = check_extra(entry, extra, _HERE, self.notes) if extra else None
        pending = flags & FLAG_DESCRIPTOR  # the descriptor behind the data has the values; until then zeros are honest
        if crc != entry.crc32 and not (pending and not crc):
            add("SL203", f"CRC: the directory says {entry.crc32:08x}, the local header {crc:08x}", name=name)
        if wide is not None:
            nbytes, packed = self._local_zip64(entry, wide, nbytes, packed, bool(pending))
        for what, central, local in (("packed bytes", entry.packed, packed), ("bytes", entry.nbytes, nbytes)):
            if local != central and not (pending and local in (0, _MAX32 if wide is not None else 0)):
                add("SL203", f"{what}: the directory says {central}, the local header {local}", name=name)

    def _local_zip64(self, entry: Entry, wide: bytes, nbytes: int, packed: int, pending: bool) -> tuple[int, int]:
        """Read a local zip64 field; return (bytes, packed bytes) with it applied."""
        values = [int.from_bytes(wide[at : at + 8], "little") for at in range(0, len(wide), 8)]
        if len(wide) % 8 or len(wide) > 24:
            self.notes.add("SL203", f"the zip64 field of its local header has {len(wide)} bytes", name=entry.name)
            return nbytes, packed
        known = {entry.nbytes, entry.packed, entry.offset} | ({0} if pending else set())
        if not known.issuperset(values):
            self.notes.add("SL203", "the zip64 field of its local header disagrees with the directory", name=entry.name)
        if nbytes == _MAX32 and values:
            nbytes = values.pop(0)
        if packed == _MAX32 and values:
            packed = values.pop(0)
        return nbytes, packed

    # ---- what lies between members

    def _between(self, before: Entry | None, position: int, start: int, entry: Entry | None) -> None:
        """Account for the bytes from the end of one member's data to the next header (or to the directory)."""
        gap = start - position
        if gap < 0:
            if entry is None or before is None:
                self.notes.add("SL201", f"a local header at byte {start}, in front of the archive", offset=max(start, 0))
            else:
                self.notes.add("SL204", f"begins at byte {start}, and '{escape(before.name)}' ends at {position}", name=entry.name)
            return
        used = self._descriptor(before, position, gap) if before is not None and before.flags & FLAG_DESCRIPTOR else 0
        if gap > used:
            what = f"{gap - used} bytes" + (f" behind '{escape(before.name)}'" if before is not None else " in front of the first member")
            head = self.source.read(position + used, min(4, gap - used))
            kind = {b"PK\6\x08": ": archive extra data", b"PK\3\4": ": a member that the directory does not list"}.get(head, "")
            self.notes.add("SL205", f"{what} belong to no member{kind}", offset=position + used)

    def _descriptor(self, before: Entry, position: int, gap: int) -> int:
        """Check the data descriptor behind a member; return how many bytes it takes."""
        signature = 0x08074B50
        if gap == 16:
            at = self._fetch(position, position + 16)
            if _WORDS.unpack_from(self._bytes, at) == (signature, before.crc32, before.packed, before.nbytes):
                return 16
        found = self.source.read(position, min(gap, 24))
        crc = before.crc32.to_bytes(4, "little")
        for mark in (signature.to_bytes(4, "little"), b""):
            for width in (8, 4):
                if max(before.packed, before.nbytes) < 1 << 8 * width:
                    expected = mark + crc + before.packed.to_bytes(width, "little") + before.nbytes.to_bytes(width, "little")
                    if found.startswith(expected):
                        return len(expected)
        if gap in (12, 16, 20, 24):
            self.notes.add("SL203", "the data descriptor behind it disagrees with the directory", name=before.name)
            return gap
        self.notes.add("SL203", "its flags promise a data descriptor behind it, and there is none that agrees", name=before.name)
        return 0
