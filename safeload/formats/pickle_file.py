"""A file that is pickle streams and nothing else: one, or several behind one another.

`pickle.load` reads the first. Programs that append records read them all, so all are walked; the first is what a load builds.
"""

from __future__ import annotations

from typing import Final

from safeload.errors import TruncatedError
from safeload.formats.base import Contents, StreamPart
from safeload.formats.streams import behind_a_gap, probe, sure_until
from safeload.lean_dataclass import replace
from safeload.source import Limits, Reading, Source
from safeload.walk import Walk, finding, walk

__all__ = ["PickleFile", "names_joblib"]

_PROBE: Final = 1 << 20
_KEPT: Final = 1_000
_JOBLIB: Final = b"joblib.numpy_pickle"
_CHUNK: Final = 1 << 16


class PickleFile:
    """The format "pickle"."""

    name = "pickle"

    def claims(self, source: Source) -> bool:
        """By the walk itself: see `looks_like_pickle`."""
        known: bool | None = source.parsed.get(PickleFile.name)  # joblib's reader asks first
        if known is None:
            size = min(source.size, _PROBE)
            while (found := probe(source.view(0, size), source.size)) is None and size < Limits().stream_bytes:
                size = min(source.size, 16 * size)
            known = source.parsed[PickleFile.name] = bool(found)
        return known

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk every stream of the file."""
        contents = Contents(format=self.name)
        if source.size > reading.limits.stream_bytes:
            contents.error = f"a stream of {source.size} bytes; at most {reading.limits.stream_bytes} are read"
            return contents
        count = self._streams(source.view(0, source.size), reading, contents)
        if count > 1:
            text = f"{count} pickle streams follow one another; a load reads the first"
            contents.findings.append(replace(finding("SL128", text), offset=contents.parts[1].offset))
        first = contents.parts[0].walk
        contents.end = first.end
        contents.error = f"the stream breaks: {first.error}" if first.error else None
        contents.raises = TruncatedError if first.truncated else contents.raises
        return contents

    def _streams(self, data: memoryview, reading: Reading, contents: Contents) -> int:
        """Walk every stream; returns how many there are."""
        at: int | None = 0
        known: set[str] = set()
        count = sure = 0
        while at is not None and at < len(data):
            if count >= reading.limits.streams:
                message = f"more than {reading.limits.streams} streams; the rest was not looked at"
                contents.findings.append(finding("SL126", message, offset=at))
                break
            if count and at >= sure:
                sure = at + sure_until(data[at:])
            if count and at >= sure:
                contents.findings.append(finding("SL126", f"{len(data) - at} bytes follow the last stream", offset=at))
                behind_a_gap(contents, data, at, reading)
                break
            walked = self.walk(data, at, reading)
            # A million records of the same kind say nothing that the first thousand did not, and each walk takes memory.
            if count < _KEPT or walked.error or not known.issuperset(walked.globals):
                contents.parts.append(StreamPart(member=None, offset=at, data=data, walk=walked, main=at == 0))
                known.update(walked.globals)
            if count and walked.end is None:
                behind_a_gap(contents, data, at + 1, reading)
            count += 1
            at = walked.end
        return count

    def walk(self, data: memoryview, at: int, reading: Reading) -> Walk:
        """Walk one stream."""
        return walk(data, at, limits=reading.limits, encoding=reading.encoding)


def names_joblib(source: Source) -> bool:
    """Whether the name of joblib's description of arrays stands anywhere in the file."""
    data = source.view(0, source.size)
    # In pieces of bytes, whose search is many times faster than that of `re` over a memoryview; from the right, which is the faster way.
    return any(bytes(data[at : at + _CHUNK + len(_JOBLIB)]).rfind(_JOBLIB) >= 0 for at in range(0, len(data), _CHUNK))
