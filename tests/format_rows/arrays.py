"""safetensors and numpy's files."""

from __future__ import annotations

from typing import Final

from tests.forge_safetensors import entry, file_of
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_STREAM: Final = b"cos\nsystem\n(S'true'\ntR."


def _array(descr: str, data: bytes) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


ROWS: Final = [
    FormatRow(
        format="safetensors",
        title="safetensors",
        written_by="safetensors, and `safeload convert`",
        reads="the header token by token, the place of every tensor",
        loads="yes",
        order=10,
        benign={"two tensors": lambda: file_of({"a": entry("F32", [2], 0, 8), "b": entry("U8", [1], 8, 9)}, bytes(9))},
        hostile={
            "the same name twice": (lambda: file_of(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}'), "SL401"),
            "two tensors on the same bytes": (
                lambda: file_of({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 0, 8)}, bytes(8)),
                "SL402",
            ),
        },
    ),
    FormatRow(
        format="npy",
        title="numpy array",
        written_by="`numpy.save`",
        reads="the header as numpy writes it, the pickle stream of an object array",
        order=11,
        benign={"numbers": lambda: _array("<f4", bytes(8))},
        hostile={"objects, whose stream calls `os.system`": (lambda: _array("|O", _STREAM), "SL101")},
    ),
]
