"""LightGBM's text models: a header, one block of lines for each tree, parameters.

LightGBM reads them in C++: it steps from tree to tree by the sizes in the header and follows the indices in the trees
without looking twice, so a size or an index that leaves the model is what can be hostile in one. Nothing in them names code.
Source: LightGBM v4, src/boosting/gbdt_model_text.cpp and src/io/tree.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.code_text import note_code
from safeload.formats.container import Notes
from safeload.source import Source

__all__ = ["LightGbmFile"]

_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?tree\r?\nversion=v\d+\r?\n")
_END: Final = b"end of trees"
_WHOLE: Final = re.compile(rb"-?\d{1,18}(?: -?\d{1,18})*\Z")
_FACTS: Final = {"version": "version", "objective": "objective", "num_class": "classes"}
_MOST_TREES: Final = 10_000_000


class LightGbmFile(CheckedFile):
    """The format "lightgbm"."""

    name = "lightgbm"

    def claims(self, source: Source) -> bool:
        """The two lines that every version writes first."""
        return _START.match(source.head(64)) is not None

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Read the text, and compare every size and index with what there is."""
        _read(bytes(source.view(0, source.size)), notes, contents.metadata)


def _lines(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, value) of the lines of a block, up to the first empty line."""
    at = start
    while at < stop:
        end = data.find(b"\n", at, stop)
        end = stop if end < 0 else end
        line = data[at:end].rstrip(b"\r")
        at = end + 1
        if line:
            name, _, value = line.partition(b"=")
            yield name, value


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _numbers(raw: bytes, what: str) -> list[int]:
    """Whole numbers with blanks between them."""
    raw = raw.strip()
    if not raw:
        return []
    if _WHOLE.match(raw) is None:
        raise MalformedError(f"{what} are not whole numbers: '{escape(_text(raw[:40]))}'").under("SL855")
    return [int(number) for number in raw.split(b" ")]


def _number(block: dict[bytes, bytes], name: bytes, what: str) -> int:
    found = _numbers(block.get(name, b""), f"{what}'s {_text(name)}")
    if len(found) != 1:
        raise MalformedError(f"{what} has no {_text(name)}").under("SL855")
    return found[0]


def _read(data: bytes, notes: Notes, facts: dict[str, str]) -> None:
    first = re.search(rb"^Tree=", data, re.MULTILINE)
    end = data.find(b"\n" + _END)
    stop = len(data) if end < 0 else end + 1
    start = min(first.start(), stop) if first else stop
    header: dict[bytes, bytes] = {}
    for name, value in _lines(data, 0, start):
        if name in header:
            notes.add("SL851", f"the header says {escape(_text(name), 40)} twice")
        header.setdefault(name, value)
    facts |= {shown: escape(_text(header[name.encode()]), 60) for name, shown in _FACTS.items() if name.encode() in header}
    features = _number(header, b"max_feature_idx", "the header") + 1
    if not 0 <= features <= 1 << 31:
        raise MalformedError(f"{features} features").under("SL851")
    facts["features"] = str(features)
    names = header.get(b"feature_names", b"").split()
    if names and len(names) != features:
        notes.add("SL851", f"{features} features are stated, and {len(names)} named")
    if end < 0:
        raise MalformedError(f"the line '{_text(_END)}' is missing: it may be cut off")
    facts["trees"] = str(_trees(data, start, stop, header, features, notes))
    note_code(notes, [("header", _text(data[:start])), ("parameters", _text(data[stop:]))])
    if any(byte in data[:start] for byte in (b"\0", b"\x1b")) or b"\0" in data[stop:]:
        notes.add("SL855", "control characters in the text")


def _trees(data: bytes, start: int, stop: int, header: dict[bytes, bytes], features: int, notes: Notes) -> int:
    """Check every tree; returns how many there are."""
    begins = [match.start() for match in re.finditer(rb"^Tree=", data[:stop], re.MULTILINE)]
    if len(begins) > _MOST_TREES:
        raise LimitError(f"more than {_MOST_TREES} trees")
    if b"tree_sizes" in header:
        sizes = _numbers(header[b"tree_sizes"], "the sizes of the trees")
        at = start
        for index, size in enumerate(sizes):
            if index >= len(begins) or begins[index] != at or size < 0:
                notes.add("SL851", f"tree {index} should begin at byte {at} by the header's sizes, and does not")
                break
            at += size
        else:
            # behind the last one stands "end of trees", with empty lines in front of it
            if len(sizes) != len(begins) or at > stop or data[at:stop].strip():
                notes.add("SL851", f"{len(sizes)} trees of {at - start} bytes are stated, and there are {len(begins)} of {stop - start}")
    for index, begin in enumerate(begins):
        block: dict[bytes, bytes] = {}
        for name, value in _lines(data, begin, begins[index + 1] if index + 1 < len(begins) else stop):
            if name in block:
                notes.add("SL851", f"tree {index} says {escape(_text(name), 40)} twice")
            block.setdefault(name, value)
        problem = _tree(block, f"tree {index}", features)
        if problem is not None:
            notes.add("SL851", f"tree {index} {problem}", offset=begin)
    return len(begins)


def _tree(block: dict[bytes, bytes], shown: str, features: int) -> str | None:
    """What is wrong with one tree, or None."""
    leaves = _number(block, b"num_leaves", shown)
    if leaves < 1:
        return f"has {leaves} leaves"
    values = block.get(b"leaf_value", b"").split()
    if len(values) != leaves:
        return f"has {leaves} leaves, and {len(values)} values"
    if leaves == 1:
        return None
    found = {name: _numbers(block.get(name, b""), f"{shown}'s {_text(name)}") for name in (b"split_feature", b"left_child", b"right_child")}
    short = next((name for name, numbers in found.items() if len(numbers) != leaves - 1), None)
    if short is not None:
        return f"has {leaves - 1} splits, and {len(found[short])} of {_text(short)}"
    if min(found[b"split_feature"]) < 0 or max(found[b"split_feature"]) >= features:
        return f"splits by feature {max(found[b'split_feature'])} of {features}"
    children = found[b"left_child"] + found[b"right_child"]
    if min(children) < -leaves or max(children) >= leaves - 1:
        return f"has {leaves} leaves, and a child {min(children) if min(children) < -leaves else max(children)}"
    if len(set(children)) != len(children) or 0 in children:  # leaves are numbered from -1 down
        return "has a node with two parents: a walk through it may never end"
    return _categories(block, shown) or _linear(block, shown, leaves, features)


def _categories(block: dict[bytes, bytes], shown: str) -> str | None:
    count = _number(block, b"num_cat", shown) if b"num_cat" in block else 0
    if not count:
        return None
    bounds = _numbers(block.get(b"cat_boundaries", b""), f"{shown}'s cat_boundaries")
    words = block.get(b"cat_threshold", b"").split()
    if len(bounds) != count + 1 or bounds != sorted(bounds) or bounds[0] != 0 or bounds[-1] != len(words):
        return f"has {count} categorical splits whose bounds do not fit to {len(words)} words"
    kinds = _numbers(block.get(b"decision_type", b""), f"{shown}'s decision_type")
    places = block.get(b"threshold", b"").split()
    for kind, place in zip(kinds, places, strict=False):
        if kind & 1 and not (re.fullmatch(rb"\d{1,9}(?:\.0*)?(?:e\+?0+)?", place) and int(float(place)) < count):
            return f"has a categorical split number {escape(_text(place), 20)} of {count}"
    return None


def _linear(block: dict[bytes, bytes], shown: str, leaves: int, features: int) -> str | None:
    if block.get(b"is_linear", b"0").strip() != b"1":
        return None
    counts = _numbers(b" ".join(block.get(b"num_features", b"").split()), f"{shown}'s num_features")
    used = _numbers(b" ".join(block.get(b"leaf_features", b"").split()), f"{shown}'s leaf_features")
    if len(counts) != leaves or min(counts) < 0 or sum(counts) != len(used) or sum(counts) != len(block.get(b"leaf_coeff", b"").split()):
        return "has a linear leaf whose features and coefficients do not fit together"
    if used and (min(used) < 0 or max(used) >= features):
        return f"uses feature {max(used)} of {features} in a leaf"
    return None
