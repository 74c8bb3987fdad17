"""What a file holds, told without loading it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from safeload.errors import MalformedError, UnsupportedError
from safeload.inspection import decompile, inspect
from tests.forge_cli import CALL, DATA, UNKNOWN, write_checkpoint, write_safetensors


def test_tensors_of_a_checkpoint_have_names_types_shapes_and_sizes(tmp_path: Path) -> None:
    """The table that people look at before they write loading code."""
    write_checkpoint(tmp_path / "model.pt")
    found = inspect(tmp_path / "model.pt")
    assert found.format == "torch-zip"
    assert [(t.name, t.dtype, t.shape, t.nbytes, t.stride) for t in found.tensors] == [
        ("weight", "float32", (2, 3), 24, (3, 1)),
        ("bias", "float32", (2,), 8, (1,)),
    ]
    assert found.parameters == 8
    assert found.metadata["byteorder"] == "little"
    assert "torch._utils._rebuild_tensor_v2" in found.globals


def test_tensors_of_a_safetensors_file(tmp_path: Path) -> None:
    """Formats with a table of their own need no build."""
    write_safetensors(tmp_path / "x.safetensors")
    (tensor,) = inspect(tmp_path / "x.safetensors").tensors
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.nbytes) == ("a", "float32", (3,), 12)


def test_a_file_without_tensors_has_none() -> None:
    """Plain data is a checkpoint, too."""
    assert inspect(DATA).tensors == ()
    assert inspect(UNKNOWN).globals == ("acme.models.Net",)


def test_what_no_reader_claims_is_an_error() -> None:
    """There is nothing to describe."""
    with pytest.raises(MalformedError):
        inspect(b"\x00\x01\x02 not a model")


def test_a_stream_is_shown_as_code() -> None:
    """What a hostile stream does can be read in a language that people read."""
    code = decompile(CALL)
    assert "from os import system" in code
    assert "system('true')" in code


def test_code_cannot_write_to_the_terminal() -> None:
    """A string in a stream may hold escape sequences and newlines."""
    code = decompile(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x08\x1b[2J\x07\r\n\x0b\x85R.")
    assert all(char.isprintable() or char == "\n" for char in code)


def test_a_file_without_streams_has_no_code(tmp_path: Path) -> None:
    """The error says what the file is."""
    write_safetensors(tmp_path / "x.safetensors")
    with pytest.raises(UnsupportedError, match="safetensors file has no pickle stream"):
        decompile(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x02K\x01\x85" + b"2\x86" * 40 + b".",
        b"\x80\x02]q\x00" + b"".join(b"(h%ch%clq%c" % (i, i, i + 1) for i in range(40)) + b".",
        b"\x80\x02}q\x00" + b"".join(b"(K\x01h%cK\x02h%cdq%c" % (i, i, i + 1) for i in range(40)) + b".",
    ],
    ids=["tuple", "list", "dict"],
)
def test_a_stream_that_doubles_itself_is_not_written_out(stream: bytes) -> None:
    """Forty DUP and TUPLE2 stand for a terabyte of code."""
    with pytest.raises(UnsupportedError, match="fickling cannot show"):
        decompile(stream)


@pytest.mark.parametrize("stream", [b"\x80\x02(.", b"\x80\x02Q.", b"\x80\x022.", b"\x80\x02h\x05."])
def test_whatever_fickling_raises_is_one_of_our_errors(stream: bytes) -> None:
    """It was written for streams that mean something."""
    with contextlib.suppress(UnsupportedError, MalformedError):
        assert decompile(stream)


@pytest.mark.torch
def test_every_kind_of_tensor_is_described(tmp_path: Path) -> None:
    """Sparse, quantised, meta and nested tensors, parameters and arrays have no single dense view to read the facts from."""
    import warnings

    import numpy as np
    import torch

    records = np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {
            "parameter": torch.nn.Parameter(torch.ones(3)),
            "sparse": torch.eye(3).to_sparse(),
            "csr": torch.eye(3).to_sparse_csr(),
            "quantised": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
            "meta": torch.empty(2, 2, device="meta"),
            "array": np.arange(5, dtype="<i2"),
            "records": records,
            "objects": np.array([{}, 1], dtype=object),
            "storage": torch.ones(3).untyped_storage(),
        }
        torch.save({"outer": [values]}, tmp_path / "mix.pt")
    found = {tensor.name: tensor for tensor in inspect(tmp_path / "mix.pt").tensors}
    assert {name.removeprefix("outer.0."): (t.kind, t.shape) for name, t in found.items()} == {
        "parameter": ("parameter", (3,)),
        "sparse": ("sparse", (3, 3)),
        "csr": ("sparse", (3, 3)),
        "quantised": ("quantised", (4,)),
        "meta": ("meta", (2, 2)),
        "array": ("array", (5,)),
        "records": ("array", (2,)),
        "objects": ("array", (2,)),
        "storage": ("storage", (12,)),
    }
    assert found["outer.0.parameter"].requires_grad
    assert (found["outer.0.array"].nbytes, found["outer.0.array"].dtype) == (10, "<i2")
    assert found["outer.0.records"].nbytes == records.nbytes
    assert found["outer.0.meta"].nbytes == 16


@pytest.mark.torch
def test_a_pickled_module_is_named_as_its_state_dict_is(tmp_path: Path) -> None:
    """Its classes are not imported, and its names are those that people know."""
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save(module, tmp_path / "module.pt")
    assert [tensor.name for tensor in inspect(tmp_path / "module.pt").tensors] == list(module.state_dict())


@pytest.mark.torch
def test_shared_tensors_count_once(tmp_path: Path) -> None:
    """Tied weights are one set of parameters under two names."""
    import torch

    weight = torch.ones(10)
    torch.save({"a": weight, "b": weight}, tmp_path / "tied.pt")
    found = inspect(tmp_path / "tied.pt")
    assert [tensor.name for tensor in found.tensors] == ["a", "b"]
    assert found.parameters == 10
