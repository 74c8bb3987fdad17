"""One tar header: 512 bytes, its numbers and its extension records, read strictly.

Sources: POSIX.1-2017 pax (ustar and pax interchange formats), GNU tar's "basic tar format", and what the stdlib's
tarfile accepts: where it is more lenient, the field is named in `Header.odd`.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from safeload.errors import MalformedError
from safeload.lean_dataclass import dataclass, field

__all__ = ["BLOCK", "Header", "checksum_fits", "parse_header", "parse_pax"]

BLOCK: Final = 512
FITS: Final = 8**11  # sizes from here on do not fit into eleven octal digits

_FIELDS: Final = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_OCTAL: Final = re.compile(rb" *([0-7]+)[ \0]*\Z")
_BLANK: Final = re.compile(rb"[ \0]*\Z")
_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")


@dataclass(slots=True)
class Header:
    """What one header says.

    Attributes:
        name: Without the prefix field.
        prefix: ustar's first part of the name; b"" where the format has none.
        size: Bytes of data, as stated.
        kind: The type flag.
        link: Where a link points.
        posix: Whether the magic is ustar's own.
        odd: Fields in a form that readers disagree on.
        extended: For kind "S", whether more sparse headers follow.
    """

    name: bytes
    prefix: bytes
    size: int
    kind: bytes
    link: bytes
    posix: bool
    odd: list[str] = field(default_factory=list)
    extended: bool = False


def checksum_fits(block: bytes) -> bool:
    """Whether a block is a header for the most lenient reader: its checksum fits, counted signed or unsigned."""
    if len(block) != BLOCK or not any(block):
        return False
    stated = block[148:156]
    if stated[0] in (0x80, 0xFF):
        value = int.from_bytes(stated[1:], "big") - (256**7 if stated[0] == 0xFF else 0)
    else:
        try:
            value = int(stated.partition(b"\0")[0].decode("ascii").strip() or "0", 8)
        except ValueError:
            return False
    return value in _checksums(block)


def _checksums(block: bytes) -> tuple[int, int]:
    """The sum of all bytes with the checksum field blank, of unsigned and of signed bytes."""
    rest = block[:148] + block[156:]
    unsigned = sum(rest) + 8 * 0x20
    return unsigned, unsigned - 256 * sum(byte > 0x7F for byte in rest)


def _number(raw: bytes, what: str, odd: list[str]) -> int:
    """Read a numeric field: octal text, or the base-256 form for what does not fit.

    Raises:
        MalformedError: neither.
    """
    match = _OCTAL.match(raw)
    if match is not None:
        return int(match[1], 8)
    if raw[0] in (0x80, 0xFF):
        value = int.from_bytes(raw[1:], "big") - (256 ** (len(raw) - 1) if raw[0] == 0xFF else 0)
        if 0 <= value < 8 ** (len(raw) - 1):
            odd.append(f"the {what} {value} is written in base 256, and would fit as octal digits")
        return value
    if _BLANK.match(raw):
        odd.append(f"the {what} is blank")
        return 0
    raise MalformedError(f"the {what} is neither octal nor base 256: {raw!r}")


def parse_header(block: bytes) -> Header:
    """Read one header.

    Raises:
        MalformedError: the checksum is wrong, or the size is no number, or negative.
    """
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, _, _, major, minor, prefix, _ = _FIELDS.unpack(block)
    odd: list[str] = []
    unsigned, signed = _checksums(block)
    stated = _number(checksum, "checksum", odd)
    if stated != unsigned:
        if stated != signed:
            raise MalformedError(f"the header's checksum is {stated}, and its bytes sum up to {unsigned}")
        odd.append("the checksum counts signed bytes")
    nbytes = _number(size, "size", odd)
    if nbytes < 0:
        raise MalformedError(f"the size {nbytes} is negative")
    posix = magic[:6] == b"ustar\0"
    devices = (("major", major), ("minor", minor)) if posix or kind in (b"3", b"4") else ()
    for what, raw in (("mode", mode), ("uid", uid), ("gid", gid), ("mtime", mtime), *devices):
        if not _OCTAL.match(raw) and raw[0] not in (0x80, 0xFF) and not _BLANK.match(raw):
            odd.append(f"the {what} is not a number, for which some readers end the archive here")
    return Header(_cut(name), _cut(prefix), nbytes, kind, _cut(link), posix, odd, bool(block[482]))


def _cut(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Read pax records, "length key=value newline" each.

    Raises:
        MalformedError: a length is wrong, something is left over, or a key that decides on a name or a place stands twice.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        match = _LENGTH.match(data, at)
        length = int(match[1]) if match is not None else 0
        record = data[at : at + length]
        key, equals, value = record[match.end() - at : -1].partition(b"=") if match is not None else (b"", b"", b"")
        if not key or not equals or len(record) != length or record[-1:] != b"\n":
            raise MalformedError(f"byte {at} of a pax header begins no record: {data[at : at + 20]!r}")
        if key in records and not key.startswith((b"GNU.sparse.offset", b"GNU.sparse.numbytes")):
            raise MalformedError(f"the pax key {key!r} stands twice")
        records[key] = value
        at += length
    return records
