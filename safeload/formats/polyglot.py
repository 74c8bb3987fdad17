"""Files that one program takes for a container or a table, and another for a pickle stream.

A tar header begins with a name and a safetensors file with a length: both can be written so that an unpickler which is given
the same file finds opcodes. Which program opens it is not known here, so the stream is looked at, too.
"""

from __future__ import annotations

from typing import Final

from safeload.formats.base import Contents, StreamPart
from safeload.source import Reading, Source
from safeload.walk import finding, walk

__all__ = ["second_stream"]

_PROBE: Final = (4096, 1 << 20)


def second_stream(source: Source, reading: Reading, contents: Contents) -> None:
    """Walk the file from its first byte as if it were a stream; one that names globals is a part, and a finding (SL213).

    A stream of plain data is let pass: by chance, two bytes of a length can be one ("N."), and it does nothing.
    """
    for size in _PROBE:
        data = source.head(size)
        walked = walk(data, limits=reading.limits, encoding=reading.encoding)
        if not walked.truncated:
            break
    if not walked.globals:
        return
    data = source.head(reading.limits.stream_bytes)
    walked = walk(data, limits=reading.limits, encoding=reading.encoding)
    contents.parts.append(StreamPart(member=None, offset=0, data=memoryview(data), walk=walked))
    message = f"the file is {contents.format}, and an unpickler that is given it finds a stream at its first byte"
    contents.findings.append(finding("SL213", message, offset=0))
