"""On a machine with a GPU: what was saved on it comes back to it, or to wherever `map_location` says, as torch does it.

The device is asked for by torch's own registry, so all that is checked here is that it is asked rightly.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import SafeloadError

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
from tests.compare import assert_same  # noqa: E402

pytestmark = pytest.mark.torch
OPEN = {"unpinned": "allow"}


def table() -> Any:
    return torch.arange(12.0, device="cuda").reshape(3, 4)


def _trained() -> Any:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    model(table()).sum().backward()
    optimizer.step()
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": torch.amp.GradScaler("cuda").state_dict()}
    return {**states, "rng": torch.cuda.get_rng_state()}


def _tied() -> Any:
    weight = torch.nn.Parameter(table())
    return {"a": weight, "b": weight, "row": weight.data[1], "turned": weight.data.t(), "here": torch.ones(2)}


VALUES: dict[str, Callable[[], Any]] = {
    "tensor": table,
    "tied": _tied,
    "empty": lambda: torch.empty(0, 3, device="cuda"),
    "bfloat16": lambda: table().bfloat16(),
    "float8": lambda: table().to(torch.float8_e4m3fn),
    "uint16": lambda: table().to(torch.uint16),
    "conjugated": lambda: torch.conj(table() * 1j),
    "sparse": lambda: table().to_sparse(),
    "csr": lambda: table().to_sparse_csr(),
    "with attributes": lambda: _noted(table()),
    "storage": lambda: [table().untyped_storage(), table().storage()],
    "training run": _trained,
    "device": lambda: [torch.device("cuda", 0), table()],
}
PLACES: dict[str, Any] = {
    "none": None, "cpu": "cpu", "cuda": "cuda", "cuda:0": "cuda:0", "a device": torch.device("cuda", 0), "to the CPU": {"cuda:0": "cpu"},
    "to the GPU": {"cpu": "cuda:0"}, "function": lambda storage, tag: storage.cuda(), "nothing": lambda storage, tag: None, "meta": "meta",
}  # fmt: skip


def _noted(tensor: Any) -> Any:
    tensor.note = {"a": [1, None]}
    return tensor


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("mapped", [False, True], ids=["copied", "mapped"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", VALUES)
def test_devices_are_those_of_torch(name: str, place: str, mapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(VALUES[name](), path)
    try:
        theirs = torch.load(path, PLACES[place], weights_only=True, mmap=mapped)
    except Exception as error:  # noqa: BLE001 - whatever torch raises
        kind: type[Exception] = SafeloadError if not isinstance(error, RuntimeError) else RuntimeError
        with pytest.raises(kind):
            safeload.load(path, PLACES[place], mmap=mapped, policy=OPEN, lock=False)
        return
    assert_same(safeload.load(path, PLACES[place], mmap=mapped, policy=OPEN, lock=False), theirs)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("place", [place for place in PLACES if place != "function"])
@pytest.mark.parametrize("name", [name for name in VALUES if name not in ("float8", "uint16", "storage")])
def test_legacy_streams(name: str, place: str) -> None:
    """The dtypes that torch cannot read from them are left out, and one size.

    Where a storage without memory is named again, torch makes another one there, as small as what looks at it.
    """
    if (name, place) == ("tied", "meta"):
        name = "tensor"
    buffer = io.BytesIO()
    torch.save(VALUES[name](), buffer, _use_new_zipfile_serialization=False)
    raw = buffer.getvalue()
    try:
        theirs = torch.load(io.BytesIO(raw), PLACES[place], weights_only=True)
    except Exception:  # noqa: BLE001 - whatever torch raises
        return
    assert_same(safeload.load(io.BytesIO(raw), PLACES[place], policy=OPEN, lock=False), theirs)


@pytest.mark.parametrize("where", ["cuda:7", torch.device("cuda", 99)], ids=str)
def test_a_device_too_many_says_what_torch_says(where: Any) -> None:
    buffer = io.BytesIO()
    torch.save(table(), buffer)
    with pytest.raises(RuntimeError) as theirs:
        torch.load(io.BytesIO(buffer.getvalue()), where, weights_only=True)
    with pytest.raises(RuntimeError) as ours:
        safeload.load(io.BytesIO(buffer.getvalue()), where, policy=OPEN, lock=False)
    assert str(theirs.value) in str(ours.value)


def test_a_pinned_file_goes_to_the_device_when_it_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(_tied(), "m.pt")
    safeload.lock("m.pt")
    assert_same(safeload.load("m.pt"), torch.load("m.pt", weights_only=True))
    raw = bytearray(Path("m.pt").read_bytes())
    raw[raw.index(torch.arange(12.0).numpy().tobytes())] ^= 1
    Path("m.pt").write_bytes(raw)
    with pytest.raises(safeload.RefusedError):
        safeload.load("m.pt")


def test_one_tensor_at_a_time_comes_to_main_memory(tmp_path: Path) -> None:
    """As from a safetensors file that nobody gave a device."""
    torch.save({"w": table()}, tmp_path / "m.pt")
    with safeload.open(tmp_path / "m.pt", policy=OPEN, lock=False) as file:
        assert torch.equal(file.get_tensor("w"), table().cpu())
    assert safeload.state_dict(tmp_path / "m.pt", "cuda", policy=OPEN, lock=False)["w"].is_cuda


def test_a_random_generator_of_the_device(tmp_path: Path) -> None:
    generator = torch.Generator("cuda").manual_seed(7)
    torch.save(generator, tmp_path / "m.pt")
    found = safeload.load(tmp_path / "m.pt", policy=OPEN, lock=False)
    assert found.device.type == "cuda"
    assert torch.equal(found.get_state(), generator.get_state())
