"""Does load time grow in a straight line with the number of tensors and with bytes?

Run: python benchmarks/bench_scaling.py [--full]

`straight` is the time per unit at the largest size over the time per unit at the second largest: 1 is a line through zero.
"""

from __future__ import annotations

import json
import statistics
from functools import partial

import measure


def main() -> None:
    """Measure, and print one JSON line for each axis."""
    chosen = measure.options(__doc__)
    import torch

    import safeload

    counts = (100, 1_000, 10_000, 100_000) if chosen.full else (100, 1_000, 10_000)
    lengths = (1 << 20, 1 << 24, 1 << 28, 1 << 30, 1 << 32) if chosen.full else (1 << 20, 1 << 24, 1 << 28)
    axes = {"tensors": [(count, 16) for count in counts], "bytes": [(8, nbytes // 32) for nbytes in lengths]}
    for axis, sizes in axes.items():
        points = []
        for tensors, elements in sizes:
            with measure.scratch() as directory:
                path = directory / "m.pt"
                measure.checkpoint(path, tensors, elements)
                lock = measure.pinned(path)
                sides: dict[str, measure.Side] = {
                    "safeload": partial(safeload.load, path, lock=lock),
                    "torch": partial(torch.load, path, weights_only=True),
                }
                times = measure.in_turns(sides, chosen.rounds)
            amount = tensors if axis == "tensors" else tensors * elements * 4
            points.append({axis: amount, **{f"{name}_ms": round(statistics.median(taken), 2) for name, taken in times.items()}})
        (before, after) = points[-2:]
        straight = (after["safeload_ms"] / after[axis]) / (before["safeload_ms"] / before[axis])
        print(json.dumps({"bench": "scaling", "axis": axis, "points": points, "straight": round(straight, 3), **measure.machine()}))


if __name__ == "__main__":
    main()
