"""Pay for what you use: what may not be imported by what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forge_zip import torch_zip

ROOT = Path(__file__).parents[2]
HEAVY = frozenset({"torch", "numpy", "sigstore", "rich", "click", "fickling", "safetensors", "cryptography", "filelock", "tomli_w"})
NETWORK = frozenset({"socket", "ssl", "http.client", "urllib.request", "requests", "asyncio"})


def imported_by(code: str, directory: Path) -> frozenset[str]:
    """Return the modules that are in a fresh process after `code`, without those that Python itself brings."""
    script = f"import sys\nbefore = set(sys.modules)\n{code}\nimport json\nprint('\\n' + json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=directory, env=_environment())
    assert done.returncode == 0, done.stderr
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def _environment() -> dict[str, str]:
    """Return this process's environment with the source tree first, for runs that did not install safeload."""
    import os

    paths = [str(ROOT)] if (ROOT / "safeload").is_dir() else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_import_safeload_imports_nothing_heavy(tmp_path: Path) -> None:
    """Applications import safeload where they import torch, and also where they never load a model."""
    modules = imported_by("import safeload", tmp_path)
    assert not modules & HEAVY
    assert not modules & NETWORK


def test_public_names_are_there_without_being_imported(tmp_path: Path) -> None:
    """Completion and `from safeload import load` work although names are resolved late."""
    code = "import safeload\nassert {'load', 'open', 'state_dict', 'scan', 'lock', 'verify', 'convert'} <= set(dir(safeload))"
    assert not imported_by(code, tmp_path) & HEAVY


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["explain", "SL101"]])
def test_commands_that_answer_at_once_import_no_torch(arguments: list[str], tmp_path: Path) -> None:
    """Somebody who only asks what a rule means does not wait for torch."""
    modules = imported_by(_command(arguments), tmp_path)
    assert not modules & {"torch", "numpy", "sigstore", "fickling", "cryptography"}


def test_scan_imports_no_torch_and_no_network(tmp_path: Path) -> None:
    """Scanning, locking and converting work where torch is not installed, and nothing is ever sent."""
    (tmp_path / "small.pkl").write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.")
    modules = imported_by(_command(["scan", "small.pkl", "--format", "json"]), tmp_path)
    assert not modules & {"torch", "numpy", "sigstore", "fickling", "cryptography", *NETWORK}


# Each costs a start one to forty milliseconds; a small file is scanned in less.
SLOW_TO_IMPORT = frozenset(
    {"click", "rich", "dataclasses", "inspect", "pathlib", "json", "hashlib", "pickle", "tomllib", "datetime", "uuid", "decimal", "urllib"}
)


@pytest.mark.parametrize("name", ["small.pkl", "small.zip"])
def test_a_plain_scan_imports_what_it_needs(name: str, tmp_path: Path) -> None:
    """A command that is called for each file of a hook or a registry is paid for by its imports."""
    (tmp_path / "small.pkl").write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.")
    (tmp_path / "small.zip").write_bytes(torch_zip({"data.pkl": b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", "version": b"3\n"}))
    # An editable installation brings some of them along before anything of ours runs, hence the flag.
    arguments = [sys.executable, "-I", "-S", "-c"]
    script = f"import sys; sys.path[:0] = {_places()!r}\n{_command(['scan', name])}\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([*arguments, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.splitlines()[-1].split()) & SLOW_TO_IMPORT


def _places() -> list[str]:
    """Where safeload lies: the source tree, or where it is installed."""
    import safeload

    return [str(Path(safeload.__file__).parents[1])]


def _command(arguments: list[str]) -> str:
    """Return code that runs one command in the same process and swallows its exit."""
    lines = [
        f"sys.argv[1:] = {arguments!r}",
        "from safeload.cli import main",
        "try:",
        "    main()",
        "except SystemExit as stop:",
        "    assert not stop.code, stop.code",
    ]
    return "\n".join(lines)
