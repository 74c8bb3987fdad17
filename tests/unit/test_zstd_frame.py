"""zstd streams: frames are walked by their own headers, unpacked by a library, and named where there is none."""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path

import pytest
import zstandard

import safeload
from safeload.cli import run
from safeload.errors import SafeloadError
from safeload.findings import Level, Outcome
from safeload.formats.zstd_frame import unpack_zstd
from safeload.source import Source
from tests.forge_attacks import HOSTILE, PLAIN, refused, rules, scan
from tests.forge_zip import TAR_END, tar_member

DATA = random.Random(1).randbytes(300_000) + bytes(1 << 20) + b"text " * 50_000
WRITERS = {
    "plain": zstandard.ZstdCompressor(), "checksum": zstandard.ZstdCompressor(write_checksum=True),
    "no size": zstandard.ZstdCompressor(write_content_size=False), "hard": zstandard.ZstdCompressor(level=19),
}  # fmt: skip
SKIPPED = b"\x5a\x2a\x4d\x18\4\0\0\0skip"


def unpacked(data: bytes) -> bytes:
    return b"".join(unpack_zstd(Source.open(data)))


def streamed(writer: zstandard.ZstdCompressor, data: bytes) -> bytes:
    """As a program writes that does not know how much will come."""
    machine = writer.compressobj()
    return machine.compress(data) + machine.flush()


@pytest.mark.parametrize("name", WRITERS)
def test_frames_are_unpacked(name: str) -> None:
    """One, several behind one another, with frames between them that decompressors skip."""
    packed = WRITERS[name].compress(DATA)
    assert unpacked(packed) == DATA
    assert unpacked(SKIPPED + packed + SKIPPED + streamed(WRITERS[name], b"more")) == DATA + b"more"
    assert unpacked(streamed(WRITERS[name], DATA)) == DATA


def test_a_pickle_is_read_reported_and_loaded() -> None:
    """As with every other way to compress one."""
    report = scan(WRITERS["plain"].compress(PLAIN))
    assert (report.format, report.decision.outcome, report.metadata["content"]) == ("zstd", Outcome.ALLOWED, "pickle")
    refused(WRITERS["plain"].compress(HOSTILE), "SL101")
    refused(SKIPPED + WRITERS["plain"].compress(tar_member(b"a", HOSTILE) + TAR_END), "SL101")
    pytest.importorskip("torch")
    packed = io.BytesIO(WRITERS["plain"].compress(PLAIN))
    assert safeload.load(packed, policy={"unpinned": "allow"}, lock=False) == {}


@pytest.mark.parametrize("cut", [1, 4, 5, 100, 200_000])
def test_a_frame_that_is_cut_off_is_looked_at_as_far_as_it_goes(cut: int) -> None:
    """The library's own reader would give what there is and say nothing."""
    packed = WRITERS["checksum"].compress(HOSTILE + DATA)
    assert scan(packed[:-cut]).decision.outcome is not Outcome.ALLOWED
    with pytest.raises(SafeloadError, match="ends early"):
        unpacked(packed[:-cut])
    refused(streamed(WRITERS["plain"], HOSTILE) + b"\x28\xb5\x2f\xfd", "SL101")


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        (b"\x03\x58\x01\0\0\0", "SL222"),  # a dictionary
        (b"\x08\x58", "SL502"),  # a reserved bit
        (b"\x00\xf8", "SL222"),  # a window of terabytes
        (b"\xe0" + (1 << 60).to_bytes(8, "little"), "SL222"),  # one segment of as much
        (b"\x00\x58\x07\0\0", "SL502"),  # a block of a kind that does not exist
        (b"\x00\x58\x05\0\x20", "SL502"),  # a block of more than 128 KiB
    ],
)
def test_what_is_not_unpacked_counts(header: bytes, rule: str) -> None:
    """Each is a verdict of "could not say"."""
    report = scan(b"\x28\xb5\x2f\xfd" + header + bytes(64))
    assert report.decision.outcome is not Outcome.ALLOWED
    assert rule in rules(report), report


def test_bytes_behind_the_last_frame_are_named() -> None:
    """A second file behind the one that was unpacked."""
    refused(WRITERS["plain"].compress(PLAIN) + HOSTILE, "SL126", level=Level.WARNING)


def test_a_bomb_costs_what_is_granted() -> None:
    """A block of four bytes stands for 128 KiB."""
    block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + block * 20_000 + b"\x01\0\0"
    report = scan(frame)
    assert report.decision.outcome is not Outcome.ALLOWED
    assert "SL208" in rules(report)


def test_without_a_library_it_is_named_and_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not analysed is not allowed: status 2, and how to change it."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    (tmp_path / "a.pkl.zst").write_bytes(WRITERS["plain"].compress(HOSTILE))
    monkeypatch.chdir(tmp_path)
    assert run(["scan", "a.pkl.zst"]) == 2
    assert "not analysed: install safeload[zstd]" in capsys.readouterr().out
