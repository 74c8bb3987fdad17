"""Checkpoints of any size that take no room on the disk: their storages are holes."""

from __future__ import annotations

import struct
from pathlib import Path

from safeload.parallel import crc_joined
from tests.forge import GLOBAL, INT, OP, PROTO, TEXT

__all__ = ["write_large"]


def _zeros(nbytes: int) -> int:
    """The CRC-32 of so many zero bytes."""
    crc, done = 0, 0
    power, length = 0xD202EF8D, 1  # of one
    while done < nbytes:
        if nbytes & length:
            crc = crc_joined(crc, power, length) if done else power
            done += length
        power, length = crc_joined(power, power, length), 2 * length
    return crc


def _tensor(key: str, numel: int) -> bytes:
    storage = b"(" + TEXT("storage") + GLOBAL("torch", "FloatStorage") + TEXT(key) + TEXT("cpu") + INT(numel) + b"tQ"
    return GLOBAL("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"K\x00" + INT(numel) + b"\x85K\x01\x85\x89}" + b"tR"


def write_large(path: Path, storages: int = 4, nbytes: int = 256 << 20, *, hostile: bool = False) -> int:
    """Write a torch zip of `storages` float32 tensors of `nbytes` bytes of zeros each; return its size.

    Args:
        path: Where; a sparse file.
        storages: How many.
        nbytes: Of each, a multiple of 4.
        hostile: The stream also calls os.system.
    """
    items = b"".join(TEXT(f"layers.{index}.weight") + _tensor(str(index), nbytes // 4) for index in range(storages))
    call = b"X\x03\x00\x00\x00bad" + GLOBAL("os", "system") + TEXT("true") + b"\x85R" if hostile else b""
    stream = PROTO(2) + OP["EMPTY_DICT"] + b"(" + items + call + b"u."
    records: list[tuple[str, bytes | int]] = [("data.pkl", stream), ("byteorder", b"little")]
    records += [(f"data/{index}", nbytes) for index in range(storages)] + [("version", b"3\n")]
    directory = b""
    crc_of_zeros = _zeros(nbytes)
    with path.open("wb") as file:
        for name, data in records:
            import zlib

            raw = f"archive/{name}".encode()
            size = data if isinstance(data, int) else len(data)
            crc = crc_of_zeros if isinstance(data, int) else zlib.crc32(data)
            at = file.tell()
            common = struct.pack("<4H3L", 0, 0, 0, 33, crc, size, size)
            file.write(b"PK\3\4" + struct.pack("<H", 20) + common + struct.pack("<2H", len(raw), 0) + raw)
            directory += b"PK\1\2" + struct.pack("<2H", 20, 20) + common + struct.pack("<5H2L", len(raw), 0, 0, 0, 0, 0, at) + raw
            file.seek(size, 1) if isinstance(data, int) else file.write(data)
        at = file.tell()
        file.write(directory + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, len(records), len(records), len(directory), at, 0))
        return file.tell()
