"""One pass on several cores: the same bytes, digests and errors as a serial read, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import zlib
from pathlib import Path

import pytest

from safeload.errors import MalformedError
from safeload.parallel import Crc, crc_joined, in_parallel, workers
from safeload.source import Source

LEAF = 1 << 16


def by_hand(data: bytes) -> list[bytes]:
    """The leaves, as the specification says."""
    return [hashlib.sha256(data[at : at + LEAF]).digest() for at in range(0, len(data), LEAF)]


@pytest.fixture
def data() -> bytes:
    """A file of several leaves, the last one short."""
    return random.Random(5).randbytes(9 * LEAF + 777)


@pytest.mark.parametrize("seed", range(30))
def test_fill_reads_and_hashes_what_the_file_holds(seed: int, data: bytes, tmp_path: Path) -> None:
    """Whatever was read before, and however parts lie, views, CRCs and leaves are those of the file."""
    chance = random.Random(seed)
    path = tmp_path / "f"
    path.write_bytes(data)
    with Source.open(path) as source:
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data))
            source.read(at, chance.randrange(len(data) - at))
        cuts = sorted(chance.sample(range(len(data)), 2 * chance.randrange(1, 9)))
        pairs = list(zip(cuts[::2], cuts[1::2], strict=True))
        if chance.random() < 0.3:
            pairs += [(chance.randrange(at + 1), stop) for at, stop in pairs]  # the same bytes for two storages
        chance.shuffle(pairs)
        parts = [(at, memoryview(bytearray(stop - at))) for at, stop in pairs]
        crcs = source.fill(parts, leaf=LEAF if seed % 2 else None, crc=True)
        for (at, view), crc in zip(parts, crcs, strict=True):
            assert view == data[at : at + len(view)]
            assert crc == zlib.crc32(view)
        assert source.leaves(LEAF) == by_hand(data)
        assert source.sha256 == hashlib.sha256(data).hexdigest()
        assert source.read(0, len(data)) == data


def test_leaves_are_of_the_bytes_that_were_handed_out(data: bytes, tmp_path: Path) -> None:
    """A file that changes after a read must not get the digest of its new bytes."""
    path = tmp_path / "f"
    path.write_bytes(data)
    with Source.open(path) as source:
        view = memoryview(bytearray(3 * LEAF))
        source.fill([(LEAF, view)])
        source.read(0, 10)
        path.write_bytes(bytes(len(data)))
        want = data[:10] + bytes(LEAF - 10) + data[LEAF : 4 * LEAF] + bytes(len(data) - 4 * LEAF)
        assert source.leaves(LEAF) == by_hand(want)


def test_what_is_read_after_the_leaves_makes_them_void(data: bytes, tmp_path: Path) -> None:
    """Else a range could be hashed as one thing and used as another."""
    path = tmp_path / "f"
    path.write_bytes(data)
    with Source.open(path) as source:
        assert source.leaves(LEAF) == by_hand(data)
        path.write_bytes(bytes(len(data)))
        assert source.read(0, LEAF) == bytes(LEAF)
        assert source.leaves(LEAF) == by_hand(bytes(len(data)))


def test_a_file_that_shrank_is_malformed_in_every_thread(data: bytes, tmp_path: Path) -> None:
    """The error of a helper reaches the caller, and no thread stays."""
    path = tmp_path / "f"
    path.write_bytes(data * 20)
    with Source.open(path) as source:
        os.truncate(path, 100)
        before = threading.active_count()
        with pytest.raises(MalformedError, match="the file ended"):
            source.fill([(0, memoryview(bytearray(20 * len(data))))], leaf=LEAF)
        assert threading.active_count() == before


def test_in_parallel_raises_the_first_error_and_ends_its_threads() -> None:
    """What was not begun never is."""
    seen: list[int] = []

    def work(index: int) -> None:
        seen.append(index)
        if index == 3:
            raise ValueError(index)

    before = threading.active_count()
    with pytest.raises(ValueError, match="3"):
        in_parallel(10_000, work, 4)
    assert threading.active_count() == before
    assert len(seen) < 10_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_was_forked_after_a_pass_can_do_one_too(data: bytes, tmp_path: Path) -> None:
    """A pool that outlived its call would be copied without its threads, and wait for ever."""
    path = tmp_path / "f"
    path.write_bytes(data * 20)
    want = by_hand(data * 20)
    with Source.open(path) as source:
        assert source.leaves(LEAF) == want
    child = os.fork()
    if child == 0:
        with Source.open(path) as source:
            os._exit(0 if source.leaves(LEAF) == want else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_crcs_of_parts_join_to_the_crc_of_the_whole(data: bytes) -> None:
    """In any order of arrival."""
    crc = Crc()
    view = memoryview(data)
    for at in reversed(range(0, len(data), 10_007)):
        crc.update(at, view[at : at + 10_007])
    assert crc.value() == zlib.crc32(data)
    for cut in (0, 1, len(data)):
        assert crc_joined(zlib.crc32(data[:cut]), zlib.crc32(data[cut:]), len(data) - cut) == zlib.crc32(data)


def test_workers_honour_what_torch_was_told() -> None:
    """`torch.set_num_threads(1)` means that the process wants one core busy."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert workers() == 1
    finally:
        torch.set_num_threads(before)
    assert 1 <= workers() <= (os.cpu_count() or 1)
