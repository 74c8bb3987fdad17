"""A small checkpoint as `torch.save` writes it, and one that would run a command: made here, so that a demo needs no torch."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Final

__all__ = ["write_checkpoint", "write_hostile"]

COMMAND: Final = "echo a stranger was here"


def write_checkpoint(path: Path) -> None:
    """Write {"weight": 2×3 float32, "bias": 2 float32}."""
    tensors = {"weight": ((2, 3), [0.5, -1.0, 0.25, 2.0, 0.0, 1.5]), "bias": ((2,), [0.1, -0.1])}
    items = b"".join(_text(name) + _tensor(str(index), shape) for index, (name, (shape, _)) in enumerate(tensors.items()))
    # PROTO 2, an empty dict, MARK, names and tensors, SETITEMS, STOP
    storages = {str(index): struct.pack(f"<{len(values)}f", *values) for index, (_, values) in enumerate(tensors.values())}
    _write(path, b"\x80\x02}(" + items + b"u.", storages)


def write_hostile(path: Path) -> None:
    """Write a file of the same form whose stream calls `os.system`."""
    _write(path, b"\x80\x02cos\nsystem\n" + _text(COMMAND) + b"\x85R.", {})


def _write(path: Path, stream: bytes, storages: dict[str, bytes]) -> None:
    """Write the records of a torch archive; the date is fixed, so that the digest is, too."""
    records = {"data.pkl": stream, "byteorder": b"little", **{f"data/{key}": data for key, data in storages.items()}, "version": b"3\n"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{name}"), data)


def _text(text: str) -> bytes:
    """BINUNICODE."""
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _numbers(values: tuple[int, ...]) -> bytes:
    """MARK, BININT1 each, TUPLE."""
    return b"(" + b"".join(b"K" + bytes([value]) for value in values) + b"t"


def _tensor(key: str, shape: tuple[int, ...]) -> bytes:
    """`_rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())`, the storage by its persistent id."""
    strides: list[int] = []
    numel = 1
    for size in reversed(shape):
        strides.insert(0, numel)
        numel *= size
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu") + b"K" + bytes([numel]) + b"tQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + _numbers(shape) + _numbers(tuple(strides)) + hooks + b"tR"
