"""Converted twins in the cache directory, by the digest of what they were made from; least recently used ones go first.

What is believed: that this user's own cache directory holds what this user's safeload put there. An entry is a converted file and a
record, written after the proof, that names the digests of both source and twin and the directory that it was written in. A load
compares every byte of the twin with the record, and the manifest in it with the pin (docs/decisions/0011).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from safeload.conversion.converting import convert_file
from safeload.conversion.opening import sidecar_name
from safeload.errors import PinError, SafeloadError
from safeload.lean_dataclass import dataclass
from safeload.policy import Policy
from safeload.source import Source
from safeload.trust.cache import cache_directory, most_bytes, read_entry, replace_file

__all__ = ["CONVERTIBLE", "Kept", "TwinCache"]

CONVERTIBLE: Final = frozenset({"torch-zip", "torchscript", "torch-legacy", "torch-tar", "pickle", "joblib"})
"""Formats whose converted files give back what they give themselves."""

_VERSION: Final = 1
_RECORD_BYTES: Final = 4096
_HEX: Final = re.compile(r"[0-9a-f]{64}\Z")
_STALE: Final = 86400.0  # seconds after which a file that belongs to no entry is nobody's work in progress
_PATIENCE: Final = 600.0  # seconds to wait for another process that converts the same file


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One twin in the cache.

    Attributes:
        path: The converted file.
        source_sha256: Of what it was made from.
        source_format: The reader that claimed that.
        size: Bytes of the converted file.
        sha256: Of the converted file.
        sha256_tree: Likewise.
        used: When it was last loaded, in seconds since 1970.
        more: Bytes of the manifest that lies beside it, or 0.
    """

    path: Path
    source_sha256: str
    source_format: str
    size: int
    sha256: str
    sha256_tree: str
    used: float = 0.0
    more: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes on the disk."""
        return self.size + self.more


class TwinCache:
    """The twins in one cache directory.

    Args:
        directory: Where they lie.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def here(cls) -> TwinCache | None:
        """The cache in force; None where there can be none, or others could write to it."""
        root = cache_directory()
        if root is None:
            return None
        try:
            (root / "converted").mkdir(mode=0o700, exist_ok=True)
        except OSError:
            return None
        return cls(root / "converted")

    # ---- one twin

    def find(self, sha256: str) -> Kept | None:
        """The twin of the file with this digest, as it was recorded; None when there is none.

        Nothing is said about its bytes: they are compared when it is loaded.
        """
        kept = self._read(self._record(sha256))
        if kept is None or kept.source_sha256 != sha256 or not kept.path.is_file():
            return None
        with contextlib.suppress(OSError):
            os.utime(self._record(sha256))
        return kept

    def make(self, source: Source, sha256: str, policy: Policy) -> Kept | None:
        """Convert a file into the cache, unless another process just did; then make room.

        Args:
            source: The file, opened by its path.
            sha256: What its bytes must be.
            policy: What is allowed.

        Returns:
            None when it cannot be converted or kept: a cache that is full or cannot be written is no error.
        """
        from filelock import FileLock, Timeout

        if source.path is None or source.size > most_bytes():
            return None
        guard = self.directory / f".{sha256}.guard"
        lock = FileLock(guard, timeout=_PATIENCE)
        try:
            lock.acquire(poll_interval=0.02)
        except (OSError, Timeout):
            return None
        try:
            kept = self.find(sha256) or self._convert(source.path, sha256, policy)
        finally:
            # Removed while it is held, as with lockfiles: who waits for the old file notices, and starts over.
            with contextlib.suppress(OSError):
                guard.unlink()
            lock.release()
        if kept is not None:
            self.prune(most_bytes(), keep=sha256)
        return kept

    def _convert(self, path: str, sha256: str, policy: Policy) -> Kept | None:
        def gate(found: str) -> None:
            if found != sha256:
                raise PinError("the bytes are not the pinned bytes", expected=f"sha256:{sha256}", found=f"sha256:{found}")

        self.discard(sha256)
        try:
            result = convert_file(path, self._twin(sha256), force=True, policy=policy, gate=gate)
        except (SafeloadError, OSError):
            return None
        if result.left_out or len(result.files) > 2:
            self.discard(sha256)
            return None
        made, more = result.files[0], sum(file.size for file in result.files[1:])
        kept = Kept(
            path=self._twin(sha256), source_sha256=sha256, source_format=result.format, size=made.size, sha256=made.sha256,
            sha256_tree=made.sha256_tree, used=time.time(), more=more,
        )  # fmt: skip
        return kept if replace_file(self._record(sha256), json.dumps(self._entry(kept), sort_keys=True).encode()) else None

    def discard(self, sha256: str) -> int:
        """Remove the twin of a file; returns how many bytes that freed. The record goes first: a twin without one is none."""
        freed = 0
        for path in (self._record(sha256), self._twin(sha256), self._sidecar(sha256)):
            with contextlib.suppress(OSError):
                nbytes = path.stat().st_size
                path.unlink()
                freed += nbytes
        return freed

    # ---- all of them

    def entries(self) -> list[Kept]:
        """Every twin that is there, the most recently used first."""
        found = [kept for path in self._files("*.json") if _HEX.match(path.stem) and (kept := self._read(path)) is not None]
        return sorted(found, key=lambda kept: (-kept.used, kept.source_sha256))

    def prune(self, limit: int, *, keep: str = "", unused: float | None = None) -> list[Kept]:
        """Remove twins, least recently used first, until no more than `limit` bytes are left; and what belongs to no twin.

        Args:
            limit: Bytes.
            keep: The digest of a source whose twin stays.
            unused: Also remove what was not loaded for so many seconds.

        Returns:
            What was removed.
        """
        entries = self.entries()
        gone: list[Kept] = []
        total, now = 0, time.time()
        for kept in sorted(entries, key=lambda kept: kept.source_sha256 != keep):
            total += kept.nbytes
            old = unused is not None and now - kept.used > unused
            if kept.source_sha256 != keep and (total > limit or old):
                total -= kept.nbytes
                gone.append(kept)
        for kept in gone:
            self.discard(kept.source_sha256)
        self._sweep({kept.source_sha256 for kept in entries} - {kept.source_sha256 for kept in gone}, now)
        return gone

    def _sweep(self, known: set[str], now: float) -> None:
        """Remove what a process that was killed left behind."""
        for path in self._files("*"):
            digest = path.name.lstrip(".")[:64]
            with contextlib.suppress(OSError):
                if (path.name.startswith(".") or digest not in known) and now - path.stat().st_mtime > _STALE:
                    path.unlink()

    def _files(self, pattern: str) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            yield from sorted(self.directory.glob(pattern))

    # ---- records

    def _record(self, sha256: str) -> Path:
        return self.directory / f"{sha256}.json"

    def _twin(self, sha256: str) -> Path:
        return self.directory / f"{sha256}.safetensors"

    def _sidecar(self, sha256: str) -> Path:
        return self.directory / sidecar_name(f"{sha256}.safetensors")

    def _entry(self, kept: Kept) -> dict[str, Any]:
        # The directory's own marks: a cache that was copied from another machine has others.
        home = self.directory.stat()
        return {
            "version": _VERSION, "home": [home.st_dev, home.st_ino], "source": kept.source_sha256, "format": kept.source_format,
            "size": kept.size, "sha256": kept.sha256, "sha256-tree": kept.sha256_tree, "more": kept.more,
        }  # fmt: skip

    def _read(self, path: Path) -> Kept | None:
        """One record; None when it is not what is written here."""
        try:
            data, info = read_entry(path, _RECORD_BYTES)
            found, used = json.loads(data), info.st_mtime
        except (OSError, ValueError, RecursionError):
            return None
        texts = ("source", "format", "sha256", "sha256-tree")
        if not isinstance(found, dict) or not all(type(found.get(key)) is str for key in texts):
            return None
        if not all(_HEX.match(found[key]) for key in ("source", "sha256", "sha256-tree")) or found["source"] != path.stem:
            return None
        if not all(type(found.get(key)) is int and found[key] >= 0 for key in ("size", "more")):
            return None
        kept = Kept(
            path=self._twin(found["source"]), source_sha256=found["source"], source_format=found["format"], size=found["size"],
            sha256=found["sha256"], sha256_tree=found["sha256-tree"], used=used, more=found["more"],
        )  # fmt: skip
        with contextlib.suppress(OSError):
            if found == self._entry(kept):
                return kept
        return None
