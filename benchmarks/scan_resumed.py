"""Is a scan that was interrupted ten times and resumed the same as one that was not, and how much longer does it take?

Ten random moments, spread over the whole tree, SIGINT and SIGKILL in turns, with a journal. The outputs are compared byte by byte, and
the journal says whether anything was scanned twice.

Run: python benchmarks/scan_resumed.py [--full]   (600 files; with --full 10,000)
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from measure import ROOT, checkpoint, machine, options, scratch
from scan_registry import fill

_MOMENTS: Final = 10
_ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(output: str, *more: str) -> list[str]:
    """A scan of the registry."""
    return [sys.executable, "-m", "safeload", "scan", "registry", "--quiet", "--format", "jsonl", "--output", output, *more]


def kept(journal: Path) -> int:
    """How many results the journal has."""
    if journal.exists():
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(journal)) as base:
            return int(base.execute("SELECT count(*) FROM scanned").fetchone()[0])
    return 0


def interrupted(folder: Path, goal: int, how: signal.Signals, jobs: int) -> None:
    """Scan until the journal has so many results, and stop it then."""
    words = command("resumed.jsonl", "--journal", "journal.db", "--jobs", str(jobs))
    with subprocess.Popen(words, cwd=folder, env=_ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True) as child:
        while child.poll() is None and kept(folder / "journal.db") < goal:
            time.sleep(0.001)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, how)


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    files = 10_000 if asked.full else 600
    rng = random.Random(11)
    with scratch() as folder:
        checkpoint(folder / "one.pt", 10, 64)
        fill(folder / "registry", files, (folder / "one.pt").read_bytes())
        time.sleep(0.5)  # a file that changed this moment is believed by no journal
        start = time.perf_counter()
        subprocess.run(command("whole.jsonl"), cwd=folder, env=_ENVIRONMENT, check=True)
        whole = time.perf_counter() - start
        start = time.perf_counter()
        for number, goal in enumerate(sorted(rng.randrange(1, files) for _ in range(_MOMENTS))):
            interrupted(folder, goal, (signal.SIGINT, signal.SIGKILL)[number % 2], 1 + number // 2 % 2)
        cut = time.perf_counter() - start
        start = time.perf_counter()
        subprocess.run(command("resumed.jsonl", "--journal", "journal.db"), cwd=folder, env=_ENVIRONMENT, check=True)
        rest = time.perf_counter() - start
        same = (folder / "whole.jsonl").read_bytes() == (folder / "resumed.jsonl").read_bytes()
        with contextlib.closing(sqlite3.connect(folder / "journal.db")) as base:
            rows, times = base.execute("SELECT count(*), max(times) FROM scanned").fetchone()
        size = (folder / "journal.db").stat().st_size
    result = {"bench": "scan_resumed", "files": files, "interruptions": _MOMENTS, "same_output": same, "results_kept": rows}
    result |= {"scans_of_one_file_at_most": times, "one_run_s": round(whole, 3), "interrupted_runs_s": round(cut, 3)}
    print(json.dumps({**result, "last_run_s": round(rest, 3), "journal_bytes_per_file": round(size / files), **machine()}))


if __name__ == "__main__":
    main()
