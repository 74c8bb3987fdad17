"""Look at one file for a pin: one open, one pass for both digests, and word about how far it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from safeload.errors import SafeloadError
from safeload.findings import Report
from safeload.reporting import examine
from safeload.source import Reading, Source
from safeload.trust.digest import TreeHasher

__all__ = ["Progress", "Seen", "digests", "look"]

Progress = Callable[[str, int, int], None]
"""Takes the path at work, the bytes of it that are done, and its size."""


class _Counting:
    """A hasher that says how far it is."""

    def __init__(self, hasher: Any, tick: Callable[[int], None]) -> None:
        self._hasher, self._tick = hasher, tick

    def update(self, data: Any) -> None:
        self._hasher.update(data)
        self._tick(len(data))

    def hexdigest(self) -> str:
        return str(self._hasher.hexdigest())


def digests(source: Source, path: str, progress: Progress | None) -> tuple[str, str]:
    """Both digests of a snapshot in one pass, telling `progress` about it."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(path, done, source.size)

    found = source.digests({"sha256": lambda: _Counting(hashlib.sha256(), tick), "sha256-tree": TreeHasher})
    return found["sha256"], found["sha256-tree"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One file as it is on the disk."""

    path: str
    report: Report | None = None
    problem: str | None = None
    missing: bool = False


def look(path: str | os.PathLike[str], shown: str, progress: Progress | None) -> Seen:
    """Open a file once, examine it and take both digests of it."""
    try:
        with Source.open(path) as source:
            _, report = examine(source, Reading())
            sha256, tree = digests(source, shown, progress)
            return Seen(path=shown, report=replace(report, sha256=sha256, sha256_tree=tree))
    except FileNotFoundError:
        return Seen(path=shown, missing=True)
    except SafeloadError as error:
        return Seen(path=shown, problem=error.message)
    except OSError as error:
        return Seen(path=shown, problem=error.strerror or str(error))
