"""A checkpoint in several files is one: loaded, opened, scanned, inspected, pinned and converted by its index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import safeload  # noqa: E402
from safeload.conversion import convert  # noqa: E402
from safeload.errors import MalformedError, PinError, RefusedError, UnsupportedError, UsageError  # noqa: E402
from safeload.findings import Outcome  # noqa: E402
from tests import forge  # noqa: E402
from tests.compare import assert_same  # noqa: E402

pytestmark = pytest.mark.torch

HOSTILE = forge.stream(
    forge.PROTO(4), forge.TEXT("os"), forge.TEXT("system"), forge.STACK_GLOBAL, forge.TEXT("true"), forge.TUPLE1, forge.REDUCE, forge.STOP
)  # fmt: skip


def weights() -> dict[str, Any]:
    torch.manual_seed(3)
    return {f"layer.{number}.weight": torch.randn(4, 5) for number in range(6)}


def index(directory: Path, table: dict[str, str], stem: str = "pytorch_model.bin") -> Path:
    """Write an index as transformers does."""
    path = directory / f"{stem}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 480}, "weight_map": table}, indent=2) + "\n")
    return path


def pickled(directory: Path, state: dict[str, Any] | None = None) -> Path:
    """Two pickled files and their index."""
    state = state or weights()
    names = list(state)
    table = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        name = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({key: state[key] for key in part}, directory / name)
        table.update(dict.fromkeys(part, name))
    return index(directory, table)


def plain(directory: Path) -> Path:
    """Two safetensors files of somebody else, and their index."""
    from safetensors.torch import save_file

    state = weights()
    names = list(state)
    table = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        name = f"model-{number:05d}-of-00002.safetensors"
        save_file({key: state[key] for key in part}, directory / name, {"format": "pt", "part": str(number)})
        table.update(dict.fromkeys(part, name))
    return index(directory, table, "model.safetensors")


def tied() -> dict[str, Any]:
    """A state dict with everything that a cut must not lose."""
    state: dict[str, Any] = dict(weights())
    state["tied"] = state["layer.0.weight"]
    state["view"] = state["layer.5.weight"].t()[1:]
    state["step"] = 7
    state["more"] = {"list": [torch.arange(3), None], "scale": 0.1}
    return state


def converted(directory: Path) -> Path:
    """What `safeload convert --max-shard-size` writes."""
    torch.save(tied(), directory / "model.pt")
    assert len(convert(directory / "model.pt", max_shard_size=200).files) > 4
    return directory / "model.safetensors.index.json"


@pytest.mark.parametrize("make", [pickled, plain])
@pytest.mark.parametrize("mmap", [False, True])
def test_files_of_others_become_one_dict(make: Any, tmp_path: Path, *, mmap: bool) -> None:
    found = safeload.load(make(tmp_path), lock=False, mmap=mmap)
    assert_same(found, weights())
    assert_same(safeload.state_dict(make(tmp_path), lock=False), weights())


@pytest.mark.parametrize("mmap", [False, True])
def test_the_output_of_a_conversion_is_the_object_that_was_converted(tmp_path: Path, *, mmap: bool) -> None:
    found = safeload.load(converted(tmp_path), lock=False, mmap=mmap)
    assert_same(found, torch.load(tmp_path / "model.pt"))


@pytest.mark.parametrize("make", [pickled, plain])
def test_tensors_of_all_files_can_be_opened_one_by_one(make: Any, tmp_path: Path) -> None:
    with safeload.open(make(tmp_path), lock=False) as file:
        assert file.keys() == list(weights())
        for name, tensor in weights().items():
            assert_same(file.get_tensor(name), tensor)
        assert_same(file.get_slice("layer.4.weight")[1:3], weights()["layer.4.weight"][1:3].clone())
        assert "part" not in file.metadata()
        with pytest.raises(UsageError, match="no tensor is named"):
            file.get_tensor("layer.9.weight")


@pytest.mark.parametrize("make", [pickled, plain, converted])
def test_an_index_is_scanned_and_inspected_with_its_files(make: Any, tmp_path: Path) -> None:
    path = make(tmp_path)
    report = safeload.scan(path, lock=False)
    assert (report.format, report.error, report.decision.outcome) == ("index", None, Outcome.ALLOWED)
    assert ("torch._utils._rebuild_tensor_v2" in report.globals) is (make is pickled)
    found = safeload.inspect(path, lock=False)
    assert set(json.loads(path.read_text())["weight_map"]) == {one.name for one in found.tensors}


def test_a_hostile_file_among_several_refuses_all(tmp_path: Path) -> None:
    path = pickled(tmp_path)
    (tmp_path / "pytorch_model-00002-of-00002.bin").write_bytes(HOSTILE)
    with pytest.raises(RefusedError, match=r"os\.system"):
        safeload.load(path, lock=False)
    report = safeload.scan(path, lock=False)
    assert report.decision.outcome is Outcome.REFUSED
    assert [found.member for found in report.findings if found.rule == "SL101"] == ["pytorch_model-00002-of-00002.bin"]
    assert report.decision.reasons[0].startswith("pytorch_model-00002-of-00002.bin: ")


def test_an_index_and_its_files_must_say_the_same(tmp_path: Path) -> None:
    path = pickled(tmp_path)
    table = json.loads(path.read_text())["weight_map"]
    first = next(iter(table))
    for wrong in ({**table, first: "pytorch_model-00002-of-00002.bin"}, {**table, "more": table[first]}, dict(list(table.items())[1:])):
        index(tmp_path, wrong)
        with pytest.raises(MalformedError, match="the index"):
            safeload.load(path, lock=False)
        with pytest.raises(MalformedError, match="the index"), safeload.open(path, lock=False):
            pass


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = pickled(tmp_path)
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(FileNotFoundError):
        safeload.load(path, lock=False)
    report = safeload.scan(path, lock=False)
    assert report.decision.outcome is Outcome.ERROR
    assert "pytorch_model-00002-of-00002.bin" in (report.error or "")


@pytest.mark.parametrize("name", ["model.bin.index.json", "odd.bin"])
def test_an_index_of_itself_ends(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(json.dumps({"weight_map": {"w": name}}))
    for ask in (safeload.load, safeload.inspect, lambda f, lock: safeload.open(f, lock=lock).__enter__()):
        with pytest.raises(MalformedError, match="an index, named as one"):
            ask(path, lock=False)
    assert safeload.scan(path, lock=False).decision.outcome is Outcome.ERROR


@pytest.mark.parametrize(
    "text",
    ['{"weight_map": {"w": "../x.bin"}}', '{"weight_map": {"w": ".hidden"}}', '{"weight_map": {"w": "a", "w": "b"}}',
     '{"weight_map": {"w": "a"}, "weight_map": {}}', '{"weight_map": {"w": 3}}', '{"weight_map": ' + "[" * 50_000],
)  # fmt: skip
def test_an_index_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.bin.index.json"
    path.write_text(text)
    with pytest.raises(MalformedError):
        safeload.load(path, lock=False)
    assert safeload.scan(path, lock=False).decision.outcome is not Outcome.ALLOWED


def test_an_index_that_has_no_path_has_no_files(tmp_path: Path) -> None:
    with pickled(tmp_path).open("rb") as file, pytest.raises(UnsupportedError, match="pass its path"):
        safeload.load(file, lock=False)


@pytest.mark.parametrize("make", [pickled, plain, converted])
def test_every_file_is_covered_by_its_own_pin(make: Any, tmp_path: Path) -> None:
    """Naming the index pins all; then one changed bit anywhere refuses all of it."""
    path, lock = make(tmp_path), tmp_path / "safeload.lock"
    assert safeload.lock(path, lock=lock).outcome is Outcome.ALLOWED
    before = safeload.load(path, lock=lock)
    files = sorted({path, *(tmp_path / name for name in json.loads(path.read_text())["weight_map"].values())})
    for file in files:
        data = file.read_bytes()
        at = data.rindex(b"0") if file == path else len(data) - 1 if file.suffix == ".safetensors" else data.index(b"data/0") + 70
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(PinError):
            safeload.load(path, lock=lock)
        file.write_bytes(data)
    assert_same(safeload.load(path, lock=lock), before)


def test_a_model_in_several_files_loads_by_its_name(tmp_path: Path) -> None:
    lock = tmp_path / "safeload.lock"
    safeload.lock(pickled(tmp_path), lock=lock, name="acme/model")
    assert_same(safeload.load("acme/model", lock=lock), weights())
    torch.save(weights(), tmp_path / "other.bin")
    safeload.lock(tmp_path / "other.bin", lock=lock, name="acme/model")
    with pytest.raises(UsageError, match="4 weights files"):
        safeload.load("acme/model", lock=lock)


def test_an_index_that_nobody_pinned_is_refused_where_pins_are_demanded(tmp_path: Path) -> None:
    """It says which files belong together, so it is a file like the others."""
    path, lock = pickled(tmp_path), tmp_path / "safeload.lock"
    safeload.lock(*tmp_path.glob("*.bin"), lock=lock)
    with pytest.raises(RefusedError, match="no pin covers"):
        safeload.load(path, lock=lock)
    assert_same(safeload.load(path, lock=lock, policy={"unpinned": "allow"}), weights())


def test_locking_a_directory_pins_its_index(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    path, lock = pickled(folder), tmp_path / "safeload.lock"
    (folder / "config.json").write_text("{}")
    assert safeload.lock(folder, lock=lock).outcome is Outcome.ALLOWED
    assert_same(safeload.load(path, lock=lock), weights())
    assert_same(safeload.load("m", lock=lock), weights())
