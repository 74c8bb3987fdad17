"""`safeload run` and `safeload trace`: an unmodified program, covered."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import safeload

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def command(*arguments: str, directory: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "safeload", *arguments], capture_output=True, text=True, check=False, cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SAFELOAD_LOCK": ""}, **options,
    )  # fmt: skip


def plain_python(*arguments: str, directory: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SAFELOAD_LOCK": ""}, **options,
    )  # fmt: skip


SHOW = """
import sys
print(__name__, __file__, sys.argv, sys.path[:2], __spec__ and __spec__.name, __package__)
"""

ENDINGS = {
    "end": "",
    "exit": "import sys; sys.exit(7)",
    "message": "import sys; sys.exit('no')",
    "error": "def f():\n    raise ValueError('bad')\nf()",
    "interrupt": "raise KeyboardInterrupt",
    "signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "atexit": "import atexit; atexit.register(print, 'bye')",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_runs_and_ends_as_it_does_by_itself(name: str, tmp_path: Path) -> None:
    """Same output, same traceback, same status: nothing of safeload is around it."""
    (tmp_path / "program.py").write_text(SHOW + ENDINGS[name])
    mine = command("run", "program.py", "--guard", "-x", directory=tmp_path)
    theirs = plain_python("program.py", "--guard", "-x", directory=tmp_path)
    assert (mine.stdout, mine.stderr, mine.returncode) == (theirs.stdout, theirs.stderr, theirs.returncode)


def test_modules_standard_input_and_code_run_as_python_runs_them(tmp_path: Path) -> None:
    """-m, - and -c mean what they mean for python."""
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(SHOW)
    code = "import sys; print(sys.argv)"
    for line, stdin in ((["-m", "pack", "--quiet"], None), (["-", "a"], code), (["-c", code, "b"], None)):
        mine = command("run", "--unknown", "inert", *line, directory=tmp_path, input=stdin)
        theirs = plain_python(*line, directory=tmp_path, input=stdin)
        assert (mine.stdout, mine.stderr, mine.returncode) == (theirs.stdout, theirs.stderr, theirs.returncode)


def test_a_sitecustomize_of_ones_own_still_runs(tmp_path: Path) -> None:
    """Ours stands in front of it on the path, and hands over."""
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.seen = 'mine'")
    code = "print(seen, __import__('sitecustomize').__file__)"
    done = subprocess.run(
        [sys.executable, "-m", "safeload", "run", "-c", code], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )  # fmt: skip
    assert done.stdout == f"mine {tmp_path / 'sitecustomize.py'}\n", done.stderr


def test_a_program_that_cannot_be_covered_is_not_started(tmp_path: Path) -> None:
    """A broken policy must not mean: no policy."""
    (tmp_path / "program.py").write_text("print('ran')")
    (tmp_path / "safeload.toml").write_text("unpinned = 3")
    done = command("run", "program.py", directory=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    environ = {"SAFELOAD_RUN": "{", "PYTHONPATH": str(Path(safeload.__file__).parent / "installing" / "startup")}
    later = subprocess.run(
        [sys.executable, "program.py"], capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, **environ}
    )
    assert (later.returncode, later.stdout) == (2, "")
    assert "could not be covered" in later.stderr


SPAWNS = """
import collections, multiprocessing, pickle, sys
def work():
    pickle.loads(pickle.dumps(collections.OrderedDict(a=1)))
    try:
        pickle.loads(b"cargparse\\nNamespace\\n.")
    except pickle.UnpicklingError:
        sys.exit(7)
if __name__ == "__main__":
    for how in sys.argv[1:]:
        child = multiprocessing.get_context(how).Process(target=work)
        child.start()
        child.join()
        print(how, child.exitcode)
"""


def test_the_guard_of_a_program_lets_its_children_start_and_stays_on_in_them(tmp_path: Path) -> None:
    """A spawned child is covered twice, by the environment and by its parent, and what the parent sends must pass the first."""
    (tmp_path / "program.py").write_text(SPAWNS)
    done = command("run", "--guard", "enforce", "program.py", "fork", "spawn", "forkserver", directory=tmp_path)
    assert done.stdout.splitlines() == ["fork 7", "spawn 7", "forkserver 7"], done.stderr


LOADS = """
import os, sys, torch
class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("ran",))
torch.save({"a": torch.ones(2)}, "good.pt")
torch.save(Hostile(), "bad.pt")
print("loading")
import pickle
with open("other.pkl", "wb") as file:
    pickle.dump(Hostile(), file)
with open("other.pkl", "rb") as file:
    file.read()
with open("text.bin", "w") as file:
    file.write("no model")
open("text.bin").close()
for name in ("good.pt", "good.pt", "bad.pt", "text.pt"):
    try:
        torch.load(name)
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.mark.torch
def test_trace_lists_every_load_with_its_decision_and_digest(tmp_path: Path) -> None:
    """What is there to pin, and what stands in the way; the program's own output goes elsewhere."""
    (tmp_path / "program.py").write_text(LOADS)
    (tmp_path / "text.pt").write_text("version https://example.invalid\n")
    done = command("trace", "--format", "json", "--lock", "program.py", directory=tmp_path)
    assert "loading" in done.stderr
    found = json.loads(done.stdout)
    assert [(Path(file["path"]).name, file["decision"], file["loads"]) for file in found["files"]] == [
        ("good.pt", "allowed", 2), ("bad.pt", "refused", 1), ("text.pt", "error", 1), ("other.pkl", "refused", 1),
    ]  # fmt: skip
    assert [file["loader"] for file in found["files"]] == ["torch.load", "torch.load", "torch.load", "other"]
    assert found["files"][0]["sha256"] == hashlib.sha256((tmp_path / "good.pt").read_bytes()).hexdigest()
    assert (found["status"], done.returncode) == (0, 2)
    assert not (tmp_path / "ran").exists()
    lock = (tmp_path / "safeload.lock").read_text()
    assert found["files"][0]["sha256"] in lock
    assert "bad.pt" not in lock
    again = command("run", "program.py", directory=tmp_path)
    assert again.stdout.splitlines() == ["loading", "RefusedError", "NotAModelError"]
