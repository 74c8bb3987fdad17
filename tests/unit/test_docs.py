"""The code blocks of README.md and docs/ are run: what a reader copies works, and what they are shown is what comes.

The blocks of one file run in order, in one temporary directory, the Python ones in one namespace. What lies in it:

* `model.pt`: a state dict that `torch.save` wrote, `{"weight": 2×3 float32, "bias": 2 float32}`;
* `hostile.pt`: a torch archive whose stream calls `os.system`;
* for docs/signing.md, what `tests/forge_published.py` makes: signed models of several publishers, and a Sigstore to sign with.

How a block is run is decided by its language:

* ```` ```python ```` is executed; with `>>>` in it, it is a doctest.
* ```` ```console ```` holds lines `$ command`, continued with a backslash, each followed by all that it prints on stdout
  and stderr. A command may fail only where the page says so: by a comment, `$ safeload scan hostile.pt  # exit status 1`,
  or by asking for the status next, `$ echo $?`.
* ```` ```sh ```` is executed as one script that may not fail; its output is not compared.
* Any other language is not run, and neither is a block right below a line `<!-- not run: why -->`.

In expected output `…` stands for any text, over line ends too; trailing white space does not count.
"""

from __future__ import annotations

import doctest
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = tuple(sorted(path for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if path.is_file()))
FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<body>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
NOT_RUN: Final = re.compile(r"<!-- not run: .+ -->\s*\Z")
STATUS: Final = re.compile(r"#\s*exit(?: status)? (\d+)\s*$")
RUNNABLE: Final = frozenset({"python", "console", "sh"})
HOSTILE: Final = b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03."


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is that of its first line of code, counted from 1."""

    page: Path
    line: int
    language: str
    body: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that are to be run."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match["language"] in RUNNABLE and not NOT_RUN.search(text[: match.start()]):
            indent = match["indent"]
            body = "".join(line.removeprefix(indent) for line in match["body"].splitlines(keepends=True))
            yield Block(page, text.count("\n", 0, match.start("body")) + 1, match["language"], body)


def fits(expected: str, output: str) -> bool:
    """Whether `output` is what the page shows, with `…` for any text."""
    parts = [re.escape(part) for part in _trimmed(expected).split("…")]
    return re.fullmatch(".*?".join(parts), _trimmed(output), re.DOTALL) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


class Shell:
    """Runs commands in one directory, with `safeload` and `python` meaning the ones under test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tools = directory / ".tools"
        tools.mkdir()
        for name, command in (("python", ""), ("safeload", " -m safeload")):
            script = tools / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n')
            script.chmod(0o755)
        sources = [str(ROOT)] if (ROOT / "safeload").is_dir() else []
        self.env = {
            **os.environ,
            "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([*sources, *filter(None, [os.environ.get("PYTHONPATH")])]),
            "COLUMNS": "120",
            "PYTHONWARNINGS": "ignore",
        }

    def run(self, command: str, *, check: bool = False) -> tuple[int, str]:
        """Return exit status and output, both streams as they would mix on a terminal."""
        arguments = ["sh", "-e", "-c", command] if check else ["sh", "-c", command]
        done = subprocess.run(
            arguments,
            cwd=self.directory,
            env=self.env,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done.returncode, done.stdout.decode()


def commands_of(block: Block) -> Iterator[tuple[int, str, str]]:
    """Yield line number, command and expected output of a console block."""
    found: list[tuple[int, list[str], list[str]]] = []
    continued = False
    for number, line in enumerate(block.body.splitlines(), block.line):
        if continued:
            found[-1][1].append(line.removeprefix("> "))
        elif line.startswith("$ "):
            found.append((number, [line[2:]], []))
        elif found:
            found[-1][2].append(line)
        elif line.strip():
            pytest.fail(f"{block.where}: a console block starts with '$ command', not with {line!r}")
        continued = bool(found) and not found[-1][2] and found[-1][1][-1].endswith("\\") and (continued or line.startswith("$ "))
    for number, command, output in found:
        yield number, "\n".join(command), "\n".join(output)


def run_console(block: Block, shell: Shell) -> None:
    """Run each command and compare what it prints, and how it ends."""
    commands = list(commands_of(block))
    last = 0
    for index, (number, command, expected) in enumerate(commands):
        place = f"{block.page.relative_to(ROOT)}:{number}: $ {command}"
        if command.strip() == "echo $?":
            assert expected.strip() == str(last), f"{place}\nthe page says {expected.strip()}, the status was {last}"
            continue
        last, output = shell.run(command)
        assert fits(expected, output), f"{place}\n--- the page shows\n{expected}\n--- it printed\n{output}"
        said = STATUS.search(command)
        asked = index + 1 < len(commands) and commands[index + 1][1].strip() == "echo $?"
        if not asked:
            wanted = int(said[1]) if said else 0
            assert last == wanted, f"{place}\nexit status {last}, and the page does not say so\n{output}"


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Execute a block, or check it as a doctest."""
    if ">>>" not in block.body:
        # the padding makes tracebacks name the page's own line
        exec(compile("\n" * (block.line - 1) + block.body, str(block.page), "exec"), namespace)
        return
    test = doctest.DocTestParser().get_doctest(block.body, namespace, block.where, str(block.page), block.line - 1)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with pytest.MonkeyPatch.context() as patch:
        # "…" as doctest's checker spells it; its own "..." would, at the start of a line, be the prompt of a continued one
        patch.setattr(doctest, "ELLIPSIS_MARKER", r"\u2026")
        failed, _ = runner.run(test, out=report.write, clear_globs=False)
    namespace.update(test.globs)
    assert not failed, report.getvalue()


def make_files(directory: Path) -> None:
    """Make the files that the pages speak of."""
    import torch

    torch.save({"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}, directory / "model.pt")
    with zipfile.ZipFile(directory / "hostile.pt", "w") as archive:
        archive.writestr("hostile/data.pkl", HOSTILE)
        archive.writestr("hostile/byteorder", "little")
        archive.writestr("hostile/version", "3\n")


@pytest.fixture
def reading_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a directory with the pages' files, and undo what a page did to the process."""
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    safeload = sys.modules.get("safeload")
    if safeload is not None and "uninstall" in dir(safeload):
        safeload.uninstall()


@pytest.mark.torch
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_do_what_the_page_says(page: Path, reading_room: Path) -> None:
    """A page that shows what does not happen is worse than none."""
    with prepared(page, reading_room):
        shell = Shell(reading_room)
        namespace: dict[str, Any] = {"__name__": "__page__"}
        for block in blocks_of(page):
            if block.language == "python":
                run_python(block, namespace)
            elif block.language == "console":
                run_console(block, shell)
            else:
                status, output = shell.run(block.body, check=True)
                assert status == 0, f"{block.where}: exit status {status}\n{output}"


@contextmanager
def prepared(page: Path, directory: Path) -> Iterator[None]:
    """Make what only one page speaks of, and serve it while that page is run."""
    if page.name != "signing.md":
        yield
        return
    from tests.forge_published import published

    with published(directory):
        yield


def a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> list[Block]:
    """Return the blocks of a page with this text."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    return list(blocks_of(tmp_path / "page.md"))


@pytest.mark.parametrize(
    "body",
    [
        "$ echo one\ntwo\n",
        "$ echo one\n",
        "$ false\n",
        "$ false\n$ echo $?\n0\n",
        "$ true  # exit status 1\n",
        "$ printf 'a\\nb\\nc\\n'\na\n…\nd\n",
    ],
)
def test_a_console_block_that_is_wrong_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A test that cannot fail is a defect."""
    (block,) = a_page(tmp_path, monkeypatch, f"```console\n{body}```\n")
    with pytest.raises(AssertionError):
        run_console(block, Shell(tmp_path))


def test_a_console_block_that_is_right_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the page may say about one command: output, wildcard, continuation, status."""
    body = "$ printf '%s\\n' a b \\\n    c\na\n…\nc\n$ false\n$ echo $?\n1\n$ sh -c 'exit 2'  # exit status 2\n"
    (block,) = a_page(tmp_path, monkeypatch, f"text\n\n```console\n{body}```\n")
    run_console(block, Shell(tmp_path))


def test_a_python_block_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names live on from block to block, a wrong result fails, and what is marked is left alone."""
    checked = ["x = 6", ">>> x * 7\n42", ">>> print('a b c')\n… c", ">>> x\n7"]
    text = "".join(f"```python\n{body}\n```\n\n" for body in checked)
    text += "```text\nnot run\n```\n\n<!-- not run: it would fail -->\n```python\n1 / 0\n```\n"
    *right, wrong = a_page(tmp_path, monkeypatch, text)
    namespace: dict[str, Any] = {}
    for block in right:
        run_python(block, namespace)
    with pytest.raises(AssertionError, match=r"Expected:\s+7\s+Got:\s+6"):
        run_python(wrong, namespace)
