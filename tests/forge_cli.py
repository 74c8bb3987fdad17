"""Files for the tests of commands, pins and inspection: small, with fixed bytes, made without torch."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from safeload.cli.demo_files import write_checkpoint, write_hostile

__all__ = [
    "CALL",
    "DATA",
    "UNKNOWN",
    "make_tree",
    "pickle_of_global",
    "replace_member",
    "write_checkpoint",
    "write_hostile",
    "write_safetensors",
]

CALL = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."
"""Calls os.system("true")."""
DATA = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s."
"""{"a": 1}"""
UNKNOWN = b"\x80\x02cacme.models\nNet\n)\x81."
"""An object of a class that nobody knows."""


def pickle_of_global(module: str, name: str) -> bytes:
    """A stream that only names a global, whatever its characters."""
    parts = b"".join(b"X" + struct.pack("<I", len(raw)) + raw for raw in (module.encode(), name.encode()))
    return b"\x80\x04" + parts + b"\x93."


def write_safetensors(path: Path) -> None:
    """One tensor, "a", of three float32."""
    header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))


def make_tree(top: Path) -> None:
    """A directory as people have them: models, a hidden directory, text, something unknown, a link out of it."""
    write_checkpoint(top / "model.pt")
    write_hostile(top / "hostile.pt")
    (top / "unknown.pkl").write_bytes(UNKNOWN)
    (top / "README.md").write_text("# A model\n", encoding="utf-8")
    (top / "junk.bin").write_bytes(b"\x00\x01\x02 not a model")
    (top / ".cache").mkdir()
    (top / ".cache" / "data.pkl").write_bytes(DATA)
    (top / "sub").mkdir()
    write_safetensors(top / "sub" / "x.safetensors")


def replace_member(path: Path, name: str, data: bytes) -> None:
    """Write a torch archive anew with other bytes for one record."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    records[name] = data
    with zipfile.ZipFile(path, "w") as archive:
        for record, content in records.items():
            archive.writestr(zipfile.ZipInfo(record), content)
