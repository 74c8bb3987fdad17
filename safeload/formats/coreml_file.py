"""Core ML's models: a protocol buffer of networks, pipelines and programs, and the files of numbers beside programs.

A custom layer or model names a class of the application that loads it; a linked model is another file, looked up by name; a program
takes its numbers from files below the model's directory. The rest are layers of the system's own.
Source: Apple's .proto files as coremltools carries them, and the layout of its storage of blobs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.config_names import leaves_directory
from safeload.formats.container import Notes
from safeload.formats.protobuf_wire import BYTES, DEPTH, VARINT, Wire
from safeload.formats.window import Window
from safeload.source import Source

__all__ = ["CoreMLFile", "CoreMLWeights"]

_NEWEST: Final = 30  # the version of the specification; 10 in 2026
_HERE: Final = "@model_path/"
_DESCRIPTION: Final = frozenset((1, 10, 11, 12, 13, 20, 21, 50, 100))
_KINDS: Final = frozenset(
    map(
        int,
        """200 201 202 300 301 302 303 304 400 401 402 403 404 500 501 502 555 556 560 600 601 602 603 604 606 607 609 610 900
        2000 2001 2002 2003 2004 2005 2006 3000""".split(),  # noqa: SIM905 - a table for people
    )
)
_FIELDS: Final = {1: VARINT, 2: BYTES, 10: VARINT} | dict.fromkeys(_KINDS, BYTES)

# Message → field → message within. What is not listed is numbers, names and layers that reach for nothing.
_WITHIN: Final[dict[str, dict[int, str]]] = {
    "a model": {200: "pipelines", 201: "pipelines", 202: "a pipeline", 303: "a network", 403: "a network", 500: "a network",
                502: "a program", 555: "a custom model", 556: "a linked model", 2: "a description"},
    "pipelines": {1: "a pipeline"},
    "a pipeline": {1: "a model"},
    "a network": {1: "a layer"},
    "a layer": {500: "a custom layer", 605: "a branch", 615: "a loop"},
    "a branch": {1: "a network", 2: "a network"},
    "a loop": {3: "a network", 4: "a network"},
    "a linked model": {1: "a linked file"},
    "a linked file": {1: "its name", 2: "its search path"},
    "a program": {2: "an entry of functions", 4: "an entry of values"},
    "an entry of functions": {2: "a function"},
    "a function": {3: "an entry of blocks", 4: "an entry of values"},
    "an entry of blocks": {2: "a block"},
    "a block": {3: "an operation", 4: "an entry of values"},
    "an operation": {2: "an entry of arguments", 4: "a block", 5: "an entry of values"},
    "an entry of arguments": {2: "an argument"},
    "an argument": {1: "a binding"},
    "a binding": {2: "a value"},
    "an entry of values": {2: "a value"},
    "a value": {3: "an immediate value", 5: "a place"},
    "an immediate value": {2: "values", 3: "values", 4: "pairs"},
    "values": {1: "a value"},
    "pairs": {1: "a pair"},
    "a pair": {1: "a value", 2: "a value"},
    "a description": {100: "metadata"},
    "metadata": {100: "a text of metadata"},
}  # fmt: skip
# Message → field → what its text is.
_TEXTS: Final = {
    "a custom layer": 10, "a custom model": 10, "its name": 1, "its search path": 1, "a place": 1, "a text of metadata": 2,
}  # fmt: skip


class CoreMLFile(CheckedFile):
    """The format "coreml"."""

    name = "coreml"

    def claims(self, source: Source) -> bool:
        """A version, a description, and a field that is a model."""
        if source.head(1) != b"\x08":
            return False
        kinds, described = 0, False
        try:
            wire = Wire(source, "SL855", 64)
            for index, (number, form, start, end) in enumerate(wire.fields(0, source.size, "the model", cut=True)):
                if not index and (number != 1 or not 0 < start <= _NEWEST):
                    return False
                if number == 2 and form == BYTES:
                    inner = Wire(source, "SL855", 4096).fields(start, end, "it", cut=True)
                    described = all(field in _DESCRIPTION for field, _, _, _ in inner)
                kinds += number in _KINDS and form == BYTES
        except SafeloadError:
            return kinds > 0 and described
        return kinds > 0 and described

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Go through every network, pipeline and program."""
        wire = Wire(source, "SL855")
        unknown = set()
        for number, form, start, _ in wire.fields(0, source.size, "the model"):
            if number == 1 and form == VARINT:
                contents.metadata["version"] = str(start)
            if _FIELDS.get(number) != form:
                unknown.add(str(number))
        if unknown:
            notes.add("SL855", f"fields that the schema does not have: {', '.join(sorted(unknown)[:8])}")
        for what, text, at in _texts(wire, 0, source.size):
            _judge(notes, what, text, at)
        contents.end = source.size


def _judge(notes: Notes, what: str, text: str, at: int) -> None:
    shown = escape(text, 120)
    if what in ("a custom layer", "a custom model"):
        notes.add("SL871", f"{what} of the class '{shown}', which the application that loads it has to bring", offset=at)
    elif what in ("its name", "its search path"):
        why = leaves_directory(text.removeprefix(_HERE))
        said = f"a linked model: {what} is '{shown}'" + (f", {why}" if why else ", another file that is loaded with it")
        notes.add("SL824" if why else "SL871", said, offset=at)
    elif what == "a place":
        why = leaves_directory(text.removeprefix(_HERE)) or ("" if text.startswith(_HERE) else "not below the model's directory")
        if why or not text:
            notes.add("SL824", f"numbers in '{shown}', {why}", offset=at, level=Level.ERROR)
    else:
        note_code(notes, [("the metadata", text)])


def _texts(wire: Wire, start: int, end: int) -> Iterator[tuple[str, str, int]]:
    """(message, its text, offset) of everything that names a class or a file."""
    todo = [("a model", start, end, 0)]
    while todo:
        what, first, last, depth = todo.pop()
        if depth > DEPTH:
            raise wire.bad(f"messages are nested deeper than {DEPTH} levels", first)
        inside, text = _WITHIN.get(what, {}), _TEXTS.get(what)
        for number, form, a, b in wire.fields(first, last, what):
            if number in inside and form == BYTES:
                todo.append((inside[number], a, b, depth + 1))
            elif number == text and form == BYTES:
                yield what, wire.text(a, b), a


# ---- the numbers of programs

_HEADER: Final = struct.Struct("<2I")
_BLOB: Final = struct.Struct("<2I3Q")  # mark, type, bytes, where they begin, bits of padding
_MARK: Final = 0xDEADBEEF
_SPACING: Final = 64
_BLOBS: Final = 1_000_000


class CoreMLWeights(CheckedFile):
    """The format "coreml-weights"."""

    name = "coreml-weights"
    broken = "SL851"
    largest = 1 << 40

    def claims(self, source: Source) -> bool:
        """Version 2, and the mark of the first blob; or no blob at all."""
        head = source.head(_SPACING + 4)
        if len(head) < _SPACING:
            return False
        count, version = _HEADER.unpack_from(head)
        first = _MARK.to_bytes(4, "little") if count else b""
        return version == 2 and not any(head[8:_SPACING]) and head[_SPACING:] == first

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Compare the place of every blob with what there is."""
        window = Window(source, "SL851")
        count, _ = window.unpack(_HEADER, 0, "the header")
        at = end = _SPACING
        for index in range(min(count, _BLOBS)):
            mark, _, nbytes, offset, _ = window.unpack(_BLOB, at, f"blob {index}")
            if mark != _MARK or offset < at + _SPACING or offset + nbytes > source.size:
                message = f"blob {index} lies in bytes {offset} to {offset + nbytes}; the file has {source.size}"
                raise MalformedError(message, where=f"@{at}").under("SL851")
            end = offset + nbytes
            at = -(-end // _SPACING) * _SPACING
        contents.metadata["blobs"] = str(count)
        if count > _BLOBS:
            notes.add("SL855", f"{count} blobs; the first {_BLOBS} were looked at")
        contents.end = source.size if source.size <= at else end
        if source.size > at:
            notes.add("SL126", f"{source.size - at} bytes follow the last blob", offset=at)
