"""Work on several cores, for as long as one call takes.

Threads are started by a call and are gone when it returns: nothing is left for a fork to copy in a half-locked state, and
nothing runs on after an error. They pay off where the work releases the interpreter's lock: reads, SHA-256, CRC of long ranges.
"""

from __future__ import annotations

import itertools
import os
import queue
import sys
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Self

__all__ = ["Crc", "Task", "Worker", "crc_joined", "in_parallel", "workers"]

MOST_WORKERS: Final = 16  # beyond that, memory is what is waited for
_CPU_MAX: Final = "/sys/fs/cgroup/cpu.max"


def workers() -> int:
    """How many threads this process may keep busy: by affinity, the control group's quota, and `torch.set_num_threads`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    torch: Any = sys.modules.get("torch")  # what nobody imported has no setting either
    threads = torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else cores
    return max(1, min(cores, quota or cores, threads, MOST_WORKERS))


def _quota() -> int | None:
    """Whole cores that the control group grants, or None."""
    try:
        with open(_CPU_MAX, encoding="ascii") as file:  # noqa: PTH123 — pathlib costs every start milliseconds
            limit, period, *_ = file.read().split()
        return None if limit == "max" else max(1, round(int(limit) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def in_parallel(count: int, work: Callable[[int], None], threads: int) -> None:
    """Call `work` with every number below `count`, in order of starting, from up to `threads` threads, the caller's own among them.

    Raises:
        BaseException: what `work` raised first; what had not been started then never is.
    """
    if threads <= 1 or count <= 1:
        for index in range(count):
            work(index)
        return
    import threading

    numbers = itertools.count()
    errors: list[BaseException] = []

    def loop() -> None:
        try:
            while not errors and (index := next(numbers)) < count:
                work(index)
        except BaseException as error:  # noqa: BLE001 — raised again below, in the thread that waits
            errors.append(error)

    helpers: list[threading.Thread] = []
    try:
        for _ in range(min(threads, count) - 1):
            helper = threading.Thread(target=loop, name="safeload", daemon=True)
            try:
                helper.start()
            except RuntimeError:  # no more threads are to be had, or the interpreter ends: the caller's own does it all
                break
            helpers.append(helper)
        loop()
    except BaseException as error:  # noqa: BLE001 — as above
        errors.append(error)
    for helper in helpers:
        while helper.is_alive():
            try:
                helper.join()
            except BaseException as error:  # noqa: BLE001 — an interrupt stops the others first, and is raised when they ended
                errors.append(error)
    if errors:
        raise errors[0]


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


# ---- CRC-32 of parts, joined

_POLYNOMIAL: Final = 0xEDB88320


def _times(a: int, b: int) -> int:
    """Multiply two polynomials over GF(2) modulo CRC-32's, bits reversed as zlib has them."""
    product = 0
    mask = 1 << 31
    while a:
        if a & mask:
            product ^= b
            a ^= mask
        mask >>= 1
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=1024)
def _shift(nbytes: int) -> int:
    """Return x to the power of 8 * nbytes."""
    power, square = 1 << 31, 1 << 23  # x**0, x**8
    while nbytes:
        if nbytes & 1:
            power = _times(square, power)
        square = _times(square, square)
        nbytes >>= 1
    return power


def crc_joined(first: int, second: int, nbytes: int) -> int:
    """Return the CRC-32 of two byte strings behind one another, from their own CRCs and the length of the second."""
    return _times(_shift(nbytes), first) ^ second


class Crc:
    """The CRC-32 of a range whose parts are seen in any order, each once. `update` may be called from several threads."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[tuple[int, int, int]] = []

    def update(self, at: int, data: memoryview) -> None:
        """Take in `data`, which begins at byte `at`."""
        self.parts.append((at, len(data), zlib.crc32(data)))

    def value(self) -> int:
        """The CRC of all parts in their order."""
        if len(self.parts) == 1:
            return self.parts[0][2]
        crc = 0
        for _, nbytes, part in sorted(self.parts):
            crc = crc_joined(crc, part, nbytes)
        return crc
