"""The strict ZIP reader: what usual writers make is clean, and every disagreement has its finding."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import struct
import subprocess
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import Level
from safeload.formats.container import name_key
from safeload.formats.zip_container import (
    Archive,
    check_crc,
    iter_member,
    looks_like_zip,
    read_archive,
    read_member,
    read_member_into,
    trailing_zip,
)
from safeload.source import Limits, Source
from tests.forge_zip import Part, central_entry, deflate, extra, forge, local_header, torch_zip, zip64

LIMITS = Limits()
TEXT = b"The quick brown fox jumps over the lazy dog. " * 20


def archive_of(data: bytes, limits: Limits = LIMITS) -> Archive:
    return read_archive(Source.open(data), limits)


def bad(archive: Archive) -> set[str]:
    """Rules of the findings that refuse a load."""
    return {finding.rule for finding in archive.findings if finding.level is not Level.NOTE}


def contents(data: bytes) -> dict[str, bytes]:
    source = Source.open(data)
    archive = read_archive(source, LIMITS)
    return {member.name: bytes(read_member(source, member, LIMITS)) for member in archive.members}


class Unseekable(io.RawIOBase):
    """A sink that cannot seek, so that zipfile writes data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self.data += part
        return len(part)


# ---- what usual writers make


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("seekable", [True, False])
def test_what_the_stdlib_writes_is_clean(method: int, force: bool, seekable: bool) -> None:
    """Ordinary archives must stay loadable, in every mode: data descriptors, forced zip64, directories, no bytes at all."""
    sink = io.BytesIO() if seekable else Unseekable()
    members = {"a/data.pkl": TEXT, "a/empty": b"", "ä/ü.bin": bytes(1000)}
    with zipfile.ZipFile(sink, "w", method) as out:
        for name, data in members.items():
            with out.open(name, "w", force_zip64=force) as one:
                one.write(data)
        out.mkdir("folder/")
    data = sink.getvalue() if isinstance(sink, io.BytesIO) else bytes(sink.data)
    archive = archive_of(data)
    assert archive.error is None
    assert archive.findings == []
    assert contents(data) == {**members, "folder/": b""}
    assert [member.is_dir for member in archive.members] == [False, False, False, True]


def test_an_archive_without_members_is_clean() -> None:
    """The end record is then the whole file."""
    sink = io.BytesIO()
    zipfile.ZipFile(sink, "w").close()
    archive = archive_of(sink.getvalue())
    assert (archive.members, archive.findings, archive.error) == ((), [], None)
    assert looks_like_zip(Source.open(sink.getvalue()))


def test_more_than_65535_members_are_clean() -> None:
    """Then counts come from the zip64 record alone."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as out:
        for number in range(65_600):
            out.writestr(zipfile.ZipInfo(f"d/{number}"), b"")
    archive = archive_of(sink.getvalue())
    assert (len(archive.members), archive.findings, archive.error) == (65_600, [], None)


@pytest.mark.skipif(not shutil.which("zip"), reason="needs Info-ZIP's zip")
@pytest.mark.parametrize("options", [["-r"], ["-r", "-0"], ["-r", "-fz"], ["-r", "-X"], ["-rD"]])
def test_what_info_zip_writes_is_clean(tmp_path: Path, options: list[str]) -> None:
    """It adds time and owner fields, and with -fz zip64 fields that nothing calls for."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/data.pkl").write_bytes(TEXT)
    (tmp_path / "model/größe").write_bytes(b"x")
    subprocess.run(["zip", "-q", *options, "out.zip", "model"], cwd=tmp_path, check=True)
    data = (tmp_path / "out.zip").read_bytes()
    assert archive_of(data).error is None
    assert bad(archive_of(data)) == set()
    if "-fz" in options:
        return  # streamed, zip 3.0 then writes an offset of all ones and no zip64 record: nobody can read that
    streamed = subprocess.run(["zip", "-q", *options, "-", "model"], cwd=tmp_path, check=True, capture_output=True).stdout
    assert bad(archive_of(streamed)) == set()
    assert contents(streamed)["model/data.pkl"] == TEXT


@pytest.mark.skipif(not shutil.which("jar"), reason="needs jar")
def test_what_jar_writes_is_clean(tmp_path: Path) -> None:
    """Java marks the first member with an extra field of its own and streams the rest."""
    (tmp_path / "data.pkl").write_bytes(TEXT)
    subprocess.run(["jar", "cf", "out.jar", "data.pkl"], cwd=tmp_path, check=True)
    data = (tmp_path / "out.jar").read_bytes()
    assert bad(archive_of(data)) == set()
    assert contents(data)["data.pkl"] == TEXT


def test_torch_layout_is_clean_and_aligned() -> None:
    """Our own forgery of it, so that everything below starts from a clean file."""
    members = {"data.pkl": TEXT, "version": b"3\n", "data/0": bytes(100), "data/1": b""}
    data = torch_zip(members)
    archive = archive_of(data)
    assert (archive.error, archive.findings) == (None, [])
    assert all(member.region.offset % 64 == 0 for member in archive.members)
    assert contents(data) == {f"archive/{name}": text for name, text in members.items()}


@pytest.mark.torch
@pytest.mark.parametrize("crc", [True, False])
def test_what_torch_writes_is_clean(crc: bool) -> None:
    """With compute_crc32 off, torch records no CRC; that is a note, and only for members that torch wrote."""
    torch = pytest.importorskip("torch")
    config = pytest.importorskip("torch.utils.serialization").config
    sink = io.BytesIO()
    before = config.save.compute_crc32
    config.save.compute_crc32 = crc
    try:
        torch.save({"a": torch.arange(50), "b": torch.zeros(0), "c": torch.ones(3)}, sink)
    finally:
        config.save.compute_crc32 = before
    data = sink.getvalue()
    archive = archive_of(data)
    assert archive.error is None
    assert {(finding.rule, finding.level) for finding in archive.findings} == (set() if crc else {("SL209", Level.NOTE)})
    assert contents(data)["archive/data/0"] == torch.arange(50).numpy().tobytes()
    recorded = [member.region.crc32 is not None for member in archive.members if member.region.nbytes]
    assert all(recorded) if crc else not any(recorded)


def test_a_big_member_needs_zip64_and_is_clean(tmp_path: Path) -> None:
    """4 GiB and more, as a sparse file: sizes and offsets only exist in the zip64 fields."""
    big = (1 << 32) + 10
    first = Part("big", local_extra=zip64(big, big), central_extra=zip64(big, big),
                 local={"packed": 0xFFFFFFFF, "nbytes": 0xFFFFFFFF}, central={"packed": 0xFFFFFFFF, "nbytes": 0xFFFFFFFF})  # fmt: skip
    second_at = 30 + 3 + 20 + big
    second = Part("small", b"x", central={"offset": 0xFFFFFFFF}, central_extra=zip64(second_at))
    head = local_header(first)
    directory = second_at + len(local_header(second)) + 1
    entries = 46 * 2 + len("big") + 20 + len("small") + 12
    rest = forge(
        Part("big", written=False, central_extra=first.central_extra, central={**first.central, "offset": 0}),
        second, end={"offset": 0xFFFFFFFF}, end64={"offset": directory}, locator={"offset": directory + entries},
    )  # fmt: skip
    path = tmp_path / "big.zip"
    with path.open("wb") as out:
        out.write(head)
        out.seek(second_at)
        out.write(rest)
    with Source.open(path) as source:
        archive = read_archive(source, LIMITS)
        assert (archive.error, archive.findings) == (None, [])
        assert archive.by_name["big"].region.nbytes == big
        assert bytes(read_member(source, archive.by_name["small"], LIMITS)) == b"x"


def test_a_stored_archive_inside_is_no_second_end_record() -> None:
    """Its end record lies in the last 64 KiB, but does not end with the file: every reader passes it."""
    inner = forge(Part("x", b"1"))
    assert archive_of(forge(Part("inner.zip", inner))).findings == []


# ---- hostile ones: each row is one trick

A = Part("a", b"first")
B = Part("b", b"second")
UNWRITTEN = Part("b", b"second", written=False, central={"offset": 31})
LOCAL_B = len(local_header(A)) + 5
PAYLOAD = deflate(TEXT)
FORTY = {"packed": 40, "nbytes": 40}
RENAMED = b"\1" + zlib.crc32(b"a").to_bytes(4, "little") + b"data.pkl"

HOSTILE: list[tuple[str, bytes, str]] = [
    # end records
    ("two-end-records", forge(A, comment=forge(B)), "SL201"),
    ("end-record-in-comment", forge(A, comment=b"PK\5\6" + bytes(18)), "SL201"),
    ("earlier-end-record-reaches-the-end", forge(Part("a", b"PK\5\6" + bytes(16) + (22 + 46 + 1).to_bytes(2, "little"))), "SL201"),
    ("comment-with-signature", forge(A, comment=b"hello PK\3\4"), "SL205"),
    ("comment-longer-than-file", forge(A, end={"comments": 9}), "SL201"),
    ("trailing-bytes", forge(A, suffix=b"\0"), "SL205"),
    ("trailing-70-KB", forge(A, suffix=bytes(66_000)), "SL205"),
    ("prefix", forge(A, prefix=b"#!/bin/sh\n"), "SL205"),
    ("counted-prefix", forge(A, prefix=b"#!/bin/sh\n", counted_prefix=True), "SL205"),
    ("prefix-zip64", forge(A, prefix=b"#!/bin/sh\n", end64={}), "SL205"),
    ("multi-disk", forge(A, end={"disk": 1}), "SL201"),
    ("directory-on-other-disk", forge(A, end={"first_disk": 1}), "SL201"),
    ("entries-here", forge(A, B, end={"here": 1}), "SL201"),
    ("count-less", forge(A, B, end={"count": 1, "here": 1}), "SL201"),
    ("count-more", forge(A, end={"count": 2, "here": 2}), "SL201"),
    ("member-disk", forge(Part("a", b"x", central={"disk": 1})), "SL201"),
    ("directory-size-less", forge(A, B, end={"size": 47}), "SL205"),
    ("directory-size-more", forge(A, end={"size": 48}), "SL201"),
    ("directory-size-absurd", forge(A, end={"size": 0xFFFFFFF0}), "SL201"),
    ("gap-before-end", forge(A, before_end=b"hidden"), "SL205"),
    ("gap-before-directory", forge(A, before_directory=b"hidden"), "SL205"),
    ("digital-signature", forge(A, before_end=b"PK\5\5\1\0x", end={"size": 46 + 1 + 7}), "SL201"),
    ("archive-extra-data", forge(A, before_directory=b"PK\6\x08\1\0\0\0x"), "SL205"),
    # zip64 end records
    ("zip64-other-count", forge(A, B, end64={"count": 1, "here": 1}), "SL201"),
    ("zip64-other-size", forge(A, B, end64={"size": 47}), "SL201"),
    ("zip64-other-offset", forge(A, end64={"offset": 0}), "SL201"),
    ("zip64-record-elsewhere", forge(A, end64={}, locator={"offset": 0}), "SL201"),
    ("zip64-locator-absurd", forge(A, end64={}, locator={"offset": 1 << 63}), "SL201"),
    ("zip64-locator-alone", forge(A, locator={"offset": 0, "disks": 1}), "SL201"),
    ("zip64-many-disks", forge(A, end64={}, locator={"disks": 2}), "SL201"),
    ("zip64-record-disk", forge(A, end64={"disk": 1}), "SL201"),
    ("zip64-record-length", forge(A, end64={"length": 45}), "SL201"),
    ("zip64-record-short", forge(A, end64={"length": 43}), "SL201"),
    # zip64 fields
    ("zip64-field-missing", forge(Part("a", b"x", central={"nbytes": 0xFFFFFFFF})), "SL203"),
    ("zip64-field-short", forge(Part("a", b"x", central={"nbytes": 0xFFFFFFFF, "packed": 0xFFFFFFFF}, central_extra=zip64(1))), "SL203"),
    ("zip64-field-differs", forge(Part("a", b"x", central_extra=zip64(2, 1))), "SL203"),
    ("zip64-field-ambiguous-order", forge(A, Part("b", b"x", central={"offset": 0xFFFFFFFF}, central_extra=zip64(LOCAL_B, 1, 7))), "SL203"),
    ("zip64-field-twice", forge(Part("a", b"x", central_extra=zip64(1, 1) + zip64(2, 2))), "SL218"),
    ("zip64-local-differs", forge(Part("a", b"x", local={"nbytes": 0xFFFFFFFF, "packed": 0xFFFFFFFF}, local_extra=zip64(2, 2))), "SL203"),
    ("zip64-local-unused-differs", forge(Part("a", b"x", local_extra=zip64(2, 2))), "SL203"),
    ("zip64-local-odd", forge(Part("a", b"x", local_extra=extra(1, bytes(7)))), "SL203"),
    # names
    ("duplicate", forge(A, A), "SL202"),
    ("duplicate-case", forge(Part("data.pkl", b"1"), Part("DATA.PKL", b"2")), "SL202"),
    ("duplicate-backslash", forge(Part("d/x", b"1"), Part("d\\x", b"2")), "SL202"),
    ("duplicate-composed", forge(Part("\u00e9", b"1", 0, 0x800), Part("e\u0301", b"2", 0, 0x800)), "SL202"),
    ("duplicate-folded", forge(Part("stra\u00dfe", b"1", 0, 0x800), Part("STRASSE", b"2")), "SL202"),
    ("duplicate-dot", forge(Part("d/./x", b"1"), Part("d/x", b"2")), "SL202"),
    ("duplicate-double-slash", forge(Part("d//x", b"1"), Part("d/x", b"2")), "SL202"),
    ("file-and-directory", forge(Part("x", b"1"), Part("x/")), "SL202"),
    ("name-absolute", forge(Part("/etc/passwd", b"x")), "SL210"),
    ("name-climbs", forge(Part("a/../../b", b"x")), "SL210"),
    ("name-drive", forge(Part("C:evil", b"x")), "SL210"),
    ("name-nul", forge(Part("data.pkl\0.txt", b"x")), "SL210"),
    ("name-control", forge(Part("a\x1b[2J", b"x")), "SL210"),
    ("name-backslash", forge(Part("..\\x", b"x")), "SL210"),
    ("name-empty", forge(Part("", b"x")), "SL210"),
    ("name-not-utf8", forge(Part(b"\xff\xfe", b"x", 0, 0x800)), "SL210"),
    ("name-not-utf8-undeclared", forge(Part(b"\xff\xfe", b"x")), "SL210"),
    ("name-bidi", forge(Part("a\u202etxt.lkp", b"x", 0, 0x800)), "SL210"),
    ("symlink", forge(Part("link", b"/etc", central={"attributes": 0xA1FF0000, "made": 0x0314})), "SL210"),
    ("device", forge(Part("dev", b"", central={"attributes": 0x21FF0000, "made": 0x0314})), "SL210"),
    ("directory-with-bytes", forge(Part("d/", b"x")), "SL218"),
    ("directory-flag-with-bytes", forge(Part("data.pkl", b"x", central={"attributes": 0x10})), "SL218"),
    # local header against directory
    ("local-name", forge(Part("data.pkl", b"x", local={"name": b"datap.kl"})), "SL203"),
    ("local-name-longer", forge(Part("a", b"x", local={"name": b"aa"})), "SL203"),
    ("local-name-case", forge(Part("a", b"x", local={"name": b"A"})), "SL203"),
    ("local-method", forge(Part("a", b"x", local={"method": 8})), "SL203"),
    ("local-flags", forge(Part("a", b"x", local={"flags": 1})), "SL206"),
    ("local-flags-utf8", forge(Part("a", b"x", local={"flags": 0x800})), "SL203"),
    ("local-crc", forge(Part("a", b"x", local={"crc": 1})), "SL203"),
    ("local-sizes", forge(Part("a", b"xx", local={"packed": 1, "nbytes": 1})), "SL203"),
    ("local-sizes-zero", forge(Part("a", b"xx", local={"packed": 0, "nbytes": 0})), "SL203"),
    ("local-signature", forge(Part("a", b"x", local={"signature": b"PK\7\x08"})), "SL203"),
    ("offset-outside", forge(Part("a", b"x", central={"offset": 0x7FFFFFFF})), "SL201"),
    ("offset-into-data", forge(Part("a", local_header(B) + b"second"), UNWRITTEN), "SL204"),
    ("same-local-header-twice", forge(A, Part("b", b"first", written=False, central={"offset": 0})), "SL204"),
    ("packed-size-into-directory", forge(Part("a", b"x", central=FORTY, local=FORTY)), "SL204"),
    ("packed-size-less", forge(Part("a", b"xyz", central={"packed": 1, "nbytes": 1}, local={"packed": 1, "nbytes": 1})), "SL205"),
    ("stored-sizes-differ", forge(Part("a", b"xyz", central={"nbytes": 1}, local={"nbytes": 1})), "SL203"),
    # data descriptors
    ("descriptor-missing", forge(Part("a", b"x", descriptor=b"")), "SL203"),
    ("descriptor-differs", forge(Part("a", b"x", descriptor=b"PK\7\x08" + bytes(12))), "SL203"),
    ("descriptor-short", forge(Part("a", b"x", descriptor=bytes(8))), "SL203"),
    ("descriptor-without-flag", forge(Part("a", b"x", after=b"PK\7\x08" + bytes(12))), "SL205"),
    ("descriptor-and-more", forge(Part("a", b"x", descriptor=16, after=b"hidden!!")), "SL205"),
    ("descriptor-local-crc", forge(Part("a", b"x", descriptor=16, local={"crc": 77})), "SL203"),
    ("descriptor-local-size", forge(Part("a", b"x", descriptor=16, local={"nbytes": 77})), "SL203"),
    # gaps
    ("gap-in-front", forge(Part("a", b"x", before=b"hidden")), "SL205"),
    ("gap-between", forge(A, Part("b", b"x", before=b"hidden")), "SL205"),
    ("unlisted-member", forge(A, Part("b", b"x", listed=False), Part("c", b"x")), "SL205"),
    ("unlisted-first", forge(Part("b", b"x", listed=False), A), "SL205"),
    ("unlisted-last", forge(A, Part("b", b"x", listed=False)), "SL205"),
    # flags, methods, versions
    ("flag-encrypted", forge(Part("a", b"x", flags=0x1)), "SL206"),
    ("flag-patch", forge(Part("a", b"x", flags=0x20)), "SL206"),
    ("flag-strong", forge(Part("a", b"x", flags=0x40)), "SL206"),
    ("flag-masked", forge(Part("a", b"x", flags=0x2000)), "SL206"),
    ("flag-reserved", forge(Part("a", b"x", flags=0x80)), "SL218"),
    ("method-bzip2", forge(Part("a", b"x", method=12)), "SL207"),
    ("method-aes", forge(Part("a", b"x", method=99, flags=1, local_extra=extra(0x9901, bytes(7)))), "SL206"),
    ("version-needed", forge(Part("a", b"x", central={"needed": 90})), "SL218"),
    # extra fields
    ("unicode-path", forge(Part("a", b"x", central_extra=extra(0x7075, RENAMED))), "SL218"),
    ("unicode-path-local", forge(Part("a", b"x", local_extra=extra(0x7075, b"\1" + bytes(4) + b"b"))), "SL218"),
    ("unicode-comment", forge(Part("a", b"x", central_extra=extra(0x6375, b"\1" + bytes(4) + b"b"))), "SL218"),
    ("extra-unknown", forge(Part("a", b"x", local_extra=extra(0x1234, b"abc"))), "SL218"),
    ("extra-torn", forge(Part("a", b"x", local_extra=b"FB\xff\0ZZ")), "SL218"),
    ("extra-torn-central", forge(Part("a", b"x", central_extra=b"\1\0\x10")), "SL218"),
    ("padding-with-content", forge(Part("a", b"x", local_extra=extra(0x4246, b"\x80\x04hidden."))), "SL205"),
    ("member-comment-with-signature", forge(Part("a", b"x", comment=b"PK\1\2")), "SL205"),
    # sizes
    ("bomb", forge(Part("a", TEXT, 8, central={"nbytes": 1 << 31}, local={"nbytes": 1 << 31})), "SL208"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "rule"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_the_trick_is_named(data: bytes, rule: str) -> None:
    """Each of these makes two readers see different things, or one reader miss something."""
    archive = archive_of(data)
    assert rule in bad(archive), archive.findings


def test_every_way_of_writing_a_descriptor_is_read() -> None:
    """With or without signature, with 32 or 64 bits: which one it is follows from where the next header begins."""
    for size in (12, 16, 20, 24):
        assert archive_of(forge(Part("a", TEXT, 8, descriptor=size), Part("b", b"x", descriptor=size))).findings == []


def test_directory_order_may_differ_from_file_order() -> None:
    """Members come in the order of the directory, regions from where they lie."""
    data = forge(A, B, order=[1, 0])
    assert [member.name for member in archive_of(data).members] == ["b", "a"]
    assert archive_of(data).findings == []
    assert contents(data) == {"a": b"first", "b": b"second"}


def test_comments_are_notes() -> None:
    """People write them; only ones that look like structure are refused."""
    archive = archive_of(forge(Part("a", b"x", comment=b"mine"), comment=b"made by hand"))
    assert archive.comment == b"made by hand"
    assert [(finding.rule, finding.level) for finding in archive.findings] == [("SL218", Level.NOTE)] * 2


def test_unseen_bytes_in_front_are_seen_through() -> None:
    """The members of an archive behind a prefix are still found, as readers find them that allow one."""
    source = Source.open(forge(A, prefix=b"#!/bin/sh\n"))
    archive = read_archive(source, LIMITS)
    assert bytes(read_member(source, archive.by_name["a"], LIMITS)) == b"first"


def test_an_encrypted_member_is_a_warning_and_a_flag_for_show_an_error() -> None:
    """Encryption as it is meant adds 12 bytes. Without them the flag only stops scanners."""
    real = archive_of(forge(Part("a", b"x", flags=1, packed=bytes(13))))
    show = archive_of(forge(Part("a", b"x", flags=1)))
    assert [finding.level for finding in real.findings if finding.rule == "SL206"] == [Level.WARNING]
    assert [finding.level for finding in show.findings if finding.rule == "SL206"] == [Level.ERROR]


def test_findings_name_every_level() -> None:
    """A member of a member says where it is, joined by "!"."""
    archive = read_archive(Source.open(forge(Part("/x", b"1"))), LIMITS, member="outer.zip!inner.zip")
    assert {finding.member for finding in archive.findings} == {"outer.zip!inner.zip!/x"}


def test_findings_of_one_kind_are_counted_not_repeated() -> None:
    """A hostile directory must not become an endless report."""
    archive = archive_of(forge(*[Part(f"/{number}", b"") for number in range(500)]))
    assert len(archive.findings) == 101
    assert archive.findings[-1].message == "and 400 more of this kind"


def test_more_members_than_granted_is_an_error() -> None:
    """The bound holds before anything is made of the rest."""
    archive = archive_of(forge(A, B, Part("c")), Limits(members=2))
    assert archive.error == "more than 2 members"
    assert len(archive.members) == 2


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"PK\5\6", b"PK\3\4" + bytes(40), bytes(100_000)])
def test_what_is_no_archive_ends_in_an_error(data: bytes) -> None:
    """Nothing escapes, and the finding is there."""
    archive = archive_of(data)
    assert archive.error
    assert bad(archive) == {"SL201"}


# ---- reading members

NO_CRC = b"PK\7\x08" + bytes(4) + len(TEXT).to_bytes(4, "little") * 2


@pytest.mark.parametrize(
    ("part", "message", "rule"),
    [
        pytest.param(Part("a", TEXT, 8, packed=PAYLOAD + b"hidden"), "leaves 6 of", "SL203", id="hidden-tail"),
        pytest.param(Part("a", TEXT, 8, packed=PAYLOAD[:-3]), "ends early", "SL203", id="cut"),
        pytest.param(Part("a", TEXT, 8, packed=b"\xff" * 20), "broken", "SL203", id="garbage"),
        pytest.param(Part("a", TEXT[:-1], 8, packed=PAYLOAD), "unpacks to more", "SL203", id="more"),
        pytest.param(Part("a", TEXT + b"!", 8, packed=PAYLOAD), "gives 900 bytes", "SL203", id="less"),
        pytest.param(Part("a", b"", 8, packed=b""), "ends early", "SL203", id="empty"),
        pytest.param(Part("a", TEXT[:-1] + b"?", 8, packed=PAYLOAD), "is recorded", "SL209", id="crc-deflated"),
        pytest.param(Part("a", TEXT, local={"crc": 1}, central={"crc": 1}), "is recorded", "SL209", id="crc"),
        pytest.param(Part("a", TEXT, descriptor=NO_CRC, central={"crc": 0}), "is recorded", "SL209", id="crc-zero-without-torch"),
        pytest.param(Part("a", TEXT, method=12), "method 12 is not read", "SL207", id="method"),
        pytest.param(Part("a", b"x", flags=1, packed=bytes(13)), "encrypted", "SL206", id="sealed"),
        pytest.param(Part("a", TEXT, 8, flags=1, packed=b"\xff" * 30), "encrypted", "SL206", id="sealed-deflated"),
    ],
)
def test_bytes_that_are_not_as_promised_raise(part: Part, message: str, rule: str) -> None:
    """Whichever way they are read."""
    source = Source.open(forge(part))
    member = read_archive(source, LIMITS).members[0]
    with pytest.raises(MalformedError, match=message) as caught:
        read_member(source, member, LIMITS)
    assert (caught.value.where, caught.value.rule) == ("<bytes>!a", rule)
    with pytest.raises(MalformedError, match=message):
        read_member_into(source, member, memoryview(bytearray(member.region.nbytes)), LIMITS)
    with pytest.raises(MalformedError, match=message):
        list(iter_member(source, member, LIMITS))


def test_evidence_can_be_taken_despite_a_wrong_crc() -> None:
    """Loaders exist that do not check it, so a scanner must see what they see. https://github.com/advisories/GHSA-7q5r-7gvp-wc82"""
    for part in (Part("a", TEXT, 8, central={"crc": 1}), Part("a", TEXT, central={"crc": 1})):
        source = Source.open(forge(part))
        member = read_archive(source, LIMITS).members[0]
        assert bytes(read_member(source, member, LIMITS, crc=False)) == TEXT
        with pytest.raises(MalformedError, match="is recorded"):
            check_crc(source, member, zlib.crc32(TEXT))


def test_bombs_are_refused_before_they_unpack() -> None:
    """By the ratio that deflate cannot reach, and by the bytes granted for all members together."""
    zeros = Part("z", bytes(200_000), 8)
    source = Source.open(forge(zeros, Part("y", bytes(200_000), 8)))
    archive = read_archive(source, LIMITS)
    assert archive.findings == []
    assert len(read_member(source, archive.members[0], LIMITS)) == 200_000
    for limits in (Limits(inflate_ratio=100), Limits(inflate_bytes=150_000)):
        assert bad(read_archive(source, limits)) == {"SL208"}
        with pytest.raises(LimitError):
            read_member(source, archive.members[0], limits)
    together = Limits(inflate_bytes=300_000)
    limited = read_archive(source, together)
    assert bad(limited) == {"SL208"}
    assert len(read_member(source, limited.members[0], together)) == 200_000
    with pytest.raises(MalformedError, match="unpack to more than 300000"):
        read_member(source, limited.members[1], together)


def test_overlapping_members_are_read_once() -> None:
    """Otherwise a small file could keep a scanner busy with the same bytes under a million names."""
    packed = deflate(bytes(100_000))
    part = Part("a", bytes(100_000), 8, packed=packed)
    twins = [Part(f"b{n}", bytes(100_000), 8, packed=packed, written=False, central={"offset": 0}) for n in range(3)]
    source = Source.open(forge(part, *twins))
    archive = read_archive(source, LIMITS)
    assert [member.problem is None for member in archive.members] == [True, False, False, False]
    with pytest.raises(MalformedError, match="overlaps"):
        read_member(source, archive.members[1], LIMITS)


def test_overlapping_headers_are_not_read_again_and_again(tmp_path: Path) -> None:
    """Each claims 64 KiB of extra data that covers the headers behind it; memory must stay near the size of the file."""
    count = 20_000
    parts = [Part(f"{number:05}", local={"extras": 65_000}) for number in range(count)]
    body = b"".join(local_header(part) for part in parts) + bytes(66_000)
    entries = b"".join(central_entry(part, 35 * number) for number, part in enumerate(parts))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entries), len(body), 0)
    path = tmp_path / "x.zip"
    path.write_bytes(body + entries + end)
    tracemalloc.start()
    try:
        with Source.open(path) as source:
            archive = read_archive(source, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "SL204" in bad(archive)
    assert sum(member.problem is None for member in archive.members) == 11
    assert peak < 40_000_000


@pytest.mark.parametrize("method", [0, 8])
def test_the_three_ways_of_reading_agree(method: int, tmp_path: Path) -> None:
    """As one block, into given memory, and in pieces; in memory and from a file."""
    text = random.Random(1).randbytes(3_000_000)
    path = tmp_path / "x.zip"
    path.write_bytes(forge(Part("a", b"1"), Part("m", text, method)))
    for given in (path, path.read_bytes()):
        with Source.open(given) as source:
            member = read_archive(source, LIMITS).by_name["m"]
            room = bytearray(len(text))
            read_member_into(source, member, memoryview(room), LIMITS)
            assert room == text
            assert bytes(read_member(source, member, LIMITS)) == text
            pieces = list(iter_member(source, member, LIMITS))
            assert b"".join(pieces) == text
            assert max(map(len, pieces)) <= 1 << 20
            with pytest.raises(MalformedError, match="wanted"):
                read_member_into(source, member, memoryview(bytearray(3)), LIMITS)


def test_a_member_read_into_memory_is_part_of_the_snapshot(tmp_path: Path) -> None:
    """Whoever changes the file afterwards changes neither what was read nor its digest."""
    path = tmp_path / "x.zip"
    data = forge(Part("m", TEXT))
    path.write_bytes(data)
    with Source.open(path) as source:
        member = read_archive(source, LIMITS).by_name["m"]
        read_member_into(source, member, memoryview(bytearray(len(TEXT))), LIMITS)
        path.write_bytes(data.replace(b"quick", b"QUICK"))
        assert bytes(read_member(source, member, LIMITS)) == TEXT


# ---- detection


def test_an_archive_behind_other_bytes_is_noticed() -> None:
    """A file can be a picture or a pickle for one reader and an archive for another."""
    for data in (forge(A, prefix=b"\x80\x04N."), forge(A, prefix=b"\x80\x04N.", counted_prefix=True), forge(A, prefix=b"GIF89a", end64={})):
        assert not looks_like_zip(Source.open(data))
        assert trailing_zip(Source.open(data))
    for data in (b"", b"\x80\x04N.", bytes(100_000), b"text PK\5\6" + bytes(30), b"\x80\x04PK\5\6" * 3000, forge(A)):
        assert not trailing_zip(Source.open(data))


@pytest.mark.parametrize(
    ("left", "right"),
    [("a/b", "A\\B"), ("./a", "a"), ("a/", "a"), ("a//b", "a/b"), ("\u00c5", "a\u030a"), ("\u1e9e", "ss"), ("/a", "a"), ("a/.", "a")],
)
def test_names_that_some_reader_takes_for_one(left: str, right: str) -> None:
    """Case, composition and slashes make no difference somewhere."""
    assert name_key(left) == name_key(right)


# ---- nothing escapes


def test_mutated_archives_end_in_an_archive_or_our_own_error() -> None:
    """Bit flips, cuts and splices over every kind of structure; nothing but `SafeloadError` may leave, and reads stay bounded."""
    rng = random.Random(20)
    seeds = [
        torch_zip({"data.pkl": TEXT, "data/0": bytes(64)}),
        forge(Part("a", TEXT, 8, descriptor=24), Part("b/", b""), comment=b"c", end64={}),
        forge(Part("a", b"x", central_extra=zip64(1, 1), local_extra=zip64(1, 1)), Part("ä", TEXT, 8, flags=0x800)),
    ]
    limits = Limits(inflate_bytes=1 << 20)
    for _ in range(int(os.environ.get("SAFELOAD_FUZZ", "3000"))):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    data[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"PK\5\6", b"PK\3\4"])
                case 2:
                    del data[at : at + rng.randint(1, 40)]
                case _:
                    data[at:at] = bytes(data[at : at + rng.randint(1, 40)])
            if not data:
                break
        source = Source.open(bytes(data))
        trailing_zip(source)
        archive = read_archive(source, limits)
        for member in archive.members:
            with contextlib.suppress(SafeloadError):
                assert len(read_member(source, member, limits)) == member.region.nbytes
