"""CRC-32 of large pieces: what zlib gives, several times as fast where the processor multiplies polynomials.

The compiled part is used where it was built, where the processor has what it needs, and where it agreed with `zlib` in this process.
`SAFELOAD_HASHING=hashlib` turns it off, as it does the others.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import cache
from typing import Final

__all__ = ["crc32"]

View = bytes | bytearray | memoryview
_WORTH_IT: Final = 1 << 10


def crc32(data: View, value: int = 0) -> int:
    """Return the CRC-32 of contiguous bytes; `value` is that of what came before them."""
    if len(data) < _WORTH_IT:
        return zlib.crc32(data, value)
    return _best()(data, value)


@cache
def _best() -> Callable[[View, int], int]:
    """The compiled function, when it is there, has something to offer, and agrees with zlib; else zlib's."""
    if os.environ.get("SAFELOAD_HASHING", "") == "hashlib":
        return zlib.crc32
    try:
        from safeload.hashing import _crc_c
    except ImportError:
        return zlib.crc32
    return _crc_c.crc32 if _crc_c.available() and _agrees(_crc_c.crc32) else zlib.crc32


def _agrees(compiled: Callable[[View, int], int]) -> bool:
    """Whether it gives what zlib gives, of every length up to one that takes all of its code."""
    text = memoryview(bytes(index * 167 + 13 & 255 for index in range(64 * 5 + 16 * 3 + 11)))
    return all(compiled(text[at:], at * 0x9E3779) == zlib.crc32(text[at:], at * 0x9E3779) for at in range(len(text)))
