"""CatBoost's model files: `.cbm`, a flatbuffer behind four letters and a length, and JSON.

CatBoost reads both in C++, which does not look twice at what points where, so an offset or a split that leaves the model is
what can be hostile in one. Nothing in them names code.
Source: CatBoost 1.2, catboost/libs/model/flatbuffers/model.fbs, model.cpp and json_model_helpers.cpp.
"""

from __future__ import annotations

import re
from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.container import Notes
from safeload.formats.flatbuffer import Table, root_table
from safeload.formats.json_tree import Document, parse_json, texts_in
from safeload.source import Source

__all__ = ["CatBoostFile", "CatBoostJsonFile"]

_MAGIC: Final = b"CBM1"
_FORMAT: Final = "FlabuffersModel_v1"  # spelt so by CatBoost
_LARGEST_JSON: Final = 128 << 20
_PARTS: Final = 100_000
_JSON_HEAD: Final = re.compile(rb'\s*\{\s*"(?:ctr_data|features_info|model_info|oblivious_trees|trees|scale_and_bias)"\s*:')


class CatBoostFile(CheckedFile):
    """The format "catboost"."""

    name = "catboost"

    def claims(self, source: Source) -> bool:
        """The four letters, and the length of a core that could be one."""
        return source.head(4) == _MAGIC and source.size >= 16

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """The core's flatbuffer; the parts behind it are tables of numbers."""
        length, start = int.from_bytes(source.read(4, 4), "little"), 8
        if length == 0xFFFFFFFF:
            length, start = int.from_bytes(source.read(8, 8), "little"), 16
        if length > source.size - start:
            raise MalformedError(f"a core of {length} bytes, and {source.size - start} are left", where="@4").under("SL851")
        core = root_table(source.view(start, length))
        if core.text(0) != _FORMAT:
            raise MalformedError(f"the core's format is '{escape(core.text(0) or '', 40)}'; known is {_FORMAT}")
        parts = list(core.texts(3, _PARTS))
        texts: list[tuple[str, str]] = [("parts", part) for part in parts]
        for entry in core.tables(2, _PARTS):
            key, value = entry.text(0) or "", entry.text(1) or ""
            texts += [("keys", key), (key, value)]
            if key in ("catboost_version_info", "model_guid"):
                contents.metadata[key] = escape(value.partition("\n")[0], 60)
        trees = core.table(1)
        if trees is None:
            raise MalformedError("the core has no trees")
        _core_trees(trees, notes, contents.metadata)
        if start + length != source.size and not parts:
            notes.add("SL126", f"{source.size - start - length} bytes follow the model", offset=start + length)
        note_code(notes, texts)


def _core_trees(trees: Table, notes: Notes, facts: dict[str, str]) -> None:
    """Symmetric trees: sizes and starts into one list of splits."""
    splits, sizes, starts = trees.numbers(1, "i"), trees.numbers(2, "i"), trees.numbers(3, "i")
    facts["trees"] = str(len(sizes))
    if len(sizes) != len(starts):
        notes.add("SL851", f"{len(sizes)} trees have sizes, and {len(starts)} beginnings")
    for index, (size, start) in enumerate(zip(sizes, starts, strict=False)):
        if size < 0 or start < 0 or size + start > len(splits):
            notes.add("SL851", f"tree {index} has splits {start} to {start + size}, and there are {len(splits)}")
            return


class CatBoostJsonFile(CheckedFile):
    """The format "catboost-json"."""

    name = "catboost-json"

    def claims(self, source: Source) -> bool:
        """A JSON object with a description of features and trees."""
        if _JSON_HEAD.match(source.head(200).removeprefix(b"\xef\xbb\xbf")) is None or source.size > _LARGEST_JSON:
            return False
        try:
            root = self._document(source).root
        except MalformedError:
            return all(key in bytes(source.view(0, source.size)) for key in (b'"features_info"', b'trees"'))
        return isinstance(root, dict) and "features_info" in root and ("oblivious_trees" in root or "trees" in root)

    def _document(self, source: Source) -> Document:
        found: Document | None = source.parsed.get(self.name)
        if found is None:
            found = source.parsed[self.name] = parse_json(source.view(0, source.size), _LARGEST_JSON, "the model")
        return found

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """As JSON: the splits of a tree and the values of its leaves must fit together."""
        document = self._document(source)
        root = document.root
        contents.end = source.size
        if document.repeated:
            notes.add("SL851", f"keys that stand twice in one object: {', '.join(escape(key, 40) for key in document.repeated)}")
        trees = root.get("oblivious_trees", root.get("trees"))
        if not isinstance(trees, list):
            raise MalformedError("the trees are no list")
        contents.metadata["trees"] = str(len(trees))
        if "oblivious_trees" in root:
            for index, tree in enumerate(trees):
                problem = _oblivious(tree)
                if problem is not None:
                    notes.add("SL851", f"tree {index} {problem}")
        note_code(notes, texts_in(root))


def _oblivious(tree: Any) -> str | None:
    splits, values, weights = (tree.get(key) for key in ("splits", "leaf_values", "leaf_weights")) if isinstance(tree, dict) else [None] * 3
    splits = [] if splits is None else splits
    if not isinstance(splits, list) or not isinstance(values, list) or len(splits) > 32:
        return "has no splits, or no values of leaves"
    leaves = 1 << len(splits)
    if len(values) % leaves or not values:
        return f"has {len(splits)} splits, and {len(values)} values for {leaves} leaves"
    if isinstance(weights, list) and len(weights) not in (0, leaves):
        return f"has {leaves} leaves, and {len(weights)} weights"
    return None
