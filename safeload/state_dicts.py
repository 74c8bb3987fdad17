"""`safeload.state_dict`: the weights of any checkpoint as name → tensor, full-module pickles too, and no code run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from safeload.api import load
from safeload.errors import UsageError
from safeload.findings import escape
from safeload.program import Inert
from safeload.tensor_table import children, flatten, module_children

__all__ = ["find_state_dict", "state_dict"]

# Where trainers put the weights, most telling name first.
WRAPPERS: Final = (
    "state_dict", "model_state_dict", "model_state", "ema_state_dict", "state_dict_ema", "model_ema", "params_ema", "ema",
    "model", "module", "network", "net", "params", "generator", "weights",
)  # fmt: skip
_DEEPEST: Final = 8


def state_dict(f: Any, map_location: Any = None, *, key: str | None = None, mmap: Any = None, policy: Any = None, lock: Any = None) -> dict[str, Any]:
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
        persistent buffers, nested modules); its class is not imported.

    Raises:
        UsageError: `key` leads nowhere, or no tensor is found.
        RefusedError, PinError, MalformedError: as for `safeload.load`.
    """
    import torch

    value = load(f, map_location, mmap=mmap, policy=policy, lock=lock, unknown="inert")

    def is_tensor(item: Any) -> bool:
        return isinstance(item, torch.Tensor)

    found = dict(flatten(follow(value, key) if key else find_state_dict(value, is_tensor), is_tensor))
    if not found:
        raise UsageError("no tensor is in the file" + (f" at {escape(key)!r}" if key else ""), where=escape(str(f), 500))
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


def find_state_dict(value: Any, is_tensor: Any) -> Any:
    """Go into the usual wrappers for as long as the value is not itself a mapping of tensors or a module."""
    for _ in range(_DEEPEST):
        if isinstance(value, Inert) and module_children(value) is not None:
            return value
        parts = value if isinstance(value, Mapping) else dict(children(value)) if isinstance(value, Inert) else None
        if parts is None or any(is_tensor(item) for item in parts.values()):
            return value
        inner = next((parts[name] for name in WRAPPERS if name in parts and _has_tensors(parts[name], is_tensor)), None)
        if inner is None:
            return value
        value = inner
    return value


def _has_tensors(value: Any, is_tensor: Any) -> bool:
    return next(iter(flatten(value, is_tensor)), None) is not None
