"""Exported programs, the JSON of `.pt2` archives: what their nodes call, and what of them is evaluated.

`torch.export.load` looks every target up attribute by attribute, from `torch`, `operator` or `math`, gives expressions of sizes to
sympy, which evaluates text, compiles guards, and imports classes that a tree's description names. Exporters write operators,
arithmetic of sizes and plain comparisons; only those are let pass.
Source: torch/_export/serde/serialize.py and torch/utils/_pytree.py of torch 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from safeload.findings import Finding, Level, escape
from safeload.formats.script_operators import judge_class, judge_operator
from safeload.walk import finding

__all__ = ["judge_program"]

_NODES: Final = 20_000_000  # values of one document; parsing bounds them before
_SHOWN: Final = 120

# What is computed with sizes; attrgetter, methodcaller, call and the like are not among them.
_ARITHMETIC: Final = frozenset(
    """abs add and_ concat contains eq floordiv ge getitem gt iadd iand ifloordiv ilshift imod imul index inv invert ior ipow irshift is_
    is_not isub itruediv ixor le lshift lt matmul mod mul ne neg not_ or_ pos pow rshift sub truediv truth xor""".split()  # noqa: SIM905 - a table for people
)
_MATH: Final = re.compile(r"math\.[a-z][a-z0-9]*\Z")
_SIZES: Final = re.compile(r"torch\.(?:_?sym_[a-z_]+|_check(?:_is_size)?|_shape_as_tensor)\Z")
_MODES: Final = frozenset(
    {"torch._C._set_grad_enabled", "torch.amp.autocast_mode._enter_autocast", "torch.amp.autocast_mode._exit_autocast",
     "torch._C._functorch._add_batch_dim", "torch._C._functorch._remove_batch_dim"}
)  # fmt: skip
_OPERATOR: Final = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.\w+)?\Z")
# Operators of higher order that bring code of their own.
_DELEGATES: Final = frozenset(
    {"executorch_call_delegate", "aoti_call_delegate", "triton_kernel_wrapper_functional", "triton_kernel_wrapper_mutation"}
)
# Modules and functions that can be reached from torch and that no program of tensors needs.
_REACHED: Final = frozenset(
    """os sys subprocess shutil socket importlib builtins pickle ctypes hub load save system popen exec eval compile serialization package
    multiprocessing distributed utils jit _dynamo _inductor runpy pathlib tempfile inspect functools types warnings""".split()  # noqa: SIM905 - as above
)

# An expression of sizes, as sympy writes it out or in infix form; a text stands only inside of Symbol(…).
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<symbol>Symbol\(\s*(?:'\w+'|\"\w+\"))|(?P<name>[A-Za-z_]\w*)|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<mark>\*\*|//|<=|>=|==|!=|[-+*/%(),<>=&|~^]))"
)
_FUNCTIONS: Final = frozenset(
    "floor ceiling sqrt log log2 exp sin cos tan asin acos atan sinh cosh tanh abs sign max min".split()  # noqa: SIM905 - as above
)
_CALLS: Final = re.compile(r"[A-Z][A-Za-z0-9]*(?:_[a-z0-9]+)*\Z")
_EVALUATES: Final = frozenset({"S", "Lambda", "Function", "Poly", "Subs", "Eval"})

_GUARD: Final = re.compile(
    r"\s*(?:(?P<text>'[^'\\\n]*'|\"[^\"\\\n]*\")|(?P<name>[A-Za-z_]\w*)|(?P<number>\d+(?:\.\d+)?)|(?P<mark>\*\*|//|<=|>=|==|!=|[-+*/%(),<>=\[\].:]))"
)
_GUARDS: Final = frozenset(
    """L s self and or not is None True False in len size stride storage_offset shape dtype ndim dim numel device type max min int float
    bool str math floor ceil torch sym_max sym_min sym_int sym_float requires_grad __len__ isinstance tuple list dict keys values""".split()  # noqa: SIM905 - as above
)

_ENUM: Final = re.compile(r"fqn\\*\"\s*:\s*\\*\"([^\"\\]*)")
_FACTORY: Final = re.compile(r"default_factory_(module|name)\\*\"\s*:\s*\\*\"([^\"\\]*)")
_PLAIN: Final = frozenset({"int", "float", "list", "dict", "set", "str", "bool", "tuple"})


def judge_program(root: Any) -> Iterator[Finding]:
    """Yield what is to be said of a program: of each call, each expression and each import once for each place.

    Args:
        root: The document, as plain data.
    """
    todo = [root]
    for _ in range(_NODES):
        if not todo:
            return
        value = todo.pop()
        if isinstance(value, str):
            yield from _imports(value)
        elif isinstance(value, list):
            todo.extend(reversed(value))
        elif isinstance(value, dict):
            yield from _object(value)
            todo.extend(reversed(value.values()))


def _object(value: dict[str, Any]) -> Iterator[Finding]:
    if isinstance(value.get("target"), str) and "inputs" in value:
        yield from _target(value["target"])
    if isinstance(value.get("as_operator"), str):
        yield from _target(value["as_operator"])
    for key in ("expr_str", "as_sym_expr"):
        if isinstance(value.get(key), str) and not _is_sizes(value[key]):
            yield finding("SL736", f"an expression that is not one of sizes: '{escape(value[key], _SHOWN)}'")
    guards = value.get("guards_code")
    for guard in guards if isinstance(guards, list) else ():
        if not isinstance(guard, str) or not _is_guard(guard):
            yield finding("SL736", f"a guard that is more than a comparison of sizes: '{escape(str(guard), _SHOWN)}'")
    if isinstance(value.get("class_fqn"), str):
        found = judge_class(value["class_fqn"])
        if found is not None:
            yield found


def _target(target: str) -> Iterator[Finding]:
    """What a node calls."""
    operator = _OPERATOR.match(target)
    if operator is not None:
        if operator[1] == "higher_order":
            if operator[2] in _DELEGATES:
                yield finding("SL735", f"the operator '{escape(operator[2], _SHOWN)}' runs code that it brings along")
            return
        found = judge_operator(operator[1], operator[2])
        if found is not None:
            yield found
        return
    module, _, name = target.partition(".")
    if (module == "_operator" and name in _ARITHMETIC) or _MATH.match(target) or _SIZES.match(target) or target in _MODES:
        return
    reached = not target.startswith("torch.ops.") and (
        module in ("_operator", "operator", "math") or bool(_REACHED & set(target.split(".")))
    )
    level = Level.ERROR if reached or "__" in target else Level.WARNING
    yield finding("SL734", f"a node calls '{escape(target, _SHOWN)}', which is no operator", level=level)


def _is_sizes(text: str) -> bool:
    """Whether an expression is arithmetic of sizes and nothing else."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            return False
        at = match.end()
        name = match["name"]
        if name is None:
            continue
        if "__" in name:
            return False
        if text[at : at + 1] == "(" and (name in _EVALUATES or not (_CALLS.match(name) or name in _FUNCTIONS)):
            return False
    return True


def _is_guard(text: str) -> bool:
    """Whether a guard only compares sizes, kinds and texts."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _GUARD.match(text, at)
        if match is None or match.end() == at:
            return False
        at = match.end()
        name = match["name"]
        if name is not None and name not in _GUARDS and not re.fullmatch(r"[a-z]\d+", name) and not _is_key(text, match.start("name")):
            return False
    return True


def _is_key(text: str, at: int) -> bool:
    """Whether a name is an attribute of the torch module that is a constant (`torch.float32`, `torch.strided`)."""
    return text[:at].endswith("torch.") and not _REACHED & set(re.findall(r"\w+", text[at:])[:1])


def _imports(text: str) -> Iterator[Finding]:
    """Classes that the description of a tree names: torch imports their modules."""
    if "__enum__" in text:
        for name in _ENUM.findall(text):
            yield finding("SL734", f"the description of arguments imports '{escape(name, _SHOWN)}'", level=_level(name))
    if "default_factory_module" in text:
        found = dict(_FACTORY.findall(text))
        if found.get("module") != "builtins" or found.get("name") not in _PLAIN:
            name = f"{found.get('module')}.{found.get('name')}"
            yield finding("SL734", f"the description of arguments imports '{escape(name, _SHOWN)}'", level=_level(name))


def _level(name: str) -> Level:
    return Level.ERROR if _REACHED & set(re.findall(r"\w+", name)) else Level.WARNING
