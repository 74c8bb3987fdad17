"""TensorFlow.js' models: `model.json` with a graph or Keras' layers in it, and numbers in files that its manifest names.

A browser runs neither Python nor TensorFlow's operators on files. tensorflowjs' Python package does: it makes the layers with Keras'
own `from_json`, and converters make a SavedModel of the graph. So both are judged as they are in files of their own.
Source: tfjs-core's io/types.ts; tensorflowjs' converters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats.base import Contents, Listed
from safeload.formats.checked_file import CheckedFile
from safeload.formats.config_names import leaves_directory
from safeload.formats.container import Notes
from safeload.formats.json_tree import parse_json
from safeload.formats.keras_config import CONFIG_BYTES, check_config
from safeload.formats.tensorflow_operators import DANGEROUS, OPAQUE, known_operators
from safeload.source import Reading, Source

__all__ = ["TfjsFile", "number_files"]

_LARGEST: Final = 64 << 20
_FILES: Final = 100_000
_NODES: Final = 1_000_000
_BYTES: Final = {"float32": 4, "float16": 2, "int32": 4, "bool": 1, "complex64": 8, "uint8": 1, "uint16": 2, "string": 0}
_OWN: Final = frozenset({"FusedDepthwiseConv2dNative", "Prelu"})  # operators that its converter makes


class TfjsFile(CheckedFile):
    """The format "tfjs"."""

    name = "tfjs"
    largest = _LARGEST

    def claims(self, source: Source) -> bool:
        """An object with a topology and a manifest of numbers."""
        return _document(source) is not None

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Judge the topology, and every file that the manifest names."""
        root = _document(source) or {}
        contents.end = source.size
        if isinstance(root.get("format"), str):
            contents.metadata["kind"] = escape(root["format"], 40)
        for path in _paths(root):
            why = leaves_directory(path)
            if why is not None:
                notes.add("SL824", f"numbers in '{escape(path, 120)}', {why}")
        for weights in _lists(root.get("weightsManifest"), "weights"):
            for item in weights[:_FILES]:
                _list(item, contents)
        for key in ("modelTopology", "modelInitializer"):
            topology = root.get(key)
            if isinstance(topology, dict):
                _layers(topology, notes, contents)
                _operators(topology, notes, contents)


def _document(source: Source) -> dict[str, Any] | None:
    """The document when it is such a model's; parsed once."""
    if "tfjs" not in source.parsed:
        source.parsed["tfjs"] = _parsed(source)
    found: dict[str, Any] | None = source.parsed["tfjs"]
    return found


def _parsed(source: Source) -> dict[str, Any] | None:
    if source.size > _LARGEST:
        return None
    data = bytes(source.view(0, source.size))
    if b"weightsManifest" not in data and b"\\u00" not in data:
        return None
    try:
        root = parse_json(data, _LARGEST).root
    except MalformedError:
        return None
    return root if isinstance(root, dict) and "weightsManifest" in root and "modelTopology" in root else None


def _lists(groups: Any, key: str) -> Iterator[list[Any]]:
    for group in groups if isinstance(groups, list) else []:
        held = group.get(key) if isinstance(group, dict) else None
        if isinstance(held, list):
            yield held


def _paths(root: dict[str, Any]) -> Iterator[str]:
    paths = (path for held in _lists(root.get("weightsManifest"), "paths") for path in held if isinstance(path, str))
    yield from (path for path, _ in zip(paths, range(_FILES), strict=False))


def number_files(source: Source) -> frozenset[str]:
    """The files of numbers that a model names, relative to its directory; none for any other file."""
    return frozenset(path for path in _paths(_document(source) or {}) if leaves_directory(path) is None)


def _list(item: Any, contents: Contents) -> None:
    if not isinstance(item, dict) or not isinstance(item.get("shape"), list):
        return
    shape = tuple(size for size in item["shape"] if type(size) is int and 0 <= size < 1 << 40)
    packed = item.get("quantization")
    kind = (packed.get("dtype") if isinstance(packed, dict) else None) or item.get("dtype")
    if len(shape) == len(item["shape"]) <= 32 and isinstance(kind, str):
        contents.listed.append(Listed(str(item.get("name", "")), kind, shape, prod(shape) * _BYTES.get(kind, 0)))


def _layers(topology: dict[str, Any], notes: Notes, contents: Contents) -> None:
    """Keras' configuration, with the fields of the file around it or without."""
    config = topology.get("model_config", topology)
    if not isinstance(config, dict) or "class_name" not in config:
        return
    data = json.dumps(config).encode()
    if len(data) > CONFIG_BYTES:
        raise MalformedError(f"layers as a configuration of {len(data)} bytes; {CONFIG_BYTES} are read")
    checked = check_config(data, Reading())
    contents.findings += checked.findings
    contents.parts += checked.parts


def _operators(topology: dict[str, Any], notes: Notes, contents: Contents) -> None:
    """The operators of a graph and of its functions."""
    library = topology.get("library")
    functions = list(_dicts(library.get("function") if isinstance(library, dict) else None))
    own = {str(one["signature"].get("name")) for one in functions if isinstance(one.get("signature"), dict)}
    seen: set[str] = set()
    nodes = [topology.get("node"), *(one.get("nodeDef", one.get("node_def")) for one in functions)]
    known = known_operators() if any(isinstance(held, list) for held in nodes) else frozenset()
    for held in nodes:
        for node, _ in zip(_dicts(held), range(_NODES), strict=False):
            op = node.get("op")
            if not isinstance(op, str) or op in seen:
                continue
            seen.add(op)
            if op in DANGEROUS or op in OPAQUE:
                notes.add("SL721" if op in DANGEROUS else "SL725", f"the operator '{op}' {DANGEROUS.get(op) or OPAQUE[op]}")
            elif op not in known and op not in own and op not in _OWN:
                notes.add("SL722", f"the operator '{escape(op, 80)}' is none of TensorFlow's own")
    contents.metadata["operators"] = str(len(seen))


def _dicts(held: Any) -> Iterator[dict[str, Any]]:
    yield from (one for one in held if isinstance(one, dict)) if isinstance(held, list) else ()
