"""XGBoost's own model files: JSON, UBJSON, and the binary form that versions before 3.0 could write.

XGBoost reads them in C++ and follows the indices of its trees without looking twice, so an index that leaves the model is what
can be hostile in one. Nothing in them names code. Source: xgboost/doc/model.schema and src/tree/tree_model.cc.
"""

from __future__ import annotations

from typing import Any, Final

from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.container import Notes
from safeload.formats.json_tree import parse_json, texts_in
from safeload.formats.ubjson import parse_ubjson
from safeload.formats.xgboost_binary import looks_like_binary, read_binary
from safeload.formats.xgboost_trees import check_model
from safeload.source import Source

__all__ = ["XGBoostBinaryFile", "XGBoostJsonFile", "XGBoostUbjsonFile"]

_HEAD: Final = 64 * 1024
_LARGEST_JSON: Final = 128 << 20
_KEYS: Final = (b'"gradient_booster"', b'"learner_model_param"', b'"learner_train_param"', b'"feature_names"', b'"attributes"')


class XGBoostJsonFile(CheckedFile):
    """The format "xgboost-json"."""

    name = "xgboost-json"
    largest = _LARGEST_JSON

    def claims(self, source: Source) -> bool:
        """A JSON object with a learner, and one of a learner's keys near its beginning."""
        head = source.head(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
        return head[:1] == b"{" and head[1:2] in b'" \t\r\n' and b'"learner"' in head and any(key in head for key in _KEYS)

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """As JSON."""
        document = parse_json(source.view(0, source.size), _LARGEST_JSON, "the model")
        contents.end = source.size
        _check(document.root, document.repeated, notes, contents)


class XGBoostUbjsonFile(CheckedFile):
    """The format "xgboost-ubjson"."""

    name = "xgboost-ubjson"

    def claims(self, source: Source) -> bool:
        """A UBJSON object with a learner near its beginning."""
        head = source.head(4096)
        return head[:1] == b"{" and head[1:2] in (b"i", b"U", b"I", b"l", b"L", b"$", b"#") and b"learner" in head

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """As UBJSON; bytes behind the value are a finding."""
        root, repeated, end = parse_ubjson(source.view(0, source.size))
        if end != source.size:
            notes.add("SL126", f"{source.size - end} bytes follow the model", offset=end)
        contents.end = end
        _check(root, repeated, notes, contents)


class XGBoostBinaryFile(CheckedFile):
    """The format "xgboost-binary"."""

    name = "xgboost-binary"

    def claims(self, source: Source) -> bool:
        """The magic, or the objective's and the booster's name where the old header has them."""
        return looks_like_binary(source.head(512))

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Field by field."""
        texts, end = read_binary(source.view(0, source.size), notes, contents.metadata)
        note_code(notes, texts)
        if end != source.size:
            notes.add("SL126", f"{source.size - end} bytes follow the model", offset=end)
        contents.end = end


def _check(root: Any, repeated: tuple[str, ...], notes: Notes, contents: Contents) -> None:
    if repeated:
        named = ", ".join(f"'{escape(key, 40)}'" for key in repeated)
        notes.add("SL851", f"keys that stand twice in one object, and readers differ in which one they take: {named}")
    contents.metadata |= check_model(root, notes)
    note_code(notes, texts_in(root))
