"""TensorFlow's protobuf files."""

from __future__ import annotations

import json
from typing import Final

from tests.forge_protobuf import msg, number, tag, varint
from tests.forge_tensorflow import (
    asset,
    called,
    checkpoint,
    const,
    entry,
    fingerprint,
    function,
    graph,
    keras_object,
    meta,
    node,
    saved,
    text,
    variable,
)  # fmt: skip
from tests.forge_tflite import Table, Tables, flex_options, kind, operator, tensor
from tests.forge_tflite import model as tflite
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_X: Final = node("Placeholder", name="x")
_SAVER: Final = (
    _X,
    node("StatefulPartitionedCall", "x", attrs=[called("f", "traced_restore")]),
)
_RESTORE: Final = function("traced_restore", node("RestoreV2", "prefix"), arguments=["prefix"])
_LAMBDA: Final = '{"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wAAAAA="}}}}'


def _tfjs(*operators: str, path: str = "group1-shard1of1.bin", config: object = None) -> bytes:
    """A model of TensorFlow.js: a graph of these operators, or layers."""
    graph: dict[str, object] = {"node": [{"name": "x", "op": op} for op in ("Placeholder", "_FusedMatMul", *operators)]}
    layers = {"keras_version": "2", "model_config": config}
    weights = [{"paths": [path], "weights": [{"name": "w", "shape": [2], "dtype": "float32"}]}]
    return json.dumps({"format": "x", "modelTopology": graph if config is None else layers, "weightsManifest": weights}).encode()


def _sequential(layer: object) -> dict[str, object]:
    return {"class_name": "Sequential", "config": {"layers": [layer]}}


def _model() -> bytes:
    return saved(graph(*_SAVER, functions=[_RESTORE]), objects=[variable("w", 1, 3, 2)])


_TEXT: Final = 'node { name: "x" op: "Placeholder" } node { name: "y" op: "%s" input: "x" attr { key: "k" value { s: "%s" } } }'


def _text(op: str = "MatMul", value: str = "v") -> bytes:
    return (_TEXT % (op, value)).encode()


ROWS: Final = [
    FormatRow(
        format="tf-saved-model",
        title="TensorFlow SavedModel",
        written_by="`tf.saved_model.save`, Keras' `export`, TensorFlow 1's savers",
        reads="every operator of every graph and function, the names of assets, configurations of Keras in the objects",
        order=22,
        benign={
            "operators of saving, by a name that is handed in": _model,
            "a directory with its checkpoint": lambda: {
                "saved_model.pb": _model(),
                "fingerprint.pb": fingerprint(),
                "variables/variables.index": checkpoint({"w": entry(0, 24)}),
                "variables/variables.data-00000-of-00001": bytes(24),
            },
        },
        hostile={
            "`ReadFile`": (lambda: saved(graph(_X, node("ReadFile", "x"))), "SL721"),
            "`WriteFile` in a function": (lambda: saved(graph(_X, functions=[function("f", node("WriteFile", "x"))])), "SL721"),
            "`EagerPyFunc`": (lambda: saved(graph(_X, node("EagerPyFunc", "x"))), "SL721"),
            "`TextLineDataset`": (lambda: saved(graph(_X, node("TextLineDataset", "x"))), "SL721"),
            "`RestoreV2` of a file that the model names": (lambda: saved(graph(const("n", "/etc/x"), node("RestoreV2", "n"))), "SL721"),
            "`PrintV2` into a file": (lambda: saved(graph(_X, node("PrintV2", "x", attrs=[text("output_stream", "file:///x")]))), "SL721"),
            "an operator out of a library": (lambda: saved(graph(_X, node("MyOperator", "x"))), "SL722"),
            "two graphs": (lambda: number(1, 1) + msg(2, meta(graph(_X)) + msg(2, graph(node("NoOp")))), "SL723"),
            "the asset `../../etc/passwd`": (lambda: saved(graph(_X), asset("v", "../../etc/passwd")), "SL724"),
            "a graph in a tensor": (lambda: saved(graph(_X, node("DatasetFromGraph", "x"))), "SL725"),
            "a Lambda layer of Keras": (lambda: saved(graph(_X), objects=[keras_object(_LAMBDA)]), "SL802"),
            "an unknown field": (lambda: saved(graph(_X, node("NoOp") + number(40, 1))), "SL729"),
        },
    ),
    FormatRow(
        format="tf-graph",
        title="TensorFlow frozen graph",
        written_by="TensorFlow 1's `write_graph` and freezing tools (`.pb`); MetaGraphs (`.meta`) likewise",
        reads="as of a SavedModel",
        order=23,
        benign={"a placeholder and a product": lambda: graph(_X, node("MatMul", "x", "x"))},
        hostile={
            "`ReadFile`": (lambda: graph(_X, node("ReadFile", "x")), "SL721"),
            "`ReadFile`, and then a broken message": (lambda: graph(_X, node("ReadFile", "x")) + tag(1, 2) + varint(1 << 40), "SL721"),
        },
    ),
    FormatRow(
        format="tf-text",
        title="TensorFlow graph as text",
        written_by="TensorFlow 1's `write_graph` (`.pbtxt`), `saved_model.pbtxt` of SavedModels",
        reads="every operator that is named, whatever its message; where a saver's file name comes from is not followed",
        order=23,
        benign={"a placeholder and a product": _text},
        hostile={
            "`ReadFile`": (lambda: _text("ReadFile"), "SL721"),
            "the same with a letter escaped": (lambda: _text("Read\\106ile"), "SL721"),
            "a SavedModel with `WriteFile` in a function": (
                lambda: b'saved_model_schema_version: 1 meta_graphs <graph_def <library <function <node_def <op: "Write" "File">>>>>',
                "SL721",
            ),
            "an operator out of a library": (lambda: _text("MyOperator"), "SL722"),
            "`RestoreV2`": (lambda: _text("RestoreV2"), "SL725"),
            "a text that breaks behind `ReadFile`": (lambda: _text("ReadFile") + b"}", "SL721"),
        },
    ),
    FormatRow(
        format="tf-checkpoint",
        title="TensorFlow checkpoint",
        written_by="TensorFlow's savers (`.index`; the files of numbers beside it have no structure)",
        reads="the whole table: names, types, shapes and places",
        order=24,
        benign={"two tensors": lambda: checkpoint({"a": entry(0, 8), "b": entry(8, 8)})},
        hostile={"a tensor behind 2⁶² bytes": (lambda: checkpoint({"a": entry(1 << 62, 1 << 62)}), "SL723")},
    ),
    FormatRow(
        format="tfjs",
        title="TensorFlow.js",
        written_by="tensorflowjs' converter, as `model.json` with files of numbers beside it",
        reads="layers as Keras' own configuration, the operators of a graph and its functions, the names of files",
        order=25,
        benign={
            "a graph": _tfjs,
            "layers": lambda: _tfjs(config=_sequential({"class_name": "Dense", "config": {"units": 2}})),
            "a directory with its numbers": lambda: {"model.json": _tfjs(), "group1-shard1of1.bin": b"\1\2\3\4\5\6\7\x08"},
        },
        hostile={
            "a Lambda layer": (lambda: _tfjs(config=_sequential(json.loads(_LAMBDA))), "SL802"),
            "`ReadFile`": (lambda: _tfjs("ReadFile"), "SL721"),
            "an operator out of a library": (lambda: _tfjs("MyOperator"), "SL722"),
            "numbers in `../../x`": (lambda: _tfjs(path="../../x"), "SL824"),
            "a pickle in place of the numbers": (
                lambda: {"model.json": _tfjs(path="x.bin"), "x.bin": b"cos\nsystem\n(S'true'\ntR."},
                "SL101",
            ),
        },
    ),
    FormatRow(
        format="tflite",
        title="TensorFlow Lite",
        written_by="TensorFlow Lite's converter",
        reads="every table, index and pointer; operators by their kinds; files that are packed behind the model",
        order=25,
        benign={"builtin operators": lambda: tflite(operator(), operator(1), kinds=[kind(0), kind(150)])},
        hostile={
            "a custom operator": (lambda: tflite(operator(), kinds=[kind(32, "MyOperator")]), "SL727"),
            "a Flex operator": (lambda: tflite(operator(), kinds=[kind(32, "FlexErf")]), "SL727"),
            "the Flex operator `WriteFile`": (lambda: tflite(operator(), kinds=[kind(32, "FlexWriteFile")]), "SL721"),
            "a Flex operator that is called `Erf` and runs `ReadFile`": (
                lambda: tflite(operator(more={5: flex_options("Erf", node("ReadFile", "x"))}), kinds=[kind(32, "FlexErf")]),
                "SL726",
            ),
            "an operator that uses a tensor that is not there": (lambda: tflite(operator(inputs=(4_000_000,))), "SL726"),
            "subgraphs in a circle": (
                lambda: tflite(operator(more={3: b"\x67", 4: Table({0: bytes(4)})}), kinds=[kind(129)]),
                "SL726",
            ),
            "a vector of 2³¹ operators": (lambda: tflite(more={1: Tables([], count=1 << 31)}), "SL726"),
            "a tensor that its buffer cannot hold": (lambda: tflite(operator(), tensors=[tensor(shape=(1024, 1024))]), "SL728"),
            "numbers in `../../x`": (lambda: tflite(operator(), more={8: Tables([Table({0: "../../x"})])}), "SL724"),
        },
    ),
]
