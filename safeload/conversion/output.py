"""A file that is there whole or not at all.

It is written without a name where the system can do that, else under a temporary one beside its place, and takes its name
only after everything was written, flushed to the disk and proved. Killed at any moment it leaves nothing or the whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from safeload.background import Task, Worker
from safeload.errors import SafeloadError, UnsupportedError, UsageError
from safeload.findings import escape

__all__ = ["Draft", "check_destination", "failed"]

_FLUSH_BYTES: Final = 64 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def failed(error: OSError, path: Path, size: int) -> SafeloadError:
    """The error for something the system would not do."""
    where = escape(str(path), 500)
    if error.errno in _FULL:
        hint = "nothing was changed; free some space"
        return UnsupportedError(f"no room for {size} bytes: {error.strerror}", where=where, hint=hint)
    return UnsupportedError(f"writing failed: {error.strerror or error}", where=where, hint="nothing was changed")


def check_destination(path: Path, sources: Sequence[os.stat_result | None], *, force: bool) -> None:
    """Refuse a destination that is the source, a link, no file, or there already.

    Raises:
        UsageError: see above.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise UsageError(f"the directory {escape(str(path.parent), 200)} does not exist") from None
        return
    shown = escape(str(path), 500)
    if any(one is not None and (found.st_dev, found.st_ino) == (one.st_dev, one.st_ino) for one in sources):
        raise UsageError("the destination is the source", where=shown)
    if not stat.S_ISREG(found.st_mode):
        raise UsageError("the destination is a link or no regular file", where=shown, hint="name a file, not a link to one")
    if not force:
        raise UsageError("the destination exists", where=shown, hint="--force (force=True) replaces it")


class Draft:
    """A file in the making. Use as a context manager; without `commit` nothing stays.

    Args:
        path: Its place.
        size: Bytes, asked of the disk at once.
        force: Whether a file that is there may be replaced.
        mode: Permission bits; None for what the process gives new files.
        flusher: Brings to the disk what was written while more is; None to do that at the end.

    Raises:
        SafeloadError: there is no room.
    """

    def __init__(self, path: Path, size: int, *, force: bool = False, mode: int | None = None, flusher: Worker | None = None) -> None:
        self.path, self.size, self.force = path, size, force
        self._flusher, self._flushing, self._unflushed = flusher, list[Task](), 0
        self._temporary: Path | None = None
        self.fd = -1
        try:
            self.fd = self._create()
            if mode is not None:
                os.fchmod(self.fd, mode & 0o666)
            os.ftruncate(self.fd, size)
            self._reserve()
        except OSError as error:
            self._abandon()
            raise failed(error, self.path, self.size) from error
        except BaseException:
            self._abandon()
            raise

    def _create(self) -> int:
        flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
            with contextlib.suppress(OSError):
                return os.open(self.path.parent, flags | os.O_TMPFILE, 0o666)
        self._temporary = self._aside()
        return os.open(self._temporary, flags | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)

    def _aside(self) -> Path:
        return self.path.with_name(f".{self.path.name[:100]}.{os.urandom(8).hex()}.tmp")

    def _reserve(self) -> None:
        """Look for room now, so that a full disk is known before hours of work. Reserving it would write everything twice."""
        if hasattr(os, "fstatvfs"):
            there = os.fstatvfs(self.fd)
            if there.f_bavail * there.f_frsize < self.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @property
    def reading_path(self) -> str:
        """A path by which others can open the draft."""
        return str(self._temporary) if self._temporary is not None else f"/proc/self/fd/{self.fd}"

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at `offset`.

        Raises:
            SafeloadError: there is no room, or the disk fails.
        """
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self.fd, view, offset)
                view = view[done:]
                offset += done
                self._unflushed += done
        except OSError as error:
            raise failed(error, self.path, self.size) from error
        if self._unflushed >= _FLUSH_BYTES and all(task.done for task in self._flushing):
            self.start_flush()

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return what was written."""
        out = []
        while nbytes:
            part = os.pread(self.fd, nbytes, offset)
            if not part:
                raise UnsupportedError("the file became shorter while it was written", where=escape(str(self.path), 500))
            out.append(part)
            offset += len(part)
            nbytes -= len(part)
        return out[0] if len(out) == 1 else b"".join(out)

    def start_flush(self) -> None:
        """Begin to bring to the disk what was written so far."""
        if self._flusher is not None:
            self._unflushed = 0
            self._flushing.append(self._flusher.submit(lambda: os.fsync(self.fd)))

    def flush(self) -> None:
        """Bring everything to the disk."""
        try:
            # The system tells of a failure once: whoever asked in between was told.
            for task in self._flushing:
                task.wait()
            os.fsync(self.fd)
        except OSError as error:
            raise failed(error, self.path, self.size) from error

    def commit(self) -> None:
        """Give the file its name, and bring that to the disk.

        Raises:
            UsageError: something lies there by now.
            SafeloadError: the system refuses.
        """
        self.flush()
        try:
            self._name()
            _flush_directory(self.path.parent)
        except FileExistsError:
            raise UsageError("the destination exists by now", where=escape(str(self.path), 500)) from None
        except OSError as error:
            raise failed(error, self.path, self.size) from error

    def _name(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            if not self.force:
                # A link fails where a rename would silently replace.
                self._link(self.path.name, directory)
                return
            if self._temporary is None:
                aside = self._aside()
                self._link(aside.name, directory)
                self._temporary = aside
            os.rename(self._temporary.name, self.path.name, src_dir_fd=directory, dst_dir_fd=directory)
            self._temporary = None
        finally:
            os.close(directory)

    def _link(self, name: str, directory: int) -> None:
        # A file without a name is reached through /proc, whose link must be followed; Python does that only with a directory given.
        os.link(self.reading_path, name, dst_dir_fd=directory, follow_symlinks=self._temporary is None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._abandon()

    def _abandon(self) -> None:
        for task in self._flushing:
            with contextlib.suppress(OSError):
                task.wait()
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)
            self.fd = -1
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            self._temporary = None


def _flush_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)
