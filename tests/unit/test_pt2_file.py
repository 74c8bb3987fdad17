"""`.pt2` and torch.package: what programs call and evaluate, what archives carry, and what their streams name."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import UnsupportedError
from safeload.findings import Level, Outcome, Report
from safeload.formats.exported_program import judge_program
from safeload.inspection import inspect
from tests import forge
from tests.forge_script import graph_node, package, program, pt2
from tests.forge_zip import torch_zip


def scan(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes, outcome: Outcome = Outcome.REFUSED, form: str = "pt2") -> set[str]:
    report = scan(data)
    assert report.format == form
    assert report.decision.outcome is outcome, report.decision
    return {item.rule for item in report.findings if item.level is not Level.NOTE}


def judged(document: Any) -> set[tuple[str, str]]:
    return {(found.rule, str(found.level)) for found in judge_program(document)}


# ---- programs


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.add.Tensor", "torch.ops.aten.sym_size.int", "torch.ops.higher_order.cond",
        "torch.ops.quantized_decomposed.quantize_per_tensor",
        "torch.ops.torchvision.nms.default", "_operator.add", "_operator.getitem", "_operator.floordiv", "math.ceil", "math.log2",
        "torch.sym_max",
        "torch.sym_not", "torch._sym_sqrt", "torch._check", "torch._C._set_grad_enabled",
    ],
)  # fmt: skip
def test_what_exporters_write_is_allowed(target: str) -> None:
    assert rules(pt2(program(graph_node(target))), Outcome.ALLOWED) == set()


@pytest.mark.parametrize(
    ("target", "rule", "outcome"),
    [
        ("torch.os.system", "SL734", "error"),
        ("torch.serialization.os.popen", "SL734", "error"),
        ("torch.hub.load", "SL734", "error"),
        ("torch.load", "SL734", "error"),
        ("torch.save", "SL734", "error"),
        ("torch.__builtins__.eval", "SL734", "error"),
        ("_operator.attrgetter", "SL734", "error"),
        ("_operator.methodcaller", "SL734", "error"),
        ("_operator.call", "SL734", "error"),
        ("_operator.add.__self__", "SL734", "error"),
        ("math.ceil.__self__", "SL734", "error"),
        ("mathx.f", "SL734", "warning"),
        ("os.system", "SL734", "error"),
        ("#mine.op", "SL734", "warning"),
        ("torch.nn.functional.relu", "SL734", "warning"),
        ("torch.ops.aten", "SL734", "warning"),
        ("torch.ops.aten.add.Tensor.__call__", "SL734", "error"),
        ("torch.ops.aten.save.default", "SL731", "error"),
        ("torch.ops.mylib.transform.default", "SL732", "warning"),
        ("torch.ops._c10d_functional.all_reduce.default", "SL732", "warning"),
        ("torch.ops.higher_order.aoti_call_delegate", "SL735", "error"),
        ("torch.ops.higher_order.executorch_call_delegate", "SL735", "error"),
    ],
)
def test_what_no_exporter_writes_is_not_let_pass(target: str, rule: str, outcome: str) -> None:
    """Targets are looked up from torch attribute by attribute, and called."""
    assert judged(program(graph_node(target))) == {(rule, outcome)}
    inner = graph_node("torch.ops.higher_order.cond", {"as_graph": {"name": "g", "graph": {"nodes": [graph_node(target)]}}})
    assert judged(program(inner)) == {(rule, outcome)}
    assert judged(program(graph_node("torch.ops.higher_order.scan", {"as_operator": target}))) == {(rule, outcome)}
    assert rules(pt2(program(graph_node(target)))) == {rule}


@pytest.mark.parametrize(
    "text",
    [
        "s0", "2*s0 + 1", "Symbol('s77', positive=True, integer=True)", "FloorDiv(Symbol('s77', positive=True, integer=True), Integer(2))",
        "Max(1, s0)", "Eq(Mod(s0, 2), 0)", "Add(Integer(1), Mul(Integer(-1), Symbol('u0', integer=True)))", "s0**2", "ceiling(s0/2)",
        "s0 >= 5", "OpaqueUnaryFn_sqrt(ToFloat(s0))", "True", "1.5e3", "Piecewise((s0, s0 > 1), (1, True))",
    ],
)  # fmt: skip
def test_arithmetic_of_sizes_is_allowed(text: str) -> None:
    assert judged({"expr_str": text}) == set()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "().__class__", "s0.__class__", "s0.is_integer", "eval('1')", "exec('1')", "open('x')", "s0[0]",
        "lambda: 1", "[x for x in s0]", "'text'", "S('__import__(1)')", "Lambda(x, 1)", "sympify('1')", "lambdify(s0, 'x')",
        "getattr(s0, 'x')",
        "Symbol('a b')", "Symbol('s0', 'x')", "{1: 2}", "s0; s1", "s0\x00", "f(s0)", "`ls`",
    ],
)  # fmt: skip
def test_an_expression_of_anything_else_is_an_error(text: str) -> None:
    """It is evaluated: sympify takes Python."""
    if text == "lambda: 1":  # a name, a colon: no token of an expression
        assert judged({"expr_str": text}) == {("SL736", "error")}
    assert judged({"a": [{"expr_str": text}]}) == {("SL736", "error")}


def test_guards_only_compare_sizes() -> None:
    """torch compiles them, and runs them when the program is turned into a module."""
    good = ["L['x'].size()[0] >= 5", "len(L['args']) == 2", "L['x'].dtype == torch.float32", "2 <= L['d']['a'].stride()[1] and True"]
    assert judged({"guards_code": good}) == set()
    for bad in (
        "__import__('os').system('true')",
        "L['x'].__class__",
        "open('x')",
        "torch.os.system('true')",
        'f"{x}"',
        "[a for a in L]",
        5,
    ):
        assert judged({"guards_code": [bad]}) == {("SL736", "error")}, bad


def test_classes_that_arguments_are_described_with_are_named() -> None:
    """torch imports their modules while it reads the description."""

    def spec(context: object) -> dict[str, object]:
        return {"in_spec": json.dumps([1, {"type": "builtins.tuple", "context": json.dumps(context), "children_spec": []}])}

    assert judged(spec(["a"])) == set()
    assert judged(spec({"__enum__": True, "fqn": "my.module:Kind", "name": "A"})) == {("SL734", "warning")}
    assert judged(spec({"__enum__": True, "fqn": "os:x", "name": "A"})) == {("SL734", "error")}
    factory = {"default_factory_module": "builtins", "default_factory_name": "list", "dict_context": []}
    assert judged(spec(factory)) == set()
    assert judged(spec(factory | {"default_factory_module": "subprocess", "default_factory_name": "getoutput"})) == {("SL734", "error")}
    assert judged(spec(factory | {"default_factory_name": "exec"})) == {("SL734", "error")}


def test_a_class_out_of_a_library_is_named() -> None:
    assert judged({"class_fqn": "__torch__.torch.classes.mylib.Engine"}) == {("SL732", "warning")}
    assert judged({"class_fqn": "__torch__.torch.classes.quantized.LinearPackedParamsBase"}) == set()


# ---- archives


def test_weights_are_listed_and_members_read() -> None:
    config = {"config": {"w": {"path_name": "weight_0", "use_pickle": False, "tensor_meta": {"dtype": 7, "sizes": [{"as_int": 2}]}}}}
    more = {"data/weights/weight_0": bytes(8), "data/weights/model_weights_config.json": json.dumps(config).encode()}
    data = pt2(program(graph_node("torch.ops.aten.relu.default")), more | {"extra/note.txt": b"hello", "extra/odd": b"\xde\xad"})
    assert rules(data, Outcome.ALLOWED) == set()
    assert [(one.name, one.dtype, one.shape, one.nbytes) for one in inspect(data, lock=False).tensors] == [("w", "float32", (2,), 8)]
    stream = forge.stream(forge.call("os", "system", forge.TEXT("true")), forge.STOP)
    for name in ("data/weights/weight_0", "data/sample_inputs/model.pt", "extra/x", "data/constants/custom_obj_0"):
        assert "SL101" in rules(pt2(program(), more | {name: stream}))


@pytest.mark.parametrize("name", ["data/aotinductor/model/m.so", "data/aotinductor/model/m.cpp", "extra/m.cubin", "data/x.SO"])
def test_compiled_code_is_an_error(name: str) -> None:
    """A library is loaded into the process before the program is run once."""
    assert rules(pt2(None, {name: b"\x7fELF" + bytes(60)})) == {"SL735"}


def test_a_library_is_one_under_any_name() -> None:
    assert rules(pt2(None, {"data/aotinductor/model/kernel.txt": b"\x7fELF" + bytes(60)})) == {"SL735"}


def test_a_program_is_found_beside_a_checkpoint_and_in_the_older_form() -> None:
    """torch.export looks for nothing more than the program."""
    bad = json.dumps(program(graph_node("torch.os.system"))).encode()
    data = torch_zip({"archive_format": b"pt2", "models/model.json": bad, "data.pkl": b"\x80\x02}.", "version": b"3\n"})
    assert rules(data) == {"SL734"}
    from tests.unit.test_zip_file import zipped

    assert rules(zipped({"serialized_exported_program.json": bad, "version": b"8.2"})) == {"SL734"}


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 1, "a": 2}', b"[" * 100_000, b"\xff\xfe", b'{"a": ' + b"9" * 5000 + b"}"])
def test_a_program_that_is_not_read_is_not_let_pass(text: bytes) -> None:
    assert rules(pt2(text)) == {"SL734"}


@pytest.mark.torch
def test_what_torch_exports_is_allowed(tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)
            self.k = torch.tensor([1.0, 2.0])

        def forward(self, x: torch.Tensor, d: dict[str, torch.Tensor]) -> torch.Tensor:
            y: torch.Tensor = torch.relu(self.layer(x)) + d["a"].sum() + self.k + x.shape[0] // 2
            return torch.cond(y.sum() > 0, lambda t: t + 1, lambda t: t - 1, [y])  # type: ignore[no-any-return]

    path = tmp_path / "m.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sizes = ({0: torch.export.Dim("n", min=2, max=64)}, {"a": None})
        made = torch.export.export(Net(), (torch.randn(8, 3), {"a": torch.ones(2)}), dynamic_shapes=sizes)
        torch.export.save(made, path, extra_files={"note.txt": "hello"})
    report = safeload.scan(path, lock=False)
    assert report.decision.outcome is Outcome.ALLOWED, report.decision
    assert {one.name for one in inspect(path, lock=False).tensors} == {"layer.weight", "layer.bias", "k"}
    with pytest.raises(UnsupportedError, match="the file is pt2"):
        safeload.load(path, lock=False)


# ---- torch.package


def test_a_package_without_code_is_allowed() -> None:
    """Tensors in it are those of a checkpoint, under other names."""
    assert rules(package({}), Outcome.ALLOWED, "pytorch-package") == set()
    assert inspect(package({}), lock=False).metadata["extern_modules"] == "torch, torch._utils, collections"


def test_code_of_a_package_runs_when_it_is_loaded() -> None:
    plain = b"import torch\n\n\nclass Net(torch.nn.Module):\n    pass\n"
    assert rules(package({"mylib/net.py": plain, "mylib/__init__.py": b""}), form="pytorch-package") == {"SL737"}
    report = scan(package({"mylib/net.py": plain + b"import subprocess\nsubprocess.run(['true'])\n"}))
    assert {item.rule for item in report.findings} == {"SL737", "SL864"}


def test_streams_of_a_package_are_walked() -> None:
    stream = forge.stream(forge.call("os", "system", forge.TEXT("true")), forge.STOP)
    for name in ("model/evil.pkl", "model/evil.bin", "evil"):
        assert "SL101" in rules(package({name: stream}), form="pytorch-package")


def test_storages_of_a_package_are_held_against_their_records() -> None:
    assert rules(package({".data/0.storage": bytes(4)}), form="pytorch-package") == {"SL302"}
    assert rules(package({}, without=".data/0.storage"), form="pytorch-package") == {"SL304"}


@pytest.mark.torch
def test_what_torch_packages(tmp_path: Path) -> None:
    import torch
    from torch.package.package_exporter import PackageExporter

    path = tmp_path / "p.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with PackageExporter(str(path)) as exporter:
            exporter.extern("torch.**")
            exporter.save_pickle("model", "w.pkl", {"a": torch.ones(2), "b": torch.zeros(3)[1:]})
            exporter.save_text("model", "note.txt", "hello")
    assert rules(path.read_bytes(), Outcome.ALLOWED, "pytorch-package") == set()


def test_damaged_archives_end_in_findings() -> None:
    rng = random.Random(23)
    seeds = [pt2(program(graph_node("torch.ops.aten.add.Tensor"))), package({"a.py": b"import os\n"})]
    for count in range(1500):
        data = bytearray(seeds[count % 2])
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        assert scan(bytes(data)).decision.reasons != ("not decided",)
