"""A whole directory, file by file, beside the originals. What was done in an earlier run is not done again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from safeload.conversion.arrays import ARRAY_FORMATS
from safeload.conversion.converting import SUFFIXES, default_destination
from safeload.conversion.front import convert, source_digests
from safeload.conversion.results import ConvertResult
from safeload.directory import files_below
from safeload.errors import SafeloadError
from safeload.formats import detect
from safeload.formats.index_file import is_index, read_index
from safeload.formats.manifest import Manifest, find_manifest
from safeload.formats.not_a_model import diagnose
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.lean_dataclass import dataclass
from safeload.source import Limits, Reading, Source

__all__ = ["Outcome", "TreeItem", "convert_tree", "made_from"]

Outcome = str
"""converted | present | skipped | refused."""

_TAKEN: Final = frozenset({"torch-zip", "torchscript", "torch-legacy", "torch-tar", "pickle", "npy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeItem:
    """What became of one file below a directory.

    Attributes:
        path: The file.
        outcome: "converted"; "present": its converted file is there already; "skipped": it is no checkpoint, or belongs to
            one in several files; "refused": it could not be converted.
        why: One line, for the last two.
        result: Of a conversion, now.
        error: What was raised, for "refused".
    """

    path: str
    outcome: Outcome
    why: str = ""
    result: ConvertResult | None = None
    error: SafeloadError | None = None


def convert_tree(
    top: str | os.PathLike[str],
    *,
    force: bool = False,
    dry_run: bool = False,
    state_dict: bool = False,
    transformers: bool = False,
    strict: bool = False,
    max_shard_size: int | None = None,
    policy: Any = None,
    lock: Any = None,
    limits: Limits | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[TreeItem]:
    """Convert every checkpoint below a directory, each beside itself. Nothing is deleted; it can be stopped and run again.

    Args:
        top: The directory.
        force: Replace files that are there and were not made from these sources.
        dry_run: Write nothing.
        state_dict: As for `convert`.
        transformers: As for `convert`.
        strict: As for `convert`.
        max_shard_size: As for `convert`.
        policy: As for `convert`.
        lock: As for `convert`.
        limits: Bounds on reading.
        progress: Told the file, bytes done, and bytes in all of that file.

    Yields:
        One item per file, in a stable order, as it is done.
    """
    reading = Reading(limits=limits or Limits())
    parts: set[str] = set()
    given: set[Path] = set()
    found = list(files_below(top))
    # Indices first: what they name is read through them.
    for one in sorted(found, key=lambda one: (not is_index(one.path), one.path)):
        path = Path(one.path)
        if one.skipped is not None or one.problem is not None:
            yield TreeItem(path=one.path, outcome="refused" if one.problem else "skipped", why=one.problem or one.skipped or "")
            continue
        if os.path.realpath(path) in parts:
            yield TreeItem(path=one.path, outcome="skipped", why="a part of a checkpoint in several files")
            continue
        try:
            why = _not_taken(path, parts)
            if why is not None:
                yield TreeItem(path=one.path, outcome="skipped", why=why)
                continue
            destination = _destination(path, given)
            if _is_present(path, destination, reading, weights=state_dict or transformers):
                yield TreeItem(path=one.path, outcome="present", why=f"converted already: {destination.name}")
                continue

            def tell(done: int, total: int, name: str = one.path) -> None:
                if progress is not None:
                    progress(name, done, total)

            result = convert(
                path, destination, force=force, dry_run=dry_run, state_dict=state_dict and not is_index(path),
                transformers=transformers and not is_index(path), strict=strict, max_shard_size=max_shard_size, policy=policy, lock=lock,
                limits=limits, progress=tell,
            )  # fmt: skip
            yield TreeItem(path=one.path, outcome="converted", result=result)
        except SafeloadError as error:
            yield TreeItem(path=one.path, outcome="refused", why=error.message, error=error)
        except OSError as error:
            yield TreeItem(path=one.path, outcome="refused", why=f"cannot be read: {error.strerror}")


def _not_taken(path: Path, parts: set[str]) -> str | None:
    """Why a file is nothing to convert, or None. The files of an index are remembered."""
    if is_index(path):
        names = read_index(path)[1]
        if any(name.suffix == ".safetensors" for name in names):
            return "the index of safetensors files"
        parts.update(os.path.realpath(name) for name in names)
        return None
    with Source.open(path) as source:
        reader = detect(source)
        if (reader is None or reader.name == "zip") and path.name.lower().endswith(SUFFIXES) and diagnose(source)[2]:
            return None  # what is left of a checkpoint, or stands in its place: the conversion says what it is
    if reader is None:
        return "no model, by its content"
    return None if reader.name in _TAKEN or (reader.name == "zip" and path.suffix == ".npz") else f"a {reader.name} file"


def _destination(path: Path, given: set[Path]) -> Path:
    """The usual place; where two sources would share it, the second keeps its whole name."""
    destination = default_destination(path)
    if destination in given:
        destination = path.with_name(f"{path.name}.safetensors")
    given.add(destination)
    return destination


def made_from(place: Path) -> str | None:
    """The `sha256` of what a converted file says it was made from, all of it; None for a file that says nothing of the kind.

    That it says so proves nothing: `check` does.
    """
    try:
        manifest = _manifest(place, Reading())
    except (SafeloadError, OSError):
        return None
    return manifest.origin.sha256 if manifest is not None and not manifest.weights else None


def _manifest(place: Path, reading: Reading) -> Manifest | None:
    first = read_index(place)[1][0] if is_index(place) else place
    with Source.open(first, limits=reading.limits) as made:
        if not SafetensorsFile().claims(made):
            return None
        contents = SafetensorsFile().read(made, reading)
        return None if contents.error is not None else find_manifest(contents, place.parent, reading.limits)


def _is_present(path: Path, destination: Path, reading: Reading, *, weights: bool) -> bool:
    """Whether the destination was made from these very bytes, and holds all of them unless only the weights are wanted."""
    found = destination if destination.exists() else destination.with_name(f"{destination.name}.index.json")
    if not found.exists():
        return False
    manifest = _manifest(found, reading)
    # Arrays are converted one by one, whatever is asked for.
    if manifest is None or (manifest.weights and not weights and manifest.origin.format not in ARRAY_FORMATS):
        return False
    with_index = read_index(path)[1] if is_index(path) else [path]
    return source_digests(with_index, reading) == manifest.origin.sha256
