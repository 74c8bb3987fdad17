"""TorchScript code, .pt2, torch.package and distributed checkpoints."""

from __future__ import annotations

from typing import Final

from tests.forge_script import with_code
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

ROWS: Final = [
    FormatRow(
        format="torchscript",
        title="TorchScript",
        written_by="`torch.jit.save`; mobile archives likewise",
        reads="data as of a checkpoint; of the code every operator that it calls; the code is never compiled",
        loads='its data, with `unknown="inert"`, and `safeload.state_dict`',
        order=5,
        benign={"a linear layer": lambda: with_code("y = torch.relu(x)")},
        hostile={
            "`torch.save` to a file": (lambda: with_code('torch.save(x, "/tmp/x")'), "SL731"),
            "`torch.from_file`": (lambda: with_code('y = torch.from_file("/etc/passwd", False, 10)'), "SL731"),
            "a call in another process": (lambda: with_code("y = rpc_sync(name, fn)"), "SL731"),
            "an operator out of a library": (lambda: with_code("y = ops.mylib.transform(x)"), "SL732"),
            "another name for `torch`": (lambda: with_code("t = torch"), "SL733"),
        },
    ),
]
