"""What is kept of a file is what the file has, whatever readers went over it: digests are taken from that very memory."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from safeload.reporting import examine
from safeload.source import Reading, Source
from safeload.trust.both_digests import file_digests
from safeload.trust.digest import tree_digest
from tests.formats_page import all_rows

FILES = sorted({
    made[:12]: made
    for row in all_rows()
    for maker in [*row.benign.values(), *(maker for maker, _ in row.hostile.values())]
    if isinstance(made := maker(), bytes) and len(made) < 1 << 18
}.values())  # fmt: skip
PADDING = bytes(range(1, 256)) * 4_200  # of no format; readers look for some at offsets far behind the first byte


def in_zip(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("inner.bin", data)
        archive.writestr("padded", data + PADDING)
    return made.getvalue()


def in_npz(data: bytes) -> bytes:
    made = io.BytesIO()
    content = data + PADDING
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(content)},), }}".encode()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("array.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + content)
    return made.getvalue()


def in_tar(data: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in (("inner.bin", data), ("padded", data + PADDING)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def as_it_is(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("around", [as_it_is, in_npz, in_tar, lambda data: in_zip(in_tar(data))], ids=["alone", "npz", "tar", "tar in zip"])
def test_digests_are_those_of_the_file_after_any_reader(around: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Readers of members read through the file around them, some into memory that they use again."""
    path = tmp_path / "file"
    for number, data in enumerate(FILES):
        content = around(data)
        path.write_bytes(content)
        with Source.open(path) as source:
            examine(source, Reading())
            for offset, nbytes in source.held():
                assert source.view(offset, nbytes) == content[offset : offset + nbytes], (number, data[:40], offset, nbytes)
            with Source.open(content) as plain:
                tree = tree_digest(plain)
            assert file_digests(source) == (hashlib.sha256(content).hexdigest(), tree), (number, data[:40])
