"""Ordinary files, written by the programs that write them: allowed, or refused as not modelled, and never called dangerous.

A scanner that cries wolf is switched off. "Not modelled" is a warning; an error says that the file runs code or deceives.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import decimal
import enum
import functools
import gzip
import io
import pathlib
import pickle
import random
import types
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from safeload.findings import Level, Outcome, Report
from tests.forge_attacks import scan


class Colour(enum.Enum):
    """A class of somebody's own."""

    RED = 1


@dataclass
class Settings:
    """Another."""

    rate: float
    names: list[str]


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 — as programs have them


def _never_dangerous(report: Report) -> None:
    errors = [(found.rule, found.message) for found in report.findings if found.level is Level.ERROR]
    assert not errors, errors
    assert report.decision.outcome is not Outcome.ERROR, report.error


def _allowed(report: Report) -> None:
    _never_dangerous(report)
    assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons


# ---- plain pickles

VOCABULARY = {f"word{index}": index for index in range(2000)} | {"ünïcode": -1, "": 0, "\ud800": 1}
MERGES: list[Any] = [("t", "he"), ("a", "n")] * 100
SHARED = [1, 2]
DEEP: list[Any] = [1]
for _ in range(100):
    DEEP = [DEEP]

PLAIN: dict[str, Any] = {
    "a vocabulary": VOCABULARY,
    "a tokenizer": {
        "model": {"vocab": VOCABULARY, "merges": MERGES},
        "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
        "version": "1.0",
    },
    "an ordered vocabulary": collections.OrderedDict((word, index) for index, word in enumerate("abc")),
    "counts": collections.Counter("hello world"),
    "nested": {
        "a": [1, 2.5, None, True, (1, (2, (3,)))],
        "b": {"c": {"d": {1, 2}, "e": frozenset({3})}},
        "f": b"bytes",
        "g": bytearray(b"x"),
    },
    "numbers": [0, -1, 1 << 40, 1 << 2000, 1e308, float("inf"), -0.0, 1 + 2j],
    "a default dict": collections.defaultdict(list, {"a": [1]}),
    "a deque": collections.deque([1, 2, 3], maxlen=5),
    "times": [
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        dt.date(2024, 1, 1),
        dt.timedelta(days=1),
        dt.time(1, 2),
    ],
    "small types": [decimal.Decimal("1.5"), pathlib.PurePosixPath("/a/b"), range(5), slice(1, 2), ...],
    "the random state": random.Random(1).getstate(),
    "shared parts": [SHARED, SHARED, {"again": SHARED}],
    "a deep list": DEEP,
    "text that looks like code": ["import os; os.system('x')", "eval", "__import__", "builtins\nexec\n", "/bin/sh -c", "\x80\x04."],
    "nothing": None,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_is_allowed_in_every_protocol(name: str, protocol: int) -> None:
    """Dictionaries of words, lists of numbers: what most pickles are."""
    _allowed(scan(pickle.dumps(PLAIN[name], protocol)))


CLASSES: dict[str, Any] = {
    "a namespace of options": argparse.Namespace(lr=0.1, path="x"),
    "a simple namespace": types.SimpleNamespace(a=1),
    "an enumeration": Colour.RED,
    "a data class": Settings(0.1, ["a"]),
    "a named tuple": Point(1, 2),
    "an exception": ValueError("bad"),
    "a bound method": "text".upper,
    "a method": str.lower,
    "a method of a list": [1].append,
    "an identifier": uuid.UUID(int=5),
    "a partial": functools.partial(int, base=2),
    "a class": Settings,
    "a built-in function": len,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", CLASSES)
def test_somebodys_own_classes_are_not_modelled_and_not_dangerous(name: str, protocol: int) -> None:
    report = scan(pickle.dumps(CLASSES[name], protocol))
    _never_dangerous(report)


def test_a_file_of_many_records_is_allowed() -> None:
    """Logs are appended to, one pickle behind the other."""
    _allowed(scan(b"".join(pickle.dumps({"step": step, "loss": 1.0 / (step + 1)}) for step in range(500))))


def test_a_compressed_pickle_is_allowed() -> None:
    _allowed(scan(gzip.compress(pickle.dumps(VOCABULARY))))


# ---- numpy


def _saved(save: Callable[..., Any], *values: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *values, **named)
    return buffer.getvalue()


def _numpy_values() -> dict[str, Any]:
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(1)
    return {
        "floats": np.linspace(0, 1, 50).reshape(5, 10),
        "columns": np.ones((3, 4), order="F"),
        "one": np.array(5),
        "none": np.zeros((0, 3)),
        "big endian": np.arange(3, dtype=">f8"),
        "text": np.array(["a", "bcd"]),
        "bytes": np.array([b"a"]),
        "dates": np.array(["2020-01-01"], "M8[D]"),
        "booleans": np.array([True, False]),
        "complex": np.array([1 + 2j]),
        "halves": np.ones(3, np.float16),
        "rows": np.zeros(3, dtype=[("x", "f4"), ("y", "i8"), ("z", "S5")]),
        "scalar": np.float64(1.5),
        "integer": np.int64(7),
        "type": np.dtype("f4"),
        "flag": np.bool_(True),
        "a generator": rng,
        "an old generator": np.random.RandomState(5),
        "its state": np.random.RandomState(5).get_state(),
        "objects": np.array([1, "two", None, [3]], dtype=object),
        "lists": np.array([[1], [2, 3]], dtype=object),
        "in a dict": {"mean": np.zeros(3), "std": np.ones(3), "count": np.int64(3), "names": np.array(["a", "b"])},
        "slices": np.arange(20.0).reshape(4, 5)[1:3, ::2],
        "a class": np.float32,
    }


NUMPY = [
    "floats",
    "columns",
    "one",
    "none",
    "big endian",
    "text",
    "bytes",
    "dates",
    "booleans",
    "complex",
    "halves",
    "rows",
    "scalar",
    "integer",
    "type",
    "flag",
    "a generator",
    "an old generator",
    "its state",
    "objects",
    "lists",
    "in a dict",
    "slices",
    "a class",
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", NUMPY)
def test_what_numpy_pickles_is_allowed(name: str, protocol: int) -> None:
    """Arrays, scalars, generators: the first thing that a denylist calls suspicious."""
    value = _numpy_values()[name]
    _allowed(scan(pickle.dumps(value, protocol)))


@pytest.mark.parametrize("name", [name for name in NUMPY if name not in ("scalar", "integer", "type", "flag", "a class")][:16])
def test_what_numpy_saves_is_allowed(name: str) -> None:
    np = pytest.importorskip("numpy")
    value = np.asarray(_numpy_values()[name]) if name != "its state" else np.arange(3)
    if value.dtype == object and name in ("a generator", "an old generator"):
        pytest.skip("not an array")
    _allowed(scan(_saved(np.save, value)))
    _allowed(scan(_saved(np.savez, a=value, b=np.arange(3))))
    _allowed(scan(_saved(np.savez_compressed, a=value)))


@pytest.mark.parametrize("name", ["objects", "lists"])
@pytest.mark.filterwarnings("ignore")
def test_arrays_of_plain_objects_are_allowed(name: str) -> None:
    """Their elements are values of a stream that was walked."""
    np = pytest.importorskip("numpy")
    value = _numpy_values()[name]
    _allowed(scan(_saved(np.save, value)))
    _allowed(scan(_saved(np.savez, a=value)))
    masked = np.ma.masked_array([1.0, 2.0], mask=[True, False])
    for odd in (masked, np.zeros(2).view(np.matrix), np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")])):
        _never_dangerous(scan(pickle.dumps(odd)))


# ---- torch


def _torch_values() -> dict[str, tuple[bool, Any]]:
    """By name: whether it must be allowed, and the value."""
    import torch
    from torch import nn

    torch.manual_seed(1)
    base = torch.arange(10.0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    values: dict[str, tuple[bool, Any]] = {
        "a state dict": (True, model.state_dict()),
        "a module": (False, model),
        "a module of a text model": (False, nn.TransformerEncoderLayer(8, 2, batch_first=True)),
        "a tensor": (True, torch.randn(3, 4)),
        "a parameter": (True, nn.Parameter(torch.ones(2))),
        "many dtypes": (
            True,
            {str(kind): torch.zeros(3, dtype=kind) for kind in (torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64)},
        ),
        "views": (True, [base, base[2:5], base.view(2, 5).t()]),
        "sparse": (True, torch.eye(3).to_sparse()),
        "a size, a dtype and a device": (True, {"size": torch.Size([1, 2]), "dtype": torch.float32, "device": torch.device("cpu")}),
        "a generator's state": (True, {"rng": torch.get_rng_state()}),
        "a distribution": (False, torch.distributions.Normal(torch.zeros(2), torch.ones(2))),
    }
    for make in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad):
        optimiser = make(model.parameters(), lr=0.1)
        model(torch.randn(4, 4)).sum().backward()
        optimiser.step()
        values[f"the state of {make.__name__}"] = (True, optimiser.state_dict())
        values[f"{make.__name__} itself"] = (False, optimiser)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
        values[f"a schedule over {make.__name__}"] = (True, cosine.state_dict())
    values["a training checkpoint"] = (
        True,
        {
            "epoch": 3,
            "global_step": 1234,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": model.state_dict(),
            "loops": {"fit_loop": {"state": {}}},
            "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.5), "best_model_path": "x.ckpt"}},
            "optimizer_states": [values["the state of Adam"][1]],
            "lr_schedulers": [values["a schedule over Adam"][1]],
            "hparams_name": "kwargs",
            "hyper_parameters": {"lr": 0.1, "layers": [8, 8], "name": None},
        },
    )
    values["a checkpoint with options"] = (False, {"args": argparse.Namespace(lr=0.1), "model": model.state_dict()})
    return values


TORCH = [
    "a state dict",
    "a module",
    "a module of a text model",
    "a tensor",
    "a parameter",
    "many dtypes",
    "views",
    "sparse",
    "a size, a dtype and a device",
    "a generator's state",
    "a distribution",
    "a training checkpoint",
    "a checkpoint with options",
    *(
        f"{what}{name}{more}"
        for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")
        for what, more in (("the state of ", ""), ("", " itself"), ("a schedule over ", ""))
    ),
]


@pytest.fixture(scope="module")
def torch_values() -> dict[str, tuple[bool, Any]]:
    return _torch_values()


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("name", TORCH)
def test_what_torch_saves_is_never_called_dangerous(name: str, way: str, torch_values: dict[str, tuple[bool, Any]]) -> None:
    """States are allowed; modules and optimisers are classes, refused as not modelled."""
    import torch

    allowed, value = torch_values[name]
    if way == "pickle":
        _never_dangerous(scan(pickle.dumps(value)))
        return
    report = scan(_saved(lambda buffer: torch.save(value, buffer, _use_new_zipfile_serialization=way == "zip")))
    (_allowed if allowed else _never_dangerous)(report)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_scripted_and_traced_modules_are_never_called_dangerous() -> None:
    import torch

    module = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    trace: Any = torch.jit.trace
    traced = trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    for script in (module, traced):
        _never_dangerous(scan(_saved(lambda buffer, script=script: torch.jit.save(script, buffer))))


# ---- scikit-learn, joblib


def _estimators() -> dict[str, Any]:
    def of(module: str, name: str) -> Any:
        return getattr(pytest.importorskip(f"sklearn.{module}"), name)

    np = pytest.importorskip("numpy")
    make_pipeline, scaler, logistic = (
        of("pipeline", "make_pipeline"),
        of("preprocessing", "StandardScaler"),
        of("linear_model", "LogisticRegression"),
    )
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 4))
    y = (x[:, 0] > 0).astype(int)
    plain = {
        "logistic": logistic(),
        "forest": of("ensemble", "RandomForestClassifier")(3),
        "boosting": of("ensemble", "GradientBoostingClassifier")(n_estimators=3),
        "svc": of("svm", "SVC")(),
        "neighbours": of("neighbors", "KNeighborsClassifier")(),
        "mlp": of("neural_network", "MLPClassifier")((3,), max_iter=5),
        "pca": of("decomposition", "PCA")(2),
        "kmeans": of("cluster", "KMeans")(2, n_init=1),
        "pipeline": make_pipeline(scaler(), logistic()),
        "search": of("model_selection", "GridSearchCV")(logistic(), {"C": [1, 2]}, cv=2),
        "columns": make_pipeline(of("compose", "ColumnTransformer")([("a", scaler(), [0, 1])]), logistic()),
        "function": make_pipeline(of("preprocessing", "FunctionTransformer")(np.log1p), scaler()),
    }
    fitted = {name: estimator.fit(np.abs(x), y) for name, estimator in plain.items()}
    return {**fitted, "text": of("feature_extraction.text", "TfidfVectorizer")().fit(["a few words", "more words here"])}


SKLEARN = [
    "logistic",
    "forest",
    "boosting",
    "svc",
    "neighbours",
    "mlp",
    "pca",
    "kmeans",
    "pipeline",
    "search",
    "columns",
    "function",
    "text",
]


@pytest.fixture(scope="module")
def estimators() -> dict[str, Any]:
    return _estimators()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SKLEARN)
def test_fitted_estimators_are_not_modelled_and_not_dangerous(name: str, estimators: dict[str, Any]) -> None:
    """They are classes: refused at level warning, by pickle and by joblib, packed or not."""
    joblib = pytest.importorskip("joblib")
    for protocol in (2, 4, 5):
        _never_dangerous(scan(pickle.dumps(estimators[name], protocol)))
    for compress in (0, 3, ("gzip", 1), ("lzma", 1)):
        _never_dangerous(scan(_saved(lambda buffer, compress=compress: joblib.dump(estimators[name], buffer, compress=compress))))


@pytest.mark.parametrize("name", [name for name in NUMPY if name not in ("a generator", "an old generator")])
def test_what_joblib_saves_of_numpy_is_allowed(name: str) -> None:
    joblib = pytest.importorskip("joblib")
    value = _numpy_values()[name]
    report = scan(_saved(lambda buffer: joblib.dump({"value": value, "more": [value, 1]}, buffer)))
    if name in ("objects", "lists"):  # read without joblib, their streams go on with the wrong memo
        _never_dangerous(report)
    else:
        _allowed(report)
