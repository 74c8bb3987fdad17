"""Files of the formats' own writers are allowed, and listed as those packages list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.findings import Outcome
from safeload.inspection import inspect

np = pytest.importorskip("numpy")


@pytest.fixture
def gguf() -> Any:
    return pytest.importorskip("gguf")


@pytest.fixture
def onnx() -> Any:
    return pytest.importorskip("onnx")


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q5_1", "BF16"])
def test_gguf(gguf: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "é", "a b"])
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    quantised = getattr(gguf.GGMLQuantizationType, kind)
    values = np.linspace(-1, 1, 4 * 64, dtype=np.float32).reshape(4, 64)
    writer.add_tensor("blk.0.weight", gguf.quants.quantize(values, quantised), raw_dtype=quantised)
    writer.add_tensor("output_norm.weight", np.zeros(5, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    report = safeload.scan(path, lock=False)
    assert (report.decision.outcome, report.findings) == (Outcome.ALLOWED, ())
    theirs = {one.name: (one.tensor_type.name, tuple(map(int, reversed(one.shape))), one.n_bytes) for one in gguf.GGUFReader(path).tensors}
    assert {one.name: (one.dtype, one.shape, one.nbytes) for one in inspect(path, lock=False).tensors} == theirs


def _model(onnx: Any, **options: Any) -> Any:
    make = onnx.helper
    weights = [
        onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w"),
        onnx.numpy_helper.from_array(np.array(["a", "bc"], object), "s"),
        make.make_tensor("h", onnx.TensorProto.FLOAT16, [3], [1.0, 2.0, 3.0]),
        make.make_tensor("i", onnx.TensorProto.INT4, [3], [1, 2, 3]),
        make.make_tensor("c", onnx.TensorProto.COMPLEX64, [1], [1 + 2j]),
    ]
    value = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
    out = make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    inner = make.make_graph([make.make_node("Identity", ["x"], ["z"])], "inner", [], [make.make_tensor_value_info("z", 1, None)])
    nodes = [
        make.make_node("Add", ["x", "w"], ["a"]),
        make.make_node("If", ["b"], ["d"], then_branch=inner, else_branch=inner),
        make.make_node("Twice", ["a"], ["y"], domain="local"),
    ]
    function = make.make_function(
        "local", "Twice", ["p"], ["q"], [make.make_node("Add", ["p", "p"], ["q"])], [make.make_opsetid("", 17)], []
    )
    graph = make.make_graph(nodes, "g", [value], [out], weights)
    imports = [make.make_opsetid("", 17), make.make_opsetid("local", 1)]
    return make.make_model(graph, functions=[function], opset_imports=imports, **options)


def test_onnx(onnx: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = _model(onnx, producer_name="test")
    onnx.save(model, path)
    report = safeload.scan(path, lock=False)
    assert (report.decision.outcome, report.findings) == (Outcome.ALLOWED, ())
    kinds = onnx.TensorProto.DataType
    theirs = {one.name: (kinds.Name(one.data_type), tuple(one.dims)) for one in model.graph.initializer}
    assert {one.name: (one.dtype, one.shape) for one in inspect(path, lock=False).tensors} == theirs


def test_onnx_with_its_data_beside_it(onnx: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(onnx), path, save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    report = safeload.scan(path, lock=False)
    assert report.decision.outcome is Outcome.ALLOWED
    assert [item.rule for item in report.findings] == ["SL718"]
    data = tmp_path / "m.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    assert safeload.scan(path, lock=False).decision.outcome is Outcome.REFUSED
