"""The model that answers the pickle machine with torch's own objects, as `torch.load` gives them."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch

from safeload.build import numpy_module
from safeload.build.granted import Grants, resolve
from safeload.build.makers import MAKERS, set_attributes, set_dim_range, set_generator
from safeload.build.numpy_model import RealArrays
from safeload.build.storages import StorageBank, element_type
from safeload.errors import LimitError, MalformedError, SafeloadError, UnsupportedError
from safeload.findings import escape
from safeload.program import DTYPE_BITS, Global, StorageSpec, TensorSpec
from safeload.walk import Walk, values
from safeload.walk import kinds as k
from safeload.walk.model import TYPE_KINDS, Model, Persistent, Unknown
from safeload.walk.signatures import TENSOR_DTYPES, Modelled
from safeload.walk.torch_calls import GENERATOR

__all__ = ["TorchModel", "dense"]

_torch: Any = torch  # for functions without types
_HOOKED: Final = frozenset({"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"})
_KINDS: Final[dict[type, int]] = {
    **TYPE_KINDS,
    torch.dtype: k.DTYPE, torch.layout: k.LAYOUT, torch.qscheme: k.QSCHEME, torch.Size: k.SIZE, torch.device: k.DEVICE,
    torch.Tensor: k.TENSOR, torch.nn.Parameter: k.TENSOR, torch.storage.TypedStorage: k.STORAGE, torch.UntypedStorage: k.STORAGE,
}  # fmt: skip
# Old names of what lies elsewhere today. Both sides are ours; no part of them comes from a file.
_MOVED: Final = {"torch.tensor._rebuild_from_type_v2": "torch._tensor._rebuild_from_type_v2",
                 "torch.tensor._rebuild_from_type": "torch._tensor._rebuild_from_type"}  # fmt: skip


# Dtypes whose tensors count whole bytes; dimensions and elements as far as no limit is near.
_PLAIN_BITS: Final = {
    name: bits
    for name, bits in DTYPE_BITS.items()
    if name.startswith(("float16", "float32", "float64", "bfloat16", "int", "uint8", "bool"))
}
_PLAIN_DIMENSIONS: Final = 8
_PLAIN_ELEMENTS: Final = 1 << 60


def _quick_ordered(args: tuple[Any, ...]) -> Any:
    """An empty OrderedDict, which every tensor has for its hooks."""
    return None if args else collections.OrderedDict()


def _attribute_of_torch(name: str) -> Any:
    """The object that torch has under a name of the table of signatures, or None."""
    found: Any = torch
    for step in _MOVED.get(name, name).split(".")[1:]:
        found = getattr(found, step, None)
        if found is None:
            return None
    return found


def dense(bank: StorageBank, spec: TensorSpec, *, hooks: bool) -> torch.Tensor:
    """Return a dense tensor over its storage, as `torch._utils._rebuild_tensor_v2` leaves it.

    Args:
        bank: Where its storage is.
        spec: Checked: no element lies outside.
        hooks: Give it an empty dictionary of backward hooks, as torch does for what comes out of a stream.
    """
    storage = bank.untyped(spec.storage)
    tensor: Any = torch.empty((0,), dtype=element_type(spec.dtype), device=storage.device)
    tensor.set_(storage, spec.offset, spec.shape, spec.stride)
    if spec.requires_grad:
        tensor.requires_grad = True
    if spec.conj or spec.neg:  # a key that is there sets its bit, whatever it says
        bits = {name: True for name in ("conj", "neg") if getattr(spec, name)}
        _torch._utils.set_tensor_metadata(tensor, bits)  # noqa: SLF001 — there is no public way
    if hooks:
        tensor._backward_hooks = collections.OrderedDict()  # noqa: SLF001 — as torch leaves it
    if bank.fake and hasattr(_torch._utils, "_restore_device_fake_mode"):  # noqa: SLF001 — added after 2.6
        tensor = _torch._utils._restore_device_fake_mode(tensor)  # noqa: SLF001 — as torch.load does
    found: torch.Tensor = tensor
    return found


class TorchModel(RealArrays, Model):
    """Answers the machine with torch's own objects.

    Args:
        walk: The finished walk of the stream to build.
        bank: Every storage that the stream names, read.
        unknown: "refuse" or "inert".
        persistent: How persistent ids are understood.
        granted: Names that policy allows; of those that the stream names, the objects are imported here.
    """

    def __init__(
        self,
        walk: Walk,
        bank: StorageBank,
        *,
        unknown: Unknown = "refuse",
        persistent: Persistent | None = None,
        granted: Iterable[str] = (),
    ) -> None:
        self.bank = bank
        self.instances = Grants()
        self._storages: dict[int, tuple[Any, StorageSpec]] = {}
        self._empty: dict[int, tuple[Any, str]] = {}
        self._waiting: dict[int, tuple[Any, str]] = {}
        allowed = frozenset(granted)
        objects = {
            name: resolve(module, attribute)
            for module, attribute, _, modelled, name in walk.walker.globals
            if module and modelled is None and name in allowed
        }
        super().__init__(walk, unknown=unknown, persistent=persistent, grants=objects)
        self._templates: dict[tuple[str, str], Any] = {}
        self._quick: dict[int, Callable[[tuple[Any, ...]], Any]] = {}
        for value in self.values:
            name = self.name_of(value)
            if name == "torch._utils._rebuild_tensor_v2" and not bank.virtual:
                self._quick[id(value)] = self._quick_tensor
            elif name == "collections.OrderedDict":
                self._quick[id(value)] = _quick_ordered

    # ---- globals

    def value_of(self, modelled: Modelled) -> Any:
        """Objects of torch and numpy themselves, by the fixed table of signatures; a stand-in for what they do not have."""
        name = modelled.name
        if name.startswith("torch.") and modelled.kind != k.SCRIPT:
            found = _attribute_of_torch(name)
            if found is None and modelled.kind == k.STORAGE_TYPE:
                found = _attribute_of_torch(f"torch.{name.rpartition('.')[2]}")
            if found is None and modelled.kind == k.DTYPE:
                return element_type(name.removeprefix("torch."))
            return Global(name) if found is None else found
        if name.startswith("numpy."):
            numpy_module()
            from safeload.build.numpy_arrays import value_of

            found = value_of(name)
            return Global(name) if found is None else found
        return super().value_of(modelled)

    def kind_of(self, value: Any) -> int:
        """The machine's kind of a value, by its exact type; subclasses of tensors are only ever made here."""
        kind = _KINDS.get(type(value))
        if kind is not None:
            if kind == k.TENSOR:
                return k.EMPTY_TENSOR if id(value) in self._empty else kind
            return k.BIGINT if kind == k.INT and value.bit_length() > 63 else kind
        if isinstance(value, torch.Tensor):
            return k.TENSOR
        if id(value) in self._waiting:
            return k.STATEFUL
        kind = self.array_kind(value)
        return super().kind_of(value) if kind is None else kind

    # ---- storages and dense tensors

    def stored(self) -> int:
        """Bytes of all storages."""
        return self.bank.nbytes

    def spend_on(self, *parts: Any) -> None:
        """Count the elements of tensors whose values are looked at or copied: with strides of 0 a few bytes have any number of them.

        Raises:
            LimitError: they are far more than what the file holds.
        """
        for part in parts:
            if isinstance(part, torch.Tensor) and part.device.type != "meta" and not self.bank.virtual:
                self.spend(part.numel())

    def made(self, spec: StorageSpec | TensorSpec) -> Any:
        """One storage value per spec, except where it has no memory: torch makes a new one each time."""
        if isinstance(spec, TensorSpec):
            return super().made(spec)
        known = self._made.get(id(spec))
        if known is not None:
            return known[1]
        value = self.bank.typed(spec)
        self._storages[id(value)] = (value, spec)
        if _torch.storage.TypedStorage._data_ptr(value):  # noqa: SLF001 — torch asks the same
            self._made[id(spec)] = (spec, value)
        return value

    def storage_of(self, value: Any) -> StorageSpec:
        """The spec behind a storage value."""
        found = self._storages.get(id(value))
        if found is None:
            raise MalformedError("not a storage of this file").under("SL303")
        return found[1]

    def make_tensor(self, spec: TensorSpec) -> torch.Tensor:
        """A dense tensor over its storage, as `torch._utils._rebuild_tensor_v2` and `_v3` leave it."""
        return dense(self.bank, spec, hooks=spec.global_name in _HOOKED)

    def _quick_tensor(self, args: tuple[Any, ...]) -> Any:
        """What `_rebuild_tensor_v2` gives for what nearly every checkpoint holds; None for all else, errors included.

        The same checks as `check_strided`, and the same tensor as `dense`, without a spec in between: with many small tensors that
        is what a load spends its time on.
        """
        if len(args) != 6:
            return None
        storage, offset, size, stride, requires_grad, hooks = args
        known = self._storages.get(id(storage))
        if known is None or type(requires_grad) is not bool or type(hooks) is not collections.OrderedDict or hooks:
            return None
        spec = known[1]
        bits = _PLAIN_BITS.get(spec.dtype)
        if bits is None or type(offset) is not int or type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
            return None
        reach, numel = offset, 1
        for length, step in zip(size, stride, strict=True):
            if type(length) is not int or type(step) is not int or length < 1 or step < 0:
                return None
            reach += (length - 1) * step
            numel *= length
        if offset < 0 or (reach + 1) * bits > spec.nbytes * 8 or len(size) > _PLAIN_DIMENSIONS or numel > _PLAIN_ELEMENTS:
            return None
        untyped = storage._untyped_storage  # noqa: SLF001 — a TypedStorage warns about its public properties
        key = (spec.dtype, spec.location)
        template = self._templates.get(key)
        if template is None or template.device != untyped.device:
            template = self._templates[key] = torch.empty((0,), dtype=element_type(spec.dtype), device=untyped.device)
        tensor = template.new_empty((0,))
        tensor.set_(untyped, offset, size, stride)
        if requires_grad:
            tensor.requires_grad = True
        tensor._backward_hooks = collections.OrderedDict()  # noqa: SLF001 — as torch leaves it
        return tensor

    def numel_of(self, value: Any) -> int:
        """Elements of a tensor value."""
        if isinstance(value, torch.Tensor):
            return value.numel()
        raise MalformedError("not a dense tensor").under("SL303")

    def layout_of(self, value: Any) -> str:
        """The name of a layout value."""
        if isinstance(value, torch.layout):
            return str(value)
        raise MalformedError("not a layout").under("SL303")

    def dtype_of(self, value: Any) -> str:
        """The name of a dtype value, without "torch."."""
        if isinstance(value, torch.dtype):
            return str(value).removeprefix("torch.")
        raise MalformedError("not a dtype").under("SL303")

    # ---- calls

    def call(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        """As in the base; what torch says against values becomes an error of the file."""
        quick = self._quick.get(id(callee))
        try:
            if quick is not None and op == "REDUCE" and type(args) is tuple and not kwargs:
                made = quick(args)
                if made is not None:
                    return made
            return super().call(op, callee, args, kwargs, at)
        except SafeloadError:
            raise
        except (RuntimeError, AssertionError, AttributeError) as error:
            raise self._of_torch(error, self.name_of(callee) or op, at) from error

    def build(self, target: Any, state: Any, at: int) -> Any:
        """As in the base; what torch says against values becomes an error of the file."""
        try:
            return super().build(target, state, at)
        except SafeloadError:
            raise
        except (RuntimeError, AssertionError, AttributeError) as error:
            raise self._of_torch(error, "BUILD", at) from error

    def _of_torch(self, error: Exception, what: str, at: int) -> SafeloadError:
        text = f"{what}: {escape(str(error).partition(chr(10))[0], 300)}"
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "not enough memory" in text:
            return LimitError(text, where=f"@{at}").under("SL302")
        if isinstance(error, NotImplementedError) or self.bank.virtual:  # without memory, kernels of torch are missing
            return UnsupportedError(text, where=f"@{at}")
        return MalformedError(text, where=f"@{at}").under("SL303")

    def make(self, name: str, args: tuple[Any, ...], kind: int) -> Any:
        """The value for any other modelled call, its arguments checked."""
        if name.startswith("numpy."):
            return self.make_numpy(name.removeprefix("numpy."), args)
        if kind == k.EMPTY_TENSOR:
            # On the CPU even for a torch.cuda class: where it belongs is known when its storage comes.
            empty = torch.empty((0,), dtype=element_type(TENSOR_DTYPES[name]), device="cpu")
            self._empty[id(empty)] = (empty, name)
            return empty
        maker = MAKERS.get(name)
        if maker is None:
            raise UnsupportedError(f"{escape(name)} is not built by this version")
        value = maker(self, args)
        if kind == k.STATEFUL:
            self._waiting[id(value)] = (value, name)
        return value

    def make_subclass(self, base: Any, kind: Any, state: Any, at: int) -> Any:
        """A tensor of a class that policy allows, with the class's own way to take its state."""
        if not isinstance(kind, type) or not issubclass(kind, torch.Tensor):
            raise MalformedError("a tensor of a class that is no tensor", where=f"@{at}").under("SL303")
        made = base if type(base) is kind else base.as_subclass(kind)
        if getattr(kind, "__setstate__", None) is not getattr(torch.Tensor, "__setstate__", None):
            return self.instances.build(made, state, at)
        set_attributes(made, values.check_attributes(state))
        return self.instances.made(made)

    def make_array_of(self, kind: Any, at: int) -> Any:
        """An array of a class that policy allows, with the class's own way to take its state where it has one."""
        made, own = self.arrays.make_array_of(kind)
        return self.instances.made(made) if own else made

    # ---- state

    def empty_of(self, target: Any) -> str | None:
        """The class name of an empty tensor that waits for its storage, else None."""
        found = self._empty.get(id(target))
        return found[1] if found is not None else None

    def fill_tensor(self, target: Any, tensor: Any) -> Any:
        """Let an empty tensor be `tensor`: same object, new contents, whatever the dtype and the device."""
        del self._empty[id(target)]
        target.data = tensor
        return target

    def is_parameter(self, target: Any) -> bool:
        """Whether a tensor value is a Parameter."""
        return type(target) is torch.nn.Parameter

    def fill_parameter(self, target: Any, data: Any, *, requires_grad: bool) -> Any:
        """Give an old Parameter its flag, and its data where they come late."""
        if data is not None:
            target.data = data
        target.requires_grad = requires_grad
        target._backward_hooks = collections.OrderedDict()  # noqa: SLF001 — as torch leaves it
        return target

    def stateful_name(self, target: Any) -> str:
        """The name of the global that a value that waits for its state was made by."""
        return self._waiting[id(target)][1]

    def fill_stateful(self, target: Any, name: str, state: Any) -> None:
        """Give a value its checked state, once: a second BUILD finds it waiting no more."""
        del self._waiting[id(target)]
        if name == GENERATOR:
            self.spend_on(state[2])
            set_generator(target, state)
        else:
            set_dim_range(target, state)

    # ---- classes that policy allows

    def call_granted(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        """A call of a class that policy allows."""
        return self.instances.call(op, self._granted[id(callee)], callee, args, kwargs, at)

    def is_granted(self, target: Any) -> bool:
        """Whether `target` was made of a class that policy allows."""
        return target in self.instances

    def build_granted(self, target: Any, state: Any, at: int) -> Any:
        """BUILD of an instance of a class that policy allows."""
        return self.instances.build(target, state, at)

    def extend_granted(self, target: Any, items: list[Any], at: int) -> None:
        """APPENDS on an instance of a class that policy allows."""
        self.instances.extend(target, items, at)

    def set_items_granted(self, target: Any, pairs: list[tuple[Any, Any]], at: int) -> None:
        """SETITEMS on an instance of a class that policy allows."""
        self.instances.set_items(target, pairs, at)
