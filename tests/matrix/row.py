"""What a row of the matrix is: one kind of object, and how to make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Row", "kinds", "of", "with_attributes"]


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of object.

    Attributes:
        group: The table that it stands in.
        name: What a person calls it.
        make: Makes a fresh one.
        numbers: Its structure lies in its numbers (sparse indices, tables of nested tensors), so it means nothing when they are not read.
        why: The reason for a result that the errors themselves do not explain; part of the documentation.
        legacy: Why torch is not asked to load it from a legacy stream; "" where it is.
    """

    group: str
    name: str
    make: Callable[[], Any]
    numbers: bool = False
    why: str = ""
    legacy: str = ""

    @property
    def label(self) -> str:
        """For test ids and tables."""
        return f"{self.group}: {self.name}"


def kinds(
    group: str,
    makers: Mapping[str, Callable[[], Any]],
    *,
    numbers: bool = False,
    why: Mapping[str, str] | None = None,
    legacy: Mapping[str, str] | None = None,
) -> list[Row]:
    """Make a group of rows; `why` and `legacy` are by name."""
    reasons, unread = why or {}, legacy or {}
    return [Row(group, name, make, numbers, reasons.get(name, ""), unread.get(name, "")) for name, make in makers.items()]


def of(value: Any, use: Callable[[Any], Any]) -> Any:
    """Use a value more than once in a lambda."""
    return use(value)


def with_attributes(target: Any, **state: Any) -> Any:
    """Set attributes and return the object, for use in a lambda."""
    for name, value in state.items():
        setattr(target, name, value)
    return target
