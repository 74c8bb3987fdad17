"""How long to wait for a server, and how often to ask again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from safeload.errors import RemoteError

__all__ = ["Again", "Patience", "patiently", "usual"]

_Answer = TypeVar("_Answer")


class Again(Exception):  # noqa: N818 - not an error yet: it becomes one when patience ends
    """One attempt failed in a way that another may not.

    Args:
        why: One line without anything secret.
        after: Seconds that the server asked for, or None.
    """

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.why, self.after = why, after


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds in seconds.

    Attributes:
        attempts: How often one range is asked for, in all.
        connect: For a connection.
        stall: Without a byte.
        grace: For any answer as a whole, and
        slowest: for each that many bytes of it another second: one byte now and then is no answer.
        pause: Before the second attempt; each further pause is twice as long.
        longest: No pause is longer, whatever the server asks for.
    """

    attempts: int = 5
    connect: float = 10.0
    stall: float = 30.0
    grace: float = 60.0
    slowest: int = 64 << 10
    pause: float = 0.5
    longest: float = 30.0

    def whole(self, nbytes: int) -> float:
        """Seconds for an answer of so many bytes."""
        return self.grace + nbytes / self.slowest


PATIENCE = Patience()


def usual() -> Patience:
    """What holds where nobody says otherwise."""
    return PATIENCE


def patiently(ask: Callable[[], _Answer], patience: Patience, where: str) -> _Answer:
    """Ask until there is an answer, or patience ends.

    Raises:
        RemoteError: every attempt failed; it says how the last one did.
        BaseException: anything but `Again` that `ask` raises.
    """
    attempt = 1
    while True:
        try:
            return ask()
        except Again as failed:
            why, after = failed.why, failed.after
        if attempt >= patience.attempts:
            times = "once" if attempt == 1 else f"{attempt} times"
            raise RemoteError(f"asked {times}: {why}", where=where)
        pause = patience.pause * 2 ** (attempt - 1) * (0.5 + random.random() / 2)  # noqa: S311 - spreads clients, hides nothing
        time.sleep(min(max(pause, after or 0.0), patience.longest))
        attempt += 1
