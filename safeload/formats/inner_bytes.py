"""Streams in bytes that a stream hands to a call: `torch.storage._load_from_bytes(b"…")`, `pickle.loads(b"…")`.

The call itself is a finding already; what the bytes would do decides how bad it is. Bytes that go nowhere are data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import SafeloadError
from safeload.findings import Finding, Level
from safeload.formats.base import Contents, StreamPart
from safeload.formats.nested import InnerReading, inner_reading
from safeload.lean_dataclass import replace
from safeload.source import Reading, Source
from safeload.walk import finding
from safeload.walk import kinds as k

__all__ = ["read_inner"]

_SHORTEST: Final = 4


def read_inner(source: Source, reading: Reading, contents: Contents) -> None:
    """Read what calls get as bytes in any stream of a file, and add what is found there."""
    todo = [part for part in contents.parts if not part.walk.searched]
    if reading.depth >= reading.limits.nesting or not any(part.walk.walker.events for part in todo):
        return
    inner = inner_reading(source, reading)
    for part in todo:
        part.walk.searched = True
        for at, data in _arguments(part, inner):
            _read(source, part, at, data, inner, contents)


def _arguments(part: StreamPart, reading: InnerReading) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of constants among the arguments of calls, each once, as far as the budget goes."""
    walker = part.walk.walker
    seen = set()
    for _, _, args, _, _ in walker.events:
        if args & 63 != k.TUPLE:
            continue
        for slot in walker.children(args)[0]:
            at = slot >> 6
            if slot & 63 not in (k.BYTES, k.BYTEARRAY) or not at or at in seen:
                continue
            seen.add(at)
            data = bytes(walker.constant(slot))
            reading.budget.memory -= len(data)
            reading.budget.members -= 1
            if reading.budget.memory < 0 or reading.budget.members < 0:
                return
            if len(data) >= _SHORTEST:
                yield at, data


def _read(source: Source, part: StreamPart, at: int, data: bytes, reading: InnerReading, contents: Contents) -> None:
    from safeload import formats  # its `read` comes here

    name = f"bytes@{at}" if part.member is None else f"{part.member}!bytes@{at}"
    try:
        found = formats.read(Source.open(data, name=f"{source.name}!{name}"), reading)
    except SafeloadError:
        return  # the call is refused whatever the bytes are
    if found is None or not (any(inner.walk.globals for inner in found.parts) or any(map(_runs_code, found.findings))):
        return
    message = f"{len(data)} bytes that are handed to a call are themselves {found.format}"
    contents.findings.append(replace(finding("SL130", message, offset=at), member=part.member))
    for inner in found.parts:
        inner.member = name if inner.member is None else f"{name}!{inner.member}"
        inner.main = False
        contents.parts.append(inner)
    contents.findings += (replace(item, member=name if item.member is None else f"{name}!{item.member}") for item in found.findings)


def _runs_code(item: Finding) -> bool:
    """Whether a finding is about a Keras model that runs code: whole ones are pickled as the bytes of their file."""
    return item.level is Level.ERROR and item.rule.startswith("SL80")
