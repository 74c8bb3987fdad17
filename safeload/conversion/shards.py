"""A checkpoint in several files, known by its index, read as one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safeload.conversion.job import Input
from safeload.conversion.names import named_tensors
from safeload.conversion.origin import Opened, open_tree
from safeload.conversion.plan import make_plan
from safeload.conversion.reading import plain_reader, storage_bytes
from safeload.conversion.tree import encode_tree
from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats.index_file import read_index
from safeload.formats.manifest import Origin
from safeload.policy import Policy
from safeload.program import StorageSpec
from safeload.source import Reading, Source

__all__ = ["opened_shards"]


@contextlib.contextmanager
def opened_shards(path: Path, reading: Reading, policy: Policy | None, *, strict: bool, limit: int | None) -> Iterator[Input]:
    """Open all files of an index as one state dict.

    Raises:
        MalformedError: a file does not hold what the index says.
        RefusedError: policy does not allow one of them.
    """
    table, paths = read_index(path)
    with contextlib.ExitStack() as stack:
        opened = [open_tree(stack.enter_context(Source.open(one, limits=reading.limits)), reading, policy, strict=strict) for one in paths]
        yield _joined(path, table, opened, reading, limit)


def _joined(path: Path, table: Mapping[str, str], opened: list[Opened], reading: Reading, limit: int | None) -> Input:
    root: dict[str, Any] = {}
    recorder = next((one.recorder for one in opened if one.recorder is not None), None)
    sources: dict[int, int] = {}
    for number, one in enumerate(opened):
        _merge(root, table, one)
        if recorder is not None and one.recorder is not None:
            recorder.recipes.update(one.recorder.recipes)
        sources.update((id(spec), number) for spec in one.storages)
    if set(root) != set(table):
        missing = next(iter(set(table) - set(root)), None) or next(iter(set(root) - set(table)))
        raise MalformedError(f"the index and the files do not name the same tensors: '{escape(missing, 80)}'", where=escape(str(path), 500))
    tree = encode_tree(root, recorder)
    tree.sources = sources
    plan = make_plan(tree, named_tensors(root), limit=limit)

    readers = [plain_reader(one.source) for one in opened]

    def expected(_number: int, spec: StorageSpec) -> Iterator[memoryview]:
        number = sources.get(id(spec), 0)
        source = opened[number].source
        return storage_bytes(readers[number], spec, reading.limits, source.name, check=False)

    origin = Origin(opened[0].contents.format, sum(one.source.size for one in opened))
    inert = tuple(dict.fromkeys(name for one in opened for name in one.report.unmodelled))
    dangers = tuple(dict.fromkeys(text for one in opened for text in one.dangers))
    files, script = [one.source for one in opened], any(one.script for one in opened)
    return Input(tree, plan, files, origin, {}, expected, script, name=escape(str(path), 500), inert=inert, dangers=dangers)


def _merge(root: dict[str, Any], table: Mapping[str, str], one: Opened) -> None:
    """Add the tensors of one file, each of which the index must place there."""
    name = Path(one.source.path or "").name
    if not isinstance(one.root, Mapping):
        raise MalformedError("a file of several that holds no mapping", where=one.source.name)
    for key, value in one.root.items():
        if type(key) is not str or table.get(key) != name:
            raise MalformedError(f"holds {escape(repr(key), 80)}, which the index does not place here", where=one.source.name)
        root[key] = value
