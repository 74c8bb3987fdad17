"""A tensor that is not dense, out of a file, from nothing but the bytes of its own storages: sparse, quantised, nested, jagged.

What the file says of it was built without torch before, so every argument is checked; here the same makers as in a load put
real parts together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from safeload.build.lazily import Read, tensor_of
from safeload.build.makers import MAKERS
from safeload.build.storages import element_type
from safeload.errors import LimitError, MalformedError, UnsupportedError
from safeload.findings import escape
from safeload.lean_dataclass import replace
from safeload.module_parts import is_number, number_of
from safeload.program import Call, Global, StorageSpec, TensorSpec

from safeload.walk.model import COPIES, FREE

if TYPE_CHECKING:
    from safeload.build.torch_model import TorchModel

__all__ = ["value_of"]

_DEEPEST: Final = 32
_QUANTISED: Final = "torch._utils._rebuild_qtensor"
_JAGGED: Final = "torch.nested._internal.nested_tensor._rebuild_njt"
_MADE: Final = frozenset({
    "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_nested_tensor", "torch._utils._rebuild_meta_tensor_no_storage",
    "torch.serialization._get_layout", "torch.device", "torch.Size", _QUANTISED, _JAGGED,
})  # fmt: skip
"""Calls that make something. All others of a tensor only wrap it: a Parameter, attributes, a device that is not asked for here."""


class _Parts:
    """Stands where a model stands for the makers: it has the storages of one tensor, and knows that their bytes are real."""

    garbage = False

    def __init__(self, read: Read) -> None:
        self._read = read

    @property
    def bank(self) -> _Parts:
        """Where storages are."""
        return self

    def spend_on(self, *parts: Any) -> None:
        """Refuse tensors of far more elements than they have bytes: with strides of 0 a few have any number of them.

        Raises:
            LimitError: one is.
        """
        for part in parts:
            if isinstance(part, torch.Tensor) and part.layout is torch.strided and part.device.type != "meta":
                held = part.untyped_storage().nbytes()
                if part.numel() > FREE + COPIES * held:
                    raise LimitError(f"a tensor of {part.numel()} elements in {held} bytes").under("SL127")

    def typed(self, spec: StorageSpec) -> Any:
        """A typed storage, read as a whole."""
        raw = TensorSpec(replace(spec, swap=False), "uint8", (spec.nbytes,), (1,), 0, False, False, False, "")
        storage: Any = tensor_of(raw, self._read).untyped_storage()
        dtype = element_type(spec.dtype)
        if spec.swap:
            storage.byteswap(dtype)
        made: Any = torch.storage.TypedStorage
        return made(wrap_storage=storage, dtype=dtype, _internal=True)


def value_of(value: Any, read: Read) -> torch.Tensor:
    """Return the tensor that a spec or a call of a spec-mode build stands for.

    Args:
        value: A `TensorSpec`, a `Call` whose kind is a tensor, or a number of a quantised module.
        read: As for `tensor_of`.

    Returns:
        As `tensor_of`. Of a Parameter or a tensor with attributes, the tensor alone.

    Raises:
        MalformedError: parts do not fit together.
        UnsupportedError: it can only be made by a load.
    """
    if is_number(value):
        return torch.tensor(number_of(value))
    made = _real(value, _Parts(read), _DEEPEST)
    if not isinstance(made, torch.Tensor):
        raise UnsupportedError("this tensor cannot be read alone", hint="use safeload.load")
    return made


def _real(value: Any, parts: Any, left: int) -> Any:
    if left <= 0:
        raise MalformedError("a tensor that is made of tensors without end").under("SL127")
    if isinstance(value, TensorSpec):
        return tensor_of(value, parts._read)  # noqa: SLF001 — one of us
    if isinstance(value, Global):
        return _of_torch(value.name)
    if isinstance(value, Call):
        return _called(value, parts, left - 1)
    if type(value) in (tuple, list):
        return type(value)(_real(item, parts, left - 1) for item in value)
    if type(value) is dict:
        return {key: _real(item, parts, left - 1) for key, item in value.items()}
    return value


def _called(value: Call, parts: TorchModel, left: int) -> Any:
    name = value.global_name
    if name not in _MADE:
        if name.endswith("_from_numpy") or not value.args:
            raise UnsupportedError(f"a tensor made by {escape(name)} cannot be read alone", hint="use safeload.load")
        return _real(value.args[0], parts, left)
    # The maker of a quantised tensor wants to know where it lies, and takes its storage as a whole.
    args = value.args if name == _QUANTISED else _real(value.args, parts, left)
    if name == _QUANTISED:
        args = (args[0], _real(args[1], parts, left))
    try:
        return MAKERS[name](parts, args)
    except (RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, (MalformedError, UnsupportedError)):
            raise
        raise MalformedError(f"{escape(name)}: {escape(str(error).partition(chr(10))[0], 300)}").under("SL303") from error


def _of_torch(name: str) -> Any:
    """A dtype or a scheme of quantisation, of the fixed table of signatures."""
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, (torch.dtype, torch.qscheme)):
        raise UnsupportedError(f"this torch has no {escape(name)}")
    return found
