"""Forges TorchScript archives, .pt2 archives, torch.package archives and distributed checkpoints, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.forge_zip import torch_zip

__all__ = ["CODE", "script", "with_code"]

_EMPTY: Final = b"\x80\x02)."
CODE: Final = """class Net(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  weight : Tensor
  training : bool
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    weight = self.weight
    {0}
    return torch.linear(x, weight, None)
"""


def script(code: str | Mapping[str, str], more: Mapping[str, bytes] | None = None) -> bytes:
    """An archive whose object is an empty tuple: code by its file, or that of `__torch__.py`."""
    files = {"code/__torch__.py": code} if isinstance(code, str) else code
    members = {"data.pkl": _EMPTY, **{name: text.encode() for name, text in files.items()}, "constants.pkl": _EMPTY, "version": b"3\n"}
    return torch_zip({**members, "byteorder": b"little", **(more or {})})


def with_code(line: str) -> bytes:
    """An archive whose one method has this line."""
    return script(CODE.format(line))
