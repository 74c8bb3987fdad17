"""How much faster is one verified 16 MB tensor through `safeload.open` than the full verified load?

Run: python benchmarks/bench_open_one_tensor.py [--full]

The list of leaves lies in the cache from the run that is not counted.
"""

from __future__ import annotations

import os
from pathlib import Path

import measure


def one(path: Path, lock: Path) -> object:
    """Open, take one tensor, close."""
    import safeload

    with safeload.open(path, lock=lock) as file:
        return file.get_tensor("layers.3.weight")


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import safeload

    nbytes = (1 << 30) if chosen.full else (1 << 28)
    with measure.scratch() as directory:
        os.environ["SAFELOAD_CACHE"] = str(directory / "cache")
        path = directory / "m.pt"
        measure.checkpoint(path, nbytes >> 24, 1 << 22)
        lock = measure.pinned(path)
        times = measure.in_turns({"one": lambda: one(path, lock), "all": lambda: safeload.load(path, lock=lock)}, chosen.rounds)
    measure.emit("open_one_tensor", times, {"ratio": ("one", "all", 0.05)}, bytes=nbytes, tensor_bytes=1 << 24)


if __name__ == "__main__":
    main()
