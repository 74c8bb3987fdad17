"""Model files to mutate: one of each format and of the kinds of object that need checks, made anew and small."""

from __future__ import annotations

import collections
import io
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from tests import forge_skops
from tests.formats_page import all_rows

__all__ = ["fuzz_seeds", "real_seeds"]


def _objects() -> dict[str, object]:
    base = torch.arange(24.0).reshape(4, 6)
    tied = torch.nn.Parameter(torch.ones(3))
    state = collections.OrderedDict(weight=base, view=base[1:, ::2], transposed=base.t(), tied=tied, again=tied)
    state._metadata = collections.OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    eye, adam = torch.eye(3), torch.optim.Adam([tied])
    return {
        "state dict": state,
        "dtypes": [torch.zeros(2, dtype=dtype) for dtype in (torch.bool, torch.int8, torch.bfloat16, torch.complex64, torch.float8_e5m2)],
        "sparse": {"coo": eye.to_sparse(), "csr": eye.to_sparse_csr(), "bsc": torch.eye(4).to_sparse_bsc((2, 2))},
        "numpy": {"a": np.arange(6.0).reshape(2, 3), "f": np.float64(1.5), "d": np.dtype("<i4")},
        "training": {"step": 7, "lr": 0.5, "names": ["a", "b"], "set": {1, 2}, "bytes": b"\x00\xff", "opt": adam.state_dict()},
        "bits": [torch.tensor([1 + 2j]).conj(), torch._neg_view(torch.ones(2))],
    }  # fmt: skip


def fuzz_seeds() -> list[tuple[str, bytes]]:
    """Return (name, file) pairs."""
    with warnings.catch_warnings():  # torch calls half of what it writes a prototype, and TorchScript deprecated
        warnings.simplefilter("ignore")
        return list(_seeds())


def _seeds() -> Iterator[tuple[str, bytes]]:
    for name, value in _objects().items():
        for kind, zipped in (("zip", True), ("legacy", False)):
            buffer = io.BytesIO()
            try:
                torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
            except (RuntimeError, AttributeError, KeyError):
                continue
            yield f"{name} {kind}", buffer.getvalue()
    yield "safetensors", save({"a": torch.ones(3), "b": torch.zeros(2, 2, dtype=torch.float16)}, {"format": "pt"})
    for protocol in (0, 2, 5):
        yield f"pickle {protocol}", pickle.dumps({"words": ["a", "é"], "n": [1, -2, 1 << 70, 1.5], "t": (None, True)}, protocol)
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    yield "torchscript", script.getvalue()
    array = io.BytesIO()
    np.save(array, np.arange(4.0))
    yield "npy", array.getvalue()
    arrays = io.BytesIO()
    np.savez(arrays, a=np.arange(3), b=np.array(["x", None], dtype=object))
    yield "npz", arrays.getvalue()
    yield from _tabular()


def _tabular() -> Iterator[tuple[str, bytes]]:
    """Formats that are read and never built."""
    array = forge_skops.node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy")
    yield "skops", forge_skops.skops(forge_skops.estimator(C=forge_skops.text(1.0), coef_=array), {"1.npy": forge_skops.array_file()})
    for row in all_rows():
        for name, make in row.benign.items():
            made = make()
            files = {"": made} if isinstance(made, bytes) else made
            yield from ((f"{row.format} {name} {path}".strip(), data) for path, data in files.items())


def real_seeds(largest: int = 700_000) -> Iterator[tuple[str, bytes]]:
    """Yield published model files, where `nox -s real` left them (SAFELOAD_REAL_DIR); small ones, so that many can be tried."""
    root = os.environ.get("SAFELOAD_REAL_DIR")
    for path in sorted(Path(root).rglob("*")) if root else []:
        if path.is_file() and path.suffix in (".pt", ".pth", ".tar", ".jit", ".safetensors") and path.stat().st_size <= largest:
            yield path.name, path.read_bytes()
