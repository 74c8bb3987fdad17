"""A bar on stderr for long work: how far, how fast, how long still. Only on a terminal, and only when it takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from safeload.cli.output import on_terminal
from safeload.errors import SafeloadError
from safeload.findings import escape

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress", "bytes_of"]

_PATIENCE: Final = 0.7  # seconds without a bar


def bytes_of(paths: Sequence[str], lock: str | None) -> int | None:
    """How many bytes there are to hash: of the paths, or of everything that is pinned. None where nobody looks or it cannot be told."""
    if not on_terminal(sys.stderr):
        return None
    from pathlib import Path

    from safeload.directory import files_below
    from safeload.lockfile import find, read

    try:
        if not paths:
            where = find(argument=lock)
            return sum(file.size for model in read(where).models for file in model.files) if where is not None else None
        files = [found.path for path in paths if Path(path).is_dir() for found in files_below(path) if found.skipped is None]
        return sum(Path(path).stat().st_size for path in [*files, *(path for path in paths if not Path(path).is_dir())])
    except (OSError, SafeloadError):
        return None


class Progress:
    """Use as a context manager around long work.

    Args:
        what: A verb, such as "scanning".
        total: How much there is to do, or None.
        unit: "bytes" or "files".
        quiet: Never show anything.
    """

    def __init__(self, what: str, total: int | None, *, unit: str, quiet: bool = False) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._wanted = not quiet and on_terminal(sys.stderr)
        self._start = time.monotonic()
        self._done = 0
        self._per_file: dict[str, int] = {}
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, amount: int, now: str = "") -> None:
        """Say that `amount` more is done, and what is at work."""
        self._done += amount
        if not self._wanted:
            return
        if self._bar is None:
            if time.monotonic() - self._start < _PATIENCE:
                return
            self._bar = self._make()
            self._task = self._bar.add_task(self._what, total=self._total, completed=self._done, now="")
        if self._task is not None:
            self._bar.update(self._task, completed=self._done, now=escape(now[-40:], 60))

    def reach(self, done: int, total: int) -> None:
        """Take word from `safeload.conversion`: how much is done, and how much there is."""
        if total != self._total:
            self._total = total
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, total=total)
        self.advance(done - self._done)

    def hashed(self, path: str, done: int, size: int) -> None:
        """Take word from `safeload.pinning`: bytes of one file."""
        before = self._per_file.get(path, 0)
        self._per_file[path] = done
        self.advance(done - before, path)

    def _make(self) -> Bar:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bar
        from rich.text import Text

        class Speed(ProgressColumn):
            """Files per second."""

            def render(self, task: Task) -> Text:
                return Text(f"{task.speed:,.0f} files/s" if task.speed else "")

        by_bytes = self._unit == "bytes"
        bar = Bar(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn() if by_bytes else MofNCompleteColumn(),
            TransferSpeedColumn() if by_bytes else Speed(), TimeRemainingColumn(), TextColumn("{task.fields[now]}", markup=False),
            console=Console(file=sys.stderr), transient=True,
        )  # fmt: skip
        bar.start()
        return bar
