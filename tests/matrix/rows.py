"""Every kind of object that `torch.save` is given, in groups."""

from __future__ import annotations

from typing import Final

from tests.matrix import objects, plain, tensors
from tests.matrix.row import Row

__all__ = ["ROWS"]

ROWS: Final[list[Row]] = [*tensors.ROWS, *objects.ROWS, *plain.ROWS]
