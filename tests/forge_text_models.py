"""Forge msgpack files, word vectors and SentencePiece models; every size may be any number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["fasttext", "msgpack", "object_array", "sentencepiece", "word2vec"]


def msgpack(value: Any) -> bytes:
    """Plain data, in the shortest form that one header of 32 bits gives."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return bytes([0xA0 | len(raw)]) + raw if len(raw) < 32 else b"\xdb" + struct.pack(">I", len(raw)) + raw
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xdf" + struct.pack(">I", len(value))
        return head + b"".join(msgpack(key) + msgpack(item) for key, item in value.items())
    items = list(value)
    return (bytes([0x90 | len(items)]) if len(items) < 16 else b"\xdd" + struct.pack(">I", len(items))) + b"".join(map(msgpack, items))


def object_array(stream: bytes, **over: Any) -> dict[Any, Any]:
    """An array of objects as msgpack-numpy describes it."""
    return {b"nd": True, b"type": b"|O", b"kind": b"O", b"shape": [1], b"data": stream, **over}


def fasttext(
    words: Sequence[str] = ("a", "bb", "</s>"), labels: Sequence[str] = (), *, dim: int = 2, size: int | None = None, version: int = 12,
    rows: int | None = None, pruned: int = -1, quantised: bool = False, codes: int | None = None, quantiser: int = 2,
) -> bytes:  # fmt: skip
    """A model; `size`, `rows`, `codes` and `quantiser` are what is stated of the dictionary, the input, its codes and its quantiser."""
    out = struct.pack("<2i12id", 793_712_314, version, dim, 5, 5, 1, 5, 1, 1, 2, 0, 0, 0, 100, 1e-4)
    stated = len(words) + len(labels) if size is None else size
    out += struct.pack("<3i2q", stated, stated - len(labels), len(labels), 10, pruned)
    out += b"".join(word.encode() + b"\0" + struct.pack("<qb", 1, word in labels) for word in (*words, *labels))
    held = len(words) if rows is None else rows
    if quantised:
        out += struct.pack("<BB2qi", 1, 0, held, dim, len(words) if codes is None else codes) + bytes(len(words))
        out += struct.pack("<4i", quantiser, 1, 2, 2) + bytes(256 * 4 * dim)
    else:
        out += struct.pack("<B2q", 0, held, dim) + bytes(4 * dim * len(words))
    return out + struct.pack("<B2q", 0, 1, dim) + bytes(4 * dim)


def word2vec(words: Sequence[str] = ("a", "bb"), dim: int = 3, *, count: int | None = None, gap: bytes = b"\n") -> bytes:
    """Binary vectors, with a line's end behind each as the original program writes them."""
    lines = b"".join(word.encode() + b" " + struct.pack(f"<{dim}f", *range(dim)) + gap for word in words)
    return f"{len(words) if count is None else count} {dim}\n".encode() + lines


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def sentencepiece(pieces: Sequence[str] = ("<unk>", "<s>", "a"), *, inside: bytes = b"", behind: bytes = b"") -> bytes:
    """A vocabulary; `inside` is put into its last piece, `behind` behind the trainer's settings."""
    made = [_field(1, piece.encode()) + b"\x15" + struct.pack("<f", -1.0) + b"\x18\x01" for piece in pieces]
    made[-1] += inside
    return b"".join(_field(1, piece) for piece in made) + _field(2, b"\x0a\x05a.txt") + behind
