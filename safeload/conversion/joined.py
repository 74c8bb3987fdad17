"""Several safetensors files read as one: their bytes behind one another, their tensors in one table."""

from __future__ import annotations

import bisect
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safeload.conversion.index import read_index
from safeload.conversion.opening import Converted, converted
from safeload.conversion.proof import own_table
from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats import Contents
from safeload.program import Region, TensorSpec
from safeload.source import Limits, Reading, Source

__all__ = ["Joined", "open_index", "open_joined"]


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
    """The bytes of several sources behind one another."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._starts: list[int] = []
        self.size = 0
        for source in sources:
            self._starts.append(self.size)
            self.size += source.size

    def into(self, offset: int, view: memoryview) -> int:
        done = 0
        while done < len(view) and offset + done < self.size:
            index = bisect.bisect_right(self._starts, offset + done) - 1
            source, at = self._sources[index], offset + done - self._starts[index]
            part = view[done : done + min(len(view) - done, source.size - at)]
            source.readinto(at, part, keep=False)
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
            for name, spec in found.items():
                if name in table:
                    raise MalformedError(f"two files have a tensor named '{escape(name, 60)}'", where=source.name).under("SL401")
                table[name] = _moved(spec, start) if start else spec
            start += source.size
        whole = sources[0] if len(sources) == 1 else Source(_Chain(sources), sources[0].name)
        yield Joined(whole, table, metadata, sources)


@contextlib.contextmanager
def open_index(path: str | os.PathLike[str], limits: Limits | None = None) -> Iterator[tuple[Contents, Source, Converted | None]]:
    """Open an output in several files as one safetensors file.

    Args:
        path: Its index.
        limits: Bounds.

    Yields:
        What a reader would have found in one file, all of the bytes, and the object that they were made from.

    Raises:
        MalformedError: the index or a file is not valid, or the files do not belong together.
    """
    reading = Reading(limits=limits or Limits())
    table, paths = read_index(Path(path))
    with open_joined(paths, reading) as joined:
        if set(joined.table) != set(table):
            raise MalformedError("the index and the files do not name the same tensors", where=escape(os.fspath(path), 500))
        contents = Contents(format="safetensors", table=joined.table, metadata=joined.metadata[0])
        contents.storages = [spec.storage for spec in joined.table.values()]
        yield contents, joined.source, converted(contents, joined.source, directory=Path(path).parent, limits=reading.limits)


def _moved(spec: TensorSpec, by: int) -> TensorSpec:
    region = spec.storage.region
    if region is None:
        return spec
    place = Region(region.offset + by, region.nbytes, member=region.member)
    return TensorSpec(replace(spec.storage, region=place), spec.dtype, spec.shape, spec.stride)
