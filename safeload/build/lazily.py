"""One tensor out of a file, from nothing but its own bytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from safeload.errors import LimitError, MalformedError
from safeload.findings import escape
from safeload.program import DTYPE_BITS, Region, TensorSpec
from safeload.source import Limits

__all__ = ["LazySlice", "Read", "tensor_of"]

_LIMITS: Final = Limits()

Read = Callable[[Region, memoryview], None]


def tensor_of(spec: TensorSpec, read: Read) -> Any:
    """Return the tensor of a checked spec, over memory of its own.

    Args:
        spec: Its bounds were checked against its storage.
        read: Fills a buffer with a stored range of the file, verified.

    Returns:
        A tensor of `spec.shape`. A contiguous one reads its own bytes only; any other, or one that is packed, its whole storage.

    Raises:
        MalformedError: its storage is not in the file as it says.
        LimitError: it does not fit into memory, or unpacks to more than `Limits` grants.
    """
    import torch

    from safeload.build.storages import allocate, memory_of

    storage, base = spec.storage, spec.storage.base_offset
    while storage.base is not None:
        storage = storage.base
        base += storage.base_offset
    region = storage.region
    size = DTYPE_BITS[spec.dtype] // 8
    if region is None and (storage.nbytes or spec.nbytes):
        raise MalformedError(f"storage {escape(storage.key)!r} has no bytes in the file").under("SL304")
    if region is not None and region.nbytes != storage.nbytes:
        raise MalformedError(
            f"storage {escape(storage.key)!r} has {storage.nbytes} bytes, and its record {region.nbytes}"
        ).under("SL302")
    if spec.contiguous:
        first, count, offset = (base + spec.offset) * size, spec.nbytes, 0
        stride = _row_major(spec.shape)
    else:
        first, count, offset, stride = base * size, spec.storage.nbytes, spec.offset, spec.stride
    dtype = getattr(torch, spec.dtype)
    if not count:
        return torch.empty(spec.shape, dtype=dtype)
    if region is None:
        raise MalformedError(f"storage {escape(storage.key)!r} has no bytes in the file").under("SL304")
    made: Any = allocate(count)
    _fill(memory_of(made), region, first, read)
    if storage.swap and size > 1:
        made.byteswap(dtype)
    tensor = torch.empty(0, dtype=dtype).set_(made, offset, spec.shape, stride)
    if spec.conj:
        tensor = tensor.conj()
    if spec.neg:
        tensor = torch._neg_view(tensor)
    return tensor.requires_grad_(spec.requires_grad)


def _fill(raw: memoryview, region: Region, first: int, read: Read) -> None:
    """Fill `raw` with the bytes of a region from its byte `first` on; a packed one is unpacked as a whole."""
    if region.packed is None:
        read(Region(region.offset + first, len(raw), member=region.member), raw)
        return
    if region.nbytes > region.packed * _LIMITS.inflate_ratio or region.nbytes > _LIMITS.inflate_bytes:
        raise LimitError(f"{region.packed} bytes that unpack to {region.nbytes}").under("SL208")
    packed = bytearray(region.packed)
    read(Region(region.offset, region.packed, member=region.member), memoryview(packed))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = inflater.decompress(packed, region.nbytes + 1)
    except zlib.error as error:
        raise MalformedError(f"{escape(region.member or 'a member')} does not unpack: {error}").under("SL201") from None
    if len(whole) != region.nbytes or not inflater.eof or inflater.unused_data or not region.check(zlib.crc32(whole)):
        raise MalformedError(f"{escape(region.member or 'a member')} does not unpack to what its directory says").under("SL209")
    raw[:] = memoryview(whole)[first : first + len(raw)]


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


class LazySlice:
    """A tensor that is read when it is indexed."""

    def __init__(self, spec: TensorSpec, read: Read) -> None:
        self._spec = spec
        self._read = read

    def get_shape(self) -> list[int]:
        """Elements per dimension."""
        return list(self._spec.shape)

    def get_dtype(self) -> str:
        """torch's name of the element type."""
        return self._spec.dtype

    def __getitem__(self, index: Any) -> Any:
        spec = self._spec
        first = index[0] if isinstance(index, tuple) and index else index
        if not (spec.contiguous and spec.shape and isinstance(first, slice) and first.step in (None, 1)):
            return tensor_of(spec, self._read)[index]
        # Rows of a contiguous tensor are one range of the file: read no other.
        start, stop, _ = first.indices(spec.shape[0])
        stop = max(start, stop)
        row = spec.numel // spec.shape[0] if spec.shape[0] else 0
        rows = TensorSpec(
            spec.storage, spec.dtype, (stop - start, *spec.shape[1:]), spec.stride, spec.offset + start * row,
            spec.requires_grad, spec.conj, spec.neg, spec.global_name,
        )  # fmt: skip
        part = tensor_of(rows, self._read)
        return part[(slice(None), *index[1:])] if isinstance(index, tuple) else part
