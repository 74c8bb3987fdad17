"""`lean_dataclass` makes what the standard decorator makes; it only makes it later."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from safeload import lean_dataclass as lean

FLAGS = [
    {"frozen": frozen, "slots": slots, "kw_only": kw_only}
    for frozen in (True, False)
    for slots in (True, False)
    for kw_only in (True, False)
]


def pair(**flags: bool) -> tuple[type[Any], type[Any]]:
    """The same class, made by both."""
    made = []
    for module in (lean, dataclasses):

        class Fact:
            """A fact."""

            kind: ClassVar[str] = "fact"
            number: int
            text: str = "none"
            parts: list[int] = module.field(default_factory=list)
            hidden: int = module.field(default=0, compare=False, repr=False)

            def __post_init__(self) -> None:
                if self.number < 0:
                    raise ValueError("negative")

            @property
            def double(self) -> int:
                return 2 * self.number

        decorate: Callable[[type], type] = module.dataclass(**flags)
        made.append(decorate(Fact))
    return made[0], made[1]


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "+".join(key for key, on in flags.items() if on) or "none")
def test_both_decorators_make_the_same(flags: dict[str, bool]) -> None:
    """Construction, defaults, comparison, text, description: whatever safeload or its users ask of a fact."""
    ours, theirs = pair(**flags)
    assert ours.__doc__ == "A fact."
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.kind == "fact"
    mine, other = ours(number=1, text="a"), theirs(number=1, text="a")
    assert repr(mine).partition("(")[2] == repr(other).partition("(")[2]
    assert mine == ours(number=1, text="a", hidden=5)
    assert mine != ours(number=2, text="a")
    assert mine != other
    assert mine.parts is not ours(number=1).parts
    assert mine.double == 2
    assert dataclasses.asdict(mine) == dataclasses.asdict(other)
    assert [field.name for field in dataclasses.fields(ours)] == [field.name for field in dataclasses.fields(theirs)]
    assert dataclasses.replace(mine, number=7) == lean.replace(mine, number=7) == ours(number=7, text="a")
    assert hasattr(mine, "__dict__") == hasattr(other, "__dict__")
    assert copy.copy(mine) == copy.deepcopy(mine) == mine
    for make in (ours, theirs):
        with pytest.raises(TypeError):
            make()
        with pytest.raises(TypeError):
            make(number=1, other=2)
        with pytest.raises(ValueError, match="negative"):
            make(number=-1)
    if flags["kw_only"]:
        with pytest.raises(TypeError):
            ours(1)
    else:
        assert ours(1, "a") == mine
    if flags["frozen"]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            mine.number = 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            del mine.number
        with pytest.raises(TypeError, match="unhashable"):  # the list
            hash(mine)
    else:
        mine.number = 2
        assert mine.number == 2
        assert ours.__hash__ is None


@lean.dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Ordered, and importable, so that it can be pickled."""

    left: int
    right: int = 0


@lean.dataclass(frozen=True, slots=True)
class Triple(Pair):
    """Derived."""

    last: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Standard(Pair):
    """A standard dataclass over one of ours."""

    extra: int = 0


def test_facts_can_be_ordered_hashed_pickled_and_derived_from() -> None:
    assert Pair(1, 2) < Pair(1, 3) <= Pair(1, 3)
    assert Pair(2) > Pair(1, 9)
    assert max(Pair(1), Pair(3), Pair(2)) == Pair(3)
    assert len({Pair(1), Pair(1), Pair(2)}) == 2
    assert hash(Pair(1, 2)) == hash((1, 2))
    for protocol in range(2, 6):
        assert pickle.loads(pickle.dumps(Triple(1, 2, 3), protocol)) == Triple(1, 2, 3)
    assert repr(Triple(1, last=3)) == "Triple(left=1, right=0, last=3)"
    assert Triple(1) != Pair(1)
    assert Standard(1, 2, 3) == dataclasses.replace(Standard(1), right=2, extra=3)
    assert not hasattr(Triple(1), "__dict__")
    with pytest.raises(TypeError):
        assert Pair(1) < Triple(1)


def test_a_mutable_default_is_refused() -> None:
    """As by the standard decorator: all instances would share it."""
    with pytest.raises(ValueError, match="mutable default"):

        @lean.dataclass
        class Bad:
            items: list[int] = []  # noqa: RUF012 — that is what is refused
