"""ONNX models: a protobuf message with graphs of operators, tensors, and functions of operators.

Nothing in it runs by itself. What it can do to a program is named: files that it makes it read or write (`onnx_tensor`), operators
that come out of libraries or do more than compute (`onnx_operators`), functions and graphs without an end, and messages that
two parsers would read in two ways (`protobuf_wire`).
Source of the numbers of fields: onnx.proto of ONNX 1.23 (IR version 14).
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.base import Contents
from safeload.formats.onnx_operators import DANGEROUS, OPAQUE, PYTHON, STANDARD, known_operators, standard_domain
from safeload.formats.onnx_tensor import Tensors, location_problems
from safeload.formats.polyglot import second_stream
from safeload.formats.protobuf_wire import BYTES, DEPTH, VARINT, Schema, Wire, signed
from safeload.formats.storages import as_finding
from safeload.lean_dataclass import dataclass, field
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["OnnxFile", "data_files"]

_MODEL: Final[Schema] = {
    1: "v", 2: "m", 3: "m", 4: "m", 5: "v", 6: "m", 7: "m", 8: "M", 14: "M", 20: "M", 25: "M", 26: "M",
}  # fmt: skip
_GRAPH: Final[Schema] = {1: "M", 2: "m", 5: "M", 10: "m", 11: "M", 12: "M", 13: "M", 14: "M", 15: "M", 16: "M"}
_NODE: Final[Schema] = {1: "M", 2: "M", 3: "m", 4: "m", 5: "M", 6: "m", 7: "m", 8: "m", 9: "M", 10: "M"}
_ATTRIBUTE: Final[Schema] = {
    1: "m", 2: "f", 3: "v", 4: "m", 5: "m", 6: "m", 7: "F", 8: "V", 9: "M", 10: "M", 11: "M", 13: "m", 14: "m", 15: "M", 20: "v",
    21: "m", 22: "m", 23: "M",
}  # fmt: skip
_FUNCTION: Final[Schema] = {
    1: "m", 4: "M", 5: "M", 6: "M", 7: "M", 8: "m", 9: "M", 10: "m", 11: "M", 12: "M", 13: "m", 14: "M",
}  # fmt: skip
_SPARSE: Final[Schema] = {1: "m", 2: "m", 3: "V"}
_TRAINING: Final[Schema] = {1: "m", 2: "m", 3: "M", 4: "M"}
_OPERATOR_SET: Final[Schema] = {1: "m", 2: "v"}
_ENTRY: Final[Schema] = {1: "m", 2: "m"}

_PROBED: Final = 4096  # fields that decide whether a file is a model
_SHOWN: Final = 50
_EXPANDED: Final = 100_000_000  # nodes that functions may stand for, written out

_Key = tuple[str, str, str]  # domain, name, overload


@dataclass(slots=True)
class _Function:
    """One function of the model: which operators its body uses, how often, and where it stands."""

    offset: int
    uses: Counter[_Key] = field(default_factory=Counter)


_Todo = list[tuple[int, int, int, _Function | None]]  # graphs: first byte, behind the last, depth, the function around it


class OnnxFile:
    """The format "onnx"."""

    name: Final = "onnx"

    def claims(self, source: Source) -> bool:
        """A protobuf message with a graph, and with what else a model has; or one that begins like a model and is cut off."""
        head = source.head(2)
        return len(head) == 2 and _looks_like_model(source)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read every graph, function and tensor; no tensor's numbers are read."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        model = _Model(source, contents)
        try:
            model.read()
        except MalformedError as error:
            contents.error = error.message
            contents.findings.append(as_finding(error, None))
        except SafeloadError as error:
            contents.error = error.message
        model.finish()
        return contents


def data_files(source: Source) -> frozenset[str]:
    """Return the names of files beside a model that hold its tensors; none when the model breaks, or a name leads elsewhere."""
    model = _Model(source, Contents(format=OnnxFile.name))
    try:
        model.read()
    except SafeloadError:
        return frozenset()
    return frozenset(location for location in model.tensors.files if not any(location_problems(location)))


def _looks_like_model(source: Source) -> bool:
    wire = Wire(source, "SL714", _PROBED)
    seen: set[int] = set()
    first = 0
    try:
        for number, kind, a, b in wire.fields(0, source.size, "the model"):
            form = _MODEL.get(number)
            if not first and form is None:
                return False
            first = first or number
            if form is not None and kind != (VARINT if form == "v" else BYTES):
                return False
            if number == 1 and a > 255:
                return False
            if number in (2, 3, 4) and not "".join(wire.text(a, b, 64).split()).isprintable():  # CatBoost's version has lines
                return False
            if number == 7 and not _looks_like_graph(wire, a, b):
                return False
            seen.add(number)
    except SafeloadError:
        # Cut off, or broken on purpose: a version, and then a writer's name or a graph.
        return first == 1 and len(seen & _MODEL.keys()) >= 2
    return bool(seen & {7, 25}) and bool(seen & {1, 8})


def _looks_like_graph(wire: Wire, start: int, end: int) -> bool:
    first = itertools.islice(wire.fields(start, end, "the graph"), 16)
    return all(kind == BYTES for number, kind, _, _ in first if number in _GRAPH)


class _Model:
    """Reads one model. Graphs lie in attributes of nodes of graphs, so there is a list of what is still to be read."""

    def __init__(self, source: Source, contents: Contents) -> None:
        self.source, self.contents = source, contents
        self.wire = Wire(source, "SL714")
        self.tensors = Tensors(self.wire, source)
        self.functions: dict[_Key, _Function] = {}
        self.operators: dict[_Key, tuple[int, int]] = {}  # → how many nodes, where the first stands
        self.graphs = self.nodes = 0
        self.opsets: list[str] = []

    def read(self) -> None:
        """Read the whole message."""
        wire, todo = self.wire, _Todo()
        metadata = self.contents.metadata
        names = {2: "producer", 3: "producer version", 4: "domain"}
        for number, _, a, b in wire.checked(0, self.source.size, _MODEL, "the model"):
            if number == 1:
                metadata["ir version"] = str(a)
            elif number in names:
                metadata[names[number]] = escape(wire.text(a, b, 1 << 10))
            elif number == 7:
                todo.append((a, b, 2, None))
            elif number == 8:
                self._operator_set(a, b)
            elif number == 14:
                self._property(a, b)
            elif number == 20:
                todo += ((start, end, 3, None) for field, _, start, end in wire.checked(a, b, _TRAINING, "training") if field in (1, 2))
            elif number == 25:
                self._function(a, b, todo)
        while todo:
            start, end, depth, within = todo.pop()
            self._graph(start, end, depth, within, todo)
        self._judge()

    def _operator_set(self, start: int, end: int) -> None:
        domain, version = "", 0
        for number, _, a, b in self.wire.checked(start, end, _OPERATOR_SET, "an operator set"):
            if number == 1:
                domain = self.wire.text(a, b, 1 << 10)
            else:
                version = signed(a)
        self.opsets.append(f"{escape(domain, 80) or 'ai.onnx'} {version}")

    def _property(self, start: int, end: int) -> None:
        key = value = ""
        for number, _, a, b in self.wire.checked(start, end, _ENTRY, "a property"):
            text = self.wire.text(a, b, 1 << 10)
            key, value = (text, value) if number == 1 else (key, text)
        if len(self.contents.metadata) < _SHOWN:
            self.contents.metadata[f"property {escape(key, 80)}"] = escape(value)

    def _function(self, start: int, end: int, todo: _Todo) -> None:
        name = domain = overload = ""
        found = _Function(start)
        nodes: list[tuple[int, int]] = []
        for number, _, a, b in self.wire.checked(start, end, _FUNCTION, "a function"):
            if number == 1:
                name = self.wire.text(a, b, 1 << 12)
            elif number == 10:
                domain = self.wire.text(a, b, 1 << 12)
            elif number == 13:
                overload = self.wire.text(a, b, 1 << 12)
            elif number == 7:
                nodes.append((a, b))
            elif number == 11:
                self._attribute(a, b, 2, found, todo)
        key = (standard_domain(domain), name, overload)
        if key in self.functions:
            raise self.wire.bad(f"two functions are named {_shown(key)}", start)
        if key[0] in STANDARD and name in known_operators().get(key[0], ()):
            self._add("SL716", f"a function takes the name of the operator {_shown(key)}", start)
        self.functions[key] = found
        for a, b in nodes:
            self._node(a, b, 2, found, todo)

    def _graph(self, start: int, end: int, depth: int, within: _Function | None, todo: _Todo) -> None:
        self._deep(depth, start)
        self.graphs += 1
        top = depth == 2
        for number, _, a, b in self.wire.checked(start, end, _GRAPH, "a graph"):
            if number == 1:
                self._node(a, b, depth + 1, within, todo)
            elif number == 2 and top:
                self.contents.metadata["graph"] = escape(self.wire.text(a, b, 1 << 10))
            elif number == 5:
                self.tensors.read(a, b)
            elif number == 15:
                self._sparse(a, b)

    def _deep(self, depth: int, offset: int) -> None:
        if depth > DEPTH:
            raise self.wire.bad(f"graphs lie in one another deeper than {DEPTH} messages, which no parser reads", offset)

    def _sparse(self, start: int, end: int) -> None:
        for number, _, a, b in self.wire.checked(start, end, _SPARSE, "a sparse tensor"):
            if number in (1, 2):
                self.tensors.read(a, b)

    def _node(self, start: int, end: int, depth: int, within: _Function | None, todo: _Todo) -> None:
        self._deep(depth, start)
        self.nodes += 1
        wire = self.wire
        name = domain = overload = ""
        attributes: list[tuple[int, int]] = []
        output = (start, start)
        for number, _, a, b in wire.checked(start, end, _NODE, "a node"):
            if number == 2 and output[0] == start:
                output = (a, b)
            elif number == 4:
                name = wire.text(a, b, 1 << 12)
            elif number == 7:
                domain = wire.text(a, b, 1 << 12)
            elif number == 8:
                overload = wire.text(a, b, 1 << 12)
            elif number == 5:
                attributes.append((a, b))
        key = (standard_domain(domain), name, overload)
        texts: dict[str, str] = {}
        for a, b in attributes:
            texts |= self._attribute(a, b, depth + 1, within, todo, output)
        count, first = self.operators.get(key, (0, start))
        self.operators[key] = (count + 1, first)
        if within is not None:
            within.uses[key] += 1
        self._by_attributes(key, texts, start)

    def _attribute(
        self, start: int, end: int, depth: int, within: _Function | None, todo: _Todo, output: tuple[int, int] = (0, 0)
    ) -> dict[str, str]:
        """Read one attribute; returns its text by its name, when it has one. Its tensor is listed by the name of its node's output."""
        wire = self.wire
        name, text = "", None
        for number, _, a, b in wire.checked(start, end, _ATTRIBUTE, "an attribute"):
            if number == 1:
                name = wire.text(a, b, 256)
            elif number == 4:
                text = wire.text(a, b, 1 << 12)
            elif number == 3:
                text = str(signed(a))
            elif number in (5, 10):
                self.tensors.read(a, b, name=wire.text(*output, 1 << 12))
            elif number in (22, 23):
                self._sparse(a, b)
            elif number in (6, 11):
                todo.append((a, b, depth + 1, within))
        return {} if text is None else {name: text}

    # ---- what it amounts to

    def _add(self, rule: str, message: str, offset: int, level: Level | None = None) -> None:
        if sum(found.rule == rule for found in self.contents.findings) < _SHOWN:
            self.contents.findings.append(finding(rule, message, offset=offset, level=level))

    def _by_attributes(self, key: _Key, texts: dict[str, str], offset: int) -> None:
        """Operators of which an attribute decides."""
        if key[1] == "EPContext" and texts.get("embed_mode", "1") == "0":
            path = texts.get("ep_cache_context", "")
            for what in location_problems(path):
                self._add("SL711", f"the operator {_shown(key)} takes compiled code from '{escape(path, 120)}', which {what}", offset)
        if key[1] == "ATen":
            called = texts.get("operator", "")
            if called in ("from_file", "save", "load", "_load_from_file"):
                self._add("SL713", f"the operator {_shown(key)} calls torch's '{called}', which reaches files", offset)

    def _judge(self) -> None:
        """Every operator by its name; then functions that do not end."""
        known = known_operators()
        for key, (count, first) in self.operators.items():
            domain, name, _ = key
            times = f", {count} times" if count > 1 else ""
            if (domain, name) in DANGEROUS:
                self._add("SL713", f"the operator {_shown(key)} {DANGEROUS[domain, name]}{times}", first)
            elif key in self.functions:
                continue
            elif name in PYTHON:
                self._add("SL713", f"the operator {_shown(key)} runs a Python function{times}", first)
            elif (domain, name) in OPAQUE:
                self._add("SL712", f"the operator {_shown(key)} {OPAQUE[domain, name]}{times}", first)
            elif name not in known.get(domain, ()):
                self._add("SL712", f"the operator {_shown(key)} is defined by no one who is known here{times}", first)
        self._ends()

    def _ends(self) -> None:
        """A function that comes back to itself never ends; functions that call functions twice over stand for millions of nodes."""
        sizes: dict[_Key, int] = {}
        for root in self.functions:
            path: list[tuple[_Key, list[_Key]]] = [] if root in sizes else [(root, self._called(root))]
            on_path = {root}
            while path:
                key, rest = path[-1]
                if rest:
                    following = rest.pop()
                    if following in on_path:
                        self._add("SL716", f"the function {_shown(following)} calls itself", self.functions[following].offset)
                        return
                    if following not in sizes:
                        path.append((following, self._called(following)))
                        on_path.add(following)
                    continue
                sizes[key] = min(_EXPANDED + 1, sum(times * sizes.get(used, 1) for used, times in self.functions[key].uses.items()) or 1)
                on_path.discard(key)
                path.pop()
        total = sum(count * sizes.get(key, 1) for key, (count, _) in self.operators.items())
        largest = max(sizes.values(), default=0)
        if largest > _EXPANDED or total > 100 * _EXPANDED:
            self._add("SL716", f"functions that call each other stand for more than {_EXPANDED} nodes", 0)

    def _called(self, key: _Key) -> list[_Key]:
        return [used for used in self.functions[key].uses if used in self.functions]

    def finish(self) -> None:
        """Put together what was found, also after an error."""
        contents = self.contents
        self.tensors.finish()
        contents.findings += self.tensors.findings
        for (what, number), offset in list(self.wire.unknown.items())[:_SHOWN]:
            contents.findings.append(finding("SL717", f"{what} has a field {number}, which ONNX does not have", offset=offset))
        contents.listed = self.tensors.listed
        contents.metadata |= {"operator sets": ", ".join(self.opsets[:_SHOWN]), "nodes": str(self.nodes), "graphs": str(self.graphs)}
        domains = sorted({key[0] for key in self.operators} - {""})
        if domains:
            contents.metadata["domains of operators"] = ", ".join(escape(domain, 80) for domain in domains[:_SHOWN])
        if self.functions:
            contents.metadata["functions"] = str(len(self.functions))


def _shown(key: _Key) -> str:
    domain, name, overload = key
    text = f"{domain or 'ai.onnx'}::{name}" + (f":{overload}" if overload else "")
    return f"'{escape(text, 120)}'"
