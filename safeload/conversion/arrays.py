"""numpy's .npz and .npy files as tables of tensors: plain numbers, each array a view of the member that holds it."""

from __future__ import annotations

import re
import sys
from typing import Final

from safeload.conversion.carriers import row_major
from safeload.errors import MalformedError, UnsupportedError
from safeload.findings import escape
from safeload.formats.npy_file import array_header
from safeload.formats.zip_container import read_archive
from safeload.formats.zip_read import iter_member
from safeload.program import DTYPE_BITS, Region, StorageSpec, TensorSpec
from safeload.source import Reading, Source

__all__ = ["ARRAY_FORMATS", "array_table"]

ARRAY_FORMATS: Final = frozenset({"zip", "npy"})
"""Readers whose files may be nothing but arrays."""

_DTYPES: Final = {
    "f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64", "c16": "complex128", "i1": "int8", "i2": "int16", "i4": "int32",
    "i8": "int64", "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "b1": "bool",
}  # fmt: skip
_PLAIN: Final = re.compile(r"([<>|])([fciub][0-9]{1,2})\Z")
_HEAD: Final = 1 << 16


def array_table(source: Source, reading: Reading) -> tuple[dict[str, TensorSpec], list[tuple[str, str]]]:
    """Read the headers of all arrays.

    Returns:
        Arrays by name, as tensors; and those that are none: (name, why).

    Raises:
        UnsupportedError: the file is an archive of other things.
        MalformedError: a header is not what numpy writes.
    """
    table: dict[str, TensorSpec] = {}
    left: list[tuple[str, str]] = []
    for name, region, head in _members(source, reading):
        found = _tensor(name, region, head)
        if isinstance(found, str):
            left.append((name, found))
        else:
            table[name] = found
    return table, left


def _members(source: Source, reading: Reading) -> list[tuple[str, Region, bytes]]:
    """(name, place, first bytes) of every array in the file."""
    if source.head(2) != b"PK":
        return [("array", Region(0, source.size), source.head(_HEAD))]
    found = []
    for member in read_archive(source, reading.limits).members:
        if not member.name.endswith(".npy") or member.is_dir:
            raise UnsupportedError(f"a zip file of other things than arrays: '{escape(member.name, 80)}'", where=source.name)
        # The pieces of a member are checked to its end when it is copied; here its first bytes are enough.
        pieces = iter_member(source, member, reading.limits)
        found.append((member.name.removesuffix(".npy"), member.region, bytes(next(pieces, b""))[:_HEAD]))
    return found


def _tensor(name: str, region: Region, head: bytes) -> TensorSpec | str:
    """One array as a tensor over its member, or why it is none."""
    with Source.open(head) as start:
        try:
            described = array_header(start)
        except MalformedError as error:
            raise error.at(f"!{escape(name, 100)}") from None
    plain = _PLAIN.match(described.dtype)
    dtype = _DTYPES.get(plain[2]) if plain is not None else None
    if plain is None or dtype is None or described.nbytes is None:
        return f"torch has no tensors of {escape(described.dtype, 60)}"
    size = DTYPE_BITS[dtype] // 8
    if described.data + described.nbytes > region.nbytes:
        raise MalformedError(
            f"the array ends at byte {described.data + described.nbytes} of {region.nbytes}", where=f"!{escape(name, 100)}"
        )
    if described.data % size:
        return "its numbers do not begin at a multiple of their size"
    shape = described.shape
    stride = row_major(shape[::-1])[::-1] if described.fortran_order else row_major(shape)
    if size > 1 and (plain[1] == ">") != (sys.byteorder == "big"):
        if region.nbytes % size:
            return "its numbers do not end at a multiple of their size"
        storage = StorageSpec(name, dtype, region.nbytes // size, region.nbytes, "cpu", region, swap=True)
    else:
        storage = StorageSpec(name, "uint8", region.nbytes, region.nbytes, "cpu", region)
    return TensorSpec(storage, dtype, shape, stride, described.data // size)
