"""Work on several cores, for as long as one call takes.

Threads are started by a call and are gone when it returns: nothing is left for a fork to copy in a half-locked state, and
nothing runs on after an error. They pay off where the work releases the interpreter's lock: reads, SHA-256, CRC of long ranges.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

__all__ = ["Crc", "crc_joined", "in_parallel", "workers"]

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
        from safeload.hashing.crc import crc32  # not for `import safeload`, which takes none

        self.parts.append((at, len(data), crc32(data)))

    def value(self) -> int:
        """The CRC of all parts in their order."""
        if len(self.parts) == 1:
            return self.parts[0][2]
        crc = 0
        for _, nbytes, part in sorted(self.parts):
            crc = crc_joined(crc, part, nbytes)
        return crc
