"""The manifest of a converted file: the tree of a checkpoint as one canonical JSON text, read strictly.

`docs/conversion.md` specifies it. A manifest is input like any other: whoever wrote the file wrote it, so every field is
checked here, and everything that it asks for is judged by the same model as a pickle stream. What it names is evidence,
like what a stream names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safeload.errors import LimitError, MalformedError, SafeloadError, UnsupportedError
from safeload.findings import Level, escape
from safeload.formats.base import Contents, StreamPart
from safeload.lean_dataclass import dataclass, field, replace
from safeload.program import DTYPE_BITS
from safeload.source import Limits, Reading, Source
from safeload.walk import PlainTensors, Skip, Walk, default_resolve, finding
from safeload.walk.names import know
from safeload.walk.signatures import Modelled, script_global

__all__ = [
    "KEY", "MANIFEST_BYTES", "PLACEHOLDER", "SIDECAR_KEY", "VERSION", "Json", "Manifest", "Origin", "beside_manifest", "canonical",
    "find_manifest", "has_manifest", "manifest_of", "read_manifest",
]  # fmt: skip

Json = Any
"""What `json.loads` gives: the edge where types begin."""

KEY: Final = "safeload.tree"
"""The key in `__metadata__` that holds the manifest."""

SIDECAR_KEY: Final = "safeload.sidecar"
"""The key that holds the sidecar's digest and size, when the manifest lies beside the file."""

VERSION: Final = 1

MANIFEST_BYTES: Final = 64 << 20
"""Longest manifest, in bytes of JSON."""

PLACEHOLDER: Final = "0" * 64
_CANONICAL: Final = json.JSONEncoder(ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
_FIELDS: Final = frozenset({"version", "source", "globals", "storages", "payloads", "nodes", "root"})
_OPTIONAL: Final = frozenset({"script", "weights"})
_HEX: Final = re.compile(r"[0-9a-f]{64}\Z")
_MOST: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that was converted.

    Attributes:
        format: The reader's name for it.
        size: Bytes.
        sha256: Of the whole file; of the index file, when it was made of several.
    """

    format: str
    size: int
    sha256: str = PLACEHOLDER


@dataclass(slots=True)
class Manifest:
    """A parsed manifest. Its shape is checked; what it asks for is judged when it is built.

    Attributes:
        origin: Where it came from, as the file claims.
        globals: Names, as "module.attribute".
        storages: One dict each.
        payloads: Names of entries.
        nodes: One list each.
        root: A JSON value.
        script: Whether it came from a TorchScript archive, whose classes are described and never made.
        weights: Whether it holds the weights of its source, and nothing else of it.
    """

    origin: Origin
    globals: tuple[str, ...]
    storages: list[Json]
    payloads: list[str]
    nodes: list[Json]
    root: Json
    script: bool = False
    weights: bool = False
    _walk: Walk | None = field(default=None, repr=False)

    @property
    def walk(self) -> Walk:
        """What a walk of the original stream would say: which globals are named, and which of them are not modelled.

        A `Model` made with it can build this manifest.
        """
        if self._walk is None:
            self._walk = _as_walk(self)
        return self._walk


class _Names:
    """Stands where a walker stands in a `Walk`: it knows the globals, and nothing else happened."""

    def __init__(self, names: list[tuple[str | None, str, int, Modelled | None, str]]) -> None:
        self.raw = memoryview(b"")
        self.start = self.end = self.opcodes = self.root = 0
        self.protocol = 2
        self.checked = False
        self.fetches_only = False
        self.encoding = "utf-8"
        self.globals = names
        self.events: list[tuple[str, int, int, int, int]] = []
        self.notes: list[tuple[str, str, int]] = []
        self.by_name: dict[tuple[str | None, str], int] = {}
        self.type_states: dict[int, int] = {}
        self.skip: Skip | None = None

    def children(self, _slot: int) -> tuple[list[int], int]:
        """There are no slots."""
        return [], 0

    def constant(self, _slot: int) -> Any:
        """There are no slots."""
        return None

    def storage_ids(self) -> list[tuple[int, int]]:
        """There are no persistent ids."""
        return []

    def plain_ids(self) -> list[tuple[int, str, str, int, int] | None]:
        """There are no persistent ids."""
        return []

    def plain_tensors(self) -> PlainTensors:
        """There are no calls."""
        return {}, {}


def _as_walk(manifest: Manifest) -> Walk:
    names: list[tuple[str | None, str, int, Modelled | None, str]] = []
    findings = []
    for name in manifest.globals:
        module, _, attribute = name.rpartition(".")
        modelled = script_global(module, attribute) if manifest.script else default_resolve(module, attribute)
        names.append((module, attribute, 0, modelled, name))
        if modelled is None:
            known = know(module, attribute)
            rule = "SL102" if known.level is Level.ERROR else "SL103"
            reason = f": {known.reason}" if known.reason else ""
            findings.append(finding(rule, f"the manifest names {known.name}{reason}", level=known.level, subject=name))
    return Walk(
        walker=_Names(names),
        end=0,
        error=None,
        error_offset=0,
        truncated=False,
        globals=manifest.globals,
        unmodelled=tuple(entry[4] for entry in names if entry[3] is None),
        findings=findings,
    )


def canonical(value: Json) -> str:
    """Return the one JSON text for a value: sorted keys, no blanks, ASCII."""
    return _CANONICAL.encode(value)


def manifest_of(metadata: Mapping[str, str], sidecar: bytes | None = None) -> Manifest | None:
    """Read the manifest out of a safetensors file's metadata.

    Args:
        metadata: The file's `__metadata__`.
        sidecar: The bytes of the sidecar, whose digest was compared with `SIDECAR_KEY`, when the file has one.

    Returns:
        The manifest, or None for a file that has none.

    Raises:
        MalformedError: it is not valid.
        UnsupportedError: it is of a version that is not known here.
    """
    text = metadata.get(KEY)
    if sidecar is not None:
        try:
            text = sidecar.decode("ascii")
        except UnicodeDecodeError:
            raise _bad("the manifest is not ASCII") from None
    if text is None:
        return None
    return _checked(_parse(text))


def has_manifest(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file says that it was made from another file."""
    return KEY in metadata or SIDECAR_KEY in metadata


def find_manifest(contents: Contents, directory: Path | None, limits: Limits) -> Manifest | None:
    """The manifest of a safetensors file that was read without an error; None when it has none.

    Args:
        contents: What the reader found. The manifest is kept there, so that it is parsed once.
        directory: Where a manifest that lies beside the file would be.
        limits: Bounds.

    Raises:
        MalformedError: it is not valid, or not that of this file.
        UnsupportedError: it is of a version that is not known here.
    """
    if contents.manifest is None and has_manifest(contents.metadata):
        contents.manifest = manifest_of(contents.metadata, beside_manifest(contents.metadata, directory, limits))
    return contents.manifest


def read_manifest(source: Source, reading: Reading, contents: Contents) -> None:
    """Add what the manifest of a safetensors file names to what was found in it.

    A file whose manifest cannot be read is like a stream that breaks: nobody can say what a load would make of it.
    """
    if contents.error is not None or contents.table is None:
        return
    directory = Path(source.path).parent if source.path is not None else None
    try:
        manifest = find_manifest(contents, directory, reading.limits)
    except SafeloadError as error:
        contents.error = error.message
        contents.findings.append(replace(finding(error.rule or "SL401", error.message), member=KEY))
        return
    if manifest is not None:
        contents.parts.append(StreamPart(member=KEY, offset=0, data=memoryview(b""), walk=manifest.walk))


def beside_manifest(metadata: Mapping[str, str], directory: Path | None, limits: Limits) -> bytes | None:
    """The bytes of the sidecar, which must be those that the header names by digest; None when the header names none.

    Raises:
        MalformedError: it is missing, or is another one.
    """
    text = metadata.get(SIDECAR_KEY)
    if text is None:
        return None
    parts = text.rsplit(" ", 2)
    if (
        len(parts) != 3
        or not re.fullmatch("[0-9]{1,12}", parts[2])
        or not parts[0]
        or any(char in parts[0] for char in "/\\:\0")
        or parts[0][0] == "."
    ):
        raise MalformedError("the header names no sidecar", where=f"!{SIDECAR_KEY}").under("SL401")
    name, digest, size = parts[0], parts[1], int(parts[2])
    shown = escape(name, 100)
    if size > limits.header_bytes:
        raise LimitError(f"a sidecar of {size} bytes; at most {limits.header_bytes} are read", where=f"!{SIDECAR_KEY}").under("SL127")
    try:
        if directory is None:
            raise FileNotFoundError
        with Source.open(directory / name) as source:
            data = source.read(0, size, "the sidecar") if source.size == size else b""
    except OSError:
        hint = "the file beside it belongs to it: fetch both"
        raise MalformedError(f"its manifest lies in '{shown}', which is not there", where=f"!{SIDECAR_KEY}", hint=hint).under(
            "SL401"
        ) from None
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise MalformedError(f"'{shown}' is not the sidecar of this file: its digest differs", where=f"!{SIDECAR_KEY}").under("SL601")
    return data


def _bad(message: str) -> MalformedError:
    return MalformedError(f"the manifest is not valid: {message}", where=f"!{KEY}").under("SL401")


def _no_float(text: str) -> Any:
    raise _bad(f"a number {escape(text, 20)} that is no integer")


def _parse(text: str) -> Any:
    if len(text) > MANIFEST_BYTES:
        raise LimitError(f"a manifest of {len(text)} bytes; at most {MANIFEST_BYTES} are read", where=f"!{KEY}").under("SL127")
    try:
        value = json.loads(text, parse_float=_no_float, parse_constant=_no_float)
        same = canonical(value) == text
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is no JSON that is read here: {escape(str(error), 80)}") from None
    if not same:
        # A second spelling (a key twice, other blanks) is where two readers could see two trees.
        raise _bad("it is not written in canonical form")
    return value


def _checked(value: Any) -> Manifest:
    if type(value) is not dict or type(value.get("version")) is not int:
        raise _bad("it has no version")
    if value["version"] != VERSION:
        raise UnsupportedError(
            f"a manifest of version {value['version']}; version {VERSION} is known", where=f"!{KEY}", hint="update safeload"
        )
    if not _FIELDS <= set(value) <= _FIELDS | _OPTIONAL or any(value.get(flag, True) is not True for flag in _OPTIONAL):
        raise _bad("it has not the fields of version 1")
    for name in ("globals", "storages", "payloads", "nodes"):
        if type(value[name]) is not list:
            raise _bad(f"'{name}' is no array")
    for name in ("globals", "payloads"):
        if any(type(item) is not str for item in value[name]) or len(set(value[name])) != len(value[name]):
            raise _bad(f"'{name}' is not an array of different texts")
    for number, storage in enumerate(value["storages"]):
        _check_storage(number, storage)
    for number, node in enumerate(value["nodes"]):
        if type(node) is not list or not node or type(node[0]) is not str:
            raise _bad(f"node {number} has no kind")
    return Manifest(
        _origin(value["source"]), tuple(value["globals"]), value["storages"], value["payloads"], value["nodes"], value["root"],
        "script" in value, "weights" in value,
    )  # fmt: skip


def _origin(found: Any) -> Origin:
    if type(found) is not dict or set(found) != {"format", "size", "sha256"}:
        raise _bad("'source' is not format, size and digest")
    digest = found["sha256"]
    if type(found["format"]) is not str or not _is_size(found["size"]) or type(digest) is not str or not _HEX.match(digest):
        raise _bad("'source' is not format, size and digest")
    return Origin(found["format"], found["size"], digest)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _sizes(value: Any) -> bool:
    return type(value) is list and len(value) <= 65 and all(_is_size(item) for item in value)


def _check_storage(number: int, found: Any) -> None:
    """One storage: dtype, numel, and either the entries it is made of, or the storage that it is a slice of, or neither."""
    if type(found) is not dict or not {"dtype", "numel"} <= set(found) <= {"dtype", "numel", "of", "base", "offset", "location", "untyped"}:
        raise _bad(f"storage {number} has not the fields of a storage")
    if type(found["dtype"]) is not str or found["dtype"] not in DTYPE_BITS or not _is_size(found["numel"]):
        raise _bad(f"storage {number} has no dtype and number of elements")
    if type(found.get("location", "")) is not str or found.get("untyped", True) is not True:
        raise _bad(f"storage {number} has a location or a flag that is none")
    if ("base" in found) != ("offset" in found) or ("base" in found and "of" in found):
        raise _bad(f"storage {number} is a slice and has bytes of its own")
    if "base" in found and not (_is_size(found["base"]) and found["base"] < number and _is_size(found["offset"])):
        raise _bad(f"storage {number} is a slice of no earlier storage")
    for piece in found.get("of", []) if type(found.get("of", [])) is list else [None]:
        if type(piece) is not str:
            _check_piece(number, piece)


def _check_piece(number: int, piece: Any) -> None:
    wanted = {"entry", "itemsize", "shape", "stride"}
    if type(piece) is not dict or set(piece) not in (wanted, wanted | {"flip", "real"}):
        raise _bad(f"storage {number} is made of something that is no entry")
    fits = _sizes(piece["shape"]) and _sizes(piece["stride"]) and len(piece["shape"]) == len(piece["stride"])
    if type(piece["entry"]) is not str or piece["itemsize"] not in (1, 2, 4, 8, 16) or type(piece["itemsize"]) is not int or not fits:
        raise _bad(f"storage {number} is made of an entry whose order is not said")
    how, real = piece.get("flip", "neg"), piece.get("real", 2)
    if how not in ("conj", "neg", "conj neg"):
        raise _bad(f"storage {number} is made of an entry whose signs are not said")
    sizes = (piece["itemsize"] // 2,) if "conj" in how else (piece["itemsize"], piece["itemsize"] // 2)
    if type(real) is not int or ("flip" in piece and (real < 2 or real not in sizes)):
        raise _bad(f"storage {number} is made of an entry whose signs are not said")
