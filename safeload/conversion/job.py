"""One conversion, from a plan to files that have their names: copy, prove, commit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from safeload.background import Worker
from safeload.conversion.comparing import Alike, NotTheSameError, compare_ranges, ranges_of
from safeload.conversion.joined import Joined, open_joined
from safeload.conversion.manifest import write_manifest
from safeload.conversion.opening import sidecar_name
from safeload.conversion.output import Draft
from safeload.conversion.plan import Entry, Plan
from safeload.conversion.proof import Place, compare_bytes, compare_trees, get_ready, official_table, pieces_of
from safeload.conversion.reading import Tape, must_unpack
from safeload.conversion.results import Written
from safeload.conversion.tree import Tree
from safeload.conversion.writing import copy_storages, header_bytes, write_payloads
from safeload.errors import SafeloadError
from safeload.findings import escape
from safeload.formats.manifest import KEY, SIDECAR_KEY, Manifest, Origin, manifest_of
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.lean_dataclass import dataclass, field, replace
from safeload.program import StorageSpec
from safeload.source import Reading, Source
from safeload.trust.digest import tree_digest

__all__ = ["SIDECAR_BYTES", "Gate", "Input", "Job", "Meter", "Progress", "Proof", "prove", "together"]

SIDECAR_BYTES: Final = 8 << 20
"""A manifest that is longer than this lies beside the file: readers hold a whole header in memory."""

_WORTH_A_THREAD: Final = 8 << 20

Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all, of reading the source and of proving the output together."""

Gate = Callable[[str], None]
"""Takes the `sha256` of the bytes that were converted; raises when they are not the pinned ones."""


class Meter:
    """Adds up what passed, and tells whoever wants to know."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, nbytes: int) -> None:
        """Add bytes that passed."""
        self._done += nbytes
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


@dataclass(slots=True)
class Input:
    """What is converted.

    Attributes:
        tree: The object.
        plan: What becomes of it.
        sources: The files that it lies in; `Tree.sources` says which storage lies where.
        origin: What the manifest says of them; digests are filled in.
        extra: Metadata that is kept.
        expected: The bytes that each storage of the tree must have, by its number.
        script: Whether the object is TorchScript's.
        weights: Whether it is the weights only.
        name: What messages call it.
        inert: Globals that are not modelled.
        dangers: What a loader that runs the sources would do, of that what is known to be dangerous.
    """

    tree: Tree
    plan: Plan
    sources: Sequence[Source]
    origin: Origin
    extra: dict[str, str]
    expected: Callable[[int, StorageSpec], Iterator[memoryview]]
    script: bool = False
    weights: bool = False
    name: str = ""
    inert: tuple[str, ...] = ()
    dangers: tuple[str, ...] = ()


class Job:
    """Writes the files of one output.

    Args:
        given: What is converted.
        path: Of the output; its parts are named after it when there are several.
        reading: Bounds.
        meter: Told of progress.
    """

    def __init__(self, given: Input, path: Path, reading: Reading, meter: Meter) -> None:
        self.given, self.path, self.reading, self.meter = given, path, reading, meter
        self.paths = _part_paths(path, len(given.plan.parts))
        self.origin = given.origin
        first = self._manifest().encode("ascii")
        self.sidecar: Path | None = None
        if len(self.paths) > 1 or len(first) > SIDECAR_BYTES:
            self.sidecar = path.with_name(sidecar_name(path.name))
        self.index = path.with_name(f"{path.name}.index.json") if len(self.paths) > 1 else None
        self.headers = self._headers(first)
        self.sizes = [
            len(header) + sum(entry.nbytes for entry in part) for header, part in zip(self.headers, given.plan.parts, strict=True)
        ]
        self.place: dict[int, tuple[int, int]] = {
            id(entry): (number, len(header) + entry.offset)
            for number, (header, part) in enumerate(zip(self.headers, given.plan.parts, strict=True))
            for entry in part
        }

    @property
    def destinations(self) -> list[Path]:
        """Every file that will be there."""
        return [*self.paths, *(path for path in (self.sidecar, self.index) if path is not None)]

    def leftovers(self) -> frozenset[Path]:
        """Files that a run left behind that was killed before it named the last one, by which an output is known: those are replaced."""
        last = self.index or self.paths[0]
        others = [path for path in self.destinations if path != last and os.path.lexists(path)]
        if os.path.lexists(last) or self.sidecar is None:
            return frozenset()
        return frozenset(path for path in others if _is_part(path, self.sidecar))

    def _manifest(self) -> str:
        return write_manifest(self.given.tree, self.given.plan, self.origin, script=self.given.script, weights=self.given.weights)

    def _headers(self, manifest: bytes) -> list[bytes]:
        if self.sidecar is not None:
            about = {SIDECAR_KEY: f"{self.sidecar.name} {hashlib.sha256(manifest).hexdigest()} {len(manifest)}"}
        else:
            about = {KEY: manifest.decode("ascii")}
        return [header_bytes(part, {**self.given.extra, "format": "pt", **about}) for part in self.given.plan.parts]

    def run(self, *, force: bool, gate: Gate | None, leftovers: frozenset[Path] = frozenset()) -> list[Written]:
        """Write, prove and name all files.

        Args:
            force: Replace what is there.
            gate: Asked once the source was read.
            leftovers: What is replaced in any case.

        Returns:
            What was written, the tensors' files first.

        Raises:
            SafeloadError: nothing was changed.
        """
        stat = self.given.sources[0].stat
        mode = stat.st_mode if stat is not None else None
        with contextlib.ExitStack() as stack:
            small = sum(self.sizes) < _WORTH_A_THREAD
            flusher = stack.enter_context(Worker(alone=small))
            if not small:
                stack.enter_context(Worker()).submit(lambda: get_ready(max(self.sizes)))
            drafts = [
                stack.enter_context(Draft(path, size, force=force or path in leftovers, mode=mode, flusher=flusher))
                for path, size in zip(self.paths, self.sizes, strict=True)
            ]
            self._copy(drafts, gate)
            manifest = self._manifest().encode("ascii")
            again = self._headers(manifest)
            if [len(header) for header in again] != [len(header) for header in self.headers]:
                raise NotTheSameError("the header changed its length")
            for draft, header in zip(drafts, again, strict=True):
                draft.write(0, header)
            more = self._beside(stack, manifest, force=force, leftovers=leftovers, mode=mode)
            digests = self._prove(drafts, manifest)
            beside = [(draft, _digest(draft, self.reading)) for draft in more]
            _commit([*drafts, *more])
        written = [Written(path=str(path), size=size, sha256_tree=tree)
                   for path, size, tree in zip(self.paths, self.sizes, digests, strict=True)]  # fmt: skip
        return written + [Written(path=str(draft.path), size=draft.size, sha256_tree=tree) for draft, tree in beside]

    def _copy(self, drafts: list[Draft], gate: Gate | None) -> None:
        """Copy everything, hashing the sources on the way."""

        def place(entry: Entry) -> tuple[Draft, int]:
            number, at = self.place[id(entry)]
            return drafts[number], at

        digests = []
        for number, source in enumerate(self.given.sources):
            groups = [group for group in self.given.plan.groups if self.given.tree.sources.get(id(group[0]), 0) == number]
            with Tape(source, self.meter) as tape:
                copy_storages(tape, groups, place, self.reading.limits, source.name)
                digests.append(tape.finish())
        for draft, header, part in zip(drafts, self.headers, self.given.plan.parts, strict=True):
            write_payloads(draft, len(header), part)
        sha256 = together(digests)
        if gate is not None:
            gate(sha256)
        self.origin = replace(self.origin, sha256=sha256)

    def _beside(
        self, stack: contextlib.ExitStack, manifest: bytes, *, force: bool, leftovers: frozenset[Path], mode: int | None
    ) -> list[Draft]:
        """The small files: the manifest when it does not lie in the header, and the index of several files, last."""
        texts: list[tuple[Path, bytes]] = []
        if self.sidecar is not None:
            texts.append((self.sidecar, manifest))
        if self.index is not None:
            where = {entry.name: path.name for path, part in zip(self.paths, self.given.plan.parts, strict=True) for entry in part}
            total = sum(entry.nbytes for part in self.given.plan.parts for entry in part)
            value = {"metadata": {"total_size": total}, "weight_map": where}
            texts.append((self.index, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("ascii")))
        drafts = []
        for path, data in texts:
            draft = stack.enter_context(Draft(path, len(data), force=force or path in leftovers, mode=mode))
            draft.write(0, data)
            drafts.append(draft)
        return drafts

    def _prove(self, drafts: list[Draft], manifest: bytes) -> list[str]:
        """Open what was written again, and compare all of it, while it is brought to the disk."""
        for draft in drafts:
            draft.start_flush()
        for draft, size, part in zip(drafts, self.sizes, self.given.plan.parts, strict=True):
            seen = official_table(draft.reading_path, size)
            if seen is not None and seen != {entry.name: (entry.dtype, entry.shape) for entry in part}:
                raise NotTheSameError("the safetensors package sees other tensors than were written", where=escape(str(draft.path), 500))
        with open_joined([draft.reading_path for draft in drafts], self.reading, [str(path) for path in self.paths]) as joined:
            found = manifest_of(joined.metadata[0], manifest if self.sidecar is not None else None)
            if found is None or found.origin != self.origin or len(joined.table) != len(self.place):
                raise NotTheSameError("the manifest does not come back")
            return prove(self.given, found, joined, self.meter, digest=True).trees


def _digest(draft: Draft, reading: Reading) -> str:
    """The `sha256-tree` of a draft, as it lies there now."""
    with Source.open(draft.reading_path, limits=reading.limits) as source:
        return tree_digest(source)


@dataclass(slots=True)
class Proof:
    """What was compared.

    Attributes:
        storages: How many storages.
        nbytes: How many bytes of them.
        trees: The `sha256-tree` of each file of the output, when asked for.
    """

    storages: int = 0
    nbytes: int = 0
    trees: list[str] = field(default_factory=list)


def prove(given: Input, manifest: Manifest, joined: Joined, meter: Meter, *, digest: bool = False) -> Proof:
    """Compare an output with what it was made from: the tree, and the bytes of every storage.

    Args:
        given: What it was made from.
        manifest: Of the output, read from there.
        joined: The output's files.
        meter: Told of bytes that were compared.
        digest: Also hash the files of the output.

    Raises:
        NotTheSameError: with the first difference.
    """
    bound = compare_trees(given.tree, manifest, joined.table, joined.source)
    place, proof = Place(joined.source), Proof()
    seen: set[tuple[int, str]] = set()
    alike: list[Alike] = []
    others: list[tuple[int, StorageSpec]] = []
    for number, root in enumerate(given.tree.storages):
        group = given.tree.group(root)
        if root.region is None or group in seen:
            continue
        seen.add(group)
        source = given.sources[group[0]]
        plain = not given.weights and not must_unpack(root)
        ranges = ranges_of(root, pieces_of(bound, number), source, f"storage {number}") if plain else None
        if ranges is None:
            others.append((number, root))
        alike += ranges or ()
    start = 0
    for source in joined.sources:
        own = [replace(one, start=one.start - start) for one in alike if start <= one.start < start + source.size]
        proof.trees.append(compare_ranges(source, own, digest=digest))
        start += source.size
        meter(sum(one.nbytes for one in own))
    proof.nbytes = sum(one.nbytes for one in alike)
    for number, root in others:
        count = compare_bytes(f"storage {number}", given.expected(number, root), place.chunks(pieces_of(bound, number)))
        meter(count)
        proof.nbytes += count
    proof.storages = len(seen)
    return proof


def _is_part(path: Path, sidecar: Path) -> bool:
    """Whether a file is a part of an output with this sidecar, or the sidecar: written here, whoever started it."""
    try:
        if path == sidecar:
            return manifest_of({}, path.read_bytes()) is not None
        with Source.open(path) as source:
            reader = SafetensorsFile()
            return reader.claims(source) and reader.read(source, Reading()).metadata.get(SIDECAR_KEY, "").startswith(f"{sidecar.name} ")
    except (SafeloadError, OSError):
        return False


def _part_paths(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    stem = path.name.removesuffix(".safetensors")
    return [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.safetensors") for number in range(1, count + 1)]


def together(digests: list[str]) -> str:
    """The digest by which a manifest names its source; several files have one over their digests in order, each on a line."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def _commit(drafts: list[Draft]) -> None:
    """Name all files; what an output consists of is known by the last of them, so a part alone means nothing."""
    named: list[Draft] = []
    try:
        # A sidecar before the single file that names it; several files before their index.
        for draft in drafts if len(drafts) != 2 else reversed(drafts):
            draft.commit()
            named.append(draft)
    except SafeloadError:
        for draft in named:
            if not draft.force:
                with contextlib.suppress(OSError):
                    draft.path.unlink()
        raise
