"""Modules of torch with everything that a pickled one may hold: name → maker. Torch only."""

from __future__ import annotations

import collections
import io
import warnings
from collections.abc import Callable
from typing import Any

import torch as typed_torch

__all__ = ["MODULES", "WRITES_MORE", "Custom", "Extra", "Tied", "module_file"]

torch: Any = typed_torch  # a table of functions without types
nn = torch.nn


class Custom(nn.Module):  # type: ignore[misc, name-defined]
    """Everything a module may hold besides what torch's own modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.table = nn.Parameter(torch.randn(2, 3))
        self.register_parameter("none", None)
        self.register_buffer("seen", torch.arange(4))
        self.register_buffer("scratch", torch.ones(5), persistent=False)
        self.register_buffer("nothing", None)
        self.plain = torch.full((3,), 7.0)
        self.config = {"a": [1, 2], "t": torch.zeros(1)}
        self.last = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        self.empty = None


class Tied(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.block = nn.Linear(3, 3)
        self.again = self.block


class Extra(nn.Linear):  # type: ignore[misc, name-defined]
    def get_extra_state(self) -> Any:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def _shared_often() -> Any:
    layer = nn.Linear(2, 2)
    return nn.ModuleList([layer] * 100)


def _weight_norm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its successor is a parametrization
        return nn.utils.weight_norm(nn.Linear(3, 4), "weight")


MODULES: dict[str, Callable[[], Any]] = {
    "linear": lambda: nn.Linear(3, 4),
    "linear-half": lambda: nn.Linear(3, 4).half(),
    "conv": lambda: nn.Conv2d(3, 4, 3),
    "batchnorm": lambda: nn.BatchNorm1d(4),
    "sequential": lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 1)),
    "named-sequential": lambda: nn.Sequential(collections.OrderedDict(a=nn.Linear(2, 3), b=nn.Tanh())),
    "module-list": lambda: nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]),
    "module-dict": lambda: nn.ModuleDict({"x": nn.Linear(2, 2), "y": nn.PReLU()}),
    "parameter-list": lambda: nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(3))]),
    "parameter-dict": lambda: nn.ParameterDict({"u": nn.Parameter(torch.ones(2)), "v": nn.Parameter(torch.zeros(3))}),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "attention-kdim": lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=3, add_bias_kv=True),
    "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "gru-proj": lambda: nn.GRU(3, 4),
    "data-parallel": lambda: nn.DataParallel(nn.Linear(3, 4)),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(nn.Linear(3, 4)),
    "spectral-norm-old": lambda: nn.utils.spectral_norm(nn.Linear(3, 4)),
    "weight-norm-old": _weight_norm,
    "custom": Custom,
    "tied": Tied,
    "shared-often": _shared_often,
    "frozen": lambda: nn.Linear(3, 4).requires_grad_(requires_grad=False),
}


def _dynamic() -> Any:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 2), nn.LSTM(2, 2)), {nn.Linear, nn.LSTM}, torch.qint8)


def _static() -> Any:
    quantization = torch.ao.quantization
    layers = (nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2), nn.ConvTranspose1d(2, 2, 1, bias=False))
    module = nn.Sequential(quantization.QuantStub(), *layers, quantization.DeQuantStub()).eval()
    module.qconfig = quantization.QConfig(
        activation=quantization.MinMaxObserver.with_args(dtype=torch.quint8), weight=quantization.default_weight_observer
    )
    quantization.prepare(module, inplace=True)
    module[:5](torch.ones(1, 1, 4, 4))
    module[5](torch.ones(1, 2, 1))
    return quantization.convert(module)


def _embedding() -> Any:
    module = nn.Sequential(nn.EmbeddingBag(10, 12))
    module.qconfig = torch.ao.quantization.float_qparams_weight_only_qconfig
    return torch.ao.quantization.convert(torch.ao.quantization.prepare(module))


WRITES_MORE: dict[str, Callable[[], Any]] = {
    "quantised, dynamic": _dynamic,
    "quantised, static": _static,
    "quantised, embedding": _embedding,
    "compiled": lambda: torch.compile(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))),
    "traced graph": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))),
}
"""Modules whose state dict holds more than their parameters and buffers, or that pickle in a way of their own."""


def module_file(value: Any, **options: Any) -> io.BytesIO:
    """Save as torch does, and go back to the start."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    file.seek(0)
    return file
