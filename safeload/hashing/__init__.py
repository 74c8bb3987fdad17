"""SHA-256 of many byte strings at once: what a processor can do beside hashing one of them costs nothing more.

`lanes(n)` gives n hashers that advance together, by whole blocks. The compiled part is used where it was built, where the processor has
what it needs, and where it agreed with `hashlib` in this process; everywhere else `hashlib` does the same work one by one.
`SAFELOAD_HASHING=hashlib` says so in any case.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Protocol

__all__ = ["BLOCK", "MOST_LANES", "Lanes", "lanes", "width"]

BLOCK: Final = 64
"""Bytes that SHA-256 takes at once."""

MOST_LANES: Final = 64
"""Of one `Lanes`."""

_INITIAL: Final = struct.pack(
    "=8I", 0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19
)  # fmt: skip

View = bytes | bytearray | memoryview


class Lanes(Protocol):
    """Hashers that advance together."""

    def update(self, views: Sequence[View], nbytes: int) -> None:
        """Go on with the first `nbytes` bytes, a multiple of `BLOCK`, of one view for each lane."""
        ...

    def digests(self) -> list[bytes]:
        """Return the 32-byte SHA-256 of what each lane got; after that nothing more may come."""
        ...


def lanes(count: int) -> Lanes:
    """Return `count` fresh hashers, at most `MOST_LANES`."""
    compiled = _compiled()
    return _Compiled(count, compiled) if compiled is not None else _Plain(count)


def width() -> int:
    """How many byte strings are hashed at the cost of one, roughly: 16, 2, or 1."""
    compiled = _compiled()
    return int(compiled.width()) if compiled is not None else 1


class _Plain:
    """One hashlib object for each lane."""

    def __init__(self, count: int) -> None:
        self._hashers = [hashlib.sha256() for _ in range(count)]

    def update(self, views: Sequence[View], nbytes: int) -> None:
        """As in `Lanes`."""
        for hasher, view in zip(self._hashers, views, strict=True):
            hasher.update(view[:nbytes])

    def digests(self) -> list[bytes]:
        """As in `Lanes`."""
        return [hasher.digest() for hasher in self._hashers]


class _Compiled:
    """States in one piece of memory, advanced by `_lanes_c`."""

    def __init__(self, count: int, compiled: Any) -> None:
        self._advance = compiled.advance
        self._count = count
        self._states = bytearray(_INITIAL * count)
        self._nbytes = 0

    def update(self, views: Sequence[View], nbytes: int) -> None:
        """As in `Lanes`."""
        self._advance(self._states, views, nbytes)
        self._nbytes += nbytes

    def digests(self) -> list[bytes]:
        """As in `Lanes`."""
        # All that came were whole blocks, so the padding is a block of its own.
        padding = b"\x80" + bytes(55) + struct.pack(">Q", self._nbytes * 8)
        self._advance(self._states, [padding] * self._count, BLOCK)
        words = struct.unpack(f"={8 * self._count}I", self._states)
        return [struct.pack(">8I", *words[at : at + 8]) for at in range(0, len(words), 8)]


@cache
def _compiled() -> Any:
    """The compiled part, when it is there, has something to offer, and agrees with hashlib."""
    if os.environ.get("SAFELOAD_HASHING", "") == "hashlib":
        return None
    try:
        from safeload.hashing import _lanes_c
    except ImportError:
        return None
    return _lanes_c if _lanes_c.width() and _agrees(_lanes_c) else None


def _agrees(compiled: Any) -> bool:
    """Whether every number of lanes, so every kernel, gives what hashlib gives."""
    text = bytes(index * 167 + 13 & 255 for index in range(512 + 19 * 4))
    for count in (1, 2, 3, 16, 19):
        views = [memoryview(text)[4 * lane : 4 * lane + 512] for lane in range(count)]
        made = _Compiled(count, compiled)
        made.update(views, 192)
        made.update([view[192:] for view in views], 320)
        if made.digests() != [hashlib.sha256(view).digest() for view in views]:
            return False
    return True
