"""Pickles of the tabular stacks: refused at level warning with what would grant them, and loaded as data when asked."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import safeload
from safeload.findings import Level
from safeload.policy import snippet

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def _part(module: str, name: str, *args: Any, **named: Any) -> Any:
    return getattr(pytest.importorskip(module), name)(*args, **named)


def _data() -> tuple[Any, Any]:
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)), rng.integers(0, 3, 60)


def _xgboost() -> Any:
    return _part("xgboost", "XGBClassifier", n_estimators=2, n_jobs=1).fit(*_data())


def _booster() -> Any:
    return _xgboost().get_booster()


def _lightgbm() -> Any:
    return _part("lightgbm", "LGBMClassifier", n_estimators=2, n_jobs=1, verbose=-1, min_child_samples=3).fit(*_data())


def _pipeline() -> Any:
    steps = _part("sklearn.preprocessing", "StandardScaler"), _part("xgboost", "XGBClassifier", n_estimators=2, n_jobs=1)
    return _part("sklearn.pipeline", "make_pipeline", *steps).fit(*_data())


def _histogram() -> Any:
    """Draws the entropy of its generator with numpy: the seed is a scalar of numpy's and no plain number."""
    return _part("sklearn.ensemble", "HistGradientBoostingClassifier", max_iter=2).fit(*_data())


def _isotonic() -> Any:
    """Keeps scipy's interpolation, with a bound method of a class in lower case."""
    x, y = _data()
    return _part("sklearn.isotonic", "IsotonicRegression").fit(x[:, 0], y)


def _interpolation() -> Any:
    return _part("scipy.interpolate", "interp1d", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])


def _matrices() -> Any:
    np = pytest.importorskip("numpy")
    return [np.ma.array([1, 2], mask=[0, 1]), np.matrix([[1, 2]]), np.arange(3)]


def _sparse() -> Any:
    np = pytest.importorskip("numpy")
    return [_part("scipy.sparse", f"{kind}_array", np.eye(3)) for kind in ("csr", "csc", "coo", "bsr", "dia", "lil")]


MAKERS: list[Callable[[], Any]] = [_xgboost, _booster, _lightgbm, _pipeline, _histogram, _isotonic, _interpolation, _matrices, _sparse]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__.strip("_"))
def test_models_are_refused_with_what_would_grant_them_and_load_as_data(make: Callable[[], Any]) -> None:
    """By pickle in three protocols and by joblib, packed or not."""
    joblib = pytest.importorskip("joblib")
    made = make()
    files = [pickle.dumps(made, protocol) for protocol in (2, 4, 5)]
    for compress in (0, 3):
        buffer = io.BytesIO()
        joblib.dump(made, buffer, compress=compress)
        files.append(buffer.getvalue())
    for data in files:
        report = safeload.scan(data, policy={}, lock=False)
        assert report.error is None
        assert {found.level for found in report.findings if found.level is not Level.NOTE} == {Level.WARNING}
        with pytest.raises(safeload.RefusedError) as caught:
            safeload.load(memoryview(data), policy={"unpinned": "allow"}, lock=False)
        assert caught.value.globals
        assert "allow-globals" in snippet(caught.value.globals)
        assert all(f'"{name}",' in snippet([name]) for name in report.unmodelled)
        loaded = safeload.load(memoryview(data), policy={"unpinned": "allow"}, lock=False, unknown="inert")
        assert isinstance(loaded, (safeload.Inert, list))


def test_a_boosters_bytes_are_kept_as_they_are() -> None:
    """What the model is can be taken out of the pickle without xgboost, and read as a file of its own."""
    booster = safeload.load(memoryview(pickle.dumps(_booster())), policy={"unpinned": "allow"}, lock=False, unknown="inert")
    assert safeload.scan(bytes(booster.state["handle"]), policy={}, lock=False).format == "xgboost-ubjson"


class _Reduced:
    """Pickled as the call that it is made with."""

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


@pytest.mark.parametrize("entropy", [7, -1, 1 << 63])
def test_a_seed_that_numpy_drew_has_the_same_bounds(entropy: int) -> None:
    """An integer of numpy's is as large as it is; a negative one is refused, as a plain one would be."""
    np = pytest.importorskip("numpy")
    function, (kind, checksum, state), *rest = np.random.SeedSequence(7).__reduce__()
    state = state or rest[0]
    drawn = np.int64(entropy) if entropy < 0 else np.uint64(entropy)
    data = pickle.dumps(_Reduced(function, (kind, checksum, (drawn, *state[1:]))))
    report = safeload.scan(data, policy={}, lock=False)
    assert (report.findings == ()) is (entropy >= 0), report.findings
    if entropy >= 0:
        assert safeload.load(memoryview(data), policy={"unpinned": "allow"}, lock=False).entropy == entropy
