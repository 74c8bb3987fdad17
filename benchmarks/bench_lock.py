"""How long does locking eight shards take, against one thread of hashlib and, where installed, the model-signing package?

Run: python benchmarks/bench_lock.py [--full]

Eight files of 256 MB with `--full`, of 32 MB without. safeload takes sha256 and sha256-tree of each.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path

import measure


def one_thread(paths: list[Path]) -> None:
    """What `sha256sum` does."""
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import safeload

    nbytes = (1 << 28) if chosen.full else (1 << 25)
    with measure.scratch() as directory:
        folder = directory / "model"
        folder.mkdir()
        paths = [folder / f"shard-{index}.pt" for index in range(8)]
        for path in paths:
            measure.checkpoint(path, 8, nbytes // 32)

        def lock() -> None:
            (directory / "safeload.lock").unlink(missing_ok=True)
            safeload.lock(folder, lock=directory / "safeload.lock")

        sides: dict[str, measure.Side] = {"safeload": lock, "hashlib": lambda: one_thread(paths)}
        ratios = {"ratio": ("safeload", "hashlib", 0.6)}
        if importlib.util.find_spec("model_signing"):
            hashing = importlib.import_module("model_signing.hashing")
            sides["model_signing"] = lambda: hashing.hash(folder)
            ratios["to_model_signing"] = ("safeload", "model_signing", 1.0)
        times = measure.in_turns(sides, chosen.rounds)
    measure.emit("lock", times, ratios, files=8, bytes_each=nbytes)


if __name__ == "__main__":
    main()
