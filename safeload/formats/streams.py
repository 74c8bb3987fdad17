"""What every reader of pickle streams needs: does this begin like one, and what lies behind its STOP?"""

from __future__ import annotations

import itertools
import re
from typing import Final

from safeload.formats.base import Contents, StreamPart
from safeload.lean_dataclass import replace
from safeload.source import Limits, Reading, Source
from safeload.walk import Walk, finding, walk
from safeload.walk.opcodes import OPCODES

__all__ = ["behind_a_gap", "looks_like_pickle", "probe", "sure_until", "walk_behind", "walk_growing"]

_MANY: Final = 1_000
_GAP: Final = 1 << 16
_BLANK: Final = b"\0 \t\r\n"
_TRIED: Final = 32
_PROTO: Final = re.compile(rb"\x80[\x02-\x05]")
_PROBE: Final = Limits(opcodes=100_000, calls=10_000)
# Opcodes by which a stream without PROTO can begin: protocols 0 and 1, and headless streams of later ones. Not PERSID: without
# somebody to understand it an unpickler stops there, and "PK" would be one.
_FIRST: Final = frozenset(OPCODES) - {0x2E, 0x50, 0x30, 0x31, 0x52, 0x61, 0x62, 0x65, 0x73, 0x74, 0x75, 0x81, 0x92, 0x93, 0x94}


def looks_like_pickle(data: memoryview, size: int | None = None) -> bool:
    """Whether an unpickler that was given these bytes would get anywhere worth knowing.

    Args:
        data: The bytes, or the first of them.
        size: How many there are in all, when `data` is only the first part.

    A stream with a PROTO header is one, even when it breaks later: what comes before the break has been run by then.
    Without the header it is one when it reaches STOP and fills the data, or calls something before it breaks, or when what
    follows it is one: a number or None in front of a stream must not hide it.
    """
    return probe(data, len(data) if size is None else size) or False


def probe(data: memoryview, total: int) -> bool | None:
    """Like `looks_like_pickle`, and None when only more of the `total` bytes can tell."""
    return _told(data, total)[0]


def sure_until(data: memoryview) -> int:
    """How many bytes need no second question: up to the stream that told, and into it; 0 when this is no stream."""
    found, at = _told(data, len(data))
    return at + 1 if found else 0


def _told(data: memoryview, total: int) -> tuple[bool | None, int]:
    """The answer of `probe`, and where the stream begins that gave it."""
    at = 0
    for _ in range(_MANY):
        if len(data) - at < 2:
            return (None if len(data) < total else False), at
        if data[at] == 0x80:
            return data[at + 1] <= 5, at
        if data[at] not in _FIRST:
            return False, at
        seen = walk(data, at, limits=_PROBE)
        if seen.end is None:
            if seen.truncated and len(data) < total and _fits(data, seen.error_offset, total):
                return None, at
            goes_on = seen.walker.opcodes > _PROBE.opcodes or (seen.truncated and len(data) < total and seen.walker.opcodes > _MANY)
            # Naming a dangerous global imports it, even where the stream breaks right behind.
            return seen.has_calls or goes_on or any(found.rule in ("SL101", "SL102") for found in seen.findings), at
        if seen.globals or seen.end == total:
            return True, at
        # A few bytes of text can reach STOP by chance ("N."): what says nothing must fill the data, or another stream must follow.
        window = bytes(data[seen.end : seen.end + _GAP])
        at = seen.end + len(window) - len(window.lstrip(_BLANK))
    return True, at


def _fits(data: memoryview, at: int, total: int) -> bool:
    """Whether the operand of the opcode at `at`, which the end of the data cuts off, ends within the file."""
    form = OPCODES[data[at]][2] if at < len(data) and data[at] in OPCODES else ""
    if not form.startswith("bytes"):
        return True
    width = int(form[5:])
    return at + 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "little") <= total


def walk_growing(
    source: Source, reading: Reading, start: int, size: int = 1 << 16, *, persistent: int = 0, whole: bool = False
) -> tuple[memoryview, Walk]:
    """Walk a stream at the front of a large file without reading all of the file.

    Args:
        source: The file.
        reading: How.
        start: Where the stream begins.
        size: Bytes to begin with; doubled for as long as the stream breaks only because they end.
        persistent: As for `walk`.
        whole: Begin with all there is.

    Returns:
        The bytes from the file's first on, as far as they were needed, and the walk.
    """
    most = min(source.size, start + reading.limits.stream_bytes)
    size = most if whole else max(size, start + 4096)
    while True:
        data = source.view(0, min(size, most))
        walked = walk(data, start, limits=reading.limits, encoding=reading.encoding, persistent=persistent)
        ends = walked.end is not None or not walked.truncated or len(data) == most
        if ends or not _fits(data, walked.error_offset, source.size):
            return data, walked
        size = 4 * size


def behind_a_gap(contents: Contents, data: memoryview, at: int, reading: Reading, member: str | None = None) -> None:
    """Add the first stream in bytes that begin with none, if it calls or names what is known to be dangerous.

    Whoever wrote it there knows where to find it. Bytes that happen to look like the beginning of one are let be.
    """
    window = bytes(data[at : at + _GAP])
    first = len(window) - len(window.lstrip(_BLANK))
    places = [first, *(found.start() for found in itertools.islice(_PROTO.finditer(window), _TRIED))]
    for place in dict.fromkeys(places):
        seen = walk(data[at + place :], limits=_PROBE)
        if any(found.rule in ("SL101", "SL102") for found in seen.findings):
            walked = walk(data, at + place, limits=reading.limits, encoding=reading.encoding)
            found = finding("SL125", "a pickle stream behind the bytes that follow STOP", offset=at + place)
            contents.findings.append(replace(found, member=member))
            contents.parts.append(StreamPart(member=member, offset=at + place, data=data, walk=walked))
            return


def walk_behind(contents: Contents, reading: Reading, part: StreamPart) -> None:
    """Look at what follows the STOP of a stream that should be the last: note the bytes, walk what is a stream."""
    end = part.walk.end
    if end is None or end == len(part.data):
        return
    rest = len(part.data) - end
    contents.findings.append(replace(finding("SL126", f"{rest} bytes follow the stream", offset=end), member=part.member))
    sure = 0
    for _ in range(64):
        if end is None or end >= len(part.data):
            return
        if end >= sure:
            sure = end + sure_until(part.data[end:])
        if end >= sure:
            behind_a_gap(contents, part.data, end, reading, part.member)
            return
        extra = walk(part.data, end, limits=reading.limits, encoding=reading.encoding)
        contents.findings.append(replace(finding("SL125", "a pickle stream behind STOP", offset=end), member=part.member))
        contents.parts.append(StreamPart(member=part.member, offset=end, data=part.data, walk=extra))
        if extra.end is None:
            behind_a_gap(contents, part.data, end + 1, reading, part.member)
        end = extra.end
