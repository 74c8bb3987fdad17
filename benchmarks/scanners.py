"""Shared by the scan benchmarks: the scanners as people start them, one process each, taking turns.

`./run bench -- scan_opcodes` installs the other scanners, and safeload as it is here, into environments of their own, and names them:
SAFELOAD_BENCH_PEERS is the bin of the one, SAFELOAD_BENCH_PYTHON the interpreter of the other. Without them, peers are looked for on PATH,
and safeload is run from this tree by this interpreter. SAFELOAD_BENCH_ONLY names some of the peers.

fickling's command reads single pickles; for everything else its API is called on the pickles that it would be given (`data.pkl` of a
zip, the streams of anything else). A scanner that takes longer than the limit is reported as "over" it and not run again; one that
says by its exit status that it could not scan is reported as having failed, and is nobody to be compared with.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from measure import ROOT, machine

__all__ = ["EVERY", "report"]

EVERY: Final = ("picklescan", "modelscan", "fickling", "modelaudit")

_LIMIT: Final = 300.0  # seconds of one run
_PATIENCE: Final = 120.0  # seconds of all runs of one side, after its first counted one
_FAILED: Final = {"picklescan": (2,), "modelscan": (2, 3, 4), "fickling": (2, 255), "modelaudit": (2,)}
_COMMANDS: Final[dict[str, list[str]]] = {
    "picklescan": ["picklescan", "--path"],
    "modelscan": ["modelscan", "--path"],
    "fickling": ["fickling", "--check-safety"],
    "modelaudit": ["modelaudit", "scan", "--no-cache", "--format", "json"],
}
_FICKLING_API: Final = """\
import pathlib, sys, zipfile
from fickling.analysis import check_safety
from fickling.fickle import Pickled, StackedPickle
path = pathlib.Path(sys.argv[1])
for file in sorted(path.iterdir()) if path.is_dir() else [path]:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    with archive.open(name) as stream:
                        check_safety(Pickled.load(stream.read()))
    else:
        with file.open("rb") as stream:
            for pickled in StackedPickle.load(stream, fail_on_decode_error=False):
                check_safety(pickled)
"""


def _environment(name: str) -> dict[str, str]:
    quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1", "HF_HUB_OFFLINE": "1"}
    given = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    if name == "safeload" and "SAFELOAD_BENCH_PYTHON" not in os.environ:
        given["PYTHONPATH"] = os.environ.get("SAFELOAD_BENCH_TREE", str(ROOT))
    return {**given, **quiet}


def _sides(peers: Sequence[str], *, pickles: bool) -> dict[str, list[str]]:
    """The commands that can be run here, safeload's first."""
    sides = {"safeload": [os.environ.get("SAFELOAD_BENCH_PYTHON", sys.executable), "-m", "safeload", "scan", "--quiet"]}
    where = os.environ.get("SAFELOAD_BENCH_PEERS")
    only = [name for name in os.environ.get("SAFELOAD_BENCH_ONLY", "").split(",") if name]
    for name in peers:
        program = shutil.which(_COMMANDS[name][0], path=where)
        if program is None or (only and name not in only):
            continue
        sides[name] = [program, *_COMMANDS[name][1:]]
        if name == "fickling" and not pickles:
            sides[name] = [str(Path(program).with_name("python")), "-c", _FICKLING_API]
    return sides


def _once(name: str, command: Sequence[str], path: Path) -> float | None:
    """Seconds of one process; infinite beyond the limit, None when it says that it could not scan."""
    with tempfile.TemporaryFile() as sink:
        start = time.perf_counter()
        # Elsewhere than in this tree, whose pyproject.toml only safeload would read, and whose package would be imported.
        with subprocess.Popen(
            [*command, str(path)], stdout=sink, stderr=subprocess.DEVNULL, env=_environment(name), cwd=path.parent
        ) as process:
            # A wait with a limit looks every 50 ms only, which is as long as a scan takes.
            late = threading.Timer(_LIMIT, process.kill)
            late.start()
            code = process.wait()
            taken = time.perf_counter() - start
            late.cancel()
    if taken >= _LIMIT:
        return float("inf")
    return None if code in _FAILED.get(name, ()) or code < 0 else taken


def report(
    bench: str, path: Path, *, rounds: int, target: float, peers: Sequence[str] = EVERY, pickles: bool = False, **facts: object
) -> dict[str, object]:
    """Let every scanner take turns on `path`, and return what was measured.

    Args:
        bench: The benchmark's name.
        path: A file or a directory.
        rounds: Counted turns; one more is thrown away, so that files and bytecode are in memory for everybody.
        target: What safeload's time over the fastest other's should not exceed.
        peers: Who takes part.
        pickles: It is one raw pickle, which fickling's command reads.
        **facts: What the file is.

    Returns:
        Median and best seconds by scanner; `ratio` of the medians and `ratio_best` of the fastest runs, safeload over the fastest other.
    """
    sides = _sides(peers, pickles=pickles)
    times: dict[str, list[float]] = {name: [] for name in sides}
    stopped: set[str] = set()
    for turn in range(rounds + 1):
        for name, command in sides.items():
            if name in stopped:
                continue
            taken = _once(name, command, path)
            if taken is None or taken == float("inf"):
                times[name] = [] if taken is None else [taken]
                stopped.add(name)
            elif turn or taken > _PATIENCE:
                times[name].append(taken)
                if sum(times[name]) > _PATIENCE:
                    stopped.add(name)
    result: dict[str, object] = {"bench": bench, **facts, "bytes": _size(path), **_numbers(times, target)}
    return {**result, "rounds": rounds, **machine()}


def _numbers(times: Mapping[str, list[float]], target: float) -> dict[str, object]:
    """Medians, bests, and safeload's over the fastest other's."""
    found: dict[str, object] = {}
    measured = {name: taken for name, taken in times.items() if taken and taken != [float("inf")]}
    for name, taken in times.items():
        if name in measured:
            found[f"{name}_s"] = round(statistics.median(taken), 3)
            found[f"{name}_best_s"] = round(min(taken), 3)
        else:
            found[f"{name}_s"] = f"over {_LIMIT:.0f}" if taken else "failed"
    others = [taken for name, taken in measured.items() if name != "safeload"]
    if others and "safeload" in measured:
        found["ratio"] = round(statistics.median(measured["safeload"]) / min(map(statistics.median, others)), 4)
        found["ratio_best"] = round(min(measured["safeload"]) / min(map(min, others)), 4)
        found["ratio_target"] = target
    return found


def _size(path: Path) -> int:
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file()) if path.is_dir() else path.stat().st_size
