"""Published models that are arrays: numpy's archives, a pickled array, scikit-learn's joblib files.

numpy and joblib are the witnesses, joblib with stand-ins for scikit-learn's classes: what safeload keeps as data is the same.
"""

from __future__ import annotations

import importlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import safeload
from safeload.findings import Level, Outcome
from tests.real.fetch import ARRAY_PACKAGES, RealFile, fetch, real_directory
from tests.watch import nothing_runs

FILES: Final = fetch(real_directory(Path(tempfile.gettempdir(), "safeload-real")), ARRAY_PACKAGES)
JOBLIB: Final = [file for file in FILES if file.path.suffix == ".joblib"]
NUMPY: Final = [file for file in FILES if file not in JOBLIB]
FORMATS: Final = {".npz": "zip", ".npy": "npy", ".joblib": "joblib"}


def label(file: RealFile) -> str:
    return file.label


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Import late what is imported late, so that only the file's own doing is left to see."""
    for file in FILES:
        safeload.scan(file.path, policy={}, lock=False)
    for file in JOBLIB:
        safeload.load(file.path, policy={"unpinned": "allow"}, lock=False, unknown="inert")


@pytest.mark.parametrize("file", FILES, ids=label)
def test_a_scan_runs_nothing_and_calls_no_published_model_dangerous(file: RealFile) -> None:
    """Plain arrays are allowed, a pickled array of arrays, too; estimators are not modelled, and no more than that."""
    with nothing_runs():
        report = safeload.scan(file.path, policy={}, lock=False)
    assert report.format == FORMATS[file.path.suffix]
    assert not [found for found in report.findings if found.level is Level.ERROR]
    assert report.decision.outcome is (Outcome.REFUSED if file in JOBLIB else Outcome.ALLOWED)


@pytest.mark.parametrize("file", NUMPY, ids=label)
def test_numpy_reads_what_was_allowed(file: RealFile) -> None:
    """A verdict about files that nobody can read would be worth nothing."""
    loaded = np.load(file.path, allow_pickle=file.path.suffix == ".npy", encoding="latin1")
    assert len(loaded.files if file.path.suffix == ".npz" else loaded.item()) > 0


class _StandIn:
    """Takes whatever a pickle gives to a class that is not imported."""

    def __init__(self, *args: Any) -> None:
        self.given = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


_UNPICKLER: Final[Any] = importlib.import_module("joblib.numpy_pickle").NumpyUnpickler


class _Reader(_UNPICKLER):  # type: ignore[misc]
    def find_class(self, module: str, name: str) -> Any:
        return _StandIn if module.startswith("sklearn") else super().find_class(module, name)


def _arrays(value: Any) -> Counter[tuple[str, tuple[int, ...], bytes]]:
    """Every array in a tree of plain data and nodes, with its bits; an object twice counts once."""
    found: Counter[tuple[str, tuple[int, ...], bytes]] = Counter()
    todo, seen = [value], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            found[item.dtype.str, item.shape, item.tobytes()] += 1
        elif isinstance(item, (list, tuple)):
            todo += item
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, safeload.Inert):
            todo += [item.args or (), item.state, item.items]
        elif isinstance(item, _StandIn):
            todo += vars(item).values()
    return found


@pytest.mark.parametrize("file", JOBLIB, ids=label)
def test_estimators_load_as_data_with_every_array(file: RealFile) -> None:
    with nothing_runs():
        ours = safeload.load(file.path, policy={"unpinned": "allow"}, lock=False, unknown="inert")
    with file.path.open("rb") as stream:
        theirs = _Reader(str(file.path), stream, ensure_native_byte_order=False).load()
    assert _arrays(ours) == _arrays(theirs)
    assert sum(_arrays(ours).values()) > 0
