"""torch's tar checkpoints: what is in them, and that each of their many streams is looked at."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from safeload.errors import SafeloadError
from safeload.findings import Level
from safeload.formats.base import Contents
from safeload.formats.tar_file import TarFile
from safeload.formats.torch_tar_file import TorchTarFile
from safeload.program import StorageSpec, TensorSpec
from safeload.source import Limits, Reading, Source
from safeload.walk.model import Model, build
from tests.effort import within
from tests.forge_tar_checkpoint import Storage, TarCheckpoint, Tensor, class_named, example, header, referring, value

READER = TorchTarFile()
HOSTILE = b"cos\nsystem\n(S'true'\ntR."


def read(data: bytes, **limits: int) -> Contents:
    return READER.read(Source.open(data), Reading(limits=Limits(**limits)))


def refusing(contents: Contents) -> set[str]:
    found = [*contents.findings, *(item for part in contents.parts for item in part.walk.findings)]
    return {item.rule for item in found if item.level is not Level.NOTE}


def built(contents: Contents) -> object:
    part = contents.main
    assert part is not None
    return build(part.walk, Model(part.walk, persistent=part.persistent))


def test_tensors_lie_where_the_file_says() -> None:
    data = example().file()
    contents = read(data)
    assert contents.error is None
    assert not refusing(contents)
    found = built(contents)
    assert isinstance(found, dict)
    assert list(found) == ["a", "a.t", "a.part", "b", "again", "raw"]
    assert found["a"] is found["again"]
    spec = found["a.part"]
    assert isinstance(spec, TensorSpec)
    assert spec.storage.base is found["a"].storage
    assert (spec.storage.base_offset, spec.offset, spec.shape, spec.stride) == (2, 1, (2,), (2,))
    storage = found["b"].storage
    assert storage.region is not None
    assert struct.unpack("<3q", data[storage.region.offset : storage.region.offset + storage.region.nbytes]) == (7, 8, 9)
    assert isinstance(found["raw"], StorageSpec)
    assert [spec.key for spec in contents.storages] == ["100", "200", "250", "300"]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_torch_reads_the_forged_file_the_same(tmp_path: Path) -> None:
    """Otherwise the tests here would be about a format of our own."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "old.tar"
    path.write_bytes(example().file())
    theirs = torch.load(path, weights_only=False)
    assert theirs["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert theirs["a.part"].tolist() == [3, 5]
    assert theirs["a"] is theirs["again"]
    ours = built(read(path.read_bytes()))
    assert isinstance(ours, dict)
    assert list(ours) == list(theirs)
    for name in ("a", "a.t", "a.part", "b"):
        spec = ours[name]
        assert (spec.shape, spec.stride, spec.offset) == (theirs[name].shape, theirs[name].stride(), theirs[name].storage_offset())
        assert f"torch.{spec.dtype}" == str(theirs[name].dtype)


def test_what_had_no_dimensions_had_no_elements() -> None:
    """Before 0.4 torch had no scalars; its empty tensors have no storage, or one without elements."""
    file = TarCheckpoint(storages=[Storage(5)], tensors=[Tensor(1, None), Tensor(2, 5)], main=referring({"x": "1", "y": "2"}))
    contents = read(file.file())
    assert contents.error is None
    found = built(contents)
    assert isinstance(found, dict)
    assert [found[name].shape for name in "xy"] == [(0,), (0,)]


@pytest.mark.parametrize("member", ["storages", "tensors", "pickle", "sys_info", "more"])
@pytest.mark.parametrize("tail", [b"", b"\xff"])
def test_a_call_in_any_stream_is_seen(member: str, tail: bytes) -> None:
    """The loader of torch runs the streams of all members, and of none is it only data."""
    contents = read(replace(example(), members={member: HOSTILE[:-1] + tail + b"."}).file())
    assert "SL101" in refusing(contents)
    assert any(part.member == member and "os.system" in part.walk.globals for part in contents.parts)


@pytest.mark.parametrize("what", ["storage", "view", "tensor", "behind storages", "behind tensors"])
def test_a_call_deep_in_a_member_is_seen_at_its_place(what: str) -> None:
    parts = example().parts()
    hidden = header(value(100), value("cpu"), HOSTILE[:-1])
    if what == "storage":
        at = parts["storages"].index(header(value(200), value("cpu"), class_named("torch.LongStorage")))
        parts["storages"] = parts["storages"][:at] + hidden + parts["storages"][at:]
    elif what == "view":
        at = len(parts["storages"]) - len(pickle.dumps([(300, 100, 2, 4)], 2))
        parts["storages"] = parts["storages"][:at] + hidden
    elif what == "tensor":
        at = parts["tensors"].index(header(value(4), value(200), class_named("torch.LongTensor")))
        parts["tensors"] = parts["tensors"][:at] + hidden + parts["tensors"][at:]
    else:
        name = what.split()[1]
        at = len(parts[name])
        parts[name] += hidden
    contents = read(TarCheckpoint(members=dict(parts)).file())
    assert "SL101" in refusing(contents)
    part = next(part for part in contents.parts if "os.system" in part.walk.globals)
    assert part.offset == at
    assert next(item for item in part.walk.findings if item.rule == "SL101").offset == at + hidden.index(b"tR") + 1
    assert part.walk.end == at + len(hidden)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"storages": [Storage(100, bytes(8), numel=3)]}, "SL129"),
        ({"storages": [Storage(100, bytes(8), numel=1 << 40)]}, "SL302"),
        ({"storages": [Storage(100, bytes(8), numel=-1)]}, "SL302"),
        ({"storages": [Storage(100, bytes(8), numel=-(1 << 63))]}, "SL302"),
        ({"storages": [Storage(100, bytes(8)), Storage(100, bytes(8))]}, "SL303"),
        ({"storages": [Storage("100", bytes(8))]}, "SL303"),
        ({"storages": [Storage(True, bytes(8))]}, "SL303"),
        ({"storages": [Storage(100, bytes(8), "torch.storage.UntypedStorage")]}, "SL303"),
        ({"storages": [Storage(100, bytes(8), "torch.FloatTensor")]}, "SL303"),
        ({"storages": [Storage(100, bytes(8), "evil.FloatStorage")]}, "SL103"),
        ({"views": None}, "SL303"),
        ({"views": [(300, 100, 2)]}, "SL303"),
        ({"views": [(300, 100, 2, 5)]}, "SL301"),
        ({"views": [(300, 100, -1, 2)]}, "SL301"),
        ({"views": [(300, 999, 0, 1)]}, "SL304"),
        ({"views": [(100, 200, 0, 1)]}, "SL303"),
        ({"tensors": [Tensor(1, 100, (2, 3), (3, 2))]}, "SL301"),
        ({"tensors": [Tensor(1, 100, (2, 3), (3, -1))]}, "SL303"),
        ({"tensors": [Tensor(1, 100, (7,), (1,))]}, "SL301"),
        ({"tensors": [Tensor(1, 100, (1,), (1,), 6)]}, "SL301"),
        ({"tensors": [Tensor(1, 100, (1 << 62,), (1 << 62,))]}, "SL303"),
        ({"tensors": [Tensor(1, 999, (1,), (1,))]}, "SL304"),
        ({"tensors": [Tensor(1, "100", (1,), (1,))]}, "SL304"),
        ({"tensors": [Tensor(1, None, (1,), (1,))]}, "SL301"),
        ({"tensors": [Tensor(100, 100, (1,), (1,))]}, "SL303"),
        ({"tensors": [Tensor(1, 100, dimensions=65)]}, "SL303"),
        ({"tensors": [Tensor(1, 100, dimensions=-1)]}, "SL303"),
        ({"tensors": [Tensor(1, 100, dimensions=60)]}, "SL302"),
        ({"members": {"storages": pickle.dumps(1 << 40, 2)}}, "SL303"),
        ({"members": {"storages": pickle.dumps(True, 2)}}, "SL303"),
        ({"members": {"storages": b""}}, "SL129"),
        ({"members": {"tensors": pickle.dumps(0, 2) + b"x"}}, "SL126"),
        ({"members": {"tensors": None}}, "SL214"),
        ({"members": {"storages": None}}, "SL214"),
    ],
)
def test_a_table_that_contradicts_itself(change: dict[str, object], rule: str) -> None:
    contents = read(replace(example(), **change).file())  # type: ignore[arg-type]
    assert rule in refusing(contents)
    assert contents.main is not None


@pytest.mark.parametrize("pid", ["5", "1_0", " 1", "0x1", "", "9" * 40, 1.0, None, (), ("a", "b"), True, [1], b"1", "\u0661"])
def test_a_persistent_id_must_be_a_key(pid: object) -> None:
    """`int()` reads more than torch writes."""
    contents = read(replace(example(), main=referring({"a": pid})).file())
    with pytest.raises(SafeloadError):
        built(contents)


def test_a_persistent_id_with_source_text_is_its_class() -> None:
    """Old modules carry their source; the text is not looked at."""
    main = b"\x80\x02(" + class_named("collections.OrderedDict") + value("x.py") + value("class X: pass") + b"tQ."
    contents = read(replace(example(), main=main).file())
    assert contents.error is None
    assert built(contents) is __import__("collections").OrderedDict


def test_raw_bytes_are_not_fetched(tmp_path: Path) -> None:
    """A scan reads the ranges that its verdict needs."""
    path = tmp_path / "big"
    path.write_bytes(
        replace(example(), storages=[Storage(100, bytes(1 << 24)), Storage(200, bytes(64), "torch.LongStorage", size=8)]).file()
    )
    source = Source.open(path)
    contents = READER.read(source, Reading())
    assert "SL129" not in refusing(contents)
    assert sum(len(kept) for _, kept in source._segments) < 1 << 18


def test_many_tensors_take_time_in_proportion() -> None:
    count = 3_000
    file = TarCheckpoint(
        storages=[Storage(10 * i, bytes(16)) for i in range(1, count)],
        tensors=[Tensor(10 * i + 1, 10 * i, (4,), (1,)) for i in range(1, count)],
        main=referring({str(i): 10 * i + 1 for i in range(1, count)}),
    )
    data = file.file()
    with within(10):
        contents = read(data)
        assert contents.error is None
    assert len(contents.parts) < 2_100


def test_only_checkpoints_are_claimed() -> None:
    assert READER.claims(Source.open(example().file()))
    assert not TarFile().claims(Source.open(example().file()))
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w:") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    assert not READER.claims(Source.open(other.getvalue()))
    assert TarFile().claims(Source.open(other.getvalue()))
    assert not READER.claims(Source.open(b""))


def test_damaged_files_end_in_contents() -> None:
    rng = random.Random(8)
    good = example().file()
    ends = [i for i, byte in enumerate(good) if byte]
    for _ in range(700):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.choice(ends)
            what = rng.randrange(4)
            if what == 0:
                data[at : at + 1] = rng.choice([b"", b"\0", b"\xff", b"Q", b"R", b"."])
            else:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        contents = read(bytes(data))
        if contents.error is None and contents.main is not None:
            try:
                built(contents)
            except SafeloadError:
                continue
