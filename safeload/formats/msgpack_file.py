"""msgpack files: Flax's weights, spaCy's models and documents. Plain data, but for numpy's arrays of objects in them.

Libraries that put arrays into msgpack mark them by a map with the keys `nd`, `type`, `kind` and `data`; of the kind "O" the data are a
pickle stream, which they unpickle. A file is claimed when it is one value from its first byte to its last.
Sources: the msgpack specification; msgpack-numpy and srsly's copy of it; flax/serialization.py.
"""

from __future__ import annotations

from typing import Final

from safeload.formats.base import Contents, StreamPart
from safeload.formats.polyglot import second_stream
from safeload.formats.streams import walk_behind
from safeload.source import Reading, Source
from safeload.walk import finding, walk

__all__ = ["MsgpackFile"]

_NODES: Final = 20_000_000
_DEPTH: Final = 1_000
_SMALL: Final = 16  # entries of a map that may describe an array
_EXTENSIONS: Final = 64
# first byte → bytes of a number, or of the length in front of something
_NUMBERS: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xCA: 4, 0xCB: 8}
_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXT: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXT: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_CONTAINERS: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_PLAIN: Final = frozenset((0xC0, 0xC2, 0xC3))


class MsgpackFile:
    """The format "msgpack"."""

    name: Final = "msgpack"

    def claims(self, source: Source) -> bool:
        """A map that ends with the file. The empty one is a single byte, which spaCy writes too."""
        return self._parsed(source) is not None

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk the streams of object arrays; everything else is data."""
        contents = Contents(format=self.name, end=source.size)
        second_stream(source, reading, contents)
        parsed = self._parsed(source)
        for at, nbytes in parsed.pickles if parsed is not None else ():
            data = source.view(at, nbytes)
            part = StreamPart(
                member=f"array@{at}", offset=0, data=data, walk=walk(data, limits=reading.limits, encoding=reading.encoding)
            )
            contents.parts.append(part)
            walk_behind(contents, reading, part)
        if parsed is not None:
            contents.metadata["values"] = str(parsed.nodes)
            if parsed.pickles:
                contents.findings.append(finding("SL130", f"{len(parsed.pickles)} arrays of objects, each a pickle stream"))
        return contents

    def _parsed(self, source: Source) -> _Parser | None:
        if self.name not in source.parsed:
            parser = _Parser(source)
            source.parsed[self.name] = parser if parser.run() else None
        found: _Parser | None = source.parsed[self.name]
        return found


class _Frame:
    """An open container: values left, and of a small map the entries so far."""

    __slots__ = ("entries", "key", "left", "maps")

    def __init__(self, left: int, maps: bool) -> None:
        self.left, self.maps = left, maps
        self.key: bytes | None = None
        self.entries: dict[bytes, tuple[int, int]] | None = {} if maps and left <= 2 * _SMALL else None


class _Parser:
    """Goes over one value without making any: offsets and lengths are enough."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes = 0
        self.pickles: list[tuple[int, int]] = []
        self._start, self._piece = 0, memoryview(b"")

    def run(self) -> bool:
        """Whether the file is one map, and nothing else."""
        size = self.source.size
        at, frames = 0, [_Frame(1, maps=False)]
        while frames:
            frame = frames[-1]
            if not frame.left:
                frames.pop()
                self._close(frame)
                continue
            self.nodes += 1
            if self.nodes > _NODES or len(frames) > _DEPTH or at >= size:
                return False
            found = self._value(at)
            if found is None or found[1] > size:
                return False
            start, end, count, maps = found
            frame.left -= 1
            if frame.entries is not None:
                self._entry(frame, start, end, container=count is not None)
            at = end
            if count is not None:
                if not self.nodes - 1 and not maps:
                    return False
                if count > size - at:
                    return False
                frames.append(_Frame(count, maps))
            elif self.nodes == 1:
                return False
        return at == size

    def _bytes(self, at: int, nbytes: int) -> bytes:
        """A few bytes, through a window over the file; fewer at its end."""
        nbytes = min(nbytes, self.source.size - at)
        if not self._start <= at <= at + nbytes <= self._start + len(self._piece):
            self._start, self._piece = at, self.source.view(at, min(max(nbytes, 1 << 16), self.source.size - at))
        return bytes(self._piece[at - self._start : at - self._start + nbytes])

    def _value(self, at: int) -> tuple[int, int, int | None, bool] | None:
        """(first byte of the content, offset behind it, values within or None, whether it is a map); None when it is no value."""
        head = self._bytes(at, 6)
        kind = head[0]
        if kind < 0x80 or kind >= 0xE0 or kind in _PLAIN:
            return at, at + 1, None, False
        if kind < 0xA0:
            maps = kind < 0x90
            return at + 1, at + 1, (kind & 15) * (2 if maps else 1), maps
        if kind < 0xC0:
            return at + 1, at + 1 + (kind & 31), None, False
        if kind in _NUMBERS:
            return at, at + 1 + _NUMBERS[kind], None, False
        if kind in _FIXED_EXT:
            return at + 2, at + 2 + _FIXED_EXT[kind], None, False
        width = _BYTES.get(kind) or _EXT.get(kind) or _CONTAINERS.get(kind) or 0
        if not width or len(head) < 1 + width:
            return None
        length = int.from_bytes(head[1 : 1 + width], "big")
        start = at + 1 + width
        if kind in _CONTAINERS:
            maps = kind >= 0xDE
            return start, start, length * (2 if maps else 1), maps
        start += kind in _EXT
        return start, start + length, None, False

    def _entry(self, frame: _Frame, start: int, end: int, *, container: bool) -> None:
        """Note a key, or the value of one."""
        assert frame.entries is not None
        if frame.left % 2:  # its value follows
            frame.key = self._bytes(start, end - start) if not container and end - start <= 8 else None
        elif frame.key is not None and not container:
            frame.entries[frame.key] = start, end - start

    def _close(self, frame: _Frame) -> None:
        """At the end of a map: is it an array of objects?"""
        entries = frame.entries
        if not entries or not {b"nd", b"data"} <= entries.keys():
            return
        kind, described = entries.get(b"kind"), entries.get(b"type")
        objects = kind is not None and kind[1] <= 2 and b"O" in self._bytes(*kind)
        objects = objects or (described is not None and described[1] <= 3 and b"O" in self._bytes(*described))
        if objects:
            self.pickles.append(entries[b"data"])
