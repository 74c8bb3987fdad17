"""Look at files for their pins: each opened once, both digests from one pass, several at a time, and word about how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from safeload.errors import SafeloadError
from safeload.findings import Report
from safeload.parallel import in_parallel, workers
from safeload.remote import Address
from safeload.reporting import examine
from safeload.source import Reading, Source
from safeload.trust.both_digests import TOGETHER, Buffers, both_digests

__all__ = ["Progress", "Seen", "look", "through"]

Progress = Callable[[str, int, int], None]
"""Takes the path at work, the bytes of it that are done, and its size. May be called from several threads."""

T = TypeVar("T")
_GROUPS: Final = 4  # at a time: each holds some leaves of its files in memory
_WORTH_THREADS: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One file as it is on the disk."""

    path: str
    report: Report | None = None
    problem: str | None = None
    missing: bool = False


def look(paths: Sequence[str | os.PathLike[str] | Address], shown: Sequence[str], progress: Progress | None) -> list[Seen]:
    """Open each file once, examine it and take both digests of it."""
    reports: dict[int, Report] = {}

    def before(number: int, source: Source) -> None:
        _, reports[number] = examine(source, Reading())

    def after(number: int, source: Source, found: tuple[str, str]) -> Seen:
        report = replace(reports.pop(number), sha256=found[0], sha256_tree=found[1], origin=source.origin_of_bytes)
        return Seen(path=shown[number], report=report)

    def failed(number: int, error: Exception) -> Seen:
        # An address is what somebody asked for; a path may stand for a pin that is older than the file.
        if isinstance(error, FileNotFoundError) and not isinstance(paths[number], Address):
            return Seen(path=shown[number], missing=True)
        return Seen(path=shown[number], problem=said(error))

    return through(paths, shown, progress, before=before, after=after, failed=failed)


def said(error: Exception) -> str:
    """What an error says, in short."""
    if isinstance(error, SafeloadError):
        return error.message
    return getattr(error, "strerror", None) or str(error)


def through(
    paths: Sequence[str | os.PathLike[str] | Address],
    shown: Sequence[str],
    progress: Progress | None,
    *,
    after: Callable[[int, Source, tuple[str, str]], T],
    failed: Callable[[int, Exception], T],
    before: Callable[[int, Source], None] | None = None,
) -> list[T]:
    """Go through files: open, look, hash, conclude.

    Args:
        paths: The files.
        shown: What `progress` calls them.
        progress: Told about every piece that was hashed.
        after: What comes of a file whose digests are known; its snapshot is still open.
        failed: What comes of a file that could not be opened, looked at or read: SafeloadError or OSError.
        before: Called before a file is hashed: what is read then is what is hashed.

    Returns:
        What `after` or `failed` gave, in the order of the paths.
    """
    results: dict[int, T] = {}
    buffers: Buffers = []
    groups = [range(at, min(at + TOGETHER, len(paths))) for at in range(0, len(paths), TOGETHER)]
    threads = min(workers(), _GROUPS) if _nbytes(paths) > _WORTH_THREADS else 1

    def group(index: int) -> None:
        with ExitStack() as stack:
            opened: list[tuple[int, Source]] = []
            for number in groups[index]:
                try:
                    source = stack.enter_context(Source.open(paths[number]))
                    if before is not None:
                        before(number, source)
                except (SafeloadError, OSError) as error:
                    results[number] = failed(number, error)
                else:
                    opened.append((number, source))

            def told(place: int, done: int) -> None:
                if progress is not None:
                    progress(shown[opened[place][0]], done, opened[place][1].size)

            # One group has the cores for itself; several share them.
            alone = threads if len(groups) == 1 else 1
            digests = both_digests([source for _, source in opened], told=told, threads=alone, buffers=buffers)
            for (number, source), found in zip(opened, digests, strict=True):
                try:
                    results[number] = failed(number, found) if isinstance(found, SafeloadError) else after(number, source, found)
                except (SafeloadError, OSError) as error:
                    results[number] = failed(number, error)

    in_parallel(len(groups), group, threads)
    return [results[number] for number in range(len(paths))]


def _nbytes(paths: Sequence[str | os.PathLike[str] | Address]) -> int:
    """About how much there is to hash: only threads depend on it."""
    total = 0
    for path in paths:
        with suppress(OSError, ValueError):
            total += 0 if isinstance(path, Address) else Path(path).stat().st_size
    return total
