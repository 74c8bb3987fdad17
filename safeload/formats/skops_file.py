"""skops files: a zip whose `schema.json` says, node by node, which types are imported and what is done with them.

skops asks a *trusted* list before it builds anything. Its own bypasses came from nodes that named one type where the list was
asked and used another where the object was made (CVE-2025-54412, CVE-2025-54413), so here every node is judged by everything
that it names, wherever it stands, and the two must agree. Nothing of it is ever built.
Source of the node types: skops/io/_general.py, _numpy.py, _sklearn.py, _scipy.py and old/, protocols 0 to 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Finding, Level, escape
from safeload.formats.base import Contents
from safeload.formats.container import Archive, Member, Notes
from safeload.formats.json_tree import Document, parse_json
from safeload.formats.skops_names import BIT_GENERATORS, is_known
from safeload.formats.zip_container import archive_of, looks_like_zip, read_member
from safeload.formats.zip_file import read_zip
from safeload.source import Limits, Reading, Source
from safeload.walk import finding
from safeload.walk.names import know

__all__ = ["SkopsFile"]

_SCHEMA: Final = "schema.json"
_LARGEST: Final = 256 << 20
_PROTOCOLS: Final = range(3)
_MARK: Final = b"__loader__"

# What a node type makes whatever its type's name says; None: what it names is what it makes.
_MAKES: Final[dict[str, frozenset[str] | None]] = {
    "BytearrayNode": frozenset({"builtins.bytearray"}),
    "BytesNode": frozenset({"builtins.bytes"}),
    "CachedNode": None,
    "ConstructorFromReduceNode": None,
    "DTypeNode": frozenset({"numpy.dtype"}),
    "DefaultDictNode": frozenset({"collections.defaultdict"}),
    "DictNode": None,
    "FunctionNode": None,
    "JsonNode": frozenset({"builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.NoneType"}),
    "ListNode": None,
    "LossNode": None,
    "MaskedArrayNode": frozenset({"numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray"}),
    "MethodNode": None,
    "NdArrayNode": None,
    "ObjectNode": None,
    "OperatorFuncNode": frozenset({"operator.attrgetter", "operator.itemgetter", "operator.methodcaller"}),
    "PartialNode": frozenset({"functools.partial"}),
    "QuantileForestNode": frozenset({"quantile_forest._quantile_forest_fast.QuantileForest"}),
    "RandomGeneratorNode": None,
    "RandomStateNode": None,
    "SGDNode": None,
    "SetNode": None,
    "SliceNode": frozenset({"builtins.slice"}),
    "SparseMatrixNode": None,
    "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
    "TupleNode": None,
    "TypeNode": None,
    "_DictWithDeprecatedKeysNode": None,
}


class SkopsFile:
    """The format "skops"."""

    name: Final = "skops"

    def claims(self, source: Source) -> bool:
        """A zip with a schema.json at its top that describes nodes."""
        if not looks_like_zip(source):
            return False
        member = _schema(archive_of(source, Limits()))
        return member is not None and _is_skops(source, member)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the archive, every member as a file of its own, and judge the schema."""
        archive = archive_of(source, reading.limits)
        schema = _schema(archive)
        contents = read_zip(source, reading, self.name, known=[schema] if schema is not None else [])
        try:
            document = _document(source, archive)
        except SafeloadError as error:
            contents.findings.append(_at(finding("SL844", error.message)))
            contents.error = contents.error or f"schema.json: {error.message}"
            return contents
        judge = _Judge(archive, reading.limits)
        judge.run(document)
        contents.findings += judge.notes.done()
        contents.metadata |= {"nodes": str(judge.nodes)}
        root = document.root
        for key, name in (("protocol", "protocol"), ("_skops_version", "skops-version")):
            if isinstance(root, dict) and isinstance(root.get(key), (str, int)):
                contents.metadata[name] = escape(str(root[key])[:40])
        return contents


def _schema(archive: Archive) -> Member | None:
    return archive.by_name.get(_SCHEMA)


def _at(found: Finding) -> Finding:
    return Finding(rule=found.rule, level=found.level, message=found.message, member=_SCHEMA)


def _is_skops(source: Source, member: Member) -> bool:
    """Whether the schema speaks of nodes. One that cannot be parsed is claimed when the word stands in it."""
    if "skops" in source.parsed:
        return True
    try:
        data = read_member(source, member, Limits(inflate_bytes=_LARGEST), crc=False)
    except SafeloadError:
        return False
    try:
        source.parsed["skops"] = document = parse_json(data, _LARGEST, "the schema")
    except MalformedError:
        return _MARK in bytes(data)
    return any(True for _ in _nodes(document.root))


def _document(source: Source, archive: Archive) -> Document:
    found: Document | None = source.parsed.get("skops")
    if found is None:
        member = _schema(archive)
        if member is None:
            raise MalformedError("there is no schema.json")
        found = source.parsed["skops"] = parse_json(read_member(source, member, Limits(inflate_bytes=_LARGEST)), _LARGEST, "the schema")
    return found


def _nodes(root: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, node) of everything that could be taken for a node, wherever it stands."""
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict):
            if "__loader__" in value or "__module__" in value or "module_path" in value:
                yield path, value
            todo += [(f"{path}.{key}" if path else key, item) for key, item in value.items() if isinstance(item, (dict, list))]
        elif isinstance(value, list):
            todo += [(f"{path}[{index}]", item) for index, item in enumerate(value) if isinstance(item, (dict, list))]


@dataclass(slots=True)
class _Judge:
    """Goes through the nodes of one schema."""

    archive: Archive
    limits: Limits
    notes: Notes = field(default_factory=lambda: Notes(None))
    nodes: int = 0
    ids: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def add(self, rule: str, message: str, path: str, *, level: Level | None = None) -> None:
        """Add a finding about a node, the same one only once."""
        if message not in self.told:
            self.told.add(message)
            where = f", in {escape(path)}" if path else ""
            self.notes.add(rule, f"{message}{where}", name=_SCHEMA, level=level)

    def run(self, document: Document) -> None:
        """Judge the document as a whole, then every node of it."""
        root = document.root
        if document.repeated:
            named = ", ".join(f"'{escape(key, 40)}'" for key in document.repeated)
            self.add("SL843", f"keys that stand twice in one object, and readers differ in which one they take: {named}", "")
        protocol = root.get("protocol") if isinstance(root, dict) else None
        if type(protocol) is not int or protocol not in _PROTOCOLS:
            shown = escape(repr(protocol), 40)
            self.add("SL844", f"the protocol is {shown}; known are {_PROTOCOLS.start} to {_PROTOCOLS.stop - 1}", "")
        for path, node in _nodes(root):
            self.nodes += 1
            if self.nodes > self.limits.members:
                self.add("SL844", f"more than {self.limits.members} nodes; the rest was not looked at", "")
                return
            self.node(path, node)

    def node(self, path: str, node: dict[str, Any]) -> None:
        """Judge one node by everything that it names."""
        if "module_path" in node or "function" in node:  # protocol 0 kept a function's name one level deeper
            self.named(node.get("module_path"), node.get("function"), "names", path)
            if "__loader__" not in node:
                return
        loader, module, name = node.get("__loader__"), node.get("__module__"), node.get("__class__")
        if loader == "CachedNode" and module is None and name is None:
            return
        if not isinstance(loader, str) or not isinstance(module, str) or not isinstance(name, str):
            self.add("SL844", "a node without loader, module or class as texts", path)
            return
        full = f"{module}.{name}"
        if loader not in _MAKES:
            self.add("SL844", f"a node of an unknown kind, '{escape(loader, 60)}'", path)
        makes = _MAKES.get(loader)
        if makes is not None and full not in makes:
            self.add("SL843", f"a {loader} that calls itself {escape(full, 120)}; what it makes is another thing", path)
        if loader in ("PartialNode", "OperatorFuncNode"):
            self.add("SL842", f"a {loader}: a call that is made later, of something that the file names", path)
        elif loader != "JsonNode" or know(module, name).level is Level.ERROR:
            self.named(module, name, f"{escape(loader, 60)} of", path)
        self.identity(path, node, (loader, module, name))
        special = _SPECIAL.get(loader)
        if special is not None:
            special(self, path, node)

    def named(self, module: Any, name: Any, how: str, path: str) -> None:
        """Judge one type or function by its name."""
        if not isinstance(module, str) or not isinstance(name, str):
            self.add("SL844", "a module or a name that is no text", path)
            return
        knowledge = know(module, name)
        why = f" ({knowledge.reason})" if knowledge.reason else ""
        if knowledge.level is Level.ERROR:
            self.add("SL841", f"{how} {knowledge.name}{why}", path)
        elif not is_known(module, name):
            self.add("SL842", f"{how} {knowledge.name}, which is none of scikit-learn's types{why}", path)

    def identity(self, path: str, node: dict[str, Any], named: tuple[str, str, str]) -> None:
        """Two nodes with one id are one object: the loader takes the first, so they must be alike."""
        number = node.get("__id__")
        if type(number) is int and named[0] != "CachedNode" and self.ids.setdefault(number, named) != named:
            first = ".".join(self.ids[number][1:])
            self.add("SL843", f"a node of {escape('.'.join(named[1:]), 80)} has the id of one of {escape(first, 80)}", path)

    # ---- what single kinds name besides their type

    def method(self, path: str, node: dict[str, Any]) -> None:
        """A bound method: of the object that it claims to be of, and none that leads to Python's machinery."""
        content = node.get("content")
        of = content.get("obj") if isinstance(content, dict) else None
        func = content.get("func") if isinstance(content, dict) else None
        if not isinstance(of, dict) or not isinstance(func, str):
            self.add("SL844", "a MethodNode without an object and a method", path)
            return
        claimed, real = (f"{one.get('__module__')}.{one.get('__class__')}" for one in (node, of))
        if claimed != real:
            self.add("SL843", f"a MethodNode claims an object of {escape(claimed, 80)} and holds one of {escape(real, 80)}", path)
        knowledge = know(str(of.get("__module__")), f"{of.get('__class__')}.{func}")
        why = f" ({knowledge.reason})" if knowledge.reason else ""
        if knowledge.level is Level.ERROR or not func.isidentifier():
            self.add("SL841", f"a MethodNode fetches {knowledge.name}{why}", path)
        else:
            self.add("SL842", f"a MethodNode fetches the method {knowledge.name}", path)

    def operator(self, path: str, node: dict[str, Any]) -> None:
        """What is looked up in the module `operator` and called with arguments of the file."""
        module, name = str(node.get("__module__")), str(node.get("__class__"))
        if name != "itemgetter" or module != "operator":
            self.named("operator", name, "an OperatorFuncNode calls", path)

    def generator(self, path: str, node: dict[str, Any]) -> None:
        """The name of a bit generator is plain text in the file, looked up in numpy.random and called."""
        content = node.get("content")
        state = content.get("bit_generator") if isinstance(content, dict) else None
        name = state.get("bit_generator") if isinstance(state, dict) else None  # protocol 0
        if isinstance(state, dict) and "__loader__" in state:
            inner = state.get("content")
            held = inner.get("bit_generator") if isinstance(inner, dict) else None
            try:
                name = json.loads(held["content"][:200]) if isinstance(held, dict) else None
            except (KeyError, TypeError, ValueError, RecursionError):
                name = None
        if not isinstance(name, str) or name not in BIT_GENERATORS:
            self.add("SL843", f"a random generator whose bit generator is {escape(repr(name), 60)}: it is looked up and called", path)

    def member(self, path: str, node: dict[str, Any]) -> None:
        """The bytes of an array, a matrix or a byte string lie in a member beside the schema."""
        if node.get("type") == "json" and "file" not in node:
            return
        file = node.get("file")
        if not isinstance(file, str) or file not in self.archive.by_name:
            self.add("SL844", f"a node whose bytes are in {escape(repr(file), 80)}, and there is no such member", path)


_SPECIAL: Final = {
    "MethodNode": _Judge.method,
    "OperatorFuncNode": _Judge.operator,
    "RandomGeneratorNode": _Judge.generator,
    "NdArrayNode": _Judge.member,
    "SparseMatrixNode": _Judge.member,
    "BytesNode": _Judge.member,
    "BytearrayNode": _Judge.member,
}
