"""Forges 7z archives field by field: every number of the header can be another one, every stream can be broken."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MAGIC = b"7z\xbc\xaf\x27\x1c"


def number(value: int) -> bytes:
    """A number as the header writes it."""
    for more in range(8):
        if value < 1 << 7 * (more + 1):
            first = (0xFF00 >> more) & 0xFF | value >> 8 * more
            return bytes([first]) + (value & (1 << 8 * more) - 1).to_bytes(more, "little")
    return b"\xff" + value.to_bytes(8, "little")


def bits(flags: Sequence[bool]) -> bytes:
    """A vector of bits, highest first."""
    out = bytearray(-(-len(flags) // 8))
    for index, flag in enumerate(flags):
        out[index >> 3] |= 0x80 >> (index & 7) if flag else 0
    return bytes(out)


def prop(kind: int, data: bytes) -> bytes:
    """A property of the members: id, size, data."""
    return number(kind) + number(len(data)) + data


@dataclass
class Step:
    """One coder: its id, its properties, and what it makes of plain bytes."""

    method: bytes
    properties: bytes
    pack: Callable[[bytes], bytes]

    def described(self) -> bytes:
        """As it stands in a folder."""
        flags = len(self.method) | (0x20 if self.properties else 0)
        return bytes([flags]) + self.method + (number(len(self.properties)) + self.properties if self.properties else b"")


def _raw(*filters: dict[str, int]) -> Callable[[bytes], bytes]:
    return lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=list(filters))


def _deflate(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(data) + machine.flush()


def _delta(data: bytes) -> bytes:
    return bytes((byte - (data[index - 4] if index >= 4 else 0)) & 0xFF for index, byte in enumerate(data))


_DICTIONARY = 1 << 16


def _without_end(data: bytes) -> bytes:
    """LZMA as 7-Zip writes it: without an end marker, because the header says how long it is."""
    alone = lzma.compress(data, lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": _DICTIONARY}])
    return alone[13:]


COPY = Step(b"\0", b"", lambda data: data)
LZMA = Step(b"\3\1\1", bytes([93]) + _DICTIONARY.to_bytes(4, "little"), _without_end)
LZMA2 = Step(b"\x21", bytes([8]), _raw({"id": lzma.FILTER_LZMA2, "dict_size": _DICTIONARY}))
DEFLATE = Step(b"\4\1\x08", b"", _deflate)
BZIP2 = Step(b"\4\2\2", b"", bz2.compress)
DELTA = Step(b"\3", bytes([3]), _delta)


@dataclass
class Folder:
    """Members that are packed together. `stream` replaces the packed bytes, `sizes` and `coders` what the header says."""

    members: list[tuple[str, bytes]]
    steps: list[Step] = field(default_factory=lambda: [COPY])
    stream: bytes | None = None
    sizes: list[int] | None = None
    coders: bytes | None = None
    crcs: list[int] | None = None

    def packed(self) -> tuple[bytes, list[int]]:
        """The packed stream, and what each coder gives (the outermost first)."""
        data = b"".join(part for _, part in self.members)
        sizes = []
        for step in self.steps:
            sizes.append(len(data))
            data = step.pack(data)
        return (data if self.stream is None else self.stream), (sizes if self.sizes is None else self.sizes)

    def described(self) -> bytes:
        """As it stands in the header; each coder's output is bound to the input of the one before it."""
        if self.coders is not None:
            return self.coders
        count = len(self.steps)
        bonds = b"".join(number(index) + number(index + 1) for index in range(count - 1))
        return number(count) + b"".join(step.described() for step in self.steps) + bonds


def forge_7z(
    folders: Sequence[Folder],
    *,
    empty: Sequence[tuple[str, bool]] = (),
    anti: bool = False,
    modes: dict[str, int] | None = None,
    names: Sequence[str] | None = None,
    files: bytes = b"",
    between: bytes = b"",
    behind: bytes = b"",
    encode: bool = False,
    header: bytes | None = None,
    wrong_crc: bool = False,
    offset: int = 0,
) -> bytes:
    """An archive.

    Args:
        folders: What has bytes.
        empty: Names of members without bytes, and whether they are directories.
        anti: Those are to be removed.
        modes: Unix modes by name.
        names: Instead of the members' own.
        files: More properties of the members.
        between: Bytes between the packed streams and the header.
        behind: Bytes behind the header.
        encode: Pack the header, as 7-Zip does.
        header: Instead of the header that is made.
        wrong_crc: Of the header.
        offset: Added to where the packed streams are said to lie.
    """
    streams, sizes = [], []
    for folder in folders:
        stream, own = folder.packed()
        streams.append(stream)
        sizes.append(own)
    made = _header(folders, streams, sizes, empty, anti, modes or {}, names, files, offset) if header is None else header
    body = b"".join(streams) + between
    if encode:
        packed = LZMA2.pack(made)
        pack_info = number(6) + number(len(body)) + number(1) + number(9) + number(len(packed)) + number(0)
        unpack = number(7) + number(11) + number(1) + b"\0" + number(1) + LZMA2.described() + number(12) + number(len(made))
        crc = number(10) + b"\1" + zlib.crc32(made).to_bytes(4, "little")
        made, body = number(23) + pack_info + unpack + crc + number(0) + number(0), body + packed
    crc32 = zlib.crc32(made) ^ wrong_crc
    start = len(body).to_bytes(8, "little") + len(made).to_bytes(8, "little") + crc32.to_bytes(4, "little")
    return MAGIC + b"\0\4" + zlib.crc32(start).to_bytes(4, "little") + start + body + made + behind


def _header(
    folders: Sequence[Folder], streams: list[bytes], sizes: list[list[int]], empty: Sequence[tuple[str, bool]], anti: bool,
    modes: dict[str, int], names: Sequence[str] | None, files: bytes, offset: int,
) -> bytes:  # fmt: skip
    out = number(1)
    if folders:
        lengths = b"".join(number(len(stream)) for stream in streams)
        out += number(4) + number(6) + number(offset) + number(len(streams)) + number(9) + lengths + number(0)
        out += number(7) + number(11) + number(len(folders)) + b"\0" + b"".join(folder.described() for folder in folders)
        out += number(12) + b"".join(number(size) for own in sizes for size in own) + number(0)
        out += number(8) + number(13) + b"".join(number(len(folder.members)) for folder in folders)
        rest = b"".join(number(len(data)) for folder in folders for _, data in folder.members[:-1])
        crcs = [crc for folder in folders for crc in (folder.crcs or [zlib.crc32(data) for _, data in folder.members])]
        out += (number(9) + rest if rest else b"") + number(10) + b"\1" + b"".join(crc.to_bytes(4, "little") for crc in crcs)
        out += number(0) + number(0)
    members = [name for folder in folders for name, _ in folder.members] + [name for name, _ in empty]
    shown = members if names is None else list(names)
    out += number(5) + number(len(members))
    if empty:
        out += prop(14, bits([False] * (len(members) - len(empty)) + [True] * len(empty)))
        out += prop(15, bits([not directory for _, directory in empty]))
        out += prop(16, bits([True] * len(empty))) if anti else b""
    out += prop(17, b"\0" + b"".join(name.encode("utf-16-le", "surrogatepass") + b"\0\0" for name in shown))
    if modes:
        there = [name in modes for name in members]
        values = [(modes[name] << 16 | 0x8000).to_bytes(4, "little") for name in members if name in modes]
        out += prop(21, b"\0" + bits(there) + b"\0" + b"".join(values))
    return out + files + number(0) + number(0)
