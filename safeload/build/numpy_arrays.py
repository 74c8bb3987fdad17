"""numpy's arrays, scalars, dtypes and generators, made from descriptions that `walk.arrays` and `walk.generators` checked.

No callable that a file names is called: dtypes come from their text, arrays from their bytes, generators from their numbers.
Where an object must change after it was made (the memo may hold it), it is given a state that numpy itself wrote for the
object that it should become, never the state in the file.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from safeload.errors import LimitError, MalformedError, UnsupportedError
from safeload.findings import escape
from safeload.walk import generators
from safeload.walk import kinds as k
from safeload.walk.arrays import ArrayType

__all__ = ["ArrayParts", "value_of"]

_np: Any = np
_TYPES: Final = frozenset(
    {
        "bool_", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong", "ulonglong", "float16",
        "float32", "float64", "longdouble", "complex64", "complex128", "clongdouble", "str_", "bytes_", "datetime64", "timedelta64",
        "ndarray", "dtype",
    }
)  # fmt: skip


def value_of(name: str) -> Any:
    """The object that a modelled global of numpy stands for, or None when it has none here: it is only ever called."""
    if name in generators.CLASSES:
        return getattr(np.random, generators.CLASSES[name], None)
    if name == generators.SEED_CLASS:
        return np.random.SeedSequence
    attribute = name.removeprefix("numpy.")
    if attribute not in _TYPES:
        return None
    return getattr(np, "bool_" if attribute == "bool" else attribute, None)


def dtype_of(described: ArrayType) -> np.dtype[Any]:
    """Make a dtype.

    Raises:
        UnsupportedError: this machine has no such number (an extended float).
        MalformedError: numpy does not accept the description.
    """
    try:
        found: np.dtype[Any]
        if described.base is not None:
            found = np.dtype((dtype_of(described.base), described.shape))
        elif described.fields:
            parts = {
                "names": [field.name for field in described.fields],
                "formats": [dtype_of(field.type) for field in described.fields],
                "offsets": [field.offset for field in described.fields],
                "itemsize": described.itemsize,
            }
            found = _np.dtype(parts, align=described.aligned)
        else:
            found = np.dtype(described.text)
    except TypeError as error:
        raise UnsupportedError(f"this machine's numpy has no dtype {described.text}: {escape(str(error))}") from error
    except ValueError as error:
        raise MalformedError(f"a dtype that numpy does not accept: {escape(str(error))}").under("SL303") from error
    if found.hasobject is not (described.text == "|O") or found.itemsize != described.itemsize:
        raise MalformedError(f"a dtype {described.text} of {found.itemsize} bytes").under("SL303")
    return found


class ArrayParts:
    """The numpy values of one build, and what is known of them."""

    def __init__(self) -> None:
        self._types: dict[int, tuple[Any, ArrayType]] = {}
        self._empty: dict[int, Any] = {}
        self._generators: dict[int, tuple[Any, str, str]] = {}

    def kind_of(self, value: Any) -> int | None:
        """The machine's kind of a value, by its exact type; None when it is no numpy value."""
        if type(value) is np.ndarray or id(value) in self._empty:
            return k.NPARRAY
        if id(value) in self._types:
            return k.NPDTYPE
        if id(value) in self._generators:
            return k.NPRNG
        return k.OBJECT if isinstance(value, np.generic) else None

    # ---- dtypes

    def make_dtype(self, described: ArrayType) -> Any:
        """A dtype object of its own, because a later state may change it."""
        plain = dtype_of(described)
        made = _np.dtype(plain, False, True)  # align, copy
        self._types[id(made)] = (made, described)
        return made

    def array_type(self, dtype: Any) -> ArrayType:
        """What a dtype of this build is."""
        found = self._types.get(id(dtype))
        if found is None:
            raise MalformedError("not a dtype of this file").under("SL303")
        return found[1]

    def set_array_type(self, dtype: Any, described: ArrayType) -> None:
        """Let a dtype become what its state says."""
        wanted = dtype_of(described)
        before = self.array_type(dtype)
        if described != before:
            fresh = dtype
            fresh.__setstate__(wanted.__reduce__()[2])
            if dtype != wanted:
                raise MalformedError(f"a dtype that does not become {described.text}").under("SL303")
        self._types[id(dtype)] = (dtype, described)

    # ---- arrays

    def make_array(self, args: tuple[Any, ...]) -> Any:
        """An array: empty when it waits for its state, else of (shape, dtype, order, bytes)."""
        if not args:
            empty: Any = np.empty((0,), np.int8)
            self._empty[id(empty)] = empty
            return empty
        shape, dtype, order, data = args
        if dtype.itemsize:
            flat: Any = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")
        else:
            flat = np.zeros(shape, dtype)
        return flat if isinstance(order, str) else flat.transpose(order)

    def make_array_of(self, kind: Any) -> tuple[Any, bool]:
        """An empty array of a class that policy allows, and whether that class takes its state in its own way.

        Raises:
            MalformedError: it is no class of arrays.
            UnsupportedError: the class itself raised.
        """
        if not isinstance(kind, type) or not issubclass(kind, np.ndarray):
            raise MalformedError("an array of a class that is no array").under("SL303")
        try:
            made: Any = np.ndarray.__new__(kind, (0,), np.int8)
        except Exception as error:  # what the class does to each new array
            raise UnsupportedError(f"an array of {escape(kind.__qualname__)} cannot be made: {escape(str(error))}") from error
        own = getattr(kind, "__setstate__", None) is not np.ndarray.__setstate__
        if not own:
            self._empty[id(made)] = made
        return made, own

    def fill_array(self, array: Any, shape: tuple[int, ...], dtype: Any, order: str, data: bytes) -> None:
        """Give an empty array its contents, once: a second time would free memory that views look into."""
        if self._empty.pop(id(array), None) is None:
            raise MalformedError("an array's state is given twice").under("SL105")
        try:
            array.__setstate__((1, shape, dtype, order == "F", data))
        except MemoryError as error:
            raise LimitError(f"an array of {len(data)} bytes does not fit into memory").under("SL302") from error

    def fill_objects(self, array: Any, shape: tuple[int, ...], dtype: Any, order: str, items: list[Any]) -> None:
        """Give an empty array its items, as many as `shape` says, once."""
        if self._empty.pop(id(array), None) is None:
            raise MalformedError("an array's state is given twice").under("SL105")
        array.__setstate__((1, shape, dtype, order == "F", items))

    def make_scalar(self, dtype: Any, data: bytes) -> Any:
        """One element."""
        if not data:
            return np.zeros((), dtype)[()]
        # A copy: a structure's scalar would otherwise look into this buffer, which is read-only.
        return np.ndarray((), dtype, data).copy()[()]

    def array_facts(self, array: Any) -> tuple[str, tuple[int, ...]]:
        """The type of an array, without its byte order, and its shape."""
        if id(array) in self._empty:
            raise MalformedError("an array that was not given its state").under("SL303")
        return array.dtype.str[1:], tuple(array.shape)

    def integer_of(self, value: Any) -> int | None:
        """The value of one of numpy's integers; None for anything else."""
        return int(value) if isinstance(value, np.integer) else None

    # ---- generators

    def make_generator(self, what: str, args: tuple[Any, ...]) -> Any:
        """A bit generator by its name; a Generator or RandomState around one, or around a new one by name; a seed sequence."""
        if what == "SeedSequence":
            made, name = np.random.SeedSequence(0), ""
        elif isinstance(args[0], str):
            name = args[0]
            made = _bit_generator(name)
            if what != "BitGenerator":
                made = getattr(_np.random, what)(made)
        else:
            name = self.generator_of(args[0])[1]
            made = getattr(_np.random, what)(args[0])
        self._generators[id(made)] = (made, what, name)
        return made

    def generator_of(self, value: Any) -> tuple[str, str]:
        """What a generator of this build is, and the name of its bit generator."""
        found = self._generators.get(id(value))
        if found is None:
            raise MalformedError("not a generator of this file").under("SL303")
        return found[1], found[2]

    def set_generator_state(self, target: Any, state: dict[str, Any], seed: Any) -> None:
        """Give a generator its checked numbers."""
        what, _ = self.generator_of(target)
        if what == "SeedSequence":
            _become(target, np.random.SeedSequence(**state))
        elif what == "RandomState":
            target.set_state(state)
        elif what == "Generator":
            target.bit_generator.state = state
        else:
            target.state = state
            if seed is not None:
                _set_seed(target, state, seed)


def _bit_generator(name: str) -> Any:
    made = getattr(np.random, name, None)
    if made is None:
        raise UnsupportedError(f"this numpy has no bit generator {name}")
    return made()


def _set_seed(target: Any, state: dict[str, Any], seed: Any) -> None:
    """Releases from 1.24 on keep the seed sequence; the others have no place for it, and no pickle with it."""
    try:
        target.__setstate__((state, seed))
    except (TypeError, ValueError):
        return


def _become(target: Any, wanted: Any) -> None:
    """Let a seed sequence become another one, by the state that numpy writes for that one."""
    reduced = wanted.__reduce__()
    state = reduced[2] if len(reduced) > 2 else reduced[1][2]
    target.__setstate_cython__(state)
