"""A converted file, opened: what a load needs to give back the object that the original would give."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safeload.conversion.manifest import KEY, SIDECAR_KEY, Manifest, manifest_of
from safeload.conversion.rebuild import build_tree
from safeload.conversion.storages import Bound, bind, restored
from safeload.errors import LimitError, MalformedError
from safeload.formats import Contents, StreamPart
from safeload.program import StorageSpec
from safeload.source import Limits, Source
from safeload.walk import Walk
from safeload.walk.model import Model

__all__ = ["Converted", "converted", "sidecar_name"]

ReadSidecar = Callable[[str, int], bytes]
"""Takes the sidecar's name and its size; returns its bytes."""


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


def converted(contents: Contents, source: Source, *, sidecar: ReadSidecar | None = None, limits: Limits | None = None) -> Converted | None:
    """Open what a safetensors file says of the object that it was made from.

    Args:
        contents: From the safetensors reader, without an error.
        source: The same file.
        sidecar: Reads the file beside it, when the manifest lies there.
        limits: Bounds.

    Returns:
        None for a file without a manifest.

    Raises:
        MalformedError: the manifest is not valid, or not that of this file.
        UnsupportedError: it is of an unknown version.
    """
    if contents.format != "safetensors" or contents.table is None:
        return None
    beside = contents.metadata.get(SIDECAR_KEY)
    data = None if beside is None else _beside(beside, sidecar, limits or Limits())
    manifest = manifest_of(contents.metadata, data)
    if manifest is None:
        return None
    bound = bind(manifest, contents.table, source.size)
    return Converted(manifest, bound, restored(source, bound))


def _beside(text: str, read: ReadSidecar | None, limits: Limits) -> bytes:
    """The bytes of the sidecar, which must be those that the header names by digest: "name sha256 size"."""
    parts = text.split(" ")
    if len(parts) != 3 or not parts[2].isdigit() or len(parts[2]) > 12 or "/" in parts[0] or "\\" in parts[0] or parts[0].startswith("."):
        raise MalformedError("the header names no sidecar", where=f"!{SIDECAR_KEY}").under("SL401")
    name, digest, size = parts[0], parts[1], int(parts[2])
    if size > limits.header_bytes:
        raise LimitError(f"a sidecar of {size} bytes; at most {limits.header_bytes} are read", where=f"!{SIDECAR_KEY}").under("SL127")
    if read is None:
        raise MalformedError(f"the manifest lies in {name}, which is not at hand", where=f"!{SIDECAR_KEY}").under("SL401")
    data = read(name, size)
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise MalformedError(f"{name} is not the sidecar of this file: its digest differs", where=f"!{SIDECAR_KEY}").under("SL601")
    return data
