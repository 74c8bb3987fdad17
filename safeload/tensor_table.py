"""Names of tensors in a loaded object, the names that a person would use.

Works on values and on specs alike: what counts as a tensor is the caller's to say. Nothing recurses, and every container is
entered once, so that deep, shared and circular data end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from safeload.errors import UnsupportedError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.program import Call, Inert, TensorSpec
from safeload.walk import kinds
from safeload.walk.model import Model, build

__all__ = ["children", "flatten", "is_spec", "module_children", "spec_of", "table_of"]

IsTensor = Callable[[Any], bool]
_MODULE_KEYS: Final = ("_parameters", "_buffers", "_modules")


def is_spec(value: Any) -> bool:
    """Whether a value of a spec-mode build is a tensor of any kind."""
    return isinstance(value, TensorSpec) or (isinstance(value, Call) and value.kind == kinds.TENSOR)


def spec_of(value: Any) -> TensorSpec | None:
    """The dense tensor in a Parameter or in a tensor with attributes; None for sparse, quantised and the like."""
    while isinstance(value, Call) and value.kind == kinds.TENSOR and value.args and is_spec(value.args[0]):
        value = value.args[0]
    return value if isinstance(value, TensorSpec) else None


def module_children(node: Inert) -> list[tuple[str, Any]] | None:
    """What `module.state_dict()` would visit of an inert `nn.Module`, in its order; None when it is none.

    Buffers that the module calls non-persistent are left out, as there.
    """
    state = node.state
    if isinstance(state, tuple) and state and isinstance(state[0], Mapping):
        state = state[0]
    if not isinstance(state, Mapping) or not all(isinstance(state.get(key), Mapping) for key in _MODULE_KEYS):
        return None
    hidden = state.get("_non_persistent_buffers_set")
    hidden = hidden if isinstance(hidden, (set, frozenset)) else frozenset()
    found = [(str(name), value) for name, value in state["_parameters"].items() if value is not None]
    found += [(str(name), value) for name, value in state["_buffers"].items() if value is not None and name not in hidden]
    found += [(str(name), value) for name, value in state["_modules"].items() if value is not None]
    return found


def children(value: Any) -> list[tuple[str, Any]]:
    """The named parts of a value: of a mapping, a sequence, or an inert node."""
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(str(index), item) for index, item in enumerate(value)]
    if isinstance(value, Inert):
        parts = module_children(value)
        if parts is not None:
            return parts
        parts = children(value.state) if value.state is not None else []
        parts += [(f"args.{index}", item) for index, item in enumerate(value.args or ())]
        parts += [(f"items.{i}", item) for i, item in enumerate(value.items)]
        return parts
    return []


def flatten(value: Any, is_tensor: IsTensor) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, tensor) for every tensor in `value`; shared tensors under each of their names."""
    on_path: set[int] = set()
    entered: dict[int, int] = {}
    todo: list[tuple[str, Any, bool]] = [("", value, False)]
    while todo:
        name, node, leaving = todo.pop()
        if leaving:
            on_path.discard(id(node))
            continue
        if is_tensor(node):
            yield name, node
            continue
        if isinstance(node, (str, bytes, bytearray)) or id(node) in on_path:
            continue
        # A container that is shared has its tensors under each name, as state_dict() gives; but not without end.
        entered[id(node)] = entered.get(id(node), 0) + 1
        if entered[id(node)] > 64:
            continue
        parts = children(node)
        if parts:
            on_path.add(id(node))
            todo.append((name, node, True))
            todo.extend((f"{name}.{key}" if name else key, item, False) for key, item in reversed(parts))


def table_of(contents: Contents) -> dict[str, TensorSpec]:
    """Every dense tensor of a file by name, without building any.

    Raises:
        UnsupportedError: the file has no tensors to give by name.
        MalformedError: a value in its stream breaks a rule.
    """
    if contents.table is not None:
        return dict(contents.table)
    main = contents.main
    if main is None:
        raise UnsupportedError(f"a {contents.format} file has no tensors to open by name")
    tree = build(main.walk, Model(main.walk, unknown="inert", persistent=main.persistent))
    table: dict[str, TensorSpec] = {}
    for name, value in flatten(tree, is_spec):
        spec = spec_of(value)
        if spec is not None:
            table.setdefault(name or "tensor", spec)
    if not table:
        raise UnsupportedError("no dense tensor is in the file", hint=f"its format is {escape(contents.format)}")
    return table
