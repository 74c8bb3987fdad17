"""One file into one safetensors file: read, plan, copy, prove, and only then a name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from safeload.conversion.manifest import KEY, PLACEHOLDER, Origin, manifest_of, write_manifest
from safeload.conversion.names import named_tensors
from safeload.conversion.origin import Opened, open_tree
from safeload.conversion.output import Draft, check_destination
from safeload.conversion.plan import Plan, make_plan
from safeload.conversion.proof import NotTheSameError, Place, compare_bytes, compare_trees, official_table, own_table, pieces_of
from safeload.conversion.reading import Tape, plain_reader, storage_bytes
from safeload.conversion.results import ConvertResult, Written
from safeload.conversion.tree import Tree, encode_tree
from safeload.conversion.writing import copy_storages, header_bytes, write_payloads
from safeload.errors import UsageError
from safeload.policy import Policy
from safeload.program import StorageSpec
from safeload.source import Limits, Reading, Source
from safeload.trust.digest import file_digests

__all__ = ["Gate", "Progress", "convert_file", "default_destination"]

Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all, of reading the source and of proving the output together."""

Gate = Callable[[str, str], None]
"""Takes `sha256` and `sha256-tree` of the bytes that were converted; raises when they are not the pinned ones."""

_SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar", ".th", ".model", ".npz", ".npy", ".jit", ".ptl", ".pt2")
_NAMED: Final = {"pytorch_model": "model"}


def default_destination(path: str | os.PathLike[str]) -> Path:
    """Where a converted file goes when nobody says: beside it, under the name that loaders look for."""
    source = Path(path)
    stem = source.name
    while stem.lower().endswith(_SUFFIXES) and "." in stem[1:]:
        stem = stem.rpartition(".")[0]
    return source.with_name(f"{_NAMED.get(stem, stem)}.safetensors")


class _Meter:
    """Adds up what passed, and tells whoever wants to know."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, nbytes: int) -> None:
        self._done += nbytes
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def convert_file(
    f: Any,
    dst: Path | None,
    *,
    force: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    policy: Policy | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    gate: Gate | None = None,
) -> ConvertResult:
    """Convert one file losslessly. See `safeload.conversion.convert`."""
    reading = Reading(limits=limits or Limits())
    with Source.open(f, limits=reading.limits) as source:
        path = dst if dst is not None else default_destination(source.path) if source.path is not None else None
        if path is None:
            raise UsageError("a destination is needed for what has no path")
        if not dry_run:
            check_destination(path, source.stat, force=force)
        opened = open_tree(source, reading, policy, strict=strict)
        tree = encode_tree(opened.root, opened.recorder)
        plan = make_plan(tree, named_tensors(opened.root))
        job = _Job(opened, tree, plan, path, reading, _Meter(progress, source.size + sum(entry.nbytes for entry in plan.entries)))
        result = ConvertResult(
            source=source.name, format=opened.contents.format, kept=tuple(plan.kept), carried=tuple(plan.carried),
            inert=opened.report.unmodelled, dry_run=dry_run,
        )  # fmt: skip
        if dry_run:
            return replace(result, files=(Written(path=str(path), size=job.size),))
        return job.run(result, force=force, gate=gate)


class _Job:
    """One output file."""

    def __init__(self, opened: Opened, tree: Tree, plan: Plan, path: Path, reading: Reading, meter: _Meter) -> None:
        self.opened, self.tree, self.plan, self.path, self.reading, self.meter = opened, tree, plan, path, reading, meter
        self.origin = Origin(opened.contents.format, opened.source.size)
        self.header = self._header(self.origin)
        self.size = len(self.header) + sum(entry.nbytes for entry in plan.entries)

    def _header(self, origin: Origin) -> bytes:
        manifest = write_manifest(self.tree, self.plan, origin, script=self.opened.script)
        own = self.opened.contents.metadata if self.opened.contents.format == "safetensors" else {}
        return header_bytes(self.plan.entries, {**own, "format": "pt", KEY: manifest})

    def run(self, result: ConvertResult, *, force: bool, gate: Gate | None) -> ConvertResult:
        source = self.opened.source
        mode = source.stat.st_mode if source.stat is not None else None
        with Draft(self.path, self.size, force=force, mode=mode) as draft:
            tape = Tape(source, self.meter)
            base = len(self.header)
            copy_storages(tape, self.plan.groups, lambda entry: (draft, base + entry.offset), self.reading.limits, source.name)
            write_payloads(draft, base, self.plan.entries)
            sha256, tree = tape.finish()
            if gate is not None:
                gate(sha256, tree)
            self.origin = replace(self.origin, sha256=sha256, tree=tree)
            header = self._header(self.origin)
            if len(header) != base or PLACEHOLDER in (sha256, tree):
                raise NotTheSameError("the header changed its length")
            draft.write(0, header)
            draft.flush()
            digests = self._prove(draft)
            draft.commit()
        written = Written(path=str(self.path), size=self.size, sha256=digests[0], sha256_tree=digests[1])
        return replace(result, source_sha256=sha256, source_sha256_tree=tree, files=(written,))

    def _prove(self, draft: Draft) -> tuple[str, str]:
        """Open what was written again, and compare all of it."""
        shown = {entry.name: (entry.dtype, entry.shape) for entry in self.plan.entries}
        seen = official_table(draft.reading_path, self.size)
        if seen is not None and seen != shown:
            raise NotTheSameError("the safetensors package sees other tensors than were written")
        with Source.open(draft.reading_path, name=str(self.path), limits=self.reading.limits) as source:
            table, metadata = own_table(source, self.reading)
            manifest = manifest_of(metadata)
            if manifest is None or manifest.origin != self.origin or len(table) != len(shown):
                raise NotTheSameError("the manifest does not come back")
            bound = compare_trees(self.tree, manifest, table, source)
            place = Place(source)
            for number, root in first_of_each(self.tree):
                expected = storage_bytes(plain_reader(self.opened.source), root, self.reading.limits, self.opened.source.name)
                self.meter(compare_bytes(f"storage {number}", expected, place.chunks(pieces_of(bound, number))))
            return file_digests(source)


def first_of_each(tree: Tree) -> list[tuple[int, StorageSpec]]:
    """Every storage that has bytes of its own, once, with its number."""
    found: dict[str, tuple[int, StorageSpec]] = {}
    for number, spec in enumerate(tree.storages):
        if spec.region is not None:
            found.setdefault(spec.key, (number, spec))
    return list(found.values())
