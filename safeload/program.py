"""The inert model of a file: what a stream asks for, as data that does nothing.

`TensorSpec` and `StorageSpec` say where numbers lie. `Global` and `Call` are modelled: their meaning is known
and they could be built. `Inert` is what stays of a global that is not modelled: its name and its arguments.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from safeload.findings import escape
from safeload.lean_dataclass import dataclass, field

__all__ = ["COMPLEX", "DTYPE_BITS", "Call", "Global", "Inert", "Region", "ScriptClass", "StorageSpec", "TensorSpec", "brief", "metered"]

# Bits per element of every torch dtype that can lie in a file, by torch's own name.
DTYPE_BITS: Final[dict[str, int]] = {
    "float64": 64, "float32": 32, "float16": 16, "bfloat16": 16,
    "complex128": 128, "complex64": 64, "complex32": 32, "bcomplex32": 32,
    "int64": 64, "int32": 32, "int16": 16, "int8": 8,
    "uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "bool": 8,
    "float8_e4m3fn": 8, "float8_e4m3fnuz": 8, "float8_e5m2": 8, "float8_e5m2fnuz": 8, "float8_e8m0fnu": 8,
    "float4_e2m1fn_x2": 8,
    "qint8": 8, "quint8": 8, "qint32": 32, "quint4x2": 8, "quint2x4": 8,
    "bits8": 8, "bits16": 16, "bits1x8": 8, "bits2x4": 8, "bits4x2": 8,
}  # fmt: skip

COMPLEX: Final = frozenset({"complex128", "complex64", "complex32", "bcomplex32"})
"""Dtypes whose elements are two numbers."""


class Region(NamedTuple):
    """Where bytes lie in the source. A tuple, because some files have a hundred thousand.

    Attributes:
        offset: First byte in the source.
        nbytes: Bytes after unpacking.
        packed: Compressed bytes for a deflated member; None when stored as they are.
        crc32: CRC of the unpacked bytes, or None when nothing was recorded.
        member: For messages.
    """

    offset: int
    nbytes: int
    packed: int | None = None
    crc32: int | None = None
    member: str | None = None

    def check(self, crc: int) -> bool:
        """Whether `crc` (of the unpacked bytes) agrees with what was recorded."""
        return self.crc32 is None or self.crc32 == crc

    @staticmethod
    def crc_of(data: Any, crc: int = 0) -> int:
        """CRC-32 as ZIP uses it, continuing from `crc`."""
        return zlib.crc32(data, crc)


@dataclass(slots=True, eq=False)
class StorageSpec:
    """One storage: the bytes that tensors are views of. Compared by identity, and not changed once it is made.

    Attributes:
        key: The file's name for it, unique in the file.
        dtype: torch's name of the element type ("float32"); "uint8" for an untyped storage.
        numel: Elements.
        nbytes: Bytes: numel times the element size.
        location: The device tag it was saved with ("cpu", "cuda:0", …).
        region: Where its bytes lie; None for a storage without bytes (meta).
        typed: False when the file says `UntypedStorage`.
        swap: The bytes are of the other byte order.
        base: For a legacy storage view, the storage that it is a slice of.
        base_offset: Elements into `base`.
    """

    key: str
    dtype: str
    numel: int
    nbytes: int
    location: str
    region: Region | None = None
    typed: bool = True
    swap: bool = False
    base: StorageSpec | None = None
    base_offset: int = 0

    def __repr__(self) -> str:
        return f"StorageSpec({self.key!r}, {self.dtype}, numel={self.numel}, {self.location})"


@dataclass(slots=True, eq=False)
class TensorSpec:
    """One strided tensor over a storage. Bounds are checked before it is made. Compared by identity.

    Attributes:
        storage: The bytes.
        dtype: torch's name; may differ from the storage's.
        shape: Elements per dimension.
        stride: Elements per step.
        offset: Elements from the start of the storage.
        requires_grad: As saved.
        conj: Lazy conjugation is set: the values are the conjugates of what is stored.
        neg: Lazy negation is set.
        global_name: The rebuild function that the file named.
        state: Python attributes, or None.
    """

    storage: StorageSpec
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0
    requires_grad: bool = False
    conj: bool = False
    neg: bool = False
    global_name: str = "torch._utils._rebuild_tensor_v2"
    state: Any = None

    @property
    def numel(self) -> int:
        """Elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, were they contiguous."""
        return self.numel * DTYPE_BITS[self.dtype] // 8

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps (strides of dimensions of size 1 do not count)."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size == 0:
                return True
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True

    def __repr__(self) -> str:
        return f"TensorSpec({self.dtype}, {self.shape}, storage={self.storage.key!r})"


@dataclass(frozen=True, slots=True)
class Global:
    """A modelled global as it stands in the data: a class, a function, a dtype."""

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(slots=True, eq=False)
class Call:
    """A modelled call that has no plain value without torch or numpy: a Parameter, a sparse tensor, an array.

    Attributes:
        global_name: The modelled callable.
        args: Its arguments, already checked against its signature.
        kind: The machine's kind of the result, see `walk.kinds`.
        state: What a BUILD gave it, or None.
    """

    global_name: str
    args: tuple[Any, ...]
    kind: int
    state: Any = None

    def __repr__(self) -> str:
        return f"{self.global_name}(…{len(self.args)} arguments)"


@dataclass(frozen=True, slots=True)
class ScriptClass:
    """What a TorchScript archive's code says of a module class: the names of its parameters and of its buffers."""

    parameters: tuple[str, ...]
    buffers: tuple[str, ...]


_DEPTH: Final = 6
_WIDTH: Final = 6
_WORD: Final = 100
_LONGEST: Final = 4_000
_SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None)})


@dataclass(slots=True, eq=False)
class Inert:
    """What stays of a global that is not modelled. It holds data and does nothing.

    Attributes:
        global_name: "module.attribute" as the stream names it.
        args: Positional arguments, or None when the global was never called.
        kwargs: Keyword arguments (NEWOBJ_EX), else empty.
        state: What BUILD would have set, or None.
        items: What APPEND(S), ADDITEMS and SETITEM(S) would have put in: values, or (key, value) pairs.
        via: The opcode that would have called it: "REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "EXT", "" for a bare global.

    Two nodes are equal when all of this is equal, tensors and arrays in it by type of element, shape and value. They may be keys:
    the hash is taken of the name and of plain arguments, because the rest may still change.
    """

    global_name: str
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    items: list[Any] = field(default_factory=list)
    via: str = ""

    def __hash__(self) -> int:
        given = tuple(arg if type(arg) in _SCALARS else type(arg) for arg in self.args or ())
        return hash((self.global_name, given))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Inert):
            return NotImplemented
        return _same(self, other)

    def __repr__(self) -> str:
        return _Description().of(self, _DEPTH)

    def walk(self) -> Iterator[Inert]:
        """Yield this node and every inert node below it, each once, in depth-first order."""
        seen: set[int] = set()
        todo: list[Any] = [self]
        while todo:
            node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, Inert):
                yield node
                todo.extend(reversed([node.args, node.kwargs, node.state, node.items]))
            elif isinstance(node, dict):
                todo.extend(reversed([part for pair in node.items() for part in pair]))
            elif isinstance(node, (list, tuple, set, frozenset)):
                todo.extend(reversed(list(node)))


_METER: ContextVar[Callable[[int], None] | None] = ContextVar("_METER", default=None)


@contextmanager
def metered(charge: Callable[[int], None]) -> Iterator[None]:
    """Tell `charge` of every step that comparisons of inert nodes take meanwhile: as keys, a file chooses how many there are.

    Args:
        charge: Is given a number of values. It raises when there were too many, and from then on each time.
    """
    token = _METER.set(charge)
    try:
        yield
    finally:
        _METER.reset(token)


def _same(left: Inert, right: Inert) -> bool:
    """Compare two nodes. A pair under comparison counts as equal, and so does what follows from such pairs: cycles end, and soon."""
    charge = _METER.get()
    todo: list[tuple[Any, Any]] = [(left, right)]
    joined: dict[int, int] = {}
    while todo:
        a, b = todo.pop()
        if charge is not None:
            charge(_breadth(a))
        if a is b:
            continue
        if type(a) is not type(b):
            return False
        if isinstance(a, (Inert, list, tuple, dict)):
            one, other = _root(joined, id(a)), _root(joined, id(b))
            if one == other:
                continue
            joined[one] = other
        if isinstance(a, Inert):
            if (a.global_name, a.via) != (b.global_name, b.via):
                return False
            todo += [(a.args, b.args), (a.state, b.state)]
            todo += [pair for pair in ((a.kwargs, b.kwargs), (a.items, b.items)) if pair[0] or pair[1]]
        elif type(a) in (list, tuple):
            if len(a) != len(b):
                return False
            todo += zip(a, b, strict=True)
        elif isinstance(a, dict):
            if not _equal(list(a), list(b)):
                return False
            # Equal keys in equal order: no look-up, which would compare them again.
            todo += zip(a.values(), b.values(), strict=True)
        elif not _equal(a, b):
            return False
    return True


def _breadth(value: Any) -> int:
    """What comparing it takes, in values; a tensor of a few bytes may have any number of elements."""
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        return 1 + len(value)
    if isinstance(value, (str, bytes, bytearray)):
        return 1 + (len(value) >> 8)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return 1 + (int(math.prod(value.shape)) >> 6)
    return 1


def _root(joined: dict[int, int], key: int) -> int:
    """The one that stands for all that were found equal to `key`."""
    while (above := joined.get(key)) is not None:
        further = joined.get(above, above)
        joined[key] = further
        key = further
    return key


def _equal(a: Any, b: Any) -> bool:
    """Compare two leaves (or keys) of one type. Tensors and arrays are told by what they have; neither library is imported."""
    try:
        if hasattr(a, "dtype") and hasattr(a, "shape"):
            return bool(a.dtype == b.dtype and a.shape == b.shape and (a == b).all())
        same = a == b
    except Exception:  # noqa: BLE001 - whatever a leaf does when it is compared (sparse, meta, too deep), it is not equal
        return False
    return same if isinstance(same, bool) else False


def brief(value: Any) -> str:
    """Return a value as Python would write it, bounded in depth, width and length, hostile text escaped."""
    return _Description().of(value, _DEPTH)


class _Description:
    """A node as the call it stands for: bounded in depth, width and length, hostile text escaped."""

    def __init__(self) -> None:
        self.left = _LONGEST

    def of(self, node: Any, depth: int) -> str:
        """One value."""
        if self.left <= 0:
            return "…"
        text = self._of(node, depth)
        # What is inside has been charged already; this is for the frame around it.
        is_container = isinstance(node, (dict, list, tuple, set, frozenset, deque))
        self.left -= 8 if is_container else 40 + len(node.global_name[:_WORD]) if isinstance(node, Inert) else len(text)
        return text

    def _of(self, node: Any, depth: int) -> str:
        if isinstance(node, Inert):
            return self._inert(node, depth)
        if isinstance(node, dict):
            pairs = (f"{self.of(key, depth - 1)}: {self.of(value, depth - 1)}" for key, value in node.items())
            body = f"{{{self._some(pairs, len(node), depth)}}}"
            return body if type(node) is dict else f"{type(node).__name__}({body if node else ''})"
        if isinstance(node, (list, tuple, set, frozenset, deque)):
            body = self._some((self.of(item, depth - 1) for item in node), len(node), depth)
            if type(node) is list:
                return f"[{body}]"
            if type(node) is tuple:
                return f"({body},)" if len(node) == 1 else f"({body})"
            if type(node) is set and node:
                return f"{{{body}}}"
            return f"{type(node).__name__}({f'[{body}]' if node else ''})"
        if type(node) is slice:  # it may hold lists, and Python writes all that they stand for
            return f"slice({', '.join(self.of(part, depth - 1) for part in (node.start, node.stop, node.step))})"
        return _leaf(node)

    def _inert(self, node: Inert, depth: int) -> str:
        parts = [self._name(node, depth)]
        if node.state is not None:
            parts.append(f"state={self._state(node.state, depth - 1) if depth > 0 else '…'}")
        if node.items:
            parts.append(f"items={self.of(node.items, depth - 1) if depth > 0 else '…'}")
        return f"Inert({', '.join(parts)})"

    def _state(self, state: Any, depth: int) -> str:
        """Attributes; private ones that are empty (a module's hooks) are only counted."""
        if type(state) is not dict or self.left <= 0:
            return self.of(state, depth)
        told = {key: value for key, value in state.items() if not _is_idle(key, value)}
        pairs = (f"{self.of(key, depth - 1)}: {self.of(value, depth - 1)}" for key, value in told.items())
        return f"{{{self._some(pairs, len(state), depth)}}}"

    def _name(self, node: Inert, depth: int) -> str:
        name = _text(node.global_name)
        if node.args is None:
            return name
        given = [*((None, arg) for arg in node.args), *node.kwargs.items()]
        inner = (self.of(arg, depth - 1) if key is None else f"{_text(key)}={self.of(arg, depth - 1)}" for key, arg in given)
        return f"{name}({self._some(inner, len(given), depth)})"

    def _some(self, parts: Iterator[str], total: int, depth: int) -> str:
        """The first few, and how many more there are."""
        shown = list(itertools.islice(parts, _WIDTH if depth > 0 else 0))
        more = total - len(shown)
        if more:
            shown.append("…" if not shown else f"… {more} more")
        return ", ".join(shown)


def _is_idle(key: Any, value: Any) -> bool:
    private = isinstance(key, str) and key.startswith("_")
    return private and (value is None or value is False or (isinstance(value, (dict, list, tuple, set)) and not value))


def _text(name: str) -> str:
    return escape(name, _WORD)


def _leaf(value: Any) -> str:
    if isinstance(value, (str, bytes, bytearray)):
        text = ascii(value[:_WORD])
        return text if len(value) <= _WORD else f"{text}… ({len(value)})"
    if isinstance(value, int) and value.bit_length() > 512:
        return f"<an integer of {value.bit_length()} bits>"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type(value).__name__}({str(value.dtype).removeprefix('torch.')}, {tuple(value.shape)})"
    try:
        text = ascii(value)
    except Exception:  # noqa: BLE001 - a leaf that cannot be shown (too deep, too long) must not hide the rest
        return f"<{type(value).__name__}>"
    return text if len(text) <= _WORD and "\n" not in text else f"<{type(value).__name__}>"
