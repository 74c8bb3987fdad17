"""The hook, the action and the package say things about the command line; what they say must stay true."""

from __future__ import annotations

import re
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
    assert calls
    for command, options in calls:
        shown = help_of(command)
        for option in options.split():
            assert option in shown, (command, option)


def test_the_hook_passes_the_names_of_model_files_and_no_others() -> None:
    """A file that is named and that no reader claims is an error, so a broad pattern would fail every commit."""
    patterns = re.findall(r"^  files: (.+)$", (ROOT / ".pre-commit-hooks.yaml").read_text(), re.MULTILINE)
    scan, lock = map(re.compile, patterns)
    for name in ("m.pt", "a/b.PTH", "c.ckpt", "chgnet.pth.tar", "w.safetensors", "x.joblib"):
        assert scan.search(name), name
        assert lock.search(name), name
    for name in ("source.tar", "a.py", "pt", "README.md", "data.json"):
        assert not scan.search(name), name
    assert lock.search("models/safeload.lock")


def test_the_version_stands_in_one_place() -> None:
    """The build reads it from the package, and so does `--version`."""
    import safeload

    assert pyproject()["project"]["dynamic"] == ["version"]
    assert re.search(rf'^__version__ = "{re.escape(safeload.__version__)}"$', (ROOT / "safeload" / "__init__.py").read_text(), re.MULTILINE)


def test_the_extension_is_optional_and_rebuilt_when_its_types_change() -> None:
    """Without a compiler the plain machine must do; with stale C the compiled one would be another judge."""
    (extension,) = pyproject()["tool"]["setuptools"]["ext-modules"]
    assert extension["optional"] is True
    for path in [*extension["sources"], *extension["depends"]]:
        assert (ROOT / path).is_file(), path
    assert 'include "_machine.pxd"' in (ROOT / "safeload" / "walk" / "_machine_c.pxd").read_text()


def test_the_compiled_machine_has_its_c_types() -> None:
    """If Cython missed the .pxd, the extension would work, slowly, and differ from the pure machine nowhere that tests look."""
    compiled = pytest.importorskip("safeload.walk._machine_c")
    from safeload.walk import _machine

    assert hasattr(_machine, "_u32")
    assert not hasattr(compiled, "_u32"), "a C function has no Python name"
