"""What a folder of a 7z archive unpacks to: a chain of the standard library's decompressors, each bounded and each held to its stated size.

Filters (delta, branch converters) run alone through liblzma: what goes in is wrapped as stored LZMA2 chunks, so that the filter gets a
proper end and gives its last bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.formats.decoders import Machine, Zlib, bounded, broken_as_malformed, bzip2, drive, lzma1, raw_lzma
from safeload.formats.sevenzip_header import Coder, Folder
from safeload.source import Source

__all__ = ["cannot_unpack", "unpack_folder"]

_CHUNK: Final = 1 << 20
_STORED: Final = 1 << 16  # bytes of a stored LZMA2 chunk, at most

_COPY, _LZMA, _LZMA2, _DEFLATE, _BZIP2 = b"\0", b"\3\1\1", b"\x21", b"\4\1\x08", b"\4\2\2"
_DELTA: Final = b"\3"
# liblzma's numbers of the branch converters, by 7z's ids, the short ones of newer writers too.
_BRANCH: Final = {
    b"\3\3\1\3": 4, b"\4": 4, b"\3\3\2\5": 5, b"\5": 5, b"\3\3\4\1": 6, b"\6": 6, b"\3\3\5\1": 7, b"\7": 7,
    b"\3\3\7\1": 8, b"\x08": 8, b"\3\3\x08\5": 9, b"\t": 9,
}  # fmt: skip
_READ: Final = frozenset({_COPY, _LZMA, _LZMA2, _DEFLATE, _BZIP2, _DELTA, *_BRANCH})
_NAMES: Final = {
    b"\3\3\1\x1b": "BCJ2", b"\3\4\1": "PPMd", b"\4\1\t": "Deflate64", b"\6\xf1\7\1": "AES encryption", b"\x0a": "ARM64 filter",
    b"\x0b": "RISC-V filter", b"\4\xf7\x11\1": "Zstandard", b"\4\xf7\x11\2": "Brotli", b"\4\xf7\x11\4": "LZ4",
}  # fmt: skip
_ENCRYPTED: Final = b"\6\xf1\7\1"


def cannot_unpack(folder: Folder) -> tuple[str, bool] | None:
    """Say why a folder is not unpacked here, and whether it is encrypted; None when it is."""
    for coder in folder.coders:
        if coder.method not in _READ:
            name = _NAMES.get(coder.method, coder.method.hex() or "no name")
            return f"packed with {name}, which is not read", coder.method == _ENCRYPTED
    return None if folder.chain is not None else ("packed with coders that are no chain", False)


def unpack_folder(source: Source, folder: Folder, offset: int, packed: int) -> Iterator[bytes]:
    """Yield what a folder unpacks to, in pieces of at most 1 MiB.

    Args:
        source: The archive.
        folder: One for which `cannot_unpack` has no reason.
        offset: First byte of its packed stream in the file.
        packed: Bytes of it.

    Raises:
        MalformedError: a coder's data are broken, or give more or fewer bytes than the header says.
    """
    pieces = _stored(source, offset, packed)
    for number in folder.chain or ():
        pieces = _step(folder.coders[number], pieces, folder.sizes[number])
    yield from pieces


def _stored(source: Source, offset: int, nbytes: int) -> Iterator[bytes]:
    for start in range(0, nbytes, _CHUNK):
        yield source.read(offset + start, min(_CHUNK, nbytes - start), "a packed stream")


def _step(coder: Coder, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """One coder over what the one before it gives."""
    with broken_as_malformed("a decompressor that the archive needs"):
        if coder.method == _COPY:
            yield from _exactly(pieces, size)
        elif coder.method == _DELTA or coder.method in _BRANCH:
            machine = raw_lzma(_filter(coder), {"id": 0x21, "dict_size": 4096})
            yield from drive(machine, _wrapped(pieces), size)
        else:
            yield from drive(_machine(coder, size), pieces, size, ends=coder.method != _LZMA)


def _exactly(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > size:
            break
        yield piece
    if total != size:
        raise MalformedError(f"a stored stream of another length than the {size} bytes that the header says")


def _wrapped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Plain bytes as LZMA2 chunks that are stored: the first resets the dictionary, a zero ends them."""
    control = b"\1"
    for piece in pieces:
        for start in range(0, len(piece), _STORED):
            part = piece[start : start + _STORED]
            yield control + (len(part) - 1).to_bytes(2, "big") + part
            control = b"\2"
    yield b"\0"


def _filter(coder: Coder) -> dict[str, Any]:
    if coder.method == _DELTA:
        if len(coder.properties) != 1:
            raise MalformedError(f"a delta filter with {len(coder.properties)} bytes of properties")
        return {"id": 3, "dist": coder.properties[0] + 1}
    if coder.properties not in (b"", bytes(4)):
        raise MalformedError("a branch filter that begins elsewhere than at 0")
    return {"id": _BRANCH[coder.method]}


_MAKERS: Final[dict[bytes, Callable[[], Machine]]] = {_DEFLATE: lambda: Zlib(-15), _BZIP2: bzip2}


def _machine(coder: Coder, size: int) -> Machine:
    """The decompressor of a coder. A dictionary need not be larger than all that comes out."""
    maker = _MAKERS.get(coder.method)
    if maker is not None:
        return maker()
    given = coder.properties
    if coder.method == _LZMA2:
        if len(given) != 1 or given[0] > 40:
            raise MalformedError("LZMA2 with properties that do not exist")
        dictionary = 0xFFFFFFFF if given[0] == 40 else (2 | given[0] & 1) << given[0] // 2 + 11
        return raw_lzma({"id": 0x21, "dict_size": bounded(dictionary, size)})
    return lzma1(given, size)
