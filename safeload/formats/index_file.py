"""The index of a checkpoint in several files: JSON that says which tensor lies in which of the files beside it.

As transformers and the hub write it: `{"metadata": {…}, "weight_map": {"layer.weight": "model-00001-of-00002.safetensors", …}}`; Keras
writes lists of files.
It names files, so every name must be that of a file beside it. What those hold is for whoever opens them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from safeload.errors import LimitError, MalformedError, SafeloadError, UnsupportedError
from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.source import Limits, Reading, Source
from safeload.walk import finding

__all__ = ["IndexFile", "files_of", "is_index", "read_index"]

SUFFIX: Final = ".index.json"
_LARGEST: Final = 64 << 20
_FILES: Final = 10_000
_HEAD: Final = 1 << 16
_LONGEST: Final = 255  # characters of a file's name: no file system takes more


class IndexFile:
    """The format "index"."""

    name: Final = "index"

    def claims(self, source: Source) -> bool:
        """Whether a JSON object begins here that has a "weight_map" early on."""
        if source.size > _LARGEST:
            return False
        head = source.head(_HEAD)
        return head.lstrip(b" \t\r\n")[:1] == b"{" and b'"weight_map"' in head

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the table, and nothing of what it names."""
        contents = Contents(format=self.name)
        try:
            contents.shards = _table(source, reading.limits)
        except SafeloadError as error:
            contents.error = error.message
            contents.findings.append(finding(error.rule or "SL501", error.message))
        return contents


def is_index(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an index, by its name: what is to be written under it is known by nothing else."""
    return os.fspath(path).endswith(SUFFIX)


def read_index(path: Path, limits: Limits | None = None) -> tuple[dict[str, str], list[Path]]:
    """Read an index.

    Returns:
        The name of the file of each tensor, and the files in the order in which it names them.

    Raises:
        MalformedError: it is no index, or names files outside its directory.
    """
    with Source.open(path) as source:
        try:
            table = _table(source, limits or Limits())
        except SafeloadError as error:
            raise error.at(source.name) from None
    return table, [path.with_name(name) for name in dict.fromkeys(table.values())]


def files_of(contents: Contents, source: Source, *, part: bool = False) -> list[Path]:
    """The paths of the files of an index, in the order in which it names them.

    Args:
        contents: What `IndexFile` found.
        source: The same file.
        part: It was itself opened as one of the files of an index.

    Raises:
        MalformedError: an index inside an index, which might be the same one.
        UnsupportedError: the index was not opened by a path, so nothing lies beside it.
    """
    if part:
        raise MalformedError("an index, named as one of the files of an index", where=source.name).under("SL401")
    if source.path is None:
        raise UnsupportedError("an index of other files, which lie beside it: pass its path", where=source.name)
    return [Path(source.path).with_name(name) for name in dict.fromkeys((contents.shards or {}).values())]


def _pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice: of two, one reader takes the first and another the last."""
    table = dict(found)
    if len(table) != len(found):
        raise MalformedError("a name stands twice in one object").under("SL401")
    return table


def _flat(table: Any) -> Any:
    """Keras names a list of files for a group of variables; each becomes an entry of its own."""
    if not isinstance(table, dict) or not any(isinstance(names, list) for names in table.values()):
        return table
    flat: dict[str, Any] = {}
    for key, names in table.items():
        flat |= {f"{key}/{number}": name for number, name in enumerate(names)} if isinstance(names, list) else {key: names}
    return flat


def _table(source: Source, limits: Limits) -> dict[str, str]:
    if source.size > _LARGEST:
        raise LimitError(f"an index of {source.size} bytes; at most {_LARGEST} are read")
    try:
        found = json.loads(source.read(0, source.size), object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        raise MalformedError("not valid JSON").under("SL501") from None
    table = _flat(found.get("weight_map")) if isinstance(found, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise MalformedError("no index of a checkpoint: it has no weight_map").under("SL501")
    names = list(dict.fromkeys(table.values()))
    if len(names) > _FILES or len(table) > limits.members:
        raise LimitError(f"an index of {len(table)} tensors in {len(names)} files; at most {limits.members} in {_FILES} are read")
    for name in names:
        if not name or name.startswith(".") or len(name) > _LONGEST or any(char in name for char in "/\\\0:"):
            raise MalformedError(f"the index names '{escape(name, 80)}', which is no file beside it").under("SL210")
    return table
