"""OpenVINO's models: a graph as XML, and the numbers in a file of the same name beside it.

The runtime takes each layer's class from the operator set that the layer names. One that is in none comes out of a shared library
that somebody loads ("extension"), so what it does cannot be seen here. Numbers are places in the file beside, which the runtime maps.
Source: OpenVINO's documentation of its IR format, and the operators that openvino_tokenizers registers.
"""

from __future__ import annotations

import re
import stat
from math import prod
from pathlib import Path
from typing import Final

from safeload.findings import Level, escape
from safeload.formats.base import Contents, Listed
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.container import Notes
from safeload.formats.xml_document import XmlDocument, first_element
from safeload.source import Source

__all__ = ["OpenVinoFile", "reach"]

_VERSIONS: Final = frozenset(str(number) for number in range(2, 12))
_NET: Final = re.compile(rb"<net\s[^>]*\bversion\s*=")
_SETS: Final = re.compile(r"opset(?:[1-9]|[12]\d)|experimental|util|ie_internal_opset|gpu_opset|type_relaxed_opset|internal")
# What openvino_tokenizers registers: in the repository of almost every language model for OpenVINO.
_TOKENIZERS: Final = frozenset(
    """BPETokenizer ByteFallback BytesToChars CaseFold CharsMapNormalization CharsToBytes CombineSegments ContribStringJoin
    ContribStringSplit EqualStr FuzeRagged NormalizeUnicode NumericToString RaggedTensorPack RaggedToDense RaggedToRagged RaggedToSparse
    RegexNormalization RegexSplit SentencepieceDetokenizer SentencepieceStreamDetokenizer SentencepieceTokenizer SpecialTokensSplit
    StringTensorPack StringTensorUnpack StringToHashBucket TrieTokenizer Truncate UTF8Validate UnigramTokenizer VocabDecoder VocabEncoder
    WordpieceTokenizer""".split()  # noqa: SIM905 - a table for people
)
_BITS: Final = {
    "f64": 64, "f32": 32, "f16": 16, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8, "f8e8m0": 8, "f4e2m1": 4, "i64": 64, "i32": 32, "i16": 16,
    "i8": 8, "i4": 4, "u64": 64, "u32": 32, "u16": 16, "u8": 8, "u6": 6, "u4": 4, "u3": 3, "u2": 2, "u1": 1, "boolean": 8, "nf4": 4,
}  # fmt: skip
_NUMBER: Final = re.compile(r"[0-9]{1,20}\Z")
_LAYERS: Final = 1_000_000
_MOST: Final = 1 << 62


class OpenVinoFile(CheckedFile):
    """The format "openvino"."""

    name = "openvino"

    def claims(self, source: Source) -> bool:
        """XML whose first element is `net` with a version."""
        first, head = first_element(source)
        return first == b"net" and _NET.search(head) is not None

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Go through every layer, and compare the places of numbers with the file beside."""
        document = _Net(notes, contents)
        if document.parse(source):
            contents.end = source.size
        beside = _beside(source)
        if beside is not None and document.reach > beside:
            notes.add("SL851", f"layers take numbers up to byte {document.reach} of the file beside, which has {beside}")


def _beside(source: Source) -> int | None:
    """Bytes of the numbers' file, None where there is none; a link is not followed."""
    if source.path is None:
        return None
    try:
        info = Path(source.path).with_suffix(".bin").lstat()
    except (OSError, ValueError):
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def reach(source: Source) -> int:
    """How many bytes of the file beside a model's layers take."""
    document = _Net(Notes(None), Contents(format="openvino"))
    document.parse(source)
    return document.reach


class _Net(XmlDocument):
    """What the layers say; `reach` is where the last number of the file beside ends."""

    def __init__(self, notes: Notes, contents: Contents) -> None:
        super().__init__(notes)
        self.contents = contents
        self.reach = 0
        self.layers: list[tuple[str, str]] = []  # name and type, outermost first

    def begin(self, space: str, name: str, attributes: dict[str, str]) -> None:
        """A layer, or what it says of itself."""
        if len(self.open) == 1:
            self._root(name, attributes)
        elif name == "layer":
            self.layers.append((attributes.get("name", ""), attributes.get("type", "")))
            self._layer(attributes)
        elif self._places(name, attributes):
            self._numbers(attributes)
        elif space or name in ("CustomLayer", "Kernel", "Source"):
            self.add("SL855", f"an element that belongs elsewhere: {escape(name, 40)}")
        note_code(self.notes, ((f"{name}/@{key.rpartition(' ')[2]}", value) for key, value in attributes.items() if len(value) > 5))

    def finish(self) -> None:
        """A layer ends."""
        if self.open[-1] == "layer" and self.layers:
            self.layers.pop()

    def _root(self, name: str, attributes: dict[str, str]) -> None:
        version = attributes.get("version", "")
        self.contents.metadata["version"] = escape(version, 20)
        if name != "net" or version not in _VERSIONS:
            self.add("SL855", f"a model of version '{escape(version, 20)}', which is not known here")

    def _layer(self, attributes: dict[str, str]) -> None:
        kind, group = attributes.get("type", ""), attributes.get("version")
        if group is None or _SETS.fullmatch(group) or (group == "extension" and kind in _TOKENIZERS):
            return
        self.add("SL871", f"the layer type '{escape(group, 40)}::{escape(kind, 60)}' comes out of a library that the program has to load")

    def _places(self, name: str, attributes: dict[str, str]) -> bool:
        """Whether an element says where numbers lie: of a constant, or of any layer as before version 10."""
        if name == "data":
            return bool(self.layers) and self.layers[-1][1] == "Const"
        return name in ("weights", "biases", "custom") and "offset" in attributes

    def _numbers(self, attributes: dict[str, str]) -> None:
        offset, size = (_whole(attributes.get(key, "")) for key in ("offset", "size"))
        called = self.layers[-1][0] if self.layers else ""
        label = escape(called, 60)
        if offset is None or size is None:
            self.add("SL851", f"'{label}' takes its numbers from no place: offset and size are not whole numbers", level=Level.ERROR)
            return
        self.reach = max(self.reach, offset + size)
        kind, shape = attributes.get("element_type", ""), attributes.get("shape")
        dims = [_whole(part.strip()) for part in shape.split(",") if part.strip()] if shape is not None else []
        if kind not in _BITS or shape is None:
            return
        known = [dim for dim in dims if dim is not None]
        count = prod(known) if len(known) <= 64 else _MOST
        wanted = (count * _BITS[kind] + 7) // 8
        if len(known) != len(dims) or not (size == wanted or (_BITS[kind] in (3, 6) and size >= wanted)):
            self.add("SL851", f"'{label}' has the shape '{escape(shape, 60)}' of {kind}, {min(wanted, _MOST)} bytes, and takes {size}")
        if len(self.contents.listed) < _LAYERS and len(known) == len(dims):
            self.contents.listed.append(Listed(called, kind, tuple(known), 0))


def _whole(text: str) -> int | None:
    return int(text) if _NUMBER.match(text) and int(text) <= _MOST else None
