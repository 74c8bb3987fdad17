"""`safeload.open` on a pinned file: only what is used is hashed, and everything that is used is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import PinError
from safeload.trust.digest import LEAF_BYTES

torch = pytest.importorskip("torch")

NAMES = ["a", "b", "c", "d"]
ELEMENTS = 3 * LEAF_BYTES // 8 + 1000  # 1.5 leaves of float32, and a bit


@pytest.fixture(params=["pt", "safetensors"])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pinned file of several leaves, with its list of leaves in a private cache."""
    monkeypatch.setenv("SAFELOAD_CACHE", str(tmp_path / "cache"))
    path = tmp_path / f"m.{request.param}"
    state = {name: torch.arange(float(ELEMENTS)) + index / 4 for index, name in enumerate(NAMES)}
    if request.param == "pt":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    safeload.lock(path, lock=tmp_path / "safeload.lock")
    with opened(path) as file:
        file.get_tensor("a")
    assert list((tmp_path / "cache" / "leaves").iterdir())
    return path


def opened(path: Path) -> Any:
    """Open it as pinned."""
    return safeload.open(path, lock=path.parent / "safeload.lock")


def flip(path: Path, at: int) -> None:
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 1]))


def test_tensors_and_slices_are_those_of_the_file(model: Path) -> None:
    """With the list from the cache."""
    with opened(model) as file:
        for index, name in enumerate(NAMES):
            want = torch.arange(float(ELEMENTS)) + index / 4
            assert torch.equal(file.get_tensor(name), want)
            assert torch.equal(file.get_slice(name)[1000:2000], want[1000:2000])


def place(model: Path, name: str) -> int:
    """Where a tensor's bytes begin."""
    data = model.read_bytes()
    return data.index((torch.arange(64.0) + NAMES.index(name) / 4).numpy().tobytes())


def test_a_changed_tensor_is_refused_and_another_still_comes(model: Path) -> None:
    """Only the leaves that a tensor touches are looked at."""
    flip(model, place(model, "c") + 5_000_000)
    with opened(model) as file:
        assert torch.equal(file.get_tensor("a"), torch.arange(float(ELEMENTS)))
        with pytest.raises(PinError):
            file.get_tensor("c")


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_what_says_where_a_tensor_lies_is_refused(model: Path, name: str) -> None:
    """Right before a tensor lies its local header, whose lengths place it."""
    flip(model, place(model, name) - 30)
    with pytest.raises((PinError, safeload.MalformedError, safeload.RefusedError)), opened(model) as file:
        file.get_tensor(name)


def test_a_change_of_the_tables_is_refused_at_once(model: Path) -> None:
    """The directory and the stream are believed as soon as the file is open."""
    at = model.stat().st_size - 60 if model.suffix == ".pt" else 20
    flip(model, at)
    with pytest.raises(safeload.SafeloadError), opened(model):
        pass


def test_a_change_while_the_file_is_open_is_seen(model: Path) -> None:
    """No pass over the file stands between the change and the tensor."""
    with opened(model) as file:
        file.get_tensor("a")
        flip(model, place(model, "c") + 5_000_000)
        with pytest.raises(PinError):
            file.get_tensor("c")


def test_a_forged_list_of_leaves_is_not_believed(model: Path) -> None:
    """It must give the pinned root; else the file is hashed."""
    (leaves,) = (model.parent / "cache" / "leaves").iterdir()
    flip(model, place(model, "b") + 5_000_000)
    import hashlib

    data = model.read_bytes()
    leaves.write_bytes(b"".join(hashlib.sha256(data[at : at + LEAF_BYTES]).digest() for at in range(0, len(data), LEAF_BYTES)))
    with pytest.raises(PinError), opened(model):
        pass
