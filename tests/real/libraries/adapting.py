"""peft: an adapter as .bin."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.real.programs.digest import show


def base() -> torch.nn.Module:
    """The model that is adapted, the same each time."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


adapted = get_peft_model(base(), LoraConfig(target_modules=["0"], r=2, init_lora_weights=False))
adapted.save_pretrained("adapter", safe_serialization=False)
show("adapted", PeftModel.from_pretrained(base(), "adapter", use_safetensors=False)(torch.ones(1, 3)))
