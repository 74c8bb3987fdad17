"""What torch's own globals give when a stream is built: the calls that `torch.load(weights_only=True)` models, value by value.

Every handler gets arguments whose kinds fit the signature; what they hold is looked at here, for builds with torch and without.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape, shown
from safeload.program import Inert, TensorSpec
from safeload.walk import kinds as k
from safeload.walk import values
from safeload.walk.generators import MADE
from safeload.walk.signatures import TENSOR_DTYPES
from safeload.walk.strided import check_strided

if TYPE_CHECKING:
    from safeload.walk.model import Model

__all__ = ["GENERATOR", "HANDLERS", "JAGGED", "no_hooks", "set_stateful"]

_REBUILDS: Final = "torch._utils._rebuild_"
JAGGED: Final = "torch.nested._internal.nested_tensor.NestedTensor"
_REBUILD_JAGGED: Final = "torch.nested._internal.nested_tensor._rebuild_njt"

GENERATOR: Final = "torch._C.Generator"

Handler = Callable[["Model", tuple[Any, ...], int], Any]


def no_hooks(hooks: Any) -> None:
    """Backward hooks would be called by autograd: only none are accepted."""
    if hooks:
        raise MalformedError("a tensor carries backward hooks").under("SL303")


# ---- handlers: torch


def _flags(more: Any) -> tuple[bool, bool]:
    if not more:
        return False, False
    if set(more) - {"conj", "neg"} or not all(type(value) is bool for value in more.values()):
        raise MalformedError("tensor metadata other than conj and neg").under("SL303")
    return more.get("conj", False), more.get("neg", False)


def _rebuild_tensor(model: Model, args: tuple[Any, ...], at: int) -> Any:
    storage, offset, size, stride = args
    return model.strided(storage, offset, size, stride, model.storage_of(storage).dtype, "torch._utils._rebuild_tensor")


def _rebuild_tensor_v2(model: Model, args: tuple[Any, ...], at: int) -> Any:
    storage, offset, size, stride, requires_grad, hooks, *more = args
    no_hooks(hooks)
    conj, neg = _flags(more[0] if more else None)
    name = "torch._utils._rebuild_tensor_v2"
    dtype = model.storage_of(storage).dtype
    return model.strided(storage, offset, size, stride, dtype, name, requires_grad=requires_grad, conj=conj, neg=neg)


def _rebuild_tensor_v3(model: Model, args: tuple[Any, ...], at: int) -> Any:
    storage, offset, size, stride, requires_grad, hooks, dtype, *more = args
    no_hooks(hooks)
    conj, neg = _flags(more[0] if more else None)
    name = "torch._utils._rebuild_tensor_v3"
    return model.strided(storage, offset, size, stride, model.dtype_of(dtype), name, requires_grad=requires_grad, conj=conj, neg=neg)


def _rebuild_parameter(model: Model, args: tuple[Any, ...], at: int) -> Any:
    data, requires_grad, hooks, *state = args
    no_hooks(hooks)
    if state:
        attributes = values.check_attributes(state[0])
        return model.make("torch._utils._rebuild_parameter_with_state", (data, requires_grad, attributes), k.TENSOR)
    return model.make("torch._utils._rebuild_parameter", (data, requires_grad), k.TENSOR)


def _rebuild_qtensor(model: Model, args: tuple[Any, ...], at: int) -> Any:
    storage, offset, size, stride, quantizer, requires_grad, hooks = args
    no_hooks(hooks)
    spec = model.storage_of(storage)
    shape, strides = check_strided(spec, offset, size, stride, spec.dtype)
    scheme = model.name_of(quantizer[0]) if quantizer else None
    if not spec.dtype.startswith(("qint", "quint")):
        raise MalformedError(f"a quantised tensor over {spec.dtype}").under("SL303")
    if scheme == "torch.per_tensor_affine":
        if len(quantizer) != 3 or type(quantizer[1]) not in (float, int) or type(quantizer[2]) is not int:
            raise MalformedError("a per-tensor quantiser is not (scheme, scale, zero point)").under("SL303")
        if not isfinite(quantizer[1]) or not -(1 << 31) <= quantizer[2] < 1 << 31:
            raise MalformedError(f"a quantiser of scale {shown(quantizer[1])}, zero point {shown(quantizer[2])}").under("SL303")
    elif scheme in ("torch.per_channel_affine", "torch.per_channel_affine_float_qparams"):
        if len(quantizer) != 4 or type(quantizer[3]) is not int or not 0 <= quantizer[3] < len(shape):
            raise MalformedError("a per-channel quantiser names an axis that the tensor does not have").under("SL303")
        for part in quantizer[1:3]:
            _channels(model, part, shape[quantizer[3]])
    else:
        raise MalformedError(f"quantisation scheme {escape(str(scheme))}").under("SL303")
    dense = TensorSpec(spec, spec.dtype, shape, strides, offset, requires_grad, False, False, "torch._utils._rebuild_qtensor")
    return model.make("torch._utils._rebuild_qtensor", (dense, quantizer), k.TENSOR)


def _channels(model: Model, part: Any, expected: int) -> None:
    if type(part) is list:
        model.spend(8 * len(part))  # each is looked at, and becomes a tensor's element
        count, plain = len(part), all(type(item) in (int, float) and isfinite(item) for item in part)
    else:
        count, plain = model.numel_of(part), True
    if count != expected or not plain:
        raise MalformedError(f"{count} quantiser parameters for {expected} channels").under("SL303")


def _rebuild_sparse(model: Model, args: tuple[Any, ...], at: int) -> Any:
    layout, data = args
    name = model.layout_of(layout)
    wanted = {"torch.sparse_coo": (3, 4)}.get(name, (4,))
    if name not in values.SPARSE_LAYOUTS or len(data) not in wanted:
        raise MalformedError(f"a sparse tensor of layout {escape(name)} with {len(data)} parts").under("SL303")
    tensors = data[: 2 if name == "torch.sparse_coo" else 3]
    if any(model.kind_of(part) != k.TENSOR for part in tensors):
        raise MalformedError("a sparse tensor whose parts are no tensors").under("SL303")
    shape = values.check_sizes(data[len(tensors)])
    if len(data) > len(tensors) + 1 and type(data[-1]) not in (bool, type(None)):
        raise MalformedError("a sparse tensor's coalesced flag is no boolean").under("SL303")
    return model.make("torch._utils._rebuild_sparse_tensor", (layout, (*tensors, shape, *data[len(tensors) + 1 :])), k.TENSOR)


def _rebuild_meta(model: Model, args: tuple[Any, ...], at: int) -> Any:
    dtype, size, stride, requires_grad = args
    shape, strides = values.check_sizes(size), values.check_sizes(stride)
    if len(shape) != len(strides):
        raise MalformedError(f"{len(shape)} sizes and {len(strides)} strides").under("SL303")
    model.dtype_of(dtype)
    return model.make("torch._utils._rebuild_meta_tensor_no_storage", (dtype, shape, strides, requires_grad), k.TENSOR)


def _as_is(name: str, kind: int) -> Handler:
    return lambda model, args, at: model.make(name, args, kind)


def _rebuild_from_type(model: Model, args: tuple[Any, ...], at: int) -> Any:
    function, new_type, inner, state = args
    name, kind = model.name_of(function), model.name_of(new_type)
    plain = kind in values.TENSOR_TYPES and name is not None and name.startswith(_REBUILDS)
    jagged = kind == JAGGED and name == _REBUILD_JAGGED
    other = name is not None and name.startswith(_REBUILDS) and (type(new_type) is Inert or model.is_granted_class(new_type))
    if not (plain or jagged or other):
        raise MalformedError(f"a tensor of type {escape(str(kind))} from {escape(str(name))}").under("SL104")
    base = model.call("REDUCE", function, inner, {}, at)
    if type(new_type) is Inert:
        return model.inert("REDUCE", new_type, (base, state), at)
    if other:
        return model.make_subclass(base, new_type, state, at)
    if jagged:  # its parts have names that torch.Tensor gives to methods
        state = _jagged_state(inner[0], state)
    state = values.check_attributes(state)
    return model.make("torch._tensor._rebuild_from_type_v2", (base, new_type, state), k.TENSOR)


def _rebuild_wrapper(model: Model, args: tuple[Any, ...], at: int) -> Any:
    cls, dtype, size, stride, offset, layout, device, requires_grad = args
    if type(cls) is Inert:
        return model.inert("REDUCE", cls, args[1:], at)
    if not model.is_granted_class(cls):
        raise MalformedError("a tensor of a class that wraps others, and is none").under("SL104")
    shape, strides = values.check_sizes(size), values.check_sizes(stride)
    if len(shape) != len(strides) or type(offset) is not int or not 0 <= offset < 1 << 62:
        raise MalformedError(f"{len(shape)} sizes, {len(strides)} strides, offset {offset}").under("SL303")
    model.layout_of(layout)
    if type(device) is str:
        values.check_device((device,))
    model.dtype_of(dtype)
    checked = (cls, dtype, shape, strides, offset, layout, device, requires_grad)
    return model.make("torch._utils._rebuild_wrapper_subclass", checked, k.TENSOR)


_JAGGED_KEYS: Final = frozenset({"values", "offsets", "lengths", "_ragged_idx", "_metadata_cache", "requires_grad"})


def _rebuild_jagged(model: Model, args: tuple[Any, ...], at: int) -> Any:
    """A jagged tensor: its rows lie behind one another in `values`, and `offsets` says where each begins."""
    given = args[0]
    if set(given) - _JAGGED_KEYS or not {"values", "offsets"} <= set(given):
        raise MalformedError("a jagged tensor that is not made of values and offsets").under("SL303")
    cache = given.get("_metadata_cache") or {}
    lengths, ragged = given.get("lengths"), given.get("_ragged_idx", 1)
    parts = [given["values"], given["offsets"], *([] if lengths is None else [lengths])]
    if type(cache) is dict:
        parts += cache.values()
    if type(cache) is not dict or set(cache) - {"min_seqlen", "max_seqlen"} or any(model.kind_of(part) != k.TENSOR for part in parts):
        raise MalformedError("a jagged tensor whose parts are no tensors").under("SL303")
    if type(ragged) is not int or not 1 <= ragged <= 64 or type(given.get("requires_grad", False)) is not bool:
        raise MalformedError("a jagged tensor that says no dimension as its ragged one").under("SL303")
    return model.make(_REBUILD_JAGGED, (given,), k.TENSOR)


def _jagged_state(given: dict[str, Any], state: Any) -> Any:
    """The attributes of a jagged tensor repeat what it was made of; they may not say something else."""
    if type(state) is not dict:
        raise MalformedError("a jagged tensor whose attributes are no dict").under("SL105")
    made = {"_values": "values", "_offsets": "offsets", "_lengths": "lengths", "_metadata_cache": "_metadata_cache"}
    for attribute, key in made.items():
        if attribute in state and state[attribute] is not given.get(key):
            raise MalformedError(f"a jagged tensor whose {attribute} are not those that it is made of").under("SL303")
    if state.get("_ragged_idx", given.get("_ragged_idx", 1)) != given.get("_ragged_idx", 1) or {"_size", "_strides"} & set(state):
        raise MalformedError("a jagged tensor whose attributes change its shape").under("SL303")
    return {name: value for name, value in state.items() if name not in made and name != "_ragged_idx"}


def _generator(model: Model, args: tuple[Any, ...], at: int) -> Any:
    model.spend(MADE)
    return model.make(GENERATOR, args, k.STATEFUL)


def set_stateful(model: Model, target: Any, state: Any, at: int) -> Any:
    """BUILD of a random generator of torch, (seed, offset, state), or of a jagged tensor's range, [dimension, least, most].

    torch 2.6 wrote the range's fields by name.
    """
    name = model.stateful_name(target)
    if name != GENERATOR and type(state) is dict and set(state) == {"dim", "min", "max"}:
        state = [state["dim"], state["min"], state["max"]]
    if name == GENERATOR:
        good = type(state) is tuple and len(state) == 3 and type(state[0]) is int and 0 <= state[0] < 1 << 64
        if not good or not (state[1] is None or type(state[1]) is int) or model.kind_of(state[2]) != k.TENSOR:
            raise MalformedError("a generator's state that is not (seed, offset, state)").under("SL303")
    elif type(state) is not list or len(state) != 3 or not all(item is None or type(item) is int for item in state):
        raise MalformedError("a range of a dimension that is not [dimension, least, most]").under("SL303")
    model.fill_stateful(target, name, state)
    return target


def _dim_range(model: Model, args: tuple[Any, ...], at: int) -> Any:
    return model.make("torch._dynamo.decorators._DimRange", (), k.STATEFUL)


def _empty_tensor(name: str) -> Handler:
    return lambda model, args, at: model.make(name, (), k.EMPTY_TENSOR)


def _handlers() -> dict[str, Handler]:
    table: dict[str, Handler] = {
        "_rebuild_tensor": _rebuild_tensor, "_rebuild_tensor_v2": _rebuild_tensor_v2, "_rebuild_tensor_v3": _rebuild_tensor_v3,
        "_rebuild_parameter": _rebuild_parameter, "_rebuild_parameter_with_state": _rebuild_parameter,
        "_rebuild_qtensor": _rebuild_qtensor, "_rebuild_sparse_tensor": _rebuild_sparse,
        "_rebuild_meta_tensor_no_storage": _rebuild_meta,
    }  # fmt: skip
    table["_rebuild_wrapper_subclass"] = _rebuild_wrapper
    for name in ("nested_tensor", "device_tensor_from_cpu_tensor", "device_tensor_from_numpy", "xla_tensor"):
        table[f"_rebuild_{name}"] = _as_is(f"torch._utils._rebuild_{name}", k.TENSOR)
    handlers = {f"torch._utils.{name}": handler for name, handler in table.items()}
    for module in ("torch._tensor", "torch.tensor"):
        handlers[f"{module}._rebuild_from_type_v2"] = handlers[f"{module}._rebuild_from_type"] = _rebuild_from_type
    handlers[_REBUILD_JAGGED] = _rebuild_jagged
    handlers["torch._dynamo.decorators._DimRange"] = _dim_range
    handlers[GENERATOR] = _generator
    handlers["torch.nn.parameter.Parameter"] = _as_is("torch.nn.parameter.Parameter", k.TENSOR)
    handlers["torch.Size"] = lambda model, args, at: model.make("torch.Size", (values.check_sizes(args[0] if args else ()),), k.SIZE)
    handlers["torch.device"] = lambda model, args, at: model.make("torch.device", values.check_device(args), k.DEVICE)
    handlers["torch.serialization._get_layout"] = lambda model, args, at: model.make(
        "torch.serialization._get_layout", (values.check_layout(args[0]),), k.LAYOUT
    )
    for name in TENSOR_DTYPES:
        handlers[name] = _empty_tensor(name)
    return handlers


HANDLERS: Final = _handlers()
