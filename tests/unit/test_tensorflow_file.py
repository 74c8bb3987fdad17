"""TensorFlow's files: operators that reach out are named wherever they stand; those of saving by where the name of the file is from."""

from __future__ import annotations

import base64
import json
import marshal
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import safeload
from safeload.context import Context
from safeload.findings import Level, Outcome, Report
from safeload.formats.beside import described_by
from safeload.formats.tensorflow_file import TensorflowFile
from safeload.formats.tensorflow_operators import DANGEROUS, NAMES_FILE, OPAQUE, SAVERS, known_operators
from safeload.inspection import inspect
from safeload.scanning import Job, Settings, Skipped, collect, scan_file
from safeload.source import Source
from tests.forge_protobuf import msg, number, tag, varint
from tests.forge_tensorflow import (
    asset,
    attr,
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
    shape,
    text,
    variable,
)  # fmt: skip
from tests.unit.test_zip_file import zipped

PLACEHOLDER = node("Placeholder", name="x")
SAVING = (
    node("Placeholder", name="saver_filename"),
    node("StatefulPartitionedCall", "saver_filename", name="call", attrs=[called("f", "traced_save")]),
    node("StatefulPartitionedCall", "saver_filename", name="call_2", attrs=[called("f", "traced_restore")]),
)
FUNCTIONS = (
    function(
        "traced_save", const("part", "_temp/part"), node("StringJoin", "prefix", "part:output:0", name="joined"),
        node("SaveV2", "joined:output:0", name="save"), node("MergeV2Checkpoints", "joined:output:0", "prefix"), arguments=["prefix"],
    ),
    function("traced_restore", node("RestoreV2", "prefix", name="restore"), arguments=["prefix"]),
)  # fmt: skip
ORDINARY = saved(
    graph(PLACEHOLDER, node("MatMul", "x", "x"), *SAVING, functions=FUNCTIONS),
    objects=[variable("w", 1, 3, 2), keras_object(json.dumps({"class_name": "Dense", "config": {"units": 2}}))],
)


def scan(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes, outcome: Outcome = Outcome.REFUSED) -> set[str]:
    report = scan(data)
    assert report.decision.outcome is outcome, report.decision
    return {item.rule for item in report.findings if item.level is not Level.NOTE}


def test_a_model_that_can_be_saved_is_allowed_and_listed() -> None:
    """Every one has operators that write and read files, by a name that is handed in."""
    assert rules(ORDINARY, Outcome.ALLOWED) == set()
    shown = inspect(ORDINARY, lock=False)
    assert (shown.format, shown.metadata["tensorflow"], shown.metadata["tags"]) == ("tf-saved-model", "2.21.0", "serve")
    assert [(one.name, one.dtype, one.shape) for one in shown.tensors] == [("w", "float32", (3, 2))]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (graph(PLACEHOLDER), "tf-graph"),
        (meta(graph(PLACEHOLDER)), "tf-meta-graph"),
        (saved(graph(PLACEHOLDER)), "tf-saved-model"),
        (fingerprint(), "tf-fingerprint"),
        (msg(1, number(2, 1), msg(3, "root"), msg(4, "_tf_keras_layer"), msg(5, "{}")), "keras-metadata"),
        (checkpoint({"w": entry(0, 8)}), "tf-checkpoint"),
    ],
)
def test_each_kind_is_called_what_it_is(data: bytes, kind: str) -> None:
    assert rules(data, Outcome.ALLOWED) == set()
    assert scan(data).format == kind


WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "a frozen graph": lambda bad: graph(PLACEHOLDER, bad),
    "a MetaGraph": lambda bad: meta(graph(bad)),
    "a SavedModel": lambda bad: saved(graph(PLACEHOLDER, bad)),
    "a function": lambda bad: saved(graph(PLACEHOLDER, functions=[function("f", bad)])),
    "a second MetaGraph": lambda bad: saved(graph(PLACEHOLDER)) + msg(2, meta(graph(bad))),
}


@pytest.mark.parametrize("way", WRAPPED)
def test_an_operator_is_found_wherever_it_stands(way: str) -> None:
    """Whether or not anything calls it: that cannot be told from the file alone."""
    assert rules(WRAPPED[way](node("ReadFile", "x"))) == {"SL721"}
    assert rules(WRAPPED[way](node("MyOperator", "x"))) == {"SL722"}
    assert rules(WRAPPED[way](node("DatasetFromGraph", "x"))) == {"SL725"}


@pytest.mark.parametrize("op", DANGEROUS)
def test_every_dangerous_operator_is_an_error(op: str) -> None:
    assert rules(graph(PLACEHOLDER, node(op, "x"))) == {"SL721"}


def test_the_lists_name_operators_that_exist() -> None:
    """A name that was spelt wrong would let the right one pass. Some are of packages beside TensorFlow."""
    elsewhere = {"BigQueryReader", "GcsConfigureBlockCache", "GcsConfigureCredentials", "BigtableClient", "ReadAudioFile",
                 "RemoteFusedGraphExecute", "TRTEngineOp", "XlaCustomCall", "XlaCustomCallV2", "Abort"}  # fmt: skip
    assert {*DANGEROUS, *SAVERS, *NAMES_FILE, *OPAQUE} - known_operators() <= elsewhere
    assert {"MatMul", "Conv2D", "StatefulPartitionedCall", "VarHandleOp"} <= known_operators()


def test_a_member_of_an_archive_is_read_too() -> None:
    report = scan(zipped({"model/saved_model.pb": saved(graph(node("WriteFile", "x")))}))
    assert [(item.rule, item.member) for item in report.findings] == [("SL721", "model/saved_model.pb")]


# ---- where the name of a file comes from


@pytest.mark.parametrize(
    "nodes",
    [
        (const("n", "/etc/passwd"), node("RestoreV2", "n")),
        (const("n", "relative"), node("RestoreV2", "n")),
        (const("n", "gs://bucket/x"), node("SaveV2", "n", "x")),
        (const("n", "/tmp/x"), PLACEHOLDER, node("StringJoin", "x", "n"), node("SaveV2", "stringjoin")),
        (const("n", "../../x"), node("Identity", "n"), node("SaveV2", "identity:0")),
        (const("n", "/x"), node("PlaceholderWithDefault", "n", name="p"), node("RestoreV2", "p")),
        (const("n", "/x"), node("VarHandleOp", name="v"), node("AssignVariableOp", "v", "n"), node("ReadVariableOp", "v"),
         node("RestoreV2", "readvariableop")),
        (const("n", "/etc/passwd"), node("HashTableV2"), node("InitializeTableFromTextFileV2", "hashtablev2", "n")),
        (const("n", "cache"), node("CacheDatasetV2", "x", "n")),
        (const("a", "a"), const("n", "/x"), node("MergeV2Checkpoints", "a", "n")),
        (node("PrintV2", "x", attrs=[text("output_stream", "file:///tmp/x")]),),
        (node("DecodeProtoV2", "x", attrs=[text("descriptor_source", "/etc/passwd")]),),
        (node("DebugIdentityV2", "x", attrs=[attr("debug_urls", msg(1, msg(2, "grpc://host:1")))]),),
        (node("Skipgram", attrs=[text("filename", "/etc/passwd")]),),
    ],
)  # fmt: skip
def test_a_name_that_stands_in_the_model_is_an_error(nodes: tuple[bytes, ...]) -> None:
    """Whoever made the model chose it."""
    assert rules(graph(*nodes)) == {"SL721"}


def test_a_name_is_followed_through_functions() -> None:
    """The constant stands where the function is called, or one function further out."""
    inner = function("inner", node("RestoreV2", "a"), arguments=["a"])
    outer = function("outer", node("PartitionedCall", "y", "b", attrs=[called("f", "inner")]), arguments=["b", "y"])
    held = graph(const("n", "/x"), PLACEHOLDER, node("PartitionedCall", "x", "n", attrs=[called("f", "outer")]), functions=[inner, outer])
    assert rules(saved(held)) == {"SL721"}
    held = graph(const("n", "/x"), PLACEHOLDER, node("PartitionedCall", "n", "x", attrs=[called("f", "outer")]), functions=[inner, outer])
    assert rules(saved(held), Outcome.ALLOWED) == set()


def test_functions_that_call_each_other_come_to_an_end() -> None:
    one = function("one", node("SaveV2", "a"), node("PartitionedCall", "a", attrs=[called("f", "two")]), arguments=["a"])
    two = function("two", node("PartitionedCall", "a", attrs=[called("f", "one")]), arguments=["a"])
    assert rules(saved(graph(PLACEHOLDER, functions=[one, two]))) == {"SL725"}


@pytest.mark.parametrize(
    "nodes",
    [
        (PLACEHOLDER, node("RestoreV2", "x")),
        (const("n", "model"), node("PlaceholderWithDefault", "n", name="p"), node("RestoreV2", "p")),
        (const("n", ""), node("CacheDatasetV2", "x", "n")),
        (node("PrintV2", "x", attrs=[text("output_stream", "stderr")]),),
        (node("DecodeProtoV2", "x", attrs=[text("descriptor_source", "local://")]),),
        (node("DecodeProtoV2", "x", attrs=[text("descriptor_source", "bytes://abc")]),),
    ],
)
def test_a_name_that_is_handed_in_is_no_finding(nodes: tuple[bytes, ...]) -> None:
    assert rules(graph(*nodes), Outcome.ALLOWED) == set()


def test_an_asset_is_a_file_of_the_model() -> None:
    """A vocabulary beside the model is what tables are made from; its path is put into a constant when the model is loaded."""
    held = graph(
        const("vocab", "/where/it/was/vocab.txt"), node("HashTableV2"), node("InitializeTableFromTextFileV2", "hashtablev2", "vocab")
    )
    assert rules(saved(held, asset("vocab", "vocab.txt")), Outcome.ALLOWED) == set()
    assert rules(saved(held)) == {"SL721"}
    for name in ("../../etc/passwd", "/etc/passwd", "a\\b", "C:x"):
        assert rules(saved(held, asset("vocab", name))) == {"SL724"}


def test_what_cannot_be_followed_is_a_warning() -> None:
    assert rules(graph(node("VarHandleOp", name="v"), node("ReadVariableOp", "v"), node("RestoreV2", "readvariableop"))) == {"SL725"}
    assert rules(graph(node("RestoreV2"))) == {"SL725"}
    assert rules(graph(node("RestoreV2", "nowhere"))) == {"SL725"}


# ---- Keras


def _lambda() -> str:
    code = base64.b64encode(marshal.dumps(compile("0", "<lambda>", "eval"))).decode()
    return json.dumps(
        {"class_name": "Lambda", "config": {"name": "l", "function": {"class_name": "__tuple__", "items": [code, None, None]}}}
    )


def test_code_of_a_layer_is_found_in_the_objects_and_beside_the_model() -> None:
    """Keras makes layers anew from their configurations, and unmarshals what a Lambda carries."""
    assert "SL802" in rules(saved(graph(PLACEHOLDER), objects=[keras_object(_lambda())]))
    assert "SL802" in rules(msg(1, number(2, 1), msg(3, "root"), msg(4, "_tf_keras_layer"), msg(5, _lambda())))


def test_a_class_of_somebodys_own_is_no_finding() -> None:
    """Keras then takes the graph's functions, and makes nothing."""
    custom = json.dumps({"class_name": "MyLayer", "config": {"units": 1}, "module": "my.package"})
    assert rules(saved(graph(PLACEHOLDER), objects=[keras_object(custom)]), Outcome.ALLOWED) == set()


# ---- forged messages


@pytest.mark.parametrize(
    "data",
    [
        graph(PLACEHOLDER) + tag(1, 2) + varint(1 << 40),
        graph(PLACEHOLDER, PLACEHOLDER),
        graph(PLACEHOLDER, more=msg(4, number(1, 1))),
        graph(PLACEHOLDER, functions=[function("f"), function("f")]),
        graph(PLACEHOLDER, functions=[function("")]),
        graph(PLACEHOLDER + msg(2, "MatMul"), PLACEHOLDER),
        graph(PLACEHOLDER, node("Identity", name="y") + msg(2, "ReadFile")),
        graph(PLACEHOLDER, node("Identity", name="y") + number(3, 1)),
        saved(graph(PLACEHOLDER)) + number(1, 2),
        number(1, 1) + msg(2, meta(graph(PLACEHOLDER)) + msg(2, graph(node("ReadFile")))),
        saved(graph(PLACEHOLDER))[:-3],
        graph(PLACEHOLDER, node("Const", name="c", attrs=[attr("value", msg(8, msg(2, shape(*[1] * 300))))])),
    ],
)
def test_what_two_parsers_read_in_two_ways_is_an_error(data: bytes) -> None:
    assert rules(data) & {"SL723", "SL722"}


def test_attributes_nested_without_end_are_an_error() -> None:
    value = msg(10, msg(1, "f"))
    for _ in range(60):
        value = msg(10, msg(1, "f"), msg(2, msg(1, "a"), msg(2, value)))
    assert rules(graph(PLACEHOLDER, node("Identity", attrs=[attr("f", value)]))) == {"SL723"}


def test_a_field_that_tensorflow_does_not_have_is_a_warning() -> None:
    assert rules(graph(PLACEHOLDER, node("Identity") + number(40, 1))) == {"SL729"}


def test_findings_survive_an_error_behind_them() -> None:
    """The payload comes first, the error after it."""
    assert {"SL721", "SL723"} <= rules(graph(PLACEHOLDER, node("ReadFile", "x")) + tag(1, 2) + varint(1 << 40))


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": entry(1 << 62, 1 << 62)},
        {"w": entry(0, 8, shard=7)},
        {"w": tag(1, 3)},
        {"w": entry(0, 8) + number(4, 9)},
    ],
)
def test_a_checkpoints_index_is_held_against_itself(tensors: dict[str, bytes]) -> None:
    assert rules(checkpoint(tensors)) == {"SL723"}


@pytest.mark.parametrize("cut", [10, 20, 40, 60])
def test_a_checkpoint_with_forged_blocks_is_an_error(cut: int) -> None:
    good = checkpoint({"w": entry(0, 8)})
    bad = good[:cut] + b"\xff" * 4 + good[cut + 4 :]
    assert scan(bad).decision.outcome is not Outcome.ALLOWED or scan(bad).findings == ()
    footer = good[:-48] + (varint(0) + varint(8) + varint(1 << 60) + varint(1 << 60)).ljust(40, b"\0") + good[-8:]
    assert rules(footer) == {"SL723"}


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x08\x01", b"\x0a\x02\x08\x01", b"\x12\x00", b"\x0aabc" * 10, b"\x0a\x05\x0a\x03abc"])
def test_what_is_none_of_these_is_not_claimed(data: bytes) -> None:
    assert not TensorflowFile().claims(Source.open(data))


def test_damaged_files_end_in_findings() -> None:
    rng = random.Random(13)
    seeds = [ORDINARY, checkpoint({"w": entry(0, 8), "x": entry(8, 8)}), fingerprint()]
    for count in range(3000):
        data = bytearray(seeds[count % len(seeds)])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if count % 4 == 0:
            del data[rng.randrange(len(data)) :]
        assert scan(bytes(data)).decision.reasons != ("not decided",)


# ---- directories


def _directory(folder: Path, numbers: bytes = bytes(16)) -> Path:
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_bytes(ORDINARY)
    (folder / "fingerprint.pb").write_bytes(fingerprint())
    (folder / "variables" / "variables.index").write_bytes(checkpoint({"a": entry(0, 8), "b": entry(8, 8)}))
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(numbers)
    return folder


def walked(folder: Path) -> list[Report | Skipped]:
    """What the command makes of a directory."""
    context = Context.of({}, False)
    jobs = [job for job in collect([str(folder)], include=(), exclude=()) if isinstance(job, Job)]
    return [scan_file(job, context, Settings()) for job in jobs]


def outcomes(folder: Path) -> set[Outcome]:
    return {found.decision.outcome for found in walked(folder) if isinstance(found, Report)}


def test_a_models_directory_is_allowed_as_a_whole(tmp_path: Path) -> None:
    """Numbers without a structure are passed by, by name, when the index beside them describes them."""
    folder = _directory(tmp_path)
    assert outcomes(folder) == {Outcome.ALLOWED}
    assert [found.why for found in walked(folder) if isinstance(found, Skipped)] == ["numbers that 'variables.index' describes"]


def test_numbers_that_nobody_describes_are_not_passed_by(tmp_path: Path) -> None:
    """Too few of them, or of another number."""
    folder = _directory(tmp_path, bytes(15))
    numbers = folder / "variables" / "variables.data-00000-of-00001"
    assert described_by(numbers) is None
    assert Outcome.ERROR in outcomes(folder)
    numbers.write_bytes(bytes(16))
    assert Outcome.ERROR not in outcomes(folder)
    numbers.rename(numbers.with_name("variables.data-00001-of-00001"))
    assert Outcome.ERROR in outcomes(folder)


def test_a_stream_under_the_name_of_numbers_is_found(tmp_path: Path) -> None:
    """Readers are asked first."""
    assert Outcome.REFUSED in outcomes(_directory(tmp_path, b"cos\nsystem\n(S'true'\ntR."))


# ---- graphs as text

LAMBDA = json.dumps({"class_name": "Lambda", "config": {"function": ["4wAAAAA=", None, None]}})
AS_TEXT = {
    "quotes of the other kind": (b"node { op: 'ReadFile' }", "SL721"),
    "octal": (rb'node { op: "\122eadFile" }', "SL721"),
    "hexadecimal": (rb'node { op: "\x52eadFile" }', "SL721"),
    "in pieces": (b'node { op: "Read" # a comment: "x"\n "File" }', "SL721"),
    "in a list of messages": (b'node: [ { name: "a" }, { op: "ReadFile" } ]', "SL721"),
    "behind a comment": (b'# op: "Add"\nnode { op: "ReadFile" }', "SL721"),
    "no blanks": (b'node{name:"x"op:"PyFunc"}', "SL721"),
    "fields in another order": (b'node { attr { key: "output_stream" value { s: "file:///x" } } op: "PrintV2" }', "SL721"),
    "an asset": (b'meta_graphs { graph_def { node { op: "NoOp" } } asset_file_def { filename: "../x" } }', "SL724"),
    "a Lambda layer": (
        b'saved_model_schema_version: 1 meta_graphs { graph_def { node { op: "NoOp" } } object_graph_def { nodes { user_object { metadata: '
        + json.dumps(LAMBDA).encode() + b" } } } }",
        "SL802",
    ),
    "a graph in a tensor": (b'node { op: "DatasetFromGraph" }', "SL725"),
    "a message that does not end": (b'node { op: "NoOp"', "SL723"),
    "no text format": (b'node { op: "NoOp" } \x01', "SL723"),
    "nested without end": (b'node { op: "NoOp" ' + b"a { " * 5_000, "SL723"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "rule"), AS_TEXT.values(), ids=AS_TEXT)
def test_a_graph_as_text_is_read_as_one(data: bytes, rule: str) -> None:
    """What a parser takes for an operator is one, however it is spelt."""
    report = safeload.scan(data, policy={}, lock=False)
    assert report.format == "tf-text"
    assert rule in {found.rule for found in report.findings}
    assert report.decision.outcome is not Outcome.ALLOWED


def test_texts_of_other_programs_are_not_taken_for_graphs() -> None:
    for data in (b'node { calculator: "X" }', b"# a list\nop: 1\n", b"versions: 1\n", b'name: "m"\nplatform: "onnxruntime_onnx"\n'):
        assert safeload.scan(data, policy={}, lock=False).format == "unknown"


# ---- TensorFlow.js

NUMBERS = [{"paths": ["a.bin", "b.bin"], "weights": [{"name": "w", "shape": [2, 3], "dtype": "float32"}]}]


def tfjs(topology: object, **more: object) -> bytes:
    return json.dumps({"format": "layers-model", "modelTopology": topology, "weightsManifest": NUMBERS} | more).encode()


TFJS = {
    "layers without their fields around": (tfjs({"class_name": "Sequential", "config": [json.loads(LAMBDA)]}), "SL802"),
    "a function of the graph": (tfjs({"node": [], "library": {"function": [{"nodeDef": [{"op": "WriteFile"}]}]}}), "SL721"),
    "an initialiser": (tfjs({}, modelInitializer={"node": [{"op": "ReadFile"}]}), "SL721"),
    "a graph in a tensor": (tfjs({"node": [{"op": "DatasetFromGraph"}]}), "SL725"),
    "an address": (tfjs({}, weightsManifest=[{"paths": ["http://host/x"]}]), "SL824"),
    "a key that is escaped": (tfjs({}, weightsManifest=[{"paths": ["/x"]}]).replace(b"weightsM", b"\\u0077eightsM"), "SL824"),
}


@pytest.mark.parametrize(("data", "rule"), TFJS.values(), ids=TFJS)
def test_a_model_for_browsers_is_judged_by_what_reads_it_in_python(data: bytes, rule: str) -> None:
    report = safeload.scan(data, policy={}, lock=False)
    assert report.format == "tfjs"
    assert rule in {found.rule for found in report.findings}


@pytest.mark.parametrize(
    "document",
    [
        {"node": 5, "library": 6}, {"node": [5, {"op": 6}], "library": {"function": [7, {"signature": 8, "nodeDef": 9}]}},
        {"model_config": 5}, {"model_config": {"class_name": 5}}, {"class_name": "x", "config": None}, {},
    ],
)  # fmt: skip
def test_a_model_for_browsers_with_values_of_other_types_is_judged(document: object) -> None:
    odd = {"paths": [5], "weights": [6, {"shape": ["x"]}, {"shape": [1], "dtype": 7}]}
    for manifest in (NUMBERS, 5, [5], [{"paths": 5, "weights": 6}], [odd]):
        report = safeload.scan(tfjs(document, weightsManifest=manifest), policy={}, lock=False)
        assert (report.format, report.decision.reasons != ("not decided",)) == ("tfjs", True)


def test_the_numbers_of_a_model_for_browsers_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(tfjs({"node": [{"op": "Placeholder"}]}))
    (tmp_path / "a.bin").write_bytes(b"\1\2\3\4\5\6")
    (tmp_path / "c.bin").write_bytes(b"\1\2\3\4\5\6")
    assert described_by(tmp_path / "a.bin") == "numbers that 'model.json' describes"
    assert described_by(tmp_path / "c.bin") is None
    assert [(one.name, one.dtype, one.shape) for one in inspect(tmp_path / "model.json", lock=False).tensors] == [("w", "float32", (2, 3))]
