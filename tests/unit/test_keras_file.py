"""Keras' files: every object that a configuration names is judged, in each of the three forms that a configuration has."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from safeload import inspect
from safeload.findings import Level, Outcome
from safeload.formats.keras_names import judge_class, judge_function, judge_symbol
from tests.forge_attacks import scan
from tests.forge_hdf5 import External, Group, hdf5
from tests.forge_keras import CODE, bare, in_yaml, keras, keras_h5, layer, obj, sequential, weights
from tests.forge_zip import Part, forge

HOSTILE = b"cos\nsystem\n(S'true'\ntR."
FORMS = pytest.mark.parametrize(
    "form", [keras, keras_h5, lambda config: json.dumps(config).encode(), in_yaml], ids=["keras", "hdf5", "json", "yaml"]
)
Form = Callable[[Any], bytes]

LAMBDA = obj(None, "__lambda__", {"code": CODE, "defaults": None, "closure": None})
DENSE = layer(
    units=2,
    activation="relu",
    dtype=obj("keras", "DTypePolicy", {"name": "float32"}),
    kernel_initializer=obj("keras.initializers", "GlorotUniform", {"seed": None}),
    kernel_regularizer=obj("keras.regularizers", "L2", {"l2": 0.1}),
)


def rules(data: bytes, level: Level | None = None) -> set[str]:
    return {item.rule for item in scan(data).findings if item.level is not Level.NOTE and (level is None or item.level is level)}


# ---- what Keras writes


@FORMS
def test_a_model_of_keras_own_layers_is_allowed(form: Form) -> None:
    config = sequential(
        DENSE,
        layer("Activation", activation=obj("builtins", "function", "gelu", "function")),
        layer("Bidirectional", layer=layer("LSTM", units=3)),
        layer("StringLookup", vocabulary=["a", "b"]),
        compile_config={
            "optimizer": obj("keras.optimizers", "Adam", {"learning_rate": obj("keras.optimizers.schedules", "ExponentialDecay", {})}),
            "loss": obj("builtins", "function", "mean_squared_error", "mean_squared_error"),
            "metrics": [obj("keras.metrics", "AUC"), "mae"],
        },
    )
    report = scan(form(config))
    assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons
    assert report.metadata["model"] == "Sequential"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.layers", "Dense"), ("keras", "Sequential"), ("keras.src.models.functional", "Functional"), ("keras", "DTypePolicy"),
        ("tf_keras.src.engine.functional", "Functional"), ("keras.src.ops.numpy", "GetItem"), ("keras.src.layers.core.dense", "Dense"),
        ("tensorflow.keras.layers", "Conv2D"), ("tensorflow.python.keras.engine.sequential", "Sequential"),
        ("keras.api._v2.keras.layers", "LSTM"),
        ("keras.optimizers.legacy", "SGD"), ("keras.src.backend.torch.optimizers.torch_adam", "Adam"), ("keras.utils", "FeatureSpace"),
        (None, "Dense"), (None, "Custom>Adam"), (None, "adam"), (None, "GlorotUniform"), (None, "TFOpLambda"), (None, "Relu"),
        ("keras.layers.experimental.preprocessing", "Rescaling"), ("keras.mixed_precision", "Policy"), ("keras.random", "SeedGenerator"),
    ],
)  # fmt: skip
def test_classes_of_keras_are_known(module: str | None, name: str) -> None:
    assert judge_class(module, name).level is Level.NOTE


def test_weights_are_listed_under_keras_own_names() -> None:
    found = inspect(keras(sequential(DENSE)))
    assert found.format == "keras"
    assert [item.name for item in found.tensors] == ["layers/dense/vars/0", "layers/dense/vars/1"]
    assert found.metadata["keras_version"] == "3.15.1"
    assert found.metadata["classes"] == "DTypePolicy, Dense, GlorotUniform, InputLayer, L2, Sequential"


# ---- what runs code, fetches or reads


TECHNIQUES = {
    "lambda": (obj("keras.layers", "Lambda", {"function": LAMBDA}), "SL802"),
    "lambda, old": (obj("keras.layers", "Lambda", {"function": [CODE, None, None], "function_type": "lambda"}), "SL802"),
    "lambda, output shape": (obj("keras.layers", "Lambda", {"function": "relu", "output_shape": [CODE, None, None]}), "SL802"),
    "lambda, registered": (obj("my", "My>Lambda", {"function": [CODE, None, None]}), "SL802"),
    "lambda, elsewhere": (layer(other={"deep": [[CODE, None, None]]}), "SL802"),
    "lambda, dict": (layer(other={"code": CODE, "defaults": None, "closure": None}), "SL802"),
    "module": (obj("os", "system", {}), "SL803"),  # CVE-2025-1550
    "function": (layer("Activation", activation=obj("os", "function", "system", "function")), "SL803"),
    "builtin": (layer("Activation", activation=obj("builtins", "function", "eval", "function")), "SL803"),
    "subprocess": (obj("subprocess", "Popen", {"args": ["id"]}), "SL803"),
    "module inside keras": (obj("keras.src.saving.saving_lib", "zipfile", {}), "SL803"),
    "get_file": (layer("Lambda", function=obj("keras.utils", "function", "get_file")), "SL803"),  # CVE-2025-8747, CVE-2025-12060
    "unsafe": (layer("Lambda", function=obj("keras.config", "function", "enable_unsafe_deserialization")), "SL803"),  # CVE-2025-9906
    "load_model": (layer("Lambda", function=obj("keras.models", "function", "load_model")), "SL803"),
    "deserialize": (layer("Lambda", function=obj("keras.layers", "function", "deserialize")), "SL803"),
    "application": (layer("Lambda", function=obj("keras.applications", "function", "VGG16")), None),
    "dataset": (layer("Lambda", function=obj("keras.datasets.mnist", "function", "load_data")), "SL803"),
    "vocabulary": (layer("StringLookup", vocabulary="/etc/passwd"), "SL806"),  # CVE-2025-12058
    "vocabulary by address": (layer("TextVectorization", vocabulary="http://host/v.txt"), "SL806"),
    "saved model": (layer("TFSMLayer", filepath="/tmp/model", call_endpoint="serving_default"), "SL806"),  # CVE-2026-1462
    "torch module": (layer("TorchModuleWrapper", module=base64.b64encode(HOSTILE).decode()), "SL101"),  # CVE-2025-49655
    "graph function": (layer("TFOpLambda", function="io.write_file"), "SL803"),
    "python function": (layer("TFOpLambda", function="numpy_function"), "SL803"),
    "graph operation": (layer("TensorFlowOpLayer", node_def=json.dumps({"op": "WriteFile"})), "SL803"),
    "method": (layer("ClassMethod", cls_symbol="RaggedTensor", method_name="__subclasses__"), "SL803"),
    "custom": (obj("my_package.layers", "MyLayer", {}, "my_package>MyLayer"), "SL804"),
    "custom function": (layer("Activation", activation=obj("builtins", "function", "my_act", "my_act")), "SL804"),
    "hub": (obj("keras_hub.src.models.bert.bert_backbone", "BertBackbone"), "SL804"),
    "wrapper": (layer("JaxLayer", call_fn=obj("builtins", "function", "call", "call")), "SL804"),
    "registered": (obj("keras.layers", "Dense", {"units": 1}, "my_package>Dense"), "SL805"),
    "typespec": ({"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess", "config": []}, "SL803"),
}  # fmt: skip


@FORMS
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_each_technique_is_refused_wherever_it_stands(form: Form, technique: str) -> None:
    """As a layer, as an argument of one, and as the loss that a model is compiled with."""
    node, rule = TECHNIQUES[technique]
    for config in (
        sequential(DENSE, node),
        sequential(layer("Wrapper", layer={"a": [node]})),
        sequential(DENSE, compile_config={"loss": node}),
    ):
        report = scan(form(config))
        assert report.decision.outcome is Outcome.REFUSED, technique
        if rule is not None:
            assert rule in {item.rule for item in report.findings}, report.findings


def test_the_old_form_needs_no_module() -> None:
    """CVE-2025-9905: a Lambda in HDF5 runs whatever safe_mode says."""
    config = bare(sequential(layer("Lambda", function=[CODE, None, None], function_type="lambda")))
    assert rules(keras_h5(config)) == {"SL802"}
    assert rules(keras_h5(bare(sequential(obj(None, "MyLayer"))))) == {"SL804"}
    assert rules(keras_h5(bare(sequential(DENSE)), {"loss": obj(None, "__lambda__", {"value": CODE})})) == {"SL802"}


def test_what_is_known_to_run_code_is_an_error_and_what_is_unknown_a_warning() -> None:
    assert rules(keras(sequential(obj("os", "system"))), Level.ERROR) == {"SL803"}
    assert rules(keras(sequential(obj("my_package", "My", {}, "p>My"))), Level.WARNING) == {"SL804"}
    assert rules(keras(sequential(obj("my_package", "My", {}, "p>My"))), Level.ERROR) == set()


@pytest.mark.parametrize(
    "name", ["math.add", "nn.relu", "__operators__.getitem", "concat", "compat.v1.gather", "image.resize", "raw_ops.MatMul"]
)
def test_tensorflow_symbols_that_compute_are_known(name: str) -> None:
    assert judge_symbol(name).level is Level.NOTE


@pytest.mark.parametrize(
    "name",
    [
        "io.read_file",
        "raw_ops.WriteFile",
        "py_function",
        "compat.v1.py_func",
        "load_library",
        "keras.utils.get_file",
        "data.Dataset.list_files",
    ],
)
def test_tensorflow_symbols_that_reach_out_are_errors(name: str) -> None:
    assert judge_symbol(name).level is Level.ERROR


@pytest.mark.parametrize(("module", "name"), [("builtins", "relu"), (None, "mse"), ("keras.activations", "relu"), ("keras.ops", "mean")])
def test_functions_of_keras_are_known(module: str | None, name: str) -> None:
    assert judge_function(module, name).level is Level.NOTE


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.activations", "get"),
        ("keras.losses", "deserialize"),
        ("keras.utils", "get_file"),
        ("keras.ops", "__globals__"),
        ("keras.ops", "os.system"),
    ],
)
def test_functions_of_keras_that_make_or_fetch_are_errors(module: str, name: str) -> None:
    assert judge_function(module, name).level is Level.ERROR


# ---- how the text is written


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"])
def test_other_encodings_are_read_as_json_reads_them(encoding: str) -> None:
    """Keras hands the bytes to `json.loads`, which takes them all."""
    text = json.dumps(sequential(obj("os", "system"))).encode(encoding)
    assert "SL803" in rules(keras(text))


def test_letters_written_as_escapes_are_the_same_letters() -> None:
    text = json.dumps(sequential(obj("os", "system"))).replace("class_name", "\\u0063lass_name").replace("system", "s\\u0079stem")
    assert "SL803" in rules(keras(text))
    assert "SL803" in rules(text.encode())


def test_a_key_that_stands_twice_is_refused() -> None:
    """Keras takes the last, a scanner may take the first."""
    text = json.dumps(sequential(DENSE)).replace('"class_name": "Dense"', '"class_name": "Dense", "class_name": "Lambda"')
    assert "SL801" in rules(keras(text))


@pytest.mark.parametrize(
    "config", [b"", b"{", b"[]", b"null", b'"text"', b'{"a": 1}', b"\xff\xfe\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000]
)
def test_a_broken_configuration_is_refused(config: bytes) -> None:
    report = scan(keras(config))
    assert report.format == "keras"
    assert report.decision.outcome is Outcome.REFUSED
    assert "SL801" in {item.rule for item in report.findings}


@pytest.mark.parametrize(
    "node", [{"class_name": 1, "config": {}}, {"class_name": ["os"], "config": {}}, {"class_name": "A", "module": 3, "config": {}}]
)
def test_names_that_are_no_text_are_not_judged(node: Any) -> None:
    assert "SL804" in rules(keras(sequential(node)))


@pytest.mark.parametrize(
    "module", ["keras.", "keras..layers", "keras.layers.", "Keras.layers", " keras.layers", "keras.layers\n", "keraß.layers", "os.path"]
)
def test_modules_that_only_look_like_keras_are_not_keras(module: str) -> None:
    assert judge_class(module, "Exotic").level is not Level.NOTE or module == "keras.layers."


def test_hostile_names_are_escaped() -> None:
    report = scan(keras(sequential(obj("my\x1b[2J", "Layer\n"))))
    assert all("\x1b" not in item.message and "\n" not in item.message for item in report.findings)


# ---- the archive


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({"model.weights.h5": weights({"x": External("/etc/passwd", "/")})}, "SL812"),  # CVE-2026-1669
        ({"assets/vocabulary.pkl": HOSTILE}, "SL101"),
        ({"extra.keras": keras(sequential(obj("os", "system")))}, "SL803"),
        ({"assets/../../x": b"text"}, "SL210"),
    ],
)
def test_every_other_member_is_read_as_a_file(members: dict[str, bytes], rule: str) -> None:
    assert rule in rules(keras(sequential(DENSE), members))


def test_two_configurations_are_refused() -> None:
    """Python's zipfile takes the last of a name, other readers the first."""
    good, bad = (json.dumps(config).encode() for config in (sequential(DENSE), sequential(obj("os", "system"))))
    for pair in ((good, bad), (bad, good)):
        parts = [Part("metadata.json", b"{}"), *(Part("config.json", data) for data in pair), Part("model.weights.h5", hdf5(Group()))]
        assert {"SL202", "SL803"} <= rules(forge(*parts))


def test_a_configuration_is_claimed_by_what_it_says() -> None:
    """Without Keras' other members the archive is a zip, and its members are read all the same."""
    report = scan(forge(Part("a/config.json", json.dumps(sequential(obj("os", "system"))).encode())))
    assert report.format == "zip"
    assert "SL803" in {item.rule for item in report.findings}


@pytest.mark.parametrize(
    "text", [b'{"model_type": "bert"}', b'{"class_name": "A"}', b'{"config": 1}', b"[1]", b"{}", b'{"class_name": 1, "config": 1}']
)
def test_other_json_is_no_model(text: bytes) -> None:
    assert scan(text).format == "unknown"


@pytest.mark.parametrize(
    "text",
    [
        "class_name: my.Trainer\nconfig: {lr: 0.1}\n",
        "class_name: A\n", "config: 1\n", "- class_name\n- config\n", "class_name and config\n",
        "class_name: [1]\nconfig: 1\n", "# class_name: Sequential\n# config: {}\n", "class_name: Sequential\nconfig: [\n",
    ],
)  # fmt: skip
def test_other_yaml_is_no_model(text: str) -> None:
    assert scan(text.encode()).format == ("keras-yaml" if text.endswith("[\n") else "unknown")


@pytest.mark.parametrize(
    "text",
    [
        "{class_name: Lambda, config: {function: [CODE, null, null], function_type: lambda}}",
        '"\\x63lass_name": Lambda\n"\\u0063onfig": {function: [CODE, null, null], function_type: lambda}\n',
        "? class_name # that is a key\n: Lambda\n? config\n: {function: [CODE, null, null], function_type: lambda}\n",
        "x: &a {class_name: Lambda, config: {function: [CODE, null, null], function_type: lambda}}\nclass_name: W\nconfig: {layer: *a}\n",
        "class_name: Sequential\nconfig:\n  layers:\n  - !!python/object/apply:os.system ['true']\n",
        "class_name: Model\nconfig: &a [*a, *a, !!python/object/apply:os.system ['true']]\n",
        "class_name: Model\nconfig: &a {x: *a, y: *a, z: {class_name: system, module: os, config: {}}}\n",
        "class_name: Model\nconfig: 1\nx: '" + "x" * (1 << 20) + "'\n",
    ],
)
def test_yaml_in_any_of_its_forms_is_read(text: str) -> None:
    assert rules(text.replace("CODE", CODE).encode(), Level.ERROR)


def test_a_model_that_was_pickled_is_read_as_what_it_is() -> None:
    """Keras pickles a model as a call with the bytes of its file."""
    data = keras(sequential(layer("Lambda", function=[CODE, None, None])))
    call = b"ckeras.src.saving.pickle_utils\ndeserialize_model_from_bytecode\n"
    stream = b"\x80\x04" + call + b"(B" + len(data).to_bytes(4, "little") + data + b"tR."
    report = scan(stream)
    assert report.format == "pickle"
    assert {"SL103", "SL130", "SL802"} <= {item.rule for item in report.findings}
    assert any((item.member or "").endswith("!config.json") for item in report.findings)
