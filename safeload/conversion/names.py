"""The names under which tensors of a tree appear: those that `state_dict()` would give, and what they are made of below them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from safeload.program import Call, TensorSpec
from safeload.tensor_table import flatten, is_spec
from safeload.walk import kinds as k

__all__ = ["named_tensors"]

_SPARSE: Final = "torch._utils._rebuild_sparse_tensor"
_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "torch.sparse_coo": ("indices", "values"),
    "torch.sparse_csr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_bsr": ("crow_indices", "col_indices", "values"),
    "torch.sparse_csc": ("ccol_indices", "row_indices", "values"),
    "torch.sparse_bsc": ("ccol_indices", "row_indices", "values"),
}


def named_tensors(root: Any) -> Iterator[tuple[str, TensorSpec]]:
    """Yield every dense tensor of a tree under each of its names, in the order of the tree.

    A Parameter gives its data under its own name; a sparse tensor its parts as `name.indices` and so on.
    """
    for name, value in flatten(root, is_spec):
        yield from _parts(name or "tensor", value)


def _parts(name: str, value: Any) -> Iterator[tuple[str, TensorSpec]]:
    todo: list[tuple[str, Any]] = [(name, value)]
    seen: set[int] = set()
    while todo:
        name, value = todo.pop()
        if isinstance(value, TensorSpec):
            yield name, value
            continue
        if id(value) in seen or len(seen) > 10_000:
            continue
        seen.add(id(value))
        if isinstance(value, Call) and value.kind == k.TENSOR:
            todo.extend(reversed(_of_call(name, value)))
        elif isinstance(value, Mapping):
            todo.extend(reversed([(f"{name}.{key}", item) for key, item in value.items()]))
        elif isinstance(value, (list, tuple)):
            todo.extend(reversed([(f"{name}.{number}", item) for number, item in enumerate(value)]))


def _of_call(name: str, call: Call) -> list[tuple[str, Any]]:
    if call.global_name == _SPARSE and isinstance(call.args[0], Call):
        parts = _PARTS.get(str(call.args[0].args[0]), ())
        return [(f"{name}.{part}", item) for part, item in zip(parts, call.args[1], strict=False)]
    first = [(name, call.args[0])] if call.args else []
    return first + [(name, item) for item in call.args[1:] if isinstance(item, (Call, TensorSpec, Mapping, tuple, list))]
