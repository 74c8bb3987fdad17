"""A keyed fingerprint: whether two processes hold the same bytes, for a small part of what a hash of them costs.

Two byte strings of one length that differ have the same fingerprint with a chance of about 2**-64, as long as whoever chose them does
not know the key. So a key is drawn for one use, by those who compare, and is gone afterwards. It stands for no digest: it says only that
bytes which somebody else hashed are these bytes. docs/decisions/0016 says what it is for.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from typing import Any, Final

__all__ = ["FINGERPRINT_BYTES", "Fingerprint", "key_of", "usable"]

FINGERPRINT_BYTES: Final = 16
_BLOCK: Final = 1024
_NH_WORDS: Final = _BLOCK // 4 + 4
_KEY_BYTES: Final = 4 * _NH_WORDS + 16
_P: Final = (1 << 61) - 1

View = bytes | bytearray | memoryview


def usable() -> bool:
    """Whether it is faster here than hashing: it was compiled, and nobody said that hashlib alone is to be used."""
    return os.environ.get("SAFELOAD_HASHING", "") != "hashlib" and _compiled() is not None


def key_of(secret: bytes) -> bytes:
    """Make a key of a secret of at least 32 random bytes."""
    return hashlib.shake_256(b"safeload fingerprint v1\n" + secret).digest(_KEY_BYTES)


class Fingerprint:
    """One fingerprint, taken piece by piece.

    Args:
        key: As `key_of` made it.
    """

    __slots__ = ("_absorb", "_key", "_state")

    def __init__(self, key: bytes) -> None:
        compiled = _compiled()
        self._absorb = _absorb if compiled is None else compiled.absorb
        self._key = key
        self._state = bytearray(FINGERPRINT_BYTES)

    def update(self, view: View) -> None:
        """Go on; every piece but the last has a multiple of 1,024 bytes."""
        self._absorb(self._state, self._key, view)

    def value(self) -> bytes:
        """The fingerprint of what it got: `FINGERPRINT_BYTES` bytes."""
        return bytes(self._state)


@cache
def _compiled() -> Any:
    """The compiled part, when it is there and agrees with the one in Python."""
    try:
        from safeload.hashing import _fingerprint_c
    except ImportError:
        return None
    text = hashlib.shake_256(b"text").digest(3 * _BLOCK + 17)
    one, other = bytearray(FINGERPRINT_BYTES), bytearray(FINGERPRINT_BYTES)
    _absorb(one, key_of(bytes(32)), text)
    _fingerprint_c.absorb(other, key_of(bytes(32)), text)
    return _fingerprint_c if one == other else None


def _absorb(state: bytearray, key: bytes, view: View) -> None:
    """What `_fingerprint_c.absorb` does, for a comparison."""
    words = [int.from_bytes(key[4 * at : 4 * at + 4], "little") for at in range(_NH_WORDS)]
    points = [int.from_bytes(key[-16:-8], "little") % _P, int.from_bytes(key[-8:], "little") % _P]
    values = [int.from_bytes(state[:8], "little"), int.from_bytes(state[8:], "little")]
    data = bytes(view)
    data += bytes(-len(data) % _BLOCK)
    for start in range(0, len(data), _BLOCK):
        block = [int.from_bytes(data[at : at + 4], "little") for at in range(start, start + _BLOCK, 4)]
        for which, shift in enumerate((0, 4)):
            total = sum(
                (block[at] + words[at + shift] & 0xFFFFFFFF) * (block[at + 4] + words[at + 4 + shift] & 0xFFFFFFFF)
                for first in range(0, _BLOCK // 4, 8)
                for at in range(first, first + 4)
            )
            total &= (1 << 64) - 1
            for part in (total & 0xFFFFFFFF, total >> 32):
                values[which] = (values[which] * points[which] + part) % _P
    state[:] = values[0].to_bytes(8, "little") + values[1].to_bytes(8, "little")
