"""Whether two loaded checkpoints are the same: not equal, the same.

`assert_same(a, b)` compares the objects structurally and remembers which object of `a` stands for which of `b`, so shared
objects must be shared in both. Tensors are compared by their storages' raw bytes, so that NaN payloads, -0.0, and bytes that
no view reaches count; and by where they lie in them, so that aliasing counts.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import decimal
import fractions
import pathlib
import struct
import uuid
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

__all__ = ["DifferenceError", "assert_same", "difference", "storage_bytes"]

# a jagged tensor's shape as torch keeps it: symbolic numbers, new ones for each tensor
_JAGGED: Final = ("_size", "_strides")
ATOMS: Final = (
    type(None), bool, int, str, bytes, bytearray, range, slice, type(...), uuid.UUID, pathlib.PurePath, fractions.Fraction,
    dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone,
    torch.dtype, torch.device, torch.layout, torch.Size, torch.memory_format, torch.qscheme,
)  # fmt: skip


class DifferenceError(AssertionError):
    """The first place where two objects are not the same, as a path into them."""


def assert_same(a: Any, b: Any) -> None:
    """Compare `a` with `b` in all that a program could notice.

    Raises:
        DifferenceError: With the path of the first difference, and both values.
    """
    _Comparison().run(a, b)


def difference(a: Any, b: Any) -> str | None:
    """Return what `assert_same` would raise, as text, or None."""
    try:
        assert_same(a, b)
    except DifferenceError as found:
        return str(found)
    return None


def storage_bytes(storage: torch.UntypedStorage) -> bytes:
    """Return the bytes of a storage in memory, whatever its dtype; none for a storage without memory."""
    if storage.device.type == "meta" or not storage.nbytes():
        return b""
    if storage.device.type != "cpu":
        storage = storage.cpu()  # type: ignore[no-untyped-call]
    return ctypes.string_at(storage.data_ptr(), storage.nbytes())


class _Comparison:
    """The identity maps of one run: what of `a` stands for what of `b`, for objects and for storages."""

    def __init__(self) -> None:
        self.objects: dict[int, int] = {}
        self.back: dict[int, int] = {}
        self.storages: dict[int, int] = {}
        self.storages_back: dict[int, int] = {}
        # ids are only good as long as the objects live
        self.keep: list[Any] = []

    def run(self, a: Any, b: Any) -> None:
        """Compare with a list instead of recursion: hostile and plain test data alike can be deep."""
        todo: list[tuple[str, Any, Any]] = [("", a, b)]
        while todo:
            path, left, right = todo.pop()
            todo.extend(reversed(list(self.step(path, left, right))))

    def step(self, path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
        """Compare one pair, and yield the pairs inside."""
        _equal(path, "type", type(a), type(b))
        if isinstance(a, ATOMS):
            _equal(path, "value", a, b)
            return
        if isinstance(a, (float, complex)):
            # bits tell -0.0 from 0.0, and one NaN from another
            _equal(path, "value", (repr(a), _bits(a)), (repr(b), _bits(b)))
            return
        if isinstance(a, decimal.Decimal):
            _equal(path, "value", repr(a), repr(b))
            return
        if isinstance(a, type) or (callable(a) and hasattr(a, "__qualname__")):
            _equal(path, "object", a, b)
            return
        # constants such as () are shared by the interpreter as it likes
        if not (isinstance(a, (tuple, frozenset)) and not a) and self.seen(path, a, b):
            return
        if isinstance(a, torch.Tensor):
            yield from self.tensor(path, a, b)
        elif isinstance(a, (torch.UntypedStorage, torch.storage.TypedStorage)):
            self.storage(path, a, b)
        elif isinstance(a, weakref.ref):
            yield f"{path}()", a(), b()
        elif isinstance(a, (torch.Generator, torch.ScriptObject)):
            yield from _opaque(path, a, b)
        else:
            yield from self.container(path, a, b)

    def seen(self, path: str, a: Any, b: Any) -> bool:
        """Whether this pair was met before; an object that stands for two others is a difference."""
        known, known_back = self.objects.get(id(a)), self.back.get(id(b))
        if known is None and known_back is None:
            self.objects[id(a)], self.back[id(b)] = id(b), id(a)
            self.keep += [a, b]
            return False
        if known != id(b) or known_back != id(a):
            raise DifferenceError(f"{path or '.'}: identity: shared with another place on one side only ({type(a).__name__})")
        return True

    def container(self, path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
        """Compare builtin containers and their subclasses, numpy arrays, and objects by their attributes."""
        if isinstance(a, dict):
            _equal(path, "keys", list(map(repr, a)), list(map(repr, b)))
            for (key, left), (key_b, right) in zip(a.items(), b.items(), strict=True):
                yield f"{path}.key({key!r})", key, key_b
                yield f"{path}[{key!r}]", left, right
            if hasattr(a, "default_factory"):
                yield f"{path}.default_factory", a.default_factory, b.default_factory
        elif isinstance(a, (list, tuple, deque)):
            _equal(path, "length", len(a), len(b))
            if isinstance(a, deque):
                _equal(path, "maxlen", a.maxlen, b.maxlen)
            for index, (left, right) in enumerate(zip(a, b, strict=True)):
                yield f"{path}[{index}]", left, right
        elif isinstance(a, (set, frozenset)):
            _equal(path, "members", sorted(map(repr, a)), sorted(map(repr, b)))
        elif type(a).__module__.partition(".")[0] == "numpy":
            yield from _numpy(path, a, b)
        elif not hasattr(a, "__dict__") and not _slots(a):
            _equal(path, "value", a, b)
        yield from self.attributes(path, a, b)

    def attributes(self, path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
        """Compare what is set on an object: an OrderedDict's `_metadata`, a Parameter's own attributes."""
        yield from self.mapping(f"{path}.__dict__", getattr(a, "__dict__", {}), getattr(b, "__dict__", {}))
        for name in _slots(a):
            missing = object()
            left, right = getattr(a, name, missing), getattr(b, name, missing)
            _equal(f"{path}.{name}", "set", left is missing, right is missing)
            if left is not missing:
                yield f"{path}.{name}", left, right

    def mapping(self, path: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        """Compare two attribute dictionaries, in any order."""
        _equal(path, "names", sorted(map(repr, a)), sorted(map(repr, b)))
        for name, left in a.items():
            yield f"{path}[{name!r}]", left, b[name]

    def tensor(self, path: str, a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[str, Any, Any]]:
        """Compare two tensors of any layout, by their parts where they have parts."""
        for name in ("dtype", "layout", "device", "requires_grad", "is_leaf", "is_nested", "is_quantized"):
            _equal(path, name, getattr(a, name), getattr(b, name))
        # none and an empty dictionary of them mean the same
        _equal(path, "_backward_hooks", a._backward_hooks or None, b._backward_hooks or None)
        if is_lazy(a):
            pass  # neither has a shape yet, and asking for one is an error
        elif _is_wrapper(a):
            yield from _wrapper(path, a, b)
            return
        elif a.is_nested:
            yield from _nested(path, a, b)
        else:
            _equal(path, "shape", a.shape, b.shape)
            if a.layout == torch.strided:
                self.strided(path, a, b)
                if a.is_quantized:
                    yield from _quantised(path, a, b)
            elif a.layout == torch.sparse_coo:
                _equal(path, "is_coalesced", a.is_coalesced(), b.is_coalesced())
                for name in ("_indices", "_values"):
                    yield f"{path}.{name}()", getattr(a.detach(), name)(), getattr(b.detach(), name)()
            elif a.layout in (torch.sparse_csr, torch.sparse_bsr):
                for name in ("crow_indices", "col_indices", "values"):
                    yield f"{path}.{name}()", getattr(a.detach(), name)(), getattr(b.detach(), name)()
            elif a.layout in (torch.sparse_csc, torch.sparse_bsc):
                for name in ("ccol_indices", "row_indices", "values"):
                    yield f"{path}.{name}()", getattr(a.detach(), name)(), getattr(b.detach(), name)()
            else:
                raise DifferenceError(f"{path or '.'}: layout {a.layout} cannot be compared yet")
        known = _JAGGED if a.layout == torch.jagged else ("fake_mode",)  # each load under it remembers its own
        left, right = ({key: item for key, item in vars(one).items() if key not in known} for one in (a, b))
        yield from self.mapping(f"{path}.__dict__", left, right)

    def strided(self, path: str, a: torch.Tensor, b: torch.Tensor) -> None:
        """Compare where two tensors lie in their storages, and the storages."""
        _equal(path, "stride", a.stride(), b.stride())
        _equal(path, "storage_offset", a.storage_offset(), b.storage_offset())
        _equal(path, "is_conj", a.is_conj(), b.is_conj())
        _equal(path, "is_neg", a.is_neg(), b.is_neg())
        if torch._C._has_storage(a) and not _without_memory(a):
            self.untyped(path, a.untyped_storage(), b.untyped_storage())

    def storage(self, path: str, a: Any, b: Any) -> None:
        """Compare two storages that stand in the data themselves."""
        if isinstance(a, torch.UntypedStorage):
            self.untyped(path, a, b)
        else:
            _equal(path, "dtype", a.dtype, b.dtype)
            self.untyped(path, a._untyped_storage, b._untyped_storage)

    def untyped(self, path: str, a: torch.UntypedStorage, b: torch.UntypedStorage) -> None:
        """Compare two storages once; after that, that they are shared by the same tensors on both sides."""
        left, right = a._cdata, b._cdata
        known, known_back = self.storages.get(left), self.storages_back.get(right)
        if known is None and known_back is None:
            self.storages[left], self.storages_back[right] = right, left
            self.keep += [a, b]
            _equal(path, "storage device", a.device, b.device)
            _equal(path, "storage nbytes", a.nbytes(), b.nbytes())
            one, two = storage_bytes(a), storage_bytes(b)
            if one != two:
                at = next(index for index, (x, y) in enumerate(zip(one, two, strict=True)) if x != y)
                raise DifferenceError(f"{path or '.'}: storage byte {at}: {one[at]:#04x} != {two[at]:#04x}")
        elif known != right or known_back != left:
            raise DifferenceError(f"{path or '.'}: aliasing: its storage is shared with another tensor on one side only")


def _without_memory(a: torch.Tensor) -> bool:
    """Whether a subclass keeps its numbers elsewhere, so that its storage may not even be asked."""
    try:
        a.untyped_storage().data_ptr()
    except RuntimeError:
        return type(a) is not torch.Tensor
    return False


def _is_wrapper(value: object) -> bool:
    """Whether a tensor is made of others; jagged ones are, and are compared as what they are."""
    return is_traceable_wrapper_subclass(value) and not getattr(value, "is_nested", False)


def _wrapper(path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Compare tensors that are made of others: those, and what is said about them."""
    _equal(path, "shape", a.shape, b.shape)
    _equal(path, "stride", a.stride(), b.stride())
    (inner, context), (inner_b, context_b) = a.__tensor_flatten__(), b.__tensor_flatten__()
    _equal(path, "parts", inner, inner_b)
    _equal(path, "context", context, context_b)
    for name in inner:
        yield f"{path}.{name}", getattr(a, name), getattr(b, name)


def _opaque(path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Compare objects of C++ by the state that they give."""
    if isinstance(a, torch.Generator):
        _equal(path, "device", a.device, b.device)
        _equal(path, "seed", a.initial_seed(), b.initial_seed())
        yield f"{path}.get_state()", a.get_state(), b.get_state()
    else:
        yield f"{path}.__getstate__()", a.__getstate__(), b.__getstate__()


def _equal(path: str, what: str, a: Any, b: Any) -> None:
    """Raise unless two plain values are equal."""
    if a != b:
        raise DifferenceError(f"{path or '.'}: {what}: {_short(a)} != {_short(b)}")


def _bits(value: complex) -> str:
    """The bits of a number, or of both of its parts."""
    parts = (value.real, value.imag) if type(value) is complex else (value.real,)
    return " ".join(struct.pack(">d", part).hex() for part in parts)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _slots(value: Any) -> list[str]:
    """Return the names of the slots that a class defines in Python."""
    names: list[str] = []
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _numpy(path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Compare numpy arrays, scalars, dtypes and generators by their bytes."""
    if hasattr(a, "filled"):
        yield f"{path}.data", a.data, b.data
        yield f"{path}.mask", a.mask, b.mask
    elif hasattr(a, "get_state"):
        yield f"{path}.get_state()", list(a.get_state()), list(b.get_state())
    elif hasattr(a, "bit_generator"):
        yield f"{path}.bit_generator", a.bit_generator, b.bit_generator
    elif hasattr(a, "state"):
        yield f"{path}.state", a.state, b.state
    elif hasattr(a, "tobytes"):
        _equal(path, "dtype", a.dtype, b.dtype)
        _equal(path, "byte order", a.dtype.str, b.dtype.str)
        _equal(path, "shape", a.shape, b.shape)
        _equal(path, "flags", (a.flags.c_contiguous, a.flags.f_contiguous), (b.flags.c_contiguous, b.flags.f_contiguous))
        if a.dtype.hasobject:
            yield f"{path}.tolist()", a.tolist(), b.tolist()
        else:
            _equal(path, "bytes", a.tobytes("A"), b.tobytes("A"))
    else:
        _equal(path, "value", a, b)


def _nested(path: str, a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[str, Any, Any]]:
    """Compare nested tensors by the buffers that they are made of."""
    if a.layout == torch.jagged:
        yield f"{path}.values()", a.detach().values(), b.detach().values()
        # only the jagged subclass has offsets, so torch's types do not know them
        yield f"{path}.offsets()", getattr(a.detach(), "offsets")(), getattr(b.detach(), "offsets")()  # noqa: B009
        yield f"{path}._ragged_idx", getattr(a, "_ragged_idx", None), getattr(b, "_ragged_idx", None)
        yield f"{path}._lengths", getattr(a, "_lengths", None), getattr(b, "_lengths", None)
        return
    yield f"{path}.values()", a.detach().values(), b.detach().values()
    for name in ("_nested_tensor_size", "_nested_tensor_strides", "_nested_tensor_storage_offsets"):
        yield f"{path}.{name}()", getattr(a, name)(), getattr(b, name)()


def _quantised(path: str, a: torch.Tensor, b: torch.Tensor) -> Iterator[tuple[str, Any, Any]]:
    """Compare how integers of quantised tensors stand for numbers."""
    _equal(path, "qscheme", a.qscheme(), b.qscheme())
    if a.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        _equal(path, "q_scale", repr(a.q_scale()), repr(b.q_scale()))
        _equal(path, "q_zero_point", a.q_zero_point(), b.q_zero_point())
    else:
        _equal(path, "axis", a.q_per_channel_axis(), b.q_per_channel_axis())
        yield f"{path}.scales", a.q_per_channel_scales(), b.q_per_channel_scales()
        yield f"{path}.zero_points", a.q_per_channel_zero_points(), b.q_per_channel_zero_points()
