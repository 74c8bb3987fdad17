"""What every reader of pickle streams needs: does this begin like one, and what lies behind its STOP?"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from safeload.formats.base import Contents, StreamPart
from safeload.source import Limits, Reading
from safeload.walk import finding, walk
from safeload.walk.opcodes import OPCODES

__all__ = ["looks_like_pickle", "walk_behind"]

_PROBE: Final = Limits(opcodes=100_000, calls=10_000)
# Opcodes by which a stream without PROTO can begin: protocols 0 and 1, and headless streams of later ones.
_FIRST: Final = frozenset(OPCODES) - {0x2E, 0x30, 0x31, 0x52, 0x61, 0x62, 0x65, 0x73, 0x74, 0x75, 0x81, 0x92, 0x93, 0x94}


def looks_like_pickle(data: memoryview) -> bool:
    """Whether an unpickler that was given these bytes would get anywhere worth knowing.

    A stream with a PROTO header is one, even when it breaks later: what comes before the break has been run by then.
    Without the header it is one when it reaches STOP, or calls something before it breaks.
    """
    if len(data) < 2:
        return False
    if data[0] == 0x80:
        return data[1] <= 5
    if data[0] not in _FIRST:
        return False
    seen = walk(data, limits=_PROBE)
    if seen.end is None:
        return seen.has_calls or bool(seen.walker.opcodes > _PROBE.opcodes)
    # A few bytes of text can reach STOP by chance ("N."): a stream that says nothing must at least fill the data.
    return bool(seen.globals) or seen.end == len(data)


def walk_behind(contents: Contents, reading: Reading, part: StreamPart) -> None:
    """Look at what follows the STOP of a stream that should be the last: note the bytes, walk what is a stream."""
    end = part.walk.end
    if end is None or end == len(part.data):
        return
    rest = len(part.data) - end
    contents.findings.append(replace(finding("SL126", f"{rest} bytes follow the stream", offset=end), member=part.member))
    for _ in range(64):
        if end is None or end >= len(part.data) or not looks_like_pickle(part.data[end:]):
            return
        extra = walk(part.data, end, limits=reading.limits, encoding=reading.encoding)
        contents.findings.append(replace(finding("SL125", "a pickle stream behind STOP", offset=end), member=part.member))
        contents.parts.append(StreamPart(member=part.member, offset=end, data=part.data, walk=extra))
        end = extra.end
