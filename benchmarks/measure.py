"""Shared by the benchmarks: sides that take turns, medians, checkpoints to load, one JSON line.

Nothing here is measured. Each benchmark is a program of its own; Python finds this module beside it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, os.environ.get("SAFELOAD_BENCH_TREE", str(ROOT)))

ROUNDS: Final = 5
POLICY: Final = {"unpinned": "allow"}

Side = Callable[[], object]


def options(description: str | None) -> argparse.Namespace:
    """Parse `--full` (the sizes of the published table) and `--rounds`."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="the published sizes; default is what runs in under a minute")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    return parser.parse_args()


def in_turns(
    sides: Mapping[str, Side], rounds: int = ROUNDS, *, warm: int = 1, between: Callable[[], object] = gc.collect
) -> dict[str, list[float]]:
    """Run every side `rounds` times, one after the other, so that a busy machine slows all alike.

    Args:
        sides: What to run; what one returns is dropped outside the measured time.
        rounds: How often.
        warm: Runs of each that are not counted.
        between: Called before each run, not measured.

    Returns:
        Milliseconds by side.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm + rounds):
        for name, side in sides.items():
            between()
            start = time.perf_counter()
            kept = side()
            taken = (time.perf_counter() - start) * 1000
            del kept
            if number >= warm:
                times[name].append(taken)
    return times


def emit(bench: str, times: Mapping[str, list[float]], ratios: Mapping[str, tuple[str, str, float]], **facts: object) -> None:
    """Print the JSON line.

    Args:
        bench: Its name.
        times: As from `in_turns`.
        ratios: For each name: the side above, the side below, and the target that the ratio of their medians should not exceed.
        **facts: What was measured.
    """
    result: dict[str, object] = {"bench": bench, **facts}
    for name, taken in times.items():
        result[f"{name}_ms"] = round(statistics.median(taken), 2)
        result[f"{name}_best_ms"] = round(min(taken), 2)
    for name, (above, below, target) in ratios.items():
        result[name] = round(statistics.median(times[above]) / statistics.median(times[below]), 4)
        result[f"{name}_best"] = round(min(times[above]) / min(times[below]), 4)
        result[f"{name}_target"] = target
    result["rounds"] = len(next(iter(times.values())))
    print(json.dumps({**result, **machine()}))


def machine() -> dict[str, object]:
    """What the numbers were taken on."""
    from safeload.walk import machine as pickle_machine

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch: Any = sys.modules.get("torch")
    versions = {"python": platform.python_version(), "torch": getattr(torch, "__version__", None)}
    return {"cpu": cpu(), "cores": cores, "compiled": pickle_machine.__name__.endswith("_c"), **versions}


def cpu() -> str:
    """What the processor calls itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is removed; `TMPDIR` says on which disk."""
    with tempfile.TemporaryDirectory(prefix="safeload-bench-") as name:
        yield Path(name)


def checkpoint(path: Path, tensors: int, elements: int) -> dict[str, Any]:
    """Save `tensors` float32 tensors of `elements` each with torch, and return them."""
    import torch

    made = torch.arange(elements, dtype=torch.float32)
    state = {f"layers.{index}.weight": made + index for index in range(tensors)}
    torch.save(state, path)
    return state


def pinned(path: Path) -> Path:
    """Pin a file; returns the lockfile beside it."""
    import safeload

    lock = path.parent / "safeload.lock"
    safeload.lock(path, lock=lock)
    return lock
