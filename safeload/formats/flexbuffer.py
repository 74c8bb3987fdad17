"""The one form of a FlexBuffer that TensorFlow Lite's converter writes for operators of TensorFlow: a vector of two texts.

Source: the FlexBuffers internals document: the last byte is the width of the root, the byte before it the root's type.
"""

from __future__ import annotations

from typing import Final

__all__ = ["texts_of"]

_STRING, _VECTOR, _BLOB = 5, 10, 25
_MOST: Final = 16


def texts_of(data: bytes) -> list[bytes]:
    """Return the texts of a FlexBuffer whose root is a vector of texts; nothing when it is anything else."""
    if len(data) < 3:
        return []
    width, kind = data[-1], data[-2]
    root = len(data) - 2 - width
    if width not in (1, 2, 4, 8) or kind >> 2 != _VECTOR or root < 0:
        return []
    return _vector(data, root - _number(data, root, width), 1 << (kind & 3))


def _vector(data: bytes, start: int, width: int) -> list[bytes]:
    count = _number(data, start - width, width)
    types = start + count * width
    if start < width or not 0 < count <= _MOST or types + count > len(data):
        return []
    found = []
    for index in range(count):
        at = start + index * width
        kind, own = data[types + index] >> 2, 1 << (data[types + index] & 3)
        place = at - _number(data, at, width)
        length = _number(data, place - own, own)
        if kind not in (_STRING, _BLOB) or place < own or place + length > len(data):
            return []
        found.append(data[place : place + length])
    return found


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little") if at >= 0 else 0
