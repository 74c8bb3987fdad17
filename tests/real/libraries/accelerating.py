"""accelerate: load_state of a model, an optimiser, a scheduler and random states."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from tests.real.programs.digest import show

torch.manual_seed(0)
accelerator = Accelerator(cpu=True)
net = torch.nn.Linear(3, 2)
optimiser = torch.optim.AdamW(net.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimiser, 1)
net, optimiser, scheduler = accelerator.prepare(net, optimiser, scheduler)
accelerator.backward(net(torch.ones(4, 3)).sum())
optimiser.step()
accelerator.save_state("saved", safe_serialization=False)
expected = torch.rand(2)
for value in net.parameters():
    value.data.zero_()
optimiser.state.clear()
accelerator.load_state("saved")
for value in net.parameters():
    show("parameter", value)
show("momentum", optimiser.state_dict()["state"][0]["exp_avg"])
print(torch.equal(torch.rand(2), expected), scheduler.state_dict()["last_epoch"])
