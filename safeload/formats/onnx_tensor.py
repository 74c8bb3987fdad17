"""ONNX tensors: what they say of themselves against the bytes that are there, and the files that they name.

Data may lie in another file beside the model. Programs join the model's directory and the name and open what comes out, so a name
that leads elsewhere makes them read any file (CVE-2022-25882, CVE-2024-27318, CVE-2026-27489), or overwrite it when the model is
saved (CVE-2025-51480); links do the same (CVE-2026-34446, CVE-2026-34447), and keys that are no part of the format set attributes
of the loader (CVE-2026-34445).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Final

from safeload.findings import Finding, Level, escape
from safeload.formats.base import Listed
from safeload.formats.protobuf_wire import Schema, Wire, signed
from safeload.lean_dataclass import dataclass, field
from safeload.source import Source
from safeload.walk import finding

__all__ = ["External", "Tensors", "location_problems"]

_TENSOR: Final[Schema] = {
    1: "V", 2: "v", 3: "m", 4: "F", 5: "V", 6: "M", 7: "V", 8: "m", 9: "m", 10: "D", 11: "V", 12: "m", 13: "M", 14: "v", 16: "M",
}  # fmt: skip
_ENTRY: Final[Schema] = {1: "m", 2: "m"}
_DIMENSIONS: Final = 4096
_MOST: Final = 1 << 62
_COUNTED: Final = 1 << 20  # bytes of packed numbers that are counted one by one
_SHOWN: Final = 100

# data_type → name, bits of an element, the field of numbers that it may lie in (None: raw bytes alone), numbers per element.
_TYPES: Final[dict[int, tuple[str, int, int | None, int]]] = {
    1: ("FLOAT", 32, 4, 1), 2: ("UINT8", 8, 5, 1), 3: ("INT8", 8, 5, 1), 4: ("UINT16", 16, 5, 1), 5: ("INT16", 16, 5, 1),
    6: ("INT32", 32, 5, 1), 7: ("INT64", 64, 7, 1), 8: ("STRING", 0, 6, 1), 9: ("BOOL", 8, 5, 1), 10: ("FLOAT16", 16, 5, 1),
    11: ("DOUBLE", 64, 10, 1), 12: ("UINT32", 32, 11, 1), 13: ("UINT64", 64, 11, 1), 14: ("COMPLEX64", 64, 4, 2),
    15: ("COMPLEX128", 128, 10, 2), 16: ("BFLOAT16", 16, 5, 1), 17: ("FLOAT8E4M3FN", 8, 5, 1), 18: ("FLOAT8E4M3FNUZ", 8, 5, 1),
    19: ("FLOAT8E5M2", 8, 5, 1), 20: ("FLOAT8E5M2FNUZ", 8, 5, 1), 21: ("UINT4", 4, 5, 0), 22: ("INT4", 4, 5, 0),
    23: ("FLOAT4E2M1", 4, 5, 0), 24: ("FLOAT8E8M0", 8, 5, 1), 25: ("UINT2", 2, 5, 0), 26: ("INT2", 2, 5, 0), 27: ("FLOAT6E2M3", 6, 5, 0),
    28: ("FLOAT6E3M2", 6, 5, 0),
}  # fmt: skip
_NUMBERS: Final = {4: 4, 5: 0, 7: 0, 10: 8, 11: 0}  # field → bytes of one number, 0 for varints

_KEYS: Final = frozenset({"location", "offset", "length", "checksum", "basepath"})
_DIGITS: Final = re.compile(r"[0-9]{1,18}\Z")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class External:
    """Where a tensor's bytes lie in another file; `nbytes` None: to its end."""

    location: str
    offset: int
    nbytes: int | None


@dataclass(slots=True)
class _Tensor:
    """What one message says."""

    dims: list[int] = field(default_factory=list)
    kind: int = 0
    name: str = ""
    raw: tuple[int, int] | None = None
    counts: dict[int, int | None] = field(default_factory=dict)
    texts: int = 0
    entries: list[tuple[str, str, int]] = field(default_factory=list)
    elsewhere: bool = False
    segment: bool = False


def location_problems(location: str) -> Iterator[str]:
    """Say what is wrong with the name of a file that should lie beside the model."""
    parts = re.split(r"[/\\]", location)
    for bad, what in (
        (not location or location == ".", "names no file"),
        ("\0" in location or any(ord(char) < 0x20 for char in location), "holds control characters"),
        (location[:1] in ("/", "\\"), "is absolute"),
        (_SCHEME.match(location) is not None, "begins with a drive or a scheme"),
        (".." in parts, "climbs out of the model's directory"),
        ("\\" in location, "holds a backslash, which some systems take for a slash"),
        (location[:1] == "~" or "$" in location or "%" in location, "holds what a shell would expand"),
        ("_MEM_ADDR_" in location or location.startswith("*/"), "stands for an address in memory"),
    ):
        if bad:
            yield what


class Tensors:
    """Reads the tensors of one model.

    Attributes:
        findings: What was found.
        listed: Those with a name.
        files: Location → (tensors, bytes up to which they reach).
    """

    def __init__(self, wire: Wire, source: Source) -> None:
        self.wire, self.source = wire, source
        self.findings: list[Finding] = []
        self.listed: list[Listed] = []
        self.files: dict[str, tuple[int, int]] = {}

    def note(self, rule: str, message: str, offset: int, level: Level | None = None) -> None:
        """Add a finding; a hostile model of a million tensors makes no million of them."""
        if len(self.findings) < _SHOWN:
            self.findings.append(finding(rule, message, offset=offset, level=level))

    def read(self, start: int, end: int, *, name: str = "") -> None:
        """Read one tensor.

        Args:
            start: First byte of its message.
            end: Behind the last.
            name: What it is called when it does not say it itself.

        Raises:
            MalformedError: the message breaks.
        """
        tensor = self._parsed(start, end)
        shown = f"tensor '{escape(tensor.name, 80)}'" if tensor.name else "a tensor"
        if any(size < 0 or size >= _MOST for size in tensor.dims) or prod(tensor.dims) >= _MOST:
            self.note("SL715", f"{shown} has a shape that no file can hold", start)
            return
        elements = prod(tensor.dims)
        known = _TYPES.get(tensor.kind)
        if known is None:
            self.note("SL715", f"{shown} is of type {tensor.kind}, which does not exist", start)
            return
        nbytes = -(-elements * known[1] // 8)
        if tensor.elsewhere or tensor.entries:
            self._external(tensor, shown, start, nbytes)
        else:
            self._inside(tensor, shown, start, elements, nbytes)
        self.listed.append(Listed(tensor.name or name, known[0], tuple(tensor.dims), 0 if tensor.elsewhere else nbytes))

    def _parsed(self, start: int, end: int) -> _Tensor:
        wire, found = self.wire, _Tensor()
        for number, kind, a, b in wire.checked(start, end, _TENSOR, "a tensor"):
            if number == 1:
                found.dims += map(signed, wire.numbers(kind, a, b, "a shape", _DIMENSIONS))
                if len(found.dims) > _DIMENSIONS:
                    raise wire.bad(f"a tensor of more than {_DIMENSIONS} dimensions", start)
            elif number == 2:
                found.kind = a
            elif number == 3:
                found.segment = True
            elif number in _NUMBERS:
                self._count(found, number, kind, a, b)
            elif number == 6:
                found.texts += 1
            elif number == 8:
                found.name = wire.text(a, b, 1 << 12)
            elif number == 9:
                found.raw = (a, b)
            elif number == 13:
                found.entries.append(self._entry(a, b))
            elif number == 14:
                if a > 1:
                    self.note("SL715", f"a tensor lies at the place {a}, which does not exist", start)
                found.elsewhere = a == 1
        return found

    def _count(self, found: _Tensor, number: int, kind: int, a: int, b: int) -> None:
        """How many numbers a field has; None when there are too many to be counted."""
        size = _NUMBERS[number]
        before = found.counts.get(number, 0)
        if before is None:
            return
        if kind != 2:
            count: int | None = 1
        elif size:
            count = (b - a) // size if not (b - a) % size else -1
        elif b - a > _COUNTED:
            count = None
        else:
            packed = bytes(self.wire.window.view(a, b - a, "numbers"))
            count = sum(byte < 0x80 for byte in packed) if b - a < 64 else len(packed.translate(None, _CONTINUED))
        found.counts[number] = None if count is None else before + count

    def _entry(self, start: int, end: int) -> tuple[str, str, int]:
        key = value = ""
        for number, _, a, b in self.wire.checked(start, end, _ENTRY, "an entry of external data"):
            if number == 1:
                key = self.wire.text(a, b, 1 << 12)
            else:
                value = self.wire.text(a, b, 1 << 14)
        return key, value, start

    def _inside(self, tensor: _Tensor, shown: str, start: int, elements: int, nbytes: int) -> None:
        """The bytes are in the model: there must be as many as the shape says."""
        name, bits, number, per = _TYPES[tensor.kind]
        if tensor.segment:
            self.note("SL715", f"{shown} is a segment of another tensor, which no reader puts together", start)
            return
        if tensor.raw is not None:
            held = tensor.raw[1] - tensor.raw[0]
            if not bits:
                self.note("SL715", f"{shown} of {name} has raw bytes", start)
            elif held != nbytes and bits != 6:
                self.note("SL715", f"{shown} of {elements} elements of {name} needs {nbytes} bytes, and {held} are there", start)
            return
        count = tensor.texts if number == 6 else tensor.counts.get(number or 0, 0)
        if count is None or not per:
            return
        if count != elements * per:
            self.note("SL715", f"{shown} of {elements} elements of {name} has {count} numbers", start)

    def _external(self, tensor: _Tensor, shown: str, start: int, nbytes: int) -> None:
        """The bytes are in another file: where, and would a program that opens it stay beside the model?"""
        values: dict[str, str] = {}
        for key, value, at in tensor.entries:
            if key in values:
                self.note("SL711", f"{shown} has two entries '{escape(key, 40)}' of external data", at)
            values[key] = value
            if key not in _KEYS and not key.startswith("prepacked"):
                self.note("SL711", f"{shown} has an entry '{escape(key, 40)}' of external data, which the format does not have", at)
        location = values.get("location", "")
        for what in location_problems(location):
            self.note("SL711", f"{shown} has its data in '{escape(location, 120)}', which {what}", start)
        if values.get("basepath"):
            self.note("SL711", f"{shown} names the directory '{escape(values['basepath'], 80)}' for its data", start)
        for key in ("offset", "length"):
            if key in values and not _DIGITS.match(values[key]):
                self.note("SL711", f"{shown} has its data at the {key} '{escape(values[key], 40)}', which is no number of bytes", start)
                return
        if tensor.raw is not None and tensor.elsewhere:
            self.note("SL715", f"{shown} has its data in the model and in another file", start)
        length = int(values["length"]) if values.get("length") else None
        if length is not None and length != nbytes and _TYPES[tensor.kind][1] not in (0, 6):
            self.note("SL715", f"{shown} needs {nbytes} bytes, and {length} of another file are its own", start)
        count, reach = self.files.get(location, (0, 0))
        self.files[location] = (count + 1, max(reach, int(values.get("offset") or 0) + (length or nbytes)))

    def finish(self) -> None:
        """Say which other files the model needs, and look whether links or sizes there speak against it."""
        for location, (count, reach) in list(self.files.items())[:_SHOWN]:
            shown = f"'{escape(location, 120)}'"
            if not any(location_problems(location)):
                self.findings += self._beside(location, shown, reach)
            self.findings.append(finding("SL718", f"{count} tensors have their data in {shown}, up to byte {reach}"))

    def _beside(self, location: str, shown: str, reach: int) -> Iterator[Finding]:
        """What is wrong with the file of this name beside the model. It is looked at and never opened."""
        if self.source.path is None:
            return
        model = Path(self.source.path).absolute()
        try:
            there = (model.parent / location).resolve(strict=True)
            info = there.stat()
            # Caches of hubs make a model of links; the files that they lead to lie in one directory, too.
            inside = {model.parent.resolve(), model.resolve().parent}
        except (OSError, ValueError, RuntimeError):
            return  # not there: whoever loads the model will say so
        if not any(there.is_relative_to(folder) for folder in inside):
            message = f"{shown}, which has data of the model, is a link that leads out of its directory, to '{escape(str(there), 120)}'"
            yield finding("SL711", message)
        elif not stat.S_ISREG(info.st_mode):
            yield finding("SL711", f"{shown}, which has data of the model, is no regular file")
        elif info.st_size < reach:
            yield finding("SL715", f"{shown} has {info.st_size} bytes, and tensors of the model reach up to byte {reach}")


_CONTINUED: Final = bytes(range(0x80, 0x100))
