"""torch's stream format before 1.6: five pickles in a row, then the storages' bytes.

magic number, protocol version, system information, the object, the sorted list of storage keys; then, for each key, the
number of elements as a little-endian int64 and the elements. Source: torch/serialization.py, `_legacy_save`.
Several such files may follow one another in one stream; `Contents.end` is where this one ends.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from safeload.errors import MalformedError, RefusedError, SafeloadError, TruncatedError
from safeload.findings import shown
from safeload.formats.base import Contents, StreamPart
from safeload.formats.storages import StorageRef, StorageTable, as_finding, persistent, storage_refs, text
from safeload.formats.streams import walk_growing
from safeload.program import DTYPE_BITS, Region
from safeload.source import Reading, Source
from safeload.walk import Walk, finding, walk
from safeload.walk import kinds as k
from safeload.walk.signatures import STORAGE_DTYPES

__all__ = ["MAGIC", "TorchLegacyFile"]

MAGIC: Final = 0x1950A86A20F9469CFC6C
VERSION: Final = 1001
_HEAD: Final = 512
_LENGTH: Final = Struct("<q")
_NEAR: Final = 1 << 12  # storages shorter than this are read along with the numbers between them
_WINDOW: Final = 1 << 16
_PARTS: Final = ("magic number", "protocol version", "system information", "object", "storage keys")


class TorchLegacyFile:
    """The format "torch-legacy"."""

    name = "torch-legacy"

    def claims(self, source: Source) -> bool:
        """The first stream is the magic number, in whatever opcodes it is written."""
        head = source.view(0, min(_HEAD, source.size))
        if len(head) < 12:
            return False
        first = walk(head)
        if first.end is None or first.globals:
            return False
        root = first.walker.root
        return root & 63 in (k.INT, k.BIGINT) and first.walker.constant(root) == MAGIC

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk the five streams, then find every storage's bytes."""
        contents = Contents(format=self.name)
        try:
            end = self._streams(source, reading, contents)
            if end is not None:
                self._storages(source, end, contents)
        except MalformedError as error:
            contents.findings.append(as_finding(error, None))
            contents.error = error.message
            contents.raises = TruncatedError if error.rule == "SL502" else contents.raises
        except SafeloadError as error:
            contents.error = str(error)
        return contents

    def _streams(self, source: Source, reading: Reading, contents: Contents) -> int | None:
        at = 0
        for index, what in enumerate(_PARTS):
            main = index == 3
            if at >= source.size:
                hint = "it is truncated: fetch it again"
                raise MalformedError(f"the file ends before its {what}", where=f"@{at}", hint=hint).under("SL502")
            data, walked = walk_growing(source, reading, at, persistent=1 if main else 0)
            part = StreamPart(member=None, offset=at, data=data, walk=walked, main=main)
            contents.parts.append(part)
            if walked.end is None:
                contents.error = f"the {what} breaks: {walked.error}"
                contents.raises = TruncatedError if walked.truncated else contents.raises
                return None
            if not main:
                if walked.globals:
                    message = f"the {what} is computed by {walked.globals[0]}, not written"
                    contents.findings.append(finding("SL107", message, offset=at))
                    if index != 2:
                        contents.error = message
                        return None
                elif index < 2 and _value(walked) != (MAGIC, VERSION)[index]:
                    raise MalformedError(f"Invalid {what}: {shown(_value(walked), 40)}", where=f"@{at}").under("SL129")
            at = walked.end
        self._facts(contents)
        return at

    def _facts(self, contents: Contents) -> None:
        """What the file says of the machine that wrote it; torch reads it and makes nothing of it."""
        info = contents.parts[2].walk
        if info.globals:
            return
        facts = _value(info)
        if isinstance(facts, dict):
            for name in ("protocol_version", "little_endian"):
                if name in facts:
                    contents.metadata[name] = shown(facts[name], 40)

    def _storages(self, source: Source, at: int, contents: Contents) -> None:
        main = contents.parts[3]
        refs = storage_refs(main.walk)
        by_key: dict[str, StorageRef] = {}
        for ref in refs:
            by_key.setdefault(ref.key, ref)
        regions = self._regions(source, at, _keys(contents.parts[4].walk), by_key, contents)
        table = StorageTable(refs, lambda ref: _located(regions, ref))
        main.persistent = persistent(lambda: table.specs)
        contents.storages = list(table.specs.values())

    def _regions(
        self, source: Source, at: int, keys: list[str], by_key: dict[str, StorageRef], contents: Contents
    ) -> dict[str, Region]:
        """Walk over the raw part: where each storage's elements lie."""
        regions: dict[str, Region] = {}
        lengths = _Lengths(source)
        for key in keys:
            ref = by_key.get(key)
            if ref is None or key in regions:
                message = f"storage key {shown(key)} is listed and not used by the object, or twice"
                raise MalformedError(message, where=f"@{at}").under("SL304")
            numel = lengths.at(at, key)
            if numel != ref.numel:
                raise MalformedError(
                    f"storage {shown(key)} has {numel} elements in front of its bytes and {ref.numel} in the stream", where=f"@{at}"
                ).under("SL302")
            nbytes = numel * (DTYPE_BITS[STORAGE_DTYPES[ref.type_name]] // 8)
            if at + 8 + nbytes > source.size:
                raise MalformedError(
                    f"storage {shown(key)} ends at byte {at + 8 + nbytes}, and the file has {source.size}",
                    where=f"@{at}",
                    hint="the file is truncated: fetch it again and compare its size",
                ).under("SL502")
            regions[key] = Region(at + 8, nbytes, member=f"storage {key}")
            at += 8 + nbytes
        contents.end = at
        return regions


class _Lengths:
    """Reads the numbers in front of the storages; those of small ones, which lie near one another, many at once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start, self._window = 0, memoryview(b"")

    def at(self, offset: int, key: str) -> int:
        """The number at a byte of the file."""
        index = offset - self._start
        if index + 8 > len(self._window):
            near = index < len(self._window) + _NEAR
            self._source.check(offset, 8, f"the length of storage {shown(key)}")
            self._window = self._source.view(offset, min(_WINDOW if near else 8, self._source.size - offset))
            self._start, index = offset, 0
        (numel,) = _LENGTH.unpack_from(self._window, index)
        return int(numel)


def _located(regions: dict[str, Region], ref: StorageRef) -> Region:
    region = regions.get(ref.key)
    if region is None:
        raise MalformedError(f"storage {shown(ref.key)} is named and its bytes are not in the file", where=f"@{ref.at}").under("SL304")
    return region


def _value(walked: Walk) -> object:
    """The value of a stream that names no globals, or None when it is not plain data."""
    from safeload.walk.model import Model, build

    try:
        return build(walked, Model(walked))
    except (MalformedError, RefusedError):
        return None


def _keys(walked: Walk) -> list[str]:
    found = _value(walked)
    keys = [text(key) for key in found] if isinstance(found, list) else [None]
    if None in keys:
        raise MalformedError("the list of storage keys is no list of text", where=f"@{walked.walker.start}").under("SL129")
    return [key for key in keys if key is not None]
