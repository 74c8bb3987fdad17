"""What each torch dtype travels as: the format's own name where it has one, bytes where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from safeload.program import DTYPE_BITS

__all__ = ["FORMAT_BITS", "FORMAT_NAMES", "carrier", "dense", "row_major"]

FORMAT_NAMES: Final[dict[str, str]] = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "int16": "I16", "uint16": "U16", "float16": "F16",
    "bfloat16": "BF16", "int32": "I32", "uint32": "U32", "float32": "F32", "complex64": "C64", "float64": "F64", "int64": "I64",
    "uint64": "U64", "float4_e2m1fn_x2": "F4",
}  # fmt: skip
"""torch's name → the name in a safetensors header, for every dtype that both have (safetensors 0.8.0)."""

FORMAT_BITS: Final[dict[str, int]] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4,
}  # fmt: skip


def carrier(dtype: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape, in the format's words, of the entry that carries a contiguous tensor.

    A dtype that the format lacks travels as U8 with one dimension more, the bytes of an element. The format counts F4 in
    halves of a byte, torch in whole bytes: the last dimension doubles.
    """
    name = FORMAT_NAMES.get(dtype)
    size = DTYPE_BITS[dtype] // 8
    if name == "F4":
        return ("F4", (*shape[:-1], shape[-1] * 2)) if shape else ("U8", ())
    if name is not None:
        return name, tuple(shape)
    return "U8", (*shape, size) if size > 1 else tuple(shape)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides that torch gives a new tensor of this shape, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether the elements fill one range of their storage, each place once, in whatever order."""
    if prod(shape) == 0:
        return True
    expected = 1
    for step, size in sorted((step, size) for size, step in zip(shape, stride, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True
