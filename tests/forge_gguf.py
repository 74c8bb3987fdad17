"""Forges GGUF files: any metadata and any tensors, with counts, lengths and offsets as they are told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["INTEGER", "TEXT", "Tensor", "array", "entry", "gguf", "templated", "text"]

INTEGER, FLOAT, BOOLEAN, TEXT, ARRAY = 4, 6, 7, 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the table, and its bytes; `offset` and `name` are as they are told."""

    name: str
    shape: tuple[int, ...] = (4,)
    kind: int = 0
    data: bytes = bytes(16)
    offset: int | None = None
    dimensions: int | None = None


def text(value: str | bytes, order: str = "<", length: int | None = None, width: str = "Q") -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack(order + width, len(raw) if length is None else length) + raw


def entry(key: str | bytes, value: str | int | bytes, kind: int | None = None, order: str = "<", width: str = "Q") -> bytes:
    """One metadata entry: a text, a 32-bit number, or the raw bytes of a value of any kind."""
    if isinstance(value, bytes):
        raw = value
    else:
        raw = text(value, order, width=width) if isinstance(value, str) else struct.pack(f"{order}I", value)
    kind = kind if kind is not None else TEXT if isinstance(value, str) else INTEGER
    return text(key, order, width=width) + struct.pack(f"{order}I", kind) + raw


def array(kind: int, values: Sequence[bytes], count: int | None = None) -> bytes:
    """The value of an array."""
    return struct.pack("<IQ", kind, len(values) if count is None else count) + b"".join(values)


def gguf(
    *entries: bytes,
    tensors: Sequence[Tensor] = (),
    version: int = 3,
    order: str = "<",
    alignment: int = 32,
    counts: tuple[int | None, int | None] = (None, None),
    tail: bytes = b"",
) -> bytes:
    """A file; `counts` in place of the true numbers of tensors and entries."""
    width = "I" if version == 1 else "Q"
    told = [len(real) if count is None else count for real, count in zip((tensors, entries), counts, strict=True)]
    out = b"GGUF" + struct.pack(f"{order}I{width}{width}", version, *told) + b"".join(entries)
    at, data = 0, b""
    for tensor in tensors:
        out += text(tensor.name, order, width=width)
        out += struct.pack(f"{order}I", len(tensor.shape) if tensor.dimensions is None else tensor.dimensions)
        out += struct.pack(f"{order}{len(tensor.shape)}{width}", *tensor.shape)
        out += struct.pack(f"{order}IQ", tensor.kind, at if tensor.offset is None else tensor.offset)
        data += tensor.data + bytes(-len(tensor.data) % alignment)
        at = len(data)
    return out + bytes(-len(out) % alignment if tensors else 0) + data + tail


def templated(template: str) -> bytes:
    """A file with nothing but a chat template."""
    return gguf(entry("general.architecture", "llama"), entry("tokenizer.chat_template", template))
