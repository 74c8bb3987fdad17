"""diffusers: from_pretrained of a .bin, whole and in shards."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel

from tests.real.programs.digest import show

torch.manual_seed(0)
net = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=2, attention_head_dim=2,
    down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
)  # fmt: skip
for place, shard in (("whole", "1GB"), ("shards", "10KB")):
    net.save_pretrained(place, safe_serialization=False, max_shard_size=shard)
    back = UNet2DModel.from_pretrained(place, use_safetensors=False)
    show(place, back(torch.ones(1, 1, 8, 8), 3).sample)
