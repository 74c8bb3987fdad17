"""Scan files in a process of its own, so that one that takes too long, or brings its process down, is given up and no other.

A thread cannot be stopped; a process can. It is started once, and again only after a file was given up.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

from safeload.context import Context
from safeload.scanning.jobs import Job, Settings
from safeload.scanning.one_file import Done, failed, scanned

__all__ = ["Worker"]

_DEATHS: Final = 3


class Worker:
    """The process. Use as a context manager, from one thread."""

    def __init__(self, context: Context, settings: Settings) -> None:
        self._context, self._settings = context, settings
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._kill()

    def scan(self, jobs: Sequence[Job], timeout: float | None) -> Iterator[Done]:
        """Scan files one after the other; one that takes too long, or that a process dies of time and again, is an error, and no other.

        Who kills a process, such as a kernel that is out of memory, does not ask whose fault it was: so the file is tried again.

        Args:
            jobs: The files.
            timeout: Seconds for each, or None. Starting the process does not count.
        """
        left = list(jobs)
        deaths = 0  # with the first of those that are left
        while left and not self._given_up:
            for done in self._some(list(left), timeout):
                deaths = deaths + 1 if done is None else 0
                if 0 < deaths < _DEATHS:
                    break
                job, deaths = left.pop(0), 0
                yield done or Done(failed(job.path, f"not analysed: the process that scanned it died, {_DEATHS} times"))

    def _some(self, jobs: Sequence[Job], timeout: float | None) -> Iterator[Done | None]:
        """Scan files until all are done, or one was given up; None says that the process died."""
        try:
            pipe = self._pipe or self._start()
            pipe.send(jobs)
            for job in jobs:
                if timeout is not None and not pipe.poll(timeout):
                    self._kill()
                    yield Done(failed(job.path, f"not analysed: it took longer than {timeout:g} seconds"))
                    return
                done = pipe.recv()
                yield done if isinstance(done, Done) else Done(failed(job.path, "not analysed: no answer"))
        except (EOFError, OSError):
            self._kill()
            yield None

    def _start(self) -> Connection:
        # "spawn", because a fork would inherit the progress bar's thread and its locks.
        maker = multiprocessing.get_context("spawn")
        here, there = maker.Pipe()
        self._process = maker.Process(target=_serve, args=(there, self._context, self._settings), daemon=True)
        self._process.start()
        there.close()
        here.recv()  # it is ready: its start is not the file's fault
        if self._given_up:
            raise EOFError
        self._pipe = here
        return here

    def give_up(self) -> None:
        """Kill the process, whatever it is at, and start no other. From any thread: `scan` ends with what it has."""
        self._given_up = True
        process = self._process
        if process is not None and process.pid is not None:
            process.kill()

    def _kill(self) -> None:
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
            for job in pipe.recv():
                pipe.send(scanned(job, context, settings))
    except (EOFError, OSError, KeyboardInterrupt):
        return
