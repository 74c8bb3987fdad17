"""numpy's dtypes, arrays and scalars as a stream describes them: checked, without numpy.

Plain dtypes: numbers, fixed-width text and bytes, dates, and structures of them. An array of objects holds values of the
stream itself, in a list; objects are never made of bytes, nor do they lie in structures.
Source of the states: numpy's `arraydescr_reduce` and `array_reduce`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape, shown
from safeload.lean_dataclass import dataclass, field, replace
from safeload.program import Call, Inert
from safeload.walk import kinds as k
from safeload.walk.raw_arrays import WRAPPERS, RawArrays
from safeload.walk.strided import check_sizes

if TYPE_CHECKING:
    from safeload.walk.model import Model

__all__ = ["HANDLERS", "SETTERS", "ArrayField", "ArrayType", "check_length", "parse_type"]

_SIZES: Final[dict[str, tuple[int, ...]]] = {
    "b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 12, 16), "c": (8, 16, 24, 32), "M": (8,), "m": (8,),
}  # fmt: skip
_LETTERS: Final = {
    "?": "b1", "b": "i1", "B": "u1", "h": "i2", "H": "u2", "i": "i4", "I": "u4", "q": "i8", "Q": "u8", "e": "f2", "f": "f4",
    "d": "f8", "F": "c8", "D": "c16", "M": "M8", "m": "m8", "S": "S0", "U": "U0", "V": "V0",
}  # fmt: skip
_TEXT: Final = re.compile(r"([<>=|]?)(?:([?bBhHiIqQefdFDMmSUV])|([biufcSUVMm])([0-9]{1,9}))\Z")
_OBJECT: Final = re.compile(r"[<>=|]?O[48]?\Z")
_UNITS: Final = frozenset({"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"})
_NATIVE: Final = "<" if sys.byteorder == "little" else ">"
_LARGEST: Final = (1 << 31) - 1  # numpy keeps an item's size in a C int in every release before 2.0
_DEPTH: Final = 16
_FIELDS: Final = 10_000
_ALIGNED: Final = 0x80  # NPY_ALIGNED_STRUCT


@dataclass(frozen=True, slots=True)
class ArrayField:
    """One field of a structure: `offset` counts bytes."""

    name: str
    type: ArrayType
    offset: int


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A numpy dtype as data.

    Attributes:
        text: As numpy writes it in `dtype.str`: "<f4", "|S5", "<M8[ns]"; "|V8" for a structure, "|O" for objects.
        itemsize: Bytes per element.
        fields: Those of a structure, in order; empty for anything else.
        base: What a subarray consists of, else None.
        shape: The subarray's shape.
        aligned: Whether a structure was laid out as C would.
        depth: How deep structures lie in it.
        settled: A BUILD gave it its state; another one would change arrays that were made of it.
    """

    text: str
    itemsize: int
    fields: tuple[ArrayField, ...] = ()
    base: ArrayType | None = None
    shape: tuple[int, ...] = ()
    aligned: bool = False
    depth: int = 0
    settled: bool = field(default=False, compare=False)


def _bad(message: str) -> MalformedError:
    return MalformedError(message).under("SL303")


def parse_type(text: str) -> ArrayType:
    """Read a dtype's name, as the argument of `numpy.dtype` in a stream.

    Raises:
        MalformedError: no plain dtype has this name, or it means another one on another machine.
    """
    if _OBJECT.match(text):
        return ArrayType("|O", 8)
    match = _TEXT.match(text)
    if match is None:
        raise _bad(f"a dtype named {shown(text, 40)}")
    order, letter, kind, digits = match.groups()
    if letter is not None:
        kind, digits = _LETTERS[letter][0], _LETTERS[letter][1:]
    count = int(digits)
    if count not in _SIZES.get(kind, (count,)):
        raise _bad(f"a dtype named {shown(text, 40)}")
    size = 4 * count if kind == "U" else count
    if size > _LARGEST:
        raise _bad(f"a dtype of {size} bytes")
    plain = kind in "SVb" or size == 1
    return ArrayType(f"{'|' if plain else _order(order)}{kind}{count}", size)


def _order(order: str) -> str:
    return order if order in ("<", ">") else _NATIVE


def with_state(model: Model, described: ArrayType, state: tuple[Any, ...]) -> ArrayType:
    """Apply the state that a dtype's BUILD gives.

    Args:
        model: For the dtypes inside.
        described: What `numpy.dtype` was called with.
        state: (version, order, subarray, names, fields, itemsize, alignment, flags[, metadata]).

    Raises:
        MalformedError: it is not such a state, or contradicts itself.
    """
    if described.settled:
        raise MalformedError("a dtype's state is given twice").under("SL105")
    described = replace(described, settled=True)
    if len(state) not in (8, 9) or state[0] not in (3, 4) or type(state[0]) is not int or (len(state) == 9) is not (state[0] == 4):
        raise _bad("a dtype's state that no known numpy writes")
    _, order, subarray, names, fields, itemsize, alignment, flags = state[:8]
    if order not in ("<", ">", "=", "|") or any(type(number) is not int for number in (itemsize, alignment, flags)):
        raise _bad("a dtype's state that no known numpy writes")
    kind = described.text[1]
    if itemsize not in (-1, described.itemsize):
        raise _bad(f"a dtype {described.text} of {shown(itemsize)} bytes")
    if (names or fields or subarray) and kind != "V":
        raise _bad(f"a dtype {described.text} with fields")
    metadata = state[8] if len(state) == 9 else None
    text = described.text if described.text[0] == "|" else f"{_order(order)}{described.text[1:]}"
    if kind in "Mm":
        text += _unit(metadata)
    elif metadata:
        raise _bad("a dtype that carries metadata")
    if subarray is not None:
        return _subarray(model, replace(described, text=text), subarray)
    if names is None and fields is None:
        return replace(described, text=text)
    return _structure(model, replace(described, text=text, aligned=bool(flags & _ALIGNED)), names, fields)


def _unit(metadata: Any) -> str:
    """The unit of dates, "[ns]": from (dictionary, (unit, count, divisor, event))."""
    if metadata is None:
        return ""
    if type(metadata) is not tuple or len(metadata) != 2 or metadata[0] or type(metadata[1]) is not tuple or len(metadata[1]) != 4:
        raise _bad("a date's unit that is not (unit, count, divisor, event)")
    raw, count, divisor, _ = metadata[1]
    unit = raw.decode("latin-1") if type(raw) is bytes else raw
    if unit == "generic":
        return ""
    if type(unit) is not str or unit not in _UNITS or type(count) is not int or not 0 < count <= _LARGEST or divisor != 1:
        raise _bad(f"a date counted in {shown(unit, 40)}")
    return f"[{count if count > 1 else ''}{unit}]"


def _subarray(model: Model, described: ArrayType, subarray: Any) -> ArrayType:
    if type(subarray) is not tuple or len(subarray) != 2 or model.kind_of(subarray[0]) != k.NPDTYPE:
        raise _bad("a subarray that is not (dtype, shape)")
    base = _no_object(model.array_type(subarray[0]))
    shape = check_sizes(subarray[1] if type(subarray[1]) is tuple else (subarray[1],))
    if prod(shape) * base.itemsize != described.itemsize or base.depth >= _DEPTH:
        raise _bad(f"a subarray of shape {shape} of {base.text} in {described.itemsize} bytes")
    return replace(described, base=base, shape=shape, depth=base.depth + 1)


def _structure(model: Model, described: ArrayType, names: Any, fields: Any) -> ArrayType:
    plain = type(names) is tuple and type(fields) is dict and len(names) <= _FIELDS and all(type(name) is str for name in names)
    if not plain or set(names) != set(fields) or len(set(names)) != len(names):
        raise _bad("a structure whose names and fields are not the same")
    found = []
    for name in names:
        field = fields[name]
        if type(field) is not tuple or len(field) != 2 or model.kind_of(field[0]) != k.NPDTYPE:
            raise _bad("a structure's field that is not (dtype, offset)")
        inner, offset = _no_object(model.array_type(field[0])), field[1]
        if type(offset) is not int or offset < 0 or offset + inner.itemsize > described.itemsize:
            raise MalformedError(f"field {shown(name, 40)} leaves its structure of {described.itemsize} bytes").under("SL301")
        found.append(ArrayField(name, inner, offset))
    depth = 1 + max((field.type.depth for field in found), default=0)
    if depth > _DEPTH:
        raise _bad(f"structures nested deeper than {_DEPTH}")
    return replace(described, fields=tuple(found), depth=depth)


def _no_object(described: ArrayType) -> ArrayType:
    """Raise for objects inside a structure: understood, and not modelled."""
    if described.text == "|O":
        raise MalformedError("a structure that holds objects").under("SL104")
    return described


def check_length(described: ArrayType, shape: tuple[int, ...], nbytes: int) -> None:
    """Raise unless an array of `shape` has exactly `nbytes` bytes.

    Raises:
        MalformedError: it has not, or bytes are given for objects: they would become pointers.
    """
    if described.text == "|O":
        raise _bad(f"an array of objects made of {nbytes} bytes")
    if prod(shape) * described.itemsize != nbytes or (not described.itemsize and prod(shape) > _LARGEST):
        message = f"an array of shape {shape} of {described.text} needs {prod(shape) * described.itemsize} bytes, and has {nbytes}"
        raise MalformedError(message).under("SL301")


def _raw(value: Any) -> bytes | bytearray:
    """The bytes of an array: Python 2 wrote them as text."""
    if type(value) is str:
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            raise MalformedError(
                "an array's bytes were decoded as text", hint='a file of Python 2: load it with encoding="latin1"'
            ).under("SL303") from None
    if type(value) not in (bytes, bytearray):
        raise _bad(f"an array whose bytes are a {type(value).__name__}")
    found: bytes | bytearray = value
    return found


# ---- handlers


def _dtype(model: Model, args: tuple[Any, ...], at: int) -> Any:
    return model.make("numpy.dtype", (parse_type(args[0]),), k.NPDTYPE)


def _reconstruct(model: Model, args: tuple[Any, ...], at: int) -> Any:
    """An array that waits for its state; of a class of its own where policy allows that."""
    if model.is_granted_class(args[0]):
        return model.make_array_of(args[0], at)
    if model.name_of(args[0]) != "numpy.ndarray":
        raise MalformedError(f"an array of class {escape(str(model.name_of(args[0])))}").under("SL104")
    return model.make("numpy.ndarray", (), k.NPARRAY)


def _frombuffer(model: Model, args: tuple[Any, ...], at: int) -> Any:
    data, dtype, size, order, *axes = args
    shape = check_sizes(size)
    check_length(model.array_type(dtype), shape, len(data))
    moved = axes[0] if axes else None
    if order == "K":
        if moved is not None and (type(moved) is not tuple or not _each_once(moved, len(shape))):
            raise _bad("an order of axes that does not name each axis once")
        return model.make("numpy.ndarray", (shape, dtype, "C" if moved is None else moved, data), k.NPARRAY)
    return model.make("numpy.ndarray", (shape, dtype, order, data), k.NPARRAY)


def _each_once(axes: tuple[Any, ...], count: int) -> bool:
    return len(axes) == count and all(type(axis) is int for axis in axes) and sorted(axes) == list(range(count))


def _scalar(model: Model, args: tuple[Any, ...], at: int) -> Any:
    described, data = model.array_type(args[0]), _raw(args[1])
    if described.base is not None:
        raise _bad("a scalar of a subarray type")
    check_length(described, (), len(data))
    return model.make("numpy.scalar", (args[0], bytes(data)), k.OBJECT)


HANDLERS: Final[dict[str, Callable[[Model, tuple[Any, ...], int], Any]]] = {"numpy.dtype": _dtype}
for _core in ("core", "_core"):
    HANDLERS[f"numpy.{_core}.multiarray._reconstruct"] = _reconstruct
    HANDLERS[f"numpy.{_core}.multiarray.scalar"] = _scalar
    HANDLERS[f"numpy.{_core}.numeric._frombuffer"] = _frombuffer


def _set_dtype(model: Model, target: Any, state: tuple[Any, ...], at: int) -> Any:
    model.set_array_type(target, with_state(model, model.array_type(target), state))
    return target


def _set_array(model: Model, target: Any, state: tuple[Any, ...], at: int) -> Any:
    """BUILD of an array: (version, shape, dtype, Fortran order, bytes); the oldest leave the version out."""
    rest = state[1:] if len(state) == 5 and type(state[0]) is int and state[0] in (0, 1) else state
    if len(rest) == 4 and type(rest[1]) is Inert and model.unknown == "inert":
        return Inert("numpy.ndarray", args=(), state=state, via="REDUCE")  # its elements are of a type that is not modelled
    if len(rest) != 4 or model.kind_of(rest[1]) != k.NPDTYPE or type(rest[2]) not in (bool, int):
        raise _bad("an array's state that is not (version, shape, dtype, order, bytes)")
    shape = check_sizes(rest[0])
    if model.array_type(rest[1]).text == "|O":
        if type(rest[3]) is not list or len(rest[3]) != prod(shape):
            raise MalformedError(f"an array of objects of shape {shape} that does not come with a list of as many").under("SL301")
        model.spend(len(rest[3]))
        model.fill_objects(target, shape, rest[1], "F" if rest[2] else "C", rest[3])
        return target
    data = _raw(rest[3])
    check_length(model.array_type(rest[1]), shape, len(data))
    model.spend(len(data))
    model.fill_array(target, shape, rest[1], "F" if rest[2] else "C", bytes(data))
    return target


def _wrapper(model: Model, args: tuple[Any, ...], at: int) -> Any:
    return Call("joblib.numpy_pickle.NumpyArrayWrapper", (), k.ARRAY_WRAPPER)


def _set_wrapper(model: Model, target: Any, state: dict[str, Any], at: int) -> Any:
    """BUILD of joblib's description of an array: the array itself, of the bytes behind it or of the stream that they are."""
    walker = model.walk.walker
    found = walker.skip.found.get(at + 1) if isinstance(walker.skip, RawArrays) else None
    if found is None:
        raise _bad("a description of an array that the walk did not follow")
    if found.stream is not None:
        return model.nested(found.stream)
    shape, dtype, order = check_sizes(state["shape"]), state["dtype"], state.get("order", "C")
    if order not in ("C", "F"):
        raise _bad(f"an array in the order {shown(order, 40)}")
    subclass = state.get("subclass")
    other = subclass if type(subclass) is Inert and model.unknown == "inert" else None
    if other is None and model.name_of(subclass) != "numpy.ndarray":
        raise MalformedError("an array of a class that is not modelled").under("SL104")
    data = bytes(walker.raw[found.data : found.end])
    check_length(model.array_type(dtype), shape, len(data))
    array = model.make("numpy.ndarray", (shape, dtype, order, data), k.NPARRAY)
    return array if other is None else Inert(other.global_name, args=(array,), via="REDUCE")


HANDLERS.update(dict.fromkeys(WRAPPERS, _wrapper))

SETTERS: Final[dict[int, Callable[[Model, Any, Any, int], Any]]] = {
    k.NPDTYPE: _set_dtype, k.NPARRAY: _set_array, k.ARRAY_WRAPPER: _set_wrapper,
}  # fmt: skip
