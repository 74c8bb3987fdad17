"""Zstandard frames: walked by their own headers, unpacked block by block by a library.

The walk says where a frame ends, what lies behind it and whether it was cut off, which the library's streaming readers leave open. A block
unpacks to 128 KiB at most, so what one call can give is bounded before it is made.
Source: RFC 8878, sections 3.1.1 and 3.1.2. Dictionaries are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from safeload.errors import LimitError, MalformedError, MissingExtraError
from safeload.source import Source

__all__ = ["MAGIC", "looks_like_zstd", "unpack_zstd"]

MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"  # behind a first byte of 0x50 to 0x5F
_WINDOW: Final = 1 << 27  # what `zstd -d` takes unless it is told otherwise
_BLOCK: Final = 128 << 10
_TOGETHER: Final = 8  # blocks given to the library at once
_SIZES: Final = {0: 0, 1: 2, 2: 4, 3: 8}
_FRAMES: Final = 1_000_000


def looks_like_zstd(head: bytes) -> bool:
    """Whether a frame begins here, or a frame that decompressors skip."""
    return head.startswith(MAGIC) or (head[1:4] == _SKIPPABLE and head[0] & 0xF0 == 0x50)


def unpack_zstd(source: Source) -> Iterator[bytes]:
    """Yield what the frames of a file unpack to, about a MiB at a time.

    Raises:
        MalformedError: a frame is broken, cut off or wants a dictionary, or something else follows; what came before was yielded.
        LimitError: a frame wants more memory than 128 MiB.
        MissingExtraError: there is no library for it.
    """
    make = _library()
    at, count = 0, 0
    while at < source.size:
        head = source.read(at, min(18, source.size - at))
        if not looks_like_zstd(head):
            raise MalformedError(f"{source.size - at} bytes follow the compressed stream").under("SL126")
        count += 1
        if count > _FRAMES:
            raise LimitError(f"more than {_FRAMES} zstd frames").under("SL208")
        if head[0] != MAGIC[0]:
            at += 8 + int.from_bytes(_take(source, at + 4, 4), "little")
            if at > source.size:
                raise MalformedError("a skippable zstd frame reaches out of the file").under("SL502")
            continue
        machine = make()
        first, checksum = _header(source, at)
        pending = _take(source, at, first - at)
        at = first
        last = False
        while not last:
            at, last, pending = _blocks(source, at, pending)
            if last and checksum:
                pending += _take(source, at, 4)
                at += 4
            yield machine.decompress(pending)
            pending = b""
        if not machine.eof:
            raise MalformedError("the zstd frame does not end with its last block")


def _blocks(source: Source, at: int, pending: bytes) -> tuple[int, bool, bytes]:
    """Gather the next few blocks: (offset behind them, whether the last was among them, bytes)."""
    for _ in range(_TOGETHER):
        mark = int.from_bytes(_take(source, at, 3), "little")
        last, kind, size = bool(mark & 1), mark >> 1 & 3, mark >> 3
        if kind == 3 or size > _BLOCK:
            raise MalformedError("a zstd block of a kind or size that does not exist")
        pending += _take(source, at, 3 + (1 if kind == 1 else size))
        at += 3 + (1 if kind == 1 else size)
        if last:
            break
    return at, last, pending


def _header(source: Source, at: int) -> tuple[int, bool]:
    """(offset of the first block, whether a checksum follows the last)."""
    flags = _take(source, at + 4, 1)[0]
    single = bool(flags & 0x20)
    if flags & 8:
        raise MalformedError("a zstd frame with a reserved bit set")
    if flags & 3:
        raise MalformedError("a zstd frame that wants a dictionary").under("SL222")
    at += 5
    if not single:
        byte = _take(source, at, 1)[0]
        at += 1
        base = 1 << 10 + (byte >> 3)
        if base + base // 8 * (byte & 7) > _WINDOW:
            raise LimitError(f"a zstd frame that wants a window of {base} bytes; {_WINDOW} are granted").under("SL222")
    length = 1 if single and not flags >> 6 else _SIZES[flags >> 6]
    size = int.from_bytes(_take(source, at, length), "little")
    if single and size > _WINDOW:
        raise LimitError(f"a zstd frame that wants a window of {size} bytes; {_WINDOW} are granted").under("SL222")
    return at + length, bool(flags & 4)


def _take(source: Source, at: int, count: int) -> bytes:
    if at + count > source.size:
        raise MalformedError("the zstd frame ends early").under("SL502")
    return source.read(at, count)


def _library() -> Any:
    """What makes a decompressor: the standard library's, where this Python has one, else the zstandard package's."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        pass
    else:
        options = {zstd.DecompressionParameter.window_log_max: _WINDOW.bit_length() - 1}
        return lambda: zstd.ZstdDecompressor(options=options)
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("not analysed: install safeload[zstd]", hint="pip install 'safeload[zstd]'") from None
    return lambda: zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
