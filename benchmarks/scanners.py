"""Shared by the scan benchmarks: the scanners as people start them, one process each, taking turns.

Peers are found on PATH, or in the directory that SAFELOAD_BENCH_PEERS names (the bin of an environment that holds picklescan, modelscan,
fickling and modelaudit); SAFELOAD_BENCH_ONLY names some of them. One that is missing is left out; one that takes longer than the limit
is reported as "over" it. Compile safeload's own files first (`python -m compileall safeload`): installed packages come compiled.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from measure import ROOT, machine

__all__ = ["ARCHIVES", "report"]

ARCHIVES: Final = ("picklescan", "modelscan", "modelaudit")  # fickling's command reads single pickles

_LIMIT: Final = 300.0  # seconds; a scanner that needs more is not run again
_TREE: Final = os.environ.get("SAFELOAD_BENCH_TREE", str(ROOT))
_ENVIRONMENT: Final = {
    **os.environ, "PYTHONPATH": _TREE, "PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
_COMMANDS: Final[dict[str, list[str]]] = {
    "picklescan": ["picklescan", "--path"],
    "modelscan": ["modelscan", "--path"],
    "fickling": ["fickling", "--check-safety"],
    "modelaudit": ["modelaudit", "scan", "--no-cache", "--format", "json"],
}


def _sides(peers: Sequence[str]) -> dict[str, list[str]]:
    """The commands that can be run here; safeload first, run from the tree that is measured."""
    sides = {"safeload": [sys.executable, "-m", "safeload", "scan", "--quiet"]}
    where = os.environ.get("SAFELOAD_BENCH_PEERS")
    only = os.environ.get("SAFELOAD_BENCH_ONLY", "").split(",")
    for name in peers:
        if only != [""] and name not in only:
            continue
        command = _COMMANDS[name]
        program = shutil.which(command[0], path=where) if where else shutil.which(command[0])
        if program:
            sides[name] = [program, *command[1:]]
    return sides


def _once(command: Sequence[str], path: Path) -> float:
    """Seconds of one process, infinite beyond the limit; the exit status says what it found, and is not asked."""
    start = time.perf_counter()
    try:
        subprocess.run(
            [*command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENVIRONMENT, check=False, timeout=_LIMIT
        )
    except subprocess.TimeoutExpired:
        return float("inf")
    return time.perf_counter() - start


def report(bench: str, path: Path, *, rounds: int, peers: Sequence[str] = tuple(_COMMANDS), **facts: object) -> dict[str, object]:
    """Let every scanner take turns on `path`, and return what was measured.

    Args:
        bench: The benchmark's name.
        path: A file or a directory.
        rounds: Counted turns; one more is thrown away, so that the files are in memory for everybody.
        peers: Those that make sense here.
        **facts: What the file is.

    Returns:
        Median and best seconds by scanner, and how many times faster safeload was than the fastest of the others, by median.
    """
    sides = _sides(peers)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, command in sides.items():
            if times[name] and times[name][-1] == float("inf"):
                continue
            taken = _once(command, path)
            if turn or taken == float("inf"):
                times[name].append(taken)
    result: dict[str, object] = {"bench": bench, **facts, "bytes": _size(path)}
    result |= _numbers(times)
    return {**result, "rounds": rounds, **machine()}


def _numbers(times: Mapping[str, list[float]]) -> dict[str, object]:
    """Medians, bests and the ratio."""
    found: dict[str, object] = {}
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, taken in times.items():
        slow = medians[name] == float("inf")
        found[f"{name}_s"] = f"over {_LIMIT:.0f}" if slow else round(medians[name], 3)
        found[f"{name}_best_s"] = None if slow else round(min(taken), 3)
    others = [seconds for name, seconds in medians.items() if name != "safeload"]
    if others:
        fastest = min(others)
        found["times_faster_than_the_fastest_peer"] = None if fastest == float("inf") else round(fastest / medians["safeload"], 2)
    return found


def _size(path: Path) -> int:
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file()) if path.is_dir() else path.stat().st_size
