"""What is asked for, made into a job: one file, its weights only, or a checkpoint in several files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from safeload.conversion.job import Gate, Input, Job, Meter, Progress
from safeload.conversion.names import named_tensors
from safeload.conversion.origin import Opened, open_tree
from safeload.conversion.output import check_destination
from safeload.conversion.plan import make_plan
from safeload.conversion.reading import plain_reader, storage_bytes
from safeload.conversion.results import ConvertResult, Written
from safeload.conversion.shards import opened_shards
from safeload.conversion.tree import encode_tree
from safeload.conversion.weights import weights_of
from safeload.errors import UsageError
from safeload.formats.index_file import is_index
from safeload.formats.manifest import Origin
from safeload.policy import Policy
from safeload.program import StorageSpec
from safeload.source import Limits, Reading, Source

__all__ = ["SUFFIXES", "convert_file", "default_destination", "opened_input"]

SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar", ".th", ".model", ".npz", ".npy", ".jit", ".ptl", ".pt2")
"""Endings of what is converted: its destination has another in their place."""

_NAMED: Final = {"pytorch_model": "model"}


def default_destination(path: str | os.PathLike[str]) -> Path:
    """Where a converted file goes when nobody says: beside it, under the name that loaders look for."""
    source = Path(path)
    stem = source.name.removesuffix(".index.json")
    while stem.lower().endswith(SUFFIXES) and "." in stem[1:]:
        stem = stem.rpartition(".")[0]
    return source.with_name(f"{_NAMED.get(stem, stem)}.safetensors")


def _lossless(opened: Opened, reading: Reading, limit: int | None) -> Input:
    """Everything that a file holds."""
    tree = encode_tree(opened.root, opened.recorder)
    plan = make_plan(tree, named_tensors(opened.root), limit=limit)
    source = opened.source
    own = opened.contents.metadata if opened.contents.format == "safetensors" else {}

    read = plain_reader(source)

    def expected(_number: int, root: StorageSpec) -> Iterator[memoryview]:
        return storage_bytes(read, root, reading.limits, source.name, check=False)

    origin = Origin(opened.contents.format, source.size)
    return Input(tree, plan, [source], origin, dict(own), expected, opened.script)


@contextlib.contextmanager
def opened_input(
    f: Any, reading: Reading, policy: Policy | None, *, strict: bool, limit: int | None, weights: Path | None = None,
    transformers: bool = False,
) -> Iterator[Input]:  # fmt: skip
    """Open what is to be converted, or compared with what it was converted into.

    Args:
        f: The source.
        reading: Bounds.
        policy: What is allowed.
        strict: Whether globals that are not modelled refuse it.
        limit: Bytes of tensors in one file.
        weights: For its weights alone: where large storages may wait.
        transformers: Those that transformers looks for. The files of an index hold just those already.
    """
    if isinstance(f, (str, os.PathLike)) and is_index(f):
        if weights is not None and not transformers:
            raise UsageError("a checkpoint in several files is converted as it is: it has nothing but weights")
        with opened_shards(Path(f), reading, policy, strict=strict, limit=limit) as given:
            yield given
        return
    with Source.open(f, limits=reading.limits) as source:
        opened = open_tree(source, reading, policy, strict=strict)
        if weights is None and not opened.arrays:
            given = _lossless(opened, reading, limit)
        else:
            given = weights_of(opened, reading, weights or _room(), limit=limit, transformers=transformers)
        given.plan.left_out += opened.left_out
        given.name, given.inert, given.dangers = source.name, opened.report.unmodelled, opened.dangers
        yield given


def _room() -> Path:
    import tempfile

    return Path(tempfile.gettempdir())


def convert_file(
    f: Any,
    dst: Path | None,
    *,
    force: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    max_shard_size: int | None = None,
    weights_only: bool = False,
    transformers: bool = False,
    policy: Policy | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    gate: Gate | None = None,
) -> ConvertResult:
    """Convert one file losslessly. See `safeload.conversion.convert`."""
    reading = Reading(limits=limits or Limits())
    path = dst
    if path is None and isinstance(f, (str, os.PathLike)):
        path = default_destination(f)
    if path is None:
        raise UsageError("a destination is needed for what has no path")
    room = path.parent if weights_only or transformers else None
    with opened_input(f, reading, policy, strict=strict, limit=max_shard_size, weights=room, transformers=transformers) as given:
        total = sum(one.size for one in given.sources) + sum(entry.nbytes for entry in given.plan.entries)
        job = Job(given, path, reading, Meter(progress, total))
        if not dry_run:
            leftovers = job.leftovers()
            for destination in job.destinations:
                check_destination(destination, [source.stat for source in given.sources], force=force or destination in leftovers)
            files = job.run(force=force, gate=gate, leftovers=leftovers)
        else:
            files = [Written(path=str(part), size=size) for part, size in zip(job.paths, job.sizes, strict=True)]
        return ConvertResult(
            source=given.name, format=given.origin.format, source_sha256="" if dry_run else job.origin.sha256, files=tuple(files),
            kept=tuple(given.plan.kept), carried=tuple(given.plan.carried), inert=given.inert,
            left_out=tuple(given.plan.left_out), dry_run=dry_run, weights=given.weights, dangers=given.dangers,
        )  # fmt: skip
