"""What does loading a pinned checkpoint cost with every byte hashed, against hashing and loading in two steps?

Run: python benchmarks/bench_load_1gb.py [--full]

64 float32 tensors; 1 GB with `--full`, 256 MB without. `copy` is the private copy, `mapped` is `mmap=True`. The file is in the
page cache for all sides.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import measure


def hashed_then_loaded(path: Path, *, mmap: bool) -> object:
    """What a careful script does today."""
    import torch

    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()
    return torch.load(path, weights_only=True, mmap=mmap)


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import torch

    import safeload

    nbytes = (1 << 30) if chosen.full else (1 << 28)
    with measure.scratch() as directory:
        path = directory / "m.pt"
        measure.checkpoint(path, 64, nbytes // 256)
        lock = measure.pinned(path)
        times = measure.in_turns(
            {
                "copy": lambda: safeload.load(path, lock=lock),
                "hash_then_torch": lambda: hashed_then_loaded(path, mmap=False),
                "torch": lambda: torch.load(path, weights_only=True),
                "mapped": lambda: safeload.load(path, lock=lock, mmap=True),
                "hash_then_torch_mapped": lambda: hashed_then_loaded(path, mmap=True),
            },
            chosen.rounds,
        )
    ratios = {
        "copy_ratio": ("copy", "hash_then_torch", 0.6),
        "copy_to_torch_alone": ("copy", "torch", 1.0),
        "mapped_ratio": ("mapped", "hash_then_torch_mapped", 0.55),
    }
    measure.emit("load_pinned", times, ratios, bytes=nbytes, tensors=64)


if __name__ == "__main__":
    main()
