"""TensorFlow's protobuf files: SavedModels, MetaGraphs, frozen graphs, and what lies beside them.

A SavedModel's graph is a program. Every operator of every graph and function is looked at by its name: what reaches files, other
machines or Python is named, whether or not it is ever run; the operators by which a model saves and restores itself are judged by
where the name of the file comes from. Configurations of Keras in the object graph are judged as Keras' own files are.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.base import Contents, Listed
from safeload.formats.container import Notes as NameNotes
from safeload.formats.container import check_name
from safeload.formats.keras_config import CONFIG_BYTES, check_config, looks_like_config
from safeload.formats.polyglot import second_stream
from safeload.formats.protobuf_wire import BYTES, VARINT, Schema, Wire
from safeload.formats.storages import as_finding
from safeload.formats.tensorflow_graph import GRAPH, MAIN, NODE, Graphs, Node, read_shape
from safeload.formats.tensorflow_names import type_name
from safeload.formats.tensorflow_operators import DANGEROUS, HARMLESS_NAMES, NAMES_FILE, OPAQUE, SAVERS, known_operators
from safeload.lean_dataclass import replace
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["TensorflowFile"]

_SAVED: Final[Schema] = {1: "v", 2: "M"}
_META: Final[Schema] = {1: "m", 2: "m", 3: "m", 4: "M", 5: "M", 6: "M", 7: "m"}
_INFO: Final[Schema] = {1: "m", 2: "m", 3: "m", 4: "M", 5: "m", 6: "m", 7: "v", 8: "M"}
_ASSET: Final[Schema] = {1: "m", 2: "m"}
_TENSOR_INFO: Final[Schema] = {1: "m", 2: "v", 3: "m", 4: "m", 5: "m"}
_OBJECTS: Final[Schema] = {1: "M", 2: "M"}
_OBJECT: Final[Schema] = {
    1: "M", 3: "M", 4: "m", 5: "m", 6: "m", 7: "m", 8: "m", 9: "m", 10: "m", 11: "M", 12: "m", 13: "m", 14: "m", 15: "M", 16: "m",
}  # fmt: skip
_USER: Final[Schema] = {1: "m", 2: "m", 3: "m"}
_VARIABLE: Final[Schema] = {1: "v", 2: "m", 3: "v", 4: "v", 5: "v", 6: "m", 7: "m", 8: "M"}
_FINGERPRINT: Final[Schema] = {1: "v", 2: "v", 3: "v", 4: "v", 5: "v", 6: "m", 7: "m"}
_KERAS: Final[Schema] = {1: "M"}
_KERAS_NODE: Final[Schema] = {2: "v", 3: "m", 4: "m", 5: "m", 6: "m"}

_OPERATOR: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.>\\/-]{0,199}\Z")
_ELSEWHERE: Final = re.compile(r"[/\\~]|[A-Za-z][A-Za-z0-9+.-]*:|.*(?:\A|[/\\])\.\.(?:[/\\]|\Z)", re.DOTALL)
_PROBED: Final = 64
_SHOWN: Final = 50
_MOST_LISTED: Final = 100_000


class TensorflowFile:
    """The formats "tf-saved-model", "tf-meta-graph", "tf-graph", "tf-fingerprint" and "keras-metadata"."""

    name: Final = "tensorflow"

    def claims(self, source: Source) -> bool:
        """By the shape of the outer messages, as far as the first operator."""
        return _kind(source) is not None

    def read(self, source: Source, reading: Reading) -> Contents:
        """Look at every operator of every graph."""
        contents = Contents(format=_kind(source) or "tf-graph")
        second_stream(source, reading, contents)
        file = _File(source, reading, contents)
        try:
            file.read()
        except MalformedError as error:
            contents.error = error.message
            contents.findings.append(as_finding(error, None))
        except SafeloadError as error:
            contents.error = error.message
        for (what, number), offset in list(file.wire.unknown.items())[:_SHOWN]:
            contents.findings.append(finding("SL729", f"{what} has a field {number}, which TensorFlow does not have", offset=offset))
        return contents


# ---- which of them a file is


def _kind(source: Source) -> str | None:
    first = source.head(1)
    wire = Wire(source, "SL723", 100 * _PROBED)
    if first in (b"\x08", b"\x12"):
        if _fits(wire, 0, source.size, _SAVED) and _first(wire, 0, source.size, 2, _is_meta):
            return "tf-saved-model"
        if source.size < 4096 and _fits(wire, 0, source.size, _FINGERPRINT, whole=True):
            return "tf-fingerprint"
    if first in (b"\x0a", b"\x12"):
        if _fits(wire, 0, source.size, _META) and _first(wire, 0, source.size, 2, _is_graph) and _first(wire, 0, source.size, 1, _is_info):
            return "tf-meta-graph"
        if _fits(wire, 0, source.size, GRAPH) and _is_graph(wire, 0, source.size):
            return "tf-graph"
        if _fits(wire, 0, source.size, _KERAS) and _first(wire, 0, source.size, 1, _is_keras):
            return "keras-metadata"
    return None


def _fits(wire: Wire, start: int, end: int, schema: Schema, *, whole: bool = False) -> bool:
    """Whether the first fields are the schema's; a message that breaks behind them is one that was cut off."""
    count = 0
    try:
        for number, kind, _, _ in wire.fields(start, end, "", cut=not whole):
            form = schema.get(number)
            if form is None or kind not in ((VARINT,) if form == "v" else (BYTES,)):
                return False
            count += 1
            if count == _PROBED:
                return True
    except SafeloadError:
        return count > 0 and not whole
    return count > (2 if whole else 0)


def _first(wire: Wire, start: int, end: int, wanted: int, judge: object) -> bool:
    """Whether the first field of a number is what `judge` says; also where it goes on behind the end of the file."""
    try:
        for count, (number, kind, a, b) in enumerate(wire.fields(start, end, "", cut=True)):
            if number == wanted and kind == BYTES:
                return bool(judge(wire, a, b)) if callable(judge) else False
            if count > _PROBED:
                return False
    except SafeloadError:
        return False
    return False


def _is_meta(wire: Wire, start: int, end: int) -> bool:
    return _fits(wire, start, end, _META)


def _is_info(wire: Wire, start: int, end: int) -> bool:
    return start == end or _fits(wire, start, end, _INFO)


def _is_graph(wire: Wire, start: int, end: int) -> bool:
    return _first(wire, start, end, 1, _is_node)


def _is_node(wire: Wire, start: int, end: int) -> bool:
    """A name and an operator, both texts."""
    name = op = ""
    try:
        for number, kind, a, b in wire.fields(start, end, ""):
            if number not in NODE or kind != BYTES:
                return False
            if number == 1:
                name = wire.text(a, b, 256)
            elif number == 2:
                op = wire.text(a, b, 256)
    except SafeloadError:
        return False
    return name.isprintable() and _OPERATOR.match(op) is not None


def _is_keras(wire: Wire, start: int, end: int) -> bool:
    return _first(wire, start, end, 4, lambda wire, a, b: wire.text(a, b, 64).startswith("_tf_keras_"))


# ---- reading


class _File:
    """Reads one file of any of the kinds."""

    def __init__(self, source: Source, reading: Reading, contents: Contents) -> None:
        self.source, self.reading, self.contents = source, reading, contents
        self.wire = Wire(source, "SL723")

    def read(self) -> None:
        """Read it by its kind."""
        end, kind = self.source.size, self.contents.format
        if kind == "tf-saved-model":
            for number, _, a, b in self.wire.checked(0, end, _SAVED, "the model"):
                if number == 2:
                    self._meta(a, b)
        elif kind == "tf-meta-graph":
            self._meta(0, end)
        elif kind == "tf-graph":
            self._graph(0, end, set())
        elif kind == "keras-metadata":
            for _, _, a, b in self.wire.checked(0, end, _KERAS, "Keras' metadata"):
                self._keras_node(a, b)

    def _meta(self, start: int, end: int) -> None:
        graphs: list[tuple[int, int]] = []
        assets: set[str] = set()
        for number, _, a, b in self.wire.checked(start, end, _META, "a MetaGraph"):
            if number == 1:
                self._info(a, b)
            elif number == 2:
                graphs.append((a, b))
            elif number == 6:
                self._asset(a, b, assets)
            elif number == 7:
                self._objects(a, b)
        for a, b in graphs:
            self._graph(a, b, assets)

    def _info(self, start: int, end: int) -> None:
        tags = []
        for number, _, a, b in self.wire.checked(start, end, _INFO, "a description"):
            if number == 4:
                tags.append(self.wire.text(a, b, 256))
            elif number == 5:
                self.contents.metadata["tensorflow"] = escape(self.wire.text(a, b, 256))
        if tags:
            self.contents.metadata["tags"] = ", ".join(escape(tag, 80) for tag in tags[:_SHOWN])

    def _asset(self, start: int, end: int, assets: set[str]) -> None:
        """A file of the model's directory `assets`, whose path the loader puts into a constant."""
        for number, _, a, b in self.wire.checked(start, end, _ASSET, "an asset"):
            if number == 2:
                name = self.wire.text(a, b, 1 << 12)
                notes = NameNotes(None)
                check_name(notes, "SL210", name)
                for item in notes.done():
                    if item.level is not Level.NOTE:
                        self._add("SL724", item.message.replace("member name", "the asset"), start)
            else:
                for inner, _, c, d in self.wire.checked(a, b, _TENSOR_INFO, "an asset's tensor"):
                    if inner == 1:
                        assets.add(self.wire.text(c, d, 1 << 12).partition(":")[0])

    # ---- objects of Keras

    def _objects(self, start: int, end: int) -> None:
        for number, _, a, b in self.wire.checked(start, end, _OBJECTS, "the objects"):
            if number != 1:
                continue
            for inner, _, c, d in self.wire.checked(a, b, _OBJECT, "an object"):
                if inner == 4:
                    self._user(c, d)
                elif inner == 7:
                    self._variable(c, d)

    def _user(self, start: int, end: int) -> None:
        for number, _, a, b in self.wire.checked(start, end, _USER, "an object of a program"):
            if number == 3:
                self._config(a, b)

    def _keras_node(self, start: int, end: int) -> None:
        for number, _, a, b in self.wire.checked(start, end, _KERAS_NODE, "an object of Keras"):
            if number == 5:
                self._config(a, b)

    def _config(self, start: int, end: int) -> None:
        """A configuration as JSON. Keras makes its layers anew from it, code of a Lambda included."""
        if end - start > CONFIG_BYTES:
            self._add("SL725", f"a configuration of {end - start} bytes; {CONFIG_BYTES} are read", start)
            return
        data = bytes(self.wire.window.view(start, end - start, "a configuration"))
        if not looks_like_config(data):
            return
        checked = check_config(data, self.reading)
        # A class that nobody here knows is not made: Keras then takes the graph's own functions in its place.
        found = [item for item in checked.findings if item.level is Level.ERROR]
        self.contents.findings += (replace(item, offset=start) for item in found[:_SHOWN])
        self.contents.parts += checked.parts

    def _variable(self, start: int, end: int) -> None:
        kind, name = 0, ""
        shape: tuple[int, ...] = ()
        for number, _, a, b in self.wire.checked(start, end, _VARIABLE, "a variable"):
            if number == 1:
                kind = a
            elif number == 2:
                shape = read_shape(self.wire, a, b)
            elif number == 6:
                name = self.wire.text(a, b, 1 << 12)
        self._list(name or "variable", kind, shape, 0)

    def _list(self, name: str, kind: int, shape: tuple[int, ...], nbytes: int) -> None:
        if len(self.contents.listed) < _MOST_LISTED:
            self.contents.listed.append(Listed(name, type_name(kind), shape, nbytes))

    # ---- operators

    def _graph(self, start: int, end: int, assets: set[str]) -> None:
        graphs = Graphs(self.wire)
        graphs.assets = assets
        try:
            graphs.read(start, end)
        finally:  # what was seen until it broke is said all the same
            self._judge(graphs)

    def _judge(self, graphs: Graphs) -> None:
        known = known_operators()
        counts: Counter[str] = Counter()
        for graph, node in graphs.operators():
            op = node.op
            counts[op] += 1
            if op in SAVERS:
                self._saver(graphs, graph, node)
            elif op in NAMES_FILE:
                self._names_file(node)
            elif op == "Const" and node.tensor is not None and graph == MAIN:
                self._list(node.name, *node.tensor)
            if counts[op] > 1 or (op in known and op not in DANGEROUS and op not in OPAQUE):
                continue
            where = f" in the function '{escape(graph, 80)}'" if graph else ""
            if op in DANGEROUS:
                self._add("SL721", f"the operator '{op}'{where} {DANGEROUS[op]}", node.offset)
            elif op in OPAQUE:
                self._add("SL725", f"the operator '{op}'{where} {OPAQUE[op]}", node.offset)
            elif op not in graphs.graphs:
                self._add("SL722", f"the operator '{escape(op, 80)}'{where} is none of TensorFlow's own", node.offset)
        metadata = self.contents.metadata
        metadata["operators"] = str(sum(counts.values()) + int(metadata.get("operators", "0")))
        metadata["functions"] = str(len(graphs.graphs) - 1 + int(metadata.get("functions", "0")))

    def _saver(self, graphs: Graphs, graph: str, node: Node) -> None:
        """An operator that opens a file by a name: it has to be handed in, or to be an asset."""
        index, what = SAVERS[node.op]
        origin = graphs.origin(graph, node, index)
        op = escape(node.op, 40)
        for text in origin.texts:
            if _ELSEWHERE.match(text):
                self._add("SL721", f"the operator '{op}' {what}: '{escape(text, 120)}' stands in the model", node.offset)
                return
        named = [text for text in origin.texts if text]
        if origin.outside or origin.assets or (node.op.startswith("Cache") and not named and not origin.unknown):
            return
        if named:
            self._add("SL721", f"the operator '{op}' {what}: '{escape(named[0], 120)}' stands in the model", node.offset)
        else:
            self._add("SL725", f"the operator '{op}' {what}, and where their name comes from cannot be told", node.offset)

    def _names_file(self, node: Node) -> None:
        key, begins = NAMES_FILE[node.op]
        for text in node.texts.get(key, ()):
            if text and text.startswith(begins) and not (key == "descriptor_source" and text.startswith(HARMLESS_NAMES)):
                self._add("SL721", f"the operator '{node.op}' opens '{escape(text, 120)}'", node.offset)
                return

    def _add(self, rule: str, message: str, offset: int) -> None:
        if sum(found.rule == rule for found in self.contents.findings) < _SHOWN:
            self.contents.findings.append(finding(rule, message, offset=offset))
