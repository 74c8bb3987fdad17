"""One pinned file, loaded by several threads and processes at once: each has the right tensors, or its own refusal."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import safeload

COUNT = 40
ELEMENTS = 150_000  # all together several leaves, so that every load uses threads of its own


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pinned file, and one that was changed after it was pinned."""
    good, bad = tmp_path_factory.mktemp("good"), tmp_path_factory.mktemp("bad")
    for place in (good, bad):
        torch.save({f"w{number}": torch.full((ELEMENTS,), float(number)) for number in range(COUNT)}, place / "m.pt")
        safeload.lock(place / "m.pt", lock=place / "safeload.lock")
    with (bad / "m.pt").open("r+b") as file:
        file.seek(10 << 20)
        file.write(b"\x55")
    return good, bad


def loaded(place: Path, mmap: bool) -> str:
    """What came of a load, in a word."""
    try:
        value = safeload.load(place / "m.pt", lock=place / "safeload.lock", mmap=mmap)
    except safeload.PinError:
        return "refused"
    right = all(bool((tensor == float(number)).all()) for number, tensor in enumerate(value.values()))
    return "right" if right and len(value) == COUNT else "wrong"


def opened(place: Path, mmap: bool) -> str:
    """The same, tensor by tensor; what is refused is only the tensor that was changed."""
    try:
        with safeload.open(place / "m.pt", lock=place / "safeload.lock") as file:
            right = all(bool((file.get_tensor(name) == float(name[1:])).all()) for name in file.keys())  # noqa: SIM118 - no mapping
    except safeload.PinError:
        return "refused"
    return "right" if right else "wrong"


@pytest.mark.parametrize("work", [loaded, opened])
def test_threads(places: tuple[Path, Path], work: Callable[[Path, bool], str]) -> None:
    """Good and bad files side by side: one load's refusal is not another's."""
    good, bad = places
    jobs = [(place, mmap) for _ in range(4) for place in (good, bad) for mmap in (False, True)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: work(*job), jobs))
    assert found == ["right" if place == good else "refused" for place, _ in jobs]
    assert not [thread for thread in threading.enumerate() if thread.name == "safeload"]


def test_threads_that_share_one_open_file(places: tuple[Path, Path]) -> None:
    """Tensors of one `safeload.open` may be asked for from several threads."""
    good, _ = places
    with safeload.open(good / "m.pt", lock=good / "safeload.lock") as file, ThreadPoolExecutor(8) as pool:
        names = file.keys() * 3
        found = list(pool.map(file.get_tensor, names))
    assert all(bool((tensor == float(name[1:])).all()) for name, tensor in zip(names, found, strict=True))


def test_threads_that_remember(places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps are written and read by several at once; none is torn, and none speaks for another file."""
    good, bad = places
    monkeypatch.setenv("SAFELOAD_CACHE", str(tmp_path))
    for place in places:
        os.utime(place / "m.pt", (1_500_000_000, 1_500_000_000))
    policy = {"verify": "cached"}

    def work(place: Path) -> str:
        try:
            return str(len(safeload.load(place / "m.pt", lock=place / "safeload.lock", policy=policy)))
        except safeload.PinError:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, [good, bad] * 12)) == [str(COUNT), "refused"] * 12


def _work(places: tuple[Path, Path], answers: Any) -> None:
    torch.set_num_threads(1)  # comparing tensors hangs where a fork copied the pool of torch's own threads; loading does not
    answers.put([loaded(place, mmap) for place in places for mmap in (False, True)])


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes(places: tuple[Path, Path], method: str) -> None:
    """However they were started; those that were forked come out of a process that has loaded with threads."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{sys.platform} has no {method}")
    assert loaded(places[0], mmap=False) == "right"
    context: Any = multiprocessing.get_context(method)
    answers = context.Queue()
    workers = [context.Process(target=_work, args=(places, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join(timeout=600)
    assert found == [["right", "right", "refused", "refused"]] * 2
    assert [worker.exitcode for worker in workers] == [0, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forks_in_the_middle_of_loads(places: tuple[Path, Path]) -> None:
    """Locks that a thread holds at that moment are not left locked in the child."""
    good, _ = places
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            assert loaded(good, mmap=False) == "right"

    others = [threading.Thread(target=busy) for _ in range(2)]
    for other in others:
        other.start()
    try:
        children = []
        for number in range(6):
            child = os.fork()
            if child == 0:
                # What may hang is another library's lock that a fork copied; torch's own threads do not outlive a fork either.
                torch.set_num_threads(1)
                os._exit(0 if loaded(good, mmap=number % 2 == 1) == "right" else 1)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
    finally:
        over.set()
        for other in others:
            other.join()
