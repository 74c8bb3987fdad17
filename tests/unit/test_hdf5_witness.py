"""HDF5 and Keras files from their own writers, h5py and Keras: what they write is read as they read it, and allowed."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safeload import inspect
from safeload.findings import Level, Outcome
from tests import forge_hdf5 as f
from tests.forge_attacks import scan
from tests.forge_hdf5 import Dataset, External, Group, Soft, Virtual, hdf5

np = pytest.importorskip("numpy", reason="needs numpy, which writes the values")
h5py = pytest.importorskip("h5py", reason="needs h5py, the witness")

STYLES = pytest.mark.parametrize("libver", ["earliest", "latest"])


def written(libver: str, fill: Callable[[Any], None], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver, **options) as file:
        fill(file)
    return buffer.getvalue()


def ordinary(file: Any) -> None:
    """Of each kind of object that people write."""
    file["a/b/floats"] = np.arange(10.0)
    file["a/b"].attrs["text"] = "hello"
    file["a/b"].attrs["texts"] = np.array(["a", "bb"], dtype="S3")
    for number in range(60):
        file.create_dataset(f"many/d{number}", data=number)
        file["many"].attrs[f"k{number}"] = "value" * number
    file["texts"] = ["x", "yy", "zzz"]
    file.create_dataset("packed", data=np.zeros((100, 100)), compression="gzip", shuffle=True, fletcher32=True)
    file.create_dataset("lzf", data=np.zeros((100, 100), "i2"), compression="lzf")
    file["opaque"] = np.void(b"\x80\x04opaque")
    file["compound"] = np.zeros(3, dtype=[("a", "i4"), ("b", "S5"), ("c", "f8", (2,))])
    file["refs"] = np.array([file["a"].ref, file["a/b"].ref], dtype=h5py.ref_dtype)
    file["bool"], file["complex"], file["half"], file["big"] = (
        np.array([True]),
        np.zeros(2, complex),
        np.zeros(3, "f2"),
        np.zeros((3, 2), ">i8"),
    )
    file["enum"] = np.zeros(2, dtype=h5py.enum_dtype({"A": 1, "B": 2}, basetype="i4"))
    rows = file.create_dataset("rows", (2,), dtype=h5py.vlen_dtype(np.uint8))
    rows[0] = np.frombuffer(b"some bytes", np.uint8)
    file["nothing"] = h5py.Empty("f4")
    file["named"] = np.dtype("f8")
    file.create_dataset("by name", data=np.zeros(3), dtype=file["named"])


@STYLES
@pytest.mark.parametrize("user_block", [0, 1024])
def test_what_h5py_writes_is_allowed_and_listed_as_h5py_lists_it(libver: str, user_block: int) -> None:
    data = written(libver, ordinary, userblock_size=user_block)
    report = scan(data)
    assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons
    shapes: dict[str, tuple[int, ...]] = {}
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(lambda name, node: shapes.update({name: node.shape or ()}) if isinstance(node, h5py.Dataset) else None)
    tensors = {item.name: item for item in inspect(data).tensors}
    assert {name: item.shape for name, item in tensors.items()} == shapes
    names = {
        "a/b/floats": "float64",
        "bool": "bool",
        "complex": "complex128",
        "half": "float16",
        "big": "int64",
        "by name": "float64",
        "lzf": "int16",
    }
    assert {name: tensors[name].dtype for name in names} == names


@STYLES
@pytest.mark.parametrize("count", [9, 300, 3000])
def test_groups_of_every_size_are_read_as_a_whole(libver: str, count: int) -> None:
    """Small, they are kept in the header; larger, in trees and heaps of several levels."""

    def fill(file: Any) -> None:
        for number in range(count):
            file.create_group(f"g/a rather long name for a group {number}")
        file["g"].attrs["last"] = b"cos\nsystem\n(S'true'\ntR."
        file[f"g/a rather long name for a group {count - 1}"].attrs["stream"] = b"cposix\nsystem\n(S'true'\ntR."

    report = scan(written(libver, fill))
    assert not {item.rule for item in report.findings} & {"SL811", "SL815"}, report.findings
    assert set(report.globals) == {"os.system", "posix.system"}


STREAM = b"cos\nsystem\n(S'true'\ntR."


@STYLES
def test_attributes_of_every_number_and_size_are_read(libver: str) -> None:
    """Newer files keep many of them in a heap, and those that are too large for its blocks elsewhere."""

    def fill(file: Any) -> None:
        for number in range(500):
            file.attrs[f"attribute {number}"] = "x" * (number % 90)
        file.attrs["stream"] = STREAM
        if libver == "latest":
            for number in range(40):
                file.attrs[f"large {number}"] = np.void(STREAM.ljust(70_000 + number, b"\0"))

    report = scan(written(libver, fill))
    assert {item.rule for item in report.findings if item.level is not Level.NOTE} == {"SL101"}
    assert len([item for item in report.findings if item.rule == "SL101"]) == (41 if libver == "latest" else 1)


@pytest.mark.parametrize("packed", [{}, {"compression": "gzip", "shuffle": True}], ids=["plain", "packed"])
@pytest.mark.parametrize(
    ("shape", "at", "options"),
    [
        ((10,), 3, {"chunks": (10,)}),
        ((95,), 93, {"chunks": (10,)}),
        ((5000,), 4999, {"chunks": (1,)}),
        *(((50_000,), at, {"chunks": (1,), "maxshape": (None,)}) for at in (0, 3, 17, 600, 40_000)),
        ((30, 30), (29, 29), {"chunks": (3, 3), "maxshape": (None, None)}),
    ],
)  # fmt: skip
@STYLES
def test_every_index_of_chunks_is_followed(libver: str, shape: Any, at: Any, options: dict[str, Any], packed: dict[str, Any]) -> None:
    """One chunk, fixed arrays with and without pages, extensible ones down to their secondary blocks, both trees."""

    def fill(file: Any) -> None:
        file.create_dataset("x", shape, dtype="S40", **options, **packed)[at] = STREAM

    report = scan(written(libver, fill))
    assert {item.rule for item in report.findings if item.level is not Level.NOTE} == {"SL101"}, report.findings


def test_a_deep_tree_of_chunks_is_followed() -> None:
    def fill(file: Any) -> None:
        chunks = file.create_dataset("x", (90, 90), dtype="S40", chunks=(1, 3), maxshape=(None, None))
        chunks[:] = b"text"
        chunks[70, 70] = STREAM

    assert "SL101" in {item.rule for item in scan(written("latest", fill)).findings}


@pytest.mark.parametrize("newer", [False, True])
def test_h5py_reads_what_is_forged(newer: bool) -> None:
    """A forged file that the library would not open shows nothing about what it does with hostile ones."""
    links = {
        "w": Dataset(f.FLOAT32, (2, 3), np.arange(6, dtype="f4").tobytes()),
        "g": Group({"s": Soft("/w"), "e": External("/x.h5", "/y")}, {"k": "text", "raw": b"bytes"}),
        "storage": Dataset(f.FLOAT32, (2,), files=("/etc/passwd",), claims=8),
        "virtual": Dataset(f.FLOAT32, (2,), virtual=Virtual("o.h5", "d")),
        "texts": Dataset(f.variable(), (2,), [b"abc", b"defg"]),
        "bomb": Dataset(f.FLOAT32, (1 << 40,), None, chunk=(1 << 20,)),
        "chunk": Dataset(f.fixed(4), (2,), b"abcdefgh", chunk=(2,)),
        "r": Dataset(f.reference(), (1,), refers=(Group(attrs={"hidden": "yes"}),)),
    }
    with h5py.File(io.BytesIO(hdf5(Group(links), newer=newer))) as file:
        assert file["w"][()].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert file["g"].get("e", getlink=True).filename == "/x.h5"
        assert file["g"].get("s", getlink=True).path == "/w"
        assert dict(file["g"].attrs) == {"k": "text", "raw": b"bytes"}
        assert file["storage"].external[0][0] == "/etc/passwd"
        assert file["virtual"].virtual_sources()[0].file_name == "o.h5"
        assert list(file["texts"]) == [b"abc", b"defg"]
        assert file["bomb"].shape == (1 << 40,)
        assert list(file["chunk"]) == [b"abcd", b"efgh"]
        assert file[file["r"][0]].attrs["hidden"] == "yes"


# ---- Keras

_SCRIPT = """
import keras, sys
from keras import layers
top = sys.argv[1]
dense = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="relu", kernel_regularizer="l2"), layers.BatchNormalization(),
                          layers.Dropout(0.2), layers.Activation(keras.activations.gelu), layers.Dense(2, kernel_constraint="max_norm")])
dense.compile(keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)), keras.losses.BinaryCrossentropy(),
              metrics=[keras.metrics.AUC(), "mae"])
given = keras.Input((5, 3))
out = layers.Concatenate()([layers.Bidirectional(layers.LSTM(3))(given), layers.GRU(2)(given)])
graph = keras.Model(given, keras.ops.relu(layers.LayerNormalization()(out)) * 2 + 1)
image = keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(0.5), layers.RandomFlip(), layers.Conv2D(4, 3), layers.MaxPooling2D(),
                          layers.SeparableConv2D(2, 3), layers.GlobalAveragePooling2D(), layers.Dense(3, dtype="mixed_bfloat16")])
for name, model in (("dense", dense), ("graph", graph), ("image", image)):
    model.save(f"{top}/{name}.keras")
    model.save(f"{top}/{name}.h5")
    model.save_weights(f"{top}/{name}.weights.h5")
    open(f"{top}/{name}.json", "w").write(model.to_json())
hostile = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)])
hostile.save(f"{top}/lambda.keras")
hostile.save(f"{top}/lambda.h5")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as Keras writes them, in a process of its own: its backend is chosen by a variable, before it is imported."""
    if not all(importlib.util.find_spec(name) for name in ("keras", "torch")):
        pytest.skip("needs keras, the writer, and torch, its backend")
    top = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", _SCRIPT, str(top)], check=True, capture_output=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    return top


@pytest.mark.parametrize("name", ["dense", "graph", "image"])
@pytest.mark.parametrize("ending", ["keras", "h5", "weights.h5", "json"])
def test_what_keras_writes_is_allowed(models: Path, name: str, ending: str) -> None:
    report = scan((models / f"{name}.{ending}").read_bytes())
    assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons
    assert report.format == {"keras": "keras", "json": "keras-json"}.get(ending, "hdf5")


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_lambda_that_keras_writes_is_an_error(models: Path, ending: str) -> None:
    report = scan((models / f"lambda.{ending}").read_bytes())
    assert report.decision.outcome is Outcome.REFUSED
    assert ("SL802", Level.ERROR) in [(item.rule, item.level) for item in report.findings]
