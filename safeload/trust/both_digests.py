"""`sha256` and `sha256-tree` of whole files, several at once, in one pass over their bytes.

`sha256` of a file is one chain. Two chains advance at nearly the cost of one, leaves sixteen at a time, and where a core is free one
thread follows the chains while another hashes the leaves of the same bytes and reads the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from safeload.errors import SafeloadError
from safeload.hashing import BLOCK, Lanes, lanes
from safeload.parallel import in_parallel, workers
from safeload.source import Source
from safeload.trust.digest import LEAF_BYTES, root_of_leaves

__all__ = ["TOGETHER", "both_digests", "file_digests"]

TOGETHER: Final = 2
"""Files whose chains are worth following side by side."""

_LEAVES: Final = 8  # of one file, read before they are hashed: sixteen of two files
_WORTH_A_THREAD: Final = 8 << 20

Buffers = list[memoryview]
"""Memory that is free for the next file: one that is touched for the first time costs as much as hashing a part of it."""

Told = Callable[[int, int], None]
"""Takes the number of a file and how many of its bytes are done."""


def both_digests(
    sources: Sequence[Source], *, told: Told | None = None, threads: int | None = None, buffers: Buffers | None = None
) -> list[tuple[str, str] | SafeloadError]:
    """Return `sha256` and `sha256-tree` of each snapshot, as 64 lower-case hex digits, or why it could not be read to its end.

    Args:
        sources: Open; best no more than `TOGETHER`, because `_LEAVES` leaves of each are in memory at a time (twice with threads).
        told: Called after every piece of every file.
        threads: At most; None for what this process may keep busy.
        buffers: Taken from, and given back to; for a call for other files.
    """
    free: Buffers = [] if buffers is None else buffers
    busy = (workers() if threads is None else threads) > 1 and sum(source.size for source in sources) > _WORTH_A_THREAD
    files = [_File(source, free, buffers=2 if busy else 1) for source in sources]
    chains = lanes(len(files))
    for file in files:
        file.read()
    while any(file.piece for file in files):
        pieces = [file.piece for file in files]

        def work(part: int, pieces: Sequence[memoryview] = pieces) -> None:
            if part == 0:
                _follow(chains, pieces)
                return
            _hash_leaves(files, pieces)
            for file in files:
                file.read()

        in_parallel(2, work, 2 if busy else 1)
        for number, file in enumerate(files):
            if told is not None and pieces[number]:
                told(number, file.done(len(pieces[number])))
    for file in files:
        file.close()
    return [file.result(chains, number) for number, file in enumerate(files)]


def file_digests(source: Source) -> tuple[str, str]:
    """Return `sha256` and `sha256-tree` of one snapshot, as they stand in a lockfile and in a `Report`; taken once.

    Raises:
        MalformedError: the file shrank while it was read.
    """
    known = source.digest_of("sha256"), source.digest_of("sha256-tree")
    if known[0] is None or known[1] is None:
        found = both_digests([source])[0]
        if isinstance(found, SafeloadError):
            raise found
        source.remember({"sha256": found[0], "sha256-tree": found[1]})
        return found
    return known[0], known[1]


def _follow(chains: Lanes, pieces: Sequence[memoryview]) -> None:
    """Advance every chain by the whole blocks of its piece."""
    whole = [len(piece) // BLOCK * BLOCK for piece in pieces]
    if len(set(whole)) == 1 and whole[0]:
        chains.update(pieces, whole[0])
        return
    for lane, piece in enumerate(pieces):
        if whole[lane]:
            chains.advance(lane, piece[: whole[lane]])


def _hash_leaves(files: Sequence[_File], pieces: Sequence[memoryview]) -> None:
    parts = [
        (file, piece[at : at + LEAF_BYTES]) for file, piece in zip(files, pieces, strict=True) for at in range(0, len(piece), LEAF_BYTES)
    ]
    whole = [part for _, part in parts if len(part) == LEAF_BYTES]
    together = lanes(len(whole))
    if whole:
        together.update(whole, LEAF_BYTES)
    found = iter(together.digests() if whole else ())
    for file, part in parts:
        file.leaves.append(next(found) if len(part) == LEAF_BYTES else hashlib.sha256(part).digest())


class _File:
    """One file on its way: the piece that is at hand, and the leaves so far."""

    def __init__(self, source: Source, free: Buffers, *, buffers: int) -> None:
        self.source = source
        self._free, self._most = free, buffers
        self.leaves: list[bytes] = []
        self.piece = memoryview(b"")
        self.tail = b""
        self._error: SafeloadError | None = None
        self._position = self._done = 0
        self._buffers: list[memoryview] = []

    def read(self) -> None:
        """Put the next piece at hand: empty at the end, and after an error."""
        nbytes = min(_LEAVES * LEAF_BYTES, self.source.size - self._position)
        if nbytes <= 0 or self._error is not None:
            self.piece = memoryview(b"")
            return
        # With threads two buffers take turns: the one that the chains still follow is left alone.
        buffer = self._buffers.pop(0) if len(self._buffers) == self._most else self._buffer(nbytes)
        self._buffers.append(buffer)
        piece = buffer[:nbytes]
        try:
            self.source.readinto(self._position, piece, keep=False)
        except SafeloadError as error:
            self._error, piece = error, memoryview(b"")
        self._position += nbytes
        self.piece = piece
        if self._position >= self.source.size:
            self.tail = bytes(piece[len(piece) // BLOCK * BLOCK :])

    def _buffer(self, nbytes: int) -> memoryview:
        try:
            free = self._free.pop()  # other threads take from it, too
        except IndexError:
            return memoryview(bytearray(nbytes))
        return free if len(free) >= nbytes else memoryview(bytearray(nbytes))

    def close(self) -> None:
        """Give the memory back."""
        self.piece = memoryview(b"")
        self._free += self._buffers
        self._buffers.clear()

    def done(self, nbytes: int) -> int:
        """Count bytes that were hashed, and return all so far."""
        self._done += nbytes
        return self._done

    def result(self, chains: Lanes, lane: int) -> tuple[str, str] | SafeloadError:
        """Both digests, or the error."""
        if self._error is not None:
            return self._error
        return chains.finish(lane, self.tail).hex(), root_of_leaves(self.source.size, self.leaves)
