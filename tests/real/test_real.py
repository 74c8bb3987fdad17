"""Published model files: safeload and torch agree on every bit, and nothing from a file runs.

`./run real` fetches the files and prints the table. A file that torch refuses is compared with torch after allowing exactly
what it lacked, a TorchScript file with `torch.jit`, a safetensors file with `safetensors`.
"""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from pathlib import Path
from typing import Final

import onnx
import pytest
import safetensors.torch
import torch

import safeload
import safeload.formats
from safeload.conversion import check, export
from safeload.errors import UnsupportedError
from safeload.findings import Outcome
from safeload.inspection import inspect
from tests.compare import assert_same
from tests.real.fetch import RealFile, fetch, real_directory
from tests.real.reference import extended_torch, script_state, torch_result, torch_value
from tests.real.table import FILES as TABLE
from tests.real.table import ROWS, Row
from tests.watch import nothing_runs

FILES: Final = fetch(real_directory(Path(tempfile.gettempdir(), "safeload-real")))
MODELS: Final = [file for file in FILES if file.path.suffix != ".onnx"]

# nothing is pinned here, and every load of it would say so
pytestmark = pytest.mark.filterwarnings("ignore::safeload.errors.SafeloadWarning")


def label(file: RealFile) -> str:
    return file.label


def row_of(file: RealFile) -> Row:
    return ROWS.setdefault(file.label, Row(file.label))


@pytest.fixture(scope="session", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import late what safeload and torch import late, so that only the file's own doing is left to see."""
    import numpy as np

    for found in pkgutil.iter_modules(safeload.formats.__path__, "safeload.formats."):  # a reader is imported with its first file
        importlib.import_module(found.name)
    path = tmp_path_factory.mktemp("warm") / "warm.pt"
    torch.save({"a": torch.zeros(2), "b": np.zeros(2), "c": slice(1), "d": torch.nn.Parameter(torch.zeros(1))}, path)
    safeload.load(path, map_location="cpu")
    safeload.load(path)
    safeload.scan(path)
    path.write_bytes(b"cnowhere\nNothing\n)R.")
    safeload.scan(path)
    with pytest.raises(safeload.RefusedError):
        safeload.load(path)
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    safeload.load(path, map_location="cpu")
    safeload.state_dict(path)
    for state_dict in (False, True):
        safeload.convert(path, path.with_suffix(".safetensors"), state_dict=state_dict, force=True)
        safeload.load(path.with_suffix(".safetensors"), map_location="cpu")
    export(path.with_suffix(".safetensors"), path, force=True)


@pytest.mark.parametrize("file", FILES, ids=label)
def test_a_scan_runs_nothing_and_calls_no_published_model_dangerous(file: RealFile) -> None:
    """Ordinary checkpoints that a scanner calls malicious teach people to ignore scanners."""
    with nothing_runs():
        report = safeload.scan(file.path)
    row_of(file).format = report.format
    row_of(file).torch = torch_result(file.path)
    assert not [finding for finding in report.findings if finding.level == "error" and finding.rule.startswith("SL1")]


@pytest.mark.parametrize("file", MODELS, ids=label)
def test_loaded_objects_are_the_same(file: RealFile) -> None:
    """Bits, strides, offsets, dtypes, key order, aliasing and identity, as torch has them."""
    row, unknown = row_of(file), "inert" if file.path.suffix == ".jit" else None
    with nothing_runs():
        ours = safeload.load(file.path, map_location="cpu", unknown=unknown)
    if file.path.suffix == ".jit":
        state, theirs = safeload.state_dict(file.path, "cpu"), script_state(file.path)
        assert_same({name: state[name].detach() for name in sorted(theirs)}, {name: theirs[name] for name in sorted(theirs)})
        # what is a buffer and what a plain attribute stands in the code alone, which is not compiled here
        extra = sorted(set(state) - set(theirs))
        row.safeload = "same tensors as torch.jit" + (f", and {', '.join(extra)}" if extra else "")
    elif file.path.suffix == ".safetensors":
        for name, tensor in safetensors.torch.load_file(file.path).items():
            assert same_values(ours[name], tensor), name
        row.safeload = "same"
    elif torch_result(file.path) == "loads":
        assert_same(ours, torch_value(file.path))
        row.safeload = "same"
    else:
        with extended_torch():
            assert_same(ours, torch_value(file.path))
        row.safeload = "same as torch with these allowed"


@pytest.mark.parametrize("file", MODELS, ids=label)
def test_converted_weights_are_the_state_dict(file: RealFile, tmp_path: Path) -> None:
    """Every name of the state dict is in the safetensors file, as its own library reads it, bit for bit."""
    tensors = safeload.state_dict(file.path, "cpu")
    written = tmp_path / "weights.safetensors"
    with nothing_runs(writing=True):
        safeload.convert(file.path, written, state_dict=True)
    back = safetensors.torch.load_file(written)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert same_values(back[name], tensor), name
    row_of(file).tensors = str(len(tensors))


@pytest.mark.parametrize("file", MODELS, ids=label)
def test_converting_there_and_back_loses_nothing(file: RealFile, tmp_path: Path) -> None:
    """Optimiser states, configurations, aliasing and order included: the object that comes back is the same."""
    unknown = "inert" if file.path.suffix == ".jit" else None
    there, back = tmp_path / "all.safetensors", tmp_path / "back.pt"
    with nothing_runs(writing=True):
        safeload.convert(file.path, there)
    assert check(file.path, there).same
    with nothing_runs():
        converted = safeload.load(there, "cpu", unknown=unknown)
    assert_same(converted, safeload.load(file.path, "cpu", unknown=unknown))
    row_of(file).converted = "same"
    if unknown:
        return
    with nothing_runs(writing=True):
        export(there, back)
    assert_same(safeload.load(back, "cpu"), converted)
    row_of(file).converted = "same, and back"
    if torch_result(file.path) == "loads":
        assert_same(torch_value(back), torch_value(file.path))
        row_of(file).converted = "same, and back, for torch too"


def same_values(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether dtype, shape and the bits of all elements are equal, wherever they lie."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    one, two = (tensor.detach().resolve_conj().resolve_neg().contiguous().view(-1) for tensor in (a, b))
    return bool(torch.equal(one.view(torch.uint8), two.view(torch.uint8)))


@pytest.mark.parametrize("file", [file for file in FILES if file.path.suffix == ".onnx"], ids=label)
def test_a_format_that_is_not_built_is_read_and_says_so(file: RealFile) -> None:
    """ONNX models are allowed, listed as the onnx package sees them, and no checkpoints."""
    report = safeload.scan(file.path)
    assert (report.format, report.decision.outcome) == ("onnx", Outcome.ALLOWED)
    shown = {tensor.name: (tensor.dtype, tensor.shape) for tensor in inspect(file.path).tensors}
    theirs = onnx.load(file.path).graph.initializer
    assert {one.name: (onnx.TensorProto.DataType.Name(one.data_type), tuple(one.dims)) for one in theirs}.items() <= shown.items()
    with pytest.raises(UnsupportedError) as caught:
        safeload.load(file.path)
    row_of(file).safeload = type(caught.value).__name__


def test_the_documentation_quotes_this_table() -> None:
    """A table in prose that no run produced is a claim."""
    assert TABLE.agrees(ROWS.values()), "SAFELOAD_UPDATE_DOCS=1 ./run real"
