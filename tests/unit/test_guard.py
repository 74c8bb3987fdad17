"""The guard: other unpicklers in the process are reported or stopped by the names that they ask for."""

from __future__ import annotations

import collections
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import RefusedError, SafeloadWarning

ROOT = Path(__file__).parents[2]
ALLOW: dict[str, Any] = {"policy": {"unpinned": "allow"}, "lock": False}


class Plain:
    """A class that nobody models."""


def test_the_guard_stops_what_is_neither_modelled_nor_granted() -> None:
    """joblib, pandas and friends all end in pickle; the name is stopped before it is looked up."""
    ours = pickle.dumps(Plain())
    with safeload.installed(**ALLOW, guard="enforce"):
        assert pickle.loads(pickle.dumps(collections.OrderedDict(a=1))) == {"a": 1}
        for loads in (pickle.loads, pickle._loads):  # type: ignore[attr-defined]
            with pytest.raises(RefusedError, match=r"unpickles .*Plain, which is not modelled") as caught:
                loads(ours)
            assert caught.value.globals == (f"{__name__}.Plain",)
            assert "allow-globals" in caught.value.hint
        with pytest.raises(RefusedError, match=r"unpickles os\.system \(starts a process\)") as caught:
            pickle.loads(b"cos\nsystem\n(S'true'\ntR.")
        assert "can never be granted" in caught.value.hint
    assert isinstance(pickle.loads(ours), Plain)


def test_the_guard_lets_granted_classes_pass() -> None:
    """By policy, as for a load; the denylist holds here too."""
    policy = {"unpinned": "allow", "allow-globals": [f"{__name__}.Plain"]}
    with safeload.installed(policy=policy, lock=False, guard="enforce"):
        assert isinstance(pickle.loads(pickle.dumps(Plain())), Plain)


def test_the_guard_reports_once() -> None:
    """With a warning at the line that unpickles, and nothing is stopped."""
    data = pickle.dumps(Plain())
    with safeload.installed(**ALLOW, guard="report"):
        with pytest.warns(SafeloadWarning, match="Plain, which is not modelled") as caught:
            assert isinstance(pickle.loads(data), Plain)
        assert Path(caught[0].filename) == Path(__file__)
        assert isinstance(pickle.loads(data), Plain)


def test_the_guard_leaves_the_programs_own_processes_alone() -> None:
    """Whoever can write to their pipes runs in the program already."""
    import multiprocessing

    with safeload.installed(**ALLOW, guard="enforce"):
        reader, writer = multiprocessing.Pipe(duplex=False)
        writer.send(Plain())
        assert isinstance(reader.recv(), Plain)
        with pytest.raises(RefusedError):
            pickle.loads(pickle.dumps(Plain()))


def test_the_guard_sleeps_when_nobody_wants_it() -> None:
    """An audit hook cannot be taken out; a second one is not put in either."""
    code = """
import pickle, sys, safeload
class Plain: pass
data = pickle.dumps(Plain())
added = []
hook = sys.addaudithook
sys.addaudithook = lambda function: (added.append(function), hook(function))
for _ in range(3):
    with safeload.installed(policy={}, lock=False, guard="enforce"):
        pass
    pickle.loads(data)
print(len(added))
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert done.stdout == "1\n", done.stderr
