"""Paths that a caller names: what is no path, and what the system does not take for one, said in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safeload.errors import ArgumentError, NoDirectoryError, UnopenedError
from safeload.findings import escape

__all__ = ["path_text", "system_said"]


def path_text(value: Any, what: str) -> str:
    """Return a path as text.

    Args:
        value: `str`, `bytes` or `os.PathLike`.
        what: The argument's name, for the message.

    Raises:
        ArgumentError: it is something else, or holds a NUL character.
    """
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise ArgumentError(f"{what} is a {escape(type(value).__name__, 100)}, not a path")
    text = os.fsdecode(value)
    if "\0" in text:
        raise ArgumentError("a path cannot hold a NUL character", where=escape(text))
    return text


@contextmanager
def system_said() -> Iterator[None]:
    """Raise the system's errors about paths as ours, but for the three that leave safeload as they are.

    Raises:
        UnopenedError, NoDirectoryError: instead of any other OSError.
        ArgumentError: the path has half of a character, which no file system writes.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError, UnopenedError):
        raise
    except OSError as error:
        path = error.filename
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        kind = NoDirectoryError if isinstance(error, NotADirectoryError) else UnopenedError
        raise kind(error, text, where=escape(text)) from None
    except UnicodeEncodeError as error:
        raise ArgumentError("a path that the file system cannot write", where=escape(error.object, 1000)) from None
