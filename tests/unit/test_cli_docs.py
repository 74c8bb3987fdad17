"""The manual's help blocks are what `--help` prints. `UPDATE_GOLDEN=1 pytest tests/unit/test_cli_docs.py` writes them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from safeload.cli import run
from safeload.cli.commands import COMMANDS

MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"
BLOCK = re.compile(r"(?P<head><!-- help: (?P<name>\S*) -->\n```text\n)(?P<body>.*?)(?P<tail>```\n)", re.DOTALL)


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run([name, "--help"] if name else ["--help"]) == 0
    return "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())


def test_help_blocks_are_what_the_commands_print(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A manual that is wrong about an option is worse than none."""
    monkeypatch.setenv("COLUMNS", "102")
    text = MANUAL.read_text(encoding="utf-8")
    blocks = {match["name"]: match["body"] for match in BLOCK.finditer(text)}
    assert set(blocks) == {"", *COMMANDS}, "every command has a block in docs/cli.md"
    printed = {name: help_of(name, capsys) for name in blocks}
    if os.environ.get("UPDATE_GOLDEN"):
        MANUAL.write_text(BLOCK.sub(lambda match: match["head"] + printed[match["name"]] + match["tail"], text), encoding="utf-8")
        return
    assert blocks == printed


def test_shell_completion_is_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As the manual says."""
    for shell in ("zsh", "fish"):
        monkeypatch.setenv("_SAFELOAD_COMPLETE", f"{shell}_source")
        with pytest.raises(SystemExit) as stop:
            run([])
        assert stop.value.code == 0
        assert "_SAFELOAD_COMPLETE" in capsys.readouterr().out
