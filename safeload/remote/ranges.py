"""A remote file as ranges: what was asked for once is not asked for again, small questions are put together, long reads run ahead.

A `Backend` knows one protocol. It gives exactly the bytes that it is asked for, of the version that it found at first, or raises.
"""

from __future__ import annotations

from _thread import allocate_lock
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from safeload.errors import RemoteError
from safeload.findings import Origin, escape
from safeload.parallel import in_parallel

__all__ = ["Backend", "Ranges"]

SMALL: Final = 4 << 10
"""No question is for less: headers are read in steps of a few bytes, and each question costs a round trip."""

AHEAD: Final = 8 << 20
"""Most bytes of one question. Where a file is read in order, each question is for twice the bytes of the one before."""

KEPT: Final = 64 << 20
TOGETHER: Final = 1 << 10
"""Ranges with at most so many bytes between them are one question."""
CONNECTIONS: Final = 8
_RUNS: Final = 32


class Backend(Protocol):
    """One file behind one protocol. Safe to call from several threads."""

    @property
    def size(self) -> int:
        """Bytes of the file, of the version that is read."""
        ...

    @property
    def version(self) -> str:
        """What the server calls this version, unescaped, or ""."""
        ...

    @property
    def head(self) -> bytes:
        """First bytes that came with the size, or b""."""
        ...

    @property
    def mark(self) -> str:
        """As `safeload.remote.marks.mark_of` gives it."""
        ...

    @property
    def place(self) -> Mapping[str, str]:
        """What an `Origin` says of a repository; empty elsewhere."""
        ...

    def get(self, start: int, stop: int) -> bytes:
        """Return exactly `stop - start` bytes.

        Raises:
            RemoteError: it cannot, or the file is another one now.
        """
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class Ranges:
    """What `Source` fetches from. Safe to use from several threads.

    Args:
        backend: The file.
        name: For messages: without credentials, escaped.
        label: The same, unescaped, as reports call the file.
    """

    def __init__(self, backend: Backend, name: str, label: str) -> None:
        self._backend = backend
        self.name, self.label = name, label
        self.size = backend.size
        self.fetched, self.requests = len(backend.head), 1
        self.failure: RemoteError | None = None
        self._lock = allocate_lock()
        self._pieces: OrderedDict[int, bytes] = OrderedDict()  # by their first byte, the least used first
        self._starts: list[int] = []
        self._held = 0
        self._runs: OrderedDict[int, int] = OrderedDict()  # where a reader would go on → bytes it was given last
        if backend.head:
            self._keep(0, backend.head)

    @property
    def origin(self) -> Origin:
        """What to say about where the bytes come from."""
        return Origin(version=escape(self._backend.version, 200), fetched=self.fetched, requests=self.requests, **self._backend.place)

    @property
    def mark(self) -> str:
        """What tells this version from any other, or ""."""
        return self._backend.mark

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        """Fill `view` from `offset`.

        Raises:
            RemoteError: the first failure; every later call raises it too, so that nobody takes what is left for the file.
        """
        done = 0
        while done < len(view):
            taken = self._from_pieces(offset + done, view[done:])
            if taken:
                done += taken
            elif offset + done < self.size:
                self._ask(offset + done, len(view) - done)
            else:
                break
        return done

    def expect(self, wanted: Sequence[tuple[int, int]]) -> None:
        """Ask for many small ranges at once, over several connections, because they are about to be read.

        Args:
            wanted: Offset and bytes of each; what lies outside the file is left out.
        """
        joined: list[list[int]] = []
        for offset, nbytes in sorted(wanted):
            stop = min(offset + nbytes, self.size)
            if offset < 0 or stop <= offset or self._has(offset, stop):
                continue
            if joined and offset - joined[-1][1] <= TOGETHER and stop - joined[-1][0] <= AHEAD:
                joined[-1][1] = max(joined[-1][1], stop)
            else:
                joined.append([offset, stop])

        def fetch(index: int) -> None:
            start, stop = joined[index]
            data = self._get(start, stop)
            with self._lock:
                self._keep(start, data)

        in_parallel(len(joined), fetch, CONNECTIONS)

    def close(self) -> None:
        """Give back connections."""
        self._backend.close()
        self._pieces.clear()
        self._starts.clear()

    # ---- inside

    def _ask(self, offset: int, nbytes: int) -> None:
        """Fetch a range that no piece holds: at least `SMALL` bytes, and more where somebody reads in order."""
        with self._lock:
            before = self._runs.pop(offset, 0)
        length = min(max(nbytes, SMALL, 2 * before), AHEAD, self.size - offset)
        data = self._get(offset, offset + length)
        with self._lock:
            self._keep(offset, data)
            self._runs[offset + length] = length
            while len(self._runs) > _RUNS:
                self._runs.popitem(last=False)

    def _get(self, start: int, stop: int) -> bytes:
        if self.failure is not None:
            raise self.failure
        try:
            data = self._backend.get(start, stop)
        except RemoteError as error:
            self.failure = error.at(self.name)
            raise
        if len(data) != stop - start:  # a backend's own defect
            raise RemoteError(f"{len(data)} bytes in the place of {stop - start}", where=f"{self.name}@{start}")
        with self._lock:
            self.fetched += len(data)
            self.requests += 1
        return data

    def _has(self, offset: int, stop: int) -> bool:
        with self._lock:
            at = bisect_right(self._starts, offset) - 1
            return at >= 0 and stop <= self._starts[at] + len(self._pieces[self._starts[at]])

    def _from_pieces(self, offset: int, view: memoryview) -> int:
        """Fill what the piece around `offset` has; return how many bytes that is."""
        with self._lock:
            at = bisect_right(self._starts, offset) - 1
            if at < 0:
                return 0
            start = self._starts[at]
            piece = self._pieces[start]
            first = offset - start
            if first >= len(piece):
                return 0
            self._pieces.move_to_end(start)
        part = piece[first : first + len(view)]
        view[: len(part)] = part
        return len(part)

    def _keep(self, start: int, data: bytes) -> None:
        """Add a piece; where one begins at the same byte, the longer one stays. The oldest go when there are too many bytes."""
        before = self._pieces.get(start)
        if before is not None:
            if len(before) >= len(data):
                return
            self._held -= len(before)
        else:
            self._starts.insert(bisect_right(self._starts, start), start)
        self._pieces[start] = data
        self._pieces.move_to_end(start)
        self._held += len(data)
        while self._held > KEPT and len(self._pieces) > 1:
            oldest, gone = self._pieces.popitem(last=False)
            self._held -= len(gone)
            del self._starts[bisect_right(self._starts, oldest) - 1]
