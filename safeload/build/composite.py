"""Tensors made of tensors: sparse, quantised, nested, jagged. Their values are checked here, because kernels do not check them.

torch builds sparse tensors from a file without a look at their indices; the first `to_dense()` then writes wherever those
point to (CVE-2025-62164, and pytorch pull request #184750). So every index is compared with its bound before a tensor exists.
Invariants of the compressed layouts: the documentation of `torch.sparse_compressed_tensor`, section "Invariants".
"""

from __future__ import annotations

from typing import Any, Final

import torch

from safeload.errors import MalformedError, UnsupportedError
from safeload.findings import escape

__all__ = ["check_jagged", "check_quantiser", "dim_range", "jagged", "jagged_type", "nested", "quantised", "sparse"]

_torch: Any = torch  # for functions without types
_INDICES: Final = (torch.int32, torch.int64)


def _bad(message: str, rule: str = "SL303") -> MalformedError:
    return MalformedError(message).under(rule)


def _readable(*tensors: torch.Tensor) -> bool:
    """Whether there are values to look at: not on the meta device, not under a FakeTensorMode."""
    return all(type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type != "meta" for tensor in tensors)


def _plain(*tensors: torch.Tensor) -> None:
    """Raise unless parts are ordinary dense tensors."""
    for part in tensors:
        if part.layout is not torch.strided or part.is_nested or part.is_quantized:
            raise _bad("a part of a sparse, quantised or nested tensor is no dense tensor")


def _own(part: Any) -> Any:
    """The same elements, as a tensor of its own.

    What torch makes of parts holds on to the very objects. A stream holds them too, and may point a Parameter to another storage after
    it was looked at (BUILD, as old releases write it): then what was checked would not be what is used.
    """
    if not isinstance(part, torch.Tensor):
        return part
    return part.view_as(part) if part.requires_grad else part.detach()


def sparse(layout: torch.layout, data: tuple[Any, ...], *, garbage: bool = False) -> torch.Tensor:
    """Make a sparse tensor.

    Args:
        layout: One of the five.
        data: Indices (one tensor or two), values, shape, and for COO perhaps whether it is coalesced.
        garbage: The values were not read, so nothing that depends on them is checked.

    Raises:
        MalformedError: an index points outside, or the parts do not fit together.
    """
    data = tuple(map(_own, data))
    with torch.no_grad():
        try:
            if layout is torch.sparse_coo:
                indices, values, size, *flags = data
                coalesced = flags[0] if flags else None
                _check_coo(indices.detach(), values, size, coalesced=bool(coalesced), look=not garbage and _readable(indices))
            else:
                compressed, plain, values, size = data
                look = not garbage and _readable(compressed, plain)
                _check_compressed(layout, compressed.detach(), plain.detach(), values, size, look=look)
        except MalformedError as error:
            raise MalformedError(error.message + _in_torchs_words(layout, data)).under(error.rule) from None
    if layout is torch.sparse_coo:
        found: torch.Tensor = _torch.sparse_coo_tensor(indices, values, size, check_invariants=False, is_coalesced=coalesced)
        return found
    return torch.sparse_compressed_tensor(compressed, plain, values, size, layout=layout, check_invariants=False)


def _in_torchs_words(layout: torch.layout, data: tuple[Any, ...]) -> str:
    """What torch says of the same parts when its own checks are on; programs look for that text. "" when it finds nothing."""
    try:
        if layout is torch.sparse_coo:
            _torch._validate_sparse_coo_tensor_args(*data[:3])  # noqa: SLF001 — the check behind check_invariants=True
        else:
            _torch._validate_sparse_compressed_tensor_args(*data, layout)  # noqa: SLF001 — likewise
    except Exception as error:  # noqa: BLE001 — only its text is wanted, and its absence is fine
        return f" ({escape(str(error).splitlines()[0], 300)})" if str(error) else ""
    return ""


def _check_coo(indices: torch.Tensor, values: torch.Tensor, size: tuple[int, ...], *, coalesced: bool, look: bool) -> None:
    _plain(indices, values)
    if indices.dim() != 2 or indices.dtype is not torch.int64 or values.dim() < 1 or values.shape[0] != indices.shape[1]:
        raise _bad(f"sparse indices of shape {tuple(indices.shape)}, {indices.dtype}, for values of shape {tuple(values.shape)}")
    dims, count = indices.shape
    if dims + values.dim() - 1 != len(size) or tuple(values.shape[1:]) != tuple(size[dims:]) or indices.device != values.device:
        raise _bad(f"{dims} sparse dimensions and values of shape {tuple(values.shape)} in a tensor of shape {tuple(size)}")
    if not look or not count:
        return
    limits = torch.tensor(size[:dims], dtype=torch.int64, device=indices.device).unsqueeze(1)
    if bool((indices < 0).any()) or bool((indices >= limits).any()):
        raise _bad(f"sparse indices outside a tensor of shape {tuple(size)}", "SL301")
    if coalesced and count > 1:
        ordered = torch.zeros(count - 1, dtype=torch.bool, device=indices.device)
        for row in reversed(range(dims)):
            step = indices[row, 1:] - indices[row, :-1]
            ordered = torch.where(step == 0, ordered, step > 0)
        if not bool(ordered.all()):
            raise _bad("a sparse tensor that says it is coalesced, with indices out of order or twice")


def _check_compressed(
    layout: torch.layout, compressed: torch.Tensor, plain: torch.Tensor, values: torch.Tensor, size: tuple[int, ...], *, look: bool
) -> None:
    _plain(compressed, plain, values)
    block = 2 if layout in (torch.sparse_bsr, torch.sparse_bsc) else 0
    by_row = layout in (torch.sparse_csr, torch.sparse_bsr)
    batch = compressed.dim() - 1
    dense = values.dim() - batch - 1 - block
    shapes = f"indices of shapes {tuple(compressed.shape)} and {tuple(plain.shape)}, values {tuple(values.shape)}, in {tuple(size)}"
    if compressed.dtype not in _INDICES or plain.dtype is not compressed.dtype or batch < 0 or plain.dim() != batch + 1 or dense < 0:
        raise _bad(f"a sparse tensor of {compressed.dtype} and {plain.dtype} {shapes}")
    if len(size) != batch + 2 + dense or not compressed.device == plain.device == values.device:
        raise _bad(f"a sparse tensor of {shapes}")
    lead, count = tuple(size[:batch]), plain.shape[-1]
    blocks = tuple(values.shape[batch + 1 : batch + 1 + block]) or (1, 1)
    fits = tuple(compressed.shape[:-1]) == lead == tuple(plain.shape[:-1]) == tuple(values.shape[:batch])
    fits = fits and values.shape[batch] == count and tuple(values.shape[batch + 1 + block :]) == tuple(size[batch + 2 :])
    rows, columns = size[batch : batch + 2]
    if not fits or 0 in blocks or rows % blocks[0] or columns % blocks[1]:
        raise _bad(f"a sparse tensor of {shapes}")
    lines, width = (rows // blocks[0], columns // blocks[1]) if by_row else (columns // blocks[1], rows // blocks[0])
    if compressed.shape[-1] != lines + 1:
        raise _bad(f"a sparse tensor of {shapes}: {compressed.shape[-1]} compressed indices for {lines} lines")
    # Kernels step through both with a pointer, whatever their strides are.
    if not compressed.is_contiguous() or not plain.is_contiguous():
        raise _bad("a compressed sparse tensor whose indices are not contiguous")
    if look:
        starts = compressed.reshape(-1, lines + 1).long()
        _check_lines(starts, plain.reshape(starts.shape[0], count).long(), width)  # said in full: there may be no elements


def _check_lines(starts: torch.Tensor, plain: torch.Tensor, width: int) -> None:
    """Compare the values of compressed and plain indices with their bounds, batch by batch at once."""
    count = plain.shape[1]
    if not starts.shape[0]:
        return
    lengths = starts[:, 1:] - starts[:, :-1]
    good = bool((starts[:, 0] == 0).all()) and bool((starts[:, -1] == count).all())
    if not good or bool((starts < 0).any()) or bool((starts > count).any()) or bool((lengths < 0).any()) or bool((lengths > width).any()):
        raise _bad(f"compressed indices that do not go from 0 to {count} in steps of at most {width}", "SL301")
    if not count:
        return
    if bool((plain < 0).any()) or bool((plain >= width).any()):
        raise _bad(f"plain indices outside of {width}", "SL301")
    first = torch.zeros((starts.shape[0], count + 1), dtype=torch.bool, device=plain.device)
    first.scatter_(1, starts, value=True)
    if not bool(((plain[:, 1:] > plain[:, :-1]) | first[:, 1:count]).all()):
        raise _bad("plain indices out of order or twice")


def check_quantiser(quantiser: tuple[Any, ...], *, garbage: bool = False) -> None:
    """Check the tensors of a per-channel quantiser; their numbers were compared with the channels before.

    Raises:
        MalformedError: they are not one row of finite numbers each.
    """
    scales, zeros = quantiser[1:3]
    for part in (scales, zeros):
        if not isinstance(part, torch.Tensor):
            continue
        _plain(part)
        if part.dim() != 1 or part.dtype.is_complex or part.dtype is torch.bool:
            raise _bad(f"quantiser parameters of shape {tuple(part.shape)}, {part.dtype}")
        if _readable(part) and not garbage and part.dtype.is_floating_point and not bool(torch.isfinite(part).all()):
            raise _bad("quantiser parameters that are no finite numbers")
    if isinstance(scales, torch.Tensor) is not isinstance(zeros, torch.Tensor):
        raise _bad("quantiser parameters of two kinds")


def quantised(
    storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], quantiser: tuple[Any, ...], *, requires_grad: bool
) -> torch.Tensor:
    """Make a quantised tensor over a typed storage.

    torch makes a full tensor first and then points it to the storage; a shape with strides of 0 would make that as large as a
    file likes. So it is made without elements here; `set_` gives it the rest.
    """
    device = storage._untyped_storage.device  # noqa: SLF001 — a TypedStorage warns about its public properties
    if quantiser[0] is torch.per_tensor_affine:
        tensor = _torch._empty_affine_quantized(  # noqa: SLF001 — there is no public way
            (0,), scale=float(quantiser[1]), zero_point=quantiser[2], dtype=storage.dtype, device=device
        )
    else:
        scales, zeros = map(_own, quantiser[1:3])
        if type(scales) is list:
            exact = quantiser[0] is torch.per_channel_affine
            scales = torch.tensor(scales, dtype=torch.double if exact else torch.float, device=device)
            zeros = torch.tensor(zeros, dtype=torch.long if exact else torch.float, device=device)
        tensor = _torch._empty_per_channel_affine_quantized(  # noqa: SLF001 — as above
            (0,) * len(shape), scales=scales, zero_points=zeros, axis=quantiser[3], dtype=storage.dtype, device=device
        )
    tensor.set_(storage, offset, shape, stride)
    tensor.requires_grad = requires_grad
    found: torch.Tensor = tensor
    return found


def nested(
    buffer: torch.Tensor, sizes: torch.Tensor, strides: torch.Tensor, offsets: torch.Tensor, *, garbage: bool = False
) -> torch.Tensor:
    """Make a nested tensor of the strided layout: a view of one buffer by a table of sizes, strides and offsets.

    Raises:
        MalformedError: a row reaches outside the buffer, or the tables do not fit together.
    """
    buffer, sizes, strides, offsets = map(_own, (buffer, sizes, strides, offsets))
    _plain(buffer, sizes, strides, offsets)
    tables = (sizes, strides, offsets)
    if any(part.dtype is not torch.int64 for part in tables) or sizes.dim() != 2 or strides.shape != sizes.shape or buffer.dim() != 1:
        raise _bad("a nested tensor whose tables are no integers of the same shape, or whose buffer is not flat")
    if offsets.dim() != 1 or offsets.shape[0] != sizes.shape[0] or not buffer.is_contiguous():
        raise _bad(f"a nested tensor of {sizes.shape[0]} rows with {tuple(offsets.shape)} offsets")
    if not garbage and _readable(*tables):
        rows = zip(sizes.tolist(), strides.tolist(), offsets.tolist(), strict=True)
        for index, (size, stride, offset) in enumerate(rows):
            if offset < 0 or any(number < 0 for number in (*size, *stride)):
                raise _bad(f"row {index} of a nested tensor has a negative size, stride or offset", "SL301")
            if 0 not in size and offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) >= buffer.numel():
                raise _bad(f"row {index} of a nested tensor reaches outside its buffer of {buffer.numel()} elements", "SL301")
    found: torch.Tensor = _torch._nested_view_from_buffer(buffer, *(_here(part).contiguous() for part in tables))  # noqa: SLF001
    return found


def _here(table: torch.Tensor) -> torch.Tensor:
    """A table of a nested tensor lies in main memory, wherever the tensor is; map_location may have moved it."""
    return table if table.device.type in ("cpu", "meta") else table.cpu()


def jagged_type() -> Any:
    """The class of jagged nested tensors.

    Raises:
        UnsupportedError: this torch has none.
    """
    import torch.nested  # it registers itself

    found = getattr(getattr(getattr(torch.nested, "_internal", None), "nested_tensor", None), "NestedTensor", None)
    if found is None:
        raise UnsupportedError("this torch has no jagged nested tensors")
    return found


def check_jagged(
    values: torch.Tensor, offsets: torch.Tensor, lengths: torch.Tensor | None, ragged: int, cache: dict[str, Any], *, garbage: bool
) -> None:
    """Check that every row of a jagged tensor lies within its values.

    Raises:
        MalformedError: it does not.
    """
    rows = [offsets] if lengths is None else [offsets, lengths]
    _plain(values, *rows)
    if any(part.dim() != 1 or part.dtype not in _INDICES or part.device != values.device for part in rows):
        raise _bad("a jagged tensor whose offsets are no row of integers")
    if ragged > values.dim() or offsets.shape[0] < 1 or (lengths is not None and lengths.shape[0] != offsets.shape[0] - 1):
        raise _bad(f"a jagged tensor with {values.dim()} dimensions of values, of which {ragged} is ragged")
    if any(part.dim() != 2 or part.numel() for part in cache.values()):
        raise _bad("a jagged tensor whose shortest and longest rows are not kept as torch keeps them")
    if garbage or not _readable(*rows):
        return
    ends = offsets.detach()
    total = values.shape[ragged - 1]
    spans = (ends[1:] - ends[:-1]) if lengths is None else lengths.detach()
    outside = bool((ends < 0).any()) or bool((ends > total).any()) or bool((spans < 0).any())
    if outside or bool((ends[:-1] + spans > total).any()) or bool((ends[1:] < ends[:-1]).any()):
        raise _bad(f"a row of a jagged tensor lies outside its {total} values", "SL301")
    longest, shortest = (int(spans.max()), int(spans.min())) if spans.numel() else (0, 0)
    said = {name: part.shape[0] for name, part in cache.items()}
    if said.get("min_seqlen", shortest) > shortest or said.get("max_seqlen", longest) < longest:
        raise _bad(f"a jagged tensor whose rows of {shortest} to {longest} are said to be others")


def jagged(given: dict[str, Any]) -> torch.Tensor:
    """Make a jagged tensor of checked parts."""
    parts = {name: _own(part) for name, part in given.items()}
    if given.get("_metadata_cache") is not None:
        parts["_metadata_cache"] = {name: _own(part) for name, part in given["_metadata_cache"].items()}
    found: torch.Tensor = jagged_type()(**parts)
    return found


def dim_range() -> Any:
    """An empty `_DimRange`, which jagged tensors carry among their attributes.

    Raises:
        UnsupportedError: this torch has none.
    """
    import torch._dynamo.decorators as decorators  # noqa: PLR0402 — as a name of its own

    kind = getattr(decorators, "_DimRange", None)
    if kind is None:
        raise UnsupportedError("this torch has no _DimRange")
    return object.__new__(kind)
