"""facenet-pytorch: its face detector, all three networks of it."""

from __future__ import annotations

import torch
from facenet_pytorch import MTCNN

from tests.real.programs.digest import show

torch.manual_seed(0)
detector = MTCNN(device="cpu")
for name, size in (("pnet", 12), ("rnet", 24), ("onet", 48)):
    for index, result in enumerate(getattr(detector, name)(torch.rand(4, 3, size, size))):
        show(f"{name} {index}", result)
print(detector.detect((torch.rand(160, 160, 3) * 255).to(torch.uint8).numpy()))
