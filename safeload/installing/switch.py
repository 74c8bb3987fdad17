"""`install`, `uninstall`, `installed`: who wants `torch.load` replaced, counted, and the replacing itself."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from safeload.errors import warn
from safeload.findings import escape
from safeload.installing.arrival import Watcher
from safeload.installing.options import Options
from safeload.installing.places import Function, Place, put_back, replace_everywhere
from safeload.installing.replacement import replacement_for

__all__ = ["current_options", "install", "installed", "push", "uninstall"]

ANCHORS: Final[tuple[Place, ...]] = (("torch", "load"), ("torch.serialization", "load"))
"""Places that are covered whatever somebody else has put there before."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One who wants it."""

    options: Options
    scoped: bool


@dataclass(slots=True)
class _Cover:
    """One `torch.load`, what stands in for it, and what else lay in its places before (usually nothing)."""

    original: Function
    replacement: Function
    earlier: dict[Place, Function] = field(default_factory=dict)


class _State:
    """Of the whole process. Everything that changes it holds the lock; reading takes one look at a tuple."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.entries: tuple[_Entry, ...] = ()
        self.covers: list[_Cover] = []
        self.watcher = Watcher({"torch.serialization": self._torch_arrived, "multiprocessing.spawn": _spawn_arrived})
        self.mine: contextvars.ContextVar[_Entry | None] = contextvars.ContextVar("safeload_installed", default=None)

    def current(self) -> Options | None:
        """The options of this context's `installed()`, else of the latest `install()`, else None."""
        entries = self.entries
        if not entries:
            return None
        mine = self.mine.get()
        if mine is not None and mine in entries:
            return mine.options
        return entries[-1].options

    def add(self, entry: _Entry) -> None:
        with self.lock:
            self.entries = (*self.entries, entry)
            if entry.options.guard is not None:
                from safeload.installing.guard import listen

                listen(self.current)
            # Not only for the first: modules may have come since that bound a torch.load of their own.
            self.watcher.start()

    def remove(self, entry: _Entry) -> None:
        with self.lock:
            self.entries = tuple(other for other in self.entries if other is not entry)
            if not self.entries:
                self._uncover()

    def last_plain(self) -> _Entry | None:
        return next((entry for entry in reversed(self.entries) if not entry.scoped), None)

    def _torch_arrived(self, module: ModuleType) -> None:
        with self.lock:
            if not self.entries:
                return
            ours = {cover.replacement for cover in self.covers}
            original = vars(module).get("load")
            if callable(original) and original not in ours:
                self.covers.append(_Cover(original, replacement_for(original, self.current)))
            for cover in self.covers:
                replace_everywhere(cover.original, cover.replacement)
            if self.covers:
                self._anchor(self.covers[-1])

    def _anchor(self, cover: _Cover) -> None:
        """Cover `torch.load` too where somebody had replaced it before we came, unless theirs comes down to ours."""
        import sys

        for place in ANCHORS:
            held = vars(sys.modules[place[0]]) if place[0] in sys.modules else {}
            found = held.get(place[1])
            if found is None or _leads_to(found, cover.replacement):
                continue
            cover.earlier[place] = found
            held[place[1]] = cover.replacement

    def _uncover(self) -> None:
        self.watcher.stop()
        _spawn_left()
        ours = {function for cover in self.covers for function in (cover.original, cover.replacement)}
        for cover in reversed(self.covers):
            wanted = {place: cover.earlier.get(place, cover.original) for place in ANCHORS}
            for (module, attribute), found in put_back(cover.replacement, cover.original, wanted):
                if found in ours:  # torch.serialization was reloaded, and has had two functions
                    continue
                name = escape(f"{getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', '?')}")
                warn(f"{module}.{attribute} was replaced by {name} while safeload was installed; it is left as it is")
        self.covers.clear()


def _leads_to(function: Any, wanted: Function) -> bool:
    """Whether `function` is `wanted` or declares that it wraps it."""
    for _ in range(20):
        if function is wanted:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _spawn_arrived(module: ModuleType) -> None:
    from safeload.installing.children import cover_spawned

    cover_spawned(module, _STATE.current)


def _spawn_left() -> None:
    from safeload.installing.children import leave_spawned

    leave_spawned()


_STATE: Final = _State()
current_options: Final[Callable[[], Options | None]] = _STATE.current


def _after_fork() -> None:
    """The child of a fork has one thread; whoever else held the lock is gone."""
    _STATE.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def push(options: Options) -> None:
    """Install with options that were checked already, in a process that another one started."""
    _STATE.add(_Entry(options, scoped=False))


def install(*, policy: Any = None, lock: Any = None, unknown: str | None = None, guard: str | None = None) -> None:
    """Let `torch.load` be `safeload.load` in this process, for code that calls it itself.

    Covers `torch.load`, `torch.serialization.load` and every module that bound one of them (`from torch import load`), whether
    torch was imported before or comes later; torch is never imported for it. Processes that `multiprocessing` starts from here
    are covered too. Calls count: as many `uninstall()` take it back. The options of the latest call hold.

    Args:
        policy: As for `safeload.load`. Looked for from the working directory of this moment upwards when None.
        lock: As for `safeload.load`. Likewise.
        unknown: As for `safeload.load`.
        guard: "report" or "enforce": also watch other unpicklers in the process, see docs/install.md. A hook cannot be taken
            out of the interpreter again; it sleeps when nobody wants it.

    Raises:
        UsageError: a value is not one of its words.
        PolicyError, LockfileError: what is in force is not valid.
    """
    push(Options.of(policy, lock, unknown, guard))


def uninstall() -> None:
    """Take one `install()` back; the last one gives every place the very function that it had.

    Without `install()` before, nothing happens. Where somebody else has replaced `torch.load` meanwhile, theirs is left and a
    `SafeloadWarning` says so; what they call underneath is torch's own function again.
    """
    with _STATE.lock:
        entry = _STATE.last_plain()
        if entry is not None:
            _STATE.remove(entry)


@contextmanager
def installed(*, policy: Any = None, lock: Any = None, unknown: str | None = None, guard: str | None = None) -> Iterator[None]:
    """Install for the time of a `with` block.

    The block's own options hold for calls from this thread or task; other threads, which see the same replaced `torch.load`,
    get those of the latest one installed.

    Args:
        policy: As for `install`.
        lock: As for `install`.
        unknown: As for `install`.
        guard: As for `install`.
    """
    entry = _Entry(Options.of(policy, lock, unknown, guard), scoped=True)
    _STATE.add(entry)
    token = _STATE.mine.set(entry)
    try:
        yield
    finally:
        _STATE.remove(entry)
        _STATE.mine.reset(token)
