"""joblib's arrays: raw bytes between the opcodes of a stream.

`joblib.dump` pickles a description (`NumpyArrayWrapper`) in an array's place and writes the bytes right behind the BUILD
that gives the description its state; `joblib.load` reads them there and goes on with the next opcode. An array of objects
is a pickle stream of its own in that place. Where the bytes end follows from the state alone, so the machine asks here, and
whatever is not written exactly as joblib writes it ends the walk: a guess would let a reader see other opcodes than we do.
Source: joblib/numpy_pickle.py, `NumpyArrayWrapper.read_array`; a padding byte is written since joblib 1.2.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Final

from safeload.lean_dataclass import dataclass
from safeload.source import Limits
from safeload.walk import kinds as k
from safeload.walk.signatures import MODELLED, Modelled, Signature

if TYPE_CHECKING:
    from safeload.walk import Walk, Walker

__all__ = ["OLD_WRAPPERS", "WRAPPERS", "RawArray", "RawArrays", "resolve_joblib"]

_MODULES: Final = ("joblib.numpy_pickle", "sklearn.externals.joblib.numpy_pickle")
WRAPPERS: Final = frozenset(f"{module}.NumpyArrayWrapper" for module in _MODULES)
OLD_WRAPPERS: Final = frozenset(
    f"{module}{part}.{name}" for module in _MODULES for part in ("", "_compat") for name in ("NDArrayWrapper", "ZNDArrayWrapper")
)
"""Descriptions of joblib before 0.10: the array lies in a file of its own."""

_RECONSTRUCTOR: Final = "copyreg._reconstructor"  # how protocols 0 and 1 make an instance
_MODELLED: Final = {
    **{name: Modelled(name, k.ARRAY_CLASS, newobj=(Signature((), 0),), result=k.ARRAY_WRAPPER) for name in WRAPPERS},
    _RECONSTRUCTOR: Modelled(
        _RECONSTRUCTOR, reduce=(Signature((k.mask(k.ARRAY_CLASS), k.mask(k.TYPE), k.mask(k.NONE)), 3),), result=k.ARRAY_WRAPPER
    ),
}
_KEYS: Final = frozenset({"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"})
_DTYPE: Final = re.compile(r"[<>=|]?([biufcSUVMmO])([0-9]{1,9})\Z")
_DIMENSIONS: Final = 64
_HAS_OBJECT: Final = 1  # NPY_ITEM_HASOBJECT, by which numpy itself tells objects from numbers


def resolve_joblib(module: str, attribute: str) -> Modelled | None:
    """What is modelled of a global in a stream that joblib reads."""
    name = f"{module}.{attribute}"
    return _MODELLED.get(name) or (MODELLED.get(name) if "." not in attribute else None)


@dataclass(frozen=True, slots=True)
class RawArray:
    """Bytes between two opcodes.

    Attributes:
        start: The first byte behind the BUILD.
        data: The first byte of the array, behind the padding.
        end: The next opcode.
        stream: The walk of the stream that an array of objects is; None for numbers.
    """

    start: int
    data: int
    end: int
    stream: Walk | None = None


class RawArrays:
    """Tells the machine where raw bytes end, and keeps what was met.

    Args:
        limits: For the streams of object arrays.
        encoding: Likewise.
    """

    def __init__(self, limits: Limits, encoding: str) -> None:
        self.limits = limits
        self.encoding = encoding
        self.found: dict[int, RawArray] = {}
        self._described: set[int] = set()

    def __call__(self, walker: Walker, wrapper: int, state: int, start: int) -> int | str:
        """Return the offset of the next opcode, or why it cannot be told.

        Args:
            walker: The machine, in the middle of its pass.
            wrapper: The slot of the description.
            state: The slot of its state.
            start: Behind the BUILD.
        """
        if wrapper in self._described:
            return "an array is described twice"
        self._described.add(wrapper)
        fields = _fields(walker, state)
        if fields is None:
            return "an array is not described as joblib does it"
        shape, item = _shape(walker, fields["shape"]), _item(walker, fields["dtype"])
        if shape is None or item is None:
            return "an array whose shape or dtype is not written as joblib does it"
        if len(self.found) >= self.limits.calls:
            return f"more than {self.limits.calls} arrays"
        itemsize, objects = item
        if objects:
            return self._objects(walker, start)
        data = start
        padding = fields.get("numpy_array_alignment_bytes", k.NONE)
        if padding != k.NONE:
            if padding & 63 != k.INT or start >= len(walker.raw):
                return "an array's padding is not where joblib writes it"
            data = start + 1 + walker.raw[start]
        end = data + prod(shape) * itemsize
        if not itemsize or end > len(walker.raw):
            return f"an array of shape {shape} with {itemsize} bytes an item where {len(walker.raw) - start} are left"
        self.found[start] = RawArray(start, data, end)
        return end

    def _objects(self, walker: Walker, start: int) -> int | str:
        from safeload.walk import walk

        inner = walk(walker.raw, start, limits=self.limits, encoding=self.encoding)
        self.found[start] = RawArray(start, start, inner.end or len(walker.raw), inner)
        return inner.end if inner.end is not None else f"the stream of an object array breaks: {inner.error}"


def _fields(walker: Walker, state: int) -> dict[str, int] | None:
    """The state's slots by name, or None when it is not exactly what joblib writes."""
    slots, total = walker.children(state) if state & 63 == k.DICT else ([], 0)
    if len(slots) != total or total % 2 or total > 2 * len(_KEYS):
        return None
    fields: dict[str, int] = {}
    for key, value in zip(slots[::2], slots[1::2], strict=True):
        name = walker.constant(key) if key & 63 == k.STR else None
        if name not in _KEYS or name in fields:
            return None
        fields[name] = value
    return fields if {"shape", "dtype"} <= fields.keys() else None


def _number(walker: Walker, slot: int) -> int | None:
    """A constant integer, else None."""
    value = walker.constant(slot) if slot & 63 == k.INT and slot >> 6 else None
    return value if type(value) is int else None


def _shape(walker: Walker, slot: int) -> tuple[int, ...] | None:
    if slot & 63 != k.TUPLE:
        return None
    slots, total = walker.children(slot)
    sizes = [_number(walker, item) for item in slots]
    if total > _DIMENSIONS or any(size is None or size < 0 for size in sizes):
        return None
    return tuple(size for size in sizes if size is not None)


def _item(walker: Walker, slot: int) -> tuple[int, bool] | None:
    """Bytes of an item, and whether it is an object; None when that is not plain."""
    if slot & 63 != k.NPDTYPE or not slot >> 6:
        return None
    made, _ = walker.children(k.TUPLE | slot & ~63)
    match = _DTYPE.match(str(walker.constant(made[0]))) if made and made[0] & 63 == k.STR else None
    if match is None:
        return None
    kind, itemsize = match[1], int(match[2]) * (4 if match[1] == "U" else 1)
    state = walker.type_states.get(slot >> 6)
    if state is None:
        return itemsize, kind == "O"
    slots, total = walker.children(state) if state >= 0 else ([], 0)
    if total not in (8, 9) or _number(walker, slots[5]) not in (-1, itemsize):
        return None
    flags = _number(walker, slots[7])
    if flags is None or (kind != "V" and bool(flags & _HAS_OBJECT) is not (kind == "O")):
        return None
    return itemsize, bool(flags & _HAS_OBJECT)
