"""Keras' configurations as YAML: what `model.to_yaml()` wrote until TensorFlow 2.6 took it out (CVE-2021-37678).

The tree is that of the JSON, so it is judged by the same eyes; a tag that makes a Python object, which PyYAML's unsafe loaders obey and
which that CVE was about, is judged as in any other YAML. `model_from_yaml` of older versions still reads such a file.
"""

from __future__ import annotations

import re
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import Finding, Level
from safeload.formats.base import Contents
from safeload.formats.container import Notes
from safeload.formats.json_tree import parse_json
from safeload.formats.keras_config import Checked, check_root
from safeload.formats.keras_file import take
from safeload.formats.yaml_file import judge_configuration
from safeload.formats.yaml_tree import YamlDocument, parse_yaml
from safeload.source import Reading, Source

__all__ = ["KerasYamlFile"]

_KEYS: Final = (b"class_name", b"config")
_MODELS: Final = frozenset(("Sequential", "Model", "Functional"))
_OWN: Final = frozenset(("keras_version", "backend"))  # keys that stand beside them
_ESCAPED: Final = re.compile(rb'"[^"\n]*\\[xuU][^"\n]*"\s*:')  # a key with a letter behind an escape
_PLAIN: Final = re.compile(rb"^class_name[ \t]*:", re.MULTILINE)


class KerasYamlFile:
    """The format "keras-yaml"."""

    name: Final = "keras-yaml"

    def claims(self, source: Source) -> bool:
        """A model of Keras', any mapping of its form that names what is dangerous, or a text too long to tell with the lines of one."""
        found = self._parsed(source)
        if not isinstance(found, YamlDocument) or found.root["class_name"] in _MODELS or not _OWN.isdisjoint(found.root):
            return found is not None
        # Other programs' configurations have these two keys, too.
        return any(item.level is Level.ERROR for item in self.read(source, Reading()).findings)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Judge the configuration."""
        contents = Contents(format=self.name, end=source.size)
        found = self._parsed(source)
        if isinstance(found, str) or found is None:
            contents.error = found
            contents.findings.append(Finding(rule="SL801", level=Level.ERROR, message=str(found)))
            return contents
        take(check_root(found.root, found.repeated, reading, Checked(), top=True), contents, None)
        notes = Notes(None)
        judge_configuration(YamlDocument(None, found.tags, []), notes)
        contents.findings += notes.done()
        return contents

    def _parsed(self, source: Source) -> YamlDocument | str | None:
        if self.name not in source.parsed:
            source.parsed[self.name] = _document(source)
        found: YamlDocument | str | None = source.parsed[self.name]
        return found


def _document(source: Source) -> YamlDocument | str | None:
    """The document that is a model's configuration, why a text that looks like one cannot be read, or None."""
    data = bytes(source.view(0, source.size))
    plain = data.replace(b"\0", b"") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data
    if not all(key in plain for key in _KEYS) and not _ESCAPED.search(plain):
        return None
    if plain.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[") and _is_json(data):
        return None  # its own reader was asked, and parses it a hundred times faster
    try:
        documents, problem = parse_yaml(data, "the configuration")
    except MalformedError as error:
        return error.message if _PLAIN.search(plain) else None
    for document in documents:
        root = document.root
        if isinstance(root, dict) and isinstance(root.get("class_name"), str) and "config" in root:
            _resolve(root)
            return document
    return problem if problem is not None and _PLAIN.search(plain) else None


def _is_json(data: bytes) -> bool:
    try:
        parse_json(data, len(data))
    except MalformedError:
        return False
    return True


_PLAIN_VALUES: Final = {"null": None, "~": None, "": None, "true": True, "false": False}


def _resolve(root: Any) -> None:
    """Put values in the place of the words for them, which the parser leaves as they are written."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if isinstance(value, (dict, list)):
                todo.append(value)
            elif value in _PLAIN_VALUES:
                node[key] = _PLAIN_VALUES[value]
