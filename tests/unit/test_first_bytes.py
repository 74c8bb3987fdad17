"""Which readers are asked depends on the first byte; whoever is not asked would have said no."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from safeload.formats import FORMATS, detect
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.source import Reading, Source
from tests.forge_safetensors import entry, file_of
from tests.formats_page import all_rows

HEADS = sorted({made[:600] for row in all_rows() for maker in row.benign.values() if isinstance(made := maker(), bytes)})


PICKY = [reader for reader in FORMATS if getattr(reader, "starts", None) is not None]


@pytest.mark.parametrize("reader", PICKY, ids=lambda reader: reader.name)
def test_a_reader_that_is_not_asked_would_not_claim_the_file(reader: object) -> None:
    """The head of every format here, with every byte as its first."""
    starts: bytes = reader.starts  # type: ignore[attr-defined]
    for rest in [head[1:] for head in HEADS] + [b"", bytes(600), b"\xff" * 600, b" " * 600]:
        for first in range(256):
            if first not in starts:
                assert not reader._may(Source.open(bytes([first]) + rest))  # type: ignore[attr-defined]


def test_the_same_reader_claims_a_file_as_when_all_are_asked() -> None:
    for row in all_rows():
        for maker in [*row.benign.values(), *(maker for maker, _ in row.hostile.values())]:
            made = maker()
            if isinstance(made, bytes):
                assert detect(Source.open(made)) is next((reader for reader in FORMATS if reader.claims(Source.open(made))), None)


def test_an_empty_file_is_shown_to_every_reader() -> None:
    assert detect(Source.open(b"")) is next((reader for reader in FORMATS if reader.claims(Source.open(b""))), None)


@pytest.mark.parametrize("opcode", [b"P", b"p", b"g"])
def test_a_length_that_is_an_opcode_does_not_make_the_whole_file_be_read(opcode: bytes, tmp_path: Path) -> None:
    """The end of its line would be a gigabyte away; no unpickler gets over it as the first."""
    size = 1 << 30
    text = json.dumps({"w": entry("U8", [size], 0, size)}).encode()
    text += b" " * ((opcode[0] - len(text)) % 256)
    path = tmp_path / "zeros.safetensors"
    path.write_bytes(file_of(text))
    os.truncate(path, 8 + len(text) + size)
    with Source.open(path) as source:
        contents = SafetensorsFile().read(source, Reading())
        assert contents.table is not None
        assert not contents.findings
        assert sum(nbytes for _, nbytes in source.held()) < 1 << 20
