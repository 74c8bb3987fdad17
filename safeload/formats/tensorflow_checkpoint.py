"""The index of a TensorFlow checkpoint (`variables.index`): a sorted table of tensors and their places in the files beside it.

It is a table file as LevelDB writes them: blocks of keys that share their beginnings, an index of blocks, a footer. Keys are names of
tensors, values are messages that say type, shape, file and place. The files with the numbers have no structure of their own.
Source: tensorflow/core/util/tensor_bundle and tensorflow/core/lib/io (format.h, block.cc).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats.base import Contents, Listed
from safeload.formats.polyglot import second_stream
from safeload.formats.protobuf_wire import Schema, Wire
from safeload.formats.storages import as_finding
from safeload.formats.tensorflow_graph import read_shape
from safeload.formats.tensorflow_names import type_name
from safeload.lean_dataclass import dataclass
from safeload.source import Reading, Source

__all__ = ["Shard", "TensorflowCheckpoint", "shards"]

_MAGIC: Final = bytes.fromhex("57fb808b247547db")
_FOOTER: Final = 48
_TRAILER: Final = 5  # of a block: how it is compressed, and a checksum
_BLOCK: Final = 64 << 20
_BLOCKS: Final = 1_000_000
_ENTRIES: Final = 5_000_000
_KEY: Final = 1 << 16
_HEADER: Final[Schema] = {1: "v", 2: "v", 3: "m"}
_ENTRY: Final[Schema] = {1: "v", 2: "m", 3: "v", 4: "v", 5: "v", 6: "f", 7: "M"}


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of numbers: how many bytes the index's tensors reach into it."""

    number: int
    of: int
    reach: int


class TensorflowCheckpoint:
    """The format "tf-checkpoint"."""

    name: Final = "tf-checkpoint"

    def claims(self, source: Source) -> bool:
        """By the magic number at the end, and an empty first key, which every checkpoint has."""
        if source.size < _FOOTER or source.head(2) != b"\0\0":
            return False
        return source.read(source.size - 8, 8) == _MAGIC

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the whole table."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        try:
            for shard in _Table(source, contents).read():
                contents.metadata[f"shard {shard.number}"] = f"{shard.reach} bytes"
        except MalformedError as error:
            contents.error = error.message
            contents.findings.append(as_finding(error, None))
        except SafeloadError as error:
            contents.error = error.message
        return contents


def shards(source: Source) -> list[Shard]:
    """Return the files that an index describes; none when it is no index, or breaks."""
    if not TensorflowCheckpoint().claims(source):
        return []
    try:
        return _Table(source, Contents(format="tf-checkpoint")).read()
    except SafeloadError:
        return []


class _Table:
    """Reads one table."""

    def __init__(self, source: Source, contents: Contents) -> None:
        self.source, self.contents = source, contents
        self.wire = Wire(source, "SL723")
        self.left = _ENTRIES

    def read(self) -> list[Shard]:
        end = self.source.size - _FOOTER
        handle = end
        for _ in range(2):  # the handle of the block of meta data, then that of the index
            (offset, size), handle = self._handle(handle, self.source.size - 8)
        count = 0
        reach: dict[int, int] = {}
        for blocks, (_, first, last) in enumerate(self._entries(offset, size, end)):
            if blocks >= _BLOCKS:
                raise self.wire.bad(f"more than {_BLOCKS} blocks", first)
            (at, nbytes), _ = self._handle(first, last)
            for key, a, b in self._entries(at, nbytes, end):
                if not key:
                    count = self._header(a, b)
                else:
                    self._tensor(key, a, b, reach)
        if not count:
            raise self.wire.bad("the checkpoint does not say how many files it has", 0)
        if any(number >= count for number in reach):
            raise self.wire.bad(f"a tensor lies in file {max(reach)} of {count}", 0)
        self.contents.metadata["shards"] = str(count)
        return [Shard(number, count, reach.get(number, 0)) for number in range(min(count, 100_000))]

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """A varint of at most 64 bits: (value, offset behind it)."""
        value = 0
        for index, byte in enumerate(self.wire.window.view(at, max(0, min(10, end - at)), "a number")):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value, at + index + 1
        raise self.wire.bad("a number that does not end", at)

    def _handle(self, at: int, end: int) -> tuple[tuple[int, int], int]:
        offset, at = self._number(at, end)
        size, at = self._number(at, end)
        return (offset, size), at

    def _entries(self, offset: int, size: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield (key, first byte of the value, behind its last) of one block."""
        if size < 4 or size > _BLOCK or offset + size + _TRAILER > end:
            raise self.wire.bad(f"a block of {size} bytes at {offset}, in a table of {end}", min(offset, end))
        if self.wire.window.view(offset + size, 1, "a block")[0]:
            raise self.wire.bad("a compressed block, which no checkpoint has", offset)
        restarts = int.from_bytes(self.wire.window.view(offset + size - 4, 4, "a block"), "little")
        last = offset + size - 4 - 4 * restarts
        if last < offset:
            raise self.wire.bad(f"a block of {size} bytes with {restarts} restarts", offset)
        at, key = offset, b""
        while at < last:
            self.left -= 1
            if self.left < 0:
                raise self.wire.bad(f"more than {_ENTRIES} entries", at)
            shared, at = self._number(at, last)
            own, at = self._number(at, last)
            length, at = self._number(at, last)
            if shared > len(key) or own + length > last - at or shared + own > _KEY:
                raise self.wire.bad("an entry that leaves its block", at)
            key = key[:shared] + bytes(self.wire.window.view(at, own, "a key"))
            at += own
            yield key, at, at + length
            at += length

    def _header(self, start: int, end: int) -> int:
        count = 0
        for number, _, a, _ in self.wire.checked(start, end, _HEADER, "the header"):
            if number == 1:
                count = a
            elif number == 2:
                self.contents.metadata["byteorder"] = "big" if a else "little"
        return count

    def _tensor(self, key: bytes, start: int, end: int, reach: dict[int, int]) -> None:
        kind = shard = offset = size = 0
        shape: tuple[int, ...] = ()
        for number, _, a, b in self.wire.checked(start, end, _ENTRY, "an entry"):
            if number == 1:
                kind = a
            elif number == 2:
                shape = read_shape(self.wire, a, b)
            elif number == 3:
                shard = a
            elif number == 4:
                offset = a
            elif number == 5:
                size = a
        name = key.decode("utf-8", "backslashreplace")
        if offset + size >= 1 << 62:
            raise self.wire.bad(f"tensor '{escape(name, 80)}' ends at byte {offset + size} of its file", start)
        reach[shard] = max(reach.get(shard, 0), offset + size)
        if not name.startswith("_CHECKPOINTABLE"):
            self.contents.listed.append(Listed(name, type_name(kind), shape, size))
