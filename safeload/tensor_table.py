"""Names of tensors in a loaded object, the names that a person would use.

Works on values and on specs alike: what counts as a tensor is the caller's to say. Nothing recurses, and every container is
entered once, so that deep, shared and circular data end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from safeload.errors import LimitError, UnsupportedError, UsageError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.module_parts import MODULE_KEYS, is_number, module_children, name_of
from safeload.program import Call, Inert, ScriptClass, TensorSpec
from safeload.walk import kinds
from safeload.walk.model import Model, build

__all__ = ["IsTensor", "as_modules", "children", "find_state_dict", "flatten", "is_spec", "spec_of", "tables_of"]

IsTensor = Callable[[Any], bool]
_MOST_STEPS = 1_000_000
_MOST_TEXT = 1 << 27

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


def is_spec(value: Any) -> bool:
    """Whether a value of a spec-mode build is a tensor of any kind."""
    return isinstance(value, TensorSpec) or (isinstance(value, Call) and value.kind == kinds.TENSOR)


def spec_of(value: Any) -> TensorSpec | None:
    """The dense tensor in a Parameter or in a tensor with attributes; None for sparse, quantised and the like."""
    while isinstance(value, Call) and value.kind == kinds.TENSOR and value.args and is_spec(value.args[0]):
        value = value.args[0]
    return value if isinstance(value, TensorSpec) else None


def as_modules(value: Any, classes: Mapping[str, ScriptClass]) -> Any:
    """Sort the attributes of TorchScript modules, as their classes say, into parameters, buffers and modules; returns `value`.

    The nodes are changed: they then look as those of a pickled `nn.Module`, and `module_children` knows them. Attributes that
    are none of the three are not in torch's own state dict either.
    """
    if not classes:
        return value
    todo, seen = [value], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        todo += [item for _, item in children(node) if _is_container(item)]
        known = classes.get(node.global_name) if isinstance(node, Inert) else None
        if known is None or type(node.state) is not dict:
            continue
        state = node.state
        modules = {name: item for name, item in state.items() if isinstance(item, Inert) and item.global_name in classes}
        parts = [{name: item for name, item in state.items() if name in names} for names in (known.parameters, known.buffers)]
        node.state = dict(zip(MODULE_KEYS, (*parts, modules), strict=True))
    return value


def children(value: Any) -> list[tuple[str, Any]]:
    """The named parts of a value: of a mapping, a sequence, or an inert node."""
    if isinstance(value, Mapping):
        return [(name_of(key), item) for key, item in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return [(str(index), item) for index, item in enumerate(value)]
    if isinstance(value, Inert):
        parts = module_children(value)
        return _inert_children(value) if parts is None else parts
    return []


def _inert_children(node: Inert) -> list[tuple[str, Any]]:
    """Attributes by name, what was put in by key or index, arguments as "args.0"."""
    parts: list[tuple[str, Any]] = []
    # Slots come as a second mapping beside the attributes.
    for index, state in enumerate(node.state if type(node.state) is tuple else (node.state,)):
        parts += children(state) if isinstance(state, (Mapping, list)) else [(f"state.{index}", state)]
    parts += [(f"args.{index}", item) for index, item in enumerate(node.args or ())]
    parts += node.kwargs.items()
    if all(type(item) is tuple and len(item) == 2 and isinstance(item[0], (str, int)) for item in node.items):
        return parts + [(name_of(key), item) for key, item in node.items]
    return parts + [(str(index), item) for index, item in enumerate(node.items)]


def _is_container(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple, deque, Inert))


def _holders(value: Any, is_tensor: IsTensor) -> dict[int, list[tuple[str, Any]]]:
    """The parts of every container from which a tensor can be reached, by the container's identity.

    Without this, containers that share containers would have to be gone through once for each way that leads to them,
    although nothing is in them.
    """
    parts_of: dict[int, list[tuple[str, Any]]] = {}
    above: dict[int, list[int]] = {}
    leading: list[int] = []
    # The parts keep alive what an inert node's children make on the fly, so that no identity is used twice.
    todo = [value]
    while todo:
        node = todo.pop()
        if id(node) in parts_of:
            continue
        parts = parts_of[id(node)] = children(node)
        for _, item in parts:
            if is_tensor(item):
                leading.append(id(node))
            elif _is_container(item):
                above.setdefault(id(item), []).append(id(node))
                todo.append(item)
    holding: set[int] = set()
    while leading:
        node_id = leading.pop()
        if node_id not in holding:
            holding.add(node_id)
            leading.extend(above.get(node_id, ()))
    return {
        node_id: [part for part in parts if is_tensor(part[1]) or id(part[1]) in holding]
        for node_id, parts in parts_of.items()
        if node_id in holding
    }


def flatten(value: Any, is_tensor: IsTensor) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, tensor) for every tensor in `value`; shared tensors under each of their names, as `state_dict()` does.

    Raises:
        LimitError: containers that share containers stand for more names than anything real has, or for endless ones.
    """
    if is_tensor(value):
        yield "", value
        return
    parts_of = _holders(value, is_tensor)
    on_path: set[int] = set()
    steps = text = 0
    todo: list[tuple[str, Any, bool]] = [("", value, False)] if id(value) in parts_of else []
    while todo:
        steps += 1
        if steps > _MOST_STEPS:
            raise LimitError(f"more than {_MOST_STEPS} ways lead to tensors").under("SL127")
        name, node, leaving = todo.pop()
        if leaving:
            on_path.discard(id(node))
        elif is_tensor(node):
            yield name, node
        elif id(node) not in on_path:
            on_path.add(id(node))
            todo.append((name, node, True))
            # Long keys that are shared cost a file next to nothing, and names made of them everything.
            text += sum(len(name) + len(key) for key, _ in parts_of[id(node)])
            if text > _MOST_TEXT:
                raise LimitError(f"the names of the tensors have more than {_MOST_TEXT} characters").under("SL127")
            todo.extend((f"{name}.{key}" if name else key, item, False) for key, item in reversed(parts_of[id(node)]))


def tables_of(contents: Contents) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Every tensor of a file by name, as a spec or a call, without building any.

    Returns:
        The names that the file goes by, and others that are understood. A file of plain data goes by the keys that lead to each
        tensor; one that holds objects by the names of its state dict, as `safeload.state_dict` finds it.

    Raises:
        UnsupportedError: the file has no tensors to give by name.
        UsageError: two tensors have the same name.
        MalformedError: a value in its stream breaks a rule.
    """
    if contents.table is not None:
        return contents.table, {}
    main = contents.main
    if main is None:
        raise UnsupportedError(f"a {contents.format} file has no tensors to open by name")
    tree = as_modules(build(main.walk, Model(main.walk, unknown="inert", persistent=main.persistent)), contents.modules)
    everything = list(flatten(tree, is_spec))
    weights = list(flatten(find_state_dict(tree, is_spec), lambda value: is_spec(value) or is_number(value)))
    if not everything:
        raise UnsupportedError("no tensor is in the file", hint=f"its format is {escape(contents.format)}")
    objects = bool(main.walk.unmodelled or contents.modules)
    first, second = (weights, everything) if objects else (everything, weights)
    return _once(first), dict(second)


def _once(named: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in named:
        if name in table:
            raise UsageError(f"two tensors are named {escape(name)!r}", hint="safeload.load gives them as they are nested")
        table[name or "tensor"] = value
    return table


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
    if isinstance(value, Mapping) and any(name in TRAINING for name in map(name_of, value)):
        kept = {name: part for name, part in value.items() if name_of(name) not in TRAINING}
        if weights or any(is_tensor(part) for part in kept.values()):
            return kept
    return value


def _has_tensors(value: Any, is_tensor: IsTensor) -> bool:
    return next(iter(flatten(value, is_tensor)), None) is not None
