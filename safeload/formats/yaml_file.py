"""YAML that names code: Hydra's `_target_`, NeMo's and Stable Diffusion's `target`, Lightning's `class_path`, and tags for objects.

`hydra.utils.instantiate` and its kin import what a configuration names and call it with what stands beside; PyYAML's unsafe loaders
and HyperPyYAML do the same for tags. CVE-2025-23304 (NeMo) was just that: a model's archive whose configuration named a command.
A configuration that names nothing, or only classes of well-known libraries, is no model and is claimed by nobody.
Sources: hydra/_internal/instantiate, nemo/core/classes/common.py, lightning/pytorch/core/saving.py, yaml/constructor.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.code_text import reads_like_code
from safeload.formats.config_names import judge_name, leaves_directory
from safeload.formats.container import Notes
from safeload.formats.json_tree import parse_json
from safeload.formats.yaml_tree import LARGEST, YamlDocument, mappings_in, parse_yaml, scalars_in
from safeload.source import Reading, Source

__all__ = ["YamlFile", "judge_configuration"]

# One of these stands in every text that names code. Searched one by one, because an expression of them all takes five times as long.
_MARKS: Final = (
    b"_target_", b"target", b"class_path", b"_component_", b"_fn", b"python/", b"!new:", b"!name:", b"!apply", b"!module:", b"%TAG", b"${",
    b"dependencies", b"trust_remote_code", b"\\x", b"\\u", b"\\U",
)  # fmt: skip
# Keys whose value is imported whatever it looks like, and those whose value is so when it looks like a name with dots.
_TARGETS: Final = frozenset(("_target_", "_component_", "class_path"))
_MAYBE: Final = re.compile(r"(?:target|cls|class|_class_|\w+_fn|func|callable)\Z")
_NUMBER: Final = re.compile(r"(?:[-+.]?\d\S*|null|~|)\Z")
_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\Z")
_FILE: Final = re.compile(
    r"\.(?:[ct]sv|jsonl?|txt|ya?ml|pth?|ckpt|nemo|bin|np[yz]|wav|model|md|parquet|zip|gz|tar|h5|py|png|jpe?g)\Z"
)
_PYTHON: Final = re.compile(r"tag:yaml\.org,2002:python/([a-z/]+)(?::(.*))?\Z", re.DOTALL)
_VALUES: Final = frozenset(("none", "bool", "str", "unicode", "bytes", "int", "long", "float", "complex", "list", "tuple", "dict"))
_HYPER: Final = re.compile(r"!(apply|new|name|module|applyref):(.*)\Z", re.DOTALL)
_SPEECH: Final = re.compile(r"(?:speechbrain|torch\.nn|torch\.optim|torchaudio)\.(?:\w+\.)*[A-Z]\w*\Z")
_ORDINARY: Final = re.compile(
    r"argparse\.Namespace\Z|pathlib\.(?:Pure)?(?:Posix|Windows)?Path\Z|collections\.(?:OrderedDict|defaultdict|deque)\Z|datetime\.\w+\Z"
    r"|torch\.(?:device|Size|dtype)\Z|numpy\.(?:dtype|ndarray)\Z|uuid\.UUID\Z|decimal\.Decimal\Z|lightning_utilities\.(?:\w+\.)*[A-Z]\w*\Z"
    r"|(?:pytorch_)?lightning\.(?:\w+\.)*AttributeDict\Z"
)


class YamlFile:
    """The format "yaml": a configuration that names code."""

    name: Final = "yaml"

    def claims(self, source: Source) -> bool:
        """Whether there is something to say about it above level note."""
        contents = self._judged(source)
        return contents is not None and any(item.level is not Level.NOTE for item in contents.findings)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Return what was found for the claim."""
        return self._judged(source) or Contents(format=self.name)

    def _judged(self, source: Source) -> Contents | None:
        if "yaml-judged" not in source.parsed:
            source.parsed["yaml-judged"] = _judged(source)
        found: Contents | None = source.parsed["yaml-judged"]
        return found


def _judged(source: Source) -> Contents | None:
    """Judge a text that may name code; None when it is none, or no YAML."""
    if not source.size > 0:
        return None
    data = bytes(source.view(0, min(source.size, 4 * LARGEST)))
    if b"\0" in data[:512] and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return None
    plain = data.replace(b"\0", b"") if data[:1] in b"\xff\xfe" else data
    if not any(mark in plain for mark in _MARKS):
        return None
    notes = Notes(None)
    contents = Contents(format=YamlFile.name)
    try:
        documents, problem = _documents(data)
    except MalformedError as error:
        if not re.match(rb"(?:---|%YAML|%TAG|[\w\"'.-]+[ \t]*:[ \t\r\n]|- )", data) or not re.search(rb"_target_|python/|class_path", data):
            return None
        notes.add("SL862", error.message)
        contents.findings = notes.done()
        contents.error = error.message
        return contents
    for document in documents:
        if isinstance(document.root, (dict, list)) or document.tags:
            judge_configuration(document, notes)
    contents.findings = notes.done()
    contents.error = problem if problem is not None and contents.findings else None
    return contents


def _documents(data: bytes) -> tuple[list[YamlDocument], str | None]:
    """Parse a text: as JSON when it is JSON, which is a hundred times faster, and as YAML otherwise."""
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        try:
            document = parse_json(data, 4 * LARGEST)
        except MalformedError:
            pass
        else:
            return [YamlDocument(document.root, [], list(document.repeated))], None
    return parse_yaml(data)


def judge_configuration(document: YamlDocument, notes: Notes) -> None:
    """Judge everything in a document that is imported, called, installed or expanded.

    Args:
        document: Parsed.
        notes: Takes findings: SL823 for names, SL826 for packages by address, SL827 for trust, SL852 for code, SL862 for the rest.
    """
    for tag, _ in document.tags:
        _tag(tag, notes)
    for path, mapping in mappings_in(document.root):
        for key, value in mapping.items():
            where = escape(f"{path}.{key}" if path else key, 120)
            for text in _texts(value):
                _value(key, text, where, mapping, notes)
        _packages(mapping, notes)
    named = any(_TARGETS & mapping.keys() for _, mapping in mappings_in(document.root))
    for path, text in scalars_in(document.root):
        # Elsewhere commands are what a configuration is for: build steps, services, tests.
        what = reads_like_code(text) if len(text) > 5 and (named or "${" in text) else None
        if what is not None and (named or _RESOLVED.search(text)):
            notes.add("SL852", f"the text of {escape(path, 80)} {what}")
    if document.repeated and any(key in _TARGETS or key == "target" for key in document.repeated):
        notes.add("SL862", f"'{escape(document.repeated[0], 40)}' stands twice in one mapping, and readers differ in which one they take")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (item for item in value[:1_000] if isinstance(item, str))


def _value(key: str, text: str, where: str, mapping: dict[str, Any], notes: Notes) -> None:
    """Judge one text by its key."""
    if key == "trust_remote_code" and text.lower() in ("true", "yes", "on"):
        notes.add("SL827", f"{where} is set: code of the model's publisher is run")
    if key in _TARGETS and not _NUMBER.match(text):
        if "${" in text:
            notes.add("SL823", f"'{where}' is {escape(text, 120)}, which is computed when it is used", level=Level.WARNING)
        elif leaves_directory(text) or ".py:" in text or text.endswith(".py"):
            notes.add("SL823", f"'{where}' is {escape(text, 120)}, a file of code")
        else:
            judge_name(notes, where, text, known=_ORDINARY)
    elif _MAYBE.match(key) and _DOTTED.match(text) and not _FILE.search(text):
        # A class by this key has its arguments beside it; elsewhere only what is known to be dangerous is told.
        judge_name(notes, where, text, known=_ORDINARY if {"params", "init_args", "_args_"} & mapping.keys() else _ANYTHING)


_RESOLVED: Final = re.compile(r"\$\{\s*[\w.]+\s*:")
_ANYTHING: Final = re.compile("")


def _tag(tag: str, notes: Notes) -> None:
    """A tag that makes a Python object, in PyYAML's words or HyperPyYAML's."""
    python, hyper = _PYTHON.match(tag), _HYPER.match(tag)
    if python is not None:
        how, dotted = python[1], python[2]
        if dotted:
            judge_name(notes, f"!!python/{how}", dotted, known=_ORDINARY)
        elif how not in _VALUES:
            notes.add("SL862", f"the tag {escape(tag, 80)} makes a Python object")
    elif hyper is not None:
        judge_name(notes, f"!{hyper[1]}", hyper[2], known=_SPEECH)


# ---- conda's environments

_DIRECT: Final = re.compile(r"\s*(?:-e\s|--editable)|\s*(?:git|hg|svn|bzr)\+|\s*(?:https?|ftp|file):|[^#]*@\s*(?:git\+|https?:|ftp:|file:)")
_INSECURE: Final = re.compile(r"\s*(?:--trusted-host|(?:-i|-f|--index-url|--extra-index-url|--find-links)[ =]+(?:http|ftp|file):)")


def _packages(mapping: dict[str, Any], notes: Notes) -> None:
    """A conda environment's pip section: what is installed by address."""
    held = (mapping.get("dependencies"), mapping.get("build_dependencies"))  # conda's, and MLflow's python_env.yaml
    for item in (item for part in held if isinstance(part, list) for item in part):
        for line in _texts(item.get("pip") if isinstance(item, dict) else item):
            if _DIRECT.match(line):
                notes.add("SL826", f"'{escape(line, 120)}' is installed from an address")
            elif _INSECURE.match(line):
                notes.add("SL826", f"packages are fetched without protection: '{escape(line, 120)}'")
