"""Strided reads through a bounded buffer: any view of a storage as its row-major bytes, and the way back.

Nothing here knows torch. A view is walked in blocks of its own order; where a block's elements lie close together in the
storage they are fetched in one read, else run by run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, Final

__all__ = ["BLOCK", "flip", "gather", "inverse"]

BLOCK: Final = 8 << 20
"""Bytes of output per block."""

_WINDOW: Final = 16 << 20  # bytes fetched at once for a block whose elements lie apart
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
                dims.append((size, storage_step, step))
                step *= size
            _fill(read, _cast(out, itemsize), 0, tuple(reversed(dims)), start + row * steps[split], itemsize)
            yield out


def _fill(read: Read, out: Any, at: int, dims: _Dims, first: int, itemsize: int) -> None:
    """Fill one block: in one read where its elements lie within the window, else along its widest step."""
    span = 1 + sum((size - 1) * step for size, step, _ in dims)
    if span * itemsize <= _WINDOW or not dims:
        data = _cast(read(first * itemsize, span * itemsize), itemsize)
        _copy(out, at, dims, data)
        return
    widest = max(range(len(dims)), key=lambda index: dims[index][1])
    size, step, out_step = dims[widest]
    rest = dims[:widest] + dims[widest + 1 :]
    # Runs that would be a single element each are fetched as one stretch where that stays within the window.
    group = max(1, min(size, (_WINDOW // itemsize - 1) // max(step, 1))) if step and _span(rest) < step else 1
    for start in range(0, size, group):
        count = min(group, size - start)
        inner = ((count, step, out_step), *rest) if count > 1 else rest
        _fill(read, out, at + start * out_step, inner, first + start * step, itemsize)


def _cast(data: bytes | bytearray | memoryview, itemsize: int) -> Any:
    return memoryview(data).cast("B").cast(_FORMATS[itemsize])


def _span(dims: _Dims) -> int:
    return 1 + sum((size - 1) * step for size, step, _ in dims)


def _copy(out: Any, at: int, dims: _Dims, data: Any) -> None:
    """Copy a block that is in memory, along its longest dimension at once."""
    if not dims:
        out[at] = data[0]
        return
    longest = max(range(len(dims)), key=lambda index: dims[index][0])
    size, step, out_step = dims[longest]
    others = dims[:longest] + dims[longest + 1 :]
    for index in itertools.product(*(range(dim[0]) for dim in others)):
        source = sum(number * dim[1] for number, dim in zip(index, others, strict=True))
        target = at + sum(number * dim[2] for number, dim in zip(index, others, strict=True))
        window = slice(target, target + (size - 1) * out_step + 1, out_step)
        if step == 0:
            out[window] = memoryview(data[source : source + 1].tobytes() * size).cast(data.format)
        else:
            out[window] = data[source : source + (size - 1) * step + 1 : step]


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
