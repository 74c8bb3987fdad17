"""Which files one scan is about: what is named, what lies in directories and below remote prefixes, each once, none forgotten."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from safeload.lean_dataclass import dataclass
from safeload.remote import is_address, is_prefix

if TYPE_CHECKING:
    from safeload.directory import Found

__all__ = ["Job", "Settings", "Skipped", "collect", "stamp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for every file of one scan.

    Attributes:
        digest: Hash every file.
        strict: Notes refuse, too.
        max_size: Bytes; a larger file is not analysed. None: no bound.
        timeout: Seconds for one file, or None.
    """

    digest: bool = False
    strict: bool = False
    max_size: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One file to scan.

    Attributes:
        path: As it was named, or found. Of an address, all of it: `safeload.remote.shown` says what may be printed.
        walked: It was found in a directory, so that it may be passed by when it is plainly no model.
        problem: Why it cannot be scanned, or None.
        size: Bytes, where that was told in passing.
        mark: What tells these bytes from any others, where that was told in passing: a `stamp`, or what a store says.
        base: The working directory, for whoever scans it in another; "" for the same.
    """

    path: str
    walked: bool = False
    problem: str | None = None
    size: int | None = None
    mark: str | None = None
    base: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that needs no verdict.

    Attributes:
        path: As found.
        why: One line.
    """

    path: str
    why: str


COARSE_NS: Final = 2_000_000_000
FINE_NS: Final = 100_000_000


def stamp(info: os.stat_result, now_ns: int) -> str | None:
    """What tells the bytes of a file on this machine from any others, without reading them.

    Args:
        info: Of the file.
        now_ns: The wall clock before it was looked at.

    Returns:
        None for a file that changed so shortly before that another change might leave its times as they are: within the step of the
        file system's clock. That is up to 2 s where times have no fractions, and a few milliseconds elsewhere.
    """
    last = max(info.st_mtime_ns, info.st_ctime_ns)
    fine = info.st_mtime_ns % 1_000_000_000 and info.st_ctime_ns % 1_000_000_000
    if last + (FINE_NS if fine else COARSE_NS) >= now_ns:
        return None
    return f"stat:{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"


def collect(paths: Sequence[str], *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Iterator[Job | Skipped]:
    """Yield what the paths mean, each file once. The globs are about files in directories, not about files that are named.

    Args:
        paths: Files, directories, names of models, addresses of files and of prefixes that end in "/".
        include: As for `files_below`.
        exclude: Likewise.
    """
    folders = {path for path in paths if not is_address(path) and os.path.isdir(path)}
    # A file that is named is scanned as one, also when it lies in a directory that is walked and left out there.
    named = {_key(path) for path in paths if path not in folders}
    # What was seen is remembered only where something could be seen twice: it would grow with the number of files.
    overlap = _overlap([_key(path) for path in folders])
    seen: set[str] = set()
    for path in dict.fromkeys(paths):
        if path in folders:
            found: Iterator[Job | Skipped] = _walked(path, include, exclude)
        elif is_address(path) and is_prefix(path):
            from safeload.scanning.elsewhere import below

            found = below(path, include=include, exclude=exclude)
        else:
            found = iter([Job(path)])
        for job in found:
            key = _key(job.path)
            if key in seen or (path in folders and key in named):
                continue
            if overlap or path not in folders:
                seen.add(key)
            yield job


def _key(path: str) -> str:
    return path if is_address(path) else os.path.normpath(path)


def _overlap(folders: Sequence[str]) -> bool:
    """Whether a directory lies in another one; paths that cannot be compared as text do."""
    if len(folders) < 2:
        return False
    parts = [[part for part in folder.split(os.sep) if part not in ("", ".")] for folder in folders]
    if any(one[:1] == [".."] for one in parts) or len({os.path.isabs(folder) for folder in folders}) > 1:
        return True
    return any(other[: len(one)] == one for one in parts for other in parts if other is not one)


def _walked(path: str, include: Sequence[str], exclude: Sequence[str]) -> Iterator[Job | Skipped]:
    from safeload.directory import files_below

    for found in files_below(path, include=include, exclude=exclude):
        yield _entry(found, time.time_ns())


def _entry(found: Found, now_ns: int) -> Job | Skipped:
    if found.skipped is not None:
        return Skipped(found.path, found.skipped)
    if found.info is None:
        return Job(found.path, True, found.problem)
    return Job(found.path, True, found.problem, found.info.st_size, stamp(found.info, now_ns))
