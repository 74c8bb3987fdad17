"""`safeload.open`: one tensor at a time out of everything that `safeload.state_dict` reads, under the same names."""

from __future__ import annotations

import io
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import MalformedError, PinError, UnsupportedError, UsageError
from tests.watch import nothing_runs

torch = pytest.importorskip("torch")
from tests.forge_build import checkpoint, saved, torch_zip  # noqa: E402
from tests.forge_modules import MODULES, module_file  # noqa: E402
from tests.matrix import tensors  # noqa: E402

nn = torch.nn
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")]
OPEN = {"unpinned": "allow"}
KINDS: dict[str, Callable[[], Any]] = {row.name: row.make for row in tensors.ROWS}


def read(f: Any, **options: Any) -> dict[str, Any]:
    """Every tensor of a file, one after the other."""
    with safeload.open(f, **{"policy": OPEN, "lock": False, **options}) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — a LazyFile is no mapping


def bits(tensor: Any) -> Any:
    """The bytes of a dense tensor's elements: what `open` gives is never a Parameter, and lies in memory of its own."""
    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """What safeload imports late is imported before anybody watches for imports."""
    for zipped in (True, False):
        read(module_file(nn.Linear(1, 1), _use_new_zipfile_serialization=zipped))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", MODULES)
def test_a_pickled_module_opens_under_the_names_of_its_state_dict(name: str, zipped: bool) -> None:
    """No class is imported, no tensor read that nobody asked for."""
    module = MODULES[name]()
    file = module_file(module, _use_new_zipfile_serialization=zipped)
    with nothing_runs():
        found = read(file)
    wanted = module.state_dict()
    assert list(found) == list(wanted)
    for key, tensor in wanted.items():
        assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[key], tensor)


def test_a_training_run_with_a_module_in_it() -> None:
    """As `safeload.state_dict`: the averaged model's weights; the keys that lead anywhere are understood, too."""
    model, ema = nn.Linear(2, 3), nn.Linear(2, 3)
    file = {"epoch": 3, "model": model, "ema": ema, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}
    with safeload.open(module_file(file), policy=OPEN, lock=False) as opened:
        assert opened.keys() == ["weight", "bias"]
        assert torch.equal(opened.get_tensor("weight"), ema.weight)
        assert torch.equal(opened.get_tensor("model.weight"), model.weight)
        assert torch.equal(opened.get_tensor("optimizer.state.0.exp_avg"), torch.ones(3))


def test_options_beside_the_weights() -> None:
    """A class that is not modelled, anywhere in the file, once refused all of it."""
    weights = nn.Linear(2, 3).state_dict()
    with safeload.open(module_file({"state_dict": weights, "args": Namespace(lr=1)}), policy=OPEN, lock=False) as opened:
        assert opened.keys() == ["weight", "bias"]
        assert torch.equal(opened.get_slice("weight")[1:], weights["weight"][1:])


def test_plain_data_go_by_the_keys_that_lead_there() -> None:
    """Nothing is left out; the names of the state dict are understood, too."""
    weights = nn.Linear(2, 3).state_dict()
    with safeload.open(module_file({"model": weights, "optimizer": {"m": torch.ones(2)}}), policy=OPEN, lock=False) as opened:
        assert opened.keys() == ["model.weight", "model.bias", "optimizer.m"]
        assert torch.equal(opened.get_tensor("weight"), weights["weight"])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_tensor_that_a_state_dict_gives(name: str, legacy: bool) -> None:
    """Sparse, nested, jagged, quantised, conjugated, on meta: bits, layout and dtype; of each, only its own storages are read."""
    try:
        raw = saved({"it": KINDS[name]()}, legacy=legacy)
    except Exception:  # noqa: BLE001 - whatever torch cannot save, nobody can open
        return
    try:
        wanted = safeload.state_dict(io.BytesIO(raw), policy=OPEN, lock=False)
    except safeload.SafeloadError:
        return
    found = read(io.BytesIO(raw))
    assert list(found) == list(wanted)
    for key, tensor in wanted.items():
        assert found[key].layout == tensor.layout
        if tensor.device.type == "meta":
            assert (found[key].shape, found[key].dtype, found[key].device) == (tensor.shape, tensor.dtype, tensor.device)
        elif tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized:
            assert (found[key].shape, found[key].dtype) == (tensor.shape, tensor.dtype)
            assert torch.equal(bits(found[key]), bits(tensor))
        elif tensor.is_nested:
            assert all(torch.equal(one, two) for one, two in zip(found[key].unbind(), tensor.unbind(), strict=True))
        elif tensor.is_quantized:
            assert torch.equal(found[key].int_repr(), tensor.int_repr())
            assert found[key].qscheme() == tensor.qscheme()
        else:
            assert torch.equal(found[key].to_dense(), tensor.to_dense())


def deflated() -> bytes:
    stream, storages = checkpoint(saved({"a": torch.arange(1000.0), "b": torch.ones(4)}))
    return torch_zip(stream, storages, method=zipfile.ZIP_DEFLATED)


def test_a_compressed_archive_is_unpacked_tensor_by_tensor() -> None:
    found = read(io.BytesIO(deflated()))
    assert torch.equal(found["a"], torch.arange(1000.0))
    with safeload.open(io.BytesIO(deflated()), policy=OPEN, lock=False) as file:
        assert torch.equal(file.get_slice("a")[3:5], torch.tensor([3.0, 4.0]))


def test_a_compressed_archive_that_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared is what lies in the file: the packed bytes."""
    monkeypatch.chdir(tmp_path)
    Path("m.pt").write_bytes(deflated())
    safeload.lock("m.pt")
    assert torch.equal(read("m.pt", lock=None)["b"], torch.ones(4))
    raw = bytearray(Path("m.pt").read_bytes())
    raw[raw.index(b"a/data/0") + 20] ^= 1
    Path("m.pt").write_bytes(raw)
    with pytest.raises((PinError, MalformedError)):
        read("m.pt", lock=None)


def test_numbers_of_the_other_byte_order() -> None:
    value = {"a": torch.arange(4.0), "c": torch.arange(4.0) * 1j, "q": torch.quantize_per_tensor(torch.arange(4.0), 0.5, 3, torch.qint32)}
    stream, storages = checkpoint(saved(value))
    turned = {key: numbers.tobytes() for key, numbers in zip("012", (
        value["a"].numpy().astype(">f4"), value["c"].numpy().astype(">c8"), value["q"].int_repr().numpy().astype(">i4"),
    ), strict=True)}  # fmt: skip
    assert set(turned) == set(storages)
    found = read(io.BytesIO(torch_zip(stream, turned, byteorder="big")))
    assert torch.equal(found["a"], value["a"])
    assert torch.equal(found["c"], value["c"])
    assert torch.equal(found["q"].int_repr(), value["q"].int_repr())


@pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated:DeprecationWarning")
def test_a_torchscript_archive_opens_under_the_names_of_its_state_dict() -> None:
    buffer = io.BytesIO()
    module = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    torch.jit.save(module, buffer)
    found = read(io.BytesIO(buffer.getvalue()))
    assert list(found) == list(module.state_dict())


def test_indices_that_point_outside_are_refused_when_they_are_read() -> None:
    """A sparse tensor is checked like in a load; another tensor of the same file still comes."""
    raw = saved({"sparse": torch.eye(3).to_sparse(), "dense": torch.ones(2)})
    stream, storages = checkpoint(raw)
    at = next(key for key, data in storages.items() if len(data) == 48)
    storages[at] = torch.tensor([[0, 1, 9], [0, 1, 2]]).numpy().tobytes()
    with safeload.open(io.BytesIO(torch_zip(stream, storages)), policy=OPEN, lock=False) as file:
        assert torch.equal(file.get_tensor("dense"), torch.ones(2))
        with pytest.raises(MalformedError, match="outside"):
            file.get_tensor("sparse")


def test_only_dense_tensors_have_slices() -> None:
    with safeload.open(io.BytesIO(saved({"s": torch.eye(3).to_sparse()})), policy=OPEN, lock=False) as file:
        with pytest.raises(UnsupportedError, match="only a dense tensor has slices"):
            file.get_slice("s")
        with pytest.raises(UsageError, match="no tensor is named 'x'"):
            file.get_tensor("x")


def test_two_tensors_of_one_name_are_an_error() -> None:
    with pytest.raises(UsageError, match=r"two tensors are named 'a\.b'"):
        read(module_file({"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1)}))


def test_a_file_without_tensors_says_so() -> None:
    with pytest.raises(UnsupportedError, match="no tensor is in the file"):
        read(module_file({"args": Namespace()}))
