"""Files that are one compressed stream: unpacked within bounds, read as what comes out, broken ones as far as they go."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import zlib
from collections.abc import Callable

import pytest

import safeload
from safeload.errors import MalformedError
from safeload.findings import Level, Outcome
from safeload.formats.lz4_frame import unpack
from safeload.source import Limits
from tests import forge
from tests.forge_attacks import HOSTILE, PLAIN, refused, rules, scan
from tests.forge_zip import TAR_END, tar_member

VALUE = forge.stream(forge.PROTO(2), forge.EMPTY_DICT, forge.TEXT("a"), forge.INT(1), forge.SETITEM, forge.STOP)


def lz4_frame(data: bytes, *, flags: int = 0x60, sizes: int = 0x40, tail: bytes = b"\0\0\0\0") -> bytes:
    """A frame of one block that is stored as it is."""
    return b"\x04\x22\x4d\x18" + bytes([flags, sizes, 0]) + (len(data) | 1 << 31).to_bytes(4, "little") + data + tail


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "lzma": lzma_alone, "zlib": zlib.compress, "lz4": lz4_frame,
}  # fmt: skip


@pytest.mark.parametrize("name", PACKERS)
def test_a_pickle_is_unpacked_reported_and_loaded(name: str) -> None:
    """The report names the container; what is in it decides."""
    data = PACKERS[name](VALUE)
    report = scan(data)
    assert (report.format, report.decision.outcome) == (name, Outcome.ALLOWED), report
    assert report.metadata["content"] == "pickle"
    assert report.streams[0].member == "unpacked"
    pytest.importorskip("torch")
    assert safeload.load(io.BytesIO(data), policy={"unpinned": "allow"}, lock=False) == {"a": 1}


@pytest.mark.parametrize("level", range(10))
def test_zlib_is_known_at_every_level(level: int) -> None:
    """Its second byte differs, and one of them is a letter."""
    assert scan(zlib.compress(VALUE, level)).format == "zlib"


@pytest.mark.parametrize("text", [b"x^2 + y^2 = 1\n", b"xyz", b"BZh is how it begins", b"]\0\0 is no text, and no lzma"])
def test_text_that_begins_like_a_compressed_stream_is_text(text: bytes) -> None:
    assert scan(text).format in ("unknown", "lzma")


def test_joblibs_oldest_wrapper_is_unpacked() -> None:
    """First "ZF", then the length in hexadecimal, zlib; Python 2 wrote one blank more."""
    for gap in (b"", b" "):
        header = b"ZF" + hex(len(HOSTILE)).encode().ljust(19) + gap
        refused(header + zlib.compress(HOSTILE), "SL101", subject="os.system")


def test_an_archive_inside_is_read_member_by_member() -> None:
    """A .tar.gz: the finding names both levels."""
    report = refused(gzip.compress(tar_member(b"m.pkl", HOSTILE) + TAR_END), "SL101", subject="os.system")
    assert "unpacked!m.pkl" in {found.member for found in report.findings}


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zlib"])
def test_streams_behind_one_another_are_one(name: str) -> None:
    pack = PACKERS[name]
    assert scan(pack(VALUE[:5]) + pack(VALUE[5:])).decision.outcome is Outcome.ALLOWED
    refused(pack(VALUE) + pack(HOSTILE), "SL101", subject="os.system")


@pytest.mark.parametrize("name", PACKERS)
def test_bytes_behind_the_compressed_stream_are_a_finding(name: str) -> None:
    report = scan(PACKERS[name](VALUE) + b"more")
    assert report.decision.outcome is Outcome.REFUSED
    assert "SL126" in rules(report)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zlib"])
def test_zeros_behind_the_compressed_stream_are_padding(name: str) -> None:
    """Tape blocks; the reference tools step over them."""
    assert scan(PACKERS[name](VALUE) + bytes(512)).decision.outcome is Outcome.ALLOWED


def test_what_unpacks_to_more_than_is_granted_is_refused_and_not_called_dangerous() -> None:
    """A file of zeros compresses well: that alone is no attack."""
    data = gzip.compress(b"\x80\x02]" + bytes(1 << 20))
    report = safeload.scan(data, policy={}, lock=False, limits=Limits(inflate_bytes=1 << 16))
    assert report.decision.outcome is Outcome.REFUSED
    assert {found.level for found in report.findings if found.rule == "SL208"} == {Level.WARNING}


def test_text_and_pictures_in_it_are_no_reason_to_refuse() -> None:
    report = scan(gzip.compress(b"a,b,c\n1,2,3\n" * 10))
    assert (report.decision.outcome, rules(report)) == (Outcome.ALLOWED, {"SL215"})


def test_what_nobody_knows_in_it_leaves_the_verdict_open() -> None:
    assert scan(gzip.compress(bytes(range(1, 200)))).decision.outcome is Outcome.ERROR


def test_lz4_is_unpacked_as_its_own_library_does() -> None:
    """Every shape of block: linked and not, stored and packed, with checksums, long runs and far copies."""
    lz4 = pytest.importorskip("lz4.frame")
    rng = random.Random(3)
    texts = [b"", b"a", b"a" * 100_000, bytes(range(256)) * 999, rng.randbytes(70_000), b"abc" * 40_000 + rng.randbytes(300) + b"abc" * 9]
    for data in texts:
        for size in (4, 5, 7):
            for linked in (True, False):
                packed = lz4.compress(
                    data, block_size=size, block_linked=linked, content_checksum=linked, block_checksum=not linked, store_size=linked
                )
                assert b"".join(block for block, _ in unpack(memoryview(packed))) == data


@pytest.mark.parametrize(
    "frame",
    [
        lz4_frame(VALUE, flags=0x00),
        lz4_frame(VALUE, flags=0x61),
        lz4_frame(VALUE, sizes=0x30),
        lz4_frame(VALUE, tail=b""),
        lz4_frame(VALUE)[:-8],
        b"\x04\x22\x4d\x18\x60\x40\0" + (5).to_bytes(4, "little") + b"\x10a\xff\xff\0" + bytes(4),
        b"\x04\x22\x4d\x18\x60\x40\0" + (4).to_bytes(4, "little") + b"\xf0\xff\xff\xff" + bytes(4),
        b"\x04\x22\x4d\x18\x60\x40\0" + (8).to_bytes(4, "little") + b"\x1fa\1\0\xff\xff\xff\xff" + bytes(4),
    ],
)
def test_a_broken_lz4_frame_is_an_error_of_ours(frame: bytes) -> None:
    with pytest.raises(MalformedError):
        list(unpack(memoryview(frame)))


def test_damaged_streams_end_in_a_report() -> None:
    """Bytes changed, cut and doubled: a verdict or an error, never an exception, and what was seen before the break is kept."""
    rng = random.Random(5)
    for name, pack in PACKERS.items():
        good = pack(HOSTILE)
        for _ in range(60):
            report = scan(forge.mutate(rng, good))
            assert report.decision.outcome in (Outcome.REFUSED, Outcome.ERROR), (name, report)


def test_a_stream_that_says_nothing_may_be_anything() -> None:
    assert scan(gzip.compress(PLAIN)).decision.outcome is Outcome.ALLOWED
