"""What was verified before: stamps of whole files, and lists of leaves. Both are hints that prove themselves or are not used.

A *stamp* says that a file with this device, inode, size, modification and change time had the pinned digests. It is written only when
all times were older than the racy window before the first byte was read, and not changed after the last one. What trusting it
means stands in docs/threat-model.md.

A *list of leaves* needs no trust: hashed with the file's size it must give the pinned `sha256-tree`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from safeload.byte_sizes import size_of
from safeload.errors import UsageError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass
from safeload.trust.digest import leaf_count, root_of_leaves

if TYPE_CHECKING:
    from safeload.source import Source

__all__ = [
    "DEFAULT_BYTES", "RACY_NS", "Stamps", "cache_directory", "kinds_of", "most_bytes", "read_entry", "read_leaves", "replace_file",
    "unchanged", "write_leaves",
]  # fmt: skip

RACY_NS: Final = 2_000_000_000
"""A file changed within so long of being read may be changed again without its times showing it: the coarsest clocks tick every 2 s."""

DEFAULT_BYTES: Final = 20 << 30
"""Bytes that all converted files in the cache may have together, unless SAFELOAD_CACHE_SIZE says otherwise."""

_VERSION: Final = 1
_MOST_BYTES: Final = 4096


def cache_directory() -> Path | None:
    """Return the cache directory, made if need be; None where there can be none, or others could write to it.

    SAFELOAD_CACHE names another than the platform's.
    """
    named = os.environ.get("SAFELOAD_CACHE")
    if named:
        path = Path(named)
    else:
        from platformdirs import user_cache_path

        path = user_cache_path("safeload", appauthor=False)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.stat()
    except OSError:
        return None
    if os.name == "posix" and (info.st_uid != os.geteuid() or info.st_mode & 0o022):
        return None
    return path


def most_bytes() -> int:
    """How many bytes the converted files in the cache may have together.

    Raises:
        UsageError: SAFELOAD_CACHE_SIZE is no size.
    """
    text = os.environ.get("SAFELOAD_CACHE_SIZE")
    if not text:
        return DEFAULT_BYTES
    found = size_of(text)
    if found is None:
        raise UsageError(f"SAFELOAD_CACHE_SIZE is '{escape(text, 80)}'", hint="a size, such as 500000, 10MB or 2GiB")
    return found


def _marks(info: os.stat_result) -> list[int]:
    return [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def unchanged(source: Source) -> bool:
    """Whether the open file still has the marks that it had when it was opened."""
    if source.fd is None or source.stat is None:
        return False
    try:
        return _marks(os.fstat(source.fd)) == _marks(source.stat)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Stamps:
    """The stamps in one cache directory.

    Attributes:
        directory: Where they lie.
    """

    directory: Path

    @classmethod
    def here(cls) -> Stamps | None:
        """The stamps in force; None where a stamp could not mean anything: no change times, or no private directory."""
        if os.name != "posix":  # elsewhere st_ctime is when a file was made
            return None
        root = cache_directory()
        if root is None:
            return None
        try:
            (root / "stamps").mkdir(mode=0o700, exist_ok=True)
        except OSError:
            return None
        return cls(root / "stamps")

    def holds(self, source: Source, digests: tuple[str, str | None]) -> bool:
        """Whether the file was verified as having these digests, and nothing about it has changed.

        Args:
            source: Just opened.
            digests: `sha256` and `sha256-tree` of its pin.
        """
        info = source.stat
        if info is None:
            return False
        try:
            found = json.loads(read_entry(self._path(info), _MOST_BYTES)[0])
        except (OSError, ValueError, RecursionError):
            return False
        if not isinstance(found, dict):
            return False
        at = found.pop("at", None)
        if found != self._entry(info, digests) or type(at) is not int:
            return False
        # Self-consistent, and no clock was set back since: then times of a later change could be those of this one.
        return max(info.st_mtime_ns, info.st_ctime_ns) + RACY_NS < at <= time.time_ns()

    def keep(self, source: Source, digests: tuple[str, str | None], opened_ns: int) -> bool:
        """Write a stamp after a verification, if it may be trusted later.

        Args:
            source: The file; all its bytes were compared with `digests`.
            digests: As for `holds`.
            opened_ns: The wall clock before it was opened.

        Returns:
            Whether it was written.
        """
        info = source.stat
        if info is None or not unchanged(source) or max(info.st_mtime_ns, info.st_ctime_ns) + RACY_NS >= opened_ns:
            return False
        entry = {**self._entry(info, digests), "at": opened_ns}
        return replace_file(self._path(info), json.dumps(entry).encode())

    def _path(self, info: os.stat_result) -> Path:
        return self.directory / f"{info.st_dev:x}-{info.st_ino:x}.json"

    def _entry(self, info: os.stat_result, digests: tuple[str, str | None]) -> dict[str, object]:
        # The directory's own marks: a cache that was copied, with another machine's stamps in it, has others.
        home = self.directory.stat()
        return {"version": _VERSION, "home": [home.st_dev, home.st_ino], "marks": _marks(info), "sha256": digests[0], "tree": digests[1]}


def _leaves_path(tree: str) -> Path | None:
    root = cache_directory()
    return None if root is None else root / "leaves" / tree


def kinds_of(root: Path, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """How many files, and how many bytes, lie in each of these directories of the cache; those that are not there are left out."""
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        with contextlib.suppress(OSError):
            (root / name).stat()
            sizes = [path.stat().st_size for path in (root / name).rglob("*") if path.is_file()]
            found[name] = (len(sizes), sum(sizes))
    return found


def read_leaves(size: int, tree: str) -> list[bytes] | None:
    """Return the leaves of a file whose pin says this size and `sha256-tree`; None when they are not kept or not those."""
    path = _leaves_path(tree)
    count = leaf_count(size)
    try:
        data = b"" if path is None else read_entry(path, 32 * count + 1)[0]
    except OSError:
        return None
    if len(data) != 32 * count:
        return None
    leaves = [data[at : at + 32] for at in range(0, len(data), 32)]
    return leaves if root_of_leaves(size, leaves) == tree else None


def write_leaves(tree: str, leaves: list[bytes]) -> bool:
    """Keep a list of leaves under the root that it gives; returns whether that was possible."""
    path = _leaves_path(tree)
    if path is None:
        return False
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return False
    return replace_file(path, b"".join(leaves))


def read_entry(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Read what lies at a place in the cache, without waiting for whoever would write to a pipe there.

    Args:
        path: The place.
        most: Bytes that are read.

    Returns:
        The first bytes, and what `fstat` says of the file.

    Raises:
        OSError: there is none, it cannot be read, or it is no plain file.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "no plain file")
        return file.read(min(most, info.st_size)), info


def replace_file(path: Path, data: bytes) -> bool:
    """Put a file in the cache in place, whole or not at all; returns whether. A cache that cannot be written is no error."""
    spare = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.{secrets.token_hex(8)}")
    try:
        with spare.open("xb") as file:
            file.write(data)
        spare.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            spare.unlink()
        return False
    return True
