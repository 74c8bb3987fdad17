"""XGBoost's binary models, which versions up to 2.1 write and read: structs of the C++ program, one behind the other.

Numbers are little-endian; a text is its length in eight bytes and its bytes. Magic "binf", or none before version 1.0.
Source: xgboost 2.1, src/learner.cc, src/gbm/gbtree_model.cc and src/tree/tree_model.cc.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final

from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats.container import Notes
from safeload.formats.xgboost_trees import check_children

__all__ = ["looks_like_binary", "read_binary"]

_MAGIC: Final = b"binf"
_HEADER: Final = 136  # the learner's parameters
_MODEL: Final = 160
_TREE: Final = 148
_NODE: Final = 20
_STATISTICS: Final = 16
_BOOSTERS: Final = (b"gbtree", b"dart", b"gblinear")
_LINEAR: Final = 136
_LONGEST_NAME: Final = 100
_MOST_TREES: Final = 10_000_000


def looks_like_binary(head: bytes) -> bool:
    """Whether the first 512 bytes are a model's: objective and booster named where they should be."""
    start = 4 if head.startswith(_MAGIC) else 0
    at = start + _HEADER
    for known in (None, _BOOSTERS):
        if len(head) < at + 8:
            return start == 4
        length = int.from_bytes(head[at : at + 8], "little")
        text = head[at + 8 : at + 8 + length]
        if length > _LONGEST_NAME or (known is None and not start and b":" not in text) or (known is not None and text not in known):
            return start == 4
        at += 8 + length
    return True


class _Reader:
    def __init__(self, data: memoryview, start: int) -> None:
        self.data, self.at = data, start

    def take(self, nbytes: int, what: str) -> memoryview:
        if nbytes > len(self.data) - self.at:
            raise MalformedError(f"{what} has {nbytes} bytes, and {len(self.data) - self.at} are left", where=f"@{self.at}")
        self.at += nbytes
        return self.data[self.at - nbytes : self.at]

    def count(self, what: str, width: int) -> int:
        number = int.from_bytes(self.take(8, what), "little")
        if number * width > len(self.data) - self.at:
            raise MalformedError(f"{number} of {what} are announced, and {len(self.data) - self.at} bytes are left", where=f"@{self.at}")
        return number

    def text(self, what: str) -> str:
        return bytes(self.take(self.count(what, 1), what)).decode("utf-8", "replace")


def read_binary(data: memoryview, notes: Notes, facts: dict[str, str]) -> tuple[list[tuple[str, str]], int]:
    """Read a model field by field.

    Args:
        data: The whole file.
        notes: Takes findings about trees.
        facts: Takes objective, booster, number of trees and features.

    Returns:
        The attributes, as (where, text), and where the model ends.

    Raises:
        MalformedError: something is announced that is not there.
    """
    reader = _Reader(data, 4 if bytes(data[:4]) == _MAGIC else 0)
    header = reader.take(_HEADER, "the header")
    features, _, attributes, metrics, major = struct.unpack_from("<I3iI", header, 4)
    objective, booster = reader.text("the objective's name"), reader.text("the booster's name")
    facts |= {"objective": escape(objective, 60), "booster": escape(booster, 20), "features": str(features), "version": str(major)}
    if booster == "gblinear":
        reader.take(_LINEAR, "the linear model")
        reader.take(4 * reader.count("weights", 4), "the weights")
    else:
        facts["trees"] = str(_trees(reader, features, notes))
        if booster == "dart" and facts["trees"] != "0":
            reader.take(4 * reader.count("weights of dropped trees", 4), "the weights")
    texts: list[tuple[str, str]] = []
    if attributes:
        for _ in range(reader.count("attributes", 16)):
            key = reader.text("an attribute's name")
            texts += [("attributes", key), (f"attributes.{key}", reader.text("an attribute"))]
    if objective == "count:poisson" and reader.at < len(data):  # until version 1.0
        texts.append(("max_delta_step", reader.text("a parameter")))
    if metrics:
        texts += [("metrics", reader.text("a metric's name")) for _ in range(reader.count("metrics", 8))]
    return texts, reader.at


def _trees(reader: _Reader, features: int, notes: Notes) -> int:
    count = int(struct.unpack_from("<i", reader.take(_MODEL, "the model's parameters"))[0])
    if not 0 <= count <= min(_MOST_TREES, (len(reader.data) - reader.at) // _TREE):
        message = f"{count} trees are announced, and {len(reader.data) - reader.at} bytes are left"
        raise MalformedError(message, where=f"@{reader.at}").under("SL851")
    for index in range(count):
        start = reader.at
        roots, nodes = struct.unpack_from("<2i", reader.take(_TREE, "a tree"))
        if nodes < 1 or roots != 1:
            raise MalformedError(f"tree {index} has {roots} roots and {nodes} nodes", where=f"@{start}").under("SL851")
        table = reader.take(nodes * _NODE, "a tree's nodes")
        reader.take(nodes * _STATISTICS, "a tree's statistics")
        problem = _check(table, nodes, features)
        if problem is not None:
            notes.add("SL851", f"tree {index} {problem}", offset=start)
    reader.take(4 * count, "the groups of the trees")
    return count


def _check(table: memoryview, count: int, features: int) -> str | None:
    numbers = array("i", bytes(table))
    if struct.pack("=i", 1) != struct.pack("<i", 1):
        numbers.byteswap()
    left, right = numbers[1::5], numbers[2::5]
    problem = check_children(left, right, count)
    if problem is None and features:
        for child, split in zip(left, numbers[3::5], strict=True):
            if child != -1 and (split & 0x7FFFFFFF) >= features:
                return f"splits by feature {split & 0x7FFFFFFF} of {features}"
    return problem
