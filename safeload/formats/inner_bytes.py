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
from safeload.walk import Walk, finding
from safeload.walk import kinds as k

__all__ = ["read_inner"]

_SHORTEST: Final = 4
_DEPTH: Final = 4  # lists in lists of arguments
_BYTES: Final = (k.BYTES, k.BYTEARRAY)
_HOLDERS: Final = (k.TUPLE, k.LIST, k.DICT, k.SET, k.FROZENSET)


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
    """Yield (offset, bytes) of what calls get, each once, as far as the budget goes.

    A constant has the offset of its opcode; bytes that a call made (`_codecs.encode`, as protocols below 3 write them) that of
    the call which gets them.
    """
    walker = part.walk.walker
    seen: set[int] = set()
    told: set[bytes] = set()
    made = False
    for name, _, args, _, _ in walker.events:
        if name == "BUILD":
            continue  # state, and no argument
        for slot in _below(part.walk, args):
            at = slot >> 6
            made = made or not at
            if not at or at in seen:
                continue
            seen.add(at)
            data = bytes(walker.constant(slot))
            if not _granted(data, reading):
                return
            if len(data) >= _SHORTEST and data not in told:
                told.add(data)
                yield at, data
    if made:
        from safeload.formats.made_bytes import made_bytes  # few streams make bytes by calls, and it needs the model

        for data, at in made_bytes(part, reading).items():
            if len(data) >= _SHORTEST and data not in told:
                if not _granted(data, reading):
                    return
                yield at, data


def _granted(data: bytes, reading: InnerReading) -> bool:
    reading.budget.memory -= len(data)
    reading.budget.members -= 1
    return reading.budget.memory >= 0 and reading.budget.members >= 0


def _below(walk: Walk, args: int) -> Iterator[int]:
    """Yield the slots of bytes among arguments, and in what these hold as far as the walk has kept it."""
    todo = [(args, 0)]
    visited = set()
    while todo:
        slot, depth = todo.pop()
        if slot & 63 in _BYTES:
            yield slot
        elif slot not in visited:
            visited.add(slot)
            kept = walk.walker.children(slot)[0] if slot & 63 in _HOLDERS and depth < _DEPTH else ()
            todo.extend((child, depth + 1) for child in reversed(kept) if child & 63 in _BYTES or child & 63 in _HOLDERS)


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
