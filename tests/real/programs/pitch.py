"""torchcrepe: the pitch of a tone, by both of its models."""

from __future__ import annotations

import numpy as np
import torch
import torchcrepe

from tests.real.programs.digest import show

np.random.seed(0)  # noqa: NPY002 — torchcrepe dithers with numpy's global generator
tone = torch.sin(2 * torch.pi * 220 * torch.arange(8000) / 16000)
for model in ("tiny", "full"):
    pitch, periodicity = torchcrepe.predict(tone[None], 16000, model=model, return_periodicity=True, device="cpu")
    show(f"{model} pitch", pitch)
    show(f"{model} periodicity", periodicity)
