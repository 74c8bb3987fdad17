"""safetensors files, read strictly and without the reference implementation.

The format: the header's length as an unsigned 64-bit little-endian integer, the header (a JSON object that begins with "{"
and may end in spaces), the data. Each name stands for {"dtype", "shape", "data_offsets"}, "__metadata__" for text by text;
the tensors cover the data from its first byte to its last, each byte once.

That grammar nests two levels and no more, so it is read token by token: nothing recurses, nothing is kept that is not a
tensor, and a header of 100 MB costs no more than its text. What the reference takes beyond the written format (a name
twice, unknown keys, arrays in place of objects, blanks in front) is refused: there, two readers can see two files.
"""

from __future__ import annotations

import json
import re
from math import prod
from operator import attrgetter
from typing import Final

from safeload.errors import MalformedError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.polyglot import second_stream
from safeload.lean_dataclass import dataclass
from safeload.program import Region, StorageSpec, TensorSpec
from safeload.source import Limits, Reading, Source
from safeload.walk import finding

__all__ = ["FORMAT", "SafetensorsFile"]

# The reference's name → torch's name and bits per element. torch packs two 4-bit values into one element of 8 bits.
_DTYPES: Final[dict[str, tuple[str | None, int]]] = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "F8_E5M2": ("float8_e5m2", 8), "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8), "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "I16": ("int16", 16), "U16": ("uint16", 16), "F16": ("float16", 16), "BF16": ("bfloat16", 16), "I32": ("int32", 32),
    "U32": ("uint32", 32), "F32": ("float32", 32), "C64": ("complex64", 64), "F64": ("float64", 64), "I64": ("int64", 64),
    "U64": ("uint64", 64), "F4": ("float4_e2m1fn_x2", 4), "F6_E2M3": (None, 6), "F6_E3M2": (None, 6),
}  # fmt: skip

_LARGEST_HEADER: Final = 100_000_000  # bytes; the reference's own bound, used where no Limits are at hand
_DIMENSIONS: Final = 64
_MOST: Final = 1 << 62
_SHOWN: Final = 60

_WS: Final = r"[ \t\n\r]*"
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,18})"
# An array of numbers: at most 19 digits each, so that int() of a part is always cheap.
_ARRAY: Final = rf"\[{_WS}((?:{_NUMBER}{_WS}(?:,{_WS}{_NUMBER}{_WS}){{0,999}})?)\]"
_FIELD: Final = (
    rf'(?:"dtype"{_WS}:{_WS}"([A-Z0-9_]{{1,16}})"|"shape"{_WS}:{_WS}{_ARRAY}|"data_offsets"{_WS}:{_WS}'
    rf"\[{_WS}({_NUMBER}){_WS},{_WS}({_NUMBER}){_WS}\]){_WS}"
)
# Three fields; that each of the groups is set afterwards says that each stands there exactly once.
_RECORD: Final = re.compile(rf"\{{{_WS}(?:{_FIELD}(?:,{_WS}(?!\}})|(?=\}}))){{3}}\}}{_WS}")
_NAME: Final = re.compile(rf'"([^"\\\x00-\x1f]*)"{_WS}:{_WS}')
_COLON: Final = re.compile(rf"{_WS}:{_WS}")
_BLANK: Final = re.compile(_WS)
_STRING: Final = json.JSONDecoder(strict=True)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the header: `start` and `stop` count bytes from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    offset: int


class SafetensorsFile:
    """The format "safetensors"."""

    name: Final = "safetensors"

    def claims(self, source: Source) -> bool:
        """Whether a plausible header length is followed by a "{" (which the reference also takes behind blanks)."""
        head = source.head(8 + 64)
        length = int.from_bytes(head[:8], "little")
        return head[8:].lstrip(b" \t\r\n")[:1] == b"{" and length >= 2 and (length <= _LARGEST_HEADER or length <= source.size - 8)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the header; no more of the data is fetched than it takes to see that it is no stream."""
        contents = Contents(format=self.name)
        if source.size:
            second_stream(source, reading, contents)
        try:
            text = _header(source, reading.limits)
            entries, contents.metadata = _Header(text, reading.limits).parse()
            contents.table = _table(entries, 8 + len(text.encode()), source, contents)
        except MalformedError as error:
            offset = int(error.where[1:]) if error.where else None
            contents.error = error.message
            contents.findings.append(finding(error.rule, error.message, offset=offset))
            return contents
        contents.storages = [spec.storage for spec in contents.table.values()]
        return contents


def _bad(message: str, offset: int, rule: str = "SL401") -> MalformedError:
    return MalformedError(message, where=f"@{offset}").under(rule)


def _header(source: Source, limits: Limits) -> str:
    """The header's text, which must lie in the file, be no longer than `limits` grant, and be UTF-8."""
    if source.size < 8:
        raise _bad(f"the file has {source.size} bytes, and the header's length alone takes 8", 0)
    length = int.from_bytes(source.read(0, 8), "little")
    if length > limits.header_bytes:
        raise _bad(f"the header has {length} bytes; {limits.header_bytes} are read", 0)
    if length > source.size - 8:
        raise _bad(f"the header ends at byte {8 + length}, and the file has {source.size}", 0)
    try:
        return str(source.view(8, length, "the header"), "utf-8")
    except UnicodeDecodeError as error:
        raise _bad("the header is not UTF-8", 8 + error.start) from None


class _Header:
    """Reads the header from its first character to its last; `at` counts characters."""

    def __init__(self, text: str, limits: Limits) -> None:
        self.text, self.limits, self.at = text, limits, 0

    def parse(self) -> tuple[list[_Entry], dict[str, str]]:
        """Return the tensors in the order of the header, and the metadata."""
        if self.text[:1] != "{":
            raise self.bad("the header does not begin with '{'")
        entries: dict[str, _Entry] = {}
        metadata: dict[str, str] | None = None
        while self.more(first=not entries and metadata is None):
            start = self.at
            name = self.key()
            if name == "__metadata__":
                if metadata is not None:
                    raise self.bad("'__metadata__' stands there twice", start)
                metadata = self.texts()
            else:
                if name in entries:
                    raise self.bad(f"two tensors are named '{escape(name)}'", start)
                entries[name] = self.record(name, start)
            if len(entries) > self.limits.members:
                raise self.bad(f"more than {self.limits.members} tensors", start)
        if self.at != len(self.text):
            raise self.bad("the header goes on behind its object")
        return list(entries.values()), metadata or {}

    def bad(self, message: str, at: int | None = None) -> MalformedError:
        """An error at a character, told as the byte of the file."""
        at = self.at if at is None else at
        return _bad(message, 8 + (at if self.text.isascii() else len(self.text[:at].encode())))

    def shown(self) -> str:
        """What stands here, for a message."""
        rest = self.text[self.at : self.at + _SHOWN]
        return f"'{escape(rest)}'" if rest else "its end"

    def blank(self) -> None:
        """Skip JSON's blanks."""
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found is not None else self.at

    def more(self, *, first: bool) -> bool:
        """Go past "{", "," or "}" and say whether another member of the object follows."""
        here = self.text[self.at : self.at + 1]
        if here not in (("{",) if first else (",", "}")):
            raise self.bad(f"{'an object' if first else 'a comma or the end of the object'} is due, and {self.shown()} stands there")
        self.at += 1
        self.blank()
        if here == "{" and self.text[self.at : self.at + 1] == "}":
            self.at += 1
            self.blank()
            return False
        return here != "}"

    def string(self) -> str:
        """One JSON string, escapes undone."""
        if self.text[self.at : self.at + 1] != '"':
            raise self.bad(f"a text is due, and {self.shown()} stands there")
        try:
            # At a quote the decoder reads a string and nothing else: no nesting, no numbers.
            value, end = _STRING.raw_decode(self.text, self.at)
        except ValueError as error:
            raise self.bad(f"a text is not valid JSON: {escape(str(error).partition(':')[0])}") from None
        text = str(value)
        if not text.isascii() and any(0xD800 <= ord(char) < 0xE000 for char in text):
            raise self.bad("a text holds half a surrogate pair")
        self.at = end
        return text

    def key(self) -> str:
        """A name and its colon."""
        found = _NAME.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
            return str(found[1])
        name = self.string()
        colon = _COLON.match(self.text, self.at)
        if colon is None:
            raise self.bad(f"a colon is due, and {self.shown()} stands there")
        self.at = colon.end()
        return name

    def texts(self) -> dict[str, str]:
        """The value of "__metadata__": an object of texts."""
        if self.text[self.at : self.at + 1] != "{":
            raise self.bad(f"'__metadata__' is not an object: {self.shown()}")
        found: dict[str, str] = {}
        first = True
        while self.more(first=first):
            first = False
            start = self.at
            name = self.key()
            if name in found:
                raise self.bad(f"'__metadata__' has '{escape(name)}' twice", start)
            found[name] = self.string()
            self.blank()
            if len(found) > self.limits.members:
                raise self.bad(f"'__metadata__' has more than {self.limits.members} texts", start)
        self.blank()
        return found

    def record(self, name: str, start: int) -> _Entry:
        """The value of a tensor's name."""
        found = _RECORD.match(self.text, self.at)
        if found is None or None in found.groups():
            raise self.bad(f"tensor '{escape(name)}' is not an object of just dtype, shape and data_offsets: {self.shown()}")
        dtype, shape, begin, end = found.groups()
        if dtype not in _DTYPES:
            raise self.bad(f"tensor '{escape(name)}' has the dtype {escape(dtype)}, which does not exist")
        sizes = tuple(int(size) for size in shape.split(",")) if shape else ()
        if len(sizes) > _DIMENSIONS:
            raise self.bad(f"tensor '{escape(name)}' has {len(sizes)} dimensions; torch has at most {_DIMENSIONS}")
        self.at = found.end()
        offset = 8 + start if self.text.isascii() else 8
        return _Entry(name, dtype, sizes, int(begin), int(end), offset)


def _table(entries: list[_Entry], base: int, source: Source, contents: Contents) -> dict[str, TensorSpec]:
    """Check that the tensors cover the data, and return them in the order of their bytes, as the reference does.

    Args:
        entries: In the order of the header, which decides between tensors without bytes at the same place.
        base: First byte of the data in the file.
        source: The file.
        contents: Takes a finding for each dtype that torch does not have.
    """
    table: dict[str, TensorSpec] = {}
    position = 0
    for entry in sorted(entries, key=attrgetter("start", "stop")):
        torch_name, bits = _DTYPES[entry.dtype]
        numel = prod(entry.shape)
        if (
            entry.start != position
            or numel * bits != (entry.stop - entry.start) * 8
            or numel >= _MOST
            or max(entry.shape, default=0) >= _MOST
        ):
            raise _misplaced(entry, position, numel)
        position = entry.stop
        if torch_name is None:
            message = f"tensor '{escape(entry.name)}' is of dtype {entry.dtype}, which torch does not have: it cannot be loaded"
            contents.findings.append(finding("SL401", message, offset=entry.offset, level=Level.WARNING))
        else:
            table[entry.name] = _spec(entry, torch_name, base)
    if base + position != source.size:
        what = f"{base + position} bytes are described, and the file has {source.size}"
        raise _bad(what, min(base + position, source.size), "SL402")
    return table


def _misplaced(entry: _Entry, position: int, numel: int) -> MalformedError:
    """Say what is wrong with the place or the size of a tensor."""
    shown = f"tensor '{escape(entry.name)}'"
    if entry.start != position or entry.stop < entry.start:
        how = "a hole" if entry.start > position else "an overlap"
        return _bad(f"{shown} lies from {entry.start} to {entry.stop}, and {position} is due: {how}", entry.offset, "SL402")
    if numel >= _MOST or max(entry.shape, default=0) >= _MOST:
        return _bad(f"{shown} has a shape of {numel} elements", entry.offset)
    return _bad(f"{shown} has {numel} elements of {entry.dtype}, and {entry.stop - entry.start} bytes", entry.offset, "SL402")


def _spec(entry: _Entry, dtype: str, base: int) -> TensorSpec:
    """One tensor over a storage of its own."""
    shape = entry.shape
    if dtype == "float4_e2m1fn_x2":
        if not shape or shape[-1] % 2:
            message = f"tensor '{escape(entry.name)}' of shape {shape} packs two values into a byte, and its last dimension is odd"
            raise _bad(message, entry.offset)
        shape = (*shape[:-1], shape[-1] // 2)
    stride = [1] * len(shape)
    for index in range(len(shape) - 2, -1, -1):
        stride[index] = stride[index + 1] * max(1, shape[index + 1])
    nbytes = entry.stop - entry.start
    storage = StorageSpec(entry.name, dtype, prod(shape), nbytes, "cpu", Region(base + entry.start, nbytes))
    return TensorSpec(storage, dtype, shape, tuple(stride))


FORMAT: Final = SafetensorsFile()
