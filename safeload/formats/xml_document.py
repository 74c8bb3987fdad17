"""XML as model formats use it: read with expat, with everything off that lets a document reach out or grow.

A document type declaration ends the reading: entities, external subsets and parameters all begin with one, and no writer of these
formats needs it. Source: expat's handlers as Python's xml.parsers.expat gives them.
"""

from __future__ import annotations

import re
from typing import Final
from xml.parsers import expat

from safeload.errors import MalformedError
from safeload.findings import Level, escape
from safeload.formats.container import Notes
from safeload.source import Source

__all__ = ["XmlDocument", "first_element"]

_HEAD: Final = 64 * 1024
_CHUNK: Final = 1 << 20
_DEPTH: Final = 2_000  # a tree is nested as deep as it is
_ELEMENT: Final = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_COMMENT: Final = re.compile(rb"<!--.*?-->", re.DOTALL)
_DECLARED: Final = re.compile(rb"""<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
# The encodings that expat knows by itself. For any other Python would look up a codec by a name out of the file.
_ENCODINGS: Final = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "us-ascii", "ascii": "us-ascii", "iso-8859-1": "iso-8859-1", "latin1": "iso-8859-1",
    "windows-1252": "iso-8859-1", "cp1252": "iso-8859-1", "utf-16": "utf-16", "utf-16le": "utf-16", "utf-16be": "utf-16",
}  # fmt: skip
_OUTSIDE: Final = {
    "http://www.w3.org/2001/XInclude": "includes another document",
    "http://www.w3.org/1999/XSL/Transform": "brings a stylesheet that runs",
}
_LINK: Final = "http://www.w3.org/1999/xlink href"


class _Stop(Exception):  # noqa: N818 — leaves expat, and is no error
    """There is no sense in reading on."""


def first_element(source: Source) -> tuple[bytes | None, bytes]:
    """The name of the first element of a document in any of expat's encodings (None: it is no XML), and the document's front."""
    head = source.head(_HEAD).removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"")  # UTF-16 is ASCII with zeros between
    if head.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").lstrip()[:1] != b"<":
        return None, head
    first = _ELEMENT.search(_COMMENT.sub(b"", head))
    return first and first[1], head


class XmlDocument:
    """A document that is gone through once, element by element; formats override `begin`, `finish` and `characters`.

    Args:
        notes: Takes the findings.

    Attributes:
        open: The elements around the place where the parser stands, outermost first.
    """

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.open: list[str] = []
        self.told: set[str] = set()

    def add(self, rule: str, message: str, *, level: Level | None = None) -> None:
        """Add a finding where the parser stands, the same one only once."""
        if message not in self.told:
            self.told.add(message)
            self.notes.add(rule, message, offset=self.here, level=level)

    @property
    def here(self) -> int:
        """Where the parser stands, in bytes."""
        return max(0, self.parser.CurrentByteIndex)

    def parse(self, source: Source) -> bool:
        """Feed the whole file to expat.

        Returns:
            Whether all of it was read.

        Raises:
            MalformedError: it is not well-formed, or in an encoding that is not read.
        """
        self.parser = expat.ParserCreate(_encoding(source.head(512)), " ")
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.EntityDeclHandler = self._entity
        self.parser.ExternalEntityRefHandler = self._reference
        self.parser.ProcessingInstructionHandler = self.instruction
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self.characters
        try:
            for at in range(0, source.size, _CHUNK):
                self.parser.Parse(source.read(at, min(_CHUNK, source.size - at)), at + _CHUNK >= source.size)
        except _Stop:
            return False
        except expat.ExpatError as error:
            text = expat.ErrorString(error.code)
            raise MalformedError(f"not well-formed: {text}", where=f"@{max(0, self.parser.ErrorByteIndex)}") from None
        return True

    # ---- what a format looks at

    def begin(self, space: str, name: str, attributes: dict[str, str]) -> None:
        """An element begins; it is the last of `open`."""

    def finish(self) -> None:
        """An element ends; it is still the last of `open`."""

    def characters(self, data: str) -> None:
        """Text in an element, perhaps a part of it."""

    def instruction(self, target: str, data: str) -> None:
        """A stylesheet is fetched by whoever displays the document."""
        if target.casefold() == "xml-stylesheet":
            self.add("SL853", f"a stylesheet: {escape(data, 80)}")
        else:
            self.add("SL855", f"a processing instruction for '{escape(target, 40)}'")

    # ---- what none may have

    def _doctype(self, name: str, system: str | None, public: str | None, subset: int) -> None:
        """No model needs a document type."""
        if system is None and public is None and not subset:
            self.add("SL855", f"a document type declaration, '{escape(name, 40)}'")
            return
        what = f"of '{escape(system or public or '', 80)}'" if system or public else "with declarations of its own"
        self.add("SL853", f"a document type {what}: it can define entities that grow without end or read files")
        raise _Stop

    def _entity(self, *_: object) -> None:
        """An entity declaration is never read on."""
        self.add("SL853", "declares an entity")
        raise _Stop

    def _reference(self, *_: object) -> int:
        """An external entity is never fetched."""
        self.add("SL853", "refers to an external entity")
        raise _Stop

    def _start(self, full: str, attributes: dict[str, str]) -> None:
        space, _, name = full.rpartition(" ")
        if len(self.open) >= _DEPTH:
            raise MalformedError(f"elements are nested deeper than {_DEPTH} levels")
        self.open.append(name)
        if space in _OUTSIDE:
            self.add("SL853", f"{_OUTSIDE[space]}: {escape(attributes.get('href', name), 80)}")
        elif _LINK in attributes:
            self.add("SL853", f"links to {escape(attributes[_LINK], 80)}", level=Level.WARNING)
        self.begin(space, name, attributes)

    def _end(self, _: str) -> None:
        self.finish()
        self.open.pop()


def _encoding(head: bytes) -> str:
    """The document's encoding, one of expat's own.

    Raises:
        MalformedError: it declares another one.
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:4]:
        return "utf-16"
    found = _DECLARED.search(head)
    name = found[1].decode("ascii", "replace").lower() if found else "utf-8"
    if name not in _ENCODINGS or _ENCODINGS[name] == "utf-16":
        raise MalformedError(f"the encoding '{escape(name)}' is not read")
    return _ENCODINGS[name]
