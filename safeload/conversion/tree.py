"""From an object to a table of nodes: the tree of a checkpoint as JSON, iteratively, every shared object once.

Nodes are numbered in the order in which a breadth-first walk first meets them, so the same object always gives the same
table. `docs/conversion.md` says what each node looks like.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from safeload.conversion.carriers import row_major
from safeload.conversion.recorder import Recipe, Recorder
from safeload.conversion.scalars import LONG, Json, encode, is_scalar
from safeload.errors import LimitError, UnsupportedError
from safeload.findings import escape
from safeload.formats.manifest import MANIFEST_BYTES
from safeload.lean_dataclass import dataclass, field
from safeload.program import Global, Inert, StorageSpec, TensorSpec
from safeload.walk import values

__all__ = ["Group", "Tree", "encode_tree"]

PAYLOAD: Final = 1024
"""Bytes in the tree that are longer than this travel as entries of their own."""

Group = tuple[int, str]

_CONSTANTS: Final = {id(value): name for name, value in values.CONSTANTS.items()}
_BIG: Final = 1 << 256
# Functions that leave an empty table of hooks on a tensor; older ones leave none.
_USUAL: Final = frozenset({"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"})


@dataclass(slots=True)
class Tree:
    """An object as a table of nodes.

    Attributes:
        nodes: One JSON value each.
        root: A JSON value: a scalar, or a reference `[n]`.
        storages: Every storage that a node names, and the storages that those are slices of; nodes give their index here.
        globals: Names that nodes give by their index here.
        payloads: Long bytes, by the index that nodes give.
        sources: For an object of several files: the file of a storage, by the storage's id.
    """

    nodes: list[Json] = field(default_factory=list)
    root: Json = None
    storages: list[StorageSpec] = field(default_factory=list)
    globals: list[str] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    sources: dict[int, int] = field(default_factory=dict)

    def group(self, spec: StorageSpec) -> Group:
        """What storages over the same bytes have in common: the file, and their key in it."""
        return self.sources.get(id(spec), 0), spec.key

    def described(self) -> list[Json]:
        """What makes two trees the same, besides the bytes: root, nodes, globals, and the storages without their places."""
        index = {id(spec): number for number, spec in enumerate(self.storages)}
        facts = [
            [spec.dtype, spec.numel, spec.nbytes, spec.location, spec.typed, spec.region is None,
             None if spec.base is None else [index[id(spec.base)], spec.base_offset]]
            for spec in self.storages
        ]  # fmt: skip
        groups: dict[Group, int] = {}
        keys = [None if spec.base is not None else groups.setdefault(self.group(spec), len(groups)) for spec in self.storages]
        return [self.root, self.nodes, self.globals, facts, keys, [hashlib.sha256(data).hexdigest() for data in self.payloads]]


def encode_tree(root: Any, recorder: Recorder | None) -> Tree:
    """Write an object of a spec-mode build as a table of nodes.

    Args:
        root: What the build returned, or a plain dict of `TensorSpec` for formats without a stream.
        recorder: The model of that build; None when no call was made.

    Raises:
        UnsupportedError: something in it is of a type that no build makes.
        LimitError: the table would be longer than `MANIFEST_BYTES`.
    """
    return _Encoder(recorder).run(root)


class _Encoder:
    def __init__(self, recorder: Recorder | None) -> None:
        self.recipes: dict[int, Recipe] = recorder.recipes if recorder is not None else {}
        self.tree = Tree()
        self.seen: dict[Any, int] = {}
        self.keep: list[Any] = []
        self.todo: collections.deque[tuple[int, Any]] = collections.deque()
        self.names: dict[str, int] = {}
        self.storages: dict[int, int] = {}
        self.size = 0

    def run(self, root: Any) -> Tree:
        self.tree.root = self.ref(root)
        while self.todo:
            number, value = self.todo.popleft()
            self.tree.nodes[number] = self.node(value)
        return self.tree

    # ---- references

    def count(self, length: int) -> None:
        """Add to the estimate of the table's length, and stop before it is too much to write."""
        self.size += length
        if self.size > MANIFEST_BYTES:
            raise LimitError(f"the tree needs more than {MANIFEST_BYTES} bytes of manifest").under("SL127")

    def ref(self, value: Any) -> Json:
        """The JSON that stands for a value where it is used: itself when it is short, else a reference."""
        if is_scalar(value):
            if not (type(value) in (str, bytes) and len(value) > LONG) and not (type(value) is int and not -_BIG < value < _BIG):
                self.count(4 if value is None or type(value) is bool else 2 * len(value) + 8 if type(value) in (str, bytes) else 24)
                return encode(value)
            return self.number((type(value), value), value)
        name = self.global_name(value)
        if name is not None:
            self.count(14)
            return {"global": self.global_index(name)}
        return self.number(id(value), value)

    def number(self, key: Any, value: Any) -> Json:
        known = self.seen.get(key)
        if known is None:
            known = self.seen[key] = len(self.tree.nodes)
            self.tree.nodes.append(None)
            self.keep.append(value)
            self.todo.append((known, value))
            self.count(8)
        self.count(10)
        return [known]

    def refs(self, items: Iterable[Any]) -> list[Json]:
        return [self.ref(item) for item in items]

    def pairs(self, items: Iterable[tuple[Any, Any]]) -> list[Json]:
        return [[self.ref(key), self.ref(value)] for key, value in items]

    def global_name(self, value: Any) -> str | None:
        """The name of a global that stands in the data as itself."""
        if type(value) is Global:
            return value.name
        if type(value) is Inert and id(value) not in self.recipes:
            return value.global_name
        return _CONSTANTS.get(id(value))

    def global_index(self, name: str) -> int:
        if name not in self.names:
            self.names[name] = len(self.tree.globals)
            self.tree.globals.append(name)
            self.count(len(name) + 4)
        return self.names[name]

    def storage(self, spec: StorageSpec) -> int:
        known = self.storages.get(id(spec))
        if known is None:
            if spec.base is not None:
                self.storage(spec.base)
            known = self.storages[id(spec)] = len(self.tree.storages)
            self.tree.storages.append(spec)
            self.count(60)
        return known

    # ---- nodes

    def node(self, value: Any) -> Json:
        kind = type(value)
        write = _WRITERS.get(kind)
        if write is not None:
            return write(self, value)
        recipe = self.recipes.get(id(value))
        if recipe is None:
            raise UnsupportedError(f"a {escape(kind.__name__)} cannot be carried")
        return self.call(recipe)

    def text(self, value: Any) -> Json:
        """Long text, bytes, or an integer of many digits."""
        if type(value) is bytes and len(value) > PAYLOAD:
            self.tree.payloads.append(value)
            return ["bytes", len(self.tree.payloads) - 1]
        self.count(len(value) * 2 if type(value) in (str, bytes) else value.bit_length() // 4 + 8)
        return ["scalar", encode(value)]

    def raw(self, value: bytearray) -> Json:
        data = bytes(value)
        if len(data) > PAYLOAD:
            self.tree.payloads.append(data)
            return ["bytearray", len(self.tree.payloads) - 1]
        self.count(2 * len(data))
        return ["bytearray", encode(data)]

    def ordered(self, value: collections.OrderedDict[Any, Any]) -> Json:
        attributes = value.__dict__
        more = [self.pairs(attributes.items())] if attributes else []
        return ["odict", self.pairs(value.items()), *more]

    def tensor(self, spec: TensorSpec) -> Json:
        found: dict[str, Json] = {"of": self.storage(spec.storage), "shape": list(spec.shape)}
        if spec.dtype != spec.storage.dtype:
            found["dtype"] = spec.dtype
        if spec.stride != row_major(spec.shape):
            found["stride"] = list(spec.stride)
        if spec.offset:
            found["offset"] = spec.offset
        for flag in ("requires_grad", "conj", "neg"):
            if getattr(spec, flag):
                found[flag] = True
        if spec.global_name not in _USUAL and spec.dtype == spec.storage.dtype:
            found["plain"] = True
        self.count(40 + 12 * len(spec.shape))
        return ["tensor", found]

    def call(self, recipe: Recipe) -> Json:
        """A call: what was called, with what, how, and what was done to the result."""
        callee = {"global": self.global_index(recipe.callee)} if recipe.op == "" else self.ref(recipe.callee)
        args = recipe.args if type(recipe.args) is tuple and recipe.op != "PERSID" else (recipe.args,)
        more: dict[str, Json] = {}
        if recipe.op != "REDUCE":
            more["op"] = recipe.op or "GLOBAL"
        if recipe.kwargs:
            more["kwargs"] = self.pairs(recipe.kwargs.items())
        if recipe.then:
            more["then"] = [[what, self.done(what, value)] for what, value in recipe.then]
        self.count(30)
        return ["call", callee, self.refs(args), *([more] if more else [])]

    def done(self, what: str, value: Any) -> Json:
        return self.ref(value) if what == "state" else self.refs(value) if what == "append" else self.pairs(value)

    def members(self, value: Iterable[Any]) -> list[Json]:
        """Members of a set, in an order that does not depend on this process's hashes."""
        return self.refs(sorted(value, key=_sort_key))


def _scalar_key(value: Any) -> str:
    return hex(value) if type(value) is int and not -_BIG < value < _BIG else repr(value)


def _sort_key(value: Any) -> str:
    """A text by which members of a set are ordered; bounded, because members are hashable and so finite, but may be deep."""
    out: list[str] = []
    todo = [value]
    budget = 100_000
    while todo and budget:
        budget -= 1
        item = todo.pop()
        out.append(type(item).__name__)
        if type(item) is tuple:
            out.append(str(len(item)))
            todo.extend(reversed(item))
        elif type(item) is frozenset:
            out.append(str(len(item)))
            out.extend(sorted(_scalar_key(part) for part in item if is_scalar(part)))
        elif is_scalar(item):
            out.append(hex(item) if type(item) is int else ascii(item))
        elif type(item) in (Global, Inert):
            out.append(item.name if type(item) is Global else item.global_name)
        elif values.is_object(item):
            out.append(ascii(item))
    return "\0".join(out)


_Writer = Callable[[_Encoder, Any], Json]
_WRITERS: Final[dict[type, _Writer]] = {
    str: _Encoder.text,
    bytes: _Encoder.text,
    int: _Encoder.text,
    bytearray: _Encoder.raw,
    list: lambda coder, value: ["list", coder.refs(value)],
    tuple: lambda coder, value: ["tuple", coder.refs(value)],
    set: lambda coder, value: ["set", coder.members(value)],
    frozenset: lambda coder, value: ["frozenset", coder.members(value)],
    dict: lambda coder, value: ["dict", coder.pairs(value.items())],
    collections.OrderedDict: _Encoder.ordered,
    collections.Counter: lambda coder, value: ["counter", coder.pairs(value.items())],
    collections.defaultdict: lambda coder, value: ["defaultdict", coder.ref(value.default_factory), coder.pairs(value.items())],
    collections.deque: lambda coder, value: ["deque", value.maxlen, coder.refs(value)],
    StorageSpec: lambda coder, value: ["storage", coder.storage(value)],
    TensorSpec: _Encoder.tensor,
}
