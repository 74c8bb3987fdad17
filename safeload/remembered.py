"""What was made of a file's bytes stays made for as long as the bytes are the same.

The file is read each time and its bytes are compared, so nothing can be stale: what is spared is the parsing alone. Only what
cannot be changed may be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Remembered"]

Made = TypeVar("Made")


class Remembered(Generic[Made]):
    """A few results by key, each with the bytes that it was made of.

    Threads may share it: two that come at once make the same thing twice, and either stays.

    Args:
        most: Results that are kept; then all are forgotten.
        longest: Bytes of a file whose result is kept.
    """

    def __init__(self, most: int, longest: int) -> None:
        self._held: dict[object, tuple[bytes, Made]] = {}
        self._most = most
        self._longest = longest

    def of(self, key: object, data: bytes, make: Callable[[bytes], Made]) -> Made:
        """Return what `make(data)` gives, or gave for the same key and the same bytes.

        Args:
            key: All else that the result depends on.
            data: The file as it is now.
            make: What it raises is not remembered.
        """
        held = self._held.get(key)
        if held is not None and held[0] == data:
            return held[1]
        made = make(data)
        if len(data) <= self._longest:
            if len(self._held) >= self._most:
                self._held.clear()
            self._held[key] = (data, made)
        return made

    def forget(self, key: object) -> None:
        """Make it anew the next time: what is to be said of it is said each time."""
        self._held.pop(key, None)
