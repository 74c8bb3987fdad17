"""Files that one program takes for a container or a table, and another for a pickle stream.

A tar header begins with a name and a safetensors file with a length: both can be written so that an unpickler which is given
the same file finds opcodes. Which program opens it is not known here, so the stream is looked at, too.
"""

from __future__ import annotations

from typing import Final

from safeload.formats.base import Contents, StreamPart
from safeload.formats.streams import walk_growing
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["second_stream"]

_STREAMS: Final = 8
_NOT_FIRST: Final = b"Pgp"
"""Opcodes with a line behind them that no unpickler gets over as the first: a persistent id without somebody who understands it,
something out of an empty memo, nothing to put into one. Many lengths begin so, and the end of the line may be a gigabyte away."""


def second_stream(source: Source, reading: Reading, contents: Contents) -> None:
    """Walk the file from its first byte as if it were a stream; one that names globals is a part, and a finding (SL213).

    A stream of plain data is let pass: by chance, two bytes of a length can be one ("N."), and it does nothing. Behind it,
    where some programs read a second, only what is known to be dangerous counts.
    """
    at: int | None = 0
    for count in range(_STREAMS):
        if at is None or at >= source.size or source.read(at, 1) in _NOT_FIRST:
            return
        data, walked = walk_growing(source, reading, at, 4096)
        if walked.globals and (not count or any(found.rule in ("SL101", "SL102") for found in walked.findings)):
            contents.parts.append(StreamPart(member=None, offset=at, data=data, walk=walked))
            where = "at its first byte" if not count else f"behind {count} of plain data"
            message = f"the file is {contents.format}, and an unpickler that is given it finds a stream {where}"
            contents.findings.append(finding("SL213", message, offset=at))
            return
        at = walked.end
