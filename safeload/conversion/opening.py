"""A converted file, opened: what a load needs to give back the object that the original would give."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeload.conversion.manifest import KEY, SIDECAR_KEY, Manifest, manifest_of
from safeload.conversion.rebuild import build_tree
from safeload.conversion.storages import Bound, bind, restored
from safeload.errors import LimitError, MalformedError
from safeload.findings import escape
from safeload.formats import Contents, StreamPart
from safeload.program import StorageSpec
from safeload.source import Limits, Source
from safeload.walk import Walk
from safeload.walk.model import Model

__all__ = ["Converted", "beside_manifest", "converted", "sidecar_name"]


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

    @property
    def part(self) -> StreamPart:
        """What a report says of it: the same as of the stream that it came from."""
        return StreamPart(member=KEY, offset=0, data=memoryview(b""), walk=self.manifest.walk)

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
        source: The same file. A manifest that lies in a file beside it is read from there.
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
    manifest = manifest_of(contents.metadata, beside_manifest(contents.metadata, directory, limits or Limits()))
    if manifest is None:
        return None
    bound = bind(manifest, contents.table, source.size)
    return Converted(manifest, bound, restored(source, bound))


def beside_manifest(metadata: Mapping[str, str], directory: Path | None, limits: Limits) -> bytes | None:
    """The bytes of the sidecar, which must be those that the header names by digest; None when the header names none.

    Raises:
        MalformedError: it is missing, or is another one.
    """
    text = metadata.get(SIDECAR_KEY)
    if text is None:
        return None
    parts = text.rsplit(" ", 2)
    if (
        len(parts) != 3
        or not re.fullmatch("[0-9]{1,12}", parts[2])
        or not parts[0]
        or any(char in parts[0] for char in "/\\:\0")
        or parts[0][0] == "."
    ):
        raise MalformedError("the header names no sidecar", where=f"!{SIDECAR_KEY}").under("SL401")
    name, digest, size = parts[0], parts[1], int(parts[2])
    shown = escape(name, 100)
    if size > limits.header_bytes:
        raise LimitError(f"a sidecar of {size} bytes; at most {limits.header_bytes} are read", where=f"!{SIDECAR_KEY}").under("SL127")
    try:
        if directory is None:
            raise FileNotFoundError
        with Source.open(directory / name) as source:
            data = source.read(0, size, "the sidecar") if source.size == size else b""
    except OSError:
        hint = "the file beside it belongs to it: fetch both"
        raise MalformedError(f"its manifest lies in '{shown}', which is not there", where=f"!{SIDECAR_KEY}", hint=hint).under(
            "SL401"
        ) from None
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise MalformedError(f"'{shown}' is not the sidecar of this file: its digest differs", where=f"!{SIDECAR_KEY}").under("SL601")
    return data
