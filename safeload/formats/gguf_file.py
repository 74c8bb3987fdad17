"""GGUF files (llama.cpp and what is built on it): a header, metadata, a table of tensors, their bytes.

Everything in front of the tensors' bytes is lengths and counts that a reader in C trusts, so each is compared with what is left of the
file before it is used, and every tensor must lie in the file, on its alignment, beside all others. Texts that are chat
templates go to `chat_template`: they are programs.
Source of the format: the GGUF specification in ggml's repository, versions 1 to 3; block sizes from ggml's type traits.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Final, NamedTuple

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import Finding, escape
from safeload.formats.base import Contents, Listed
from safeload.formats.chat_template import internals_named, judge_template
from safeload.formats.polyglot import second_stream
from safeload.formats.storages import as_finding
from safeload.formats.window import Window
from safeload.lean_dataclass import dataclass
from safeload.source import Limits, Reading, Source
from safeload.walk import finding

__all__ = ["GgufFile"]

_MAGIC: Final = b"GGUF"
_DIMENSIONS: Final = 4  # ggml's GGML_MAX_DIMS
_NAME: Final = 64  # ggml's GGML_MAX_NAME, its NUL included
_KEY: Final = 65_535  # bytes of a key, by the specification
_NESTED: Final = 4
_MOST: Final = 1 << 62
_SHOWN: Final = 200  # entries of metadata that are shown
_TEMPLATES: Final = 1 << 19  # characters of all templates together
_ALIGNMENT: Final = 32
_LARGEST_ALIGNMENT: Final = 1 << 20

_STRING: Final = 8
_ARRAY: Final = 9
# Value type → struct code of one value.
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}

# ggml's types: id → name, elements of a block, bytes of a block. What has been taken out of ggml again keeps its number.
_TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 31: ("Q4_0_4_4", 32, 18), 32: ("Q4_0_4_8", 32, 18), 33: ("Q4_0_8_8", 32, 18),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 36: ("IQ4_NL_4_4", 32, 18), 37: ("IQ4_NL_4_8", 32, 18), 38: ("IQ4_NL_8_8", 32, 18),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip


class _Place(NamedTuple):
    """Where a tensor lies: bytes from the start of the data."""

    start: int
    stop: int
    name: str


@dataclass(slots=True)
class _Forms:
    """The forms of one byte order and version."""

    u32: struct.Struct
    count: struct.Struct
    order: str

    @classmethod
    def of(cls, order: str, version: int) -> _Forms:
        # Version 1 counted with 32 bits.
        return cls(struct.Struct(f"{order}I"), struct.Struct(f"{order}{'I' if version == 1 else 'Q'}"), order)


class GgufFile:
    """The format "gguf"."""

    name: Final = "gguf"

    def claims(self, source: Source) -> bool:
        """By its magic."""
        return source.head(4) == _MAGIC

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read everything in front of the tensors' bytes, and none of those."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        try:
            _Reader(source, reading.limits, contents).read()
        except MalformedError as error:
            contents.error = error.message
            contents.findings.append(as_finding(error, None))
        except SafeloadError as error:
            contents.error = error.message
        return contents


def _bad(message: str, offset: int, rule: str = "SL701") -> MalformedError:
    return MalformedError(message, where=f"@{offset}").under(rule)


class _Reader:
    """Reads one file from its front; `at` is the next byte."""

    def __init__(self, source: Source, limits: Limits, contents: Contents) -> None:
        self.source, self.limits, self.contents = source, limits, contents
        self.window = Window(source, "SL701")
        self.at = 4
        self.forms = _Forms.of("<", 3)
        self.alignment = _ALIGNMENT
        self.left = _TEMPLATES

    # ---- numbers and texts

    def number(self, form: struct.Struct, what: str) -> int:
        value = self.window.unpack(form, self.at, what)[0]
        self.at += form.size
        return value

    def counted(self, what: str, smallest: int) -> int:
        """A count of things that take at least `smallest` bytes each: no more than the rest of the file can hold."""
        start = self.at
        count = self.number(self.forms.count, what)
        left = self.source.size - self.at
        if count > left // smallest:
            raise _bad(f"{what} is {count}, and the {left} bytes that are left can hold {left // smallest}", start)
        if count > self.limits.members * 16:
            raise LimitError(f"{what} is {count}; at most {self.limits.members * 16} are read", where=f"@{start}").under("SL701")
        return count

    def string(self, what: str) -> str:
        start = self.at
        length = self.counted(f"the length of {what}", 1)
        raw = self.window.view(self.at, length, what)
        self.at += length
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            raise _bad(f"{what} is not UTF-8", start) from None

    # ---- the parts of a file

    def read(self) -> None:
        version = self._version()
        tensors_at = self.at
        tensors = self.number(self.forms.count, "the number of tensors")
        entries = self.counted("the number of metadata entries", 8 if version == 1 else 13)
        # Checked against what is left, only when what stands in front of the table has been read; for now a bound is enough.
        if tensors > self.limits.members or tensors > self.source.size // 16:
            raise _bad(f"the number of tensors is {tensors}, in a file of {self.source.size} bytes", tensors_at)
        order = "big" if self.forms.order == ">" else "little"
        self.contents.metadata |= {"version": str(version), "tensors": str(tensors), "byteorder": order}
        self._metadata(entries)
        places = self._table(tensors)
        self._layout(places)

    def _version(self) -> int:
        raw = bytes(self.window.view(4, 4, "the version"))
        self.at = 8
        version = int.from_bytes(raw, "little")
        order = "<"
        if version & 0xFFFF == 0 and version:
            version, order = int.from_bytes(raw, "big"), ">"
        if version not in (1, 2, 3):
            raise _bad(f"GGUF version {version}; 1, 2 and 3 exist", 4)
        self.forms = _Forms.of(order, version)
        return version

    def _metadata(self, entries: int) -> None:
        known: set[str] = set()
        for _ in range(entries):
            start = self.at
            key = self.string("a metadata key")
            if key in known:
                raise _bad(f"two metadata entries are named '{escape(key)}'", start)
            if len(key) > _KEY or not key:
                raise _bad(f"a metadata key of {len(key)} characters", start)
            known.add(key)
            kind = self.number(self.forms.u32, "a type")
            self._value(key, kind, start)

    def _value(self, key: str, kind: int, start: int) -> None:
        shown: str | None = None
        if kind == _STRING:
            value_at = self.at
            text = self.string(f"the value of '{escape(key)}'")
            self._text(key, text, value_at)
            shown = escape(text)
        elif kind == _ARRAY:
            shown = self._array(key, 0)
        elif kind in _SCALARS:
            form = struct.Struct(self.forms.order + _SCALARS[kind])
            number = self.number(form, f"the value of '{escape(key)}'")
            if kind == 7 and number > 1:
                raise _bad(f"'{escape(key)}' is a boolean of value {number}", start)
            if key == "general.alignment":
                self._set_alignment(number, kind, start)
            shown = str(bool(number)) if kind == 7 else f"{number:g}" if isinstance(number, float) else str(number)
        else:
            raise _bad(f"'{escape(key)}' is of type {kind}, which does not exist", start)
        if len(self.contents.metadata) < _SHOWN:
            self.contents.metadata[escape(key)] = shown

    def _set_alignment(self, number: int, kind: int, start: int) -> None:
        if kind != 4 or not 0 < number <= _LARGEST_ALIGNMENT or number & (number - 1):
            raise _bad(f"the alignment is {number}; it is a 32-bit power of two", start)
        self.alignment = number

    def _array(self, key: str, depth: int) -> str:
        start = self.at
        kind = self.number(self.forms.u32, "the type of an array")
        what = f"the length of the array '{escape(key)}'"
        if kind == _STRING:
            count = self.counted(what, self.forms.count.size)
            self._strings(key, count)
            return f"{count} texts"
        if kind == _ARRAY:
            if depth >= _NESTED:
                raise _bad(f"'{escape(key)}' is nested deeper than {_NESTED} arrays", start)
            count = self.counted(what, 4 + self.forms.count.size)
            for _ in range(count):
                self._array(key, depth + 1)
            return f"{count} arrays"
        if kind not in _SCALARS:
            raise _bad(f"'{escape(key)}' is an array of type {kind}, which does not exist", start)
        size = struct.calcsize("=" + _SCALARS[kind])
        count = self.counted(what, size)
        self.at += count * size
        return f"{count} numbers"

    def _strings(self, key: str, count: int) -> None:
        """Step over the texts of an array; those of a vocabulary are too many for a call each."""
        window, form, size, end = self.window, self.forms.count, self.forms.count.size, self.source.size
        at, unpack = self.at, form.unpack_from
        judged = _is_template_key(key)
        for _ in range(count):
            if at + size > end:
                raise _bad(f"a text of '{escape(key)}' ends behind the file", at)
            place = window.have(at, size)
            (length,) = unpack(window.piece, place)
            at += size + length
            if at > end:
                raise _bad(f"a text of '{escape(key)}' has {length} bytes, and the file ends before", at - size - length)
            if judged:
                self._text(key, bytes(window.view(at - length, length, "a text")).decode("utf-8", "replace"), at - length)
        self.at = at

    def _text(self, key: str, text: str, offset: int) -> None:
        """A text of the metadata: when it is a template, what it would do."""
        problem = None
        if not _is_template_key(key):
            found = internals_named(text)  # nobody renders it; only what is meant for that is worth a word
        elif len(text) > self.left:
            found = [finding("SL707", f"more than {_TEMPLATES} characters of chat templates; the rest was not judged")]
        else:
            self.left -= len(text)
            found, problem = judge_template(text)
        self.contents.findings += (_placed(item, key, offset) for item in found)
        self.contents.error = self.contents.error or problem

    def _table(self, tensors: int) -> list[_Place]:
        left = self.source.size - self.at
        if tensors > left // 24 + 1:
            raise _bad(f"the number of tensors is {tensors}, and {left} bytes are left for their table", self.at)
        known: set[str] = set()
        places: list[_Place] = []
        for _ in range(tensors):
            start = self.at
            name = self.string("a tensor's name")
            shown = f"tensor '{escape(name)}'"
            if name in known:
                raise _bad(f"two tensors are named '{escape(name)}'", start)
            known.add(name)
            if len(name.encode()) >= _NAME:
                self._unusual(f"{shown} has a name of {len(name.encode())} bytes; llama.cpp takes less than {_NAME}", start)
            places.append(self._tensor(name, shown, start))
        return places

    def _tensor(self, name: str, shown: str, start: int) -> _Place:
        count = self.number(self.forms.u32, "a number of dimensions")
        if count > _DIMENSIONS:
            raise _bad(f"{shown} has {count} dimensions; ggml has at most {_DIMENSIONS}", start)
        shape = tuple(self.number(self.forms.count, "a dimension") for _ in range(count))
        kind = self.number(self.forms.u32, "a tensor's type")
        offset = self.number(struct.Struct(self.forms.order + "Q"), "a tensor's offset")
        elements = prod(shape)
        if elements >= _MOST or max(shape, default=0) >= _MOST:
            raise _bad(f"{shown} has a shape of {elements} elements", start)
        if kind not in _TYPES:
            self._unusual(f"{shown} is of type {kind}, which is not ggml's: its size cannot be told", start)
            self.contents.listed.append(Listed(name, f"type {kind}", shape[::-1], 0))
            return _Place(offset, offset, shown)
        dtype, block, nbytes = _TYPES[kind]
        if (shape[0] if shape else 1) % block:
            raise _bad(f"{shown} of {dtype} has rows of {shape[0] if shape else 1} elements, which are not whole blocks of {block}", start)
        size = elements // block * nbytes
        self.contents.listed.append(Listed(name, dtype, shape[::-1], size))
        return _Place(offset, offset + size, shown)

    def _unusual(self, message: str, offset: int) -> None:
        if sum(item.rule == "SL708" for item in self.contents.findings) < _SHOWN:
            self.contents.findings.append(finding("SL708", message, offset=offset))

    def _layout(self, places: list[_Place]) -> None:
        """Every tensor lies in the file, on the alignment, and beside the others."""
        base = -(-self.at // self.alignment) * self.alignment
        behind, before = 0, ""
        for place in sorted(places):
            if place.start % self.alignment:
                raise _bad(f"{place.name} lies at {place.start}, off the alignment of {self.alignment}", self.at, "SL702")
            if base + place.stop > self.source.size:
                message = f"{place.name} ends at byte {base + place.stop}, and the file has {self.source.size}"
                raise _bad(message, self.at, "SL702")
            if place.start < behind and place.stop > place.start:
                raise _bad(f"{place.name} begins at {place.start}, inside of {before}, which ends at {behind}", self.at, "SL702")
            if place.start - behind >= self.alignment:
                self._unusual(f"{place.start - behind} bytes in front of {place.name} belong to no tensor", base + behind)
            if place.stop > behind:
                behind, before = place.stop, place.name
        end = base + behind if places else self.at
        self.contents.end = self.source.size
        if self.source.size - end >= max(self.alignment, _ALIGNMENT):
            self.contents.end = end
            self._unusual(f"{self.source.size - end} bytes follow the last tensor", end)


def _is_template_key(key: str) -> bool:
    return "template" in key.casefold()


def _placed(item: Finding, key: str, offset: int) -> Finding:
    return finding(item.rule, f"'{escape(key, 80)}': {item.message}", offset=offset, level=item.level)
