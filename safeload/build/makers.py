"""One function per modelled call of torch that is more than a dense tensor.

Names and kinds of arguments were checked by the walk, what arguments hold by `walk.torch_calls`; what only real tensors show
is checked here and in `composite`.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final

import torch

from safeload.build import composite
from safeload.errors import MalformedError, SafeloadError, UnsupportedError
from safeload.findings import escape
from safeload.walk import values

if TYPE_CHECKING:
    from safeload.build.torch_model import TorchModel

__all__ = ["MAKERS", "set_attributes", "set_dim_range", "set_generator"]

_torch: Any = torch  # for functions without types

Maker = Callable[["TorchModel", tuple[Any, ...]], Any]


def set_attributes(tensor: Any, state: Any) -> Any:
    """Set checked attributes on a tensor.

    Raises:
        MalformedError: one would hide a method or property of the class.
    """
    for part in state if isinstance(state, tuple) else (state,):
        for name, value in (part or {}).items():
            # a slot is a place for state; anything else on the class is what programs call and read
            if hasattr(type(tensor), name) and not isinstance(getattr(type(tensor), name), MemberDescriptorType):
                raise MalformedError(f"a tensor attribute that would hide {type(tensor).__name__}.{escape(name)}").under("SL105")
            setattr(tensor, name, value)
    return tensor


def set_dim_range(target: Any, state: list[Any]) -> None:
    """Fill a `_DimRange` that was made empty with [dimension, least, most]."""
    for name, value in zip(("dim", "min", "max"), state, strict=True):
        object.__setattr__(target, name, value)


def set_generator(target: torch.Generator, state: tuple[int, int | None, torch.Tensor]) -> None:
    """Give a generator of torch its seed, offset and state; torch checks the state's size and its position itself."""
    seed, offset, numbers = state
    if numbers.dtype is not torch.uint8 or numbers.dim() != 1 or numbers.layout is not torch.strided:
        raise MalformedError(f"a generator's state of {numbers.dtype}, shape {tuple(numbers.shape)}").under("SL303")
    target.manual_seed(seed)
    if offset is not None:
        target.set_offset(offset)
    target.set_state(numbers)


def _parameter(model: TorchModel, args: tuple[Any, ...]) -> Any:
    data, requires_grad, *state = args
    made: Any = torch.nn.Parameter(data, requires_grad)
    made._backward_hooks = collections.OrderedDict()  # noqa: SLF001 — as torch leaves it
    return set_attributes(made, state[0]) if state else made


def _qtensor(model: TorchModel, args: tuple[Any, ...]) -> Any:
    spec, quantiser = args
    model.spend_on(*quantiser)
    composite.check_quantiser(quantiser, garbage=model.bank.garbage)
    storage = model.bank.typed(spec.storage)
    made: Any = composite.quantised(storage, spec.offset, spec.shape, spec.stride, quantiser, requires_grad=spec.requires_grad)
    made._backward_hooks = collections.OrderedDict()  # noqa: SLF001 — as torch leaves it
    return made


def _sparse(model: TorchModel, args: tuple[Any, ...]) -> Any:
    layout, data = args
    model.spend_on(*data)
    return composite.sparse(layout, data, garbage=model.bank.garbage)


def _meta(model: TorchModel, args: tuple[Any, ...]) -> Any:
    dtype, size, stride, requires_grad = args
    return torch.empty_strided(size, stride, dtype=dtype, device="meta", requires_grad=requires_grad)


def _nested(model: TorchModel, args: tuple[Any, ...]) -> Any:
    model.spend_on(*args)
    return composite.nested(*args, garbage=model.bank.garbage)


def _jagged(model: TorchModel, args: tuple[Any, ...]) -> Any:
    given = args[0]
    model.spend_on(given["offsets"], given.get("lengths"))
    cache = given.get("_metadata_cache") or {}
    composite.check_jagged(
        given["values"], given["offsets"], given.get("lengths"), given.get("_ragged_idx", 1), cache, garbage=model.bank.garbage
    )
    return composite.jagged(given)


def _elsewhere(function: Callable[..., Any], *args: Any) -> Any:
    """Call a rebuild function of torch that moves a tensor to a device; its own errors name the device."""
    try:
        return function(*args)
    except SafeloadError:
        raise
    except (RuntimeError, AssertionError) as error:
        raise UnsupportedError(str(error), hint="map_location='cpu' puts it into main memory") from error


def _from_cpu(model: TorchModel, args: tuple[Any, ...]) -> Any:
    data, dtype, device, requires_grad = args
    values.check_device((device,))
    model.spend_on(data)
    return _elsewhere(_torch._utils._rebuild_device_tensor_from_cpu_tensor, data, dtype, device, requires_grad)  # noqa: SLF001


def _from_numpy(model: TorchModel, args: tuple[Any, ...]) -> Any:
    array, dtype, device, requires_grad = args
    values.check_device((device,))
    model.array_facts(array)
    model.spend(array.nbytes)
    if not array.flags.writeable or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return _elsewhere(_torch._utils._rebuild_device_tensor_from_numpy, array, dtype, device, requires_grad)  # noqa: SLF001


def _wrapper(model: TorchModel, args: tuple[Any, ...]) -> Any:
    if not isinstance(args[0], type) or not issubclass(args[0], torch.Tensor):
        raise MalformedError("a tensor of a class that is no tensor").under("SL303")
    return model.instances.made(_elsewhere(_torch._utils._rebuild_wrapper_subclass, *args))  # noqa: SLF001


def _from_type(model: TorchModel, args: tuple[Any, ...]) -> Any:
    base, kind, state = args
    if isinstance(kind, type) and type(base) is not kind:
        base = base.as_subclass(kind)
    return set_attributes(base, state)


def _device(model: TorchModel, args: tuple[Any, ...]) -> Any:
    try:
        return torch.device(*args)
    except RuntimeError as error:
        raise UnsupportedError(str(error).partition("\n")[0]) from error


def _layout(model: TorchModel, args: tuple[Any, ...]) -> Any:
    found = getattr(torch, args[0].removeprefix("torch."), None)
    if not isinstance(found, torch.layout):
        raise UnsupportedError(f"this torch has no layout {escape(args[0])}")
    return found


MAKERS: Final[dict[str, Maker]] = {
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _qtensor,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _from_cpu,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_numpy,
    "torch._utils._rebuild_xla_tensor": _from_numpy,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.nested._internal.nested_tensor._rebuild_njt": _jagged,
    "torch._dynamo.decorators._DimRange": lambda model, args: composite.dim_range(),
    "torch._C.Generator": lambda model, args: _elsewhere(torch.Generator, args[0]),
    "torch.nn.parameter.Parameter": lambda model, args: torch.nn.Parameter(*args),
    "torch.Size": lambda model, args: torch.Size(args[0]),
    "torch.device": _device,
    "torch.serialization._get_layout": _layout,
}
