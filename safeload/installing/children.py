"""Processes that are started from a covered one: they are covered before they load anything.

A fork inherits everything. `multiprocessing` with spawn and forkserver starts a fresh interpreter and sends it its settings
first; safeload adds itself to them (`cover_spawned`). `safeload run` covers every Python that the program starts, by whatever
means, through the environment (`environment`): Python imports `sitecustomize` from PYTHONPATH before anything else.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from safeload.installing.options import Options

__all__ = ["STARTUP", "VARIABLE", "cover_spawned", "environment", "from_environment", "from_parent", "leave_spawned"]

VARIABLE: Final = "SAFELOAD_RUN"
STARTUP: Final = Path(__file__).with_name("startup")
_ORIGINALS: dict[int, tuple[ModuleType, Any, Any]] = {}


class _Greeting:
    """The first thing that a spawned child unpickles. Needs nothing to be importable there but the standard library."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        import runpy

        root = str(Path(__file__).parents[2])
        return runpy.run_path, (str(STARTUP / "child.py"), {"ROOT": root, "OPTIONS": pickle.dumps(self._options)})


def cover_spawned(spawn: ModuleType, current: Callable[[], Options | None]) -> None:
    """Let what `multiprocessing.spawn` sends to a child begin with our options."""
    original = spawn.get_preparation_data
    if any(original is ours for _, _, ours in _ORIGINALS.values()):
        return

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        options = current()
        # multiprocessing looks up the keys that it knows and passes over the rest.
        return data if options is None else {"safeload": _Greeting(options), **data}

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]
    _ORIGINALS[id(spawn)] = (spawn, original, get_preparation_data)


def leave_spawned() -> None:
    """Undo `cover_spawned`, unless somebody else has replaced ours meanwhile; theirs then calls ours, which adds nothing."""
    for spawn, original, ours in _ORIGINALS.values():
        if getattr(spawn, "get_preparation_data", None) is ours:
            spawn.get_preparation_data = original  # type: ignore[attr-defined]
    _ORIGINALS.clear()


def from_parent(options: bytes) -> None:
    """Install in a spawned child. The bytes come from the parent, over the pipe that multiprocessing itself trusts."""
    from safeload.installing.switch import push

    found = pickle.loads(options)  # noqa: S301 - see above
    if isinstance(found, Options):
        push(found)


def environment(options: Options, environ: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return the environment for a Python that is to be covered, with all that it starts.

    Args:
        options: Policy and lock must be paths, None or False: what is more cannot be said in an environment.
        environ: What it has already.
        **more: Further settings for `from_environment`.
    """
    said = {
        "policy": options.policy, "lock": options.lock, "unknown": options.unknown, "guard": options.guard,
        "unpinned": options.unpinned, "directory": str(options.directory), **more,
    }  # fmt: skip
    paths = [str(STARTUP), *(part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(STARTUP))]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths), VARIABLE: json.dumps(said)}


def from_environment() -> None:
    """Install as `VARIABLE` says, in a process that `safeload run` or one of its children started.

    Policy and lock were read by `safeload run` before it started the program, and are read again by the first load.

    Raises:
        KeyError, ValueError: the variable is not what `environment` writes; the caller stops the process then.
    """
    from safeload.installing.switch import push

    said = json.loads(os.environ[VARIABLE])
    options = Options(
        policy=said["policy"], lock=said["lock"], unknown=said["unknown"], guard=said["guard"], unpinned=said["unpinned"],
        directory=Path(said["directory"]),
    )  # fmt: skip
    if said.get("trace"):
        from safeload.installing.tracing import write_trace

        write_trace(said["trace"])
    push(options)
