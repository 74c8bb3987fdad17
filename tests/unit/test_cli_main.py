"""The command's ways out: every one ends in status 0, 1 or 2, with a message that a person can use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from safeload import __version__
from safeload.cli import progress, run
from safeload.cli.commands import COMMANDS, safeload
from safeload.errors import SafeloadWarning
from safeload.rules import RULES
from tests.forge_cli import CALL, DATA, UNKNOWN, make_tree, pickle_of_global, replace_member, write_checkpoint

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def process(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)} if (ROOT / "safeload").is_dir() else dict(os.environ)
    return subprocess.run([sys.executable, "-m", "safeload", *arguments], capture_output=True, text=True, check=False, env=env)


def test_version_answers_without_the_command_line_library() -> None:
    """The answer takes no longer than Python itself."""
    code = (
        "import sys; from safeload.cli import run; run(['--version']); print([m for m in ('click', 'rich', 'torch') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split("\n")[:2] == [f"safeload {__version__}", "[]"]


def test_python_m_safeload_is_the_command(here: Path) -> None:
    """In the environment that was chosen, whatever is first on PATH."""
    (here / "bad.pkl").write_bytes(CALL)
    done = process("scan", "bad.pkl")
    assert done.returncode == 1
    assert "os.system" in done.stdout
    assert done.stderr.startswith("refused: 1 of 1 file")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["no-such-command"],
        ["scan"],
        ["scan", "--no-such-option"],
        ["scan", "--format", "xml", "a"],
        ["scan", "--max-size", "much", "a"],
        ["scan", "--timeout", "0", "a"],
        ["explain", "SL999"],
        ["inspect", "absent.pt"],
        ["load", "absent.pt"],
        ["lock", "absent.pt"],
        ["lock"],
        ["verify"],
        ["scan", "--policy", "absent.toml", "a"],
        ["scan", "--lock", "absent.lock", "a"],
        ["convert", "--check", "a"],
    ],
)
def test_wrong_usage_is_status_2_with_a_message(arguments: list[str], capsys: Capture) -> None:
    """Nothing was judged, so it must read neither as allowed nor as refused."""
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["scan", "--help"], []])
def test_help_is_no_failure(arguments: list[str], capsys: Capture) -> None:
    """Asking is allowed. A bare `safeload` is incomplete, and shows the help, too."""
    assert run(arguments) == (0 if arguments else 2)
    out, err = capsys.readouterr()
    assert "Usage: safeload" in out + err


def test_every_command_of_the_contract_is_there() -> None:
    """And each has a help that begins with what it does."""
    assert {"scan", "lock", "verify", "convert", "inspect", "explain", "load", "demo"} <= set(COMMANDS)
    context = click.Context(safeload)
    for name in COMMANDS:
        command = safeload.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str()


def boom(error: BaseException) -> Callable[..., int]:
    def fail(*arguments: object, **more: object) -> int:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "out of memory"),
        (ZeroDivisionError("a\x1b[2Jb"), r"internal error: ZeroDivisionError: a\x1b[2Jb"),
        (RecursionError("deep"), "internal error: RecursionError"),
        (PermissionError(13, "Permission denied", "x\ny.pt"), r"x\x0ay.pt: permission denied"),
        (click.Abort(), "interrupted"),
    ],
)
def test_whatever_happens_is_one_line_and_status_2(
    error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A traceback is for those who ask for it."""
    monkeypatch.setattr(safeload, "main", boom(error))
    monkeypatch.setattr("safeload.cli.scan_run.run_scan", boom(error))
    # One line that click reads, and one that is read without it, where click's own errors cannot come from.
    for line in (["inspect", "a"], *([] if isinstance(error, click.Abort) else [["scan", "a"]])):
        assert run(line) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert "Traceback" not in err


def test_ctrl_c_while_a_class_is_made_is_status_2_too(here: Path) -> None:
    """`exec` of a text that a Ctrl-C ends makes `python -m` kill itself at its end, long after it was dealt with."""
    (here / "command.py").write_text(
        "from safeload import cli\n"
        "def stopped(arguments):\n    exec('raise KeyboardInterrupt')\n"
        "cli._guarded = stopped\n"
        "raise SystemExit(cli.run(['scan']))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)} if (ROOT / "safeload").is_dir() else dict(os.environ)
    done = subprocess.run([sys.executable, "-m", "command"], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (2, "interrupted\n")


def test_a_traceback_is_shown_to_who_asks(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """SAFELOAD_DEBUG is what the message says to set."""
    monkeypatch.setenv("SAFELOAD_DEBUG", "1")
    monkeypatch.setattr(safeload, "main", boom(ZeroDivisionError("x")))
    assert run(["inspect", "a"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_no_traceback(here: Path) -> None:
    """`safeload explain | head -1`."""
    (here / "a.pkl").write_bytes(DATA)
    command = f'"{sys.executable}" -m safeload explain | true'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=env)
    assert done.stderr == ""


def test_our_warnings_are_lines_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Not a source line of ours."""

    def warn(*arguments: object, **more: object) -> int:
        import warnings

        warnings.warn(SafeloadWarning("m.pt: no pin covers the file"), stacklevel=1)
        return 0

    monkeypatch.setattr(safeload, "main", warn)
    assert run(["inspect", "a"]) == 0
    assert capsys.readouterr().err == "warning: m.pt: no pin covers the file\n"


# ---- explain


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_is_explained(rule: str, capsys: Capture) -> None:
    """By id in any case, and by name."""
    assert run(["explain", rule.lower()]) == 0
    by_id = capsys.readouterr().out
    assert run(["explain", RULES[rule].name]) == 0
    assert capsys.readouterr().out == by_id
    assert rule in by_id


def test_an_unknown_rule_gets_suggestions(capsys: Capture) -> None:
    """A typing mistake, an id cut short, and something with a terminal escape."""
    for text, hint in (("dangerous-cal", "SL101 (dangerous-call)"), ("SL60", "SL601, SL602"), ("\x1b[2J", "lists all rules")):
        assert run(["explain", text]) == 2
        err = capsys.readouterr().err
        assert hint in err
        assert "\x1b" not in err


def test_without_a_rule_all_are_listed(capsys: Capture) -> None:
    """One line each."""
    assert run(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(RULES)


# ---- load and inspect


def test_load_says_what_it_rests_on(here: Path, capsys: Capture) -> None:
    """Decision, pin, lock and policy, in text and in JSON."""
    write_checkpoint(here / "m.pt")
    (here / "safeload.toml").write_text('unpinned = "refuse"\nallow-globals = ["acme.models.Net"]\n', encoding="utf-8")
    assert run(["load", "m.pt"]) == 1
    assert "no pin covers the file [SL602]" in capsys.readouterr().out
    assert run(["lock", "--name", "acme/m", "m.pt"]) == 0
    capsys.readouterr()
    assert run(["load", "m.pt"]) == 0
    out = capsys.readouterr().out
    for said in (
        '"acme/m" by path',
        "lock    safeload.lock",
        "policy  safeload.toml",
        'unpinned = "refuse"',
        "allow-globals: acme.models.Net",
    ):
        assert said in out
    assert run(["load", "--format", "json", "acme/m"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["decision"] == "allowed"
    assert document["pin"]["matched-by"] == "name"
    assert document["error"] is None


def test_load_refuses_as_a_load_would(here: Path, capsys: Capture) -> None:
    """With the same message and hint; --inert asks for a load that calls nothing."""
    (here / "net.pkl").write_bytes(UNKNOWN)
    assert run(["load", "net.pkl"]) == 1
    out, err = capsys.readouterr()
    assert "acme.models.Net" in out
    assert "allow-globals" in out
    assert err.endswith("refused: it would not load\n")
    assert run(["load", "--inert", "net.pkl"]) == 0
    (here / "junk.bin").write_bytes(b"\x00\x01\x02 not a model")
    assert run(["load", "junk.bin"]) == 2


def test_load_says_what_is_read_and_never_built(here: Path, capsys: Capture) -> None:
    """A model of another program is no checkpoint, however harmless it is."""
    from tests.forge_boosting import lightgbm

    (here / "model.txt").write_bytes(lightgbm())
    assert run(["scan", "model.txt"]) == 0
    assert run(["load", "model.txt"]) == 2
    shown = capsys.readouterr()
    assert "can be scanned, locked and verified" in shown.out
    assert "it would not load" in shown.err


def test_inspect_prints_the_contracts_object(here: Path, capsys: Capture) -> None:
    """Keys are added, never changed."""
    write_checkpoint(here / "m.pt")
    assert run(["inspect", "--format", "json", "m.pt"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"format", "tensors", "globals", "metadata"} <= set(document)
    assert [(t["name"], t["dtype"], t["shape"], t["nbytes"]) for t in document["tensors"]] == [
        ("weight", "float32", [2, 3], 24),
        ("bias", "float32", [2], 8),
    ]


def test_names_from_a_file_cannot_write_to_the_terminal(here: Path, capsys: Capture) -> None:
    """Escape sequences, newlines and bidi marks in globals are shown as escapes by every command."""
    (here / "bad.pkl").write_bytes(pickle_of_global("acme\u202e\x1b[2J", "x\r\ny"))
    for arguments in (["scan"], ["scan", "--format", "markdown"], ["inspect"], ["load"], ["lock"]):
        run([*arguments, "bad.pkl"])
        out, err = capsys.readouterr()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err), arguments
    run(["scan", "--format", "json", "bad.pkl"])
    assert capsys.readouterr().out.isascii()


# ---- output


def test_an_output_file_is_not_overwritten_without_force(here: Path, capsys: Capture) -> None:
    """And the refusal comes before any work."""
    make_tree(here)
    (here / "out.json").write_text("precious", encoding="utf-8")
    assert run(["scan", "--format", "json", "--output", "out.json", "model.pt"]) == 2
    assert (here / "out.json").read_text(encoding="utf-8") == "precious"
    assert run(["scan", "--format", "json", "--output", "out.json", "--force", "model.pt"]) == 0
    assert json.loads((here / "out.json").read_text(encoding="utf-8"))["version"] == 1
    assert capsys.readouterr().out == ""


def test_quiet_leaves_stderr_alone(here: Path, capsys: Capture) -> None:
    """For scripts that read the status."""
    (here / "bad.pkl").write_bytes(CALL)
    assert run(["scan", "--quiet", "bad.pkl"]) == 1
    assert capsys.readouterr().err == ""


def test_what_a_terminal_cannot_show_is_escaped(here: Path) -> None:
    """A Latin or ASCII locale must not end in a traceback."""
    write_checkpoint(here / "m.pt")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-m", "safeload", "inspect", "m.pt"], capture_output=True, check=False, env=env)
    assert done.returncode == 0
    assert rb"2\xd73" in done.stdout


def test_demo_shows_all_of_it_and_leaves_nothing(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's first command."""
    monkeypatch.setenv("SAFELOAD_LOCK", "someone-elses.lock")
    assert run(["demo"]) == 0
    out = capsys.readouterr().out
    assert "expected" not in out
    assert out.count("$ safeload") >= 9
    assert Path.cwd() == here
    assert list(here.iterdir()) == []
    assert os.environ["SAFELOAD_LOCK"] == "someone-elses.lock"


# ---- convert


def test_convert_writes_what_it_says_and_overwrites_nothing(here: Path, capsys: Capture) -> None:
    """Written, refused to overwrite, proved, and found to differ."""
    write_checkpoint(here / "m.pt")
    assert run(["convert", "--dry-run", "m.pt"]) == 0
    assert not (here / "m.safetensors").exists()
    assert capsys.readouterr().err == "would write: m.safetensors\n"
    assert run(["convert", "m.pt", "m.safetensors"]) == 0
    out, err = capsys.readouterr()
    assert "kept      2 tensors" in out
    assert err == "written: m.safetensors\n"
    before = (here / "m.safetensors").read_bytes()
    assert run(["convert", "m.pt", "m.safetensors"]) == 2
    assert (here / "m.safetensors").read_bytes() == before
    assert run(["convert", "--force", "--format", "json", "m.pt"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kept"] == ["weight", "bias"]
    assert run(["convert", "--check", "m.pt", "m.safetensors"]) == 0
    replace_member(here / "m.pt", "m/data/1", bytes(8))
    assert run(["convert", "--check", "m.pt", "m.safetensors"]) == 1
    assert "differs" in capsys.readouterr().out


def test_convert_does_not_run_what_is_hostile(here: Path, capsys: Capture) -> None:
    """What is dangerous is kept as inert data, or refused; it is never called."""
    (here / "bad.pkl").write_bytes(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch hacked\x85R.")
    assert run(["convert", "--strict", "bad.pkl"]) == 1
    run(["convert", "bad.pkl"])
    capsys.readouterr()
    assert not (here / "hacked").exists()


# ---- progress


def test_a_bar_shows_rate_and_time_left_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """And names from files cannot write through it."""
    with progress.Progress("hashing", 100, unit="bytes") as bar:
        bar.hashed("a.pt", 50, 100)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "on_terminal", lambda stream: True)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    for unit in ("bytes", "files"):
        with progress.Progress("working", None, unit=unit) as bar:
            bar.hashed("a\x1b[2J.pt", 50, 100)
            bar.reach(80, 100)
            bar.advance(20, "b.pt")
        assert "\x1b[2J" not in capsys.readouterr().err
    with progress.Progress("hashing", 100, unit="bytes", quiet=True) as bar:
        bar.advance(100)
    assert capsys.readouterr().err == ""


def test_the_total_of_a_bar_is_what_will_be_hashed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, directories, or everything that is pinned; unknown where it cannot be told."""
    make_tree(here)
    assert progress.bytes_of(["model.pt"], None) is None
    monkeypatch.setattr(progress, "on_terminal", lambda stream: True)
    size = (here / "model.pt").stat().st_size
    assert progress.bytes_of(["model.pt", "sub"], None) == size + (here / "sub" / "x.safetensors").stat().st_size
    assert progress.bytes_of([], None) is None
    assert progress.bytes_of(["absent"], None) is None
    assert run(["lock", "-q", "model.pt"]) == 0
    assert progress.bytes_of([], None) == size


def test_a_directory_is_converted_file_by_file_and_only_once(here: Path, capsys: Capture) -> None:
    """Each beside itself; a second run finds that it is done."""
    (here / "m").mkdir()
    write_checkpoint(here / "m" / "a.pt")
    (here / "m" / "README.md").write_text("# hello\n", encoding="utf-8")
    assert run(["convert", "m"]) == 0
    assert "m/a.pt  converted" in capsys.readouterr().out
    assert (here / "m" / "a.safetensors").exists()
    assert run(["convert", "--format", "json", "m"]) == 0
    outcomes = {entry["path"]: entry["outcome"] for entry in json.loads(capsys.readouterr().out)["files"]}
    assert outcomes["m/a.pt"] == "present"
    assert run(["convert", "m", "elsewhere"]) == 2


def test_export_writes_a_checkpoint_that_is_allowed(here: Path, capsys: Capture) -> None:
    """There and back."""
    write_checkpoint(here / "m.pt")
    assert run(["convert", "m.pt"]) == 0
    assert run(["export", "m.safetensors", "back.pt"]) == 0
    assert run(["export", "m.safetensors", "back.pt"]) == 2
    assert run(["scan", "back.pt"]) == 0
    assert "torch-zip  allowed" in capsys.readouterr().out
