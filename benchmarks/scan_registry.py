"""How long does a registry of small files take to scan, in one process, in two and on a Dask cluster, against picklescan and modelaudit?

And how much memory: once for the same registry, once for one that is ten times as large, in which memory should be the same.
Needs Dask for its part (`pip install "safeload[dask]"`), and the peers where `scanners.py` looks for them.

Run: python benchmarks/scan_registry.py [--full]   (600 and 6,000 files; with --full 10,000 and 100,000)
"""

from __future__ import annotations

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from measure import ROOT, checkpoint, machine, options, scratch

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
    """The commands that can be run here."""
    safeload = [sys.executable, "-m", "safeload", "scan", "--quiet", "--format", "jsonl"]
    found = {"safeload": safeload, "safeload_2": [*safeload, "--jobs", "2"]}
    if engine is not None:
        found["safeload_dask"] = [*safeload, "--engine", engine]
    where = os.environ.get("SAFELOAD_BENCH_PEERS")
    for name, command in _PEERS.items():
        program = shutil.which(command[0], path=where) if where else shutil.which(command[0])
        if program:
            found[name] = [program, *command[1:]]
    return found


def main() -> None:
    """Measure."""
    asked = options(__doc__)
    files = 10_000 if asked.full else 600
    rounds = min(asked.rounds, 3) if asked.full else 1
    with scratch() as folder:
        checkpoint(folder / "one.pt", 10, 64)
        model = (folder / "one.pt").read_bytes()
        fill(folder / "registry", files, model)
        result: dict[str, object] = {"bench": "scan_registry", "files": files}
        with cluster(folder) as engine:
            commands = sides(engine)
            taken: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
            for turn in range(rounds + 1):
                for name, command in commands.items():
                    if taken[name] and taken[name][-1][0] == float("inf"):
                        continue
                    found = once([*command, "registry"], folder)
                    if turn or found[0] == float("inf"):
                        taken[name].append(found)
        for name, found_ones in taken.items():
            seconds = statistics.median(one for one, _ in found_ones)
            result[f"{name}_s"] = f"over {_LIMIT:.0f}" if seconds == float("inf") else round(seconds, 3)
            result[f"{name}_files_per_s"] = None if seconds == float("inf") else round(files / seconds)
            result[f"{name}_peak_mb"] = round(max(memory for _, memory in found_ones) / 1e6, 1)
        fill(folder / "larger", 10 * files, model)
        for name in ("safeload", "safeload_2"):
            _, memory = once([*commands[name], "larger"], folder)
            result[f"{name}_peak_mb_of_{10 * files}"] = round(memory / 1e6, 1)
        print(json.dumps({**result, "rounds": rounds, **machine()}))


if __name__ == "__main__":
    main()
