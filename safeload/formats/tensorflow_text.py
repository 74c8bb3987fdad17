"""TensorFlow's SavedModels and graphs as text: `saved_model.pbtxt` is loaded where there is no `saved_model.pb`, graphs by many tools.

The text is gone through token by token, as the protocol buffers' text format is written, without a schema: what counts is which
operators it names, wherever they stand. Where a saver's file name comes from is not followed; a model that is saved as text says so.
Source: the Protocol Buffers text format specification; tensorflow/python/saved_model/loader_impl.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from safeload.errors import MalformedError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.container import Notes, check_name
from safeload.formats.keras_config import CONFIG_BYTES, check_config, looks_like_config
from safeload.formats.tensorflow_operators import DANGEROUS, HARMLESS_NAMES, NAMES_FILE, OPAQUE, SAVERS, known_operators
from safeload.source import Reading, Source

__all__ = ["TensorflowTextFile"]

_HEAD: Final = 64 * 1024
_DEPTH: Final = 1_000
_OPENS: Final = re.compile(
    r"\s*(?:#[^\n]*\s+)*(?:(?:node|library|versions|meta_graphs|meta_info_def|graph_def)\s*:?\s*[{<\[]|saved_model_schema_version\s*:|version\s*:)"
)
_OPERATOR: Final = re.compile(r"""\bop\s*:\s*["']""")
_TOKEN: Final = re.compile(
    r"""(?P<skip>(?:\s+|\#[^\n]*)+)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<name>[A-Za-z_]\w*)|(?P<sign>[{}<>:,;\[\]])"""
    r"""|(?P<other>[-+.\w/]+)"""
)
_ESCAPE: Final = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SIMPLE: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSING: Final = {"{": "}", "<": ">", "[": "]"}


class TensorflowTextFile(CheckedFile):
    """The format "tf-text"."""

    name = "tf-text"
    broken = "SL723"
    largest = 1 << 28

    def claims(self, source: Source) -> bool:
        """A text whose first field is a graph's or a SavedModel's, and that names operators."""
        head = source.head(_HEAD).decode("utf-8", "replace").lstrip("\ufeff")
        if _OPENS.match(head) is None:
            return False
        return _OPERATOR.search(head) is not None or (source.size > _HEAD and "node" in head)

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Judge every operator, and every text that is a configuration of Keras'."""
        text = bytes(source.view(0, source.size)).decode("utf-8", "backslashreplace").lstrip("\ufeff")
        graph = _Text(notes, contents)
        try:
            for path, value, at in _texts(text):
                graph.take(path, value, at)
        finally:
            graph.judge()
        contents.end = source.size


class _Text:
    """What a text says, gathered until all functions are known."""

    def __init__(self, notes: Notes, contents: Contents) -> None:
        self.notes, self.contents = notes, contents
        self.operators: dict[str, int] = {}
        self.functions: set[str] = set()
        self.count = 0
        self.operator = self.key = ""

    def take(self, path: list[str], value: str, at: int) -> None:
        """A field that is a text."""
        last, above = path[-1], path[-2] if len(path) > 1 else ""
        if last == "op":
            self.count += 1
            self.operators.setdefault(value, at)
        elif last == "name" and above == "signature":
            self.functions.add(value)
        elif last == "key":
            self.key = value
        elif last == "s":
            self._attribute(value, at)
        elif last == "filename" and above == "asset_file_def":
            self._asset(value, at)
        if last in ("metadata", "identifier", "s") and len(value) <= CONFIG_BYTES and looks_like_config(value.encode("utf-8", "replace")):
            checked = check_config(value.encode("utf-8", "replace"), Reading())
            self.contents.findings += (item for item in checked.findings if item.level is Level.ERROR)
            self.contents.parts += checked.parts

    def _attribute(self, value: str, at: int) -> None:
        """An attribute that names a file, of whichever operator: the order of a node's fields is free."""
        for op, (key, begins) in NAMES_FILE.items():
            harmless = key == "descriptor_source" and value.startswith(HARMLESS_NAMES)
            if key == self.key and value and value.startswith(begins) and not harmless:
                self.notes.add("SL721", f"an attribute of the operator '{op}' opens '{escape(value, 120)}'", offset=at)
                return

    def _asset(self, value: str, at: int) -> None:
        names = Notes(None)
        check_name(names, "SL210", value)
        for item in names.done():
            if item.level is not Level.NOTE:
                self.notes.add("SL724", item.message.replace("member name", "the asset"), offset=at)

    def judge(self) -> None:
        """Judge the operators."""
        self.contents.metadata |= {"operators": str(self.count), "functions": str(len(self.functions))}
        known = known_operators()
        for op, at in self.operators.items():
            if op in DANGEROUS:
                self.notes.add("SL721", f"the operator '{op}' {DANGEROUS[op]}", offset=at)
            elif op in OPAQUE:
                self.notes.add("SL725", f"the operator '{op}' {OPAQUE[op]}", offset=at)
            elif op in SAVERS:
                message = f"the operator '{op}' {SAVERS[op][1]}, and where their name comes from is not followed in a graph as text"
                self.notes.add("SL725", message, offset=at)
            elif op not in known and op not in self.functions:
                self.notes.add("SL722", f"the operator '{escape(op, 80)}' is none of TensorFlow's own", offset=at)


def _texts(text: str) -> Iterator[tuple[list[str], str, int]]:
    """(names of the fields around it, the field itself last; the text; its offset) of every field that is a text.

    Raises:
        MalformedError: it is not written as the text format is.
    """
    path: list[str] = []
    closing: list[str] = []
    field, at, size = "", 0, len(text)
    pieces: list[str] = []
    begun = 0
    while at < size:
        found = _TOKEN.match(text, at)
        if found is None:
            raise MalformedError("not written as protocol buffers are as text", where=f"@{at}").under("SL723")
        kind, token = found.lastgroup, found[0]
        if kind == "text":
            begun = begun if pieces else at
            pieces.append(_unescaped(token[1:-1]))
        elif kind != "skip":
            if pieces:
                yield [*path, field], "".join(pieces), begun
                pieces = []
            if kind == "name":
                field = token
            elif token in _CLOSING:
                if len(path) >= _DEPTH:
                    raise MalformedError(f"nested deeper than {_DEPTH} levels", where=f"@{at}").under("SL723")
                path.append(field)
                closing.append(_CLOSING[token])
            elif closing and token == closing[-1]:
                field = path.pop()
                closing.pop()
            elif token in ("}", ">", "]"):
                raise MalformedError(f"'{token}' closes nothing", where=f"@{at}").under("SL723")
        at = found.end()
    if pieces:
        yield [*path, field], "".join(pieces), begun
    if closing:
        raise MalformedError(f"{len(closing)} messages are not closed", where=f"@{size}").under("SL723")


def _unescaped(raw: str) -> str:
    return _ESCAPE.sub(_one, raw) if "\\" in raw else raw


def _one(found: re.Match[str]) -> str:
    octal, *numbers, char = found.groups()
    if char is not None:
        return _SIMPLE.get(char, char)
    code = int(octal, 8) & 0xFF if octal is not None else next(int(number, 16) for number in numbers if number is not None)
    return chr(code) if code <= 0x10FFFF else "\ufffd"
