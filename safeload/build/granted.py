"""Classes that policy allows, found in the installed packages and used as pickle would use them.

This is the one place where a name from a file leads to an import. It happens only for names that were granted, word by word,
by a person's policy, by a pin of exactly these bytes, or by the running program (`torch.serialization.add_safe_globals`);
and the hard denylist is asked again here, for the name in the file and for the name that the object really has.
"""

from __future__ import annotations

import enum
import importlib
import sys
from types import BuiltinFunctionType, ClassMethodDescriptorType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from safeload.errors import RefusedError, SafeloadError, UnsupportedError
from safeload.findings import escape
from safeload.denied import denied_reason

__all__ = ["Grants", "resolve", "safe_global_names"]

_SHARED: Final = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, enum.Enum)
_CLASS_METHODS: Final = (classmethod, staticmethod, ClassMethodDescriptorType)


def _registered() -> dict[str, Any]:
    """What the program itself gave to torch's list of safe globals: name → object."""
    torch = sys.modules.get("torch")
    getter = getattr(getattr(torch, "serialization", None), "get_safe_globals", None)
    found: dict[str, Any] = {}
    for entry in getter() if getter is not None else ():
        named = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], str)
        value = entry[0] if named else entry
        found[entry[1] if named else _full_name(value)] = value
    return found


def _full_name(value: Any) -> str:
    """The name that pickle would write; a method of a class that is written in C has its module only there."""
    module = getattr(value, "__module__", None) or getattr(getattr(value, "__self__", None), "__module__", None) or "builtins"
    return f"{module}.{getattr(value, '__qualname__', None)}"


def safe_global_names() -> frozenset[str]:
    """Names in torch's list of safe globals, minus those that nobody may grant."""
    return frozenset(name for name in _registered() if denied_reason(name) is None)


def resolve(module: str, attribute: str) -> Any:
    """Return the object behind a granted global.

    Args:
        module: Its module, as the file names it; imported here.
        attribute: Its name in there; dots lead through classes only.

    Raises:
        RefusedError: the name, or the name that the object really has, is on the denylist, or it is no class and no function.
        UnsupportedError: it is not installed here.
    """
    name = f"{module}.{attribute}"
    _refuse_denied(name, name)
    found = _registered().get(name)
    if found is None:
        found = _import(module, attribute, name)
    if not isinstance(found, _SHARED) or isinstance(found, ModuleType):
        raise RefusedError(f"{escape(name)} is a {type(found).__name__}, not a class or function", globals=(name,)).under("SL103")
    real = _full_name(type(found) if isinstance(found, enum.Enum) else found)
    if "<locals>" not in real:
        _refuse_denied(real, name)
    return found


def _refuse_denied(real: str, name: str) -> None:
    reason = denied_reason(real)
    if reason is not None:
        shown = escape(name) if real == name else f"{escape(name)}, which is {escape(real)},"
        raise RefusedError(f"{shown} may not be granted: {reason}", globals=(name,)).under("SL101")


def _import(module: str, attribute: str, name: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise UnsupportedError(
            f"{escape(name)} is granted, and {escape(module)} cannot be imported: {escape(str(error))}",
            hint='install the package, or load with unknown="inert"',
        ) from error
    steps = attribute.split(".")
    for index, step in enumerate(steps):
        inner = _inside(found, step) if index else getattr(found, step, None)
        if inner is None:
            raise UnsupportedError(f"{escape(name)} is granted, and this version of {escape(module)} has no {escape(step)}")
        if index < len(steps) - 1 and not isinstance(inner, type):
            raise RefusedError(f"{escape(name)} does not lead through classes", globals=(name,)).under("SL103")
        found = inner
    return found


def _inside(owner: Any, step: str) -> Any:
    """What a class itself holds under a name: a class, a member of an enumeration, or a method of classes, bound to it."""
    if not isinstance(owner, type):
        return None
    if issubclass(owner, enum.Enum) and step in owner.__members__:
        return owner.__members__[step]
    found = owner.__dict__.get(step)
    return found.__get__(None, owner) if isinstance(found, _CLASS_METHODS) else found


class Grants:
    """The granted objects of one build, and the instances that were made of them."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def made(self, value: Any) -> Any:
        """Remember an instance, so that later opcodes may change it; what others share they may not."""
        if not isinstance(value, _SHARED) and value is not None:
            self._made[id(value)] = value
        return value

    def __contains__(self, value: object) -> bool:
        return id(value) in self._made

    def call(self, op: str, name: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        """REDUCE, NEWOBJ, NEWOBJ_EX, INST, OBJ, as `pickle._Unpickler` does them.

        Raises:
            RefusedError: NEWOBJ of what is no class.
            UnsupportedError: the class itself raised.
        """
        if type(args) is not tuple or type(kwargs) is not dict or not all(type(key) is str for key in kwargs):
            raise RefusedError(f"{op} of {escape(name)} without a tuple of arguments", where=f"@{at}", globals=(name,)).under("SL104")
        bare = op in ("INST", "OBJ") and not args and isinstance(callee, type) and not hasattr(callee, "__getinitargs__")
        if (op in ("NEWOBJ", "NEWOBJ_EX")) and not isinstance(callee, type):
            raise RefusedError(f"{op} of {escape(name)}, which is no class", where=f"@{at}", globals=(name,)).under("SL104")
        try:
            if op == "RECONSTRUCT":
                return self.made(_reconstructed(callee, *args))
            if bare or op in ("NEWOBJ", "NEWOBJ_EX"):
                return self.made(callee.__new__(callee, *args, **kwargs))
            return self.made(callee(*args, **kwargs))
        except SafeloadError:
            raise
        except Exception as error:
            raise _failed(f"{op} of {name}", error, at) from error

    def build(self, target: Any, state: Any, at: int) -> Any:
        """BUILD, as pickle does it: `__setstate__`, else `__dict__` and slots.

        Raises:
            RefusedError: the state would change the object's class or other parts of Python's own.
            UnsupportedError: the class itself raised.
        """
        try:
            setter = getattr(target, "__setstate__", None)
            if setter is not None:
                setter(state)
                return target
            slots = None
            if isinstance(state, tuple) and len(state) == 2:
                state, slots = state
            if state:
                self._attributes(target, state, at)
                target.__dict__.update({sys.intern(name): value for name, value in state.items()})
            if slots:
                self._attributes(target, slots, at)
                for name, value in slots.items():
                    setattr(target, name, value)
        except SafeloadError:
            raise
        except Exception as error:
            raise _failed(f"BUILD of a {type(target).__name__}", error, at) from error
        return target

    def _attributes(self, target: Any, state: Any, at: int) -> None:
        named = isinstance(state, dict) and all(type(name) is str for name in state)
        dunder = [name for name in state if name.startswith("__") and name.endswith("__")] if named else []
        if not named or dunder:
            what = escape(repr(dunder[0]), 80) if dunder else "something that is no name"
            raise RefusedError(f"BUILD of a {type(target).__name__} sets {what}", where=f"@{at}").under("SL105")

    def extend(self, target: Any, items: list[Any], at: int) -> None:
        """APPEND(S) and ADDITEMS, as pickle does them.

        Raises:
            UnsupportedError: the class itself raised.
        """
        try:
            if isinstance(target, (set, frozenset)) or not (hasattr(target, "extend") or hasattr(target, "append")):
                for item in items:
                    target.add(item)
            elif hasattr(target, "extend"):
                target.extend(items)
            else:
                for item in items:
                    target.append(item)
        except Exception as error:
            raise _failed(f"APPENDS on a {type(target).__name__}", error, at) from error

    def set_items(self, target: Any, pairs: list[tuple[Any, Any]], at: int) -> None:
        """SETITEM(S).

        Raises:
            UnsupportedError: the class itself raised.
        """
        try:
            for key, value in pairs:
                target[key] = value
        except Exception as error:
            raise _failed(f"SETITEMS on a {type(target).__name__}", error, at) from error


def _reconstructed(cls: Any, base: Any = object, state: Any = None) -> Any:
    """What `copyreg._reconstructor` does; `base` is one of Python's plain types."""
    if base is object:
        return object.__new__(cls)  # and not the `__new__` of the class, which may want arguments
    made = base.__new__(cls, state)
    if base.__init__ is not object.__init__:
        base.__init__(made, state)
    return made


def _failed(what: str, error: Exception, at: int) -> UnsupportedError:
    return UnsupportedError(
        f"{escape(what)} failed: {type(error).__name__}: {escape(str(error))}",
        where=f"@{at}",
        hint="the installed version of the class may not be the one that wrote the file",
    )
