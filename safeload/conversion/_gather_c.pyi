from collections.abc import Sequence

from typing_extensions import Buffer

def copy(out: Buffer, at: int, data: Buffer, dims: Sequence[tuple[int, int, int]], itemsize: int) -> None: ...
