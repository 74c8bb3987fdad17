"""torch: torch.hub.load_state_dict_from_url, torch.distributed.checkpoint."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as typed_checkpoint

from tests.real.programs.digest import show

checkpoint: Any = typed_checkpoint
warnings.simplefilter("ignore")
torch.save({"weight": torch.arange(4.0)}, "weights.pth")
back = torch.hub.load_state_dict_from_url(Path("weights.pth").absolute().as_uri(), model_dir="hub", progress=False)
show("by address", back["weight"])
checkpoint.save({"weight": torch.arange(4.0), "epoch": 3}, checkpoint_id="parts")
state = {"weight": torch.zeros(4), "epoch": 0}
checkpoint.load(state, checkpoint_id="parts")
show("in parts", state["weight"])
print(state["epoch"])
