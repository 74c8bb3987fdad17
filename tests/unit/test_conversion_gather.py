"""Views as row-major bytes, through buffers far smaller than the view."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from safeload.conversion import gather as module
from safeload.conversion.carriers import dense, row_major
from safeload.conversion.gather import flip, gather, inverse


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 200)
    monkeypatch.setattr(module, "_WINDOW", 64)


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


def test_a_view_is_gathered_as_if_by_hand() -> None:
    """Transposed, expanded, overlapping, with gaps: all of them."""
    raw = bytes(random.Random(1).randbytes(40_000))
    for shape, stride, itemsize in views():
        found = b"".join(gather(lambda at, n: raw[at : at + n], shape, stride, itemsize))
        assert found == by_hand(raw, shape, stride, itemsize), (shape, stride, itemsize)


def test_the_inverse_of_a_dense_view_gives_the_storage_back() -> None:
    """A transposed tensor is written in the order that others read, and must come back in its own."""
    raw = bytes(random.Random(2).randbytes(40_000))
    for shape, stride, itemsize in views():
        if not dense(shape, stride):
            continue
        out = b"".join(gather(lambda at, n: raw[at : at + n], shape, stride, itemsize))
        back = b"".join(gather(lambda at, n, out=out: out[at : at + n], *inverse(shape, stride), itemsize))  # type: ignore[misc]
        assert back == raw[: len(back)], (shape, stride)


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
