"""Forges protobuf messages, field by field: what a number, a text or a message is said to be need not be true."""

from __future__ import annotations

import struct

__all__ = ["double", "fixed", "msg", "number", "packed", "tag", "varint"]


def varint(value: int, width: int | None = None) -> bytes:
    """A varint; `width` bytes long when given, padded with empty groups."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80 or (width is not None and len(out) + 1 < width):
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(field: int, wire: int) -> bytes:
    return varint(field << 3 | wire)


def number(field: int, value: int) -> bytes:
    """A varint field; negative numbers as int64."""
    return tag(field, 0) + varint(value)


def msg(field: int, *parts: bytes | str, length: int | None = None) -> bytes:
    """A text, bytes or message; `length` in place of the true one."""
    raw = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return tag(field, 2) + varint(len(raw) if length is None else length) + raw


def fixed(field: int, value: float) -> bytes:
    return tag(field, 5) + struct.pack("<f", value)


def double(field: int, value: float) -> bytes:
    return tag(field, 1) + struct.pack("<d", value)


def packed(field: int, *values: int) -> bytes:
    """Repeated varints in one field."""
    return msg(field, *(varint(value) for value in values))
