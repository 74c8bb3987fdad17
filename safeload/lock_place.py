"""Where the lockfile in force lies. Looking for one costs no more than the looking: most scans have none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from safeload.errors import LockfileError
from safeload.findings import escape
from safeload.path_arguments import path_text, system_said

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ENVIRONMENT", "LOCK_NAME", "find", "upwards"]

LOCK_NAME: Final = "safeload.lock"
ENVIRONMENT: Final = "SAFELOAD_LOCK"


def upwards(start: str | os.PathLike[str] | None = None) -> list[str]:
    """Return a directory, the working directory by default, and all that it lies in, from the inside out."""
    folder = os.getcwd() if start is None else os.path.realpath(start)
    places = [folder]
    while (parent := os.path.dirname(places[-1])) != places[-1]:
        places.append(parent)
    return places


def find(
    start: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] = os.environ,
    *,
    argument: str | os.PathLike[str] | None = None,
) -> Path | None:
    """Return the lockfile in force: the argument, else `SAFELOAD_LOCK`, else the nearest from the working directory upwards.

    Args:
        start: Where to begin; the working directory by default. Never pass where a model lies.
        env: The environment.
        argument: What the caller named. "" means none, as it does in `SAFELOAD_LOCK`.

    Returns:
        An absolute path, or None when no lock is in force.

    Raises:
        LockfileError: the argument or `SAFELOAD_LOCK` names a file that is not there.
        PermissionError: a directory on the way cannot be searched; a lock in it is not passed by in silence.
    """
    for said_by, named in (("the lock argument", argument), (ENVIRONMENT, env.get(ENVIRONMENT))):
        if named is None:
            continue
        text = path_text(named, said_by)
        if not text:
            return None
        with system_said():
            there = _is_there(text)
        if not there:
            raise LockfileError(f"{said_by} names a lockfile that does not exist", where=escape(text, 1000), hint="run 'safeload lock'")
        return _path(text)
    return next((_path(os.path.join(place, LOCK_NAME)) for place in upwards(start) if _is_there(os.path.join(place, LOCK_NAME))), None)


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text).absolute()


def _is_there(path: str) -> bool:
    """Whether the name exists, be it a dangling link: reading that must fail, not look like "no lock"."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:  # a NUL in the name
        return False
    return True
