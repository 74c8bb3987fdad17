"""How long does `import safeload` take, against `import torch` and against Python's own start?

Run: python benchmarks/bench_import.py

Each number is the median wall time of a fresh process, in milliseconds, bytecode cached, runs taken in turns so that a
busy machine slows all alike. `*_extra_ms` has the start of Python taken off: that is what an application pays.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ROUNDS: Final = 15
SLOW_ROUNDS: Final = 3
SMALL_PICKLE: Final = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s."


def fresh(arguments: list[str], directory: str) -> float:
    """Return the wall time of one fresh Python process, in milliseconds."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, cwd=directory, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Measure, and print one JSON line."""
    cases = {
        "python": ["-c", "pass"],
        "import_safeload": ["-c", "import safeload"],
        "version": ["-m", "safeload", "--version"],
        "scan_small": ["-m", "safeload", "scan", "small.pkl"],
    }
    if importlib.util.find_spec("torch"):
        cases["import_torch"] = ["-c", "import torch"]
    times: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "small.pkl").write_bytes(SMALL_PICKLE)
        for arguments in cases.values():
            fresh(arguments, directory)
        for number in range(ROUNDS):
            for name, arguments in cases.items():
                if name != "import_torch" or number < SLOW_ROUNDS:
                    times[name].append(fresh(arguments, directory))
    result: dict[str, object] = {"bench": "import", "rounds": ROUNDS, "python": sys.version.split()[0]}
    for name, taken in times.items():
        result[f"{name}_ms"] = round(statistics.median(taken), 1)
        result[f"{name}_best_ms"] = round(min(taken), 1)
    for name in ("import_safeload", "version", "scan_small"):
        result[f"{name}_extra_ms"] = round(statistics.median(times[name]) - statistics.median(times["python"]), 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
