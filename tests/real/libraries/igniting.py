"""Ignite: load_objects of a checkpoint with its trainer."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from ignite.handlers import Checkpoint, DiskSaver

from tests.real.programs.digest import show

torch.manual_seed(0)
net = torch.nn.Linear(2, 2)
trainer = Engine(lambda engine, batch: batch)
optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
net(torch.ones(1, 2)).sum().backward()
optimiser.step()
objects = {"net": net, "optimiser": optimiser, "trainer": trainer}
saver = Checkpoint(objects, DiskSaver("saved", create_dir=True), n_saved=None)
trainer.run([1, 2, 3], max_epochs=2)
saver(trainer)
other = torch.nn.Linear(2, 2)
again = {"net": other, "optimiser": torch.optim.SGD(other.parameters(), lr=0.1), "trainer": Engine(lambda engine, batch: batch)}
Checkpoint.load_objects(again, checkpoint=str(saver.last_checkpoint))
show("weight", other.weight)
show("momentum", again["optimiser"].state_dict()["state"][0]["momentum_buffer"])
print(again["trainer"].state.iteration)
