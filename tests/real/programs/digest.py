"""Print results so that two runs can be compared to the last bit."""

from __future__ import annotations

import hashlib
from typing import Any

__all__ = ["show"]


def show(name: str, result: Any) -> None:
    """Print the name, shape and SHA-256 of a tensor or array."""
    array = result.detach().numpy() if hasattr(result, "detach") else result
    print(name, array.dtype, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
