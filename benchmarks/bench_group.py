"""What does loading with `group=` cost in each of two processes, against hashing and loading in both of them?

Run: python benchmarks/bench_group.py [--full]

Two processes over gloo on loopback, 64 float32 tensors, pinned; 1 GB with `--full`, 256 MB without, in the page cache. A time is that of
the slower process. `alone` is safeload in both without a group: each hashes everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import measure

WORLD = 2


def play(rank: int, path: Path, rounds: int) -> None:
    """All sides in one process of the group."""
    import torch
    import torch.distributed

    import safeload

    dist: Any = torch.distributed
    torch.set_num_threads(max(1, (os.cpu_count() or WORLD) // WORLD))
    dist.init_process_group("gloo", store=dist.FileStore(str(path.parent / "store"), WORLD), rank=rank, world_size=WORLD)
    lock = path.parent / "safeload.lock"

    def by_hand() -> Any:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256").hexdigest()
        return torch.load(path, weights_only=True)

    sides: dict[str, measure.Side] = {
        "group": lambda: safeload.load(path, lock=lock, group=dist.group.WORLD),
        "alone": lambda: safeload.load(path, lock=lock),
        "hash_then_torch": by_hand,
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(1 + rounds):
        for name, side in sides.items():
            dist.barrier()
            start = time.perf_counter()
            kept = side()
            dist.barrier()  # the slower of both counts
            if number:
                times[name].append((time.perf_counter() - start) * 1000)
            del kept
    if rank == 0:
        (path.parent / "times.json").write_text(json.dumps(times))
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Measure, and print one JSON line."""
    chosen = measure.options(__doc__)
    import torch.multiprocessing

    nbytes = (1 << 30) if chosen.full else (1 << 28)
    with measure.scratch() as directory:
        path = directory / "m.pt"
        measure.checkpoint(path, 64, nbytes // 256)
        measure.pinned(path)
        processes: Any = torch.multiprocessing
        processes.spawn(play, (path, chosen.rounds), nprocs=WORLD)
        times = json.loads((directory / "times.json").read_text())
    ratios = {"group_ratio": ("group", "hash_then_torch", 0.6), "group_to_alone": ("group", "alone", 1.0)}
    measure.emit("load_group", times, ratios, bytes=nbytes, tensors=64, processes=WORLD)


if __name__ == "__main__":
    main()
