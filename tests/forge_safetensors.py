"""Forges safetensors files: any header over any data, and random damage to good ones."""

from __future__ import annotations

import json
import random
import struct

_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "BOOL": 1, "C64": 8, "F8_E4M3": 1}


def file_of(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file: `header` as it is when bytes, else as JSON; `length` in place of its true length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, object]:
    """One tensor's description."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def random_file(rng: random.Random) -> bytes:
    """A good file of a few tensors, its header in any order."""
    header: dict[str, object] = {}
    at = 0
    for index in range(rng.randrange(5)):
        dtype = rng.choice(list(_SIZES))
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        nbytes = _SIZES[dtype]
        for size in shape:
            nbytes *= size
        header[f"t{rng.randrange(100)}.{index}"] = entry(dtype, shape, at, at + nbytes)
        at += nbytes
    names = list(header)
    rng.shuffle(names)
    if rng.random() < 0.5:
        names.insert(rng.randrange(len(names) + 1), "__metadata__")
        header["__metadata__"] = {"format": "pt", "note": 'a "quoted" é'}
    separators = rng.choice([(",", ":"), (", ", ": ")])
    text = json.dumps({name: header[name] for name in names}, ensure_ascii=rng.random() < 0.5, separators=separators)
    return file_of(text.encode() + b" " * rng.randrange(9), rng.randbytes(at))


def damaged(rng: random.Random, good: bytes) -> bytes:
    """The file with a few bytes changed, cut out, doubled or put in."""
    data = bytearray(good)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        what = rng.randrange(5)
        if what == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at:at] = rng.choice([b" ", b"0", b"1", b"{", b"}", b"[", b'"', b",", b"\\", b"\0", b"-", b"null", b'"x":1,'])
        elif what == 2:
            del data[at : at + rng.randrange(1, 9)]
        elif what == 3:
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        else:
            data[at : at + 1] = bytes([rng.randrange(32, 127)])
    if rng.random() < 0.8 and len(data) >= 8:
        # Most damage should reach the parser, not stop at the length.
        end = data.rfind(b"}") + 1
        data[:8] = struct.pack("<Q", max(0, end - 8))
    return bytes(data)
