"""How long does a registry of small files take to scan, in one process, in two and on a Dask cluster, against picklescan and modelaudit?

And how much memory: once for the same registry, once for one that is ten times as large, in which memory should be the same.
Needs Dask for its part (`pip install "safeload[dask]"`), and the peers where `scanners.py` looks for them.

Run: python benchmarks/scan_registry.py [--full]   (600 and 6,000 files; with --full 10,000 and 100,000)
With `--full --no-memory --within 300` it ends after about six minutes on two cores. modelaudit, at about a second for each file, gets the
first hundred files, and safeload the same in turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pickle
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from measure import ROOT, checkpoint, machine, scratch

_PEERS: Final = {"picklescan": ["picklescan", "--path"], "modelaudit": ["modelaudit", "scan", "--no-cache", "--format", "json"]}
_ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(ROOT), "PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1"}
_LIMIT: Final = 1800.0  # seconds


def fill(top: Path, files: int, model: bytes) -> None:
    """A tree as registries have it: a hundred files in each directory, checkpoints, pickles, some text."""
    words = pickle.dumps({f"word{index}": index for index in range(200)}, protocol=4)
    for index in range(files):
        folder = top / f"{index // 100:05}"
        folder.mkdir(parents=True, exist_ok=True)
        if index % 100 == 0:
            (folder / "README.md").write_bytes(b"# A model\n")
        elif index % 10:
            (folder / f"{index}.pkl").write_bytes(words)
        else:
            (folder / f"{index}.pt").write_bytes(model)


# A process begins with the peak of the one that started it, so a small one stands between this one and what is measured.
_LAUNCHER: Final = """
import json, os, sys, time
out = os.open(os.devnull, os.O_WRONLY)
start = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)])
_, _, usage = os.wait4(child, 0)
print(json.dumps([time.perf_counter() - start, usage.ru_maxrss * 1024]))
"""


def once(command: Sequence[str], cwd: Path) -> tuple[float, int]:
    """Seconds of one command, and the most memory of its first process or the largest that it waited for, in bytes."""
    launched = [sys.executable, "-S", "-E", "-c", _LAUNCHER, *command]
    try:
        done = subprocess.run(launched, capture_output=True, text=True, env=_ENVIRONMENT, cwd=cwd, check=True, timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        return float("inf"), 0
    seconds, memory = json.loads(done.stdout)
    return seconds, memory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def cluster(top: Path) -> Iterator[str | None]:
    """A scheduler and two workers on loopback; None where Dask is not installed."""
    if importlib.util.find_spec("distributed") is None:
        yield None
        return
    port = _free_port()
    here = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [[sys.executable, "-m", "distributed.cli.dask_scheduler", *here, "--port", str(port)]]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", *here, "--nthreads", "1", "--no-nanny"]
    commands += [worker, worker]
    children = []
    try:
        for command in commands:
            children.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENVIRONMENT, cwd=top))
            time.sleep(2)
        from distributed import Client

        with Client(f"tcp://127.0.0.1:{port}", set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield f"dask://127.0.0.1:{port}"
    finally:
        for child in reversed(children):
            child.kill()
            child.wait()


def sides(engine: str | None) -> dict[str, list[str]]:
    """The commands that can be run here, each in an environment of its own where `scanners.py` would have one."""
    safeload = [os.environ.get("SAFELOAD_BENCH_PYTHON", sys.executable), "-m", "safeload", "scan", "--quiet", "--format", "jsonl"]
    found = {"safeload": safeload, "safeload_2": [*safeload, "--jobs", "2"]}
    if engine is not None:
        found["safeload_dask"] = [sys.executable, *safeload[1:], "--engine", engine]  # which has Dask
    where = os.environ.get("SAFELOAD_BENCH_PEERS")
    for name, command in _PEERS.items():
        program = shutil.which(command[0], path=where) if where else shutil.which(command[0])
        if program:
            found[name] = [program, *command[1:]]
    return found


def alternating(
    commands: Mapping[str, Sequence[str]], tree: str, cwd: Path, rounds: int, until: float
) -> dict[str, list[tuple[float, int]]]:
    """Seconds and memory of each command over the same tree, in turns; no round but the first begins after `until`."""
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for turn in range(rounds):
        if turn and time.monotonic() > until:
            break
        for name, command in commands.items():
            if not taken[name] or taken[name][-1][0] != float("inf"):
                taken[name].append(once([*command, tree], cwd))
    return taken


def summed_up(taken: Mapping[str, list[tuple[float, int]]], files: int, result: dict[str, object]) -> None:
    """Median and best seconds, files in each second, most memory."""
    for name, found in taken.items():
        seconds = statistics.median(one for one, _ in found)
        result[f"{name}_s"] = f"over {_LIMIT:.0f}" if seconds == float("inf") else round(seconds, 3)
        result[f"{name}_best_s"] = None if seconds == float("inf") else round(min(one for one, _ in found), 3)
        result[f"{name}_files_per_s"] = None if seconds == float("inf") else round(files / seconds, 1)
        result[f"{name}_peak_mb"] = round(max(memory for _, memory in found) / 1e6, 1)


def ratio(key: str, above: list[tuple[float, int]], below: list[tuple[float, int]], result: dict[str, object], per: float = 1.0) -> None:
    """Medians, and best, of one side over the other's, as `table.py` reads them; `per` is the other's files for each of the one's."""
    for ending, pick in (("", statistics.median), ("_best", min)):
        result[key + ending] = round(per * pick([one for one, _ in above]) / pick([one for one, _ in below]), 4)
    result[f"{key}_target"] = 1.0


def parts(description: str | None) -> argparse.Namespace:
    """Parse what every benchmark takes, and what of this one is wanted."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="the published sizes; default is what runs in a minute or two")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--within", type=float, default=float("inf"), help="begin no further round after so many seconds")
    parser.add_argument("--slow", type=int, default=100, help="files of the part of the tree that modelaudit is given; 0 for none")
    parser.add_argument("--no-memory", action="store_true", help="leave out the registry that is ten times as large")
    return parser.parse_args()


def main() -> None:
    """Measure."""
    asked = parts(__doc__)
    files = 10_000 if asked.full else 600
    until = time.monotonic() + asked.within
    with scratch() as folder:
        checkpoint(folder / "one.pt", 10, 64)
        model = (folder / "one.pt").read_bytes()
        fill(folder / "registry", files, model)
        result: dict[str, object] = {"bench": "scan_registry", "files": files}
        with cluster(folder) as engine:
            commands = sides(engine)
            slow = {name: commands.pop(name) for name in ("modelaudit",) if name in commands}
            for command in commands.values():  # the tree was just written, so it is in memory; now the programs are, too
                once([*command, "registry/00000"], folder)
            taken = alternating(commands, "registry", folder, asked.rounds, until)
        summed_up(taken, files, result)
        for name in ("safeload", "safeload_2", "safeload_dask"):
            if name in taken and "picklescan" in taken:
                ratio(f"{name}_to_picklescan", taken[name], taken["picklescan"], result)
        if slow and asked.slow:
            # A part of the tree, beside safeload on the same part: by the file, it is the start that counts for safeload.
            fill(folder / "part", asked.slow, model)
            both = alternating({"safeload_part": commands["safeload"], **slow}, "part", folder, 1, until)
            summed_up(both, asked.slow, result)
            result["part_files"] = asked.slow
            ratio("safeload_to_modelaudit", both["safeload_part"], both["modelaudit"], result)
        if not asked.no_memory:
            fill(folder / "larger", 10 * files, model)
            for name in ("safeload", "safeload_2"):
                _, memory = once([*commands[name], "larger"], folder)
                result[f"{name}_peak_mb_of_{10 * files}"] = round(memory / 1e6, 1)
        print(json.dumps({**result, "rounds": len(taken["safeload"]), **machine()}))


if __name__ == "__main__":
    main()
