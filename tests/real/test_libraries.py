"""Libraries read the checkpoints that they wrote, with safeload in the place of `torch.load` and without: the same output.

They run in an environment of their own, which `./run real` makes and names in `SAFELOAD_LIBRARIES`.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.real.table import LIBRARIES, WRITERS, Library

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = os.environ.get("SAFELOAD_LIBRARIES", "")
# program → the package whose version counts
KNOWN: Final = {
    "trainer": "transformers", "accelerating": "accelerate", "diffusing": "diffusers", "adapting": "peft", "igniting": "pytorch-ignite",
    "checkpointing": "fvcore", "hub": "torch",
}  # fmt: skip

pytestmark = pytest.mark.skipif(not PYTHON, reason="the environment of the libraries is made by ./run real")


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the libraries' Python in an empty directory, each time of the same name: some print where they are."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SAFELOAD_")}
    environ |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return subprocess.run([PYTHON, *arguments], capture_output=True, text=True, check=False, cwd=directory, env=environ)


def version(package: str, directory: Path) -> str:
    asked = run(directory, "-c", f"from importlib.metadata import version; print(version({package!r}).partition('+')[0])")
    return asked.stdout.strip()


@pytest.mark.parametrize("name", KNOWN)
def test_a_library_reads_its_own_checkpoints(name: str, tmp_path: Path) -> None:
    """Output and exit status, with no more permission than that nothing is pinned; and torch.load was what read them."""
    described = ast.get_docstring(ast.parse((ROOT / "tests/real/libraries" / f"{name}.py").read_text(encoding="utf-8"))) or ""
    what = described.partition(": ")[2].rstrip(".")
    row = LIBRARIES[name] = Library(f"{KNOWN[name]} {version(KNOWN[name], tmp_path / 'version')}", what)
    program = ("-m", f"tests.real.libraries.{name}")
    by_itself = run(tmp_path / "work", *program)
    assert by_itself.returncode == 0, by_itself.stderr
    assert by_itself.stdout

    policy, listed = tmp_path / "safeload.toml", tmp_path / "list.json"
    policy.write_text('unpinned = "allow"\n')
    given = ("--policy", str(policy), "--format", "json", "-o", str(listed))
    covered = run(tmp_path / "work", "-m", "safeload", "trace", *given, "--", *program)
    assert (covered.stdout, covered.returncode) == (by_itself.stdout, 0), covered.stderr
    found = [file for file in json.loads(listed.read_text(encoding="utf-8"))["files"] if file["loader"] == "torch.load"]
    assert found
    assert all(file["decision"] == "allowed" for file in found)
    row.loads, row.run = f"{len(found)} file{'s' if len(found) > 1 else ''}", "same output"


def test_the_documentation_quotes_this_table() -> None:
    """A table in prose that no run produced is a claim."""
    assert WRITERS.agrees(LIBRARIES.values()), "SAFELOAD_UPDATE_DOCS=1 ./run real"
