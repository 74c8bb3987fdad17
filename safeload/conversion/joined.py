"""Several safetensors files read as one: their bytes behind one another, their tensors in one table."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safeload.conversion.proof import own_table
from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.lean_dataclass import dataclass, replace
from safeload.program import Region, TensorSpec
from safeload.source import Reading, Source

__all__ = ["Joined", "join", "open_joined"]


@dataclass(slots=True)
class Joined:
    """One or several files of one output.

    Attributes:
        source: All of their bytes; of a single file its own source.
        table: All of their tensors.
        metadata: Of each.
        sources: Each file by itself.
    """

    source: Source
    table: dict[str, TensorSpec]
    metadata: list[dict[str, str]]
    sources: list[Source]


class _Chain:
    """The bytes of several sources behind one another; with `keep`, each keeps what is read of it as part of its snapshot."""

    def __init__(self, sources: Sequence[Source], *, keep: bool = False) -> None:
        self._sources, self._keep = sources, keep
        self._starts: list[int] = []
        self.size = 0
        for source in sources:
            self._starts.append(self.size)
            self.size += source.size

    def into(self, offset: int, view: memoryview, *, keep: bool = False) -> int:
        done = 0
        while done < len(view) and offset + done < self.size:
            index = bisect.bisect_right(self._starts, offset + done) - 1
            source, at = self._sources[index], offset + done - self._starts[index]
            part = view[done : done + min(len(view) - done, source.size - at)]
            source.readinto(at, part, keep=keep and self._keep)
            done += len(part)
        return done

    def close(self) -> None:
        """The sources are closed by whoever opened them."""


@contextlib.contextmanager
def open_joined(paths: Sequence[str | Path], reading: Reading, names: Sequence[str] | None = None) -> Iterator[Joined]:
    """Open the files of one output.

    Raises:
        MalformedError: one is not valid, or two have a tensor of the same name.
    """
    with contextlib.ExitStack() as stack:
        shown = names if names is not None else [None] * len(paths)
        sources = [
            stack.enter_context(Source.open(path, name=name, limits=reading.limits)) for path, name in zip(paths, shown, strict=True)
        ]
        table: dict[str, TensorSpec] = {}
        metadata = []
        start = 0
        for source in sources:
            found, facts = own_table(source, reading)
            metadata.append(facts)
            _add(table, found, start, source.name)
            start += source.size
        whole = sources[0] if len(sources) == 1 else Source(_Chain(sources), sources[0].name)
        yield Joined(whole, table, metadata, sources)


def join(parts: Sequence[tuple[Source, Contents]], name: str) -> tuple[Source, Contents]:
    """Put safetensors files behind one another.

    Args:
        parts: Each file, and what its reader found, without an error.
        name: For messages.

    Returns:
        All of the bytes (a digest of one of the files is taken from what is read of them here), and what a reader would have found
        in one file: places count from the start of the first.

    Raises:
        MalformedError: two have a tensor of the same name.
    """
    table: dict[str, TensorSpec] = {}
    start = 0
    for source, contents in parts:
        _add(table, contents.table or {}, start, source.name)
        start += source.size
    joined = Contents(format="safetensors", table=table, metadata=dict(parts[0][1].metadata), manifest=parts[0][1].manifest)
    joined.storages = [spec.storage for spec in table.values()]
    return Source(_Chain([source for source, _ in parts], keep=True), name), joined


def _add(table: dict[str, TensorSpec], found: Mapping[str, TensorSpec], start: int, where: str) -> None:
    for name, spec in found.items():
        if name in table:
            raise MalformedError(f"two files have a tensor named '{escape(name, 60)}'", where=where).under("SL401")
        table[name] = _moved(spec, start) if start else spec


def _moved(spec: TensorSpec, by: int) -> TensorSpec:
    region = spec.storage.region
    if region is None:
        return spec
    place = Region(region.offset + by, region.nbytes, member=region.member)
    return TensorSpec(replace(spec.storage, region=place), spec.dtype, spec.shape, spec.stride)
