"""What says how a model is loaded: MLmodel, YAML that names code, NeMo's and TorchServe's archives."""

from __future__ import annotations

import gzip
import json

import pytest

import safeload
from safeload.findings import Level, Outcome, Report
from safeload.formats.python_source import dangerous_calls
from safeload.formats.yaml_tree import LARGEST, mappings_in, parse_yaml, scalars_in
from tests.forge_serving import MANIFEST, mar, mlmodel, nemo, tar

E, W = Level.ERROR, Level.WARNING


def scanned(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes) -> dict[str, Level]:
    """The rules above level note, each with its worst level."""
    found: dict[str, Level] = {}
    for item in scanned(data).findings:
        if item.level is not Level.NOTE and found.get(item.rule) is not E:
            found[item.rule] = item.level
    return found


# ---- MLmodel

BENIGN_MLMODELS = {
    "scikit-learn": mlmodel("sklearn:\n  code: null\n  pickled_model: model.skops\n  skops_trusted_types: null"),
    "XGBoost": mlmodel("xgboost:\n  code: null\n  data: model.json\n  model_class: xgboost.core.Booster", loader="mlflow.xgboost"),
    "LightGBM": mlmodel(
        "lightgbm:\n  skops_trusted_types:\n  - lightgbm.basic.Booster\n  - collections.OrderedDict", loader="mlflow.lightgbm"
    ),
    "a pickled Python model": mlmodel(loader="mlflow.pyfunc.model", more="python_model: python_model.pkl\npredict_fn: predict"),
    "a signature": mlmodel(behind="signature:\n  inputs: '[{\"type\": \"double\", \"name\": \"eval_count\"}]'\n"),
    "an experiment's address": mlmodel(behind="artifact_path: mlflow-artifacts:/1/models/m-2/artifacts\nrun_id: abc\n"),
    "JSON": json.dumps({"flavors": {"python_function": {"loader_module": "mlflow.sklearn"}}}).encode(),
    "UTF-16": mlmodel().decode().encode("utf-16"),
}


@pytest.mark.parametrize("data", BENIGN_MLMODELS.values(), ids=BENIGN_MLMODELS)
def test_what_mlflow_writes_is_allowed(data: bytes) -> None:
    report = scanned(data)
    assert (report.format, report.decision.outcome) == ("mlmodel", Outcome.ALLOWED), report.decision.reasons
    assert report.findings == ()


HOSTILE_MLMODELS = {
    "a loader that runs code": (mlmodel(loader="runpy"), "SL861", E),
    "a loader that starts processes": (mlmodel(loader="subprocess"), "SL861", E),
    "a loader by path": (mlmodel(loader="../evil"), "SL861", E),
    "a loader of its own": (mlmodel(loader="my_loader"), "SL861", W),
    "its own code": (mlmodel(more="code: code"), "SL861", W),
    "a model from code": (mlmodel(loader="mlflow.pyfunc.model", more="model_code_path: model.py"), "SL861", W),
    "a method that leads to the machinery": (mlmodel(more="predict_fn: __reduce__"), "SL861", E),
    "a class that starts processes": (mlmodel("xgboost:\n  model_class: os.system"), "SL823", E),
    "a class of nobody": (mlmodel("xgboost:\n  model_class: my_package.Booster"), "SL823", W),
    "a module of Keras": (mlmodel("keras:\n  keras_module: os.path.os"), "SL823", E),
    "a type that it trusts": (mlmodel("sklearn:\n  skops_trusted_types:\n  - builtins.eval"), "SL823", E),
    "a path that climbs out": (mlmodel("sklearn:\n  pickled_model: ../../other.pkl"), "SL824", E),
    "an absolute path": (mlmodel(more="data: /etc/passwd"), "SL824", E),
    "a drive": (mlmodel(more="data: 'C:\\x'"), "SL824", E),
    "an address": (mlmodel(more="python_model: s3://bucket/evil.pkl"), "SL824", E),
    "the same behind an alias": (mlmodel(more="x: &a ../../evil\ndata: *a"), "SL824", E),
    "a flavour by a merge": (mlmodel("x: &a {loader_module: subprocess}\nother:\n  <<: *a"), "SL861", E),
    "a key twice": (mlmodel(more="loader_module: mlflow.sklearn"), "SL862", W),
    "a tag": (mlmodel(more="x: !!python/object/apply:os.system [id]"), "SL862", W),
    "YAML that breaks": (mlmodel(behind="x: [\n"), "SL862", W),
    "code in a text": (mlmodel(behind="note: \"__import__('os').system('id')\"\n"), "SL852", W),
}  # fmt: skip


@pytest.mark.parametrize(("data", "rule", "level"), HOSTILE_MLMODELS.values(), ids=HOSTILE_MLMODELS)
def test_what_an_mlmodel_imports_or_reaches_is_told(data: bytes, rule: str, level: Level) -> None:
    report = scanned(data)
    assert report.format == "mlmodel"
    assert rules(data)[rule] is level
    assert report.decision.outcome is not Outcome.ALLOWED


# ---- YAML

CONFIGURATIONS = {
    "Hydra": ("m:\n  _target_: os.system\n  command: id\n", "SL823", E),
    "Hydra, deep in lists": ("a:\n- - b:\n    - {_target_: subprocess.Popen, _args_: [id]}\n", "SL823", E),
    "Hydra's own importer": ("_target_: hydra.utils.get_method\npath: os.system\n", "SL823", E),
    "a key in quotes": ("'_target_': \"os.system\"\n", "SL823", E),
    "a key with escapes": ('"\\x5ftarget_": "os.syst\\x65m"\n', "SL823", E),
    "an anchor": ("a: &x os.system\nb:\n  _target_: *x\n", "SL823", E),
    "an interpolation": ("a: os\nb:\n  _target_: ${a}.system\n", "SL823", W),
    "a file of code": ("_target_: /tmp/evil.py:main\n", "SL823", E),
    "a class of nobody": ("_target_: my_package.Model\n", "SL823", W),
    "another model": ("_target_: transformers.AutoModel.from_pretrained\n", "SL823", W),
    "NeMo": ("target: os.system\nx: 1\n", "SL823", E),
    "Lightning": ("model:\n  class_path: subprocess.Popen\n  init_args: {args: id}\n", "SL823", E),
    "torchtune": ("model:\n  _component_: os.system\n", "SL823", E),
    "a function by name": ("loss_fn: builtins.eval\n", "SL823", E),
    "Stable Diffusion": ("model:\n  target: my_package.Model\n  params: {x: 1}\n", "SL823", W),
    "letters that look like others": ("_target_: оs.system\n", "SL823", E),
    "a resolver that computes": ("a: ${eval:'__import__(\"os\").system(\"id\")'}\n", "SL852", W),
    "code beside a class": ("_target_: torch.nn.Linear\nnote: __import__('os').system('id')\n", "SL852", W),
    "a key twice": ("_target_: torch.nn.Linear\n_target_: torch.nn.ReLU\n", "SL862", W),
    "a tag": ("a: !!python/object/apply:os.system [id]\n", "SL823", E),
    "a tag by a handle": ("%TAG !p! tag:yaml.org,2002:python/object/\n---\na: !p!apply:os.system [id]\n", "SL823", E),
    "a tag on a key": ("? !!python/object/apply:os.system [id]\n: 1\n", "SL823", E),
    "a later document": ("a: 1\n---\nb: !!python/object/apply:os.system [id]\n", "SL823", E),
    "a document before one that breaks": ("b: !!python/object/apply:os.system [id]\n---\n[\n", "SL823", E),
    "a tag in UTF-16": ("a: !!python/object/apply:os.system [id]\n", "SL823", E),
    "trust": ("model:\n  trust_remote_code: true\n", "SL827", W),
    "conda, by address": ("name: e\ndependencies:\n- pip:\n  - git+https://host/x.git\n", "SL826", W),
    "conda, a file by address": ("name: e\ndependencies:\n- pip:\n  - x @ https://host/x.whl\n", "SL826", W),
    "MLflow's environment": ("python: 3.11\nbuild_dependencies:\n- git+https://host/x.git\n", "SL826", W),
    "conda, unprotected": ("name: e\ndependencies:\n- pip:\n  - --index-url http://host/simple\n", "SL826", W),
}  # fmt: skip


@pytest.mark.parametrize(("text", "rule", "level"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_yaml_that_names_code_is_told(text: str, rule: str, level: Level, request: pytest.FixtureRequest) -> None:
    """CVE-2025-23304 and its kin: a configuration is instantiated."""
    data = text.encode("utf-16" if "UTF-16" in request.node.name else "utf-8")
    assert scanned(data).format == "yaml"
    assert rules(data)[rule] is level


@pytest.mark.parametrize(
    "text",
    [
        "lr: 0.001\nbatch_size: 32\n", "target: label\nfeatures: [a, b]\n", "target: data.csv\n", "_target_: torch.optim.AdamW\nlr: 1\n",
        "target: nemo.collections.asr.models.EncDecCTCModel\nsample_rate: 16000\n", "class_path: lightning.pytorch.Trainer\n",
        "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params: {x: 1}\n", "a: !!python/tuple [1, 2]\n",
        "_component_: torchtune.models.llama3.llama3_8b\n", "a: ${b}\nb: ${oc.env:HOME}\n", "_target_: 4\n",
        "a: !!python/object:argparse.Namespace {x: 1}\n", "a: !!python/name:torch.nn.modules.activation.ReLU ''\n",
        "name: e\ndependencies:\n- python=3.11\n- pip:\n  - torch==2.0\n",
        "jobs:\n  x:\n    run: curl -s https://host/x | sh\n    target: a.b\n",
        "services:\n  web:\n    build: {target: builder.stage}\n    command: bash -c 'pip install x'\n", '{"_target_": "torch.nn.ReLU"}',
        "words that say _target_: os.system, and more: of them\n", "trust_remote_code: false\n",
    ],
)  # fmt: skip
def test_other_configurations_are_text(text: str) -> None:
    """Nobody claims them, so that a walk lists them under skipped."""
    assert scanned(text.encode()).format == "unknown"


def test_a_configuration_that_is_too_long_is_not_analysed() -> None:
    data = b"_target_: os.system\n" + b"# x\n" * (LARGEST // 4)
    assert rules(data) == {"SL862": W}
    assert scanned(data).decision.outcome is not Outcome.ALLOWED


BROKEN = [
    b"[" * 100_000, b"{" * 100_000, b"? " * 100_000, b"- " * 100_000, b"[a, " * 50_000, b"*x", b"'" + b"x" * 100_000, b'"\\U00110000"',
    b"\xff\xfe\0", b"\x80", b"a: b: c", b"%YAML 9.9\n---\n", b"%TAG ! x\n" * 2, b"&a" * 10_000, b"@", b"a:\n\t- b",
]  # fmt: skip


@pytest.mark.parametrize("data", BROKEN)
def test_yaml_that_breaks_says_why(data: bytes) -> None:
    """In bounded time, and by no exception of the library's."""
    documents, problem = parse_yaml(data)
    assert problem is not None
    assert documents == [] or data.startswith(b"%YAML")


def test_aliases_do_not_grow() -> None:
    """A billion laughs are forty lists of two."""
    text = "a0: &a0 x\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))
    documents, problem = parse_yaml(text.encode())
    assert problem is None
    assert len(list(scalars_in(documents[0].root))) < 200
    circle, problem = parse_yaml(b"a: &a\n  b: [*a, *a]\n")
    assert problem is None
    assert len(list(mappings_in(circle[0].root))) == 2


# ---- NeMo

WEIGHTS = b"cos\nsystem\n(S'true'\ntR."


def test_a_nemo_archive_is_allowed() -> None:
    report = scanned(nemo(members={"./vocab.txt": b"a\nb\n", "./weights.pkl": b"\x80\x04}."}))
    assert (report.format, report.decision.outcome) == ("nemo", Outcome.ALLOWED), report.decision.reasons


@pytest.mark.parametrize(
    ("data", "rule", "member"),
    [
        (nemo("target: os.system\n"), "SL823", "./model_config.yaml"),
        (nemo("encoder:\n  _target_: subprocess.Popen\n"), "SL823", "./model_config.yaml"),
        (nemo(members={"./model_weights.ckpt": WEIGHTS}), "SL101", "./model_weights.ckpt"),
        (nemo(members={"../evil": b"x"}), "SL212", "../evil"),
        (nemo(members={"model_config.yaml": b"x: 1"}), "SL202", "model_config.yaml"),
        (gzip.compress(nemo("target: os.system\n"), mtime=0), "SL823", "unpacked!./model_config.yaml"),
    ],
    ids=["target", "nested target", "weights", "path", "twice", "compressed"],
)
def test_a_hostile_nemo_archive_is_refused(data: bytes, rule: str, member: str) -> None:
    """CVE-2025-23304, -23249, -23250, -23360: the configuration, the weights, the names."""
    assert (rule, member) in [(item.rule, item.member) for item in scanned(data).findings if item.level is E]


# ---- TorchServe

HANDLER = b"import torch\nfrom ts.torch_handler.base_handler import BaseHandler\n\nclass H(BaseHandler):\n    pass\n"


@pytest.mark.parametrize("handler", ["image_classifier", "text_classifier", "object_detector:handle"])
def test_an_archive_with_a_handler_of_the_server_is_allowed(handler: str) -> None:
    report = scanned(mar({"index_to_name.json": b'{"0": "cat"}'}, handler=handler, extraFiles="index_to_name.json"))
    assert (report.format, report.decision.outcome) == ("torchserve", Outcome.ALLOWED), report.decision.reasons
    assert report.metadata["handler"] == handler


HOSTILE_MARS = {
    "code of its own": (mar({"handler.py": HANDLER}, handler="handler.py"), "SL863", W),
    "a handler that starts processes": (mar({"handler.py": HANDLER + b"import os\nos.system('id')\n"}, handler="handler.py:H"), "SL864", E),
    "a module beside the handler": (mar({"torch.py": b"eval('1')"}), "SL864", E),
    "a model's class": (mar({"net.py": b"x = 1"}, modelFile="net.py"), "SL863", W),
    "a library": (mar({"x.so": b"\x7fELF"}), "SL863", W),
    "an installed module as handler": (mar(handler="subprocess:Popen"), "SL823", E),
    "an unknown module as handler": (mar(handler="my_package.handler:handle"), "SL823", W),
    "a handler that climbs out": (mar(handler="../../evil.py"), "SL824", E),
    "weights that climb out": (mar(serializedFile="../../x.pt"), "SL824", E),
    "weights by address": (mar(serializedFile="https://host/x.pt"), "SL824", E),
    "extra files that climb out": (mar(extraFiles="a.txt,/etc/passwd"), "SL824", E),
    "a member that climbs out": (mar({"../../evil.py": b"x"}), "SL210", E),
    "a hostile pickle": (mar({"model.pt": WEIGHTS}), "SL101", E),
    "a file that is not there": (mar(serializedFile="other.pt"), "SL865", W),
    "a handler that is not there": (mar(handler="other file"), "SL865", W),
    "a handler's file that is not there": (mar(handler="handler.py:H"), "SL865", W),
    "a handler that is a number": (mar(handler=7), "SL865", W),
    "a manifest that is no JSON": (mar(manifest=b"{"), "SL865", W),
    "a manifest of no model": (mar(manifest=b"[]"), "SL865", W),
    "a key twice": (mar(manifest=b'{"model": {"handler": "a", "handler": "b"}}'), "SL865", W),
    "a manifest in other letters": (mar({"mar-inf/manifest.json": b"{}"}), "SL202", E),
    "a requirement by address": (mar({"requirements.txt": b"git+https://host/x.git\n"}, requirementsFile="requirements.txt"), "SL826", W),
}  # fmt: skip


@pytest.mark.parametrize(("data", "rule", "level"), HOSTILE_MARS.values(), ids=HOSTILE_MARS)
def test_what_a_model_archive_runs_is_told(data: bytes, rule: str, level: Level) -> None:
    assert scanned(data).format == "torchserve"
    assert rules(data)[rule] is level


def test_an_archive_as_tar_is_judged_the_same() -> None:
    manifest = json.dumps({"model": {"handler": "h.py", "serializedFile": "m.pkl"}}).encode()
    data = tar({MANIFEST: manifest, "h.py": b"import os\nos.system('x')\n", "m.pkl": b"\x80\x04}."})
    inside = tar({f"m/{name}": held for name, held in {MANIFEST: manifest, "h.py": b"eval('x')", "m.pkl": b"\x80\x04}."}.items()})
    for made in (data, gzip.compress(data, mtime=0), inside):
        assert rules(made) == {"SL863": W, "SL864": E}


# ---- Python source


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("import os\nos.system('x')", "os.system"), ("from os import system as s\ns('x')", "os.system"),
        ("import subprocess as sp\nsp.run(['x'])", "subprocess.run"), ("if 1: import pty; pty.spawn('x')", "pty.spawn"),
        ("run = eval\nrun('1')", "eval"), ("from subprocess import (\n  Popen,\n  call as c,\n)\nc('x')", "subprocess.call"),
        ("class A:\n  def f(self):\n    exec('x')", "exec"), ("__import__('os').system('x')", "__import__"),
        ("import ctypes\nctypes.CDLL('x')", "ctypes.CDLL"), ("import os\n@os.system\ndef f(): ...", "os.system"),
        ("import os.path\nos.popen('x')", "os.popen"), ("import os\nr = os\nr.system('x')", "os.system"),
    ],
)  # fmt: skip
def test_dangerous_calls_are_followed_through_imports(text: str, called: str) -> None:
    assert called in str(dangerous_calls(text))


@pytest.mark.parametrize(
    "text",
    [
        "import torch\nmodel.eval()\ntorch.compile(model)\n", "import re\nre.compile('x')", "# os.system('x')\n", "x = 'os.system(1)'\n",
        "import os\nos.path.join('a')\nos.environ.get('x')", "def eval(x): ...\n", "import torch\ntorch.load('x')", "self.exec('x')",
        "import json\njson.load(open('x'))",
    ],
)  # fmt: skip
def test_ordinary_handlers_call_nothing_dangerous(text: str) -> None:
    """What a handler is for: files of its own, weights, the environment."""
    assert dangerous_calls(text) == []


def test_text_that_is_no_python_is_searched_for_words() -> None:
    assert dangerous_calls("'''\nos.system('x')")
    assert dangerous_calls("'''\nnothing") == []
