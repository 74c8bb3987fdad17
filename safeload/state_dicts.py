"""`safeload.state_dict`: the weights of any checkpoint as name → tensor, full-module pickles too, and no code run."""

from __future__ import annotations

import os
from typing import Any

from safeload.api import load_with
from safeload.context import Context
from safeload.errors import UsageError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.module_parts import is_number, module_children, number_of
from safeload.program import Inert, ScriptClass
from safeload.tensor_table import as_modules, children, find_state_dict, flatten
from safeload.torch_arguments import Arguments

__all__ = ["state_dict"]


def state_dict(
    f: Any, map_location: Any = None, *, key: str | None = None, mmap: Any = None, policy: Any = None, lock: Any = None
) -> dict[str, Any]:
    """Return the weights in a checkpoint as a flat dict of name → tensor.

    Args:
        f: As for `safeload.load`.
        map_location: As for `safeload.load`.
        key: Where the weights are, as a dotted path ("model.state_dict"); by default the usual wrappers are looked through.
        mmap: As for `safeload.load`.
        policy: As for `safeload.load`.
        lock: As for `safeload.load`.

    Returns:
        Names as `module.state_dict()` gives them, in that order. A pickled `nn.Module` is read from its parts (parameters,
        persistent buffers, nested modules, what quantised ones pack), and its tensors are detached, as there; its class is not
        imported, whatever policy allows. Tensors of anything else come as they are.

    Raises:
        UsageError: `key` leads nowhere, no tensor is found, or two have the same name.
        RefusedError, PinError, MalformedError: as for `safeload.load`.
    """
    from safeload.build import torch_module

    torch = torch_module()
    arguments = Arguments.of(map_location, None, None, mmap, "inert", {})
    classes: dict[str, ScriptClass] = {}

    def read(contents: Contents) -> None:
        classes.update(contents.modules)

    value = as_modules(load_with(f, Context.of(policy, lock), arguments, granted=False, read=read, remote=True), classes)

    def is_tensor(item: Any) -> bool:
        return isinstance(item, torch.Tensor)

    value = follow(value, key) if key else find_state_dict(value, is_tensor)
    where = escape(str(f), 500) if isinstance(f, (str, os.PathLike)) else ""
    found: dict[str, Any] = {}
    for name, item in flatten(value, lambda one: is_tensor(one) or is_number(one)):
        tensor = torch.tensor(number_of(item)) if is_number(item) else item
        if name in found:
            raise UsageError(f"two tensors are named {escape(name)!r}", where=where, hint="choose one part of the checkpoint with key=")
        found[name] = tensor
    if not found:
        raise UsageError("no tensor is in the file" + (f" at {escape(key)!r}" if key else ""), where=where)
    if isinstance(value, Inert) and module_children(value) is not None:
        return {name: tensor.detach() for name, tensor in found.items()}
    return found


def follow(value: Any, key: str) -> Any:
    """Go down a dotted path; a name that itself holds dots is tried whole first."""
    names = key.split(".")
    while names:
        parts = dict(children(value))
        for length in range(len(names), 0, -1):
            name = ".".join(names[:length])
            if name in parts:
                value, names = parts[name], names[length:]
                break
        else:
            there = ", ".join(escape(name, 40) for name in list(parts)[:10])
            raise UsageError(f"there is no {escape('.'.join(names))!r}", hint=f"there is: {there or 'nothing'}")
    return value
