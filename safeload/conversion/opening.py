"""A converted file, opened: what a load needs to give back the object that the original would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safeload.conversion.rebuild import build_tree
from safeload.conversion.storages import Bound, bind, restored
from safeload.errors import SafeloadError
from safeload.findings import Finding, Level
from safeload.formats import Contents
from safeload.formats.manifest import KEY, Manifest, find_manifest
from safeload.lean_dataclass import dataclass
from safeload.program import StorageSpec
from safeload.rules import RULES
from safeload.source import Limits, Source
from safeload.walk import Walk
from safeload.walk.model import Model

__all__ = ["Converted", "converted", "is_part", "sidecar_name", "value_findings"]


@dataclass(slots=True)
class Converted:
    """A safetensors file with a manifest. Its storages are read from `source`, which may be larger than the file.

    Attributes:
        manifest: Parsed.
        bound: Its storages and where they lie.
        source: Where they are read; the file's own source when none of them must be put together.
    """

    manifest: Manifest
    bound: Bound
    source: Source

    @property
    def walk(self) -> Walk:
        """For a `Model`: which globals the manifest names."""
        return self.manifest.walk

    @property
    def storages(self) -> list[StorageSpec]:
        """All storages, each to be read before the tree is built."""
        return self.bound.specs

    def build(self, model: Model) -> Any:
        """Build the object.

        Args:
            model: Made with `walk`; it says what becomes of globals that are not modelled, and makes the values.

        Raises:
            RefusedError, MalformedError, LimitError: as `build_tree`.
        """
        return build_tree(self.manifest, self.bound, model, self.source)


def sidecar_name(name: str) -> str:
    """The name of the file beside a converted one that holds its manifest, when that is too long for the header."""
    return f"{name.removesuffix('.safetensors')}.safeload.json"


def converted(contents: Contents, source: Source, *, directory: Path | None = None, limits: Limits | None = None) -> Converted | None:
    """Open what a safetensors file says of the object that it was made from.

    Args:
        contents: From the safetensors reader, without an error.
        source: The same file. A manifest that lies in a file beside it is read from there, unless it was already.
        directory: Where that would be; by default where `source` was opened.
        limits: Bounds.

    Returns:
        None for a file without a manifest.

    Raises:
        MalformedError: the manifest is not valid, or not that of this file.
        UnsupportedError: it is of an unknown version.
    """
    if contents.format != "safetensors" or contents.table is None:
        return None
    if directory is None and source.path is not None:
        directory = Path(source.path).parent
    manifest = find_manifest(contents, directory, limits or Limits())
    if manifest is None:
        return None
    bound = bind(manifest, contents.table, source.size)
    return Converted(manifest, bound, restored(source, bound))


def is_part(contents: Contents) -> bool:
    """Whether a file is one of several that an output consists of: its manifest speaks of tensors that are not in it."""
    manifest, table = contents.manifest, contents.table
    if manifest is None or table is None:
        return False
    names = [piece if type(piece) is str else piece["entry"] for found in manifest.storages for piece in found.get("of", ())]
    return any(name not in table for name in [*names, *manifest.payloads])


def value_findings(contents: Contents, source: Source) -> list[Finding]:
    """What only a build shows of a manifest: tensors outside their storage, calls with other arguments than are modelled.

    Args:
        contents: From `formats.read`, without an error.
        source: The same file.
    """
    if contents.manifest is None or is_part(contents):
        return []
    walk = contents.manifest.walk
    if any(found.level is not Level.NOTE for found in walk.findings):
        return []  # refused anyway, and values over what is not modelled would only break in its wake
    try:
        found = converted(contents, source)
        if found is not None:
            found.build(Model(walk, unknown="refuse"))
    except SafeloadError as error:
        rule = error.rule or "SL303"
        level = Level.WARNING if rule == "SL104" else RULES[rule].level
        return [Finding(rule=rule, level=level, message=error.message, member=KEY)]
    except MemoryError:
        return [Finding(rule="SL127", level=Level.ERROR, message="needs more memory than there is", member=KEY)]
    return []
