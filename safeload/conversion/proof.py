"""The proof that an output holds all that its source holds: other reader, same bytes, same tree."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from safeload.conversion.comparing import NotTheSameError
from safeload.conversion.reading import CHUNK
from safeload.conversion.rebuild import build_tree
from safeload.conversion.recorder import Recorder
from safeload.conversion.scalars import Json
from safeload.conversion.storages import Bound, Piece, bind, restored_chunks
from safeload.conversion.tree import Tree, encode_tree
from safeload.errors import MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats.manifest import KEY, Manifest
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.lean_dataclass import dataclass
from safeload.program import TensorSpec
from safeload.source import Reading, Source

__all__ = [
    "Place",
    "Shown",
    "compare_bytes",
    "compare_trees",
    "first_difference",
    "get_ready",
    "official_table",
    "own_table",
    "pieces_of",
]

_SMALL: Final = 32 << 20
Shown = dict[str, tuple[str, tuple[int, ...]]]
"""What a reader sees of a file: name → (the format's dtype, shape)."""


def get_ready(size: int) -> None:
    """Import what `official_table` needs for a file of that size: while the copy waits for a disk, it costs no time."""
    with contextlib.suppress(ImportError):
        importlib.import_module("safetensors" if size <= _SMALL else "safetensors.numpy")


def official_table(path: str, size: int) -> Shown | None:
    """What the reference reader sees, or None where it cannot be asked: a large file, and no numpy.

    Raises:
        NotTheSameError: it does not take the file.
    """
    import safetensors

    reference: Any = safetensors  # for a function without types
    try:
        if size <= _SMALL:
            data = Path(path).read_bytes()
            return {name: (found["dtype"], tuple(found["shape"])) for name, found in reference.deserialize(data)}
        try:
            with safetensors.safe_open(path, framework="np") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                return {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
        except ImportError:
            return None
    except safetensors.SafetensorError as error:
        raise NotTheSameError(f"the safetensors package does not read the output: {escape(str(error), 200)}") from error


def own_table(source: Source, reading: Reading) -> tuple[Mapping[str, TensorSpec], dict[str, str]]:
    """What our own strict reader sees of an output: its tensors and its metadata.

    Raises:
        MalformedError: it is not valid.
    """
    contents = SafetensorsFile().read(source, reading)
    if contents.error is not None or contents.table is None:
        raise MalformedError(contents.error or "no tensors", where=source.name).under("SL401")
    return contents.table, contents.metadata


def pieces_of(bound: Bound, number: int) -> tuple[Piece, ...]:
    """The entries of one storage of a manifest; none for a storage without bytes of its own."""
    region = bound.specs[number].region
    if region is None or not region.nbytes:
        return ()
    whole = bound.by_offset.get(region.offset)
    return whole.pieces if whole is not None else (Piece(region.offset, region.nbytes),)


def compare_bytes(what: str, left: Iterator[Any], right: Iterator[Any]) -> int:
    """Compare two runs of bytes that come in pieces of any length; return how many there are.

    Raises:
        NotTheSameError: with the place of the first difference.
    """
    a = b = memoryview(b"")
    position = 0
    while True:
        a = a or _next(left)
        b = b or _next(right)
        if not a or not b:
            if a or b:
                raise NotTheSameError(f"{what}: one side ends at byte {position}")
            return position
        count = min(len(a), len(b))
        if not _same(a[:count], b[:count]):
            raise NotTheSameError(f"{what}: bytes differ between {position} and {position + count}")
        a, b = a[count:], b[count:]
        position += count


def _same(a: memoryview, b: memoryview) -> bool:
    """Whether two views hold the same bytes. Views are compared item by item, a byte array with anything at once."""
    for one, other in ((a, b), (b, a)):
        if type(one.obj) is bytearray and len(one.obj) == len(one):
            return one.obj == other
    return bytearray(a) == b


def _next(pieces: Iterator[Any]) -> memoryview:
    for piece in pieces:
        if piece:
            return memoryview(piece).cast("B")
    return memoryview(b"")


def compare_trees(expected: Tree, manifest: Manifest, table: Mapping[str, TensorSpec], source: Source) -> Bound:
    """Build the tree of a manifest again, and compare it with the one that was meant.

    Returns:
        The manifest's storages; they are those of `expected`, one for one.

    Raises:
        NotTheSameError: with the first node that differs.
    """
    bound = bind(manifest, table, source.size)
    model = Recorder(manifest.walk, unknown="inert")
    try:
        again = encode_tree(build_tree(manifest, bound, model, source), model)
    except SafeloadError as error:
        raise NotTheSameError(f"the tree does not come back: {error.message}", where=error.where) from error
    left, right = expected.described(), again.described()
    for what, a, b in zip(("root", "nodes", "globals", "storages", "sharing", "bytes"), left, right, strict=True):
        if a != b:
            raise NotTheSameError(f"the tree comes back with other {what}{first_difference(a, b)}", where=f"!{KEY}")
    return bound


def first_difference(a: Json, b: Json) -> str:
    """Say where two tables differ first."""
    if not isinstance(a, list) or not isinstance(b, list):
        return f": {escape(str(a), 60)} and {escape(str(b), 60)}"
    for number, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return f": {number} is {escape(str(left), 150)}, and comes back as {escape(str(right), 150)}"
    return f": {len(a)} of them, and {len(b)} come back"


@dataclass(frozen=True, slots=True)
class Place:
    """One of the files of an output, opened again for the proof."""

    source: Source

    def chunks(self, pieces: tuple[Piece, ...]) -> Iterator[Any]:
        """The bytes of a storage, in its own order; each piece is good until the next is asked for."""
        scratch = bytearray(CHUNK)

        def read(offset: int, nbytes: int) -> bytearray:
            out = scratch if nbytes == len(scratch) else bytearray(nbytes)
            self.source.readinto(offset, memoryview(out), keep=False)
            return out

        return restored_chunks(read, pieces, CHUNK)
