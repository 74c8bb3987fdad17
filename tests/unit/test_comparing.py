"""What is copied is compared where it lies, each byte once, by the pass that hashes it."""

from __future__ import annotations

import threading
import time

import pytest

from safeload.background import Worker
from safeload.conversion.comparing import Alike, NotTheSameError, compare_ranges
from safeload.conversion.proof import compare_bytes
from safeload.source import Source
from safeload.trust.digest import LEAF_BYTES, tree_digest

DATA = bytes(range(251)) * ((3 * LEAF_BYTES) // 251)


def alike(nbytes: int, pieces: int = 7) -> tuple[Source, Source, list[Alike]]:
    """An output whose parts lie in another order than in the source, with other bytes before, between and behind them."""
    source = Source.open(DATA[:nbytes])
    step = max(nbytes // pieces, 1)
    parts = [(at, min(step, nbytes - at)) for at in range(0, nbytes, step)]
    output, ranges = b"head", []
    for at, size in reversed(parts):
        ranges.append(Alike(len(output), size, source, at, f"storage {at}"))
        output += DATA[at : at + size] + b"gap"
    return source, Source.open(output), ranges


@pytest.mark.parametrize("nbytes", [0, 1, 1000, LEAF_BYTES + 5, 3 * LEAF_BYTES - 500])
@pytest.mark.parametrize("digest", [False, True])
def test_the_same_bytes_are_the_same(nbytes: int, *, digest: bool) -> None:
    _, output, ranges = alike(nbytes, 1) if nbytes < 7 else alike(nbytes)
    assert compare_ranges(output, ranges, digest=digest) == (tree_digest(output) if digest else "")


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_single_bit_is_seen_wherever_it_is(place: int, *, digest: bool) -> None:
    _, output, ranges = alike(LEAF_BYTES + 5)
    one = ranges[3]
    at = [one.start, one.start + one.nbytes - 1, one.start + one.nbytes // 2, ranges[-1].start + ranges[-1].nbytes - 1][place]
    data = bytearray(output.read(0, output.size))
    data[at] ^= 1
    with pytest.raises(NotTheSameError, match="bytes differ"):
        compare_ranges(Source.open(data), ranges, digest=digest)
    data[at] ^= 1
    data[one.start - 1] ^= 1
    compare_ranges(Source.open(data), ranges, digest=digest)


def test_what_lies_outside_the_output_was_not_compared() -> None:
    source, output, ranges = alike(1000)
    with pytest.raises(NotTheSameError, match="were compared"):
        compare_ranges(output, [*ranges, Alike(output.size, 5, source, 0, "storage")], digest=True)


def test_runs_of_bytes_are_compared_whatever_their_pieces() -> None:
    """Byte arrays, views of a part of one, and bytes."""
    whole = bytearray(DATA[:5000])
    for left in ([whole], [memoryview(whole)[:7], memoryview(whole)[7:]], [bytes(whole[:4999]), bytes(whole[4999:])]):
        for right in ([whole], [memoryview(whole)[:4000], memoryview(whole)[4000:]], [whole[:1], b"", whole[1:]]):
            assert compare_bytes("it", iter(left), iter(right)) == 5000
            with pytest.raises(NotTheSameError, match="one side ends"):
                compare_bytes("it", iter(left), iter(right[:-1]))
    other = whole[:-1] + b"\0"
    with pytest.raises(NotTheSameError, match="differ"):
        compare_bytes("it", iter([memoryview(whole)[1:]]), iter([memoryview(other)[1:]]))


# ---- the thread that does it


@pytest.mark.parametrize("alone", [False, True])
def test_a_worker_does_things_in_order_and_tells_of_errors(*, alone: bool) -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("no")

    with Worker(alone=alone) as worker:
        tasks = [worker.submit(lambda number=number: done.append(number)) for number in range(50)]  # type: ignore[misc]
        failing = worker.submit(fail)
        last = worker.submit(lambda: done.append(50))
        last.wait()
        with pytest.raises(ValueError, match="no"):
            failing.wait()
    assert done == list(range(51))
    assert all(task.done for task in tasks)


def test_a_worker_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with Worker() as worker:
        slow = worker.submit(lambda: time.sleep(0.05))
    assert slow.done, "what was handed over is waited for"
    assert threading.active_count() == before
