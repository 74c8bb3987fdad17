"""Differential test: whatever another reader accepts and sees, ours sees the same, or says at level warning or worse why not."""

from __future__ import annotations

import io
import os
import random
import warnings
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from safeload.errors import SafeloadError
from safeload.findings import Finding, Level
from safeload.formats import _plain_zip, zip_container
from safeload.formats.container import Notes
from safeload.formats.zip_container import Archive, Member, looks_like_zip, read_archive, read_member
from safeload.formats.zip_directory import find_end
from safeload.source import Limits, Source
from tests.forge_zip import Part, deflate, extra, forge, torch_zip, zip64

LIMITS = Limits(inflate_bytes=1 << 20)
TEXT = b"some text, some text, some text"
ROUNDS = int(os.environ.get("SAFELOAD_FUZZ", "1500"))

NUMBERS = [0, 1, 2, 8, 0x10, 0x20, 0x40, 0x800, 0x808, 0xFFFF, 0xFFFFFFFF, 0x80000000, 30, 46, 64, 100, 128, 200]
LOCAL = ("flags", "method", "crc", "packed", "nbytes", "names", "extras", "needed")
CENTRAL = (*LOCAL, "comments", "disk", "attributes", "offset")
END = ("disk", "first_disk", "here", "count", "size", "offset", "comments")
EXTRAS = [
    b"", extra(0x4246, b"ZZZ"), zip64(1), zip64(31, 31), zip64(31, 31, 0), extra(0x7075, b"\1\0\0\0\0other"), extra(0x5455, b"\0"), b"\1\0",
]  # fmt: skip
NAMES = ["archive/data.pkl", "archive/version", "archive/DATA.PKL", "archive/data/0", "other/x", "archive/", "archive\\data.pkl"]


def forged(rng: random.Random) -> bytes:
    """A file with some fields given other values, somewhere."""
    wide = ("crc", "packed", "nbytes", "offset", "attributes")

    def over(names: tuple[str, ...], chance: float) -> dict[str, int | bytes]:
        if rng.random() > chance:
            return {}
        name = rng.choice(names)
        return {name: rng.choice(NUMBERS) & (0xFFFFFFFF if name in wide or (names is END and name in ("size", "offset")) else 0xFFFF)}

    parts = []
    for _ in range(rng.randint(1, 4)):
        data = rng.choice([b"", b"3\n", TEXT, b"PK\5\6" + bytes(30)])
        method = rng.choice([0, 0, 8])
        packed = deflate(data) + rng.choice([b"", b"", b"", b"x"]) if method else None
        parts.append(
            Part(
                rng.choice(NAMES), data, method, packed=packed, flags=rng.choice([0, 0x800]),
                descriptor=rng.choice([None, None, 12, 16, 20, 24]), local=over(LOCAL, 0.15), central=over(CENTRAL, 0.15),
                local_extra=rng.choice(EXTRAS) if rng.random() < 0.2 else b"",
                central_extra=rng.choice(EXTRAS) if rng.random() < 0.2 else b"",
                listed=rng.random() > 0.03, written=rng.random() > 0.03,
            )
        )  # fmt: skip
    return forge(
        *parts,
        comment=rng.choice([b"", b"", b"hello", b"PK\5\6" + bytes(18)]) if rng.random() < 0.1 else b"",
        suffix=rng.choice([b"x", bytes(30)]) if rng.random() < 0.05 else b"",
        prefix=b"#!" if rng.random() < 0.05 else b"",
        end=over(END, 0.1),
        end64=over(END[:-1], 0.5) if rng.random() < 0.3 else None,
        locator=over(("disk", "offset", "disks"), 0.3) if rng.random() < 0.1 else None,
    )


def mutated(rng: random.Random) -> bytes:
    """A file as torch lays it out, with a few bytes changed, mostly in its structure."""
    data = bytearray(torch_zip({"data.pkl": TEXT, "version": b"3\n", "data/0": b"12345678"}))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data)) if rng.random() < 0.3 else len(data) - 1 - rng.randrange(330)
        if rng.random() < 0.7:
            data[at] ^= 1 << rng.randrange(8)
        else:
            data[at : at + 2] = rng.choice([b"\xff\xff", b"\0\0", b"\1\0"])
    return bytes(data)


def ours(data: bytes) -> tuple[Archive, list[tuple[str, bytes]] | None]:
    """The archive, and the members' bytes; None where a finding, an error or a refused read already says no."""
    source = Source.open(data)
    archive = read_archive(source, LIMITS)
    if archive.error is not None or any(finding.level is not Level.NOTE for finding in archive.findings):
        return archive, None
    try:
        return archive, [(member.name, bytes(read_member(source, member, LIMITS))) for member in archive.members]
    except SafeloadError:
        return archive, None


def samples() -> list[bytes]:
    rng = random.Random(int(os.environ.get("SAFELOAD_SEED", "7")))
    return [forged(rng) if rng.random() < 0.6 else mutated(rng) for _ in range(ROUNDS)]


def test_the_stdlib_sees_nothing_that_was_not_seen_here() -> None:
    """What is clean here has, for zipfile, the same members with the same bytes, or is refused by it."""
    clean = 0
    for data in samples():
        _, mine = ours(data)
        if mine is None:
            continue
        clean += 1
        try:
            with warnings.catch_warnings(), zipfile.ZipFile(io.BytesIO(data)) as other:
                warnings.simplefilter("ignore")
                theirs = [(info.filename, other.read(info)) for info in other.infolist()]
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
            continue
        assert theirs == mine, data.hex()
    assert clean > ROUNDS // 50


@pytest.mark.torch
def test_torch_sees_nothing_that_was_not_seen_here() -> None:
    """Likewise for the reader inside torch, which knows only the central directory and finds names whatever their case."""
    torch = pytest.importorskip("torch")
    clean = 0
    for data in samples():
        source = Source.open(data)
        if not looks_like_zip(source):
            continue
        _, mine = ours(data)
        try:
            other = torch._C.PyTorchFileReader(io.BytesIO(data))
            records = {name: other.get_record(name) for name in other.get_all_records()}
        except (RuntimeError, UnicodeDecodeError):
            continue
        if mine is None:
            continue
        clean += 1
        assert records == {name.partition("/")[2]: text for name, text in mine}, data.hex()
    assert clean > ROUNDS // 50


def plain_builds() -> list[ModuleType]:
    """The quick pass as it stands, and compiled where it was."""
    try:
        from safeload.formats import _plain_zip_c
    except ImportError:
        return [_plain_zip]
    return [_plain_zip, _plain_zip_c]


@pytest.mark.parametrize("build", plain_builds(), ids=lambda build: build.__name__.rpartition(".")[2])
def test_the_quick_pass_gives_what_the_thorough_reader_gives(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not give up there is nothing to find in what it read, and every member is the same in every field."""
    monkeypatch.setattr(zip_container, "plain_reader", lambda: build)
    quick = zip_container._plain_members
    given: list[tuple[tuple[Member, ...] | None, list[Finding]]] = []

    def noted(source: Source, end: Any, limits: Limits, notes: Any) -> tuple[Member, ...] | None:
        given.append((quick(source, end, limits, notes), notes.done()))
        return None  # so that the thorough reader follows

    monkeypatch.setattr(zip_container, "_plain_members", noted)
    plain = 0
    for data in samples():
        given.clear()
        archive = read_archive(Source.open(data), LIMITS)
        found, before = given[0] if given else (None, [])
        if found is not None:
            plain += 1
            assert archive.error is None
            assert archive.findings == before  # the end record's, which both have read
            assert archive.members == found, data.hex()
            assert archive.by_name == {member.name: member for member in found}
    assert plain > ROUNDS // 50


def test_what_torch_and_zipfile_write_is_plain(tmp_path: Path) -> None:
    """The quick pass is worth nothing if it gives up on ordinary files."""
    path = tmp_path / "stored.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20):
            archive.writestr(f"folder/{number}.txt", TEXT * number)
    files = [path.read_bytes(), torch_zip({"data.pkl": TEXT, "version": b"3\n", "data/0": b"12345678"})]
    for data in files:
        source = Source.open(data)
        end = find_end(source, notes := Notes(None))
        assert not isinstance(end, str)
        assert zip_container._plain_members(source, end, LIMITS, notes) is not None
