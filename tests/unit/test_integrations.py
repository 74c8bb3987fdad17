"""The hook, the action and the package say things about the command line; what they say must stay true."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

if not (ROOT / "action.yml").is_file():
    pytest.skip("runs in the source tree", allow_module_level=True)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def help_of(command: str) -> str:
    """Return what `safeload COMMAND --help` prints."""
    done = subprocess.run([sys.executable, "-m", "safeload", command, "--help"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["action.yml", ".pre-commit-hooks.yaml"])
def test_options_that_other_programs_pass_exist(name: str) -> None:
    """A renamed option would break every repository that uses the hook or the action."""
    text = (ROOT / name).read_text()
    calls = re.findall(r"safeload\"? (scan|lock|verify)((?: --[\w-]+)*)", text)
    calls += [("scan", options) for options in re.findall(r"\{scan\[@\]\}\"((?: --[\w-]+(?: [a-z]+)?)*)", text)]
    assert calls
    for command, options in calls:
        shown = help_of(command)
        for option in re.findall(r"--[\w-]+", options):
            assert option in shown, (command, option)


def test_the_hook_passes_the_names_of_model_files_and_no_others() -> None:
    """A file that is named and that no reader claims is an error, so a broad pattern would fail every commit."""
    patterns = re.findall(r"^  files: (.+)$", (ROOT / ".pre-commit-hooks.yaml").read_text(), re.MULTILINE)
    scan, lock = map(re.compile, patterns)
    for name in (
        "m.pt", "a/b.PTH", "c.ckpt", "chgnet.pth.tar", "w.safetensors", "x.joblib", "x.pkl.gz", "m.gguf", "m.keras", "m.7z", "m.pt2",
    ):  # fmt: skip
        assert scan.search(name), name
        assert lock.search(name), name
    for name in ("source.tar", "a.py", "pt", "README.md", "data.json"):
        assert not scan.search(name), name
    assert lock.search("models/safeload.lock")


def test_text_pickles_are_passed_to_the_hook() -> None:
    """A pickle of protocol 0 is text to whoever tells files apart by their bytes."""
    assert "types: [binary]" not in (ROOT / ".pre-commit-hooks.yaml").read_text()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the action's steps are bash")
def test_the_actions_step_scans_once_and_writes_three_results(tmp_path: Path) -> None:
    """As a runner runs it: inputs as variables, outputs and the summary as files, a path that looks like a command."""
    step = re.search(r"PATHS: .*\n      run: \|\n((?:        .*\n|\n)+)", (ROOT / "action.yml").read_text())
    assert step is not None
    program = tmp_path / "safeload" / "bin" / "safeload"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m safeload "$@"\n')
    program.chmod(0o755)
    (tmp_path / "$(true).pkl").write_bytes(b"\x80\x02}.")
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    names = {"RUNNER_TEMP": ".", "GITHUB_OUTPUT": "out", "GITHUB_STEP_SUMMARY": "summary.md"}
    environ = {**os.environ, **{key: str(tmp_path / value) for key, value in names.items()}, "PATHS": "$(true).pkl\n\nevil.pkl\n"}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    script = "\n".join(line[8:] for line in step[1].splitlines())
    done = subprocess.run(["bash", "-e", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert "calls os.system('true')" in done.stdout
    assert dict(line.split("=", 1) for line in (tmp_path / "out").read_text().splitlines())["status"] == "1"
    (run,) = json.loads((tmp_path / "safeload.sarif").read_text())["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["SL101"]
    assert "2 files: 1 allowed, 1 refused" in (tmp_path / "summary.md").read_text()


def test_the_version_stands_in_one_place() -> None:
    """The build reads it from the package, and so does `--version`."""
    import safeload

    assert pyproject()["project"]["dynamic"] == ["version"]
    assert re.search(rf'^__version__ = "{re.escape(safeload.__version__)}"$', (ROOT / "safeload" / "__init__.py").read_text(), re.MULTILINE)


def test_the_extension_is_optional_and_rebuilt_when_its_types_change() -> None:
    """Without a compiler the plain machine must do; with stale C the compiled one would be another judge."""
    extensions = pyproject()["tool"]["setuptools"]["ext-modules"]
    assert "safeload.walk._machine_c" in {extension["name"] for extension in extensions}
    for extension in extensions:
        assert extension["optional"] is True
        for path in [*extension["sources"], *extension.get("depends", ())]:
            assert (ROOT / path).is_file(), path
    assert 'include "_machine.pxd"' in (ROOT / "safeload" / "walk" / "_machine_c.pxd").read_text()


def test_the_compiled_machine_has_its_c_types() -> None:
    """If Cython missed the .pxd, the extension would work, slowly, and differ from the pure machine nowhere that tests look."""
    compiled = pytest.importorskip("safeload.walk._machine_c")
    from safeload.walk import _machine

    assert hasattr(_machine, "_u32")
    assert not hasattr(compiled, "_u32"), "a C function has no Python name"
