"""Forges GGML files from before GGUF, as whisper.cpp, llama.cpp and ggml's examples wrote them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["ggml", "tensor"]

WORDS = (b"a", b"the", b"\xe2\x96\x81x", b"")


def tensor(name: str = "w", dims: Sequence[int] = (32, 2), kind: int = 0, data: bytes | None = None, *, at: int | None = None) -> bytes:
    """One tensor; `at` is where it begins in a file whose tensors are aligned."""
    head = struct.pack(f"<3I{len(dims)}I", len(dims), len(name.encode()), kind, *dims) + name.encode()
    block, width = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34)}.get(kind, (1, 4))
    elements = 1
    for dim in dims:
        elements *= dim
    padding = b"" if at is None else bytes(-(at + len(head)) % 32)
    return head + padding + (bytes(elements // block * width) if data is None else data)


def ggml(
    magic: bytes = b"lmgg", numbers: int = 7, tensors: Sequence[tuple[str, Sequence[int], int]] = (("w", (32, 2), 0), ("q", (64,), 2)), *,
    words: Sequence[bytes] = WORDS, counted: bool = False, scores: bool = False, filters: bool = False, version: int | None = None,
) -> bytes:  # fmt: skip
    """A file: its numbers, its vocabulary, its tensors."""
    data = magic + (b"" if version is None else struct.pack("<I", version))
    if magic == b"algg":
        data += struct.pack("<2I", 8, 16)
    else:
        data += struct.pack(f"<{numbers}I", len(words), *range(1, numbers))
        data += struct.pack("<2I", 3, 2) + bytes(24) if filters else b""
        data += struct.pack("<I", len(words)) if counted else b""
        data += b"".join(struct.pack("<I", len(word)) + word + (bytes(4) if scores else b"") for word in words)
    for name, dims, kind in tensors:
        data += tensor(name, dims, kind, at=len(data) if magic in (b"tjgg", b"algg") else None)
    return data
