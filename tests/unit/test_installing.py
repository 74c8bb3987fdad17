"""`safeload.install`: every way to torch.load is covered, and given back."""

from __future__ import annotations

import collections
import copy
import inspect
import io
import os
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import PolicyError, RefusedError, SafeloadWarning, UnpinnedWarning, UsageError
from safeload.installing.switch import _STATE, current_options

ROOT = Path(__file__).parents[2]
ALLOW: dict[str, Any] = {"policy": {"unpinned": "allow"}, "lock": False}


class Hostile:
    """Would write a file when a pickle of it is loaded by something that runs pickles."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Nothing stays installed."""
    yield
    while _STATE.entries:
        _STATE.remove(_STATE.entries[-1])


def python(code: str, directory: Path, **environ: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=directory,
        env={**os.environ, "PYTHONPATH": paths, **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- without torch


def test_install_imports_no_torch(tmp_path: Path) -> None:
    """A program that never loads a model must not wait for torch because it is covered."""
    out = python("import sys, safeload\nsafeload.install()\nprint([name for name in ('torch', 'numpy') if name in sys.modules])", tmp_path)
    assert out == "[]\n"


def test_uninstall_without_install_is_nothing() -> None:
    """As for every switch."""
    before = list(sys.meta_path)
    safeload.uninstall()
    assert sys.meta_path == before


def test_a_mistake_shows_when_it_is_made_and_leaves_nothing_installed(tmp_path: Path) -> None:
    """Not at the first load, deep inside somebody's code."""
    with pytest.raises(UsageError, match="guard is 'on'"):
        safeload.install(guard="on")
    with pytest.raises(UsageError, match="unknown is 'ignore'"):
        safeload.install(unknown="ignore")
    broken = tmp_path / "safeload.toml"
    broken.write_text("unpinned = 3")
    with pytest.raises(PolicyError):
        safeload.install(policy=broken)
    assert current_options() is None


def test_policy_is_looked_for_where_the_program_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ships a model must not ship its policy: a program that changes into the model's directory keeps its own."""
    here, model = tmp_path / "program", tmp_path / "model"
    here.mkdir()
    model.mkdir()
    (here / "safeload.toml").write_text('unpinned = "refuse"')
    (model / "safeload.toml").write_text('unpinned = "allow"')
    monkeypatch.chdir(here)
    safeload.install(lock=False)
    monkeypatch.chdir(model)
    options = current_options()
    assert options is not None
    assert options.context().policy.unpinned == "refuse"
    (here / "safeload.toml").write_text('unpinned = "warn"')
    assert options.context().policy.unpinned == "warn"


# ---- with torch


@pytest.fixture
def torch() -> types.ModuleType:
    return pytest.importorskip("torch")  # type: ignore[no-any-return]


def saved(value: Any) -> io.BytesIO:
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


def hostile(tmp_path: Path) -> tuple[io.BytesIO, Path]:
    marker = tmp_path / "ran"
    return saved(Hostile(marker)), marker


@pytest.mark.torch
def test_torch_load_runs_nothing_from_the_file(torch: Any, tmp_path: Path) -> None:
    """Also when the caller asks for it by weights_only=False."""
    file, marker = hostile(tmp_path)
    with safeload.installed(**ALLOW), pytest.raises(RefusedError, match="mkdir"):
        torch.load(file, weights_only=False)
    assert not marker.exists()


@pytest.mark.torch
def test_every_name_is_covered_and_given_back(torch: Any) -> None:
    """`from torch import load` binds the function somewhere else; so does `import torch as t`, which needs nothing."""
    original = torch.load
    bound = types.ModuleType("bound_before")
    bound.__dict__.update(load=original, other=original, unrelated=torch.save)
    sys.modules["bound_before"] = bound
    try:
        safeload.install(**ALLOW)
        assert torch.load is torch.serialization.load is bound.load is bound.other is not original
        assert bound.unrelated is torch.save
        later = types.ModuleType("bound_later")
        exec("from torch import load", later.__dict__)
        sys.modules["bound_later"] = later
        safeload.uninstall()
        assert torch.load is torch.serialization.load is bound.load is bound.other is later.load is original
    finally:
        sys.modules.pop("bound_before")
        sys.modules.pop("bound_later", None)


@pytest.mark.torch
def test_the_replacement_looks_like_torch_load(torch: Any) -> None:
    """Tools look at signatures, names, docstrings and `__wrapped__`; pickle finds it by name."""
    original = torch.load
    with safeload.installed(**ALLOW):
        ours = torch.load
        assert inspect.signature(ours) == inspect.signature(original)
        shapes = [inspect.signature(one, follow_wrapped=False).parameters.values() for one in (ours, original)]
        assert [(p.name, p.kind, p.default) for p in shapes[0]] == [(p.name, p.kind, p.default) for p in shapes[1]]
        assert (ours.__module__, ours.__qualname__, ours.__doc__) == (original.__module__, original.__qualname__, original.__doc__)
        assert ours.__wrapped__ is original
        assert pickle.loads(pickle.dumps(ours)) is ours
        assert copy.deepcopy(ours) is ours
        with pytest.raises(TypeError):
            ours(io.BytesIO(), "cpu", None, True)


@pytest.mark.torch
def test_what_torch_load_does_not_know_is_a_type_error(torch: Any) -> None:
    """Policy and lock are arguments of safeload.load; torch.load never took them, and a typo must not change the policy."""
    for name in ("policy", "lock", "unknown", "nonsense"):
        with safeload.installed(**ALLOW), pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            torch.load(saved({}), **{name: None})


@pytest.mark.torch
def test_install_counts(torch: Any) -> None:
    """A library that installs and uninstalls for itself must not uncover the application."""
    original = torch.load
    safeload.install(**ALLOW)
    ours = torch.load
    safeload.install(**ALLOW)
    assert torch.load is ours
    safeload.uninstall()
    assert torch.load is ours
    with safeload.installed(**ALLOW):
        safeload.uninstall()
        assert torch.load is ours
    assert torch.load is original


@pytest.mark.torch
def test_a_block_has_its_own_options_and_others_keep_theirs(torch: Any) -> None:
    """The options of a `with` block are those of its thread; the replaced function is everybody's."""
    with_guard = {**ALLOW, "unknown": "inert"}
    seen: dict[str, str | None] = {}

    def other() -> None:
        with safeload.installed(**ALLOW):
            options = current_options()
            seen["other"] = options.unknown if options else "gone"
            ready.set()
            go_on.wait(600)
            options = current_options()
            seen["still"] = options.unknown if options else "gone"

    ready, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    with safeload.installed(**with_guard):
        thread.start()
        assert ready.wait(600)
        options = current_options()
        assert options is not None
        assert options.unknown == "inert"
    go_on.set()
    thread.join()
    assert seen == {"other": None, "still": None}
    assert current_options() is None


@pytest.mark.torch
def test_many_threads_come_and_go(torch: Any) -> None:
    """Whatever the order, nobody inside a block sees torch's own function, and the last one gives it back."""
    original = torch.load
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            with safeload.installed(**ALLOW):
                if torch.load is original:
                    wrong.append("uncovered inside")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert torch.load is torch.serialization.load is original


@pytest.mark.torch
def test_somebody_elses_patch_on_top_is_left_and_said(torch: Any) -> None:
    """Theirs may be meant to stay; what it calls underneath is torch's own again."""
    original = torch.load
    safeload.install(**ALLOW)
    ours = torch.load

    def theirs(*args: Any, **options: Any) -> Any:
        return ours(*args, **options)

    torch.load = theirs
    try:
        with pytest.warns(SafeloadWarning, match=r"torch\.load was replaced by .*theirs while safeload was installed"):
            safeload.uninstall()
        assert torch.load is theirs
        assert torch.serialization.load is original
        assert ours(saved({"a": 1})) == {"a": 1}
        with pytest.raises(pickle.UnpicklingError, match="weights_only"):
            theirs(saved(collections.deque()))
    finally:
        torch.load = original


@pytest.mark.torch
def test_a_patch_that_was_there_before_comes_back(torch: Any) -> None:
    """Libraries replace torch.load by their own at import time; while safeload is installed, ours goes first."""
    original = torch.load

    def theirs(*args: Any, **options: Any) -> Any:
        return original(*args, **{**options, "weights_only": False})

    torch.load = theirs
    try:
        with safeload.installed(**ALLOW):
            assert torch.load is not theirs
            assert torch.load.__module__ == "torch.serialization"
        assert torch.load is theirs
        assert torch.serialization.load is original
    finally:
        torch.load = original


@pytest.mark.torch
def test_a_reload_of_the_module_is_covered(tmp_path: Path) -> None:
    """importlib.reload makes a new function under the old name; both are given back where they were."""
    code = """
import importlib, warnings, safeload, torch
warnings.simplefilter("error")
first = torch.load
safeload.install(policy={"unpinned": "allow"}, lock=False)
importlib.reload(torch.serialization)
second = torch.serialization.load.__wrapped__
assert second is not first and second.__module__ == "torch.serialization"
assert torch.load.__wrapped__ in (first, second)
safeload.uninstall()
assert torch.load is first and torch.serialization.load is second
print("given back")
"""
    assert python(code, tmp_path) == "given back\n"


@pytest.mark.torch
def test_tensors_in_other_peoples_pickles_need_no_pin(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.storage asks torch.load for the bytes inside a plain pickle of a tensor; nobody could ever pin those."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "safeload.toml").write_text('unpinned = "refuse"')
    data = pickle.dumps(torch.arange(3))
    with safeload.installed(lock=False):
        assert pickle.loads(data).tolist() == [0, 1, 2]
        with pytest.raises(RefusedError, match="SL602"):
            torch.load(saved({"a": 1}))


@pytest.mark.torch
def test_the_usual_pickle_modules_are_passed_over(torch: Any) -> None:
    """Code that is not one's own cannot leave `pickle_module=pickle` out; it says what torch does anyway."""
    strange = types.ModuleType("restricted_pickle")
    with safeload.installed(**ALLOW):
        assert torch.load(saved({"a": 1}), pickle_module=pickle) == {"a": 1}
        assert torch.load(saved({"a": 1}), None, pickle, weights_only=False) == {"a": 1}
        with pytest.raises(RuntimeError, match="explicit pickle_module"):
            torch.load(saved({}), pickle_module=pickle, weights_only=True)
        with pytest.raises(UsageError, match="pickle_module has no meaning"):
            torch.load(saved({}), pickle_module=strange)


@pytest.mark.torch
def test_the_warning_names_the_line_that_loads(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that points into safeload helps nobody."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.pt"
    torch.save({"a": 1}, path)
    with safeload.installed(policy={}, lock=False), pytest.warns(UnpinnedWarning) as caught:
        torch.load(path)
    assert [Path(one.filename) for one in caught] == [Path(__file__)]


@pytest.mark.torch
def test_torch_that_comes_later_is_covered_from_its_first_moment(tmp_path: Path) -> None:
    """The post-import hook acts before `from torch.serialization import load` in torch itself has run."""
    code = """
import safeload, sys
safeload.install(policy={"unpinned": "allow"}, lock=False)
import torch, io, os
from torch import load
assert torch.load is load is torch.serialization.load
assert torch.load.__wrapped__.__module__ == "torch.serialization"
assert type(torch.serialization.__loader__).__name__ == "SourceFileLoader" == type(torch.serialization.__spec__.loader).__name__
class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("ran",))
file = io.BytesIO()
torch.save(Hostile(), file)
file.seek(0)
try:
    load(file, weights_only=False)
except safeload.RefusedError as error:
    print("refused")
original = load.__wrapped__
safeload.uninstall()
assert torch.load is load is torch.serialization.load is original
assert not any(type(finder).__module__.startswith("safeload") for finder in sys.meta_path)
print(os.path.exists("ran"))
"""
    assert python(code, tmp_path) == "refused\nFalse\n"


CHILDREN = """
import multiprocessing, os, sys
import safeload
def load(path):
    import torch
    try:
        return sorted(torch.load(path, weights_only=False))
    except Exception as error:
        return type(error).__name__
class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("ran",))
class Data:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return load(["good.pt", "bad.pt"][index])
if __name__ == "__main__":
    import torch
    torch.save({"a": torch.ones(2)}, "good.pt")
    torch.save(Hostile(), "bad.pt")
    with safeload.installed(policy={"unpinned": "allow"}, lock=False, guard="enforce"):
        for how in sys.argv[1:]:
            with multiprocessing.get_context(how).Pool(1) as pool:
                print(how, pool.map(load, ["good.pt", "bad.pt"]))
        if len(sys.argv) > 2:
            loader = torch.utils.data.DataLoader(Data(), num_workers=1, batch_size=None, multiprocessing_context="spawn")
            print(list(loader))
            import concurrent.futures
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
                print(pool.submit(torch.ones, 2).result().tolist())
    print(os.path.exists("ran"))
"""


@pytest.mark.torch
@pytest.mark.slow
def test_children_are_covered_however_they_start(tmp_path: Path) -> None:
    """A spawned worker imports torch afresh; it must be covered before it loads anything, also with the guard on."""
    script = tmp_path / "program.py"
    script.write_text(CHILDREN)
    methods = ["fork", "spawn", "forkserver"]
    done = subprocess.run(
        [sys.executable, "program.py", *methods], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = [f"{how} [['a'], 'RefusedError']" for how in methods]
    assert done.stdout.splitlines() == [*wanted, "[['a'], 'RefusedError']", "[1.0, 1.0]", "False"]
