"""Where files are scanned: what every engine is, and the one that is this process.

An engine takes batches. Results go to `heard` as soon as they are known, in any order and from any thread, so that a journal has
them before anybody waits for the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from safeload.context import Context
from safeload.lean_dataclass import dataclass
from safeload.scanning.jobs import Job, Settings
from safeload.scanning.one_file import Done, scanned

__all__ = ["Engine", "Heard", "InThisProcess", "Pending"]

Heard = Callable[[Job, Done], None]


class Pending(Protocol):
    """A batch on its way."""

    def done(self) -> bool:
        """Whether `result` would return at once."""
        ...

    def result(self) -> list[Done]:
        """Wait, and return what came of each file, in their order. Fails only when the engine itself does."""
        ...


class Engine(Protocol):
    """Scans batches of files."""

    @property
    def width(self) -> int:
        """How many batches keep it busy."""
        ...

    @property
    def most(self) -> int:
        """Most files of one batch."""
        ...

    def submit(self, jobs: Sequence[Job]) -> Pending:
        """Take a batch."""
        ...

    def close(self) -> None:
        """End; what has not begun never does."""
        ...


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch that is done."""

    found: list[Done]

    def done(self) -> bool:
        return True

    def result(self) -> list[Done]:
        return self.found


class InThisProcess:
    """One file after the other, here, while the caller waits."""

    width: Final = 0
    most: Final = 1

    def __init__(self, context: Context, settings: Settings, heard: Heard) -> None:
        self._context, self._settings, self._heard = context, settings, heard

    def submit(self, jobs: Sequence[Job]) -> Pending:
        """Scan them now."""
        found = []
        for job in jobs:
            found.append(scanned(job, self._context, self._settings))
            self._heard(job, found[-1])
        return _Ready(found)

    def close(self) -> None:
        """Nothing is open."""
