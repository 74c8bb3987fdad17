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

    def advance(self, lane: int, view: View) -> None:
        """Go on with one lane alone; a multiple of `BLOCK` bytes."""
        ...

    def finish(self, lane: int, tail: View) -> bytes:
        """Return the 32-byte SHA-256 of what one lane got and fewer than `BLOCK` bytes more; after that it takes nothing."""
        ...

    def digests(self) -> list[bytes]:
        """Return the SHA-256 of what each lane got; after that none takes anything."""
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

    def advance(self, lane: int, view: View) -> None:
        """As in `Lanes`."""
        self._hashers[lane].update(view)

    def finish(self, lane: int, tail: View) -> bytes:
        """As in `Lanes`."""
        self._hashers[lane].update(tail)
        return self._hashers[lane].digest()

    def digests(self) -> list[bytes]:
        """As in `Lanes`."""
        return [hasher.digest() for hasher in self._hashers]


class _Compiled:
    """States in one piece of memory, advanced by `_lanes_c`."""

    def __init__(self, count: int, compiled: Any) -> None:
        self._advance = compiled.advance
        self._states = memoryview(bytearray(_INITIAL * count))
        self._nbytes = [0] * count

    def update(self, views: Sequence[View], nbytes: int) -> None:
        """As in `Lanes`."""
        self._advance(self._states, views, nbytes)
        self._nbytes = [before + nbytes for before in self._nbytes]

    def advance(self, lane: int, view: View) -> None:
        """As in `Lanes`."""
        self._advance(self._state(lane), [view], len(view))
        self._nbytes[lane] += len(view)

    def finish(self, lane: int, tail: View) -> bytes:
        """As in `Lanes`."""
        end = bytes(tail) + _padding(self._nbytes[lane] + len(tail))
        self._advance(self._state(lane), [end], len(end))
        return struct.pack(">8I", *struct.unpack("=8I", self._state(lane)))

    def digests(self) -> list[bytes]:
        """As in `Lanes`."""
        self._advance(self._states, [_padding(nbytes) for nbytes in self._nbytes], BLOCK)
        words = struct.unpack(f"={8 * len(self._nbytes)}I", self._states)
        return [struct.pack(">8I", *words[at : at + 8]) for at in range(0, len(words), 8)]

    def _state(self, lane: int) -> memoryview:
        return self._states[lane * len(_INITIAL) : (lane + 1) * len(_INITIAL)]


def _padding(nbytes: int) -> bytes:
    """What follows `nbytes` bytes so that whole blocks come out: a one bit, zeros, and the number of bits."""
    return b"\x80" + bytes(-(nbytes + 9) % BLOCK) + struct.pack(">Q", nbytes * 8)


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
