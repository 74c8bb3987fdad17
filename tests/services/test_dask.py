"""A real Dask cluster on loopback: a scheduler and two workers, each a process of its own, one of them killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.cli import run
from safeload.errors import UnsupportedError
from tests.services.starting import free_port, python, running
from tests.unit.test_scan_many import registry


@dataclass
class Cluster:
    """A scheduler and what works for it."""

    engine: str
    workers: list[subprocess.Popen[bytes]]
    stack: ExitStack
    log: Path

    def work(self) -> None:
        """Start one more worker, in a directory of its own."""
        place = self.log / f"worker-{len(self.workers)}"
        place.mkdir()
        address = self.engine.replace("dask://", "tcp://")
        command = ["-m", "distributed.cli.dask_worker", address, "--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard",
                   "--local-directory", str(place), "--host", "127.0.0.1"]  # fmt: skip
        self.workers.append(self.stack.enter_context(running(python(*command), place / "log", cwd=place)))

    def ready(self, count: int) -> None:
        """Wait until so many workers are known."""
        from distributed import Client

        with Client(self.engine.replace("dask://", "tcp://"), set_as_default=False) as client:
            client.wait_for_workers(count, timeout=300)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    top = tmp_path_factory.mktemp("dask")
    port = free_port()
    command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
    with ExitStack() as stack:
        stack.enter_context(running(python(*command), top / "scheduler.log", port=port, cwd=top))
        found = Cluster(f"dask://127.0.0.1:{port}", [], stack, top)
        for _ in range(2):
            found.work()
        found.ready(2)
        yield found


def test_a_cluster_gives_the_results_of_one_process(cluster: Cluster, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paths are relative and the workers stand elsewhere; the lock's pins hold there, too."""
    registry(here / "hub", 400)
    expected = run(["scan", "--format", "json", "hub"]), json.loads(capsys.readouterr().out)
    found = run(["scan", "--format", "json", "--engine", cluster.engine, "hub"]), json.loads(capsys.readouterr().out)
    assert found == expected
    from distributed import Client

    with Client(cluster.engine.replace("dask://", "tcp://"), set_as_default=False) as client:
        through = list(safeload.scan_many(["hub"], executor=client.get_executor(pure=False)))
    assert through == list(safeload.scan_many(["hub"]))


def test_a_worker_that_is_killed_loses_nothing(cluster: Cluster, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL while it scans: what it had is scanned by the other one, and every file is there once."""
    from safeload.scanning import executors

    monkeypatch.setattr(executors.InExecutor, "most", 10)
    registry(here / "hub", 600)
    expected = list(safeload.scan_many(["hub"]))
    found: list[object] = []
    results = safeload.scan_many(["hub"], executor=_executor(cluster), journal="j.db")
    for result in results:
        found.append(result)
        if len(found) == 100:
            os.killpg(cluster.workers[0].pid, signal.SIGKILL)
            cluster.workers[0].wait()
    assert found == expected
    assert cluster.workers[1].poll() is None
    again = list(safeload.scan_many(["hub"], journal="j.db"))
    assert again == expected


def _executor(cluster: Cluster) -> Any:
    from distributed import Client

    client = cluster.stack.enter_context(Client(cluster.engine.replace("dask://", "tcp://"), set_as_default=False))
    return client.get_executor(pure=False)


def test_the_command_survives_a_worker_too(cluster: Cluster, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry(here / "hub", 2500)
    expected = run(["scan", "--format", "jsonl", "hub"]), capsys.readouterr().out

    def kill() -> None:
        time.sleep(0.7)
        os.killpg(cluster.workers[1].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = run(["scan", "--format", "jsonl", "--engine", cluster.engine, "hub"]), capsys.readouterr().out
    finally:
        killer.join()
    assert found == expected


def test_nobody_answers_or_nobody_works(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safeload.scanning import dask_engine

    monkeypatch.setattr(dask_engine, "_CONNECT", 2)
    assert run(["scan", "--engine", f"dask://127.0.0.1:{free_port()}", "."]) == 2
    assert "no Dask scheduler answers" in capsys.readouterr().err
    port = free_port()
    command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
    with ExitStack() as stack:
        stack.enter_context(running(python(*command), tmp_path / "log", port=port))
        with pytest.raises(UnsupportedError, match="has no workers"):
            stack.enter_context(dask_engine.dask_executor(f"dask://127.0.0.1:{port}"))
