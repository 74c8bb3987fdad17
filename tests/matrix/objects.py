"""Rows about torch's other objects: its constants, modules and state dicts, optimisers, schedulers, subclasses, distributed tensors."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch as typed_torch

from tests.matrix.row import Row, kinds, of, with_attributes
from tests.matrix.tensors import DTYPES, row

__all__ = ["ROWS"]

torch: Any = typed_torch  # a table of functions without types


def _itself(value: Any) -> Any:
    return value


def _state_of(make: Callable[[], Any]) -> Any:
    return make().state_dict()


def _constants() -> dict[str, Callable[[], Any]]:
    makers: dict[str, Callable[[], Any]] = {}
    kinds_of = (typed_torch.layout, typed_torch.qscheme, typed_torch.memory_format)
    values = {str(value): value for value in vars(typed_torch).values() if isinstance(value, kinds_of)}
    for name in (*DTYPES, *sorted(values)):
        value = values.get(name)
        found = getattr(torch, name.removeprefix("torch.")) if value is None else value
        makers[name] = partial(_itself, found)
    for text in ("cpu", "cpu:0", "cuda", "cuda:1", "mps", "meta", "xpu:2", "privateuseone"):
        makers[f"device {text}"] = partial(torch.device, text)
    return makers | {
        "Size": lambda: torch.Size([1, 2]),
        "Size, empty": lambda: torch.Size([]),
        "shapes of tensors, shared": lambda: [table.shape for table in [torch.ones(2, 3)] * 2],
        "finfo": lambda: torch.finfo(torch.float16),
        "iinfo": lambda: torch.iinfo(torch.int8),
        "get_rng_state()": torch.get_rng_state,
        "Tensor, the class": lambda: torch.Tensor,
        "Parameter, the class": lambda: torch.nn.Parameter,
        "FloatTensor, the class": lambda: torch.FloatTensor,
        "a function of torch": lambda: torch.relu,
        "torch.Stream": lambda: torch.Stream("cpu"),
        "torch.version": lambda: torch.version,
    }


class Net(typed_torch.nn.Module):
    """A module of the program's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
        self.scale = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("kept", torch.zeros(1))
        self.register_buffer("dropped", torch.zeros(1), persistent=False)
        self.again = self.inner

    def get_extra_state(self) -> Any:
        return {"version": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def _modules() -> dict[str, Callable[[], Any]]:
    nn = torch.nn
    return {
        "Linear": lambda: nn.Linear(2, 3),
        "Conv2d": lambda: nn.Conv2d(2, 3, 3),
        "BatchNorm1d": lambda: nn.BatchNorm1d(3),
        "Embedding": lambda: nn.Embedding(4, 3, padding_idx=1),
        "LSTM": lambda: nn.LSTM(2, 3, 2, bidirectional=True),
        "GRU": lambda: nn.GRU(2, 3),
        "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2),
        "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
        "Sequential": lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU(), OrderedNet()),
        "module of the program": Net,
        "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        "pruned": lambda: _pruned(),  # noqa: PLW0108 - defined below
        "lazy": lambda: nn.LazyLinear(3),
        "quantised, dynamic": lambda: torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), dtype=torch.qint8),
        "quantised, static": lambda: torch.ao.nn.quantized.Linear(2, 2),
        "AveragedModel (SWA)": lambda: torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2)),
        "tied weights": lambda: _tied(),  # noqa: PLW0108 - defined below
    }


class OrderedNet(typed_torch.nn.Module):
    """A module without anything."""


def _pruned() -> Any:
    from torch.nn.utils import prune

    return prune.random_unstructured(torch.nn.Linear(2, 2), "weight", 0.5)  # type: ignore[no-untyped-call]


def _tied() -> Any:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[1].weight = module[0].weight
    return module


def _stepped(name: str) -> Any:
    """An optimiser after one step, so that it has a state."""
    sparse = name == "SparseAdam"
    module = torch.nn.Embedding(4, 2, sparse=True) if sparse else torch.nn.Linear(2, 2, bias=name != "Muon")
    optimiser = getattr(torch.optim, name)(module.parameters(), lr=0.1)

    def closure() -> Any:
        optimiser.zero_grad()
        loss = module(torch.tensor([1, 2]) if sparse else torch.ones(1, 2)).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return optimiser


OPTIMISERS: Final = sorted(
    name
    for name, value in vars(typed_torch.optim).items()
    if inspect.isclass(value) and issubclass(value, typed_torch.optim.Optimizer) and value is not typed_torch.optim.Optimizer
)


def _optimisers() -> dict[str, Callable[[], Any]]:
    makers: dict[str, Callable[[], Any]] = {f"{name}.state_dict()": partial(_state_of, partial(_stepped, name)) for name in OPTIMISERS}
    makers["two groups"] = lambda: torch.optim.SGD([{"params": [row()], "lr": 1}, {"params": [row()]}], lr=0.1).state_dict()
    makers["Adam, the optimiser itself"] = lambda: _stepped("Adam")
    return makers


def _schedulers() -> dict[str, Callable[[], Any]]:
    from torch.optim import lr_scheduler

    arguments: dict[str, dict[str, Any]] = {
        "ConstantLR": {}, "CosineAnnealingLR": {"T_max": 5}, "CosineAnnealingWarmRestarts": {"T_0": 3},
        "CyclicLR": {"base_lr": 0.1, "max_lr": 1.0, "cycle_momentum": False}, "ExponentialLR": {"gamma": 0.9},
        "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch}, "LinearLR": {}, "MultiStepLR": {"milestones": [2, 4, 4]},
        "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.9}, "OneCycleLR": {"max_lr": 1.0, "total_steps": 9},
        "PolynomialLR": {}, "ReduceLROnPlateau": {}, "StepLR": {"step_size": 2},
    }  # fmt: skip

    def optimiser() -> Any:
        return torch.optim.SGD([row()], lr=0.1)

    def made(name: str) -> Any:
        return getattr(lr_scheduler, name)(optimiser(), **arguments[name])

    def in_turn() -> Any:
        held = optimiser()
        parts = [lr_scheduler.ConstantLR(held), lr_scheduler.ExponentialLR(held, gamma=0.9)]
        return lr_scheduler.SequentialLR(held, parts, milestones=[2])

    def chained() -> Any:
        held = optimiser()
        return lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(held), lr_scheduler.ExponentialLR(held, gamma=0.9)])

    found = {
        name
        for name, value in vars(lr_scheduler).items()
        if inspect.isclass(value) and issubclass(value, lr_scheduler.LRScheduler) and name.strip("_") != "LRScheduler"
    }
    makers: dict[str, Callable[[], Any]] = {
        f"{name}.state_dict()": partial(_state_of, partial(made, name)) for name in sorted(found - {"SequentialLR", "ChainedScheduler"})
    }
    return makers | {
        "SequentialLR.state_dict()": lambda: in_turn().state_dict(),
        "ChainedScheduler.state_dict()": lambda: chained().state_dict(),
        "SWALR.state_dict()": lambda: torch.optim.swa_utils.SWALR(optimiser(), swa_lr=0.05).state_dict(),
        "GradScaler.state_dict()": lambda: torch.amp.GradScaler("cpu").state_dict(),
        "GradScaler, itself": lambda: torch.amp.GradScaler("cpu"),
        "StepLR, the scheduler itself": lambda: made("StepLR"),
        "checkpoint of a training": _checkpoint,
    }


def _checkpoint() -> Any:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(4, 3)).sum().backward()
    optimiser.step()
    return {
        "epoch": 3, "global_step": 100, "pytorch-lightning_version": "2.0", "state_dict": module.state_dict(),
        "optimizer_states": [optimiser.state_dict()], "lr_schedulers": [], "hyper_parameters": {"lr": 1e-3, "layers": [1, 2]},
        "loops": {}, "callbacks": {}, "rng": torch.get_rng_state(), "best": float("-inf"),
    }  # fmt: skip


class Plain(typed_torch.Tensor):
    """A tensor subclass of the program's own."""


class Wrapper(typed_torch.Tensor):
    """A subclass that wraps another tensor."""

    held: Any

    @staticmethod
    def __new__(cls, inner: Any) -> Any:
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.held = inner
        return made

    def __init__(self, inner: Any) -> None:
        pass

    def __tensor_flatten__(self) -> Any:
        return ["held"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is torch.ops.aten.detach.default:
            return cls(args[0].held)
        raise NotImplementedError(str(func))


def _packed() -> Any:
    return torch.nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])


_CLASSES: Final[dict[str, Callable[[], Any]]] = {
    "subclass of Tensor": lambda: torch.ones(3).as_subclass(Plain),
    "subclass of Tensor, with attributes": lambda: with_attributes(torch.ones(3).as_subclass(Plain), note=1),
    "subclass that wraps a tensor": lambda: Wrapper(torch.ones(3)),
    "MaskedTensor": lambda: torch.masked.masked_tensor(torch.ones(3), torch.tensor([True, False, True])),
    "PackedSequence": _packed,
    "distributions.Normal": lambda: torch.distributions.Normal(0.0, 1.0),
    "TensorDataset": lambda: torch.utils.data.TensorDataset(torch.ones(2)),
    "Subset with its sampler": lambda: of(torch.utils.data.Subset([1, 2], [0]), lambda part: [part, torch.utils.data.RandomSampler(part)]),
    "DataLoader": lambda: torch.utils.data.DataLoader([1, 2]),
    "metadata of torch.distributed.checkpoint": lambda: _described(),  # noqa: PLW0108 - defined below
    "torch.return_types.max": lambda: torch.ones(2, 2).max(0),
    "fx.GraphModule": lambda: torch.fx.symbolic_trace(torch.nn.ReLU()),
    "compiled module": lambda: torch.compile(torch.nn.ReLU(), backend="eager"),
    "ScriptModule": lambda: torch.jit.script(torch.nn.ReLU()),
    "ExportedProgram": lambda: torch.export.export(torch.nn.ReLU(), (torch.ones(1),)),
}


def _described() -> Any:
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, TensorProperties, TensorStorageMetadata

    size = torch.Size([2])
    part = ChunkStorageMetadata(torch.Size([0]), size)
    return Metadata({"a": TensorStorageMetadata(TensorProperties(dtype=torch.float32), size, [part])})


def _distributed() -> dict[str, Callable[[], Any]]:
    def placed(*placements: str, mesh: tuple[int, ...] = (2,)) -> Any:
        import torch.distributed.tensor as dt

        how = {"shard": dt.Shard(0), "replicate": dt.Replicate(), "partial": dt.Partial()}
        names = tuple("ab"[: len(mesh)])
        device_mesh = torch.distributed.device_mesh.init_device_mesh("cpu", mesh, mesh_dim_names=names)
        return dt.DTensor.from_local(torch.ones(2, 3), device_mesh, [how[name] for name in placements])

    return {
        "DTensor, sharded": lambda: placed("shard"),
        "DTensor, replicated": lambda: placed("replicate"),
        "DTensor, partial": lambda: placed("partial"),
        "DTensor, two dimensions": lambda: placed("shard", "replicate", mesh=(2, 1)),
        "DTensor, Parameter": lambda: torch.nn.Parameter(placed("shard")),
        "DTensor, in a state dict": lambda: OrderedDict(weight=placed("shard"), bias=placed("replicate")),
        "DeviceMesh": lambda: placed("shard").device_mesh,
        "placements": lambda: placed("shard", "replicate", mesh=(2, 1)).placements,
    }


def _state_dicts() -> dict[str, Callable[[], Any]]:
    made: dict[str, Callable[[], Any]] = {f"{name}.state_dict()": partial(_state_of, make) for name, make in _modules().items()}
    made["state dict with prefixes"] = lambda: torch.nn.Linear(2, 2).state_dict(prefix="module.", keep_vars=True)
    made["FX state dict, meta"] = lambda: torch.nn.Linear(2, 2, device="meta").state_dict()
    return made


_UNREAD: Final = "torch uses its state before it has read it: an error, or whatever memory held"

ROWS: Final[list[Row]] = [
    *kinds("constants of torch", _constants()),
    *kinds("constants of torch", {"Generator": lambda: torch.Generator().manual_seed(5)}, numbers=True, legacy={"Generator": _UNREAD}),
    *kinds("state dicts", _state_dicts()),
    *kinds("modules", _modules()),
    *kinds("optimisers", _optimisers()),
    *kinds("schedulers and training", _schedulers()),
    *kinds("other classes of torch", _CLASSES),
    *kinds("distributed tensors", _distributed(), numbers=True),
]
