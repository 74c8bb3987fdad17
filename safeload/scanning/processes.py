"""Several processes on this machine, each with a thread here that waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from safeload.context import Context
from safeload.scanning.engines import Heard
from safeload.scanning.jobs import Job, Settings
from safeload.scanning.one_file import Done
from safeload.scanning.worker import Worker

__all__ = ["InProcesses"]

_GRACE: Final = 1.0  # seconds for the file that a process is at, when nobody waits for it any more


class InProcesses:
    """Several processes on this machine, each with a thread here that waits for it.

    Args:
        count: How many.
        context: The policy and the lock in force.
        settings: With the timeout of one file.
        heard: Told about every result.
    """

    most: Final = 64

    def __init__(self, count: int, context: Context, settings: Settings, heard: Heard) -> None:
        self.width = count
        self._context, self._settings, self._heard = context, settings, heard
        self._queue: queue.SimpleQueue[tuple[Sequence[Job], Future[list[Done]]] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers: list[Worker] = []

    def submit(self, jobs: Sequence[Job]) -> Future[list[Done]]:
        """Put a batch in the queue; a process more is started as long as there are fewer than were asked for."""
        future: Future[list[Done]] = Future()
        self._queue.put((jobs, future))
        if len(self._threads) < self.width:
            thread = threading.Thread(target=self._work, name="safeload-scan", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def _work(self) -> None:
        with Worker(self._context, self._settings) as worker:
            self._workers.append(worker)
            while (item := self._queue.get()) is not None:
                jobs, future = item
                try:
                    done: list[Done] = []
                    for job, one in zip(jobs, worker.scan(jobs, self._settings.timeout), strict=False):
                        self._heard(job, one)
                        done.append(one)
                        if self._stopping.is_set():
                            break
                    future.set_result(done)
                except BaseException as error:  # noqa: BLE001 - raised again where the batch is waited for
                    future.set_exception(error)

    def close(self) -> None:
        """Let each process end with the file it is at, if that is soon."""
        self._stopping.set()
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._queue.put(None)
        end = time.monotonic() + _GRACE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for worker in self._workers:
            worker.give_up()
        for thread in self._threads:
            thread.join()
