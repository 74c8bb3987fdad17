"""Do something to a module at the moment it is imported, and never import it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

__all__ = ["Watcher"]

Arrived = Callable[[ModuleType], None]


# Neither class derives from those of importlib.abc: importing that costs more than all of this package, and every Python that
# a covered program starts would pay for it.
class _Loader:
    """Stands in for a module's own loader while it is executed, then steps back."""

    def __init__(self, inner: Any, arrived: Arrived) -> None:
        self._inner = inner
        self._arrived = arrived

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the module's own loader does."""
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own loader back (inspect and pickle look at it), execute it, and say that it is there."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        self._inner.exec_module(module)
        self._arrived(module)


class Watcher:
    """Finds nothing by itself: asks the other finders for the modules that it waits for, and wraps what they found."""

    def __init__(self, waiting: Mapping[str, Arrived]) -> None:
        self._waiting = dict(waiting)

    def start(self) -> None:
        """Call what waits for modules that are there already, and wait for the others."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        for name, arrived in self._waiting.items():
            module = sys.modules.get(name)
            if module is not None:
                arrived(module)

    def stop(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module that is waited for; None for all others."""
        arrived = self._waiting.get(fullname)
        if arrived is None:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                if not hasattr(spec.loader, "exec_module"):
                    raise ImportError(f"safeload is installed and cannot wait for {fullname}: its loader has no exec_module", name=fullname)
                spec.loader = _Loader(spec.loader, arrived)  # type: ignore[assignment]
                return spec
        return None
