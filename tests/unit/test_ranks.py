"""Several processes load one file together: all of them have it, or none."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing

import safeload
from safeload.build.ranks import Ranks
from safeload.one_pass import Range, Share, run
from safeload.trust.digest import LEAF_BYTES

dist: Any = torch.distributed
processes: Any = torch.multiprocessing

if not dist.is_available():
    pytest.skip("this torch has no process groups", allow_module_level=True)

WORLD = 3
LEAVES = 7


def checkpoint(place: Path) -> Path:
    """A file of some leaves, pinned, and one copy of both for each process."""
    place.mkdir()
    path = place / "m.pt"
    values = torch.arange((LEAVES * LEAF_BYTES - (1 << 20)) // 8, dtype=torch.int64)
    torch.save({"big": values, "small": torch.arange(7.0)}, path)
    safeload.lock(path, lock=place / "safeload.lock")
    return path


def own(place: Path, rank: int) -> Path:
    """A copy that only this process loads."""
    there = place.parent / f"{place.name}-{rank}"
    if not there.exists():
        shutil.copytree(place, there)
    return there


def changed(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


# ---- what each process does; every function is called in all of them at once


def fine(place: Path, rank: int, group: Any) -> Any:
    value = safeload.load(place / "m.pt", lock=place / "safeload.lock", group=group)
    assert torch.equal(value["big"], torch.arange(len(value["big"])))
    return value["small"].tolist()


def mapped(place: Path, rank: int, group: Any) -> Any:
    value = safeload.load(place / "m.pt", lock=place / "safeload.lock", group=group, mmap=True)
    assert torch.equal(value["big"], torch.arange(len(value["big"])))
    return value["small"].tolist()


def from_bytes(place: Path, rank: int, group: Any) -> Any:
    """No pin is known by name: every process hashes for itself, and they wait for each other."""
    with (place / "m.pt").open("rb") as file:
        return safeload.load(file, lock=place / "safeload.lock", group=group)["small"].tolist()


def no_lock(place: Path, rank: int, group: Any) -> Any:
    return safeload.load(place / "m.pt", lock=False, policy={"unpinned": "allow"}, group=group)["small"].tolist()


def remembered(place: Path, rank: int, group: Any) -> Any:
    """One process has verified it before, the others have not."""
    here = own(place, rank)
    old = 1_500_000_000
    for path in here.iterdir():
        os.utime(path, (old, old))
    os.environ["SAFELOAD_CACHE"] = str(place.parent / f"cache-{rank}")
    policy = {"verify": "cached"}
    if rank == 1:
        safeload.load(here / "m.pt", lock=here / "safeload.lock", policy=policy)
    first = safeload.load(here / "m.pt", lock=here / "safeload.lock", policy=policy, group=group)
    again = safeload.load(here / "m.pt", lock=here / "safeload.lock", policy=policy, group=group)
    return [first["small"].tolist(), again["small"].tolist()]


def all_changed(place: Path, rank: int, group: Any) -> Any:
    return safeload.load(place.parent / "bad" / "m.pt", lock=place.parent / "bad" / "safeload.lock", group=group)


def one_changed_in(leaf: int, which: int) -> Callable[[Path, int, Any], Any]:
    def work(place: Path, rank: int, group: Any) -> Any:
        here = own(place, rank)
        if rank == which:
            changed(here / "m.pt", leaf * LEAF_BYTES + (1 << 20))
        try:
            return safeload.load(here / "m.pt", lock=here / "safeload.lock", group=group)
        finally:
            if rank == which:
                changed(here / "m.pt", leaf * LEAF_BYTES + (1 << 20))

    return work


def one_has_no_file(place: Path, rank: int, group: Any) -> Any:
    path = place / ("m.pt" if rank != 2 else "absent.pt")
    return safeload.load(path, lock=place / "safeload.lock", group=group)


def one_has_another_policy(place: Path, rank: int, group: Any) -> Any:
    policy = {"signature": "require"} if rank == 0 else None
    return safeload.load(place / "m.pt", lock=place / "safeload.lock", policy=policy, group=group)


def one_has_no_pin(place: Path, rank: int, group: Any) -> Any:
    if rank == 1:
        return safeload.load(place / "m.pt", lock=False, policy={"unpinned": "allow"}, group=group)
    return safeload.load(place / "m.pt", lock=place / "safeload.lock", group=group)


def one_fails_at_the_end(place: Path, rank: int, group: Any) -> Any:
    """Its own callable raises, when all digests are right."""

    def location(storage: Any, tag: str) -> Any:
        if rank == 1:
            raise KeyError(tag)
        return storage

    return safeload.load(place / "m.pt", lock=place / "safeload.lock", group=group, map_location=location)


def one_loads_twice(place: Path, rank: int, group: Any) -> Any:
    """The calls are out of step: what one says at the start of its second load, the others take as the end of their first."""
    if rank == 0:
        return Ranks(group).settle()
    return safeload.load(place / "m.pt", lock=place / "safeload.lock", group=group)


def several_files(place: Path, rank: int, group: Any) -> Any:
    index = place.parent / "several" / "pytorch_model.bin.index.json"
    return {name: value.tolist() for name, value in safeload.load(index, lock=index.parent / "safeload.lock", group=group).items()}


def hidden_classes(place: Path, rank: int, group: Any) -> Any:
    return safeload.load(place.parent / "hostile" / "m.pt", lock=False, policy={"unpinned": "allow"}, group=group)


def part_of_the_group(place: Path, rank: int, group: Any) -> Any:
    some = dist.new_group([0, 2])
    return safeload.load(place / "m.pt", lock=place / "safeload.lock", group=some)["small"].tolist()


def no_group(place: Path, rank: int, group: Any) -> Any:
    return safeload.load(place / "m.pt", lock=place / "safeload.lock", group="world")


SCENES: dict[str, Callable[[Path, int, Any], Any]] = {
    "fine": fine, "mapped": mapped, "from bytes": from_bytes, "no lock": no_lock, "remembered": remembered, "all changed": all_changed,
    "hashed by others": one_changed_in(LEAVES - 2, 0), "hashed by itself": one_changed_in(0, 0),
    "no file": one_has_no_file, "policy": one_has_another_policy, "no pin": one_has_no_pin, "at the end": one_fails_at_the_end,
    "out of step": one_loads_twice, "several": several_files, "hostile": hidden_classes, "part": part_of_the_group, "no group": no_group,
    "fine again": fine,
}  # fmt: skip


def play(rank: int, place: Path) -> None:
    """Every scene in one process of the group; what came of it goes into a file."""
    os.environ["SAFELOAD_CACHE"] = str(place / f"cache-{rank}")
    store = dist.FileStore(str(place / "store"), WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=120))
    said = {}
    for name, work in SCENES.items():
        try:
            said[name] = {"value": work(place / "model", rank, dist.group.WORLD)}
        except Exception as error:  # noqa: BLE001 — whatever it is goes into the file
            said[name] = {"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()}
        dist.barrier()
    (place / f"said-{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


class Reduced:
    def __reduce__(self) -> Any:
        return os.getcwd, ()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    place = tmp_path_factory.mktemp("ranks")
    path = checkpoint(place / "model")
    shutil.copytree(path.parent, place / "bad")
    changed(place / "bad" / "m.pt", 2 * LEAF_BYTES)
    (place / "hostile").mkdir()
    torch.save({"w": torch.ones(2), "x": Reduced()}, place / "hostile" / "m.pt")
    several = place / "several"
    several.mkdir()
    names = {}
    for number in (1, 2):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({f"w{number}": torch.full((3,), float(number))}, several / file)
        names[f"w{number}"] = file
    (several / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": names}))
    safeload.lock(several, lock=several / "safeload.lock")
    processes.spawn(play, (place,), nprocs=WORLD)
    return [json.loads((place / f"said-{rank}.json").read_text()) for rank in range(WORLD)]


SMALL = [float(value) for value in range(7)]


@pytest.mark.parametrize(
    ("scene", "value"),
    [("fine", SMALL), ("mapped", SMALL), ("from bytes", SMALL), ("no lock", SMALL), ("remembered", [SMALL, SMALL]),
     ("several", {"w1": [1.0] * 3, "w2": [2.0] * 3}), ("fine again", SMALL)],
)  # fmt: skip
def test_all_have_it(played: list[dict[str, Any]], scene: str, value: Any) -> None:
    """Copied, mapped, found by digest, without a pin, verified before by one of them, as one of several files; and after failures."""
    assert [said[scene] for said in played] == [{"value": value}] * WORLD


@pytest.mark.parametrize(
    ("scene", "kinds", "words"),
    [
        ("all changed", ["PinError"] * 3, "the bytes are not the pinned bytes"),
        # What counts: the process that holds other bytes did not hash them, and the one that did has the right ones.
        ("hashed by others", ["PinError"] * 3, f"process 1 of the group read other bytes than process 0 in leaf {LEAVES - 2} of {LEAVES}"),
        ("hashed by itself", ["PinError"] * 3, f"process 1 of the group read other bytes than process 0 in leaf 0 of {LEAVES}"),
        ("no file", ["GroupError", "GroupError", "FileNotFoundError"], "process 2 of the group did not load it: FileNotFoundError"),
        ("policy", ["SignatureError"] * 3, "process 0 of the group did not load it"),
        ("no pin", ["PinError"] * 3, "of the group loads another file"),
        ("at the end", ["GroupError", "KeyError", "GroupError"], "process 1 of the group did not load it: KeyError"),
        ("hostile", ["RefusedError"] * 3, "posix.getcwd"),
        ("no group", ["ArgumentError"] * 3, "group is a str, not a torch.distributed process group"),
    ],
)
def test_none_has_it(played: list[dict[str, Any]], scene: str, kinds: list[str], words: str) -> None:
    """Each ends with the reason, and none waits for one that is gone."""
    assert [said[scene].get("error") for said in played] == kinds, [said[scene] for said in played]
    assert any(words in said[scene]["text"] for said in played), [said[scene]["text"] for said in played]


def test_calls_out_of_step(played: list[dict[str, Any]]) -> None:
    """Nobody is given a value when the processes do not do the same, and nobody waits."""
    for said in played:
        assert said["out of step"]["error"] == "GroupError"
        assert "not at the same point" in said["out of step"]["text"]


def test_only_members_may_load(played: list[dict[str, Any]]) -> None:
    """A group of two of three."""
    assert played[0]["part"] == played[2]["part"] == {"value": SMALL}
    assert played[1]["part"]["error"] == "UsageError"


# ---- one of them dies


def die(rank: int, place: Path) -> None:
    store = dist.FileStore(str(place / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    if rank == 1:
        store.wait(["connected"])  # to go before the other has its connections would end its start, not its load
        os._exit(0)
    store.set("connected", "yes")
    try:
        safeload.load(place / "model" / "m.pt", lock=place / "model" / "safeload.lock", group=dist.group.WORLD)
    except safeload.GroupError as error:
        (place / "said").write_text(str(error))
    os._exit(0)  # a group that has lost a member cannot be taken down in an orderly way


def test_one_is_lost(tmp_path: Path) -> None:
    """An error of safeload's own, not one of the network below."""
    checkpoint(tmp_path / "model")
    processes.spawn(die, (tmp_path,), nprocs=2)
    assert "a process of the group is lost" in (tmp_path / "said").read_text()


# ---- a share


def test_a_share_is_all_that_is_hashed() -> None:
    """Digests of the share alone, fingerprints of everything; both as a process with all the work would have them."""
    data = bytes(range(256)) * 64
    leaf = 1024
    view = memoryview(bytearray(data))
    count = len(data) // leaf

    def fetch(offset: int, into: memoryview, keep: bool) -> None:
        into[:] = data[offset : offset + len(into)]

    key = safeload_key()
    everything = run([Range(0, view)], len(data), fetch, leaf=leaf)
    seen = []
    for first, last in ((0, 5), (5, count), (3, 3), (0, count)):
        share = Share(first, last, key)
        # A part is in memory, a part is to be read, and there is a gap between them.
        ranges = [Range(0, view[:1500]), Range(3000, memoryview(bytearray(2000)), fresh=True)]
        assert run(ranges, len(data), fetch, leaf=leaf, share=share) == everything[first:last]
        assert sorted(share.fingerprints) == list(range(count))
        assert ranges[1].view == data[3000:5000]
        seen.append(share.fingerprints)
    assert all(found == seen[0] for found in seen)


def safeload_key() -> bytes:
    from safeload.hashing.fingerprint import key_of

    return key_of(bytes(32))
