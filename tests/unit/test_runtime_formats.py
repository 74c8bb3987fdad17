"""OpenVINO and Core ML: what their own writers write, what is refused, and what is not theirs."""

from __future__ import annotations

import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.context import Context
from safeload.findings import Level, Outcome, Report
from safeload.inspection import inspect
from safeload.scanning import Settings, Skipped, collect, scan_file
from safeload.scanning.jobs import Job
from tests.forge_protobuf import msg, number
from tests.forge_runtimes import (
    branch,
    constant,
    coreml,
    coreml_blobs,
    custom_layer,
    layer,
    network,
    openvino,
    paddle,
    paddle_parameters,
    pipeline,
    program,
)  # fmt: skip


def scanned(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes) -> dict[str, Level]:
    return {found.rule: found.level for found in scanned(data).findings}


def below(top: Path) -> dict[str, Report | Skipped]:
    """What a scan of a directory says, by path."""
    context = Context.of({}, False)
    jobs = [job for job in collect([str(top)], include=(), exclude=()) if isinstance(job, Job)]
    return {os.path.relpath(job.path, top): scan_file(job, context, Settings()) for job in jobs}


OPENVINO: dict[str, tuple[bytes, str]] = {
    "a set of somebody's": (openvino(layer("Relu", "mine")), "SL871"),
    "a tokenizer's name in another set": (openvino(layer("BPETokenizer", "opset1.")), "SL871"),
    "an extension": (openvino(layer("Mine", "extension")), "SL871"),
    "an extension in a body": (openvino(f'<layer type="Loop" version="opset5"><body>{layer("Mine", "extension")}</body></layer>'), "SL871"),
    "a place that is no number": (openvino(constant("x")), "SL851"),
    "a negative place": (openvino(constant(-1)), "SL851"),
    "a place of 2⁷⁰": (openvino(constant(1 << 70)), "SL851"),
    "a shape of 2⁶⁰": (openvino(constant(shape=f"{1 << 30},{1 << 30}")), "SL851"),
    "a thousand dimensions": (openvino(constant(shape=",".join(["2"] * 1000))), "SL851"),
    "an unknown version": (openvino(version="99"), "SL855"),
    "a laugh": (openvino(before='<!DOCTYPE net [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>'), "SL853"),
    "a subset elsewhere": (openvino(before='<!DOCTYPE net SYSTEM "http://127.0.0.1:9/x">'), "SL853"),
    "an element of another document": (openvino('<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="/etc/passwd"/>'), "SL853"),
    "code in an attribute": (openvino(layer("Relu", data='x="import os"')), "SL852"),
    "cut off": (openvino()[:-20], "SL855"),
}


@pytest.mark.parametrize(("data", "rule"), OPENVINO.values(), ids=OPENVINO)
def test_openvino_refuses(data: bytes, rule: str) -> None:
    assert rule in rules(data)
    assert scanned(data).format == "openvino"
    assert scanned(data).decision.outcome is not Outcome.ALLOWED


def test_other_xml_is_not_openvino() -> None:
    for data in (b"<net>a text</net>", b"<network version='1'/>", b"<a><net version='1'/></a>"):
        assert scanned(data).format == "unknown"


def test_openvino_writes(tmp_path: Path) -> None:
    """Both files; the numbers are the model's, whatever they look like."""
    np, ov = pytest.importorskip("numpy"), pytest.importorskip("openvino")
    from openvino import opset8

    value = opset8.parameter([1, 4], np.float32, name="x")
    weights = opset8.constant(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
    made = opset8.relu(opset8.matmul(value, weights, transpose_a=False, transpose_b=False))
    ov.save_model(ov.Model([made], [value], "m"), tmp_path / "m.xml")
    found = below(tmp_path)
    model = found["m.xml"]
    assert isinstance(model, Report)
    assert (model.format, model.decision.outcome, model.findings) == ("openvino", Outcome.ALLOWED, ())
    assert found["m.bin"] == Skipped(str(tmp_path / "m.bin"), "numbers that 'm.xml' describes")
    assert [(one.dtype, one.shape) for one in inspect(tmp_path / "m.xml", lock=False).tensors] == [("f16", (4, 3))]
    (tmp_path / "m.bin").write_bytes((tmp_path / "m.bin").read_bytes()[:-1])
    model = below(tmp_path)["m.xml"]
    assert isinstance(model, Report)
    assert [item.rule for item in model.findings] == ["SL851"]


COREML: dict[str, tuple[bytes, str]] = {
    "a class in the second layer": (coreml(network(msg(1, "a"), custom_layer("Mine"))), "SL871"),
    "a class in a loop": (coreml(network(msg(615, msg(4, msg(1, custom_layer("Mine")))))), "SL871"),
    "a class in a pipeline of classifiers": (coreml(msg(200, msg(1, msg(1, coreml(network(custom_layer("Mine"))))))), "SL871"),
    "a whole model of a class": (coreml(msg(555, msg(10, "Mine"))), "SL871"),
    "no place at all": (coreml(program("")), "SL824"),
    "a place that climbs with backslashes": (coreml(program("@model_path/..\\..\\x")), "SL824"),
    "an address": (coreml(program("http://host/x")), "SL824"),
    "a place that is not the model's": (coreml(program("weights.bin")), "SL824"),
    "code in the metadata": (coreml() + msg(2, msg(100, msg(100, msg(1, "k") + msg(2, "import os; os.system('x')")))), "SL852"),
    "an unknown field behind": (coreml(behind=number(77, 1)), "SL855"),
    "a cut message": (coreml()[:-1], "SL855"),
}


@pytest.mark.parametrize(("data", "rule"), COREML.values(), ids=COREML)
def test_coreml_refuses(data: bytes, rule: str) -> None:
    assert rule in rules(data)
    assert scanned(data).decision.outcome is not Outcome.ALLOWED


def test_nested_models_are_bounded() -> None:
    data = coreml()
    for _ in range(200):
        data = coreml(pipeline(data))
    assert scanned(data).decision.outcome is not Outcome.ALLOWED


def test_each_is_told_by_its_content() -> None:
    assert scanned(coreml(network(branch(custom_layer("x"))))).format == "coreml"
    assert scanned(coreml_blobs()).format == "coreml-weights"
    assert scanned(coreml_blobs([])).format == "coreml-weights"


@pytest.mark.filterwarnings("ignore")
def test_coreml_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network, and a program in a package; the same with its numbers elsewhere is refused."""
    np = pytest.importorskip("numpy")
    for converted_from in ("torch", "tensorflow", "sklearn", "xgboost"):  # it imports them all, for twenty seconds
        monkeypatch.setitem(sys.modules, converted_from, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct: Any = pytest.importorskip("coremltools")
    from coremltools.converters.mil import Builder
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    built = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("y", datatypes.Array(3))])
    built.add_inner_product("fc", np.ones((3, 4)), np.zeros(3), 4, 3, True, "x", "y")
    ct.utils.save_spec(built.spec, str(tmp_path / "m.mlmodel"))

    def linear(x: Any) -> Any:
        return Builder.linear(x=x, weight=np.linspace(0, 1, 1200, dtype=np.float32).reshape(300, 4), bias=np.zeros(300, np.float32))

    made = Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 4))])(linear)

    ct.convert(made, convert_to="mlprogram", skip_model_load=True).save(str(tmp_path / "m.mlpackage"))
    found = below(tmp_path)
    reports = {path: one for path, one in found.items() if isinstance(one, Report)}
    assert {path: (one.format, one.decision.outcome) for path, one in reports.items()} == {
        "m.mlmodel": ("coreml", Outcome.ALLOWED),
        "m.mlpackage/Data/com.apple.CoreML/model.mlmodel": ("coreml", Outcome.ALLOWED),
        "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin": ("coreml-weights", Outcome.ALLOWED),
    }
    model = (tmp_path / "m.mlpackage/Data/com.apple.CoreML/model.mlmodel").read_bytes()
    assert rules(model.replace(b"@model_path/weights/weight.bin", b"@model_path/../../../weight.bi")) == {"SL824": Level.ERROR}


def test_damaged_ones_are_judged() -> None:
    """Whatever a byte becomes: a verdict, and no exception."""
    rng = random.Random(6)
    models = (coreml(program("@model_path/w.bin"), network(branch(custom_layer("x")))), openvino(), paddle("save"))
    for whole in (*models, coreml_blobs(), paddle_parameters()):
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(rng.choice([1, 1, 3])):
                data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            assert scanned(bytes(data)).decision.reasons != ("not decided",)


def test_an_operator_of_paddles_is_named_with_the_file_that_it_opens() -> None:
    """Each of them: one harmless call must not hide the next."""
    report = scanned(paddle("save") + msg(1, b""))
    assert [item.message for item in report.findings] == ["the operator 'save' writes files: '/x/y'"]
    code = paddle("relu", path="import os; os.system('x')")
    assert set(rules(code)) == {"SL852"}
    assert rules(paddle("relu", path="exec(code, run_globals)", attribute="op_callstack")) == {}  # where it was made, as Python tells it


def test_paddles_tensors_are_listed() -> None:
    listed = [inspect(memoryview(data)).tensors for data in (paddle(), paddle_parameters())]
    shown = [[(one.name, one.dtype, one.shape, one.nbytes) for one in tensors] for tensors in listed]
    assert shown == [[("w", "FP32", (2, 3), 0)], [("[0]", "FP32", (2, 3), 24), ("[1]", "FP32", (4,), 16)]]


def test_zeros_and_other_messages_are_not_paddles() -> None:
    for data in (bytes(64), bytes(16) + b"\4\0\0\0" + bytes(40), b"\n\2\x08\0", b'{"base_code": 1}', b'{"base_code": {"magic": "x"}}'):
        assert not scanned(data).format.startswith("paddle")
