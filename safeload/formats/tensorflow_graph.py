"""TensorFlow graphs and their functions, and where a value in them comes from.

A SavedModel saves and restores itself by operators of its own graph, so those cannot be refused by their names. What decides is
whether the name of the file comes from outside (whoever saves or loads hands it in) or stands in the model.
Source of the numbers of fields: TensorFlow 2.21's graph.proto, node_def.proto, function.proto, attr_value.proto, tensor.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError
from safeload.formats.protobuf_wire import BYTES, DEPTH, Schema, Wire, signed
from safeload.lean_dataclass import dataclass, field

__all__ = ["GRAPH", "MAIN", "NODE", "Graph", "Graphs", "Node", "Origin", "read_shape"]

GRAPH: Final[Schema] = {1: "M", 2: "m", 3: "v", 4: "m", 5: "m"}
NODE: Final[Schema] = {1: "m", 2: "m", 3: "M", 4: "m", 5: "M", 6: "m", 7: "m"}
_LIBRARY: Final[Schema] = {1: "M", 2: "M", 3: "M"}
_FUNCTION: Final[Schema] = {1: "m", 3: "M", 4: "M", 5: "M", 6: "M", 7: "M", 8: "M"}
_SIGNATURE: Final[Schema] = {
    1: "m", 2: "M", 3: "M", 4: "M", 5: "m", 6: "m", 8: "m", 16: "v", 17: "v", 18: "v", 19: "v", 20: "M", 21: "v",
}  # fmt: skip
_ARGUMENT: Final[Schema] = {1: "m", 2: "m", 3: "v", 4: "m", 5: "m", 6: "m", 7: "M", 16: "v", 17: "m"}
_ENTRY: Final[Schema] = {1: "m", 2: "m"}
_VALUE: Final[Schema] = {1: "m", 2: "m", 3: "v", 4: "f", 5: "v", 6: "v", 7: "m", 8: "m", 9: "m", 10: "m"}
_LIST: Final[Schema] = {2: "M", 3: "V", 4: "F", 5: "V", 6: "V", 7: "M", 8: "M", 9: "M"}
_CALLED: Final[Schema] = {1: "m", 2: "M"}
_TENSOR: Final[Schema] = {
    1: "v", 2: "m", 3: "v", 4: "m", 5: "F", 6: "D", 7: "V", 8: "M", 9: "F", 10: "V", 11: "V", 12: "D", 13: "V", 14: "M", 15: "M",
    16: "V", 17: "V", 18: "m",
}  # fmt: skip
_SHAPE: Final[Schema] = {2: "M", 3: "v"}
_SIZE: Final[Schema] = {1: "v", 2: "m"}
_STRING: Final = 7  # DT_STRING
_DIMENSIONS: Final = 254

MAIN: Final = ""
_NODES: Final = 1_000_000
_TEXTS: Final = 64  # texts of a constant that are kept
_STEPS: Final = 2_000_000

# Which input of a caller becomes the first argument of the function; of other callers it cannot be told.
_FIRST: Final = {
    "PartitionedCall": 0, "StatefulPartitionedCall": 0, "While": 0, "StatelessWhile": 0, "If": 1, "StatelessIf": 1, "Case": 1,
    "StatelessCase": 1,
}  # fmt: skip
_VARIABLES: Final = frozenset({"VarHandleOp", "Variable", "VariableV2"})
_OUTSIDE: Final = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "_Arg", "_DeviceArg"})


@dataclass(slots=True)
class Node:
    """One operator of a graph.

    Attributes:
        name, op, inputs: As the graph has them.
        texts: Attributes that are texts or lists of them.
        functions: Functions that its attributes name.
        strings: Of a constant: its texts; None for numbers.
        tensor: Of a constant: the number of its type, its shape, the bytes of its numbers.
        offset: First byte.
    """

    name: str = ""
    op: str = ""
    inputs: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    strings: list[str] | None = None
    tensor: tuple[int, tuple[int, ...], int] | None = None
    offset: int = 0


@dataclass(slots=True)
class Graph:
    """The main graph, or the body of a function with its arguments: name → which one."""

    nodes: dict[str, Node] = field(default_factory=dict)
    arguments: dict[str, int] = field(default_factory=dict)
    offset: int = 0


@dataclass(slots=True)
class Origin:
    """Where a value comes from: texts that stand in the model, assets of it, or what somebody hands in.

    Attributes:
        texts: Constants.
        outside: Something of it is handed in.
        assets: Something of it is the path of an asset.
        unknown: Something of it is neither, as far as can be seen.
    """

    texts: list[str] = field(default_factory=list)
    outside: bool = False
    assets: bool = False
    unknown: bool = False


def read_shape(wire: Wire, start: int, end: int) -> tuple[int, ...]:
    """Return the sizes of a TensorShapeProto, -1 where one is open.

    Raises:
        MalformedError: it breaks, or has more dimensions than any tensor.
    """
    sizes: list[int] = []
    for number, _, a, b in wire.checked(start, end, _SHAPE, "a shape"):
        if number == 2:
            size = 0
            for inner, _, c, _ in wire.checked(a, b, _SIZE, "a dimension"):
                size = signed(c) if inner == 1 else size
            sizes.append(size)
            if len(sizes) > _DIMENSIONS:
                raise wire.bad(f"a shape of more than {_DIMENSIONS} dimensions", start)
    return tuple(sizes)


class Graphs:
    """A graph with its functions.

    Attributes:
        graphs: By name; `MAIN` is the graph itself.
        assets: Names of constants that TensorFlow replaces by paths of assets when it loads the model.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.graphs: dict[str, Graph] = {MAIN: Graph()}
        self.assets: set[str] = set()
        self.count = self.steps = 0
        self._assigned: dict[str, dict[str, list[str]]] = {}
        self._callers: dict[str, list[tuple[str, Node]]] | None = None

    # ---- reading

    def read(self, start: int, end: int) -> None:
        """Read a GraphDef.

        Raises:
            MalformedError: it breaks, or has two functions of a name or two nodes of one.
        """
        main = self.graphs[MAIN]
        main.offset = start
        for number, _, a, b in self.wire.checked(start, end, GRAPH, "a graph"):
            if number == 1:
                self._add(main, a, b)
            elif number == 2:
                for inner, _, c, d in self.wire.checked(a, b, _LIBRARY, "a library"):
                    if inner == 1:
                        self._function(c, d)

    def _function(self, start: int, end: int) -> None:
        graph, name = Graph(offset=start), ""
        for number, _, a, b in self.wire.checked(start, end, _FUNCTION, "a function"):
            if number == 1:
                name = self._signature(a, b, graph)
            elif number == 3:
                self._add(graph, a, b)
        if name in self.graphs or not name:
            raise self.wire.bad(f"two functions are named '{name[:80]}'" if name else "a function has no name", start)
        self.graphs[name] = graph

    def _signature(self, start: int, end: int, graph: Graph) -> str:
        name = ""
        for number, _, a, b in self.wire.checked(start, end, _SIGNATURE, "a signature"):
            if number == 1:
                name = self.wire.text(a, b, 1 << 12)
            elif number == 2:
                for inner, _, c, d in self.wire.checked(a, b, _ARGUMENT, "an argument"):
                    if inner == 1:
                        graph.arguments[self.wire.text(c, d, 1 << 12)] = len(graph.arguments)
        return name

    def _add(self, graph: Graph, start: int, end: int) -> None:
        self.count += 1
        if self.count > _NODES:
            raise LimitError(f"more than {_NODES} operators", where=f"@{start}").under(self.wire.rule)
        node = self.node(start, end)
        if node.name in graph.nodes:
            raise self.wire.bad(f"two operators of a graph are named '{node.name[:80]}'", start)
        graph.nodes[node.name] = node

    def node(self, start: int, end: int) -> Node:
        """Read one NodeDef."""
        wire, node = self.wire, Node(offset=start)
        for number, _, a, b in wire.checked(start, end, NODE, "an operator"):
            if number == 1:
                node.name = wire.text(a, b, 1 << 12)
            elif number == 2:
                node.op = wire.text(a, b, 1 << 10)
            elif number == 3:
                node.inputs.append(wire.text(a, b, 1 << 12))
            elif number == 5:
                self._attribute(a, b, node)
        return node

    def _attribute(self, start: int, end: int, node: Node) -> None:
        key, value = "", None
        for number, _, a, b in self.wire.checked(start, end, _ENTRY, "an attribute"):
            if number == 1:
                key = self.wire.text(a, b, 256)
            else:
                value = (a, b)
        if value is not None:
            self._value(*value, key, node)

    def _value(self, start: int, end: int, key: str, node: Node) -> None:
        """The value of an attribute; functions in it may have attributes with functions."""
        wire = self.wire
        todo = [(start, end, key, 0)]
        while todo:
            first, last, key, depth = todo.pop()
            if depth > DEPTH:
                raise wire.bad(f"an attribute nested deeper than {DEPTH} messages, which no parser reads", first)
            for number, _, a, b in wire.checked(first, last, _VALUE, "a value"):
                if number == 2:
                    self._text(a, b, key, node)
                elif number == 8 and not depth:
                    self._tensor(a, b, node)
                elif number == 10:
                    self._called(a, b, node, todo, depth)
                elif number == 1:
                    for inner, _, c, d in wire.checked(a, b, _LIST, "a list"):
                        if inner == 2:
                            self._text(c, d, key, node)
                        elif inner == 9:
                            self._called(c, d, node, todo, depth)

    def _text(self, start: int, end: int, key: str, node: Node) -> None:
        if key in ("_output_shapes", "T", "dtype", "_class") or key.startswith("_"):
            return
        texts = node.texts.setdefault(key, [])
        if len(texts) < _TEXTS:
            texts.append(self.wire.text(start, end, 1 << 12))

    def _called(self, start: int, end: int, node: Node, todo: list[tuple[int, int, str, int]], depth: int) -> None:
        for number, _, a, b in self.wire.checked(start, end, _CALLED, "a called function"):
            if number == 1:
                node.functions.append(self.wire.text(a, b, 1 << 12))
            else:
                for inner, _, c, d in self.wire.checked(a, b, _ENTRY, "an attribute"):
                    if inner == 2:
                        todo.append((c, d, "", depth + 3))

    def _tensor(self, start: int, end: int, node: Node) -> None:
        """Type, shape and texts of a constant."""
        kind, nbytes = 0, 0
        texts: list[str] = []
        shape: tuple[int, ...] = ()
        for number, wire, a, b in self.wire.checked(start, end, _TENSOR, "a tensor"):
            if number == 1:
                kind = a
            elif number == 2:
                shape = read_shape(self.wire, a, b)
            elif wire == BYTES and number not in (8, 14, 15):
                nbytes += b - a
            elif number == 8 and wire == BYTES and len(texts) < _TEXTS:
                texts.append(self.wire.text(a, b, 1 << 12))
        if kind == _STRING:
            node.strings = texts
        node.tensor = (kind, shape, nbytes)

    # ---- where something comes from

    def operators(self) -> Iterator[tuple[str, Node]]:
        """Yield (graph, node) of every operator."""
        for name, graph in self.graphs.items():
            for node in graph.nodes.values():
                yield name, node

    def origin(self, graph: str, node: Node, index: int) -> Origin:
        """Say where an operator's input comes from, through functions and their callers."""
        found = Origin()
        inputs = [text for text in node.inputs if not text.startswith("^")]
        if index >= len(inputs):
            found.unknown = True
            return found
        todo = [(graph, inputs[index])]
        seen: set[tuple[str, str]] = set()
        while todo:
            graph, text = todo.pop()
            place = (graph, text.partition(":")[0])
            if place in seen:
                continue
            seen.add(place)
            self.steps += 1
            if self.steps > _STEPS:  # in all: a graph of savers alone would be walked for each
                found.unknown = True
                break
            self._step(*place, found, todo)
        return found

    def _step(self, graph: str, name: str, found: Origin, todo: list[tuple[str, str]]) -> None:
        held = self.graphs[graph]
        node = held.nodes.get(name)
        if node is None:
            if name in held.arguments:
                self._argument(graph, held.arguments[name], found, todo)
            else:
                found.unknown = True
            return
        if graph == MAIN and name in self.assets:
            found.assets = True
            return
        if node.op == "Const":
            found.texts += (node.strings or [])[: _TEXTS - len(found.texts)]
            return
        if node.op in _VARIABLES:
            assigned = self.assigned(graph).get(name, [])
            found.unknown |= not assigned
            todo += ((graph, text) for text in assigned)
            return
        if node.op in _OUTSIDE:
            found.outside = True
        following = [one for one in node.inputs if not one.startswith("^")]
        if not following and node.op not in _OUTSIDE:
            found.unknown = True
        todo += ((graph, one) for one in following)

    def _argument(self, function: str, index: int, found: Origin, todo: list[tuple[str, str]]) -> None:
        """An argument of a function comes from its callers; a function that nobody calls is called from outside."""
        callers = self.callers().get(function, [])
        if not callers:
            found.outside = True
        for graph, node in callers:
            inputs = [text for text in node.inputs if not text.startswith("^")]
            first = 0 if node.op == function else _FIRST.get(node.op)
            if first is None or first + index >= len(inputs):
                found.unknown = True
                todo += ((graph, text) for text in inputs)
            else:
                todo.append((graph, inputs[first + index]))

    def assigned(self, graph: str) -> dict[str, list[str]]:
        """Variable → the values that are put into it in a graph."""
        if graph not in self._assigned:
            found: dict[str, list[str]] = {}
            for node in self.graphs[graph].nodes.values():
                if node.op.startswith("Assign") and len(node.inputs) > 1:
                    found.setdefault(node.inputs[0].partition(":")[0], []).append(node.inputs[1])
            self._assigned[graph] = found
        return self._assigned[graph]

    def callers(self) -> dict[str, list[tuple[str, Node]]]:
        """Function → (graph, node) of every operator that names it."""
        if self._callers is None:
            self._callers = {}
            for graph, node in self.operators():
                for name in {*node.functions, node.op} & self.graphs.keys():
                    self._callers.setdefault(name, []).append((graph, node))
        return self._callers
