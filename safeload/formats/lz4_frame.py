"""LZ4 frames, unpacked block by block: the standard library has none, and a verdict must not hang on what is installed.

Source: the LZ4 frame format 1.6.2 and block format descriptions. Checksums are stepped over: what a loader takes before it
compares them is what is judged here. Dictionaries are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import MalformedError

__all__ = ["MAGIC", "unpack"]

MAGIC: Final = b"\x04\x22\x4d\x18"
_WINDOW: Final = 1 << 16
_BLOCKS: Final = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}


def unpack(data: memoryview) -> Iterator[tuple[bytes, int]]:
    """Yield (unpacked block, offset behind it in `data`) for every block of the frames at the front of `data`.

    Raises:
        MalformedError: a frame or block is broken, or needs a dictionary; what came before it was yielded.
    """
    at = 0
    while bytes(data[at : at + 4]) == MAGIC:
        at, largest, linked, block_sum, content_sum = _header(data, at)
        window = b""
        while True:
            size = int.from_bytes(_take(data, at, 4), "little")
            at += 4
            if not size:
                break
            packed, size = not size >> 31, size & 0x7FFFFFFF
            if size > largest:
                raise MalformedError(f"an lz4 block of {size} bytes in a frame of blocks of {largest}")
            raw = _take(data, at, size)
            at += size + 4 * block_sum
            block = _block(raw, window, largest) if packed else raw
            window = (window + block)[-_WINDOW:] if linked else b""
            yield block, at
        at += 4 * content_sum
        yield b"", at


def _take(data: memoryview, at: int, count: int) -> bytes:
    found = bytes(data[at : at + count])
    if len(found) != count:
        raise MalformedError("the lz4 frame ends early").under("SL502")
    return found


def _header(data: memoryview, at: int) -> tuple[int, int, bool, bool, bool]:
    """(offset of the first block, largest block, blocks refer to earlier ones, block checksums, content checksum)."""
    flags, sizes = _take(data, at + 4, 2)
    if flags >> 6 != 1 or flags & 3 or sizes >> 4 not in _BLOCKS or sizes & 0x8F:
        raise MalformedError("an lz4 frame of another version, or with a dictionary")
    at += 6 + (8 if flags & 8 else 0) + 1
    _take(data, at, 0)
    return at, _BLOCKS[sizes >> 4], not flags & 0x20, bool(flags & 0x10), bool(flags & 4)


def _length(raw: bytes, at: int, nibble: int) -> tuple[int, int]:
    """A length of 4 bits that goes on in whole bytes when they are all set: (length, offset behind)."""
    if nibble != 15:
        return nibble, at
    total = 15
    while True:
        byte = raw[at]
        at += 1
        total += byte
        if byte != 255:
            return total, at


def _block(raw: bytes, window: bytes, largest: int) -> bytes:
    """Unpack one block: runs of literal bytes, each followed by a copy from up to 64 KiB before."""
    out = bytearray(window)
    most, at, end = len(window) + largest, 0, len(raw)
    try:
        while at < end:
            token = raw[at]
            count, at = _length(raw, at + 1, token >> 4)
            if at + count > end or len(out) + count > most:
                break
            out += raw[at : at + count]
            at += count
            if at == end:
                return bytes(out[len(window) :])
            back = raw[at] | raw[at + 1] << 8
            count, at = _length(raw, at + 2, token & 15)
            count += 4
            start = len(out) - back
            if not back or start < 0 or len(out) + count > most:
                break
            piece = bytes(out[start : start + count])
            out += (piece * (count // len(piece) + 1))[:count]
    except IndexError:
        pass
    raise MalformedError("a broken lz4 block")
