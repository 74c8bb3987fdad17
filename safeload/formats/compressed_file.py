"""Files that are one compressed stream: gzip, zlib, bzip2, xz, lzma, lz4, zstd, and joblib's own wrapper around zlib.

What comes out is read as a file of its own. joblib and pandas unpack them by their first bytes, whatever they are called, and
stop at the STOP of the pickle inside: so a stream that breaks, ends early or has a wrong checksum is looked at as far as it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from safeload.errors import MalformedError, MissingExtraError, SafeloadError
from safeload.findings import Level
from safeload.formats.base import Contents
from safeload.formats.decoders import Machine, Zlib, broken_as_malformed, bzip2, lzma_alone, xz
from safeload.formats.lz4_frame import MAGIC as LZ4
from safeload.formats.lz4_frame import unpack
from safeload.formats.nested import inner_reading
from safeload.formats.not_a_model import plainly_no_model
from safeload.formats.streams import looks_like_pickle
from safeload.formats.zstd_frame import looks_like_zstd, unpack_zstd
from safeload.lean_dataclass import dataclass, replace
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["CompressedFile"]

_UNPACKED: Final = "unpacked"
_CHUNK: Final = 1 << 20
_PROBE: Final = 1 << 16
_FIRST: Final = 512  # bytes that must come out of what may be text
_MEMBERS: Final = 100_000  # compressed streams behind one another
_ZFILE: Final = b"ZF0x"
_BUILT: Final = frozenset({"pickle", "joblib"})


@dataclass(frozen=True, slots=True)
class _Codec:
    """One way of compressing: `machine` makes what unpacks one stream."""

    name: str
    magic: bytes
    machine: Callable[[], Machine]
    repeats: bool = True


_CODECS: Final = (
    _Codec("gzip", b"\x1f\x8b\x08", lambda: Zlib(31)),
    _Codec("bzip2", b"BZh", bzip2),
    _Codec("xz", b"\xfd7zXZ\0", xz),
    _Codec("lzma", b"]\0\0", lzma_alone, repeats=False),
    _Codec("zlib", b"x", lambda: Zlib(15)),
)


class CompressedFile:
    """The formats "gzip", "bzip2", "xz", "lzma", "zlib", "lz4", "zstd"; "joblib" where that is what comes out."""

    name: Final = "compressed"

    def claims(self, source: Source) -> bool:
        """By magic, and because something comes out."""
        head = source.head(32)
        if head.startswith((_ZFILE, LZ4)) or looks_like_zstd(head):
            return True
        codec = _codec(head)
        if codec is None:
            return False
        try:
            with broken_as_malformed(codec.name):
                return bool(codec.machine().decompress(bytes(source.head(_PROBE)), _FIRST)) or len(codec.magic) > 2
        except (MalformedError, MemoryError):
            return len(codec.magic) > 3

    def read(self, source: Source, reading: Reading) -> Contents:
        """Unpack within the budget, and read what came out."""
        contents = Contents(format=_name(source.head(32)))
        if reading.depth >= reading.limits.nesting:
            contents.error = f"containers are nested deeper than {reading.limits.nesting} levels; what lies here was not looked at"
            contents.findings.append(finding("SL217", contents.error))
            return contents
        inner = inner_reading(source, reading)
        out = bytearray()
        try:
            for piece in _pieces(source):
                if len(out) + len(piece) > inner.budget.memory:
                    contents.error = f"unpacks to more than the {inner.budget.memory} bytes that are granted to a file of this size"
                    contents.findings.append(finding("SL208", contents.error, level=Level.WARNING))
                    break
                out += piece
        except MissingExtraError as error:
            contents.error = error.message
            return contents
        except MalformedError as error:
            contents.error = error.message
            contents.findings.append(finding(error.rule or "SL502", f"the compressed stream breaks: {error.message}", level=Level.WARNING))
        inner.budget.memory -= len(out)
        if looks_like_pickle(source.view(0, min(source.size, _PROBE)), source.size):
            contents.findings.append(finding("SL213", f"the file is {contents.format} and a pickle stream at once"))
        _take(contents, source, out, inner)
        return contents


def _codec(head: bytes) -> _Codec | None:
    for codec in _CODECS:
        if head.startswith(codec.magic):
            # zlib's only magic is that its first two bytes are a multiple of 31, deflate is named, and no dictionary is asked for
            plain = len(codec.magic) > 1 or (len(head) > 2 and not (head[0] << 8 | head[1]) % 31 and not head[1] & 0x20)
            return codec if plain else None
    return None


def _name(head: bytes) -> str:
    if head.startswith(_ZFILE):
        return "zlib"
    codec = _codec(head)
    return codec.name if codec is not None else "zstd" if looks_like_zstd(head) else "lz4"


def _pieces(source: Source) -> Iterator[bytes]:
    """Yield what the file unpacks to, at most a few MiB at a time.

    Raises:
        MalformedError: it breaks; what came before was yielded.
    """
    head = source.head(32)
    if head.startswith(LZ4):
        yield from _lz4(source)
        return
    if looks_like_zstd(head):
        with broken_as_malformed("zstd"):
            yield from unpack_zstd(source)
        return
    start, codec = 0, _codec(head)
    if codec is None:  # "ZF", the unpacked length in hexadecimal, zlib
        start, codec = 21 + (head[21:22] == b" "), _CODECS[-1]
    with broken_as_malformed(codec.name):
        yield from _inflate(source, start, codec)


def _inflate(source: Source, start: int, codec: _Codec) -> Iterator[bytes]:
    at, rest, machine, count = start, b"", codec.machine(), 1
    while True:
        if machine.eof:
            rest = machine.unused_data
            if not rest:
                rest = source.read(at, min(_CHUNK, source.size - at))
                at += len(rest)
            if not rest:
                return
            behind = source.size - at + len(rest)
            if not codec.repeats or count >= _MEMBERS or not rest.startswith(codec.magic[: len(rest)]):
                if rest.strip(b"\0") or at < source.size:
                    raise MalformedError(f"{behind} bytes follow the compressed stream").under("SL126")
                return
            machine, count = codec.machine(), count + 1
            yield machine.decompress(rest, _CHUNK)
        elif machine.needs_input:
            data = source.read(at, min(_CHUNK, source.size - at))
            at += len(data)
            if not data:
                raise MalformedError("it ends before its end marker").under("SL502")
            yield machine.decompress(data, _CHUNK)
        else:
            yield machine.decompress(b"", _CHUNK)


def _lz4(source: Source) -> Iterator[bytes]:
    end = 0
    for block, end in unpack(source.view(0, source.size)):  # noqa: B007 — where the last block ended
        yield block
    if end != source.size:
        raise MalformedError(f"{source.size - end} bytes follow the compressed stream").under("SL126")


def _take(contents: Contents, source: Source, data: bytearray, reading: Reading) -> None:
    """Read what came out as a file of its own, and move what is found there to the file around it."""
    from safeload import formats  # it lists the readers, and this one among them

    inner = Source.open(data, name=f"{source.name}!{_UNPACKED}")
    try:
        found = formats.read(inner, reading)
    except SafeloadError as error:
        contents.error = contents.error or error.message
        return
    if found is None:
        why = plainly_no_model(inner)
        if why is None:
            contents.error = contents.error or "what is compressed is in no format that is read"
        contents.findings.append(finding("SL215", f"what is compressed is {why or 'in no format that is read'}"))
        return
    contents.metadata |= found.metadata | {"compression": contents.format, "content": found.format}
    if found.format == "joblib":
        contents.format = found.format
    for part in found.parts:
        part.member = _UNPACKED if part.member is None else f"{_UNPACKED}!{part.member}"
        part.main = part.main and found.format in _BUILT
        contents.parts.append(part)
    contents.findings += (
        replace(item, member=_UNPACKED if item.member is None else f"{_UNPACKED}!{item.member}") for item in found.findings
    )
    contents.error = contents.error or found.error
