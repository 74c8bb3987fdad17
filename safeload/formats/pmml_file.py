"""PMML: models as XML.

What the standard leaves open is what can be hostile: extensions, functions by the name of a Java class, tables elsewhere.
Source: dmg.org, PMML 4.4.
"""

from __future__ import annotations

import re
from typing import Final

from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.container import Notes
from safeload.formats.xml_document import XmlDocument, first_element
from safeload.source import Source

__all__ = ["PmmlFile"]

_TEXT: Final = 1 << 16
_PMML: Final = re.compile(rb"<(?:[\w.-]+:)?PMML[\s>/]")
_NAMESPACE: Final = re.compile(r"http://www\.dmg\.org/PMML-\d+_\d+(?:_\d+)?")
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


class PmmlFile(CheckedFile):
    """The format "pmml"."""

    name = "pmml"

    def claims(self, source: Source) -> bool:
        """XML, in any of expat's encodings, whose first element is PMML, or that declares entities in front of one."""
        first, head = first_element(source)
        return first is not None and _PMML.search(head) is not None and (first == b"PMML" or b"<!ENTITY" in head)

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Parse the document to its end, unless it declares a document type."""
        if _Document(notes, contents.metadata).parse(source):
            contents.end = source.size


class _Document(XmlDocument):
    """What the handlers gather."""

    def __init__(self, notes: Notes, facts: dict[str, str]) -> None:
        super().__init__(notes)
        self.facts = facts
        self.text: list[str] = []
        self.length = 0
        self.defined: set[str] = set()
        self.applied: dict[str, int] = {}

    def parse(self, source: Source) -> bool:
        """Go through the whole file, and then look at the functions that were applied."""
        if not super().parse(source):
            return False
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

    def instruction(self, target: str, data: str) -> None:
        """Any but a stylesheet is for a program that is not known here."""
        if target.casefold() == "xml-stylesheet":
            super().instruction(target, data)
        else:
            self.add("SL854", f"a processing instruction for '{escape(target, 40)}'")

    def begin(self, space: str, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if len(self.open) == 1:
            self.root(space, name, attributes)
        if self.text:
            self.flush()
        if name.casefold() in _ACTIVE and not _NAMESPACE.fullmatch(space):
            self.add("SL854", f"an element that is active in other documents: {escape(name, 40)}")
        if name == "Apply":
            self.applied.setdefault(attributes.get("function", ""), self.here)
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

    def finish(self) -> None:
        """An element ends."""
        self.flush()

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
