"""A repository is more than its weights: configurations, templates and requirements that name code or reach out are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safeload.cli import run
from safeload.findings import Level, Outcome, Report
from tests.forge_attacks import scan
from tests.forge_hdf5 import hdf5
from tests.forge_zip import Part, forge


def found(config: Any) -> set[tuple[str, Level]]:
    report = scan(json.dumps(config).encode())
    return {(item.rule, item.level) for item in report.findings if not item.rule.startswith("SL5")}


E, W = Level.ERROR, Level.WARNING


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"auto_map": {"AutoModel": "modeling.Model"}}, {("SL821", W)}),
        ({"auto_map": {"AutoTokenizer": ["tok.Slow", None]}}, {("SL821", W)}),
        ({"auto_map": ["tok.Slow", None]}, {("SL821", W)}),
        ({"auto_map": {"AutoModel": "owner/repo--modeling.Model"}}, {("SL822", E)}),
        ({"auto_map": {"AutoModel": "../../other.Model"}}, {("SL824", E)}),
        ({"text_config": {"auto_map": {"AutoModel": "m.Model"}}}, {("SL821", W)}),
        ({"custom_pipelines": {"p": {"impl": "pipe.Pipe", "pt": []}}}, {("SL821", W)}),
        ({"trust_remote_code": True}, {("SL827", W)}),  # CVE-2026-5241
        ({"tokenizer_args": {"trust_remote_code": "True"}}, {("SL827", W)}),
        ({"_attn_implementation": "owner/kernel"}, {("SL822", E)}),
        ({"_attn_implementation_internal": "owner/kernel"}, {("SL822", E)}),  # CVE-2026-4372
        ({"text_config": {"_attn_implementation_internal": "owner/kernel"}}, {("SL822", E)}),
        ({"attn_implementation": {"": "sdpa", "vision_config": "owner/kernel@main:layer"}}, {("SL822", E)}),
        ({"experts_implementation": "owner/kernel:layer"}, {("SL822", E)}),
        ({"in_features": 3, "activation_function": "os.system"}, {("SL823", E)}),
        ({"in_features": 3, "activation_function": "my.module.Act"}, {("SL823", W)}),
        ([{"idx": 0, "path": "", "type": "builtins.eval"}], {("SL823", E)}),
        ([{"idx": 0, "path": "/etc", "type": "sentence_transformers.models.Pooling"}], {("SL824", E)}),
        ([{"idx": 0, "path": "", "type": "my_package.Module"}], {("SL823", W)}),
        ({"types": {"a": "subprocess.Popen"}, "structure": {}}, {("SL823", E)}),
        ({"_class_name": ["pipeline", "Pipe"], "_diffusers_version": "0.30"}, {("SL821", W)}),
        ({"_class_name": "P", "_diffusers_version": "0.30", "x": ["os", "system"]}, {("SL823", E)}),
        ({"_class_name": "P", "_diffusers_version": "0.30", "unet": ["my_unet", "Net"]}, {("SL823", W)}),
        ({"_class_name": "P", "x": ["os", "system"]}, {("SL823", E)}),
        ({"model_type": "bert", "transformers_weights": "../x.safetensors"}, {("SL824", E)}),
        ({"peft_type": "LORA", "auto_mapping": {"parent_library": "transformers_modules.o.r.m", "base_model_class": "M"}}, {("SL821", W)}),
        ({"peft_type": "LORA", "auto_mapping": {"parent_library": "subprocess", "base_model_class": "Popen"}}, {("SL823", E)}),
        ({"model": {"_target_": "builtins.exec"}}, {("SL823", E)}),
        ({"metadata": "x" * (1 << 17), "weight_map": {"a": "../../other.safetensors"}}, {("SL824", E)}),
    ],
)  # fmt: skip
def test_code_that_a_configuration_names_is_found(config: Any, expected: set[tuple[str, Level]]) -> None:
    assert found(config) == expected
    report = scan(json.dumps(config).encode())
    assert report.format == "config"
    assert report.decision.outcome is Outcome.REFUSED


ORDINARY = [
    {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "activation_function": "gelu_new"},
    {"auto_map": None, "trust_remote_code": False, "_attn_implementation": "sdpa", "attn_implementation": None},
    {"model_type": "qwen2_vl", "_attn_implementation": {"": "sdpa", "vision_config": "eager", "text_config": None}},
    {"in_features": 3, "activation_function": "torch.nn.modules.activation.Tanh"},
    [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
     {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
    {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30", "unet": ["diffusers", "UNet2DConditionModel"],
     "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "feature_extractor": [None, None]},
    {"model": {"vocab": {"auto_map": 1, "trust_remote_code": 2, "chat_template": 3, "_target_": 4}, "type": "BPE"}},
    {"auto_mapping": {"parent_library": "transformers.models.llama.modeling_llama", "base_model_class": "LlamaForCausalLM"}},
    {"chat_template": "{{ messages }}", "tokenizer_class": "X"}, {"_class_name": "P", "unet": ["my_unet", "Net"]},
    {"transformers_weights": "model-00001.safetensors"},
    {}, [], {"a": [{"type": "x"}]}, [1, 2], ["type"],
]  # fmt: skip


@pytest.mark.parametrize("config", ORDINARY)
def test_an_ordinary_configuration_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str], config: Any) -> None:
    """Nobody claims it, so that a walk lists it under skipped."""
    assert not found(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, result = run_json(tmp_path, capsys)
    assert status == 0
    assert result["files"] == []
    assert [item["why"] for item in result["skipped"]] in (["JSON text"], ["text"])


def run_json(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    status = run(["scan", "--format", "json", str(path)])
    return status, json.loads(capsys.readouterr().out)


def test_a_template_among_the_configuration_is_judged() -> None:
    hostile = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    for config in (
        {"chat_template": hostile},
        {"chat_template": [{"name": "default", "template": hostile}]},
        {"chat_template": {"a": hostile}},
    ):
        assert ("SL703", E) in found(config)


def test_a_template_as_a_file_is_judged() -> None:
    report = scan(b"{% for m in messages %}{{ ''.__class__.__mro__ }}{% endfor %}")
    assert report.format == "chat-template"
    assert report.decision.outcome is Outcome.REFUSED
    assert scan(b"{% for m in messages %}{{ m['content'] }}{% endfor %}").format == "unknown"
    assert scan(b"{{ if .System }}<|system|>{{ .System }}{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}").format == "unknown"
    assert scan(b"{% for m in messages %}{{ m['content'] }}").format == "chat-template"


def test_letters_written_as_escapes_are_the_same_letters() -> None:
    assert "SL821" in {item.rule for item in scan(b'{"\\u0061uto_map": {"AutoModel": "m.Model"}}').findings}


def test_a_configuration_that_is_nested_too_deep_is_not_passed_by() -> None:
    report = scan(b'{"auto_map": ' + b"[" * 200_000)
    assert {item.rule for item in report.findings} == {"SL828"}
    assert report.decision.outcome is Outcome.REFUSED


def test_keys_that_stand_twice_are_named_beside_what_was_found() -> None:
    report = scan(b'{"auto_map": {"AutoModel": "m.Model"}, "a": 1, "a": 2}')
    assert {item.rule for item in report.findings} == {"SL821", "SL828"}


@pytest.mark.parametrize(("name", "status"), [("m_00000.weights.h5", 0), ("../m.weights.h5", 1), ("/m.weights.h5", 1)])
def test_the_index_that_keras_writes_names_lists_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    index = {"metadata": {"total_size": 8.0}, "weight_map": {"/layers/dense/vars": ["m_00001.weights.h5", name]}}
    (tmp_path / "m.weights.json").write_text(json.dumps(index))
    for number in range(2):
        (tmp_path / f"m_0000{number}.weights.h5").write_bytes(hdf5())
    found, result = run_json(tmp_path, capsys)
    assert found == status
    assert [item["format"] for item in result["files"]] == ["index", "hdf5", "hdf5"]


# ---- requirements


@pytest.mark.parametrize(
    "line",
    [
        "x @ git+https://host/x.git@main", "x @ https://host/x.whl", "x[a,b] @ file:///tmp/x", "git+ssh://git@host/x.git", "https://host/x-1.0.tar.gz",
        "-e git+https://host/x.git#egg=x", "-e ./local", "--editable ../local", "--trusted-host host", "-i http://host/simple",
        "--extra-index-url http://host/simple", "file:./x", "-r http://host/more.txt", "-chttps://host/c.txt",
    ],
)  # fmt: skip
def test_what_is_installed_from_an_address_is_found(line: str) -> None:
    report = scan(f"# packages\ntorch>=2.0 ; python_version < '3.12'\n{line}\nnumpy==1.26 \\\n    --hash=sha256:00\n".encode())
    assert report.format == "requirements"
    assert [(item.rule, item.level) for item in report.findings] == [("SL826", W)]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-gpu.txt", "dev_requirements.in", "Constraints.txt"])
@pytest.mark.parametrize("line", ["x @ https://host/x.whl", "./a.whl", "../x-1.tar.gz ; python_version < '3.12'", "/a/x.zip", "-r ftp://host/r"])
def test_a_line_that_pip_would_not_take_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, line: str) -> None:
    """A file with such a name is a list of requirements, whatever else is in it."""
    (tmp_path / name).write_text(f"torch\nthis is no requirement !\n{line}\n")
    status, result = run_json(tmp_path, capsys)
    assert status == 1
    assert [item["rule"] for item in result["files"][0]["findings"]] == ["SL826"]


@pytest.mark.parametrize(
    "text",
    [
        "torch\nnumpy>=1.2,<2\nscipy[all]==1.0 # why\n-r other.txt\n--extra-index-url https://host/simple\n",
        "see https://host/x.whl for more\n", "# A model\n\nInstall it with `pip install git+https://host/x.git`.\n",
        "https://host/page\n", "/usr/bin/x\n", "../../blobs/abc\n", "word\nother\n",
    ],
)  # fmt: skip
def test_other_text_is_no_list_of_addresses(text: str) -> None:
    assert scan(text.encode()).format == "unknown"


# ---- YAML


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("a: !!python/object/apply:os.system ['id']", E),
        ("a: !!python/name:builtins.eval ''", E),
        ("- !!python/object/new:subprocess.Popen []", E),
        ("---\na: !<tag:yaml.org,2002:python/object/apply:os.system> ['id']", E),
        ("a: !apply:os.system [id]", E),
        ("!!python/object/apply:os.system ['id']", E),
        ("a: !!python/object:my_package.Thing {}", W),
        ("a: !new:my_package.Thing", W),
    ],
)
def test_tags_that_make_python_objects_are_found(text: str, level: Level) -> None:
    report = scan(text.encode())
    assert report.format == "yaml"
    assert [(item.rule, item.level) for item in report.findings] == [("SL823", level)]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, y]\n", "a: !ref <b>\n", "a: !!python/tuple [1, 2]\n", "a: !new:speechbrain.nnet.Linear\nb: !new:torch.nn.ReLU\n",
        "# see !!python/object/apply:os.system\na: 1\n", "Never write !!python/object/apply:os.system in a file.\n", "wow!new:thing.x\n",
    ],
)  # fmt: skip
def test_other_yaml_is_text(text: str) -> None:
    assert scan(text.encode()).format == "unknown"


# ---- where they lie


def test_a_directory_shows_the_findings_at_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each under the file that says it; what asks for nothing stays under skipped."""
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')
    (tmp_path / "modeling.py").write_text("class Model: ...\n")
    (tmp_path / "README.md").write_text("# A model\n")
    status, result = run_json(tmp_path, capsys)
    assert status == 1
    assert [(Path(item["path"]).name, item["format"], [one["rule"] for one in item["findings"]]) for item in result["files"]] == [
        ("config.json", "config", ["SL821"])
    ]
    assert sorted(Path(item["path"]).name for item in result["skipped"]) == ["README.md", "modeling.py"]


@pytest.mark.parametrize(
    ("code", "level"),
    [
        ("import os\n\nclass Model:\n    def __init__(self):\n        os.system('id')\n", "error"),
        ("class Model:\n    pass\n", "warning"),
        ("not python (", "warning"),
        (None, "warning"),
    ],
)
def test_code_that_is_named_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str | None, level: str) -> None:
    """That nothing dangerous is called by name is no promise: the code stays unjudged."""
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')
    if code is not None:
        (tmp_path / "modeling.py").write_text(code)
    status, result = run_json(tmp_path, capsys)
    assert status == 1
    (found,) = result["files"][0]["findings"]
    assert (found["rule"], found["level"]) == ("SL821", level)
    assert ("line 5 of modeling.py" in found["message"]) is (level == "error")


def test_a_repository_in_an_archive_is_read_the_same() -> None:
    report = scan(forge(Part("r/config.json", b'{"auto_map": {"AutoModel": "owner/repo--m.Model"}}'), Part("r/README.md", b"text")))
    assert [(item.rule, item.member) for item in report.findings if item.level is E] == [("SL822", "r/config.json")]


def test_hostile_text_is_escaped() -> None:
    report: Report = scan(b'{"auto_map": {"A\\u001b[2J": "x\\u001b[2J.y"}, "trust_remote_code": true}')
    assert all("\x1b" not in item.message for item in report.findings)


# ---- links


def test_a_link_out_of_the_directory_is_named_and_leaves_the_verdict_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_text("text")
    (tmp_path / "model" / "weights.bin").symlink_to(tmp_path / "secret")
    status, result = run_json(tmp_path / "model", capsys)
    assert status == 2
    assert [(item["decision"], item["findings"][0]["rule"]) for item in result["files"]] == [("error", "SL825")]


def test_the_links_of_a_hubs_cache_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every download lies in it so: `snapshots/REVISION/file` leads to `blobs/DIGEST`. Nothing else around it is reached."""
    blobs, snapshot = tmp_path / "models--o--m" / "blobs", tmp_path / "models--o--m" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "d1").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "models--o--m" / "refs").write_text("text")
    (snapshot / "a.bin").symlink_to("../../blobs/d1")
    (snapshot / "b.bin").symlink_to("../../refs")
    status, result = run_json(snapshot, capsys)
    assert status == 2
    assert [(Path(item["path"]).name, item["decision"]) for item in result["files"]] == [("a.bin", "refused"), ("b.bin", "error")]


CALLS = [
    "import os\nos.system('id')\n", "from subprocess import run as r\nr(['id'])\n", "eval(input())\n", "import pty; pty.spawn('sh')\n",
    "import importlib\nimportlib.import_module('os').system('id')\n", "import os\ngetattr(os, 'sys' + 'tem')('id')\n",
    "import sys\nsys.modules['os'].system('id')\n", "from torch.utils import cpp_extension\ncpp_extension.load(name='x', sources=[])\n",
    "import ctypes as c\nc.CDLL('x.so')\n", "import marshal\nmarshal.loads(b'')\n",
]  # fmt: skip


@pytest.mark.parametrize("code", CALLS)
def test_code_beside_a_model_says_what_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str) -> None:
    """Nobody names it, and instructions may still say to run it: a warning, beside a model only."""
    (tmp_path / "setup.py").write_text(code)
    assert run_json(tmp_path, capsys)[0] == 0
    (tmp_path / "config.json").write_text("{}")
    status, result = run_json(tmp_path, capsys)
    assert status == 1
    assert [(item["rule"], item["level"]) for item in result["files"][0]["findings"]] == [("SL864", "warning")]


def test_code_that_transformers_runs_for_the_model_above_it_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "custom_generate").mkdir()
    (tmp_path / "custom_generate" / "generate.py").write_text(CALLS[0])
    assert run_json(tmp_path, capsys)[0] == 0
    (tmp_path / "config.json").write_text("{}")
    assert run_json(tmp_path, capsys)[0] == 1


ORDINARY_CODE = """
import argparse, dataclasses, multiprocessing, os, platform, re, sys
from dataclasses import dataclass, field
import numpy as np
import torch

@dataclass
class Output:
    loss: float = field(default=0.0)

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.compile(self.layer)(x).eval()

parser = argparse.ArgumentParser()
parser.add_argument("--path")
arguments = parser.parse_args()
state = torch.load(arguments.path, weights_only=True)
words = re.compile("a").findall(platform.platform())
cores = multiprocessing.cpu_count() or os.cpu_count()
np.testing.assert_array_equal(1, 1)
sys.modules[__name__] = sys.modules.get("x")
"""


def test_ordinary_code_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a pickle may not call is called by most code: a data class, a parser of arguments."""
    (tmp_path / "modeling.py").write_text(ORDINARY_CODE)
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}))
    status, result = run_json(tmp_path, capsys)
    assert status == 1
    assert [(item["rule"], item["level"]) for item in result["files"][0]["findings"]] == [("SL821", "warning")]
