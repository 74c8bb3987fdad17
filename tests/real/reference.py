"""What a real file holds according to others: torch with exactly the globals it lacks, torch.jit, safetensors.

Only the files of `tests/real/fetch.py` are read this way: torch.jit.load compiles the code that it finds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["script_state", "torch_result", "torch_value"]


def torch_result(path: Path) -> str:
    """Return "loads", or what `torch.load(weights_only=True)` does not know or read."""
    try:
        torch_value(path)
    except Exception as error:  # noqa: BLE001 - torch refuses with many classes
        return _why(path, error)
    return "loads"


def torch_value(path: Path) -> Any:
    """Return what `torch.load(weights_only=True)` makes of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _why(path: Path, error: Exception) -> str:
    if "TorchScript" in str(error):
        return "refuses TorchScript"
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - nothing that torch can open
        return f"{type(error).__name__}: not a torch file"
    return f"refuses {', '.join(sorted(names))}"


@contextmanager
def extended_torch() -> Iterator[None]:
    """Let torch's weights-only reader know a slice and plain numpy arrays, and nothing else."""
    reconstruct: Any = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"}
    known: list[Any] = [slice, np.ndarray, np.dtype, (reconstruct, "numpy.core.multiarray._reconstruct"), *kinds]
    with torch.serialization.safe_globals(known):
        yield


def script_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a TorchScript file by torch's own reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return dict(module.state_dict())
