"""A model that remembers how it made things, so that whoever reads the manifest can have them made the same way.

Plain data speaks for itself. Anything that a call made is told as that call, in the words of the stream: the same model that
judged it once judges it again when the manifest is read back, and no second description of a Parameter or an array exists.
"""

from __future__ import annotations

import collections
from typing import Any, Final

from safeload.lean_dataclass import dataclass, field
from safeload.program import Call, Global, Inert, StorageSpec, TensorSpec
from safeload.walk import Walk
from safeload.walk.model import Model, build

__all__ = ["PLAIN", "Recipe", "Recorder"]

FROM_BUFFER: Final = "numpy._core.numeric._frombuffer"

PLAIN: Final = (
    type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict,
    collections.OrderedDict, collections.Counter, collections.defaultdict, collections.deque, StorageSpec, TensorSpec,
)  # fmt: skip
"""Types whose values are told by what they hold."""


@dataclass(slots=True)
class Recipe:
    """How one object came to be.

    Attributes:
        op: "REDUCE", "NEWOBJ", "NEWOBJ_EX", or "PERSID", whose `args` are the persistent id.
        callee: What was called.
        args: With what.
        kwargs: NEWOBJ_EX only.
        then: What was done to it, in order: ("state", value), ("append", values) or ("set", pairs).
        value: The object; held here, so that its id stays its own.
    """

    op: str
    callee: Any
    args: Any
    kwargs: dict[str, Any]
    value: Any
    then: list[tuple[str, Any]] = field(default_factory=list)


class Recorder(Model):
    """Builds without torch and without numpy, and keeps a `Recipe` of all that is not plain data."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.recipes: dict[int, Recipe] = {}
        super().__init__(*args, **kwargs)

    def call(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        """Also remember the call."""
        value = super().call(op, callee, args, kwargs, at)
        # A call may give back its own argument, which has a recipe already.
        if type(value) not in PLAIN and id(value) not in self.recipes:
            how = op if op in ("NEWOBJ", "NEWOBJ_EX") else "REDUCE"
            # As the model takes them: anything but text by text is dropped.
            named = dict(kwargs) if type(kwargs) is dict and all(type(key) is str for key in kwargs) else {}
            self.recipes[id(value)] = Recipe(how, callee, args, named, value)
        return value

    def persistent(self, pid: Any, at: int) -> Any:
        """Also remember an id that became an inert node."""
        value = super().persistent(pid, at)
        if type(value) is Inert and value.via == "PERSID" and id(value) not in self.recipes:
            self.recipes[id(value)] = Recipe("PERSID", None, pid, {}, value)
        return value

    def build(self, target: Any, state: Any, at: int) -> Any:
        """Also remember the state."""
        value = super().build(target, state, at)
        if value is not target and type(value) is Call and id(value) not in self.recipes and len(value.args) == 4:
            # joblib's description of an array gave way to the array itself, whose bytes lie between the opcodes.
            shape, dtype, order, data = value.args
            self.recipes[id(value)] = Recipe("REDUCE", Global(FROM_BUFFER), (data, dtype, shape, order), {}, value)
        else:
            self._then(target, "state", state)
        return value

    def nested(self, walk: Walk) -> Any:
        """A stream inside this one is told as part of it."""
        inner = Recorder(walk, unknown=self.unknown)
        inner.recipes = self.recipes
        return build(walk, inner)

    def extend(self, target: Any, items: list[Any], name: str, at: int) -> None:
        """Also remember the items."""
        super().extend(target, items, name, at)
        self._then(target, "append", list(items))

    def set_items(self, target: Any, items: list[Any], name: str, at: int) -> None:
        """Also remember the pairs."""
        super().set_items(target, items, name, at)
        self._then(target, "set", list(zip(items[::2], items[1::2], strict=True)))

    def _then(self, target: Any, what: str, value: Any) -> None:
        recipe = self.recipes.get(id(target))
        if recipe is None and type(target) is Inert:  # a global that was never called, and is changed all the same
            recipe = self.recipes[id(target)] = Recipe("", target.global_name, (), {}, target)
        if recipe is not None:
            recipe.then.append((what, value))
