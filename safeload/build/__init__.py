"""Real objects from judged bytes: the only package that imports torch and numpy.

`torch_tensors.build_torch` is the way in. It gets what a reader found and the same source, reads every storage into memory,
lets its caller compare digests, and only then makes objects. `torch_module` is asked first, because torch is optional.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Final

from safeload.errors import MissingExtraError, UnsupportedError
from safeload.findings import escape

__all__ = ["OLDEST_TORCH", "numpy_module", "torch_module"]

OLDEST_TORCH: Final = (2, 6)


def torch_module() -> ModuleType:
    """Return torch.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
        UnsupportedError: it is older than 2.6, where the functions that rebuild tensors do not check what they are given.
    """
    try:
        import torch
    except ImportError as error:
        raise _missing("torch", error) from error
    except OSError as error:  # a shared library that does not load
        raise UnsupportedError(f"torch cannot be imported: {escape(str(error))}") from error
    version = str(getattr(torch, "__version__", ""))
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_TORCH:
        raise UnsupportedError(
            f"torch {escape(version)} is too old to build tensors safely; {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} is the oldest that is used",
            hint="scan, lock, verify and convert work without torch",
        )
    return sys.modules["torch"]


def numpy_module() -> ModuleType:
    """Return numpy.

    Raises:
        MissingExtraError: it is not installed, or cannot be imported.
    """
    try:
        import numpy  # noqa: F401, ICN001 — to have it in sys.modules
    except ImportError as error:
        raise _missing("numpy", error) from error
    return sys.modules["numpy"]


def _missing(name: str, error: ImportError) -> MissingExtraError:
    if getattr(error, "name", None) in (name, None) and name not in sys.modules:
        return MissingExtraError(f"{name} is not installed", hint=f"pip install 'safeload[{name}]'")
    return MissingExtraError(f"{name} cannot be imported: {escape(str(error))}", hint=f"pip install 'safeload[{name}]'")
