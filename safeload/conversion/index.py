"""The index of a checkpoint in several files: which tensor lies in which of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.findings import escape
from safeload.source import Source

__all__ = ["is_index", "read_index"]

SUFFIX: Final = ".index.json"
_LARGEST: Final = 64 << 20
_FILES: Final = 10_000


def is_index(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an index, by its name: an index has no magic."""
    return os.fspath(path).endswith(SUFFIX)


def read_index(path: Path) -> tuple[dict[str, str], list[Path]]:
    """Read an index.

    Returns:
        The name of the file of each tensor, and the files in the order in which it names them.

    Raises:
        MalformedError: it is no index, or names files outside its directory.
    """
    where = escape(str(path), 500)
    with Source.open(path) as source:
        if source.size > _LARGEST:
            raise LimitError(f"an index of {source.size} bytes; at most {_LARGEST} are read", where=where)
        data = source.read(0, source.size)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedError("not valid JSON", where=where).under("SL501") from None
    table = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise MalformedError("no index of a checkpoint: it has no weight_map", where=where).under("SL501")
    names = list(dict.fromkeys(table.values()))
    if len(names) > _FILES:
        raise LimitError(f"an index of {len(names)} files; at most {_FILES} are read", where=where)
    for name in names:
        if not name or name.startswith(".") or any(char in name for char in "/\\\0:"):
            raise MalformedError(f"the index names '{escape(name, 80)}', which is no file beside it", where=where).under("SL210")
    return table, [path.with_name(name) for name in names]
