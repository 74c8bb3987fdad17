"""Work that one thread does in order while its caller goes on: for as long as one call takes, as everything on several cores here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Self

__all__ = ["Task", "Worker"]


class Task:
    """Work that was handed to a `Worker`."""

    __slots__ = ("_done", "_error", "_work")

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._done = threading.Event()

    def run(self) -> None:
        """Do it."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 — raised in the thread that waits
            self._error = error
        self._done.set()

    @property
    def done(self) -> bool:
        """Whether it was done, well or not."""
        return self._done.is_set()

    def wait(self) -> None:
        """Return when it is done.

        Raises:
            BaseException: what it raised.
        """
        self._done.wait()
        if self._error is not None:
            raise self._error


class Worker:
    """One thread that does what it is handed, in that order, while the caller does something else. Use as a context manager.

    Args:
        alone: Do everything in the caller's thread, at once: where there is one core, or little to do.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._alone = alone

    def submit(self, work: Callable[[], None]) -> Task:
        """Hand over `work`; the thread starts with the first."""
        task = Task(work)
        if self._thread is None and not self._alone:
            thread = threading.Thread(target=self._loop, name="safeload", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads are to be had
                self._alone = True
            else:
                self._thread = thread
        if self._thread is None:
            task.run()
        else:
            self._tasks.put(task)
        return task

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what was handed over: its memory is the caller's."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None
