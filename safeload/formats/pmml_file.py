"""PMML: models as XML, read with expat and with everything off that lets an XML document reach out or grow.

A document type declaration ends the reading: entities, external subsets and parameters all begin with one, and no writer of
PMML needs it. What remains is what the standard leaves open: extensions, functions by the name of a Java class, tables elsewhere.
Source: dmg.org, PMML 4.4; expat's handlers as Python's xml.parsers.expat gives them.
"""

from __future__ import annotations

import re
from typing import Final
from xml.parsers import expat

from safeload.errors import MalformedError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.container import Notes
from safeload.source import Source

__all__ = ["PmmlFile"]

_HEAD: Final = 64 * 1024
_CHUNK: Final = 1 << 20
_DEPTH: Final = 2_000  # a tree is nested as deep as it is
_TEXT: Final = 1 << 16
_PMML: Final = re.compile(rb"<(?:[\w.-]+:)?PMML[\s>/]")
_ELEMENT: Final = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_COMMENT: Final = re.compile(rb"<!--.*?-->", re.DOTALL)
_DECLARED: Final = re.compile(rb"""<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
# The encodings that expat knows by itself. For any other Python would look up a codec by a name out of the file.
_ENCODINGS: Final = {
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "us-ascii", "ascii": "us-ascii", "iso-8859-1": "iso-8859-1", "latin1": "iso-8859-1",
    "windows-1252": "iso-8859-1", "cp1252": "iso-8859-1", "utf-16": "utf-16", "utf-16le": "utf-16", "utf-16be": "utf-16",
}  # fmt: skip
_NAMESPACE: Final = re.compile(r"http://www\.dmg\.org/PMML-\d+_\d+(?:_\d+)?")
_OUTSIDE: Final = {
    "http://www.w3.org/2001/XInclude": "includes another document",
    "http://www.w3.org/1999/XSL/Transform": "brings a stylesheet that runs",
}
_LINK: Final = "http://www.w3.org/1999/xlink href"
_ACTIVE: Final = frozenset(("applet", "embed", "iframe", "object", "script", "import", "include"))
_NAMES: Final = """
    + - * / min max sum avg median product log10 ln sqrt abs exp pow threshold floor ceil round rint expm1 hypot ln1p sin asin sinh cos
    acos cosh tan atan tanh modulo isMissing isNotMissing isValid isNotValid equal notEqual lessThan lessOrEqual greaterThan
    greaterOrEqual and or not isIn isNotIn if uppercase lowercase stringLength substring trimBlanks concat replace matches formatNumber
    formatDatetime dateDaysSinceYear dateSecondsSinceYear dateSecondsSinceMidnight normalCDF normalPDF stdNormalCDF stdNormalPDF
    normalIDF stdNormalIDF erf x-atan2 x-floor x-modulo
"""
_FUNCTIONS: Final = frozenset(_NAMES.split())
_RUNS: Final = re.compile(r"(?:java|javax|jdk|sun|com\.sun|groovy|org\.codehaus|scala\.sys|bsh|clojure)\.")


class _Stop(Exception):  # noqa: N818 — leaves expat, and is no error
    """There is no sense in reading on."""


class PmmlFile(CheckedFile):
    """The format "pmml"."""

    name = "pmml"

    def claims(self, source: Source) -> bool:
        """XML, in any of expat's encodings, whose first element is PMML, or that declares entities in front of one."""
        head = source.head(_HEAD).removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"")  # UTF-16 is ASCII with zeros between
        if head.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").lstrip()[:1] != b"<" or _PMML.search(head) is None:
            return False
        first = _ELEMENT.search(_COMMENT.sub(b"", head))
        return (first is not None and first[1] == b"PMML") or b"<!ENTITY" in head

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Parse the document to its end, unless it declares a document type."""
        if _Document(notes, contents.metadata).parse(source):
            contents.end = source.size


class _Document:
    """What the handlers gather."""

    def __init__(self, notes: Notes, facts: dict[str, str]) -> None:
        self.notes, self.facts = notes, facts
        self.open: list[str] = []
        self.text: list[str] = []
        self.length = 0
        self.defined: set[str] = set()
        self.applied: dict[str, int] = {}
        self.told: set[str] = set()

    def add(self, rule: str, message: str, *, level: Level | None = None) -> None:
        """Add a finding where the parser stands, the same one only once."""
        if message not in self.told:
            self.told.add(message)
            self.notes.add(rule, message, offset=max(0, self.parser.CurrentByteIndex), level=level)

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
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.EntityDeclHandler = self.entity
        self.parser.ExternalEntityRefHandler = self.reference
        self.parser.ProcessingInstructionHandler = self.instruction
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        try:
            for at in range(0, source.size, _CHUNK):
                self.parser.Parse(source.read(at, min(_CHUNK, source.size - at)), at + _CHUNK >= source.size)
        except _Stop:
            return False
        except expat.ExpatError as error:
            text = expat.ErrorString(error.code)
            raise MalformedError(f"not well-formed: {text}", where=f"@{max(0, self.parser.ErrorByteIndex)}") from None
        for name, at in self.applied.items():
            if name not in self.defined and name not in _FUNCTIONS:
                self.unknown(name, at)
        return True

    def unknown(self, name: str, at: int) -> None:
        """A function that is neither the standard's nor the document's: evaluators look for a Java class of that name."""
        shown = escape(name, 80)
        if _RUNS.match(name):
            self.notes.add("SL854", f"applies the Java class {shown} as a function", offset=at, level=Level.ERROR)
        else:
            self.notes.add("SL854", f"applies a function that PMML does not define: {shown}", offset=at)

    # ---- handlers

    def doctype(self, name: str, system: str | None, public: str | None, subset: int) -> None:
        """No model needs a document type."""
        if system is None and public is None and not subset:
            self.add("SL855", f"a document type declaration, '{escape(name, 40)}'")
            return
        what = f"of '{escape(system or public or '', 80)}'" if system or public else "with declarations of its own"
        self.add("SL853", f"a document type {what}: it can define entities that grow without end or read files")
        raise _Stop

    def entity(self, *_: object) -> None:
        """An entity declaration is never read on."""
        self.add("SL853", "declares an entity")
        raise _Stop

    def reference(self, *_: object) -> int:
        """An external entity is never fetched."""
        self.add("SL853", "refers to an external entity")
        raise _Stop

    def instruction(self, target: str, data: str) -> None:
        """A stylesheet is fetched by whoever displays the document."""
        if target.casefold() == "xml-stylesheet":
            self.add("SL853", f"a stylesheet: {escape(data, 80)}")
        else:
            self.add("SL854", f"a processing instruction for '{escape(target, 40)}'")

    def start(self, full: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        space, _, name = full.rpartition(" ")
        if not self.open:
            self.root(space, name, attributes)
        if len(self.open) >= _DEPTH:
            raise MalformedError(f"elements are nested deeper than {_DEPTH} levels")
        self.open.append(name)
        if self.text:
            self.flush()
        if space in _OUTSIDE:
            self.add("SL853", f"{_OUTSIDE[space]}: {escape(attributes.get('href', name), 80)}")
        elif _LINK in attributes:
            self.add("SL853", f"links to {escape(attributes[_LINK], 80)}", level=Level.WARNING)
        elif name.casefold() in _ACTIVE and not _NAMESPACE.fullmatch(space):
            self.add("SL854", f"an element that is active in other documents: {escape(name, 40)}")
        if name == "Apply":
            self.applied.setdefault(attributes.get("function", ""), self.parser.CurrentByteIndex)
        elif name == "DefineFunction":
            self.defined.add(attributes.get("name", ""))
        elif name == "TableLocator":
            self.add("SL854", "a table that lies elsewhere: whoever evaluates the model fetches it")
        note_code(self.notes, ((f"{name}/@{key.rpartition(' ')[2]}", value) for key, value in attributes.items() if len(value) > 5))

    def root(self, space: str, name: str, attributes: dict[str, str]) -> None:
        """The outermost element must be PMML's."""
        if name != "PMML":
            self.add("SL855", f"the outermost element is '{escape(name, 40)}', and PMML lies within")
        elif not _NAMESPACE.fullmatch(space) and space:
            self.add("SL855", f"the namespace is '{escape(space, 80)}'")
        self.facts["version"] = escape(attributes.get("version", ""), 20)

    def end(self, _: str) -> None:
        """An element ends."""
        self.flush()
        self.open.pop()

    def characters(self, data: str) -> None:
        """Text, of which the first 64 Ki characters of each element are kept; numbers are not."""
        if self.length < _TEXT and self.open[-1:] not in (["Array"], ["REAL-SparseArray"], ["INT-SparseArray"], ["Matrix"]):
            self.text.append(data[: _TEXT - self.length])
            self.length += len(data)

    def flush(self) -> None:
        """Look at the text that was gathered."""
        text = "".join(self.text).strip()
        self.text, self.length = [], 0
        if len(text) > 5:
            note_code(self.notes, [(self.open[-1], text)])


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


