"""Put a replacement in every place where a function is bound, and put the function back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

__all__ = ["dictionaries", "put_back", "replace_everywhere"]

Function = Callable[..., Any]
Place = tuple[str, str]
_SCRIPT = ("__main__", "__mp_main__")  # the second name is what multiprocessing calls it


def dictionaries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the dictionary of every imported module, without waking one that loads its parts lazily."""
    for name, module in list(sys.modules.items()):
        # People put all kinds of things into sys.modules; only what is a module has a dictionary that is safe to look at.
        if issubclass(type(module), ModuleType):
            yield name, object.__getattribute__(module, "__dict__")


def replace_everywhere(old: Function, new: Function) -> list[Place]:
    """Bind `new` wherever a module's attribute is `old`; return the places as (module, attribute).

    In the program's own script a variable under another name is left alone: whoever writes `old = torch.load` there keeps
    the function to compare it or to put it back.
    """
    places = []
    for name, held in dictionaries():
        for attribute, value in list(held.items()):
            if value is old and (name not in _SCRIPT or attribute == old.__name__):
                held[attribute] = new
                places.append((name, attribute))
    return places


def put_back(replacement: Function, original: Function, earlier: dict[Place, Function]) -> list[tuple[Place, Any]]:
    """Undo `replace_everywhere`, also in modules that bound the replacement since.

    Args:
        replacement: What was put in.
        original: What goes back.
        earlier: Places that held something else before, and what.

    Returns:
        Places of `earlier` that somebody else has bound to a third thing meanwhile, which is left there; and that thing.
    """
    for name, held in dictionaries():
        for attribute, value in list(held.items()):
            if value is replacement:
                held[attribute] = earlier.get((name, attribute), original)
    taken = []
    for (name, attribute), before in earlier.items():
        found = getattr(sys.modules.get(name), attribute, before)
        if found is not before:
            taken.append(((name, attribute), found))
    return taken
