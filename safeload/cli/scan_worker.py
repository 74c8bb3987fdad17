"""Scan files in a process of its own, so that one that takes too long can be given up.

A thread cannot be stopped; a process can. It is started once, and again only after a file was given up.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from safeload.cli.scanning import Job, Settings, Skipped, failed, scan_file
from safeload.context import Context
from safeload.findings import Report

__all__ = ["Worker", "scan_within"]


def scan_within(jobs: Iterable[Job], context: Context, settings: Settings, timeout: float) -> Iterator[Report | Skipped]:
    """Scan one file after the other, each within `timeout` seconds."""
    with Worker(context, settings) as worker:
        for job in jobs:
            yield worker.scan(job, timeout)


class Worker:
    """The process. Use as a context manager."""

    def __init__(self, context: Context, settings: Settings) -> None:
        self._context, self._settings = context, settings
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def scan(self, job: Job, timeout: float) -> Report | Skipped:
        """Scan one file, or say that it took too long.

        Args:
            job: The file.
            timeout: Seconds. Starting the process does not count.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send(job)
            if not pipe.poll(timeout):
                self._stop()
                return failed(job.path, f"not analysed: it took longer than {timeout:g} seconds")
            found = pipe.recv()
        except (EOFError, OSError):
            self._stop()
            return failed(job.path, "not analysed: the process that scanned it died")
        return found if isinstance(found, (Report, Skipped)) else failed(job.path, "not analysed: no answer")

    def _start(self) -> Connection:
        # "spawn", because a fork would inherit the progress bar's thread and its locks.
        maker = multiprocessing.get_context("spawn")
        here, there = maker.Pipe()
        self._process = maker.Process(target=_serve, args=(there, self._context, self._settings), daemon=True)
        self._process.start()
        there.close()
        here.recv()  # it is ready: its start is not the file's fault
        self._pipe = here
        return here

    def _stop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _serve(pipe: Connection, context: Context, settings: Settings) -> None:
    """The other side: scan until nobody asks any more."""
    try:
        pipe.send(None)
        while True:
            pipe.send(scan_file(pipe.recv(), context, settings))
    except (EOFError, OSError, KeyboardInterrupt):
        return
