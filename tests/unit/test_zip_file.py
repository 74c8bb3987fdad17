"""Archives that hold files: every member is read as a file of its own, at any depth, at a bounded price."""

from __future__ import annotations

import io
import pickle
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from safeload import formats
from safeload.findings import Level
from safeload.formats import nested
from safeload.formats.base import Contents
from safeload.formats.nested import Budget
from safeload.formats.zip_file import ZipFile
from safeload.source import Limits, Reading, Source
from tests.effort import within
from tests.forge_safetensors import entry, file_of
from tests.forge_tar_checkpoint import example
from tests.forge_zip import Part, forge

HOSTILE = b"cos\nsystem\n(S'true'\ntR."
PICKLE = pickle.dumps({"a": [1, 2, 3]}, 4)


def zipped(members: Mapping[str, bytes], *, deflate: bool = False) -> bytes:
    return forge(*(Part(name, data, method=8 if deflate else 0) for name, data in members.items()))


def tarred(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def npy(descr: str, count: int, data: bytes) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


def read(data: bytes | Path, **limits: int) -> Contents:
    contents = formats.read(Source.open(data), Reading(limits=Limits(**limits)))
    assert contents is not None
    return contents


def refusing(contents: Contents) -> set[str]:
    found = [*contents.findings, *(item for part in contents.parts for item in part.walk.findings)]
    return {item.rule for item in found if item.level is not Level.NOTE}


@pytest.mark.parametrize("wrap", [zipped, lambda members: zipped(members, deflate=True), tarred], ids=["zip", "deflated", "tar"])
def test_every_member_is_read_as_what_it_is(wrap: object) -> None:
    assert callable(wrap)
    members = {
        "weights.npy": npy("<f4", 2, bytes(8)),
        "objects.npy": npy("|O", 1, PICKLE),
        "model.safetensors": file_of({"a": entry("U8", [3], 0, 3)}, b"abc"),
        "a/b.pkl": PICKLE,
        "inner.zip": zipped({"c.pkl": PICKLE, "note": b"text"}, deflate=True),
        "old.tar": example().file(),
        "README.md": b"# Hello\n\nText.\n",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(30),
        "empty": b"",
    }
    contents = read(wrap(members))
    assert contents.error is None
    assert not refusing(contents)
    assert contents.format in ("zip", "tar")
    assert contents.main is None
    assert contents.table is None
    places = [part.member for part in contents.parts]
    assert {"objects.npy", "a/b.pkl", "inner.zip!c.pkl", "old.tar!pickle", "old.tar!storages"} <= set(places)
    note = next(item for item in contents.findings if item.rule == "SL215" and item.member is None)
    assert "3 members that no reader claims: 'README.md', 'picture', 'empty'" in note.message
    assert note.level is Level.NOTE


@pytest.mark.parametrize("name", ["x.pkl", "README.md", "data/0", "x/", "é", "no extension", "a!b"])
@pytest.mark.parametrize("deflate", [False, True])
def test_a_stream_is_found_under_any_name(name: str, deflate: bool) -> None:
    """Names route nothing: a scanner that picks members by extension is walked past."""
    contents = read(zipped({"first": b"text", name: HOSTILE}, deflate=deflate))
    assert "SL101" in refusing(contents)
    assert [part.member for part in contents.parts] == [name]


def test_members_of_each_level_are_joined() -> None:
    inner = zipped({"deep.npy": npy("|O", 1, HOSTILE)}, deflate=True)
    contents = read(tarred({"a.zip": zipped({"b/c.tar": tarred({"d.zip": inner})})}))
    assert [part.member for part in contents.parts] == ["a.zip!b/c.tar!d.zip!deep.npy"]
    assert "SL101" in refusing(contents)
    broken = zipped({"m": zipped({"t.safetensors": file_of({"a": entry("U8", [3], 0, 4)}, bytes(4))})})
    finding = next(item for item in read(broken).findings if item.rule == "SL402")
    assert finding.member == "m!t.safetensors"
    assert finding.offset is not None


def test_nesting_ends_somewhere_and_says_so() -> None:
    data = HOSTILE
    for _ in range(5):
        data = zipped({"x": data})
    assert "SL101" in refusing(read(data))
    deeper = read(zipped({"x": data}))
    assert "SL217" in refusing(deeper)
    assert deeper.error is not None
    assert "SL217" in refusing(read(data, nesting=2))


def test_a_zip_that_holds_itself_ends() -> None:
    """A quine would be unpacked for ever; here the same bytes come back at every level."""
    data = zipped({"x": b"PK\3\4" + bytes(100)})
    assert read(data).error is not None


def test_a_member_in_no_known_format_leaves_the_verdict_open() -> None:
    """What was not looked at cannot be allowed; what is plainly text or a picture can."""
    contents = read(zipped({"m.rar": b"Rar!\x1a\x07" + bytes(100), "t": b"text"}))
    assert contents.error is not None
    assert contents.error.startswith("member 'm.rar' is in no format that is read: a RAR archive")
    assert refusing(contents) == {"SL222"}  # which is no verdict
    assert read(zipped({"t": b"text"})).error is None


@pytest.mark.parametrize("deflate", [False, True])
def test_the_bytes_of_a_member_stay_part_of_the_snapshot(tmp_path: Path, deflate: bool) -> None:
    """Who changes the file meanwhile does not change what was judged."""
    path = tmp_path / "m.zip"
    rng = random.Random(1)
    path.write_bytes(zipped({"x": pickle.dumps([rng.randbytes(9) for _ in range(20_000)])}, deflate=deflate))
    source = Source.open(path)
    contents = formats.read(source)
    assert contents is not None
    assert len(contents.parts) == 1
    digest = source.sha256
    path.write_bytes(bytes(path.stat().st_size))
    assert source.sha256 == digest


def test_a_crc_that_does_not_fit_a_deflated_member_is_found() -> None:
    contents = read(forge(Part("x", PICKLE, method=8, local={"crc": 1}, central={"crc": 1})))
    assert contents.error is not None
    assert len(contents.parts) == 1


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("head", [b"", b"\x80\x04", b"\x93NUMPY", b"text", b"PK\3\4"], ids=["zeros", "stream", "array", "text", "zip"])
def test_a_bomb_costs_no_more_than_is_granted(levels: int, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes that stand for gigabytes, and archives of such archives; here with a grant of megabytes."""
    monkeypatch.setattr(nested, "_MEMORY", (1 << 20, 1))
    monkeypatch.setattr(nested, "_WORK", (5 << 20, 1))
    filler = b"N0" if head == b"\x80\x04" else b"a" if head == b"text" else b"\0"
    data = zipped({f"{i}": head + filler * 3_000_000 for i in range(3)}, deflate=True)
    for _ in range(levels - 1):
        data = zipped({f"{i}.zip": data for i in range(16)}, deflate=True)
    tracemalloc.start()
    with within(10):
        contents = read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert contents.error is not None
    assert peak < 16 << 20


def test_what_is_granted_is_bounded_by_the_file() -> None:
    """However small, a file may take 256 MB and 1 GB of unpacking; larger ones more, up to the limits."""
    budget = Budget.of(1_000, Limits())
    assert (budget.memory >> 20, budget.work >> 20, budget.members) == (256, 1024, 20_031)
    assert Budget.of(1 << 40, Limits()).work == Limits().inflate_bytes


def test_an_array_of_zeros_is_no_bomb() -> None:
    """Compressed numpy archives are such files; only the header is kept."""
    data = zipped({"a.npy": npy("<f4", 5_000_000, bytes(20_000_000))}, deflate=True)
    tracemalloc.start()
    contents = read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert contents.error is None
    assert not refusing(contents)
    assert peak < 8 << 20


def test_the_number_of_members_is_granted_once_for_all_levels() -> None:
    assert Budget.of(0, Limits()).members == 20_000
    inner = zipped({f"{i}": b"" for i in range(60)})
    contents = read(zipped({f"{i}.zip": inner for i in range(9)}), members=300)
    assert "SL208" in refusing(contents)
    assert contents.error is not None


def test_a_checkpoint_of_torch_is_not_claimed() -> None:
    torch_zip = zipped({"m/data.pkl": PICKLE, "m/version": b"3\n"})
    assert not ZipFile().claims(Source.open(torch_zip))
    assert ZipFile().claims(Source.open(zipped({"m/n/data.pkl": PICKLE})))
    assert ZipFile().claims(Source.open(zipped({})))
    assert not ZipFile().claims(Source.open(b"text"))


def test_half_a_download_is_called_that() -> None:
    """Not malicious, not malformed: cut off, and behind which member."""
    whole = zipped({"m/data.pkl": PICKLE, "m/version": b"3", "m/data/0": bytes(3_000)})
    contents = read(whole[:2_000])
    assert refusing(contents) == {"SL502"}
    assert "'m/data/0'" in (contents.error or "")


@pytest.mark.parametrize("wrap", [zipped, tarred], ids=["zip", "tar"])
def test_broken_structure_does_not_stop_the_look_at_members(wrap: object) -> None:
    assert callable(wrap)
    data = bytes(wrap({"x": HOSTILE, "y": PICKLE}))
    for cut in (b"junk" + data, data + b"junk"):
        contents = formats.read(Source.open(cut))
        assert contents is None or refusing(contents)
    contents = read(data + b"junk")
    assert "SL101" in refusing(contents)


def test_a_tar_or_safetensors_file_that_is_also_a_stream() -> None:
    """The name of a tar's first member can be opcodes."""
    tar = tarred({"cos\nsystem\n(S'true'\ntR.": b"x"})
    contents = read(tar)
    assert contents.format == "tar"
    assert {"SL213", "SL101"} <= refusing(contents)
    tensors = {"model.safetensors": file_of({}, b"")}
    assert not refusing(read(zipped(tensors)))


def test_damaged_archives_end_in_contents() -> None:
    rng = random.Random(4)
    members = {"a.npy": npy("<f4", 2, bytes(8)), "b.pkl": PICKLE, "c": zipped({"d": HOSTILE})}
    seeds = [zipped(members), zipped(members, deflate=True)]
    seeds.append(tarred({"a": PICKLE, "b.zip": zipped({"d": HOSTILE}), "c.safetensors": file_of({"a": entry("U8", [3], 0, 3)}, b"abc")}))
    for _ in range(500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.choice([0, 255, rng.randrange(256)])
        if rng.random() < 0.2:
            at = rng.randrange(len(data))
            del data[at : at + rng.randrange(1, 50)]
        formats.read(Source.open(bytes(data)))


def test_archives_of_numpy_and_zipfile_are_read(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "a.npz"
    for save in (numpy.savez, numpy.savez_compressed):
        save(path, a=numpy.arange(10), b=numpy.array([1, "x"], object), c=numpy.zeros((3, 0)))
        contents = read(path)
        assert contents.error is None
        assert not any(item.level is Level.ERROR for part in contents.parts for item in part.walk.findings)
        assert [part.member for part in contents.parts] == ["b.npy"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/y.txt", "text")
        archive.writestr("x/z.pkl", HOSTILE)
    assert "SL101" in refusing(read(path))
