"""What a model answers about numpy's values; without numpy they are `Call` nodes.

`Call("numpy.dtype", (ArrayType,))`, `Call("numpy.ndarray", (shape, dtype, order, bytes))` where order is "C", "F" or a tuple of
axes, `Call("numpy.object_array", (shape, list))`, `Call("numpy.scalar", (dtype, bytes))`,
`Call("numpy.random.…", (bit generator,), state=…)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safeload.errors import MalformedError, RefusedError
from safeload.program import Call
from safeload.walk import kinds as k

if TYPE_CHECKING:
    from safeload.walk.arrays import ArrayType

__all__ = ["ArrayAnswers"]


class ArrayAnswers:
    """The part of `walk.model.Model` that is about numpy."""

    def array_type(self, dtype: Any) -> ArrayType:
        """What a dtype value is."""
        if isinstance(dtype, Call) and dtype.kind == k.NPDTYPE:
            found: ArrayType = dtype.args[0]
            return found
        raise MalformedError("not a dtype of numpy").under("SL303")

    def set_array_type(self, dtype: Any, described: ArrayType) -> None:
        """Let a dtype value be what its state says."""
        dtype.args = (described,)

    def make_array_of(self, kind: Any, at: int) -> Any:
        """An empty array of a class that policy allows; only a build that may import has any."""
        raise RefusedError("classes that policy allows are built by safeload.load only", where=f"@{at}").under("SL103")

    def fill_array(self, array: Any, shape: tuple[int, ...], dtype: Any, order: str, data: bytes) -> None:
        """Give an array that was made empty what its state says, once: others may look into its memory by then."""
        if array.args:
            raise MalformedError("an array's state is given twice").under("SL105")
        array.args = (shape, dtype, order, data)

    def fill_objects(self, array: Any, shape: tuple[int, ...], dtype: Any, order: str, items: list[Any]) -> None:
        """Give an array of objects its items, in C's order whatever `order` is, once."""
        if array.args:
            raise MalformedError("an array's state is given twice").under("SL105")
        array.global_name, array.args = "numpy.object_array", (shape, items)

    def array_facts(self, array: Any) -> tuple[str, tuple[int, ...]]:
        """The type of an array, without its byte order ("u4"), and its shape."""
        if isinstance(array, Call) and len(array.args) == 4:
            return self.array_type(array.args[1]).text[1:], array.args[0]
        raise MalformedError("not an array").under("SL303")

    def integer_of(self, value: Any) -> int | None:
        """The value of one of numpy's integers; None for anything else."""
        if not isinstance(value, Call) or value.global_name != "numpy.scalar":
            return None
        text = self.array_type(value.args[0]).text
        if text[1:2] not in ("u", "i"):
            return None
        return int.from_bytes(value.args[1], "big" if text[0] == ">" else "little", signed=text[1] == "i")

    def generator_of(self, value: Any) -> tuple[str, str]:
        """What a generator value is, "RandomState", and the name of its bit generator."""
        if not isinstance(value, Call):
            raise MalformedError("not a generator").under("SL303")
        what = value.global_name.rpartition(".")[2]
        inner = value.args[0] if value.args else ""
        return what, inner if isinstance(inner, str) else self.generator_of(inner)[1]

    def set_generator_state(self, target: Any, state: dict[str, Any], seed: Any) -> None:
        """Give a generator its checked state, and a bit generator the seed sequence that it came from."""
        target.state = (state, seed)
