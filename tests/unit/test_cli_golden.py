"""What commands print, word for word. `UPDATE_GOLDEN=1 pytest tests/unit/test_cli_golden.py` writes it anew: read the diff."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from safeload import __version__
from safeload.cli import run
from tests.forge_cli import CALL, make_tree, pickle_of_global, replace_member, write_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(name: str, text: str) -> None:
    """Compare with the file that is kept, or write it."""
    path = GOLDEN / name
    text = text.replace(str(Path.cwd()), "/work").replace(__version__, "VERSION")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} is another; UPDATE_GOLDEN=1 writes it anew"


def output(capsys: Capture, *arguments: str) -> str:
    """Both streams of one command, and its status."""
    status = run(arguments)
    out, err = capsys.readouterr()
    return f"$ safeload {' '.join(arguments)}\n{out}--- stderr\n{err}--- status {status}\n"


def without_pages(document: Any) -> Any:
    """Rule pages are golden by themselves."""
    for rule in document["runs"][0]["tool"]["driver"]["rules"]:
        rule["help"] = "…"
    return document


def make_all(here: Path) -> None:
    """The tree, and names that try to write to the terminal."""
    make_tree(here)
    (here / "names.pkl").write_bytes(pickle_of_global("acme\x1b[2J", "x\r\n`y` | <b>z</b>"))


@pytest.mark.parametrize(("kind", "ending"), [("text", "txt"), ("json", "json"), ("sarif", "sarif"), ("markdown", "md")])
def test_scan(here: Path, capsys: Capture, kind: str, ending: str) -> None:
    """One tree in every format."""
    make_all(here)
    if kind == "text":
        compare("scan.txt", output(capsys, "scan", "."))
        return
    run(["scan", "--format", kind, "."])
    text = capsys.readouterr().out
    if kind == "sarif":
        text = json.dumps(without_pages(json.loads(text)), indent=2, ensure_ascii=False) + "\n"
    compare(f"scan.{ending}", text)


def test_lock_and_verify(here: Path, capsys: Capture) -> None:
    """From the first pin to a change that is refused."""
    make_all(here)
    shown = [output(capsys, "lock", "model.pt", "hostile.pt", "sub"), output(capsys, "verify"), output(capsys, "lock", "--check")]
    replace_member(here / "model.pt", "model/data/0", bytes(24))
    shown += [output(capsys, "verify"), output(capsys, "lock", "--check"), output(capsys, "lock")]
    (here / "model.pt").write_bytes(CALL)
    shown += [output(capsys, "lock"), output(capsys, "verify", "--format", "json")]
    compare("lock_verify.txt", "\n".join(shown))


def test_load(here: Path, capsys: Capture) -> None:
    """Allowed, refused, changed."""
    pytest.importorskip("torch", reason="without torch the command says that it is missing, and the text is another")
    make_all(here)
    shown = [output(capsys, "load", "model.pt"), output(capsys, "load", "hostile.pt"), output(capsys, "load", "unknown.pkl")]
    run(["lock", "model.pt"])
    capsys.readouterr()
    shown += [output(capsys, "load", "model.pt"), output(capsys, "load", "--format", "json", "model.pt")]
    compare("load.txt", "\n".join(shown))


def test_inspect(here: Path, capsys: Capture) -> None:
    """As a table, as JSON and as code."""
    write_checkpoint(here / "model.pt")
    (here / "bad.pkl").write_bytes(CALL)
    shown = [
        output(capsys, "inspect", "model.pt"),
        output(capsys, "inspect", "--format", "json", "model.pt"),
        output(capsys, "inspect", "--decompile", "bad.pkl"),
    ]
    compare("inspect.txt", "\n".join(shown))
