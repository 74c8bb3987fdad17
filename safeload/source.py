"""One snapshot of a file: opened once, every byte fetched at most once, digests from the very bytes that were used.

A `Source` keeps what it handed out as *segments*. A later read of the same range is served from the segment, never from
the disk, so nobody who changes the file in between can show the judge one thing and the loader another. A digest goes over
the segments in file order and fetches only what nobody has read yet.
"""

from __future__ import annotations

import bisect
import os
import stat
import time
import zlib
from _thread import RLock, allocate_lock  # threading's own; the module around them is only needed where there are threads
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import index as as_index
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

from safeload.errors import (
    ArgumentError,
    LimitError,
    MalformedError,
    NotSeekableError,
    NotSeekableStreamError,
    RemoteError,
    SafeloadError,
    UnsupportedError,
)
from safeload.findings import Origin, escape
from safeload.lean_dataclass import dataclass
from safeload.one_pass import Range, Share, run
from safeload.parallel import Crc
from safeload.path_arguments import system_said
from safeload.remote import Address, Ranges

__all__ = ["Limits", "Reading", "Source", "Together"]

CHUNK: Final = 1 << 20
_HEAD: Final = 512
_LARGE: Final = 4 << 20
_SEEK_HINT: Final = (
    " You can only torch.load from a file that is seekable."
    " Please pre-load the data into a buffer like io.BytesIO and try to load from it instead."
)


def _memory(nbytes: int) -> memoryview:
    """That many zeros. For a large piece in large pages where the system has some: a fault for each 4 KiB takes longer than the copy."""
    if nbytes >= _LARGE:
        import mmap

        advice = getattr(mmap, "MADV_HUGEPAGE", None)
        if advice is not None:
            try:
                made = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            except OSError as error:
                raise MemoryError(f"{nbytes} bytes of a file") from error
            with suppress(OSError):  # there are none
                made.madvise(advice)
            return memoryview(made)
    return memoryview(bytearray(nbytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what reading one file may cost. Every loop over input has its bound here.

    Attributes:
        stream_bytes: Longest pickle stream, in bytes.
        opcodes: Most opcodes in one stream.
        memo: Most memo entries in one stream.
        depth: Deepest nesting of containers.
        members: Most members of a container.
        nesting: Deepest nesting of containers within containers.
        inflate_ratio: Most unpacked bytes per packed byte of a deflated member (deflate itself ends near 1032).
        inflate_bytes: Most unpacked bytes of all deflated members together.
        header_bytes: Longest safetensors header (100,000,000 in the reference).
        spool_bytes: Most bytes taken into memory of an object that cannot seek from its end (gzip).
        streams: Most pickle streams in one file.
        calls: Most calls, globals and findings kept as evidence; beyond it the stream is refused.
        expansion: Most values that shared containers may stand for when written out (memo and DUP doubling).
    """

    stream_bytes: int = 1 << 32
    opcodes: int = 1 << 31
    memo: int = 1 << 28
    depth: int = 10_000
    members: int = 1_000_000
    nesting: int = 5
    inflate_ratio: int = 1_100
    inflate_bytes: int = 1 << 36
    header_bytes: int = 100_000_000
    spool_bytes: int = 1 << 36
    streams: int = 100_000
    calls: int = 200_000
    expansion: int = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file is to be read.

    Attributes:
        limits: Bounds.
        encoding: For Python 2 strings; "bytes" leaves them as bytes.
        byteorder: "little" or "big": of a torch zip that does not say it.
        depth: How many containers lie around this one.
    """

    limits: Limits = Limits()
    encoding: str = "utf-8"
    byteorder: str = "little"
    depth: int = 0


class Together(Protocol):
    """Other processes that load the same file."""

    def share(self, count: int) -> Share:
        """This process' share of `count` leaves."""
        ...

    def joined(self, share: Share, digests: list[bytes], count: int, where: str) -> list[bytes]:
        """Exchange shares; return the digest of every leaf, or raise."""
        ...


@runtime_checkable
class _Fetch(Protocol):
    """Something that can give bytes at an absolute position."""

    size: int

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        """Fill `view` from `offset`; return how many bytes came (fewer only at the end).

        With `keep` the view stays as it is: where the bytes come from another snapshot, it is a part of that one, too.
        """
        ...

    def close(self) -> None:
        """Give back what was opened here."""
        ...


class _FileDescriptor:
    """A path, opened once; positional reads, safe from several threads."""

    def __init__(self, path: str) -> None:
        self.opened_ns = time.time_ns()  # before the first look at the file
        # O_NONBLOCK: opening a FIFO by mistake must not hang for a writer that never comes.
        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        with system_said():
            self.fd = os.open(path, flags)
        try:
            info = os.fstat(self.fd)
            if stat.S_ISDIR(info.st_mode):
                raise IsADirectoryError(21, os.strerror(21), path)
            if not stat.S_ISREG(info.st_mode):
                raise UnsupportedError("not a regular file: pipes, sockets and devices have no bytes to pin", where=escape(path))
            self.size = info.st_size
            self.stat = info
        except BaseException:
            os.close(self.fd)
            raise

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        done = 0
        while done < len(view):
            got = os.preadv(self.fd, [view[done:]], offset + done) if hasattr(os, "preadv") else self._slow(offset + done, view[done:])
            if not got:
                break
            done += got
        return done

    def _slow(self, offset: int, view: memoryview) -> int:
        os.lseek(self.fd, offset, os.SEEK_SET)
        data = os.read(self.fd, min(len(view), CHUNK))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        os.close(self.fd)


class _Memory:
    """Bytes that are already here. Not copied: whoever passes a mutable buffer must leave it alone meanwhile."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.size = len(view)

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        part = self.view[offset : offset + len(view)]
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        pass


class _Stream:
    """Somebody's file object, read from its position on; a lock, because seek and read are two steps."""

    def __init__(self, file: Any, origin: int, size: int) -> None:
        self.file, self.origin, self.size = file, origin, size
        self._lock = allocate_lock()

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        with self._lock:
            self.file.seek(self.origin + offset)
            # readinto saves a copy of every byte; where it is missing or not meant seriously, read does
            return self._by_readinto(view) if callable(getattr(self.file, "readinto", None)) else self._by_read(view)

    def _by_readinto(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            got = self.file.readinto(view[done:])
            if type(got) is not int or not 0 <= got <= len(view) - done:
                raise ArgumentError("its readinto() does not say how many bytes it gave")
            if not got:
                break
            done += got
        return done

    def _by_read(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            data = self.file.read(min(len(view) - done, 64 * CHUNK))
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise ArgumentError(f"reads {type(data).__name__}, not bytes: open the file in binary mode")
            if not data:
                break
            if len(data) > len(view) - done:
                raise ArgumentError("its read() gives more bytes than were asked for")
            view[done : done + len(data)] = data
            done += len(data)
        return done

    def close(self) -> None:
        pass


class Source:
    """The bytes of one file, as one snapshot.

    Use as a context manager. All offsets count bytes from where the file begins (for a file object: from its
    position when it was passed in).

    Attributes:
        name: For messages, already escaped.
        path: The path that was opened, or None.
        size: Bytes.
        origin: Where the file begins in the caller's stream.
        parsed: What a reader parsed while it decided whether the file is its own, by the reader's name: parsed once.
        address: That of a file elsewhere, or None.
        together: Other processes that load the same file and hash a share of its leaves; None, or no longer, when there are none.
        failure: Why a file elsewhere could not be read on. Whoever made something of that nevertheless is not to be believed.
    """

    def __init__(self, fetch: _Fetch, name: str, *, path: str | None = None, origin: int = 0, stream: Any = None) -> None:
        self._fetch = fetch
        self.name = name
        self.path = path
        self.size: int = fetch.size
        self.origin = origin
        self._stream = stream
        self._starts: list[int] = []
        self._segments: list[tuple[int, memoryview]] = []
        self._lock = RLock()
        self._digests: dict[str, str] = {}
        self._leaves: tuple[int, list[bytes]] | None = None
        self._shared: tuple[int, Share, list[bytes]] | None = None
        self.together: Together | None = None
        self.parsed: dict[str, Any] = {}
        self.failure: RemoteError | None = None
        self.address: Address | None = None
        self._head: bytes | None = None

    # ---- ways in

    @classmethod
    def open(cls, f: Any, *, name: str | None = None, limits: Limits | None = None) -> Source:
        """Open a path, a file object, bytes or a mapping.

        Args:
            f: `str` or `os.PathLike`; `bytes`, `bytearray`, `memoryview`, `mmap.mmap`; an object with read, seek and tell; or an
                `Address`. A text is always a path here: what becomes an address, the caller decides.
            name: What messages call it; by default the path, `f.name`, or "<bytes>".
            limits: Bounds on what is taken into memory.

        Raises:
            FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
            NotSeekableError, NotSeekableStreamError: the object cannot seek.
            ArgumentError: it reads text.
            RemoteError: the address gives nothing.
        """
        if isinstance(f, Address):
            ranges = f.open()
            source = cls(ranges, name or ranges.name)
            source.address = f
            return source
        if isinstance(f, (str, os.PathLike)):
            path = os.fspath(f)
            if isinstance(path, bytes):
                path = os.fsdecode(path)
            if "\0" in path:
                raise ArgumentError("a path cannot hold a NUL character", where=escape(path))
            return cls(_FileDescriptor(path), name or escape(path, 1000), path=path)
        if isinstance(f, (bytes, bytearray, memoryview)):
            return cls(_Memory(memoryview(f).cast("B").toreadonly()), name or "<bytes>")
        return cls._of_stream(f, name, limits or Limits())

    @classmethod
    def _of_stream(cls, f: Any, name: str | None, limits: Limits) -> Source:
        raw = getattr(f, "name", None)
        label = name or (escape(raw, 1000) if isinstance(raw, str) else "<stream>")
        origin = _position(f)
        if not callable(getattr(f, "read", None)):
            raise NotSeekableError(f"'{type(f).__name__}' object has no attribute 'read'.{_SEEK_HINT}")
        try:
            # What seek() gives is not asked: the part of a file that torch.distributed.checkpoint hands on counts from the whole's
            # beginning there, and in tell() from its own.
            f.seek(0, os.SEEK_END)
            end = as_index(f.tell())
            f.seek(origin)
        except UnicodeDecodeError:
            raise
        except (OSError, ValueError, TypeError):
            return cls(_Memory(memoryview(_spool(f, origin, limits))), label, origin=origin, stream=f)
        return cls(_Stream(f, origin, max(0, end - origin)), label, origin=origin, stream=f)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back the descriptor that was opened here; a caller's own stream stays open."""
        self._fetch.close()
        self.parsed.clear()
        self._segments.clear()
        self._starts.clear()

    @property
    def opened_ns(self) -> int:
        """The wall clock right before a path was opened, in nanoseconds; 0 for anything else."""
        return self._fetch.opened_ns if isinstance(self._fetch, _FileDescriptor) else 0

    @property
    def origin_of_bytes(self) -> Origin | None:
        """Where a file elsewhere was read from, and how much of it so far; None for anything on this machine."""
        return self._fetch.origin if isinstance(self._fetch, Ranges) else None

    @property
    def mark_elsewhere(self) -> str | None:
        """What tells this version of a file elsewhere from any other, "" where nothing does; None for anything on this machine."""
        return self._fetch.mark if isinstance(self._fetch, Ranges) else None

    # ---- reads

    def expect(self, wanted: Callable[[], Sequence[tuple[int, int]]]) -> None:
        """Say which small ranges are about to be read: where each costs a round trip they are fetched together.

        Args:
            wanted: Gives offset and bytes of each; called only where it matters.

        Raises:
            RemoteError: they cannot be read.
        """
        if isinstance(self._fetch, Ranges):
            try:
                self._fetch.expect(wanted())
            except RemoteError as error:
                self.failure = self.failure or error
                raise

    @property
    def fd(self) -> int | None:
        """The descriptor behind a path, for mapping; None for anything else."""
        return self._fetch.fd if isinstance(self._fetch, _FileDescriptor) else None

    @property
    def distant(self) -> bool:
        """Whether every read is a request to a server."""
        return isinstance(self._fetch, Ranges) or bool(getattr(self._fetch, "distant", False))

    @property
    def sequential(self) -> bool:
        """Whether going back costs more than reading all of it at once: the file is unpacked as it is read."""
        return bool(getattr(self._fetch, "sequential", False))

    @property
    def stat(self) -> os.stat_result | None:
        """What `fstat` said when the path was opened; None for anything else."""
        return self._fetch.stat if isinstance(self._fetch, _FileDescriptor) else None

    def check(self, offset: int, nbytes: int, what: str = "data") -> None:
        """Raise `MalformedError` unless `nbytes` bytes from `offset` lie inside the file."""
        if offset < 0 or nbytes < 0 or offset + nbytes > self.size:
            raise MalformedError(
                f"{what} ends at byte {offset + nbytes}, and the file has {self.size}",
                where=f"{self.name}@{max(offset, 0)}",
                hint="the file may be truncated: fetch it again and compare its size",
            )

    def read(self, offset: int, nbytes: int, what: str = "data") -> bytes:
        """Return exactly `nbytes` bytes from `offset`, and keep them as part of the snapshot."""
        return bytes(self.view(offset, nbytes, what))

    def head(self, nbytes: int) -> bytes:
        """Return the first `nbytes` bytes, or all there are."""
        if nbytes > _HEAD:
            return self.read(0, min(nbytes, self.size))
        if self._head is None:  # every reader asks for some of them
            self._head = self.read(0, min(_HEAD, self.size))
        return self._head[:nbytes]

    def view(self, offset: int, nbytes: int, what: str = "data") -> memoryview:
        """Like `read`, without a copy where the bytes are already in memory. Read-only."""
        self.check(offset, nbytes, what)
        if isinstance(self._fetch, _Memory):
            return self._fetch.view[offset : offset + nbytes]
        with self._lock:
            index = bisect.bisect_right(self._starts, offset) - 1
            if index >= 0:
                start, kept = self._segments[index]
                if offset + nbytes <= start + len(kept):
                    return kept[offset - start : offset - start + nbytes].toreadonly()
            buffer = _memory(nbytes)
            self._fill(offset, buffer, keep=True)
            self._keep(offset, buffer)
            return buffer.toreadonly()

    def readinto(self, offset: int, view: memoryview, *, keep: bool = True, what: str = "data") -> None:
        """Fill `view` from `offset`. With `keep`, `view` itself becomes part of the snapshot.

        Args:
            offset: Bytes.
            view: Writable, format "B". With `keep`, nobody may write to it before the digest was taken.
            keep: False for a range that is used once and not judged.
            what: For the message of a `MalformedError`.
        """
        self.check(offset, len(view), what)
        if isinstance(self._fetch, _Memory):
            self._fetch.into(offset, view)
            return
        self._fill(offset, view, keep=keep)
        if keep:
            with self._lock:
                self._keep(offset, view)

    def fill(self, parts: Sequence[tuple[int, memoryview]], *, leaf: int | None = None, crc: bool = False) -> list[int]:
        """Fill many views at once, on several cores; each becomes part of the snapshot, as with `readinto(keep=True)`.

        Args:
            parts: Offset in bytes and writable view, each of its own memory.
            leaf: Bytes of a leaf: take the digests of all leaves of the file in the same pass, for `leaves`. Everything else
                that is to be a part of the snapshot should have been read before; what is read later makes them void.
            crc: Also take the CRC-32 of each part.

        Returns:
            The CRCs in the order of the parts, or nothing.

        Raises:
            MalformedError: a part leaves the file, or the file became shorter. Nothing was kept then.
        """
        for offset, view in parts:
            self.check(offset, len(view), "a storage")
        if isinstance(self._fetch, _Memory):
            for offset, view in parts:
                self._fetch.into(offset, view)
            return [zlib.crc32(view) for _, view in parts] if crc else []
        with self._lock:
            crcs = [Crc() if crc else None for _ in parts]
            fresh, late = self._fresh(parts, crcs)
            ranges = sorted((*(Range(start, kept) for start, kept in self._segments), *fresh), key=lambda held: held.start)
            share = None if leaf is None or self.together is None else self.together.share(-(-self.size // leaf))
            digests = run(ranges, self.size, self._from_file, leaf=leaf, share=share)
            self._segments = [(held.start, held.view) for held in ranges]
            self._starts = [held.start for held in ranges]
            if fresh:
                self._forget()
            if leaf is not None and share is not None:
                self._shared = leaf, share, digests
            elif leaf is not None:
                self._leaves = leaf, digests
        for offset, view, sum_ in late:
            self._fill(offset, view)
            if sum_ is not None:
                sum_.update(0, view)
        return [sum_.value() for sum_ in crcs if sum_ is not None]

    def _fresh(
        self, parts: Sequence[tuple[int, memoryview]], crcs: Sequence[Crc | None]
    ) -> tuple[list[Range], list[tuple[int, memoryview, Crc | None]]]:
        """Divide parts into ranges to be read, and those that other ranges will have covered by then."""
        fresh: list[Range] = []
        late: list[tuple[int, memoryview, Crc | None]] = []
        segments, starts, count = self._segments, self._starts, len(self._segments)
        done = 0
        for index in sorted(range(len(parts)), key=lambda index: parts[index][0]):
            offset, view = parts[index]
            end, at = offset + len(view), bisect.bisect_right(starts, offset) - 1
            behind = segments[at][0] + len(segments[at][1]) if at >= 0 else 0
            if end <= behind and view:  # held as a whole: small storages were read with the headers between them
                start, kept = segments[at]
                view[:] = kept[offset - start : end - start]
                held = crcs[index]
                if held is not None:
                    held.update(0, view)
            elif offset >= max(behind, done) and (at + 1 >= count or starts[at + 1] >= end):
                if view:
                    fresh.append(Range(offset, view, True, crcs[index]))
                    done = end
            else:
                if end > behind or offset < done:  # only partly held yet
                    fresh += (Range(start, part, True) for start, part in self._missing(offset, view, fresh))
                    done = max(done, end)
                late.append((offset, view, crcs[index]))
        return fresh, late

    def _missing(self, offset: int, view: memoryview, fresh: list[Range]) -> list[tuple[int, memoryview]]:
        """The parts of a view that no segment and no range before it covers; ranges are in file order."""
        position, end = offset, offset + len(view)
        if fresh:
            position = max(position, fresh[-1].start + len(fresh[-1].view))
        found: list[tuple[int, memoryview]] = []
        index = max(0, bisect.bisect_right(self._starts, position) - 1)
        while position < end:
            start, kept = self._segments[index] if index < len(self._segments) else (end, memoryview(b""))
            if start > position:
                found.append((position, view[position - offset : min(start, end) - offset]))
            position = max(position, start + len(kept))
            index += 1
        return found

    def leaves(self, leaf: int) -> list[bytes]:
        """Return the SHA-256 of every leaf of `leaf` bytes, computed on several cores, once."""
        if self.together is not None:
            self._join(self.together, leaf)
        if self._leaves is None or self._leaves[0] != leaf:
            with self._lock:
                self._leaves = leaf, run(self._ranges(), self.size, self._from_file, leaf=leaf)
        return self._leaves[1]

    def _join(self, together: Together, leaf: int) -> None:
        """Hash this process' share of the leaves, and have the others' from them. That is done once, whatever comes of it."""
        self.together = None
        count = -(-self.size // leaf)
        if self._shared is None or self._shared[0] != leaf:
            share = together.share(count)
            with self._lock:
                self._shared = leaf, share, run(self._ranges(), self.size, self._from_file, leaf=leaf, share=share)
        self._leaves = leaf, together.joined(self._shared[1], self._shared[2], count, self.name)

    def _ranges(self) -> list[Range]:
        if isinstance(self._fetch, _Memory):
            return [Range(0, self._fetch.view)]
        return [Range(start, kept) for start, kept in self._segments]

    def _forget(self) -> None:
        """Drop all digests: what they read from the file for themselves may have been something else than what was read now."""
        self._digests.clear()
        self._leaves = self._shared = None

    def some_leaves(self, leaf: int, only: Sequence[int]) -> list[bytes]:
        """Return the SHA-256 of the leaves with these numbers, in their order; nothing is kept."""
        with self._lock:
            return run(self._ranges(), self.size, self._from_file, leaf=leaf, only=only)

    def leaves_into(self, leaf: int, only: Sequence[int], parts: Sequence[tuple[int, memoryview]]) -> list[bytes]:
        """Fill views, and return the SHA-256 of the leaves with these numbers in their order, from the bytes that the views then have.

        Args:
            leaf: Bytes of a leaf.
            only: The leaves. Of what no view has, bytes that were kept are hashed, and others are read for that alone.
            parts: Views that are filled from an offset each; in file order, without overlap, inside these leaves. They are not kept.
        """
        with self._lock:
            ranges = [Range(start, kept) for start, kept in self._segments]
            for offset, view in parts:
                ranges += [Range(start, part, True) for start, part in self._missing(offset, view, [])]
                self._copy_held(offset, view)
            ranges.sort(key=lambda held: held.start)
            return run(ranges, self.size, lambda at, view, _: self._from_file(at, view), leaf=leaf, only=only)

    def _copy_held(self, offset: int, view: memoryview) -> None:
        """Fill what segments have of a view, and nothing else."""
        end = offset + len(view)
        index = max(0, bisect.bisect_right(self._starts, offset) - 1)
        while index < len(self._segments) and self._segments[index][0] < end:
            start, kept = self._segments[index]
            low, high = max(offset, start), min(end, start + len(kept))
            if low < high:
                view[low - offset : high - offset] = kept[low - start : high - start]
            index += 1

    def held(self) -> list[tuple[int, int]]:
        """The ranges that were read and kept: offset and bytes of each, in file order."""
        return [(start, len(kept)) for start, kept in self._segments]

    def adopt(self, offset: int, view: memoryview) -> None:
        """Make a view that already holds the file's bytes from `offset` on (a mapping of it) part of the snapshot.

        Ranges that were read before stay what they were: what was judged is what is hashed.
        """
        self.check(offset, len(view), "a mapping")
        with self._lock:
            self._keep(offset, view)

    def _fill(self, offset: int, view: memoryview, *, keep: bool = False) -> None:
        """Fill from segments where there are any, from the file elsewhere."""
        with self._lock:
            missing = self._missing(offset, view, [])
            self._copy_held(offset, view)
        for start, part in missing:
            self._from_file(start, part, keep)

    def _from_file(self, offset: int, view: memoryview, keep: bool = False) -> None:
        try:
            got = self._fetch.into(offset, view, keep=keep)
        except RemoteError as error:
            self.failure = self.failure or error.at(self.name)
            raise
        except SafeloadError as error:
            raise error.at(self.name) from None
        except OSError as error:
            raise UnsupportedError(f"reading failed: {error}", where=f"{self.name}@{offset}") from error
        if got != len(view):
            raise MalformedError(
                f"the file ended at byte {offset + got} while it was read; it had {self.size} when it was opened",
                where=f"{self.name}@{offset}",
                hint="something changed the file meanwhile",
            )

    def _keep(self, offset: int, view: memoryview) -> None:
        """Add the parts of `view` that no segment covers yet, keeping the list sorted and free of overlap."""
        position, end = offset, offset + len(view)
        index = max(0, bisect.bisect_right(self._starts, offset) - 1)
        fresh: list[tuple[int, memoryview]] = []
        while index < len(self._segments):
            start, kept = self._segments[index]
            if start >= end:
                break
            index += 1
            if start + len(kept) <= position:
                continue
            if start > position:
                fresh.append((position, view[position - offset : start - offset]))
            position = start + len(kept)
        if position < end:
            fresh.append((position, view[position - offset :]))
        if fresh:
            self._forget()
        for start, part in fresh:
            at = bisect.bisect_left(self._starts, start)
            self._starts.insert(at, start)
            self._segments.insert(at, (start, part))

    # ---- digests

    def pieces(self) -> Iterator[memoryview]:
        """Yield the whole file in order, from segments where there are any; at most `CHUNK` bytes at a time."""
        if isinstance(self._fetch, _Memory):
            for start in range(0, self.size, CHUNK):
                yield self._fetch.view[start : start + CHUNK]
            return
        with self._lock:
            segments = list(self._segments)
        position = 0
        scratch = memoryview(bytearray(CHUNK))
        for start, kept in [*segments, (self.size, memoryview(b""))]:
            while position < start:
                part = scratch[: min(CHUNK, start - position)]
                self._from_file(position, part)
                yield part
                position += len(part)
            for at in range(0, len(kept), CHUNK):
                yield kept[at : at + CHUNK]
            position = max(position, start + len(kept))

    def digest_of(self, algorithm: str) -> str | None:
        """A digest of the whole file that was taken before, lower-case hex, or None."""
        return self._digests.get(algorithm)

    def remember(self, digests: Mapping[str, str]) -> None:
        """Keep digests of the whole file, by algorithm, until more of the file is read."""
        self._digests.update(digests)

    def digest(self, algorithm: str, make: Callable[[], Any]) -> str:
        """Return the hex digest that `make()` gives over the whole file, taken once for each `algorithm`."""
        if algorithm not in self._digests:
            hasher = make()
            for piece in self.pieces():
                hasher.update(piece)
            self._digests[algorithm] = hasher.hexdigest()
        return self._digests[algorithm]

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole file, lower-case hex."""
        import hashlib

        return self.digest("sha256", hashlib.sha256)

    # ---- the caller's stream

    def leave_at(self, offset: int) -> None:
        """Put the caller's stream right behind byte `offset`, so that a next load goes on from there."""
        if self._stream is not None:
            self._stream.seek(self.origin + offset)


def _position(f: Any) -> int:
    """Where a caller's stream stands; the same exceptions as torch for one that cannot seek."""
    import io

    try:
        seek = f.seek  # looked up first, as torch does: its absence is what torch's message is about
        position = f.tell()
        seek(position)
    except UnicodeDecodeError:
        raise
    except AttributeError as error:
        raise NotSeekableError(f"{error}.{_SEEK_HINT}") from error
    except io.UnsupportedOperation as error:
        raise NotSeekableStreamError(f"{error}.{_SEEK_HINT}") from error
    if not isinstance(position, int) or position < 0:
        raise ArgumentError(f"its tell() gives {type(position).__name__}, not a position")
    return position


def _spool(f: Any, origin: int, limits: Limits) -> bytearray:
    """Take the rest of a stream that cannot say how long it is, within bounds."""
    f.seek(origin)
    data = bytearray()
    while True:
        part = f.read(CHUNK)
        if not isinstance(part, (bytes, bytearray)):
            raise ArgumentError(f"reads {type(part).__name__}, not bytes: open the file in binary mode")
        if not part:
            return data
        data += part
        if len(data) > limits.spool_bytes:
            raise LimitError(f"more than {limits.spool_bytes} bytes come out of {type(f).__name__}")
