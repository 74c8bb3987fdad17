"""TensorFlow's numbers of element types, by their names."""

from __future__ import annotations

from typing import Final

__all__ = ["type_name"]

_TYPES: Final = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64", 10: "bool",
    11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16", 16: "quint16", 17: "uint16", 18: "complex128",
    19: "float16", 20: "resource", 21: "variant", 22: "uint32", 23: "uint64", 24: "float8_e5m2", 25: "float8_e4m3fn", 29: "int4",
    30: "uint4",
}  # fmt: skip


def type_name(kind: int) -> str:
    """Return the name of a DataType; of a reference to one, the type's own."""
    return _TYPES.get(kind - 100 if kind > 100 else kind, f"type {kind}")
