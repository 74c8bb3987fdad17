"""Distributed checkpoints: a stream that torch reads unguarded, and archives behind one another."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path

import pytest

import safeload
from safeload.errors import UnsupportedError
from safeload.findings import Level, Outcome, Report
from safeload.inspection import inspect
from tests import forge
from tests.effort import within
from tests.forge_script import checkpoint_item, dcp_metadata, made, pairs, place, sizes

CALL = forge.call("os", "system", forge.TEXT("true"))
HOSTILE = forge.stream(CALL, forge.STOP)


def scan(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes, outcome: Outcome = Outcome.REFUSED, form: str = "dcp-metadata") -> set[str]:
    report = scan(data)
    assert report.format == form
    assert report.decision.outcome is outcome, report.decision
    return {item.rule for item in report.findings if item.level is not Level.NOTE}


def test_the_metadata_is_described_and_never_made() -> None:
    assert rules(dcp_metadata(), Outcome.ALLOWED) == set()
    shown = inspect(dcp_metadata(), lock=False)
    assert [(one.name, one.dtype, one.shape, one.nbytes) for one in shown.tensors] == [("w", "float32", (2, 3), 24)]
    assert shown.metadata == {"entries": "1", "files": "1"}


@pytest.mark.parametrize(
    ("planner", "rule"),
    [
        (CALL, "SL101"),
        (forge.GLOBAL("os", "system"), "SL102"),
        (forge.stream(forge.GLOBAL("my.package", "Plan"), forge.EMPTY_TUPLE, forge.REDUCE), "SL103"),
        (made("NoSuchClass", pairs()), "SL103"),
        (forge.stream(forge.GLOBAL("torch.distributed.checkpoint.metadata", "os.system"), forge.EMPTY_TUPLE, forge.REDUCE), "SL108"),
    ],
)
def test_whatever_else_the_stream_names_is_judged_as_anywhere(planner: bytes, rule: str) -> None:
    """torch reads it with the plain unpickler."""
    assert rule in rules(dcp_metadata(planner=planner))


def test_a_second_stream_behind_it_is_found() -> None:
    assert {"SL101", "SL125"} <= rules(dcp_metadata() + HOSTILE)


@pytest.mark.parametrize(
    "bad",
    [
        dcp_metadata(place("../../etc/passwd")),
        dcp_metadata(place("/etc/passwd")),
        dcp_metadata(place(""), place()),
        dcp_metadata(place(offset=-1)),
        dcp_metadata(place(length=-1)),
        dcp_metadata(place(offset=1 << 62)),
        dcp_metadata(forge.NONE),
        dcp_metadata(size=sizes(1 << 61, 2)),
        dcp_metadata(size=sizes(-1)),
        dcp_metadata(size=forge.NONE),
    ],
)
def test_a_place_outside_of_the_checkpoint_is_an_error(bad: bytes) -> None:
    assert rules(bad) & {"SL739", "SL104", "SL303"}


def test_the_files_beside_it_are_held_against_it(tmp_path: Path) -> None:
    path = tmp_path / "ck" / ".metadata"
    path.parent.mkdir()
    path.write_bytes(dcp_metadata(place(length=100)))
    assert safeload.scan(path, lock=False).decision.outcome is Outcome.ALLOWED
    data = path.parent / "__0_0.distcp"
    data.write_bytes(bytes(99))
    assert {item.rule for item in safeload.scan(path, lock=False).findings} == {"SL739"}
    data.unlink()
    (tmp_path / "elsewhere").write_bytes(bytes(100))
    data.symlink_to(tmp_path / "elsewhere")
    assert {item.rule for item in safeload.scan(path, lock=False).findings} == {"SL739"}


def test_the_metadata_of_many_tensors_takes_no_more_than_its_share() -> None:
    """Keys of one class share a hash as nodes; as keys of their own they do not."""
    data = dcp_metadata(*(place(offset=index) for index in range(5000)))
    with within(30):
        assert rules(data, Outcome.ALLOWED) == set()


# ---- items


def test_items_behind_one_another_are_each_read() -> None:
    good = checkpoint_item() + checkpoint_item(b"\x80\x02]K\x01a.") + checkpoint_item()
    assert rules(good, Outcome.ALLOWED, "dcp-shard") == set()
    assert inspect(good, lock=False).metadata == {"items": "3"}
    report = scan(checkpoint_item() + checkpoint_item(HOSTILE) + checkpoint_item())
    assert report.decision.outcome is Outcome.REFUSED
    assert ("SL101", f"item@{len(checkpoint_item())}!archive/data.pkl") in {(item.rule, item.member) for item in report.findings}


def test_what_lies_between_or_behind_items_is_looked_at() -> None:
    tail = scan(checkpoint_item() + checkpoint_item() + HOSTILE)
    assert {"SL101", "SL739"} <= {item.rule for item in tail.findings}
    assert scan(checkpoint_item() + b"junk" + checkpoint_item()).decision.outcome is Outcome.REFUSED


def test_one_item_alone_is_a_checkpoint() -> None:
    assert rules(checkpoint_item(), Outcome.ALLOWED, "torch-zip") == set()


def test_damaged_files_end_in_findings() -> None:
    rng = random.Random(29)
    seeds = [dcp_metadata(), checkpoint_item() * 3]
    for count in range(2000):
        data = bytearray(seeds[count % 2])
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if count % 5 == 0:
            del data[rng.randrange(len(data)) :]
        assert scan(bytes(data)).decision.reasons != ("not decided",)


@pytest.mark.torch
def test_what_torch_writes(tmp_path: Path) -> None:
    """A model and its optimiser: every file of the directory is allowed, and none is a checkpoint of `load`."""
    import torch
    from torch.distributed.checkpoint.state_dict_saver import save

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save({"model": model.state_dict(), "optim": optimizer.state_dict(), "step": 5}, checkpoint_id=tmp_path / "ck")
    files = {path.name: path for path in (tmp_path / "ck").iterdir()}
    assert {name: safeload.scan(path, lock=False).format for name, path in files.items()} == {
        ".metadata": "dcp-metadata",
        "__0_0.distcp": "dcp-shard",
    }
    for path in files.values():
        assert safeload.scan(path, lock=False).decision.outcome is Outcome.ALLOWED
        with pytest.raises(UnsupportedError):
            safeload.load(path, lock=False)
    names = {one.name: one.shape for one in inspect(files[".metadata"], lock=False).tensors}
    assert names["model.weight"] == (2, 3)


@pytest.mark.torch
def test_torch_reads_items_where_the_metadata_says() -> None:
    """The forged items are those that torch takes."""
    import torch

    data = checkpoint_item() + checkpoint_item(b"\x80\x02]K\x01a.")
    start = len(checkpoint_item())
    assert torch.load(io.BytesIO(data[start:]), weights_only=True) == [1]


@pytest.mark.torch
def test_torch_reads_its_own_through_safeload(tmp_path: Path) -> None:
    """It hands torch.load the part of a file in which one tensor lies, and others lie behind it."""
    torch = pytest.importorskip("torch")
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    saved = {"a": torch.arange(6.0), "b": torch.ones(2, 3), "step": 3}
    loaded = {"a": torch.zeros(6), "b": torch.zeros(2, 3), "step": 0}
    with warnings.catch_warnings(), safeload.installed(policy={"unpinned": "allow"}, lock=False):
        warnings.simplefilter("ignore")
        dcp.save(saved, checkpoint_id=tmp_path / "dcp")
        dcp.load(loaded, checkpoint_id=tmp_path / "dcp")
    assert torch.equal(loaded["a"], saved["a"])
    assert torch.equal(loaded["b"], saved["b"])
    assert loaded["step"] == 3
