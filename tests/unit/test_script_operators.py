"""The code of TorchScript archives is divided into words: what it calls is named, wherever and however it is written."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.findings import Level, Outcome, Report
from safeload.formats.script_operators import judge_bytecode, judge_code
from tests.effort import within
from tests.forge_script import CODE, script, with_code


def scan(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes, outcome: Outcome = Outcome.REFUSED) -> set[str]:
    report = scan(data)
    assert report.format == "torchscript"
    assert report.decision.outcome is outcome, report.decision
    return {item.rule for item in report.findings if item.level is not Level.NOTE}


def judged(text: str) -> list[str]:
    return [found.rule for found, _ in judge_code(text)]


@pytest.mark.parametrize(
    "line",
    [
        'torch.save(x, "/tmp/x")',
        'y = torch.from_file("/etc/passwd", False, 10)',
        'torch . save (x, "a")',
        'torch.\\\n    save(x, "a")',
        'ops.aten.save(x, "a")',
        "y = rpc_async(name, fn, (x,))",
        "y = rpc_sync(name, fn)",
        "y = rpc_remote(name, fn)",
        "y = ops.prim.rpc_sync(name)",
        "y = ops.prim.PythonOp(x)",
        'y = ops.image.read_file("a")',
        'y = ops.torchaudio.sox_io_load_audio_file("a")',
        'x.save("a")',
        '(x).save("a")',
        '[x][0].from_file("a")',
        '"a".from_file(False)',
        'y = self.a.save("x")',
        "f = torch.save",
        'print("#", torch.save(x, "a"))',
        "y = 'it\\'s' # \"\n    torch.save(x, \"a\")",
    ],
)
def test_what_reaches_files_or_processes_is_an_error(line: str) -> None:
    """However it is spaced, called or handed on."""
    assert rules(with_code(line)) == {"SL731"}


@pytest.mark.parametrize(
    "line",
    [
        "y = ops.mylib.transform(x)",
        "y = ops . mylib . transform(x)",
        "y = ops.c10d.allreduce_(x)",
        "y = ops._c10d_functional.all_reduce(x)",
        "y = ops.symm_mem.memset32_(x)",
        "y = ops.torchvision.unheard_of(x)",
        "y = __torch__.torch.classes.mylib.Engine(x)",
        "y : __torch__.torch.classes.tensorrt.Engine = x",
    ],
)
def test_what_comes_out_of_a_library_cannot_be_judged(line: str) -> None:
    assert rules(with_code(line)) == {"SL732"}


@pytest.mark.parametrize("line", ["t = torch", "f(torch)", "o = ops\n    o.aten.save(x)", "a = ops.aten", "y = 'no end", 'y = "no\nend"'])
def test_code_that_hides_what_it_calls_is_not_let_pass(line: str) -> None:
    assert "SL733" in rules(with_code(line))


@pytest.mark.parametrize(
    "line",
    [
        "y = torch.relu(x)",
        "y = ops.quantized.linear_dynamic(x, w)",
        'ops.prim.RaiseException("torch.save(x)", "builtins.ValueError")',
        'print("torch.save", \'ops.mylib.x\', "\\"torch.save(")',
        "y = x  # torch.save(x)",
        "f = fork(__forked_function)",
        "y = ops.torchvision.nms(a, b, 0.5)",
        "ops = 1",
        "ops : int",
        "save = 1\n    y = save + 2",
        "y = (self).forward(x, )",
        "y = x[0].b.c.load(1)",
        "p : __torch__.torch.classes.quantized.LinearPackedParamsBase",
        'y = getattr(self, "0")',
        "y = 1.0000000000000001e-05 + inf",
    ],
)
def test_what_only_computes_is_allowed(line: str) -> None:
    """And what only looks like a call: texts, comments, names of one's own."""
    assert rules(with_code(line), Outcome.ALLOWED) == set()


def test_a_method_of_ones_own_may_be_called_save() -> None:
    text = CODE.format('y = (self).save("a")') + "  def save(self: __torch__.Net, name: str) -> NoneType:\n    return None\n"
    assert judged(text) == []


def test_every_file_of_code_is_looked_at_and_each_operator_named_once() -> None:
    files = {"code/__torch__.py": CODE.format("pass"), "code/__torch__/a/b.py": CODE.format('torch.save(x, "a")\n    torch.save(x, "b")')}
    report = scan(script(files))
    assert [(item.rule, item.member) for item in report.findings] == [("SL731", "archive/code/__torch__/a/b.py")]
    text = files["code/__torch__/a/b.py"]
    assert report.findings[0].offset == text.index("torch.save")


def test_bytecode_of_a_mobile_archive_is_looked_at() -> None:
    """A mobile reader takes the bytecode, and never the code beside it."""
    stream = b"\x80\x02X\x0a\x00\x00\x00aten::saveX\x05\x00\x00\x00forge\x86."
    assert rules(script(CODE.format("pass"), {"bytecode.pkl": stream})) == {"SL731"}
    assert [found.rule for found, _ in judge_bytecode(b"mylib::op")] == ["SL732"]
    assert list(judge_bytecode(b"aten::relu prim::If quantized::linear")) == []


@pytest.mark.torch
def test_its_data_is_loaded_all_the_same() -> None:
    """Nothing of the code is ever compiled here, so what it would call stands in nobody's way."""
    data = with_code('torch.save(x, "a")')
    assert safeload.load(io.BytesIO(data), lock=False, unknown="inert") == ()
    with pytest.raises(safeload.RefusedError, match="aten::save"):
        safeload.load(io.BytesIO(data), lock=False)


@pytest.mark.torch
def test_what_torch_itself_writes(tmp_path: Path) -> None:
    """Scripted, traced, quantised, with forks and loops, and for mobile."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.LSTM(2, 2)
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                x = x + 1
            y: torch.Tensor = self.layer(x) + self.rnn(x)[0]
            return y

    class Forked(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            future = torch.jit.fork(self.layer, x)  # type: ignore[no-untyped-call]
            y: torch.Tensor = torch.jit.wait(future)  # type: ignore[no-untyped-call]
            return y

    jit: Any = torch.jit
    quantise: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = jit.trace(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2))
        quantised = jit.script(quantise(torch.nn.Sequential(torch.nn.Linear(2, 2)), {torch.nn.Linear}))
        for module in (jit.script(Net()), traced, quantised, jit.script(Forked())):
            path = tmp_path / "m.pt"
            module.save(str(path))
            assert rules(path.read_bytes(), Outcome.ALLOWED) == set()
            if not isinstance(module, jit.RecursiveScriptModule) or "Forked" not in module.original_name:
                assert rules(module._save_to_buffer_for_lite_interpreter(), Outcome.ALLOWED) == set()


def test_hostile_text_takes_no_time() -> None:
    with within(60):
        for text in (
            '"' * 200_000,
            "'\\" * 100_000,
            "a." * 100_000,
            "torch" + " . a" * 50_000,
            "\\\n" * 100_000,
            "save(" * 50_000,
            "x" * 500_000,
        ):
            list(judge_code(text))
        rng = random.Random(1)
        for _ in range(300):
            list(judge_code("".join(rng.choice("torch.save(x,\"a') #\\\n.ops") for _ in range(300))))
