"""TensorFlow Lite models: a flatbuffer of subgraphs, operators, tensors and buffers.

Builtin operators compute and do nothing else. Custom ones come out of libraries, and Flex operators are TensorFlow's own, with all that
those reach. The runtime reads the file in place and trusts its indices, so all of them are compared with what is there.
Source of the numbers of fields: TensorFlow 2.21's schema.fbs, version 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.base import Contents, Listed
from safeload.formats.first_bytes import trailing_zip
from safeload.formats.flatbuffer_table import Flatbuffer, Table, Vector
from safeload.formats.flexbuffer import texts_of
from safeload.formats.onnx_tensor import location_problems
from safeload.formats.polyglot import second_stream
from safeload.formats.protobuf_wire import Wire
from safeload.formats.storages import as_finding
from safeload.formats.tensorflow_graph import Graphs, Node
from safeload.formats.tensorflow_operators import DANGEROUS, OPAQUE
from safeload.lean_dataclass import dataclass, field
from safeload.source import Limits, Reading, Source
from safeload.walk import finding

__all__ = ["TfliteFile"]

_IDENTIFIER: Final = b"TFL3"
_NEWEST: Final = 209  # BuiltinOperator's greatest number
_CUSTOM, _DELEGATE, _CUSTOM_CALL = 32, 51, 173
_DIMENSIONS: Final = 4096
_INDICES: Final = 1_000_000
_OPTIONS: Final = 1 << 20
_SHOWN: Final = 50
_MOST: Final = 1 << 62

# What the runtime's own library registers as custom operators.
_KNOWN: Final = frozenset({"NumericVerify", "Mfcc", "AudioSpectrogram", "TFLite_Detection_PostProcess"})

# TensorType → name and bits of an element (0: cannot be told).
_TYPES: Final = {
    0: ("FLOAT32", 32), 1: ("FLOAT16", 16), 2: ("INT32", 32), 3: ("UINT8", 8), 4: ("INT64", 64), 5: ("STRING", 0), 6: ("BOOL", 8),
    7: ("INT16", 16), 8: ("COMPLEX64", 64), 9: ("INT8", 8), 10: ("FLOAT64", 64), 11: ("COMPLEX128", 128), 12: ("UINT64", 64),
    13: ("RESOURCE", 0), 14: ("VARIANT", 0), 15: ("UINT32", 32), 16: ("UINT16", 16), 17: ("INT4", 4), 18: ("BFLOAT16", 16),
    19: ("INT2", 2), 20: ("UINT4", 4),
}  # fmt: skip

# Options that name subgraphs: type of the union → the fields that are indices, the field that is a vector of them.
_Called = Mapping[int, tuple[tuple[int, ...], int | None]]
_OPTIONS_1: Final[_Called] = {16: ((0,), None), 92: ((0, 1), None), 93: ((0, 1), None), 103: ((0,), None)}
_OPTIONS_2: Final[_Called] = {
    6: ((1,), None), 7: ((6,), None), 14: ((5,), None), 13: ((2,), None), 15: ((0, 1), None), 21: ((1,), None), 23: ((), 0), 5: ((), 4),
}  # fmt: skip


@dataclass(slots=True)
class _Kind:
    """One kind of operator: its number, the name of a custom one, where it stands, and how often it is used."""

    code: int
    custom: str | None
    offset: int
    used: int = 0
    options: list[tuple[int, int]] = field(default_factory=list)


class TfliteFile:
    """The format "tflite"."""

    name: Final = "tflite"

    def claims(self, source: Source) -> bool:
        """By its identifier, which stands behind the first pointer."""
        return source.head(8)[4:] == _IDENTIFIER

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read every table but the numbers of tensors."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        try:
            _Model(source, reading.limits, contents).read()
        except MalformedError as error:
            contents.error = error.message
            contents.findings.append(as_finding(error, None))
        except SafeloadError as error:
            contents.error = error.message
        if trailing_zip(source):
            _packed_files(source, reading, contents)
        return contents


def _packed_files(source: Source, reading: Reading, contents: Contents) -> None:
    """Files that the metadata's writer appends as a ZIP archive: labels, vocabularies. Whatever they are, they are read."""
    from safeload.formats.nested import read_members
    from safeload.formats.zip_container import read_archive

    archive = read_archive(source, reading.limits)
    # The model in front of the archive is what the bytes in front of it are.
    contents.findings += (item for item in archive.findings if item.rule != "SL205")
    contents.error = contents.error or archive.error
    contents.metadata["packed files"] = str(len(archive.members))
    contents.end = source.size
    try:
        read_members(source, archive, reading, contents)
    except MalformedError as error:
        contents.error = contents.error or error.message


class _Model:
    """Reads one model."""

    def __init__(self, source: Source, limits: Limits, contents: Contents) -> None:
        self.source, self.limits, self.contents = source, limits, contents
        self.buffer = Flatbuffer(source, "SL726")
        self.kinds: list[_Kind] = []
        self.buffers: list[int] = []  # bytes of each
        self.subgraphs = 0
        self.calls: dict[int, set[int]] = {}

    def read(self) -> None:
        """Read the whole model."""
        model = self.buffer.root()
        version = model.integer(0, 4)
        if version != 3:
            raise self.buffer.bad(f"a model of version {version}; 3 is read", model.offset)
        description = model.text(3)
        self.contents.metadata |= {"version": "3"} | ({"description": escape(description)} if description else {})
        self._buffers(self._counted(model, 4))
        self._kinds(self._counted(model, 1))
        graphs = self._counted(model, 2)
        self.subgraphs = graphs.count if graphs is not None else 0
        try:
            for index in range(self.subgraphs):
                if graphs is not None:
                    self._subgraph(graphs.table(index), index)
            self._rest(model)
            self._circles()
        finally:
            self._judge()

    def _counted(self, table: Table, number: int) -> Vector | None:
        found = table.vector(number, 4)
        if found is not None and found.count > self.limits.members:
            raise self.buffer.bad(f"a vector of {found.count} tables; {self.limits.members} are read", found.start)
        return found

    def _buffers(self, found: Vector | None) -> None:
        for one in found.tables() if found is not None else ():
            data = one.vector(0, 1)
            offset, size = one.integer(1, 8, signed=False), one.integer(2, 8, signed=False)
            if offset > 1:  # models of more than 2 GB keep their numbers behind the flatbuffer
                if data is not None and data.count:
                    raise self.buffer.bad("a buffer has its bytes in two places", one.offset)
                if offset + size > self.source.size:
                    message = f"a buffer ends at byte {offset + size}, and the file has {self.source.size}"
                    self._add("SL728", message, one.offset)
                self.buffers.append(size)
            else:
                self.buffers.append(data.count if data is not None else 0)

    def _kinds(self, found: Vector | None) -> None:
        for one in found.tables() if found is not None else ():
            code = max(one.integer(0, 1), one.integer(3, 4))
            custom = one.text(1)
            if code == _CUSTOM and not custom:
                raise self.buffer.bad("a custom operator without a name", one.offset)
            if code < 0:
                raise self.buffer.bad(f"an operator of the number {code}", one.offset)
            self.kinds.append(_Kind(code, custom, one.offset))

    # ---- subgraphs

    def _subgraph(self, table: Table, index: int) -> None:
        tensors = self._counted(table, 0)
        count = tensors.count if tensors is not None else 0
        for one in tensors.tables() if tensors is not None else ():
            self._tensor(one)
        for number in (1, 2):
            self._indices(table, number, count)
        operators = self._counted(table, 3)
        for one in operators.tables() if operators is not None else ():
            self._operator(one, count, index)

    def _indices(self, table: Table, number: int, count: int) -> None:
        found = table.vector(number, 4)
        for used in found.integers(_INDICES) if found is not None else ():
            if not -1 <= used < count:
                raise self.buffer.bad(f"an operator or subgraph uses tensor {used}, and there are {count}", table.offset)

    def _tensor(self, table: Table) -> None:
        sizes = table.vector(0, 4)
        shape = tuple(sizes.integers(_DIMENSIONS)) if sizes is not None else ()
        kind, used = table.integer(1, 1), table.integer(2, 4, signed=False)
        name = table.text(3) or ""
        shown = f"tensor '{escape(name, 80)}'"
        if used >= max(1, len(self.buffers)):
            raise self.buffer.bad(f"{shown} is in buffer {used}, and there are {len(self.buffers)}", table.offset)
        if kind not in _TYPES:
            self._add("SL728", f"{shown} is of type {kind}, which does not exist", table.offset)
            return
        dtype, bits = _TYPES[kind]
        held = self.buffers[used] if used < len(self.buffers) else 0
        open_ = any(size < 0 for size in shape)
        elements = 0 if open_ else prod(shape)
        if any(size < -1 for size in shape) or elements >= _MOST:
            self._add("SL728", f"{shown} has a shape that no file can hold", table.offset)
        needed = -(-elements * bits // 8)
        if used and held and bits and not open_ and table.table(6) is None and needed > held:
            message = f"{shown} of shape {shape} needs {needed} bytes, and its buffer has {held}"
            self._add("SL728", message, table.offset)
        if len(self.contents.listed) < self.limits.members:
            self.contents.listed.append(Listed(name, dtype, shape, held if used else 0))

    def _operator(self, table: Table, tensors: int, graph: int) -> None:
        number = table.integer(0, 4, signed=False)
        if number >= len(self.kinds):
            raise self.buffer.bad(f"an operator is of kind {number}, and there are {len(self.kinds)}", table.offset)
        kind = self.kinds[number]
        kind.used += 1
        for one in (1, 2, 8):
            self._indices(table, one, tensors)
        self._options(table, 3, 4, _OPTIONS_1, graph)
        self._options(table, 11, 12, _OPTIONS_2, graph)
        if kind.code in (_CUSTOM, _CUSTOM_CALL):
            self._custom(table, kind)

    def _options(self, table: Table, kind: int, options: int, known: _Called, graph: int) -> None:
        """Subgraphs that an operator runs: they have to be there."""
        form = known.get(table.integer(kind, 1, signed=False))
        held = table.table(options) if form is not None else None
        if form is None or held is None:
            return
        single, several = form
        called = [held.integer(one, 4) for one in single]
        if several is not None:
            vector = held.vector(several, 4)
            called += vector.integers(_INDICES) if vector is not None else []
        for target in called:
            if not 0 <= target < self.subgraphs:
                raise self.buffer.bad(f"an operator runs subgraph {target}, and there are {self.subgraphs}", table.offset)
            self.calls.setdefault(graph, set()).add(target)

    def _custom(self, table: Table, kind: _Kind) -> None:
        given = table.vector(5, 1)
        offset, size = table.integer(9, 8, signed=False), table.integer(10, 8, signed=False)
        if offset > 1:
            if offset + size > self.source.size:
                raise self.buffer.bad(
                    f"options of an operator end at byte {offset + size}, and the file has {self.source.size}", table.offset
                )
            kind.options.append((offset, size))
        elif given is not None:
            kind.options.append((given.start, given.count))

    # ---- what is left, and what it amounts to

    def _rest(self, model: Table) -> None:
        names = []
        metadata = self._counted(model, 6)
        for one in metadata.tables() if metadata is not None else ():
            names.append(escape(one.text(0) or "", 80))
            if one.integer(1, 4, signed=False) >= max(1, len(self.buffers)):
                raise self.buffer.bad(f"metadata lies in a buffer that is not there, of {len(self.buffers)}", one.offset)
        if names:
            self.contents.metadata["metadata"] = ", ".join(names[:_SHOWN])
        signatures = self._counted(model, 7)
        for one in signatures.tables() if signatures is not None else ():
            if one.integer(4, 4, signed=False) >= max(1, self.subgraphs):
                raise self.buffer.bad(f"a signature is of a subgraph that is not there, of {self.subgraphs}", one.offset)
        groups = self._counted(model, 8)
        for one in groups.tables() if groups is not None else ():
            name = one.text(0) or ""
            for what in location_problems(name):
                self._add("SL724", f"the model has numbers in the file '{escape(name, 120)}', which {what}", one.offset)
        self.contents.metadata |= {"subgraphs": str(self.subgraphs), "operators": str(sum(kind.used for kind in self.kinds))}

    def _circles(self) -> None:
        """Subgraphs that run each other in a circle never end."""
        done: set[int] = set()
        for root in self.calls:
            path: list[tuple[int, list[int]]] = [] if root in done else [(root, sorted(self.calls.get(root, ())))]
            on_path = {root}
            while path:
                graph, rest = path[-1]
                if rest:
                    following = rest.pop()
                    if following in on_path:
                        raise self.buffer.bad(f"subgraph {following} runs itself", 0)
                    if following not in done:
                        path.append((following, sorted(self.calls.get(following, ()))))
                        on_path.add(following)
                    continue
                done.add(graph)
                on_path.discard(graph)
                path.pop()

    def _judge(self) -> None:
        for kind in self.kinds:
            times = f", {kind.used} times" if kind.used > 1 else ""
            name = escape(kind.custom or "", 80)
            if kind.code == _CUSTOM and (kind.custom or "").startswith("Flex"):
                self._flex(kind, times)
            elif kind.code == _CUSTOM and kind.custom not in _KNOWN:
                self._add("SL727", f"the custom operator '{name}' comes out of a library{times}", kind.offset)
            elif kind.code in (_DELEGATE, _CUSTOM_CALL):
                self._add("SL727", f"an operator that only calls into a library (number {kind.code}){times}", kind.offset)
            elif kind.code > _NEWEST:
                self._add("SL727", f"an operator of the number {kind.code}; {_NEWEST} is the greatest that is known{times}", kind.offset)

    def _flex(self, kind: _Kind, times: str) -> None:
        """An operator of TensorFlow: named twice, and what runs is the second."""
        name = (kind.custom or "")[len("Flex") :]
        real = {name}
        for start, count in kind.options[:_SHOWN]:
            found = self._node(start, count)
            if found is not None and found.op != name:
                message = f"a Flex operator that is called '{escape(name, 80)}' and runs '{escape(found.op, 80)}'"
                self._add("SL726", message, start, Level.ERROR)
                real.add(found.op)
        for op in sorted(real):
            shown = escape(op, 80)
            if op in DANGEROUS:
                self._add("SL721", f"the Flex operator '{shown}' {DANGEROUS[op]}{times}", kind.offset)
            elif op in OPAQUE:
                self._add("SL725", f"the Flex operator '{shown}' {OPAQUE[op]}{times}", kind.offset)
            else:
                self._add("SL727", f"the Flex operator '{shown}' is handed to all of TensorFlow{times}", kind.offset)

    def _node(self, start: int, count: int) -> Node | None:
        """The operator that the options of a Flex operator describe, or None when they are not of that form."""
        if not 0 < count <= _OPTIONS:
            return None
        try:
            texts = texts_of(self.buffer.read(start, count))
            if len(texts) < 2:
                return None
            inner = Source.open(texts[1])
            return Graphs(Wire(inner, "SL726")).node(0, inner.size)
        except SafeloadError:
            return None

    def _add(self, rule: str, message: str, offset: int, level: Level | None = None) -> None:
        if sum(item.rule == rule for item in self.contents.findings) < _SHOWN:
            self.contents.findings.append(finding(rule, message, offset=offset, level=level))
