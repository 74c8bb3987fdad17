"""What an inert `nn.Module` has below it, under the names of its `state_dict()`.

Parameters, persistent buffers and nested modules stand in its state. A few classes of torch write more or keep it elsewhere: quantised
modules, whose weights are packed into objects of C++, traced graphs, compiled modules. What those write is known here by the
names of the classes; nothing of them is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from safeload.findings import shown
from safeload.program import Call, Inert, brief
from safeload.walk import kinds

__all__ = ["MODULE_KEYS", "is_number", "module_children", "name_of", "number_of"]

MODULE_KEYS: Final = ("_parameters", "_buffers", "_modules")
_COMPILED: Final = "torch._dynamo.eval_frame.OptimizedModule"
_GRAPHS: Final = frozenset(f"torch.fx.graph_module.reduce_{name}graph_module" for name in ("", "package_", "deploy_"))
_QUANTISED: Final = tuple(
    f"torch.{package}nn.{kind}quantized." for package in ("", "ao.") for kind in ("", "intrinsic.")
)  # fmt: skip
_NUMBER: Final = "torch.tensor"
_LONG_NUMBER: Final = 4096  # bits
_CONV_STATE: Final = 15
"""Length of a quantised convolution's state: ten settings, weight, bias, scale, zero point, training."""


def is_number(value: Any) -> bool:
    """Whether a value is a number of Python that `state_dict()` would make a tensor of."""
    return isinstance(value, Call) and value.global_name == _NUMBER and value.kind == kinds.OBJECT


def number_of(value: Any) -> int | float:
    """The number in a value that `is_number`."""
    found: int | float = value.args[0]
    return found


def name_of(key: Any) -> str:
    """A key as a part of a name. Python writes a tuple with all that it stands for, and refuses to write a long integer."""
    if type(key) is int and key.bit_length() > _LONG_NUMBER:
        return shown(key)
    return brief(key) if type(key) in (tuple, frozenset) else str(key)


def module_children(node: Inert) -> list[tuple[str, Any]] | None:
    """What `module.state_dict()` would visit of an inert `nn.Module`, in its order; None when it is none.

    Buffers that the module calls non-persistent are left out, as there. What only code could give is not there: extra state,
    and names that a program's own class changes by hooks or by its own `_save_to_state_dict`.
    """
    name = node.global_name
    if name == _COMPILED and node.args:
        return [("_orig_mod", node.args[0])]
    state = node.args[0] if name in _GRAPHS and node.args else node.state
    quantised = name.startswith(_QUANTISED)
    if quantised and type(state) is tuple and len(state) == _CONV_STATE:
        return [("weight", state[10]), ("bias", state[11]), *_numbers(state[12], state[13])]
    if isinstance(state, tuple) and state and isinstance(state[0], Mapping):
        state = state[0]
    if not isinstance(state, Mapping) or not all(isinstance(state.get(key), Mapping) for key in MODULE_KEYS):
        return None
    hidden = state.get("_non_persistent_buffers_set")
    hidden = hidden if isinstance(hidden, (set, frozenset)) else frozenset()
    found = [(name_of(key), value) for key, value in state["_parameters"].items() if value is not None]
    found += [(name_of(key), value) for key, value in state["_buffers"].items() if value is not None and key not in hidden]
    if quantised:
        found += _numbers(state.get("scale"), state.get("zero_point")) + _packed(state)
    found += [(name_of(key), value) for key, value in state["_modules"].items() if value is not None]
    return found


def _numbers(scale: Any, zero_point: Any) -> list[tuple[str, Any]]:
    """Scale and zero point of a module's output, which it keeps as numbers."""
    if type(scale) is not float or type(zero_point) is not int:
        return []
    return [(name, Call(_NUMBER, (value,), kinds.OBJECT)) for name, value in (("scale", scale), ("zero_point", zero_point))]


def _packed(state: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What the module that holds packed weights unpacks into the state dict."""
    found = []
    for name in ("_packed_params", "_packed_weight", "param"):
        packed = state.get(name)
        if not isinstance(packed, Inert) or type(packed.state) is not tuple or not packed.state:
            continue
        inner = packed.state[0]
        if name == "_packed_weight" and type(inner) is tuple and len(inner) > 1 and type(inner[1]) is list and inner[1]:
            inner = inner[1][0]
        found.append((name, packed if name == "param" else inner))
    return found
