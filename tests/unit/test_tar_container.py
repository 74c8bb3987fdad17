"""The strict tar reader: what usual writers make is clean, and every trick has its finding."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level
from safeload.formats.tar_container import Archive, looks_like_tar, read_member, read_tar
from safeload.source import Limits, Source
from tests.forge_zip import TAR_END, long_name, pax, tar_header, tar_member

LIMITS = Limits()
TEXT = b"The quick brown fox jumps over the lazy dog. " * 20


def archive_of(data: bytes, limits: Limits = LIMITS) -> Archive:
    return read_tar(Source.open(data), limits)


def bad(archive: Archive) -> set[str]:
    """Rules of the findings that refuse a load."""
    return {finding.rule for finding in archive.findings if finding.level is not Level.NOTE}


def written(members: dict[str, bytes], form: int) -> bytes:
    """What the stdlib writes."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            out.addfile(info, io.BytesIO(data))
    return sink.getvalue()


MEMBERS = {"d/": b"", "d/pickle": TEXT, "storages": b"", "exactly": bytes(512), "d/" + "x" * 120: b"long", "größe": b"u"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_the_stdlib_writes_is_clean(form: int) -> None:
    """The old format of torch was written by it, in all three."""
    members = {name: data for name, data in MEMBERS.items() if form != tarfile.USTAR_FORMAT or len(name) < 100}
    data = written(members, form)
    source = Source.open(data)
    archive = read_tar(source, LIMITS)
    assert looks_like_tar(source)
    assert (archive.error, archive.findings) == (None, [])
    assert {member.name: bytes(read_member(source, member, LIMITS)) for member in archive.members} == {
        name.rstrip("/"): text for name, text in members.items()
    }
    assert [member.is_dir for member in archive.members][:2] == [True, False]


@pytest.mark.skipif(not shutil.which("tar"), reason="needs tar")
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_tar_writes_is_clean(tmp_path: Path, form: str) -> None:
    """Including v7, which has no magic and is recognised by its checksum alone, and names that begin with './'."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/pickle").write_bytes(TEXT)
    if form != "v7":
        (tmp_path / "d" / ("x" * 90)).write_bytes(b"1")
    data = subprocess.run(["tar", f"--format={form}", "-cf", "-", "./d"], cwd=tmp_path, check=True, capture_output=True).stdout
    archive = archive_of(data)
    assert looks_like_tar(Source.open(data))
    assert (archive.error, archive.findings) == (None, [])
    assert archive.by_name["./d/pickle"].region.nbytes == len(TEXT)


def test_a_member_of_more_than_8_gib_has_its_size_in_base_256_or_pax(tmp_path: Path) -> None:
    """Sizes that do not fit into eleven digits are written so by GNU and by pax; nothing is read of them here."""
    big = 8**11 + 1
    gnu = tar_header(b"big", b"\x80" + big.to_bytes(11, "big"))
    posix = pax((b"size", str(big).encode())) + tar_header(b"big", 0)
    for head in (gnu, posix):
        path = tmp_path / "big.tar"
        with path.open("wb") as out:
            out.write(head)
            out.seek(len(head) + big + -big % 512)
            out.write(tar_member(b"small", b"x") + TAR_END)
        with Source.open(path) as source:
            archive = read_tar(source, LIMITS)
            assert (archive.error, archive.findings) == (None, [])
            assert archive.by_name["big"].region.nbytes == big
            assert bytes(read_member(source, archive.by_name["small"], LIMITS)) == b"x"


A = tar_member(b"a", b"first")
GNU = b"ustar  \0"
NEGATIVE = b"\xff" * 12

HOSTILE: list[tuple[str, bytes, str]] = [
    # kinds
    ("symlink", tar_member(b"l", kind=b"2", link=b"a") + TAR_END, "SL212"),
    ("symlink-out", tar_member(b"d/l", kind=b"2", link=b"../../etc") + TAR_END, "SL212"),
    ("symlink-absolute", tar_member(b"l", kind=b"2", link=b"/etc/passwd") + TAR_END, "SL212"),
    ("symlink-long", long_name(b"/etc/" + b"x" * 120, b"K") + tar_member(b"l", kind=b"2", link=b"x") + TAR_END, "SL212"),
    ("symlink-pax", pax((b"linkpath", b"/etc")) + tar_member(b"l", kind=b"2", link=b"x") + TAR_END, "SL212"),
    ("hard-link", A + tar_member(b"l", kind=b"1", link=b"a") + TAR_END, "SL212"),
    ("hard-link-out", tar_member(b"l", kind=b"1", link=b"../x") + TAR_END, "SL212"),
    ("character-device", tar_member(b"l", kind=b"3") + TAR_END, "SL212"),
    ("block-device", tar_member(b"l", kind=b"4") + TAR_END, "SL212"),
    ("fifo", tar_member(b"l", kind=b"6") + TAR_END, "SL212"),
    ("sparse", tar_member(b"l", b"x", b"S", magic=GNU) + TAR_END, "SL212"),
    ("sparse-pax", pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"other")) + A + TAR_END, "SL212"),
    ("unknown-type", tar_member(b"l", b"x", b"Z") + TAR_END, "SL220"),
    ("volume-header", tar_member(b"l", b"", b"V") + TAR_END, "SL220"),
    ("link-with-data", tar_member(b"l", b"x" * 512, kind=b"2", link=b"a") + TAR_END, "SL219"),
    ("directory-with-data", tar_header(b"d/", 512, b"5") + A + TAR_END, "SL219"),
    ("old-directory-with-data", tar_header(b"d/", 512, b"\0") + A + TAR_END, "SL219"),
    ("file-named-like-a-directory", tar_member(b"d/", b"x") + TAR_END, "SL220"),
    # names
    ("absolute", tar_member(b"/etc/passwd", b"x") + TAR_END, "SL212"),
    ("climbs", tar_member(b"a/../../b", b"x") + TAR_END, "SL212"),
    ("climbs-in-prefix", tar_member(b"b", b"x", prefix=b"..") + TAR_END, "SL212"),
    ("backslash", tar_member(b"..\\b", b"x") + TAR_END, "SL212"),
    ("control", tar_member(b"a\x1b[2J", b"x") + TAR_END, "SL212"),
    ("empty-name", tar_member(b"", b"x") + TAR_END, "SL212"),
    ("not-utf8", tar_member(b"\xff", b"x") + TAR_END, "SL212"),
    ("nul-in-pax-name", pax((b"path", b"a\0b")) + A + TAR_END, "SL212"),
    ("duplicate", A + A + TAR_END, "SL202"),
    ("duplicate-case", A + tar_member(b"A", b"x") + TAR_END, "SL202"),
    ("duplicate-dot", A + tar_member(b"./a", b"x") + TAR_END, "SL202"),
    ("prefix-without-magic", tar_member(b"a", b"x", prefix=b"p", magic=b"") + TAR_END, "SL220"),
    # extension headers
    ("pax-renames", pax((b"path", b"other")) + A + TAR_END, "SL219"),
    ("long-name-renames", long_name(b"other") + A + TAR_END, "SL219"),
    ("two-names", pax((b"path", b"x" * 120)) + long_name(b"y" * 120) + A + TAR_END, "SL219"),
    ("two-pax", pax((b"mtime", b"1")) + pax((b"path", b"x" * 120)) + A + TAR_END, "SL220"),
    ("pax-size-differs", pax((b"size", b"512")) + tar_header(b"a", 0) + A + TAR_END, "SL219"),
    ("pax-size-no-number", pax((b"size", b"-1")) + A + TAR_END, "SL219"),
    ("pax-size-absurd", pax((b"size", b"9" * 18)) + tar_header(b"a", 0) + TAR_END, "SL502"),
    ("pax-global-path", pax((b"path", b"x"), kind=b"g") + A + TAR_END, "SL219"),
    ("pax-global-size", pax((b"size", b"0"), kind=b"g") + A + TAR_END, "SL219"),
    ("pax-length-more", pax(b"99 path=x\n") + A + TAR_END, "SL219"),
    ("pax-length-less", pax(b"5 path=x\n") + A + TAR_END, "SL219"),
    ("pax-length-zero", pax(b"0 path=x\n") + A + TAR_END, "SL219"),
    ("pax-length-signed", pax(b"+10 path=x\n") + A + TAR_END, "SL219"),
    ("pax-no-equals", pax(b"7 path\n") + A + TAR_END, "SL219"),
    ("pax-key-twice", pax((b"path", b"x"), (b"path", b"y")) + A + TAR_END, "SL219"),
    ("pax-rest", pax((b"mtime", b"1"), bytes(20)) + A + TAR_END, "SL219"),
    ("pax-alone", pax((b"path", b"x")) + TAR_END, "SL219"),
    ("long-name-alone", long_name(b"x") + TAR_END, "SL219"),
    ("long-name-hides-bytes", long_name(b"x" * 120 + b"\0\0hidden") + A + TAR_END, "SL205"),
    ("extension-too-long", tar_header(b"x", 1 << 30, b"x") + A + TAR_END, "SL219"),
    ("link-name-for-a-file", long_name(b"x", b"K") + A + TAR_END, "SL220"),
    # numbers
    ("size-negative", tar_header(b"a", NEGATIVE) + TAR_END, "SL219"),
    ("size-base-256-for-no-reason", tar_header(b"a", b"\x80" + bytes(10) + b"\1") + b"x" + bytes(511) + TAR_END, "SL220"),
    ("size-decimal", tar_header(b"a", b"00000000009\0") + TAR_END, "SL219"),
    ("size-signed", tar_header(b"a", b"-0000000001\0") + TAR_END, "SL219"),
    ("size-with-prefix", tar_header(b"a", b"0o0000000\0") + TAR_END, "SL219"),
    ("size-blank", tar_header(b"a", b" " * 11 + b"\0") + TAR_END, "SL220"),
    ("size-beyond-the-file", tar_header(b"a", 5000) + TAR_END, "SL502"),
    ("size-huge", tar_header(b"a", b"\x80" + b"\x7f" * 11) + TAR_END, "SL502"),
    ("checksum-wrong", A + tar_header(b"b", checksum=1) + TAR_END, "SL219"),
    ("checksum-signed", tar_header(b"\xc3\xa4", checksum=sum(tar_header(b"\xc3\xa4", checksum=b" " * 8)) - 512) + TAR_END, "SL220"),
    ("mode-no-number", tar_header(b"a", mode=b"rwxr-xr-") + TAR_END, "SL220"),
    # ends
    ("no-end-blocks", A, "SL219"),
    ("one-end-block", A + bytes(512), "SL219"),
    ("nothing-but-a-header", A[:512], "SL502"),
    ("cut-in-the-last-block", A[:700], "SL219"),
    ("cut-header", A + A[:100], "SL219"),
    ("bytes-behind", A + TAR_END + b"\x80\x04hidden.", "SL205"),
    ("members-behind", A + TAR_END + tar_member(b"b", b"x") + TAR_END, "SL205"),
    ("member-after-one-zero-block", A + bytes(512) + tar_member(b"b", b"x") + TAR_END, "SL205"),
    ("megabytes-behind", A + TAR_END + bytes(1 << 20), "SL205"),
    ("bytes-in-the-last-block", tar_header(b"a", 1) + b"x" * 512 + TAR_END, "SL205"),
]


@pytest.mark.parametrize(("data", "rule"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_the_trick_is_named(data: bytes, rule: str) -> None:
    """Each of these extracts in a surprising way, or makes two readers see different members."""
    archive = archive_of(data)
    assert rule in bad(archive), archive.findings


def test_an_error_keeps_what_was_found() -> None:
    """Members in front of a broken header stay known."""
    archive = archive_of(A + tar_header(b"b", checksum=1))
    assert archive.error is not None
    assert "checksum" in archive.error
    assert list(archive.by_name) == ["a"]


def test_links_that_stay_inside_are_not_called_dangerous() -> None:
    """They are refused at level warning; only a target outside the archive is an error."""
    inside = archive_of(tar_member(b"d/l", kind=b"2", link=b"../a") + TAR_END)
    outside = archive_of(tar_member(b"d/l", kind=b"2", link=b"../../a") + TAR_END)
    assert [finding.level for finding in inside.findings] == [Level.WARNING]
    assert [finding.level for finding in outside.findings] == [Level.ERROR]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"6", b"S"])
def test_what_is_no_plain_file_has_no_bytes_to_read(kind: bytes) -> None:
    """A link's bytes are another member's, a sparse file's are not the ones that lie there."""
    source = Source.open(tar_member(b"l", kind=kind, link=b"a") + TAR_END)
    with pytest.raises(MalformedError, match="cannot be read: it is"):
        read_member(source, read_tar(source, LIMITS).members[0], LIMITS)


def test_a_chain_of_sparse_headers_is_followed() -> None:
    """The data begins behind them, and so does the next member."""
    head = bytearray(tar_header(b"s", 3, b"S", magic=GNU))
    head[482] = 1
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + sum(head[156:]) + 256)
    more = bytearray(512)
    more[504] = 1
    data = bytes(head) + bytes(more) + bytes(512) + b"xyz" + bytes(509) + A + TAR_END
    archive = archive_of(data)
    assert [(member.name, member.region.offset) for member in archive.members] == [("s", 1536), ("a", 2560)]
    assert archive_of(bytes(head) + bytes(more) * 50).error is not None


def test_a_directory_listed_twice_is_a_note() -> None:
    """Appending to an archive does that, and there are no bytes to disagree on."""
    twice = tar_member(b"d/", kind=b"5") * 2 + TAR_END
    assert [(finding.rule, finding.level) for finding in archive_of(twice).findings] == [("SL202", Level.NOTE)]


def test_more_members_than_granted_is_an_error() -> None:
    """The bound holds before anything is made of the rest."""
    archive = archive_of(b"".join(tar_member(b"%d" % number) for number in range(5)) + TAR_END, Limits(members=3))
    assert archive.error == "more than 3 members"
    assert len(archive.members) == 3


def test_findings_name_every_level() -> None:
    """A member of a member says where it is, joined by "!"."""
    archive = read_tar(Source.open(tar_member(b"/x") + TAR_END), LIMITS, member="outer.zip!inner.tar")
    assert {finding.member for finding in archive.findings} == {"outer.zip!inner.tar!/x"}


@pytest.mark.parametrize("data", [b"", bytes(512), bytes(10240), b"\x80\x04N." * 200, b"PK\3\4" * 200, A[:500], b"x" + A[1:]])
def test_what_is_no_tar_is_not_taken_for_one(data: bytes) -> None:
    """Without a magic only the checksum tells; an all-zero file is no archive worth the name."""
    assert not looks_like_tar(Source.open(data))


@pytest.mark.parametrize(
    "checksum",
    [b"%07o\0", b"%06o\0 ", b"%06o  ", b" %6o\0", b"+%06o\0", b"%04o_0\0\0"],
    ids=["seven", "usual", "spaces", "padded", "signed", "score"],
)
def test_what_tarfile_opens_is_recognised(checksum: bytes) -> None:
    """Nothing that torch would hand to tarfile may pass for something else, however its checksum is spelled."""
    plain = tar_header(b"x" * 90 + b"0", 0, checksum=b" " * 8)
    total = sum(plain)
    digits = b"0%o_%o\0" % (total >> 3, total & 7) if b"_" in checksum else checksum % total
    data = tar_header(b"x" * 90 + b"0", 0, checksum=digits.ljust(8, b"\0")) + TAR_END
    with tarfile.open(fileobj=io.BytesIO(data)) as theirs:
        assert len(theirs.getnames()) == 1
    assert looks_like_tar(Source.open(data))


# ---- against the stdlib

KINDS = [b"0", b"0", b"0", b"\0", b"5", b"1", b"2", b"7", b"S", b"L", b"K", b"x", b"g", b"Z"]


def forged(rng: random.Random) -> bytes:
    """A few members, some with forged fields."""
    out = b""
    for number in range(rng.randint(1, 4)):
        data = rng.choice([b"", b"x", TEXT, bytes(512)])
        match rng.randrange(10):
            case 0:
                key = rng.choice([b"path", b"size", b"mtime", b"linkpath", b"GNU.sparse.name"])
                out += pax((key, rng.choice([b"1", b"900", b"z" * 120])))
            case 1:
                out += long_name(rng.choice([b"n", b"z" * 120]), rng.choice([b"L", b"K"]))
            case _:
                pass
        size = len(data) if rng.random() < 0.9 else rng.choice([0, 1, 512, 1024, 5000])
        out += tar_header(
            rng.choice([b"m%d" % number, b"d/", b"d/x%d" % number]), size, rng.choice(KINDS) if rng.random() < 0.3 else b"0",
            magic=rng.choice([b"ustar\00000", b"ustar  \0", b""]), prefix=rng.choice([b"", b"", b"", b"p"]),
        )  # fmt: skip
        out += data + bytes(-len(data) % 512)
        if rng.random() < 0.05:
            out += bytes(512)
    return out + rng.choice([TAR_END, TAR_END, TAR_END, b"", bytes(512)])


def mutated(rng: random.Random) -> bytes:
    """An archive as the stdlib writes it, with bytes changed in its headers and the checksums put right."""
    data = bytearray(written({"d/pickle": TEXT, "y" * 120: b"long", "b": b"1"}, rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
    for _ in range(rng.randint(1, 3)):
        block = rng.choice([0, 0, 1536, 2048, 2560, 3072]) % len(data)
        at = block + rng.choice([rng.randrange(512), rng.randrange(124, 136), 156])
        data[at] = rng.choice([data[at] ^ (1 << rng.randrange(8)), 0, 0x30, 0x31, 0x80, 0xFF, 0x20])
        if rng.random() < 0.9:
            total = sum(data[block : block + 148]) + sum(data[block + 156 : block + 512]) + 256
            data[block + 148 : block + 156] = b"%06o\0 " % total
    return bytes(data)


def seen_by_the_stdlib(data: bytes) -> list[tuple[str, bytes]] | None:
    """Names and bytes; None where it raises."""
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as other:
            for info in other.getmembers():
                file = other.extractfile(info) if info.isreg() else None
                found.append((info.name, file.read() if file is not None else b""))
    except (tarfile.TarError, ValueError, KeyError, OverflowError, OSError):
        return None
    return found


def test_the_stdlib_sees_nothing_that_was_not_seen_here() -> None:
    """What is clean here has, for tarfile, the same members with the same bytes; and nothing but our own errors leaves."""
    rng = random.Random(int(os.environ.get("SAFELOAD_SEED", "11")))
    clean = 0
    for _ in range(int(os.environ.get("SAFELOAD_FUZZ", "1500"))):
        data = forged(rng) if rng.random() < 0.5 else mutated(rng)
        source = Source.open(data)
        archive = read_tar(source, LIMITS)
        theirs = seen_by_the_stdlib(data)
        assert theirs is None or looks_like_tar(source), data.hex()
        if archive.error is not None or bad(archive):
            for member in archive.members:
                with contextlib.suppress(SafeloadError):
                    read_member(source, member, LIMITS)
            continue
        clean += 1
        mine = [(member.name, bytes(read_member(source, member, LIMITS))) for member in archive.members]
        assert theirs is None or theirs == mine, data.hex()
    assert clean > 30
