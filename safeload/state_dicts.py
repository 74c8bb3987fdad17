"""`safeload.state_dict`: the weights of any checkpoint as name → tensor, full-module pickles too, and no code run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from safeload.api import load_with
from safeload.context import Context
from safeload.errors import UsageError
from safeload.findings import escape
from safeload.program import Inert
from safeload.tensor_table import IsTensor, children, flatten, module_children
from safeload.torch_arguments import Arguments

__all__ = ["find_state_dict", "state_dict"]

# Where trainers put the weights, most telling name first. An EMA copy is the one that is meant for use.
WRAPPERS: Final = (
    "state_dict", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "model_ema", "params_ema", "ema", "model_state_dict",
    "model_state", "model",
)  # fmt: skip
# Names that may just as well be one part of a model among others: they count when no other part is there.
PARTS: Final = ("module", "network", "net", "params", "weights", "generator", "netG", "G_ema", "g_ema", "student", "teacher")
# Parts of a training checkpoint that hold tensors and are no weights.
TRAINING: Final = frozenset(
    """optimizer optimizers optimizer_state optimizer_states optimizer_state_dict optim opt optim_g optim_d
    scheduler schedulers lr_scheduler lr_schedulers scheduler_state_dict scaler grad_scaler amp amp_scaling_state
    rng_state rng_states random_state cuda_rng_state torch_rng_state callbacks loops hyper_parameters criterion loss""".split()  # noqa: SIM905 - a table for people
)
_DEEPEST: Final = 8


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
        persistent buffers, nested modules), and its tensors are detached, as there; its class is not imported, whatever
        policy allows. Tensors of anything else come as they are.

    Raises:
        UsageError: `key` leads nowhere, no tensor is found, or two have the same name.
        RefusedError, PinError, MalformedError: as for `safeload.load`.
    """
    from safeload.build import torch_module

    torch = torch_module()
    arguments = Arguments.of(map_location, None, None, mmap, "inert", {})
    value = load_with(f, Context.of(policy, lock), arguments, granted=False)

    def is_tensor(item: Any) -> bool:
        return isinstance(item, torch.Tensor)

    value = follow(value, key) if key else find_state_dict(value, is_tensor)
    where = escape(str(f), 500) if isinstance(f, (str, os.PathLike)) else ""
    found: dict[str, Any] = {}
    for name, tensor in flatten(value, is_tensor):
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


def find_state_dict(value: Any, is_tensor: IsTensor) -> Any:
    """Go into the usual wrappers for as long as there is one that holds tensors; leave out what belongs to the training.

    Only a container counts as a wrapper: a flat state dict may well have a tensor that is called "weights".
    """
    for _ in range(_DEEPEST):
        if isinstance(value, Inert) and module_children(value) is not None:
            return value
        if not isinstance(value, (Mapping, Inert)):
            return value
        parts = {name: part for name, part in children(value) if not is_tensor(part) and _has_tensors(part, is_tensor)}
        weights = [name for name in parts if name not in TRAINING]
        inner: str | None = next((name for name in WRAPPERS if name in parts), None)
        if inner is None and len(weights) == 1 and weights[0] in PARTS:
            inner = weights[0]
        if inner is None:
            return _without_training(value, weights, is_tensor)
        value = parts[inner]
    return value


def _without_training(value: Any, weights: list[str], is_tensor: IsTensor) -> Any:
    """A checkpoint without its optimiser and the like, unless there is nothing else."""
    if isinstance(value, Mapping) and any(name in TRAINING for name in map(str, value)):
        kept = {name: part for name, part in value.items() if str(name) not in TRAINING}
        if weights or any(is_tensor(part) for part in kept.values()):
            return kept
    return value


def _has_tensors(value: Any, is_tensor: IsTensor) -> bool:
    return next(iter(flatten(value, is_tensor)), None) is not None
