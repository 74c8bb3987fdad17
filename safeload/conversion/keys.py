"""What the keys of a manifest stand for: a few bytes of shared tuples are visited without end by one hash.

The walk of a pickle stream bounds its keys before anything is built. A manifest has no walk, so its keys are measured when they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from safeload.errors import LimitError
from safeload.walk.values import check_hashes

__all__ = ["Keys"]

# The same as in the walk; the compiled machine does not show them, so a test holds both together.
MAX_TUPLE_DEPTH: Final = 1_000
MAX_HASH_DEPTH: Final = 200
MAX_HASH_SIZE: Final = 1_000_000
MAX_ODD_KEYS: Final = 10_000

_HASHED: Final = 50_000_000  # values that hashing all keys may visit
_LIGHT: Final = (str, bytes, bool, float, tuple, type(None))


def _limit(message: str) -> LimitError:
    return LimitError(message).under("SL127")


class Keys:
    """Sizes of the tuples and frozensets that were made, by identity: whoever made them keeps them.

    Args:
        charge: Is told how many values are looked at to tell keys apart, and raises when there are too many.
    """

    def __init__(self, charge: Callable[[int], None]) -> None:
        self._charge = charge
        self._sizes: dict[int, tuple[int, int]] = {}
        self._hashed = 0
        self._odd = 0

    def note(self, made: Any) -> None:
        """Note how many values a tuple or a frozenset stands for, and how deep it is. Its members were noted before.

        Args:
            made: Any value.

        Raises:
            LimitError: C code that goes through it by recursion would run out of stack.
        """
        if (type(made) is not tuple and type(made) is not frozenset) or not made:
            return
        weight, depth = 1, 0
        for item in made:
            inner, below = self._size(item)
            weight += inner
            depth = max(depth, below)
        if depth + 1 > MAX_TUPLE_DEPTH:
            raise _limit(f"tuples nested deeper than {MAX_TUPLE_DEPTH}")
        self._sizes[id(made)] = (min(weight, 2 * _HASHED), depth + 1)

    def check(self, values: list[Any]) -> None:
        """Look at values that become keys or members of a set.

        Raises:
            LimitError: they take too long to hash or to tell apart.
            TypeError: one has no hash.
        """
        for value in values:
            weight, depth = self._size(value)
            if weight > MAX_HASH_SIZE or depth > MAX_HASH_DEPTH:
                raise _limit("a key that stands for too many values to hash")
            self._hashed += weight
            if weight > 64:
                self._odd += 1 + (weight >> 12)
            if type(value) not in _LIGHT and not (type(value) is int and -(1 << 60) < value < 1 << 60):
                self._odd += 1
        if self._hashed > _HASHED or self._odd > MAX_ODD_KEYS:
            raise _limit("keys that stand for too many values to hash")
        self._charge(check_hashes(values))

    def _size(self, value: Any) -> tuple[int, int]:
        if (type(value) is tuple or type(value) is frozenset) and value:
            # One that nobody noted is not known to be small.
            return self._sizes.get(id(value), (2 * _HASHED, MAX_TUPLE_DEPTH))
        return 1, 0
