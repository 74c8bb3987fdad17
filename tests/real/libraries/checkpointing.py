"""fvcore: its Checkpointer."""

from __future__ import annotations

from pathlib import Path

import torch
from fvcore.common.checkpoint import Checkpointer

from tests.real.programs.digest import show

torch.manual_seed(0)
Path("saved").mkdir()
net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
Checkpointer(net, "saved", optimiser=torch.optim.Adam(net.parameters())).save("model", iteration=3)
other = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
rest = Checkpointer(other, "saved", optimiser=torch.optim.Adam(other.parameters())).resume_or_load("")
show("weight", other[0].weight)
print(sorted(rest))
