"""Forges ZIP and tar files byte by byte: every field can be given any value, in every place where the format repeats it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_LOCAL = ("needed", "flags", "method", "time", "date", "crc", "packed", "nbytes", "names", "extras")
_ENTRY = ("made", "needed", "flags", "method", "time", "date", "crc", "packed", "nbytes", "names", "extras", "comments", "disk",
          "internal", "attributes", "offset")  # fmt: skip
_END = ("disk", "first_disk", "here", "count", "size", "offset", "comments")
_END64 = ("length", "made", "needed", "disk", "first_disk", "here", "count", "size", "offset")
_LOCATOR = ("disk", "offset", "disks")


@dataclass
class Part:
    """One member. `local` and `central` override any field by name, "signature" and "name" included.

    `descriptor`: None, or 12, 16, 20, 24 bytes (flag bit 3 is set and the local fields are zero), or any bytes.
    `offset` override in `central` is absolute; `listed` and `written` leave out the entry or the local part.
    """

    name: str | bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    packed: bytes | None = None
    descriptor: int | bytes | None = None
    local: Mapping[str, int | bytes] = field(default_factory=dict)
    central: Mapping[str, int | bytes] = field(default_factory=dict)
    local_extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    before: bytes = b""
    after: bytes = b""
    listed: bool = True
    written: bool = True

    @property
    def raw(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def stored(self) -> bytes:
        """The bytes as they stand in the file."""
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == 8 else self.data


def deflate(data: bytes, level: int = 9) -> bytes:
    """A raw deflate stream."""
    machine = zlib.compressobj(level, zlib.DEFLATED, -15)
    return machine.compress(data) + machine.flush()


def extra(ident: int, data: bytes) -> bytes:
    """One extra field."""
    return struct.pack("<2H", ident, len(data)) + data


def zip64(*values: int) -> bytes:
    """A zip64 extra field."""
    return extra(1, struct.pack(f"<{len(values)}Q", *values))


def _fields(names: Sequence[str], plain: Mapping[str, int | bytes], over: Mapping[str, int | bytes]) -> list[int | bytes]:
    unknown = set(over) - set(names) - {"signature", "name"}
    if unknown:
        raise KeyError(f"no such fields: {unknown}")
    return [over.get(name, plain.get(name, 0)) for name in names]


def local_header(part: Part) -> bytes:
    """The local header with name and extra data."""
    pending = part.descriptor is not None
    name = part.local.get("name", part.raw)
    assert isinstance(name, bytes)
    plain: dict[str, int | bytes] = {
        "needed": 20, "flags": part.flags | (8 if pending else 0), "method": part.method,
        "crc": 0 if pending else zlib.crc32(part.data), "packed": 0 if pending else len(part.stored),
        "nbytes": 0 if pending else len(part.data), "names": len(name), "extras": len(part.local_extra),
    }  # fmt: skip
    signature = part.local.get("signature", b"PK\3\4")
    return struct.pack("<4s5H3L2H", signature, *_fields(_LOCAL, plain, part.local)) + name + part.local_extra


def central_entry(part: Part, offset: int) -> bytes:
    """The central directory entry."""
    name = part.central.get("name", part.raw)
    assert isinstance(name, bytes)
    plain: dict[str, int | bytes] = {
        "made": 20, "needed": 20, "flags": part.flags | (8 if part.descriptor is not None else 0), "method": part.method,
        "crc": zlib.crc32(part.data), "packed": len(part.stored), "nbytes": len(part.data), "names": len(name),
        "extras": len(part.central_extra), "comments": len(part.comment), "offset": offset,
    }  # fmt: skip
    signature = part.central.get("signature", b"PK\1\2")
    return struct.pack("<4s6H3L5H2L", signature, *_fields(_ENTRY, plain, part.central)) + name + part.central_extra + part.comment


def descriptor(part: Part) -> bytes:
    """The data descriptor behind a member."""
    if part.descriptor is None or isinstance(part.descriptor, bytes):
        return part.descriptor or b""
    mark = b"PK\7\x08" if part.descriptor in (16, 24) else b""
    return mark + struct.pack("<L2Q" if part.descriptor >= 20 else "<3L", zlib.crc32(part.data), len(part.stored), len(part.data))


def forge(
    *parts: Part,
    comment: bytes = b"",
    prefix: bytes = b"",
    suffix: bytes = b"",
    before_directory: bytes = b"",
    before_end: bytes = b"",
    end: Mapping[str, int | bytes] | None = None,
    end64: Mapping[str, int | bytes] | None = None,
    locator: Mapping[str, int | bytes] | None = None,
    counted_prefix: bool = False,
    order: Sequence[int] | None = None,
) -> bytes:
    """Put a ZIP file together.

    Args:
        parts: Members in the order of the file; `order` permutes the directory.
        prefix: Bytes in front. Offsets do not count them unless `counted_prefix`.
        suffix: Bytes behind the end record and its comment.
        before_directory, before_end: Bytes in front of the directory, and between it and the end records.
        end, end64, locator: Overrides by field name. A zip64 record is written when `end64` is given, a locator with it
            or when `locator` is given; `{"omit": 1}` leaves it out.
    """
    base = 0 if not counted_prefix else len(prefix)
    body = b""
    offsets = []
    for part in parts:
        body += part.before
        offsets.append(base + len(body))
        if part.written:
            body += local_header(part) + part.stored + descriptor(part)
        body += part.after
    body += before_directory
    listed = [(part, offset) for part, offset in zip(parts, offsets, strict=True) if part.listed]
    entries = [central_entry(part, offset) for part, offset in listed]
    directory = b"".join(entries[index] for index in order) if order is not None else b"".join(entries)
    where = {"size": len(directory), "offset": base + len(body), "count": len(entries), "here": len(entries), "comments": len(comment)}
    out = body + directory + before_end
    if end64 is not None:
        record = base + len(out)
        plain = {"length": 44, "made": 45, "needed": 45, **where}
        out += struct.pack("<4sQ2H2L4Q", b"PK\6\6", *_fields(_END64, plain, end64))
        locator = {"offset": record, "disks": 1, **(locator or {})}
    if locator is not None:
        out += struct.pack("<4sLQL", b"PK\6\7", *_fields(_LOCATOR, {}, locator))
    out += struct.pack("<4s4H2LH", b"PK\5\6", *_fields(_END, where, end or {})) + comment
    return prefix + out + suffix


def torch_zip(members: Mapping[str, bytes], top: str = "archive", *, align: int = 64) -> bytes:
    """A ZIP file as torch's writer lays it out: aligned by "FB" padding, descriptors, zip64 end records that repeat."""
    parts: list[Part] = []
    position = 0
    for name, data in members.items():
        raw = f"{top}/{name}".encode()
        start = position + 30 + len(raw) + 4
        padding = -start % align
        sized = Part(
            raw, data, flags=0x0800, descriptor=16 if data else None, local_extra=extra(0x4246, b"Z" * padding),
            local={"needed": 0}, central={"needed": 0, "made": 0},
        )  # fmt: skip
        parts.append(sized)
        position = start + padding + len(data) + (16 if data else 0)
    return forge(*parts, end64={"made": 0x031E})


# ---- tar


def tar_header(
    name: bytes,
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    link: bytes = b"",
    magic: bytes = b"ustar\00000",
    prefix: bytes = b"",
    checksum: int | bytes | None = None,
    **fields: bytes,
) -> bytes:
    """One 512-byte header. Numbers may be given as the bytes of their field; `fields` overrides mode, uid, gid, mtime."""
    digits = size if isinstance(size, bytes) else b"%011o\0" % size
    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            fields.get("mode", b"0000644\0"),
            fields.get("uid", b"0000000\0"),
            fields.get("gid", b"0000000\0"),
            digits.ljust(12, b"\0"),
            fields.get("mtime", b"00000000000\0"),
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            magic.ljust(8, b"\0"),
            bytes(64),
            bytes(16),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    if checksum is None:
        checksum = sum(block)
    digits = checksum if isinstance(checksum, bytes) else b"%06o\0 " % checksum
    return block[:148] + digits + block[156:]


def tar_member(name: bytes, data: bytes = b"", kind: bytes = b"0", **more: object) -> bytes:
    """A header, the data, and zeros up to the next block."""
    return tar_header(name, len(data), kind, **more) + data + bytes(-len(data) % 512)  # type: ignore[arg-type]


def pax(*records: tuple[bytes, bytes] | bytes, kind: bytes = b"x") -> bytes:
    """A pax extended header; a record given as bytes is taken as it is."""
    body = b""
    for record in records:
        if isinstance(record, bytes):
            body += record
            continue
        rest = b" " + record[0] + b"=" + record[1] + b"\n"
        length = len(rest) + 1
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        body += str(length).encode() + rest
    return tar_member(b"PaxHeaders/x", body, kind)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """A GNU long name (L) or long link (K) header."""
    return tar_member(b"././@LongLink", name + b"\0", kind, magic=b"ustar  \0")


TAR_END = bytes(1024)
