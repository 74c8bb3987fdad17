"""`safeload.state_dict`: what `module.state_dict()` gives, from the pickled module, without its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import safeload
from safeload.errors import LimitError, UsageError
from safeload.tensor_table import flatten
from tests.watch import nothing_runs

torch = pytest.importorskip("torch")
from tests.forge_modules import MODULES, WRITES_MORE, Custom, Extra, Tied, module_file  # noqa: E402

nn = torch.nn
pytestmark = pytest.mark.torch


def read(value: Any, key: str | None = None, **options: Any) -> dict[str, Any]:
    file = module_file(value, **options)
    with nothing_runs():
        return safeload.state_dict(file, key=key, policy={"unpinned": "allow"}, lock=False)


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Names, their order, bits, dtypes, strides, and which tensors share memory."""
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        mine = found[name]
        assert type(mine) is type(tensor), name
        assert (mine.dtype, mine.shape, mine.stride()) == (tensor.dtype, tensor.shape, tensor.stride()), name
        assert mine.requires_grad == tensor.requires_grad, name
        assert torch.equal(mine, tensor), name
    assert _groups(found) == _groups(wanted)


def _groups(tensors: dict[str, Any]) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    return list(groups.values())


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """What safeload imports late is imported before anybody watches for imports."""
    for zipped in (True, False):
        file = module_file(nn.Linear(1, 1), _use_new_zipfile_serialization=zipped)
        safeload.state_dict(file, policy={"unpinned": "allow"}, lock=False)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", MODULES)
def test_a_pickled_module_gives_what_its_state_dict_gives(name: str, zipped: bool) -> None:
    """The names are those that `load_state_dict` of the same class wants."""
    module = MODULES[name]()
    assert_same(read(module, _use_new_zipfile_serialization=zipped), module.state_dict())


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning", "ignore:.*:UserWarning")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", WRITES_MORE)
def test_what_a_class_of_torch_writes_into_its_state_dict(name: str, zipped: bool) -> None:
    """Scales, packed weights, the module in a compiled one: the file of the module gives what the file of its state dict gives."""
    module = WRITES_MORE[name]()
    options: Any = {"policy": {"unpinned": "allow"}, "lock": False}
    whole = module_file(module, _use_new_zipfile_serialization=zipped)
    found, wanted = safeload.state_dict(whole, **options), safeload.state_dict(module_file(module.state_dict()), **options)
    assert list(found) == list(wanted)
    whole.seek(0)
    with safeload.open(whole, **options) as lazily:
        assert lazily.keys() == list(wanted)
        for key, tensor in wanted.items():
            for mine in (found[key], lazily.get_tensor(key)):
                assert (mine.dtype, mine.shape) == (tensor.dtype, tensor.shape), key
                assert torch.equal(mine, tensor), key


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_gives_the_same_names(protocol: int) -> None:
    """Objects are written with other opcodes from protocol 4 on."""
    module = Custom()
    assert_same(read(module, pickle_protocol=protocol), module.state_dict())


def test_extra_state_needs_code_and_is_left_out() -> None:
    """`get_extra_state` is a method of the class; the weights are all there without it."""
    module = nn.Sequential(Extra(2, 2))
    wanted = {name: value for name, value in module.state_dict().items() if not name.endswith("_extra_state")}
    assert_same(read(module), wanted)


def test_a_state_dict_comes_as_it_is() -> None:
    """Order, aliasing and Parameters as in the file."""
    weights = Tied().state_dict()
    assert_same(read(weights), weights)


WRAPPED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "state_dict": lambda weights: {"state_dict": weights, "epoch": 3, "best": torch.tensor(0.5)},
    "lightning": lambda weights: {
        "epoch": 1, "global_step": 10, "pytorch-lightning_version": "2.0", "state_dict": weights, "loops": {"fit": {"n": 1}},
        "callbacks": {"ModelCheckpoint": {"best": torch.tensor(1.0)}}, "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
        "lr_schedulers": [], "hyper_parameters": {"lr": 0.1},
    },
    "model and optimiser": lambda weights: {"model": weights, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}},
    "nested": lambda weights: {"model": {"state_dict": weights, "arch": "x"}},
    "ema": lambda weights: {"model": {"w": torch.zeros(1)}, "ema": weights},
    "ema of timm": lambda weights: {"state_dict_ema": weights, "arch": "x"},
    "data parallel style": lambda weights: {"net": weights, "acc": 97.5, "optim": {"m": torch.ones(1)}},
    "network": lambda weights: {"network": weights},
    "parts": lambda weights: {**weights, "optimizer": {"m": torch.ones(3)}},
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_the_usual_wrappers_are_looked_through(name: str) -> None:
    """Names are those below the wrapper; what belongs to the training is left out."""
    weights = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    assert_same(read(WRAPPED[name](weights)), dict(weights))


def test_the_averaged_model_of_a_training_run_is_preferred() -> None:
    """A YOLO checkpoint holds whole modules; the averaged one is the one meant for use, unless there is none."""
    model, ema = nn.Linear(2, 3), nn.Linear(2, 3)
    assert_same(read({"epoch": 1, "model": model, "ema": ema, "train_args": {}}), ema.state_dict())
    assert_same(read({"epoch": -1, "model": model.half(), "ema": None, "optimizer": None}), model.state_dict())


def test_parts_of_a_model_stay_apart() -> None:
    """Neither half of a pair is taken for the whole."""
    value = {"generator": nn.Linear(1, 2).state_dict(), "discriminator": nn.Linear(2, 1).state_dict(), "optim_g": {"m": torch.ones(1)}}
    assert list(read(value)) == ["generator.weight", "generator.bias", "discriminator.weight", "discriminator.bias"]


def test_a_tensor_that_is_called_weights_is_a_tensor() -> None:
    """A flat state dict may use every name there is."""
    weights = {"weights": torch.ones(2), "model": torch.zeros(2), "ema": torch.ones(1)}
    assert_same(read(weights), weights)


def test_an_optimiser_alone_gives_its_tensors() -> None:
    """Somebody who asks for the tensors of an optimiser's file gets them."""
    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    found = read({"optimizer": optimizer.state_dict()})
    assert "optimizer.state.0.exp_avg" in found


def test_key_leads_anywhere() -> None:
    """Also to what would not be chosen, and through names that hold dots."""
    model, ema = nn.Linear(2, 3), nn.Linear(2, 3)
    file = {"model": model, "ema": {"v1.0": ema}}
    assert_same(read(file, key="model"), model.state_dict())
    assert_same(read(file, key="ema.v1.0"), ema.state_dict())


def test_a_key_that_leads_nowhere_says_what_there_is() -> None:
    """So that the second try is the right one."""
    with pytest.raises(UsageError, match="there is no 'modle'") as caught:
        read({"model": {"w": torch.ones(1)}, "epoch": 3}, key="modle")
    assert "model, epoch" in caught.value.hint


def test_two_tensors_of_one_name_are_not_one() -> None:
    """A flat name may collide with a nested one; neither is dropped in silence."""
    with pytest.raises(UsageError, match=r"two tensors are named 'a\.b'"):
        read({"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}})


def test_a_file_without_tensors_says_so() -> None:
    """Better than an empty dict that fails somewhere else."""
    with pytest.raises(UsageError, match="no tensor is in the file"):
        read({"epoch": 3})


def test_a_granted_class_is_not_made() -> None:
    """Policy may let `load` build the class; `state_dict` has no use for it, and runs nothing of it."""
    module = nn.Linear(2, 3)
    policy = {"unpinned": "allow", "allow-globals": ["torch.nn.modules.linear.Linear"]}
    assert_same(safeload.state_dict(module_file(module), policy=policy, lock=False), module.state_dict())


def test_a_module_that_holds_itself_ends() -> None:
    """Reference cycles are ordinary in modules (a child that knows its parent)."""
    module = nn.Linear(2, 3)
    module.parent = [module]
    weights = {"weight": module.weight.detach(), "bias": module.bias.detach()}
    assert_same(read(module), weights)


def test_lists_that_double_are_no_way_to_hang() -> None:
    """Thirty lists of each other twice lead to nothing a billion times."""
    value: Any = [0]
    for _ in range(30):
        value = [value, value]
    assert list(read({"deep": value, "w": torch.ones(1)})) == ["w"]


@pytest.mark.parametrize("key", ["k", "k" * 1_000_000])
def test_names_without_end_are_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few shared containers stand for a billion tensors; a shared key of a megabyte makes names of gigabytes."""
    monkeypatch.setattr("safeload.tensor_table._MOST_STEPS", 20_000)
    value: Any = {key: torch.ones(1)}
    for _ in range(30 if len(key) == 1 else 300):
        value = {key: value, "l": value} if len(key) == 1 else {key: value, "w": torch.ones(1)}
    with pytest.raises(LimitError):
        dict(flatten(value, lambda item: isinstance(item, torch.Tensor)))
