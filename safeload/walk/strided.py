"""Bounds of strided tensors, checked before anything is allocated or mapped.

The highest element that a tensor can reach is `offset + Σ (size - 1) * stride`. Python's integers do not wrap, so the
sum is exact; torch itself has had heap reads where a rebuild function did not look (see docs/threat-model.md).
"""

from __future__ import annotations

from typing import Any, Final

from safeload.errors import MalformedError
from safeload.findings import escape, shown
from safeload.program import DTYPE_BITS, StorageSpec

__all__ = ["check_sizes", "check_strided"]

_MOST: Final = 1 << 62
_PACKED: Final = {"quint4x2": 4, "quint2x4": 2}  # a tensor counts single values, its storage the bytes that hold several
_DIMENSIONS: Final = 64  # as many as torch's iterators take


def check_sizes(sizes: Any) -> tuple[int, ...]:
    """Return sizes or strides as a tuple of exact, non-negative integers.

    Args:
        sizes: A tuple or list, or a torch.Size; elements.

    Raises:
        MalformedError: something in it is no integer, negative, or too large.
    """
    if isinstance(sizes, (tuple, list)):
        found = tuple(sizes)
    else:
        args = getattr(sizes, "args", None)
        found = args[0] if isinstance(args, tuple) and args and isinstance(args[0], tuple) else (None,)
    if len(found) > _DIMENSIONS:
        raise MalformedError(f"a tensor of {len(found)} dimensions; torch has at most {_DIMENSIONS}").under("SL303")
    for size in found:
        if type(size) is not int or not 0 <= size < _MOST:
            raise MalformedError(f"a size or stride of {shown(size)}").under("SL303")
    return found


def check_strided(storage: StorageSpec, offset: Any, size: Any, stride: Any, dtype: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check that no element of a tensor lies outside its storage.

    Args:
        storage: Where it lies; `nbytes` bytes.
        offset: First element.
        size: Elements per dimension.
        stride: Elements per step.
        dtype: torch's name of the element type.

    Returns:
        Shape and strides as tuples of int.

    Raises:
        MalformedError: an element lies outside the storage, or a number is none.
    """
    if type(offset) is not int or not 0 <= offset < _MOST:
        raise MalformedError(f"a storage offset of {shown(offset)}").under("SL303")
    shape, strides = check_sizes(size), check_sizes(stride)
    if len(shape) != len(strides):
        raise MalformedError(f"{len(shape)} sizes and {len(strides)} strides").under("SL303")
    bits = _PACKED.get(dtype) or DTYPE_BITS.get(dtype)
    if bits is None:
        raise MalformedError(f"no tensor of dtype {dtype} can lie in a file").under("SL303")
    numel = 1
    for length in shape:
        numel *= length
    if numel >= _MOST:
        raise MalformedError(f"a tensor of {numel} elements").under("SL303")
    if numel:
        reach = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
        if (reach + 1) * bits > storage.nbytes * 8:
            raise MalformedError(
                f"a tensor of shape {shape}, stride {strides}, offset {offset} needs more than {storage.nbytes} bytes:"
                f" it reaches {((reach + 1) * bits + 7) // 8} in storage {escape(repr(storage.key[:200]))}"
            ).under("SL301")
    return shape, strides
