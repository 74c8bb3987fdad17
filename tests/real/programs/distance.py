"""lpips: the distance between two images, by each of its networks in both versions, over random backbones."""

from __future__ import annotations

import lpips
import torch

from tests.real.programs.digest import show

for version in ("0.0", "0.1"):
    for net in ("alex", "squeeze", "vgg"):
        torch.manual_seed(0)
        model = lpips.LPIPS(net=net, version=version, pnet_rand=True, verbose=False)
        one, two = torch.rand(2, 1, 3, 64, 64) * 2 - 1
        show(f"{version} {net}", model(one, two))
