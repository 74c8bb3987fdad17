"""Strided reads through a bounded buffer: any view of a storage as its row-major bytes, and the way back.

Nothing here knows torch. A view is walked in blocks of its own order; where a block's elements lie close together in the
storage they are fetched in one read, else run by run. In memory the elements are put in order by `_gather_c` where it was built, and
in Python elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import prod
from typing import Any, Final

__all__ = ["BLOCK", "copy_plain", "flip", "gather", "inverse"]

BLOCK: Final = 32 << 20
"""Bytes of output per block: the larger, the longer are the runs in which a transposed matrix is read."""

_WINDOW: Final = 16 << 20  # bytes fetched at once for a block whose elements lie apart
_BATCH: Final = 1 << 20  # of runs that are copied together
_CALL: Final = 16 << 10  # bytes that are read in the time that it takes to ask for some
_FORMATS: Final[dict[int, Any]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_FLIPPED: Final = bytes(value ^ 0x80 for value in range(256))

Read = Callable[[int, int], "bytes | bytearray | memoryview"]
"""Takes offset and length in bytes, both from where the view's storage begins."""

_Dims = tuple[tuple[int, int, int], ...]  # (size, step in the storage, step in the output), in elements


def gather(read: Read, shape: Sequence[int], stride: Sequence[int], itemsize: int) -> Iterator[bytearray]:
    """Yield the elements of a view in row-major order, as bytes, at most about `BLOCK` at a time.

    Args:
        read: Gives the storage's bytes, counted from the view's first element.
        shape: Elements per dimension.
        stride: Elements per step, not negative.
        itemsize: Bytes per element: 1, 2, 4, 8 or 16.
    """
    if prod(shape) == 0:
        return
    sizes, steps = list(shape), list(stride)
    if itemsize == 16:
        sizes, steps, itemsize = [*sizes, 2], [2 * step for step in steps] + [1], 8
    sizes, steps = _merged(sizes, steps)
    yield from _blocks(read, sizes, steps, itemsize)


def _merged(sizes: list[int], steps: list[int]) -> tuple[list[int], list[int]]:
    """Drop dimensions of size 1 and join neighbours that are one run."""
    out: list[tuple[int, int]] = []
    for size, step in zip(sizes, steps, strict=True):
        if size == 1:
            continue
        if out and out[-1][1] == size * step:
            out[-1] = (out[-1][0] * size, step)
        else:
            out.append((size, step))
    out = out or [(1, 1)]
    return [size for size, _ in out], [step for _, step in out]


def _blocks(read: Read, sizes: list[int], steps: list[int], itemsize: int) -> Iterator[bytearray]:
    """Cut along leading dimensions until a block fits."""
    split, inner = len(sizes) - 1, itemsize
    while split > 0 and inner * sizes[split] <= BLOCK:
        inner *= sizes[split]
        split -= 1
    rows = max(1, BLOCK // inner)
    tail_sizes, tail_steps = sizes[split + 1 :], steps[split + 1 :]
    for index in itertools.product(*(range(size) for size in sizes[:split])):
        start = sum(number * step for number, step in zip(index, steps, strict=False))
        for row in range(0, sizes[split], rows):
            count = min(rows, sizes[split] - row)
            block_sizes, block_steps = [count, *tail_sizes], [steps[split], *tail_steps]
            out = bytearray(prod(block_sizes) * itemsize)
            dims, step = [], 1
            for size, storage_step in zip(reversed(block_sizes), reversed(block_steps), strict=True):
                if size > 1:
                    dims.append((size, storage_step, step))
                step *= size
            dims.sort(key=lambda dim: dim[1])
            _fill(read, out, 0, tuple(dims), start + row * steps[split], itemsize)
            yield out


def _fill(read: Read, out: bytearray, at: int, dims: _Dims, first: int, itemsize: int) -> None:
    """Fill one block whose dimensions come in the order of their steps: in one read, or along its widest step.

    What lies between its elements is read along where that takes less time than to read around it.
    """
    together = not _apart(dims, itemsize)
    if not dims or (together and _span(dims) * itemsize <= _WINDOW):
        _copier()(out, at, read(first * itemsize, _span(dims) * itemsize), dims, itemsize)
        return
    rest, (size, step, out_step) = dims[:-1], dims[-1]
    span = _span(rest)
    if together and span * itemsize <= _WINDOW:
        group, apart = (_WINDOW // itemsize - span) // step + 1, step  # not all of it fits, so `step` is not zero
    elif span * itemsize <= _BATCH and not _apart(rest, itemsize):
        # Runs that lie far apart are put behind one another, many of them at a time.
        group, apart = _BATCH // (span * itemsize), span
    else:
        group, apart = 1, 0
    for start in range(0, size, group):
        count, begin = min(group, size - start), first + start * step
        if not apart:
            _fill(read, out, at + start * out_step, rest, begin, itemsize)
            continue
        if apart == step:
            data = read(begin * itemsize, ((count - 1) * step + span) * itemsize)
        else:
            data = b"".join(read((begin + index * step) * itemsize, span * itemsize) for index in range(count))
        _copier()(out, at + start * out_step, data, (*rest, (count, apart, out_step)), itemsize)


def _apart(dims: _Dims, itemsize: int) -> bool:
    """Whether a block is read faster run by run than in one stretch."""
    return _reading(dims, itemsize) < _CALL + _span(dims) * itemsize


def _reading(dims: _Dims, itemsize: int) -> int:
    """The time to read a block, as bytes that are read in that time."""
    if not dims:
        return _CALL + itemsize
    return min(_CALL + _span(dims) * itemsize, dims[-1][0] * _reading(dims[:-1], itemsize))


def _span(dims: _Dims) -> int:
    return 1 + sum((size - 1) * step for size, step, _ in dims)


Copy = Callable[["bytearray", int, "bytes | bytearray | memoryview", _Dims, int], None]
"""Takes the output, the first element of the block in it, the block's bytes from its first element on, its dimensions, and the bytes of an
element."""


@cache
def _copier() -> Copy:
    """The compiled copy where it was built, else the one below."""
    try:
        from safeload.conversion import _gather_c
    except ImportError:
        return copy_plain
    return _gather_c.copy


def copy_plain(out: bytearray, at: int, data: bytes | bytearray | memoryview, dims: _Dims, itemsize: int) -> None:
    """Copy a block that is in memory, along its longest dimension at once."""
    target, source = _cast(out, itemsize), _cast(data, itemsize)
    size, step, out_step = max(dims, default=(1, 1, 1))
    others = list(dims)
    if dims:
        others.remove((size, step, out_step))
    for index in itertools.product(*(range(dim[0]) for dim in others)):
        start = sum(number * dim[1] for number, dim in zip(index, others, strict=True))
        to = at + sum(number * dim[2] for number, dim in zip(index, others, strict=True))
        window = slice(to, to + (size - 1) * out_step + 1, out_step)
        if step == 0:
            target[window] = _cast(source[start : start + 1].tobytes() * size, itemsize)
        else:
            target[window] = source[start : start + (size - 1) * step + 1 : step]


def _cast(data: bytes | bytearray | memoryview, itemsize: int) -> Any:
    return memoryview(data).cast("B").cast(_FORMATS[itemsize])


def inverse(shape: Sequence[int], stride: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the view that undoes a dense one: its elements in the storage's order, as a view of the row-major bytes."""
    steps, step = [], 1
    for size in reversed(shape):
        steps.append(step)
        step *= size
    row_major = tuple(reversed(steps))
    order = sorted(range(len(shape)), key=lambda index: (-stride[index], -shape[index]))
    return tuple(shape[index] for index in order), tuple(row_major[index] for index in order)


def flip(data: bytearray, how: str, size: int) -> None:
    """Negate numbers in place by their sign bits, which loses nothing and undoes itself.

    Args:
        data: Whole elements, little-endian.
        how: "conj" for the imaginary parts of complex numbers, "neg" for every part, "conj neg" for the real parts.
        size: Bytes of one real number.
    """
    if how == "neg":
        starts, step = (size - 1,), size
    else:
        starts, step = ((2 * size - 1,), 2 * size) if how == "conj" else ((size - 1,), 2 * size)
    for start in starts:
        data[start::step] = data[start::step].translate(_FLIPPED)
