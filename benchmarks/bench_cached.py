"""What does a mapped load of an unchanged, pinned file cost with `verify = "cached"`, against torch.load(mmap=True) unverified?

Run: python benchmarks/bench_cached.py [--full]
"""

from __future__ import annotations

import os
import time

import measure


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import torch

    import safeload

    nbytes = (1 << 30) if chosen.full else (1 << 28)
    with measure.scratch() as directory:
        os.environ["SAFELOAD_CACHE"] = str(directory / "cache")
        path = directory / "m.pt"
        measure.checkpoint(path, 64, nbytes // 256)
        lock = measure.pinned(path)
        time.sleep(3)  # a file that changed just now is never trusted
        policy = {"verify": "cached"}
        times = measure.in_turns(
            {
                "cached": lambda: safeload.load(path, lock=lock, policy=policy, mmap=True),
                "torch": lambda: torch.load(path, weights_only=True, mmap=True),
            },
            max(chosen.rounds, 15),
            warm=2,
        )
    measure.emit("cached", times, {"ratio": ("cached", "torch", 1.0)}, bytes=nbytes, tensors=64)


if __name__ == "__main__":
    main()
