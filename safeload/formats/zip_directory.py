"""The end of a ZIP file: end record, zip64 record, central directory. What it says is checked against itself.

Readers search the end record from the back; where two of them could settle on different records, that is a finding.
Sources: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5; the search and field rules of the stdlib's zipfile and of the
reader inside torch, which looks up to 4 KiB further back than the format allows.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Final

from safeload.findings import Level, escape
from safeload.formats.container import Notes, check_name
from safeload.formats.first_bytes import END, END_SIGNATURE, TAIL
from safeload.lean_dataclass import dataclass
from safeload.source import Limits, Source

__all__ = ["End", "Entry", "extra_fields", "find_end", "read_directory"]

LOCATOR: Final = Struct("<4sLQL")
END64: Final = Struct("<4sQ2H2L4Q")
ENTRY: Final = Struct("<4s6H3L5H2L")
_PAIR: Final = Struct("<2H")
_SIGNATURES: Final = (b"PK\1\2", b"PK\3\4", b"PK\5\5", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\6\x08", b"PK\7\x08")
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF

FLAG_DESCRIPTOR: Final = 0x0008
_FLAGS_ENCRYPTED: Final = 0x2061  # encrypted, patch data, strong encryption, masked local headers
_FLAGS_ORDINARY: Final = 0x080E  # deflate level, data descriptor, UTF-8
_UTF8: Final = 0x0800

ZIP64: Final = 0x0001
PADDING: Final = 0x4246  # "FB": torch aligns the data with it
# NTFS and Unix times and owners, Info-ZIP's three generations, jar's mark, Android's alignment: no reader takes names or sizes from them.
_HARMLESS: Final = frozenset({ZIP64, PADDING, 0x000A, 0x5455, 0x5855, 0x7855, 0x7875, 0xCAFE, 0xD935})
_ENCRYPTION: Final = frozenset({0x0017, 0x9901})
_SECOND_TEXT: Final = {0x7075: "name", 0x6375: "comment"}


@dataclass(slots=True)
class End:
    """What the end record says, with the zip64 record's word where there is one.

    Attributes:
        position: First byte of the end record.
        boundary: Where the directory has to end: at the zip64 record, else at the end record.
        count: Entries. size: Bytes of the directory. offset: Its first byte, as stated.
        comment: The archive comment.
        shift: Bytes in front of the archive that its offsets do not count.
    """

    position: int
    boundary: int
    count: int
    size: int
    offset: int
    comment: bytes = b""
    shift: int = 0


@dataclass(slots=True)
class Entry:
    """One central directory entry, zip64 resolved. `packed` and `nbytes` count bytes; `key` is what look-alikes share."""

    name: str
    raw: bytes
    flags: int
    method: int
    crc32: int
    packed: int
    nbytes: int
    offset: int
    key: str = ""
    problem: str | None = None


# ---- end records


def find_end(source: Source, notes: Notes) -> End | str:
    """Find the one end record and check what it says of itself; a string says why there is none."""
    start = max(0, source.size - TAIL)
    tail = bytes(source.view(start, source.size - start))
    places: list[int] = []
    at = tail.find(END_SIGNATURE)
    while 0 <= at <= len(tail) - END.size:
        places.append(at)
        at = tail.find(END_SIGNATURE, at + 1)
    if not places:
        return "no end record: the archive is truncated, or not a ZIP file"
    # An end record whose comment ends with the file is one that some reader takes; the last signature is what most take.
    exact = [place for place in places if place + END.size + END.unpack_from(tail, place)[7] == len(tail)]
    place = places[-1]
    if len(exact) > 1 or (exact and exact[-1] != place):
        notes.add("SL201", f"{len(set(exact) | {place})} end records: readers differ in which one they take", offset=start + exact[0])
    _, disk, first_disk, here, count, size, offset, comment_bytes = END.unpack_from(tail, place)
    end = End(start + place, start + place, count, size, offset, tail[place + END.size :][:comment_bytes])
    behind = len(tail) - place - END.size - comment_bytes
    if behind > 0:
        notes.add("SL205", f"{behind} bytes behind the end record", offset=source.size - behind)
    elif behind < 0:
        notes.add("SL201", f"the archive comment has {comment_bytes} bytes, and the file ends {-behind} bytes earlier", offset=end.position)
    if disk or first_disk or here != count:
        notes.add("SL201", f"says it is one of several disks (disk {disk}, {here} of {count} entries)", offset=end.position)
    if end.comment:
        check_comment(notes, end.comment, "the archive comment", None, end.position + END.size)
    locator_at = place - LOCATOR.size
    if locator_at >= 0 and tail[locator_at : locator_at + 4] == b"PK\6\7":
        _read_end64(source, notes, end, tail, locator_at)
    return end


def check_comment(notes: Notes, comment: bytes, what: str, name: str | None, offset: int | None) -> None:
    """A comment is worth a note; one that holds ZIP signatures can become structure for another reader."""
    if any(signature in comment for signature in _SIGNATURES):
        notes.add("SL205", f"{what} holds ZIP signatures", name=name, offset=offset)
    else:
        notes.add("SL218", f"{what} has {len(comment)} bytes", name=name, offset=offset, level=Level.NOTE)


def _read_end64(source: Source, notes: Notes, end: End, tail: bytes, locator_at: int) -> None:
    """Take the zip64 record's values, as readers do, and report where the end record says otherwise."""
    _, disk, position, disks = LOCATOR.unpack_from(tail, locator_at)
    locator = end.position - LOCATOR.size
    end.boundary = locator
    if disk or disks != 1:
        notes.add("SL201", f"the zip64 locator says it is one of several disks (record on disk {disk} of {disks})", offset=locator)
    if position + END64.size > locator or source.read(position, 4) != b"PK\6\6":
        notes.add("SL201", f"the zip64 locator points to byte {position}, where no zip64 record is", offset=locator)
        position = locator - END64.size  # where the stdlib's reader looks
        if position < 0 or source.read(position, 4) != b"PK\6\6":
            return
    _, size, _made, _needed, this, first, here, count, directory, offset = END64.unpack(source.read(position, END64.size))
    end.boundary = position
    if position + 12 + size != locator or size != END64.size - 12:
        room = locator - position - 12
        notes.add("SL201", f"the zip64 record says {size} bytes; there are {room} up to its locator, and 44 are known", offset=position)
    if this or first or here != count:
        notes.add("SL201", f"the zip64 record says it is one of several disks ({here} of {count} entries)", offset=position)
    for what, narrow, wide, most in (
        ("entries", end.count, count, _MAX16),
        ("directory bytes", end.size, directory, _MAX32),
        ("directory offset", end.offset, offset, _MAX32),
    ):
        if narrow not in (most, wide):
            notes.add("SL201", f"{what}: the end record says {narrow}, the zip64 record {wide}", offset=position)
    end.count, end.size, end.offset = count, directory, offset


# ---- central directory


def read_directory(source: Source, end: End, limits: Limits, notes: Notes) -> tuple[list[Entry], str | None]:
    """Read every entry of the central directory; the string says why it ended early.

    Where the directory is not at the stated offset but right before the end record, `end.shift` says how far everything is shifted.
    """
    start = end.boundary - end.size
    if end.offset != start:
        stated = end.offset + end.size <= end.position and (not end.size or source.read(end.offset, min(4, end.size)) == b"PK\1\2")
        if stated:
            stop = end.offset + end.size
            notes.add("SL205", f"the directory ends at byte {stop}, and its end record begins at {end.boundary}", offset=end.offset)
            start = end.offset
        elif start >= end.offset:
            notes.add("SL205", f"{start - end.offset} bytes in front of the archive", offset=0)
            end.shift = start - end.offset
        else:
            return [], f"the directory of {end.size} bytes at byte {end.offset} does not lie before its end record at {end.boundary}"
    end.offset = start
    entries, error = _read_entries(bytes(source.view(start, end.size, "the central directory")), start, limits, notes)
    if error is None and len(entries) != end.count:
        notes.add("SL201", f"the end record counts {end.count} entries, and the directory has {len(entries)}", offset=start)
    return entries, error


def _read_entries(data: bytes, start: int, limits: Limits, notes: Notes) -> tuple[list[Entry], str | None]:
    """Split the directory's bytes into entries; anything but entries in them is an error."""
    entries: list[Entry] = []
    at, size = 0, len(data)
    unpack, fixed = ENTRY.unpack_from, ENTRY.size
    while at < size:
        if len(entries) >= limits.members:
            return entries, f"more than {limits.members} members"
        if at + fixed > size or data[at : at + 4] != b"PK\1\2":
            what = "a digital signature" if data[at : at + 4] == b"PK\5\5" else "no entry"
            return entries, f"{what} at byte {start + at} of the central directory"
        _, _, needed, flags, method, _, _, crc, packed, nbytes, names, extras, comments, disk, _, attributes, offset = unpack(data, at)
        middle = at + fixed + names
        stop = middle + extras + comments
        if stop > size:
            return entries, f"the entry at byte {start + at} ends behind the central directory"
        raw = data[at + fixed : middle]
        entry = Entry(_decode(raw, flags), raw, flags, method, crc, packed, nbytes, offset)
        if (
            extras or comments or disk or needed > 45 or flags & ~_FLAGS_ORDINARY
            or packed == _MAX32 or nbytes == _MAX32 or offset == _MAX32
            or not (method == 8 or (method == 0 and packed == nbytes))
            or attributes & 0xF0000010 not in (0, 0x80000000) or (nbytes and raw.endswith(b"/"))
        ):  # fmt: skip
            _examine(entry, data[middle : middle + extras], data[middle + extras : stop], (needed, disk, attributes), notes)
        entry.key = check_name(notes, "SL210", entry.name)
        if not raw.isascii():
            _check_encoding(entry, notes)
        entries.append(entry)
        at = stop
    return entries, None


def _decode(raw: bytes, flags: int) -> str:
    """Decode a name: UTF-8 where it is declared or plainly is, else code page 437, which every byte string is."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "backslashreplace") if flags & _UTF8 else raw.decode("cp437")


def _check_encoding(entry: Entry, notes: Notes) -> None:
    try:
        entry.raw.decode()
    except UnicodeDecodeError:
        level = Level.ERROR if entry.flags & _UTF8 else Level.WARNING
        notes.add("SL210", f"member name '{escape(entry.name)}' is not UTF-8", name=entry.name, level=level)
    else:
        if not entry.flags & _UTF8:
            notes.add("SL210", f"member name '{escape(entry.name)}' is UTF-8 without saying so", name=entry.name, level=Level.NOTE)


def _examine(entry: Entry, extra: bytes, comment: bytes, fields: tuple[int, int, int], notes: Notes) -> None:
    """Look at everything about an entry that is out of the ordinary."""
    needed, disk, attributes = fields
    name = entry.name
    wide = check_extra(entry, extra, "central directory", notes) if extra else None
    _resolve_zip64(entry, wide, disk, notes)
    if disk not in (0, _MAX16) or (disk == _MAX16 and wide is None):
        notes.add("SL201", f"lies on disk {disk}", name=name)
    if comment:
        check_comment(notes, comment, "its comment", name, None)
    # Encryption as it is meant adds 12 bytes; then nobody can say what is in it. Without them the flag is there to stop a reader.
    sealed = entry.flags & _FLAGS_ENCRYPTED == 1 and (entry.method != 0 or entry.packed == entry.nbytes + 12)
    check_flags(entry.flags, "central directory", name, notes, Level.WARNING if sealed else Level.ERROR)
    if needed & 0xFF > 45 or needed > 0xFF:
        level = Level.WARNING if needed & 0xFF > 63 else Level.NOTE
        notes.add("SL218", f"needs version {(needed & 0xFF) / 10} of the format (host {needed >> 8})", name=name, level=level)
    if entry.method not in (0, 8):
        notes.add("SL207", f"compression method {entry.method} is not read", name=name)
        entry.problem = f"compression method {entry.method} is not read"
    elif entry.method == 0 and sealed:
        entry.problem = "it is encrypted"
    elif entry.method == 0 and entry.packed != entry.nbytes:
        notes.add("SL203", f"stored without compression, and yet {entry.packed} bytes hold {entry.nbytes}", name=name)
    kind = attributes >> 28
    if kind in (0xA, 0x1, 0x2, 0x6, 0xC):
        what = {0xA: "a symbolic link", 0x1: "a named pipe", 0xC: "a socket"}.get(kind, "a device")
        notes.add("SL210", f"is {what} when extracted", name=name)
    if entry.nbytes and (attributes & 0x10 or name.endswith("/")):
        notes.add("SL218", f"is a directory by name or flag, and yet has {entry.nbytes} bytes: some readers give none of them", name=name)


def check_flags(flags: int, where: str, name: str, notes: Notes, level: Level = Level.ERROR) -> None:
    """Report flags that make readers refuse a member or read it in another way."""
    if flags & _FLAGS_ENCRYPTED:
        notes.add("SL206", f"{where}: flags {flags & _FLAGS_ENCRYPTED:#06x} mark it as encrypted or patched", name=name, level=level)
    if flags & ~(_FLAGS_ORDINARY | _FLAGS_ENCRYPTED):
        notes.add("SL218", f"{where}: flags {flags & ~(_FLAGS_ORDINARY | _FLAGS_ENCRYPTED):#06x} have no settled meaning", name=name)


# ---- extra fields


def extra_fields(extra: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Split extra data into (id, bytes); the number is how many bytes at its end make no field."""
    fields: list[tuple[int, bytes]] = []
    at = 0
    while at + 4 <= len(extra):
        ident, size = _PAIR.unpack_from(extra, at)
        if at + 4 + size > len(extra):
            break
        fields.append((ident, extra[at + 4 : at + 4 + size]))
        at += 4 + size
    return fields, len(extra) - at


def check_extra(entry: Entry, extra: bytes, where: str, notes: Notes) -> bytes | None:
    """Report extra fields that could change what a reader sees; return the zip64 field's bytes, or None."""
    name = entry.name
    fields, rest = extra_fields(extra)
    if rest:
        notes.add("SL218", f"{where}: {rest} bytes at the end of the extra data make no field", name=name)
    wide = [data for ident, data in fields if ident == ZIP64]
    if len(wide) > 1:
        notes.add("SL218", f"{where}: {len(wide)} zip64 fields, and readers differ in which one they take", name=name, level=Level.ERROR)
    for ident, data in fields:
        if ident == PADDING:
            if data.strip(b"Z") and data.strip(b"\0"):
                notes.add("SL205", f"{where}: {len(data)} bytes that are not padding in the padding field", name=name, level=Level.WARNING)
        elif ident in _SECOND_TEXT:
            _check_second_text(entry, data, _SECOND_TEXT[ident], where, notes)
        elif ident in _ENCRYPTION:
            level = Level.WARNING if entry.flags & 1 else Level.ERROR
            notes.add("SL206", f"{where}: extra field {ident:#06x} belongs to encryption", name=name, level=level)
        elif ident not in _HARMLESS:
            notes.add("SL218", f"{where}: extra field {ident:#06x} of {len(data)} bytes is not known", name=name)
    return wide[0] if wide else None


def _check_second_text(entry: Entry, data: bytes, what: str, where: str, notes: Notes) -> None:
    """A Unicode path field renames the member for the readers that know it, when its CRC fits the name."""
    if what == "name" and data[5:] == entry.raw:
        notes.add("SL218", f"{where}: the name is there a second time, the same", name=entry.name, level=Level.NOTE)
        return
    second = escape(data[5:].decode("utf-8", "backslashreplace"))
    fits = what == "name" and data[:1] == b"\1" and data[1:5] == zlib.crc32(entry.raw).to_bytes(4, "little")
    level = Level.ERROR if fits else Level.WARNING
    notes.add("SL218", f"{where}: a second {what} for readers that look for it: '{second}'", name=entry.name, level=level)


def _resolve_zip64(entry: Entry, wide: bytes | None, disk: int, notes: Notes) -> None:
    """Put the 64-bit values in the place of the fields that are all ones."""
    missing = [which for which in ("nbytes", "packed", "offset") if getattr(entry, which) == _MAX32]
    if wide is None:
        if missing:
            notes.add("SL203", f"{', '.join(missing)}: all ones, which stands for a zip64 field, and there is none", name=entry.name)
        return
    if len(wide) < 8 * len(missing):
        notes.add("SL203", f"its zip64 field has {len(wide)} bytes for {len(missing)} values", name=entry.name)
        return
    for number, which in enumerate(missing):
        setattr(entry, which, int.from_bytes(wide[8 * number : 8 * number + 8], "little"))
    if len(wide) == 8 * len(missing) + (4 if disk == _MAX16 else 0):
        return
    # More than the fields ask for: harmless when it repeats them in the format's order, since every way of reading it agrees.
    values = [int.from_bytes(wide[at : at + 8], "little") for at in range(0, len(wide) & ~7, 8)]
    agrees = len(wide) in (8, 16, 24, 28) and values == [entry.nbytes, entry.packed, entry.offset][: len(values)] and not any(wide[24:])
    message = f"its zip64 field has {len(wide)} bytes, and {8 * len(missing)} are called for"
    notes.add("SL218" if agrees else "SL203", message, name=entry.name, level=Level.NOTE if agrees else None)
