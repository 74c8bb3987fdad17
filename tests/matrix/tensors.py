"""Rows about tensors: dense, views, Parameters, sparse, nested, quantised, meta, storages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch as typed_torch

from tests.matrix.row import Row, kinds, of, with_attributes

__all__ = ["DENSE", "DTYPES", "ROWS", "elements"]

torch: Any = typed_torch  # a table of functions without types

DTYPES: Final = tuple(sorted({str(value) for value in vars(typed_torch).values() if isinstance(value, typed_torch.dtype)}))
"""Every element type that this torch has, by name ("torch.float32")."""


def elements(name: str, count: int = 12) -> Any:
    """A flat tensor of `count` elements of a dtype, with bytes that differ; quantised ones have a scale and a zero point.

    Raises:
        Exception: torch cannot make one, in whatever class it says so.
    """
    dtype = getattr(torch, name.removeprefix("torch."))
    if "quint" in name or "qint" in name:
        if name in ("torch.quint4x2", "torch.quint2x4"):
            rows = torch.arange(float(count)).reshape(-1, 4)
            scale = torch.ones(rows.shape[0])
            return torch.quantize_per_channel(rows, scale, torch.zeros(rows.shape[0]), 0, dtype)
        return torch.quantize_per_tensor(torch.arange(float(count)), 0.5, 3, dtype)
    if name == "torch.bool":
        return torch.arange(count) % 3 == 0
    size = torch.empty(0, dtype=dtype).element_size()
    return torch.arange(count * size, dtype=torch.uint8).view(dtype)


DENSE: Final[dict[str, Callable[[Any], Any]]] = {
    "tensor": lambda flat: flat,
    "0-dim": lambda flat: flat[3:4].reshape(()),
    "empty": lambda flat: flat[:0],
    "slice": lambda flat: flat[2:7:2],
    "turned": lambda flat: flat.reshape(3, 4).t(),
    "expanded": lambda flat: flat[1:2].expand(5),
    "overlapping": lambda flat: flat.as_strided((3, 2), (1, 1), 4),
    "views of one storage": lambda flat: [flat, flat[3:], flat.reshape(4, 3)[1], flat],
    "Parameter": lambda flat: torch.nn.Parameter(flat, requires_grad=False),
    "with attributes": lambda flat: with_attributes(flat, note={"a": [1, None]}),
    "on meta": lambda flat: flat.to("meta"),
    "typed storage": lambda flat: flat._typed_storage(),
    "untyped storage": lambda flat: [flat.untyped_storage(), flat],
}
"""What becomes of a flat tensor of 12 elements; crossed with every dtype."""


def row(count: int = 4) -> Any:
    return torch.arange(float(count))


def table() -> Any:
    return torch.arange(12.0).reshape(3, 4)


def _grown() -> Any:
    value = torch.ones(2, requires_grad=True)
    (value * 3).sum().backward()
    return value


def _recursive() -> Any:
    value = row()
    value.itself = value
    return value


def _tied() -> Any:
    weight = torch.nn.Parameter(row())
    return {"a": weight, "b": weight, "data": weight.data, "list": [weight], "view": weight.data[1:]}


def _strange() -> Any:
    bits = torch.tensor([0x7FC00001, 0x7F800001, -0x80000000, 1, 0x7F800000, -0x800000], dtype=torch.int32)
    return bits.view(torch.float32)


_PLAIN: Final[dict[str, Callable[[], Any]]] = {
    "tensor": row,
    "NaN payloads, infinities, −0.0, subnormal": _strange,
    "channels last": lambda: torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "channels last, 3d": lambda: torch.rand(1, 2, 3, 4, 5).to(memory_format=torch.channels_last_3d),
    "permuted": lambda: torch.rand(2, 3, 4).permute(2, 0, 1),
    "diagonal": lambda: torch.rand(4, 4).diagonal(),
    "unfolded": lambda: row(10).unfold(0, 4, 2),
    "stride of a size-1 dimension": lambda: torch.rand(3, 1, 2).as_strided((3, 1, 2), (2, 77, 1)),
    "zero sizes": lambda: [torch.empty(0, 3), torch.empty(2, 0, 3), torch.empty(0, 3).t()],
    "64 dimensions": lambda: torch.ones([1] * 64),
    "small view of a large storage": lambda: torch.zeros(50_000)[7:9],
    "requires grad": lambda: torch.ones(3, requires_grad=True),
    "with a gradient": _grown,
    "result of a computation": lambda: torch.ones(3, requires_grad=True) * 2,
    "detached, sharing": lambda: of(torch.ones(3, requires_grad=True), lambda value: [value, value.detach()]),
    "conjugate bit": lambda: torch.tensor([1 + 2j, 3j]).conj(),
    "negative bit": lambda: torch.tensor([1 + 2j]).conj().imag,
    "conjugate and negative bits": lambda: torch._neg_view(torch.tensor([1 + 2j]).conj()),
    "conjugate view of a saved tensor": lambda: of(torch.tensor([1 + 2j]), lambda value: [value, value.conj(), value.real, value.imag]),
    "Python attributes": lambda: with_attributes(row(), note="x", other=table(), data_={"k": (1, 2)}),
    "a tensor among its own attributes": _recursive,
    "shared memory": lambda: row().share_memory_(),
    "made in inference mode": lambda: _inference(),  # noqa: PLW0108 - defined below
    "backward hooks": lambda: _hooked(),  # noqa: PLW0108 - defined below
    "mkldnn": lambda: torch.rand(2, 2).to_mkldnn(),
    "tied, in lists and dicts": _tied,
    "one storage as two dtypes": lambda: of(row(), lambda value: [value, value.view(torch.int32)]),
    "FakeTensor": lambda: _fake(),  # noqa: PLW0108 - defined below
    "functional (functorch) tensor": lambda: torch._to_functional_tensor(row()),
}


def _inference() -> Any:
    with torch.inference_mode():
        return torch.ones(2) + 1


def _hooked() -> Any:
    value = torch.ones(2, requires_grad=True)
    value.register_hook(len)
    return value


def _fake() -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(3)


class SlottedParameter(typed_torch.nn.Parameter):
    """A Parameter subclass: a class of the program."""


_PARAMETERS: Final[dict[str, Callable[[], Any]]] = {
    "Parameter": lambda: torch.nn.Parameter(row()),
    "requires_grad=False": lambda: torch.nn.Parameter(row(), requires_grad=False),
    "with attributes": lambda: with_attributes(torch.nn.Parameter(row()), sharded=[1, {"a": 2}], is_bias=True, other=table()),
    "an attribute that hides a method": lambda: with_attributes(torch.nn.Parameter(row()), where=1),
    "of a view": lambda: torch.nn.Parameter(table()[1:, ::2]),
    "complex": lambda: torch.nn.Parameter(torch.tensor([1 + 2j])),
    "conjugate": lambda: torch.nn.Parameter(torch.tensor([1 + 2j]).conj()),
    "on meta": lambda: torch.nn.Parameter(torch.empty(3, device="meta")),
    "quantised": lambda: torch.nn.Parameter(torch.quantize_per_tensor(row(), 0.1, 0, torch.quint8), requires_grad=False),
    "Buffer": lambda: torch.nn.Buffer(row()),
    "Buffer, not persistent": lambda: torch.nn.Buffer(row(), persistent=False),
    "UninitializedParameter": torch.nn.UninitializedParameter,
    "UninitializedBuffer": torch.nn.UninitializedBuffer,
    "ParameterList": lambda: torch.nn.ParameterList([row(), row()]),
    "ParameterDict": lambda: torch.nn.ParameterDict({"a": row()}),
    "subclass of Parameter": lambda: SlottedParameter(row()),
    "data and its Parameter": lambda: of(row(), lambda value: [value, torch.nn.Parameter(value)]),
}

_LAYOUTS: Final = {name: getattr(torch, f"sparse_{name}") for name in ("coo", "csr", "csc", "bsr", "bsc")}


def _sparse(name: str, dense: Any, **how: Any) -> Any:
    return dense.to_sparse(layout=_LAYOUTS[name], blocksize=(2, 2) if name in ("bsr", "bsc") else None, **how)


def _of_layout(name: str) -> dict[str, Callable[[], Any]]:
    eye = torch.eye(4) * torch.arange(1.0, 5.0)
    makers: dict[str, Callable[[], Any]] = {
        name: lambda: _sparse(name, eye),
        f"{name}, no elements": lambda: _sparse(name, torch.zeros(4, 4)),
        f"{name} of complex": lambda: _sparse(name, eye.to(torch.complex64)),
        f"{name} of bool": lambda: _sparse(name, eye.bool()),
        f"{name} of bfloat16": lambda: _sparse(name, eye.bfloat16()),
        f"{name}, requires grad": lambda: _sparse(name, eye).requires_grad_(),
        f"{name}, dense dimension": lambda: _sparse(name, eye.unsqueeze(2).expand(4, 4, 3).contiguous(), dense_dim=1),
        f"{name} on meta": lambda: _sparse(name, eye).to("meta"),
    }
    if name != "coo":
        makers[f"{name}, batch"] = lambda: _sparse(name, torch.stack([eye, eye * 2]))
    return makers


_SPARSE: Final[dict[str, Callable[[], Any]]] = {
    **{key: maker for name in _LAYOUTS for key, maker in _of_layout(name).items()},
    "coo, not coalesced": lambda: torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2)),
    "coo, Parameter": lambda: torch.nn.Parameter(torch.eye(3).to_sparse()),
    "coo, 0-dim": lambda: torch.tensor(3.0).to_sparse(),
    "coo, one sparse of three dimensions": lambda: torch.rand(3, 2, 2).to_sparse(1),
    "csr, 32-bit indices": lambda: torch.sparse_csr_tensor(
        torch.tensor([0, 1, 2], dtype=torch.int32), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2), (2, 2)
    ),
}


def _jagged(**how: Any) -> Any:
    return torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(4, 3)], layout=torch.jagged, **how)


_NESTED: Final[dict[str, Callable[[], Any]]] = {
    "strided": lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.arange(3.0).reshape(1, 3)]),
    "strided, requires grad": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], requires_grad=True),
    "strided, Parameter": lambda: torch.nn.Parameter(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
    "strided, of no rows": lambda: torch.nested.nested_tensor([]),
    "strided, turned": lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)]).transpose(1, 2),
    "jagged": _jagged,
    "jagged, requires grad": lambda: _jagged(requires_grad=True),
    "jagged, with attributes": lambda: with_attributes(_jagged(), note=3),
    "jagged, turned": lambda: _jagged().transpose(1, 2),
    "jagged, with lengths": lambda: torch.nested.nested_tensor_from_jagged(
        torch.rand(6, 2), torch.tensor([0, 2, 6]), torch.tensor([1, 3]), min_seqlen=1, max_seqlen=3
    ),
    "jagged, shortest and longest known": lambda: torch.nested.nested_tensor_from_jagged(
        torch.rand(6, 2), torch.tensor([0, 2, 6]), min_seqlen=2, max_seqlen=4
    ),
    "jagged, Parameter": lambda: torch.nn.Parameter(_jagged()),
}


def _per_tensor(name: str) -> Any:
    return torch.quantize_per_tensor(table(), 0.1, 3, getattr(torch, name))


def _per_channel(dtype: Any, axis: int = 0) -> Any:
    count = table().shape[axis]
    return torch.quantize_per_channel(table(), torch.rand(count) + 0.1, torch.arange(count), axis, dtype)


def _float_parameters(dtype: Any) -> Any:
    return torch.quantize_per_channel(table(), torch.rand(3) + 0.1, torch.rand(3), 0, dtype)


_QUANTISED: Final[dict[str, Callable[[], Any]]] = {
    **{f"per tensor, {name}": partial(_per_tensor, name) for name in (
        "qint8", "quint8", "qint32")},
    **{f"per channel, {name}": partial(_per_channel, getattr(torch, name)) for name in ("qint8", "quint8", "qint32")},
    **{f"float parameters, {name}": partial(_float_parameters, getattr(torch, name)) for name in (
        "quint8", "quint4x2", "quint2x4")},
    "per channel, last axis": lambda: _per_channel(torch.qint8, 1),
    "turned": lambda: torch.quantize_per_tensor(table(), 0.1, 3, torch.quint8).t(),
    "view": lambda: torch.quantize_per_tensor(table(), 0.1, 3, torch.quint8)[1:],
    "channels last": lambda: torch.quantize_per_tensor(torch.rand(1, 2, 3, 4), 0.1, 3, torch.quint8).to(memory_format=torch.channels_last),
    "0-dim": lambda: torch.quantize_per_tensor(torch.tensor(1.0), 0.1, 0, torch.quint8),
    "no elements": lambda: torch.quantize_per_tensor(torch.empty(0, 3), 0.1, 0, torch.quint8),
    "tensors for scale and zero point": lambda: torch.quantize_per_tensor(table(), torch.tensor(0.1), torch.tensor(3), torch.qint8),
    "two of one storage": lambda: of(torch.quantize_per_tensor(table(), 0.1, 3, torch.quint8), lambda value: [value, value[1:]]),
}  # fmt: skip

_META: Final[dict[str, Callable[[], Any]]] = {
    "tensor": lambda: torch.empty(3, 2, device="meta"),
    "strided": lambda: torch.empty(3, 2, device="meta").t(),
    "requires grad": lambda: torch.empty(3, device="meta", requires_grad=True),
    "two views of one": lambda: of(torch.empty(3, device="meta"), lambda value: [value, value[1:], value]),
    "with attributes": lambda: with_attributes(torch.empty(3, device="meta"), note=1),
    "terabytes": lambda: torch.empty(1 << 40, device="meta"),
}

_STORAGES: Final[dict[str, Callable[[], Any]]] = {
    "typed": lambda: row()._typed_storage(),
    "untyped": lambda: row().untyped_storage(),
    "with a tensor on it": lambda: [table().untyped_storage(), table()],
    "shared by a tensor": lambda: of(table(), lambda value: [value.untyped_storage(), value, value[1:]]),
    "typed, shared by a tensor": lambda: of(table(), lambda value: [value._typed_storage(), value]),
    "of no bytes": lambda: [torch.UntypedStorage(0), torch.FloatStorage()],
    "old constructor": lambda: torch.FloatStorage([1.0, 2.0]),
    "slice of another": lambda: table().untyped_storage()[4:12],
    "on meta": lambda: torch.UntypedStorage(8, device="meta"),
    "the same twice": lambda: [table().untyped_storage()] * 2,
}

_UNREAD: Final = "torch uses the tables before it has read them: garbage, or the end of the process"
_TABLES: Final = {name: _UNREAD for name in _NESTED if name.startswith("strided")}

ROWS: Final[list[Row]] = [
    *kinds("dense tensors", _PLAIN),
    *kinds("parameters", _PARAMETERS, why={"an attribute that hides a method": "the file would choose what a method of the tensor is"}),
    *kinds("sparse tensors", _SPARSE, numbers=True),
    *kinds("nested tensors", _NESTED, numbers=True, legacy=_TABLES),
    *kinds("quantised tensors", _QUANTISED, numbers=True),
    *kinds("meta tensors", _META),
    *kinds("storages", _STORAGES),
]
