"""What a model answers about numpy's values when numpy is there: the counterpart of `walk.array_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safeload.build import numpy_module
from safeload.walk.array_model import ArrayAnswers

if TYPE_CHECKING:
    from safeload.build.numpy_arrays import ArrayParts
    from safeload.walk.arrays import ArrayType

__all__ = ["RealArrays"]


class RealArrays(ArrayAnswers):
    """The part of a model that makes numpy's values. numpy is imported when the first of them is made."""

    _arrays: ArrayParts | None = None

    @property
    def arrays(self) -> ArrayParts:
        """The numpy values of this build.

        Raises:
            MissingExtraError: numpy is not installed.
        """
        if self._arrays is None:
            numpy_module()
            from safeload.build.numpy_arrays import ArrayParts

            self._arrays = ArrayParts()
        return self._arrays

    def array_kind(self, value: Any) -> int | None:
        """The machine's kind of a numpy value, or None when it is none of this build."""
        return None if self._arrays is None else self._arrays.kind_of(value)

    def make_numpy(self, what: str, args: tuple[Any, ...]) -> Any:
        """A numpy value by its name without "numpy."; the arguments were checked."""
        if what == "dtype":
            return self.arrays.make_dtype(args[0])
        if what == "ndarray":
            return self.arrays.make_array(args)
        if what == "scalar":
            return self.arrays.make_scalar(*args)
        return self.arrays.make_generator(what.removeprefix("random."), args)

    def array_type(self, dtype: Any) -> ArrayType:
        """What a dtype value is."""
        return self.arrays.array_type(dtype)

    def set_array_type(self, dtype: Any, described: ArrayType) -> None:
        """Let a dtype become what its state says."""
        self.arrays.set_array_type(dtype, described)

    def fill_array(self, array: Any, shape: tuple[int, ...], dtype: Any, order: str, data: bytes) -> None:
        """Give an array that was made empty its contents."""
        self.arrays.fill_array(array, shape, dtype, order, data)

    def fill_objects(self, array: Any, shape: tuple[int, ...], dtype: Any, order: str, items: list[Any]) -> None:
        """Give an array of objects its items."""
        self.arrays.fill_objects(array, shape, dtype, order, items)

    def array_facts(self, array: Any) -> tuple[str, tuple[int, ...]]:
        """The type of an array, without its byte order, and its shape."""
        return self.arrays.array_facts(array)

    def integer_of(self, value: Any) -> int | None:
        """The value of one of numpy's integers."""
        return self.arrays.integer_of(value)

    def generator_of(self, value: Any) -> tuple[str, str]:
        """What a generator is, and the name of its bit generator."""
        return self.arrays.generator_of(value)

    def set_generator_state(self, target: Any, state: dict[str, Any], seed: Any) -> None:
        """Give a generator its checked numbers."""
        self.arrays.set_generator_state(target, state, seed)
