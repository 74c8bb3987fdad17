"""A file that is pickle streams and nothing else: one, or several behind one another.

`pickle.load` reads the first. Programs that append records read them all, so all are walked; the first is what a load builds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from safeload.errors import LimitError
from safeload.formats.base import Contents, StreamPart
from safeload.formats.streams import looks_like_pickle
from safeload.source import Reading, Source
from safeload.walk import Walk, finding, walk

__all__ = ["PickleFile"]


_PROBE: Final = 1 << 20


class PickleFile:
    """The format "pickle"."""

    name = "pickle"

    def claims(self, source: Source) -> bool:
        """By the walk itself: see `looks_like_pickle`."""
        return source.size > 1 and looks_like_pickle(source.view(0, min(source.size, _PROBE)), source.size)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk every stream of the file."""
        contents = Contents(format=self.name)
        if source.size > reading.limits.stream_bytes:
            contents.error = f"a stream of {source.size} bytes; at most {reading.limits.stream_bytes} are read"
            return contents
        data = source.view(0, source.size)
        at: int | None = 0
        while at is not None and at < len(data):
            if len(contents.parts) >= reading.limits.streams:
                raise LimitError(f"more than {reading.limits.streams} streams", where=source.name)
            if contents.parts and not looks_like_pickle(data[at:]):
                contents.findings.append(finding("SL126", f"{len(data) - at} bytes follow the last stream", offset=at))
                break
            walked = self.walk(data, at, reading)
            contents.parts.append(StreamPart(member=None, offset=at, data=data, walk=walked, main=at == 0))
            at = walked.end
        if len(contents.parts) > 1:
            text = f"{len(contents.parts)} pickle streams follow one another; a load reads the first"
            contents.findings.append(replace(finding("SL128", text), offset=contents.parts[1].offset))
        first = contents.parts[0].walk
        contents.end = first.end
        contents.error = f"the stream breaks: {first.error}" if first.error else None
        return contents

    def walk(self, data: memoryview, at: int, reading: Reading) -> Walk:
        """Walk one stream."""
        return walk(data, at, limits=reading.limits, encoding=reading.encoding)
