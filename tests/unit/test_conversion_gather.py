"""Views as row-major bytes, through buffers far smaller than the view."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeload.conversion import gather as module
from safeload.conversion.carriers import dense, row_major
from safeload.conversion.gather import flip, gather, inverse

try:
    from safeload.conversion import _gather_c
except ImportError:  # no compiler: Python does it
    COPIES = [module.copy_plain]
else:
    COPIES = [module.copy_plain, _gather_c.copy]
compiled = pytest.mark.skipif(len(COPIES) == 1, reason="the extension was not built")


@pytest.fixture(params=[(call, copy) for call in (0, 8, 1000) for copy in COPIES])
def small_buffers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Reads that cost nothing go run by run, those that cost much in stretches."""
    call, copy = request.param
    for name, value in (("BLOCK", 200), ("_WINDOW", 64), ("_BATCH", 48), ("_CALL", call), ("_copier", lambda: copy)):
        monkeypatch.setattr(module, name, value)


def by_hand(raw: bytes, shape: list[int], stride: list[int], itemsize: int) -> bytes:
    """One element after the other."""
    places = (sum(index * step for index, step in zip(at, stride, strict=True)) for at in itertools.product(*map(range, shape)))
    return b"".join(raw[place * itemsize : (place + 1) * itemsize] for place in places)


def views() -> Iterator[tuple[list[int], list[int], int]]:
    rng = random.Random(20)
    for _ in range(400):
        shape = [rng.choice([1, 2, 3, 5, 7]) for _ in range(rng.randrange(5))]
        order = rng.sample(range(len(shape)), len(shape))
        stride = [0] * len(shape)
        step = 1
        for index in order:
            stride[index] = step
            step *= shape[index]
        if rng.random() < 0.4:
            stride = [rng.randrange(4) for _ in shape]
        yield shape, stride, rng.choice([1, 2, 4, 8, 16])


@pytest.mark.usefixtures("small_buffers")
def test_a_view_is_gathered_as_if_by_hand() -> None:
    """Transposed, expanded, overlapping, with gaps: all of them."""
    raw = bytes(random.Random(1).randbytes(40_000))
    for shape, stride, itemsize in views():
        found = b"".join(gather(lambda at, n: raw[at : at + n], shape, stride, itemsize))
        assert found == by_hand(raw, shape, stride, itemsize), (shape, stride, itemsize)


@pytest.mark.usefixtures("small_buffers")
def test_the_inverse_of_a_dense_view_gives_the_storage_back() -> None:
    """A transposed tensor is written in the order that others read, and must come back in its own."""
    raw = bytes(random.Random(2).randbytes(40_000))
    for shape, stride, itemsize in views():
        if not dense(shape, stride):
            continue
        out = b"".join(gather(lambda at, n: raw[at : at + n], shape, stride, itemsize))
        back = b"".join(gather(lambda at, n, out=out: out[at : at + n], *inverse(shape, stride), itemsize))  # type: ignore[misc]
        assert back == raw[: len(back)], (shape, stride)


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((700, 5000), (1, 700)),
        ((5000, 700), (1, 5000)),
        ((2,) * 20, tuple(2**at for at in range(20))),
        ((40, 30, 50, 60), (1, 40, 1200, 60_000)),
        ((3, 1 << 20), (1, 3)),
        ((1 << 20, 3), (1, 1)),
    ],
)
def test_no_read_is_large_and_reading_costs_no_more_than_it_must(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    """A transposed matrix is far larger than what may be read of it at once, and must not be read once for every block."""
    for name in ("BLOCK", "_WINDOW", "_BATCH"):
        monkeypatch.setattr(module, name, 1 << 20)
    monkeypatch.setattr(module, "_CALL", 1 << 10)
    asked: list[int] = []
    memory = memoryview(bytes(4 * (1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)))))

    def read(at: int, nbytes: int) -> memoryview:
        asked.append(nbytes)
        return memory[at : at + nbytes]

    blocks = [len(block) for block in gather(read, shape, stride, 4)]
    assert sum(blocks) == 4 * math.prod(shape)
    assert max(blocks) <= 1 << 20
    assert max(asked) <= 1 << 20
    assert sum(asked) + len(asked) * (1 << 10) <= 40 * len(memory) + (1 << 20)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, int]]]:
    """An element's bytes, the first element's place, and dimensions that lie apart where they are written."""
    dims, step = [], 1
    for size in draw(st.lists(st.integers(1, 40), max_size=4)):
        dims.append((size, draw(st.integers(0, 50)), step))
        step *= size + draw(st.integers(0, 2))
        if step > 20_000:
            break
    return draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(0, 9)), draw(st.permutations(dims))


RAW = random.Random(3).randbytes(8 * (1 + 4 * 39 * 50))


@compiled
@given(blocks())
@settings(max_examples=80, deadline=None)
def test_the_compiled_copy_gives_what_python_gives(block: tuple[int, int, list[tuple[int, int, int]]]) -> None:
    itemsize, at, dims = block
    nbytes = itemsize * (at + 1 + sum((size - 1) * to for size, _, to in dims))
    outs = [bytearray(nbytes) for _ in COPIES]
    for out, copy in zip(outs, COPIES, strict=True):
        copy(out, at, RAW[: len(RAW) // 8 * itemsize], tuple(dims), itemsize)
    assert outs[0] == outs[1]


@compiled
@pytest.mark.parametrize(
    ("at", "dims", "itemsize"),
    [
        (0, [(11, 1, 1)], 4),
        (-1, [(1, 1, 1)], 4),
        (10, [(1, 1, 1)], 4),
        (0, [(2, 10, 1)], 4),
        (0, [(2, 1, 10)], 4),
        (0, [(0, 1, 1)], 4),
        (0, [(2, -1, 1)], 4),
        (0, [(2, 1, -1)], 4),
        (0, [(2**62, 2**62, 0)], 4),
        (0, [(2**62, 2, 0), (2**62, 2, 0)], 4),
        (0, [(1, 1, 1)], 3),
        (0, [(1, 1, 1)] * 79, 4),
    ],
)
def test_a_block_that_leaves_its_memory_is_refused(at: int, dims: list[tuple[int, int, int]], itemsize: int) -> None:
    with pytest.raises(ValueError, match=r"leaves its memory|at most"):
        _gather_c.copy(bytearray(40), at, bytes(40), dims, itemsize)


@compiled
def test_what_is_no_block_is_refused() -> None:
    for wrong in ([(1, 1)], [[1, 1, 1]], 7):
        with pytest.raises(TypeError):
            _gather_c.copy(bytearray(4), 0, bytes(4), wrong, 4)  # type: ignore[arg-type]
    with pytest.raises((TypeError, BufferError)):
        _gather_c.copy(bytes(4), 0, bytes(4), [], 4)


@pytest.mark.parametrize(("shape", "stride"), [((2, 3), (3, 1)), ((2, 3), (1, 2)), ((4, 1, 2), (2, 99, 1)), ((0, 5), (7, 7)), ((), ())])
def test_a_view_that_fills_its_range_is_dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    assert dense(shape, stride)


@pytest.mark.parametrize(("shape", "stride"), [((2, 3), (0, 1)), ((2, 3), (4, 1)), ((3,), (2,)), ((2, 2), (1, 1))])
def test_a_view_with_gaps_or_overlaps_is_not_dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """Its elements could not be put back where they were."""
    assert not dense(shape, stride)


def test_row_major_strides_are_those_of_torch_for_empty_tensors() -> None:
    assert row_major((2, 0, 3)) == (3, 3, 1)


@pytest.mark.parametrize(("how", "expected"), [("neg", "80808080"), ("conj", "00800080"), ("conj neg", "80008000")])
def test_flipping_signs_undoes_itself(how: str, expected: str) -> None:
    """conj and neg are sign bits: nothing is rounded, not even a NaN."""
    data = bytearray(8)  # two complex numbers of two 2-byte reals each
    flip(data, how, 2)
    assert bytes(data[1::2]).hex() == expected
    flip(data, how, 2)
    assert data == bytearray(8)
