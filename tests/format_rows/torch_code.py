"""TorchScript code, .pt2, torch.package and distributed checkpoints."""

from __future__ import annotations

from typing import Final

from tests.forge_script import checkpoint_item, dcp_metadata, graph_node, package, place, program, pt2, with_code
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_STREAM: Final = b"cos\nsystem\n(S'true'\ntR."

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
    FormatRow(
        format="pt2",
        title=".pt2 (exported programs, AOTInductor)",
        written_by="`torch.export.save`, `aoti_compile_and_package`",
        reads="what every node of every program calls, expressions and guards, streams, compiled code",
        order=6,
        benign={"a program of torch's operators": lambda: pt2(program(graph_node("torch.ops.aten.add.Tensor")))},
        hostile={
            "a node that calls `torch.os.system`": (lambda: pt2(program(graph_node("torch.os.system"))), "SL734"),
            "a node that calls `_operator.methodcaller`": (lambda: pt2(program(graph_node("_operator.methodcaller"))), "SL734"),
            "an operator out of a library": (lambda: pt2(program(graph_node("torch.ops.mylib.op.default"))), "SL732"),
            "an expression that is Python": (lambda: pt2({"expr_str": "__import__('os').system('true')"}), "SL736"),
            "a guard that is Python": (lambda: pt2({"guards_code": ["__import__('os')"]}), "SL736"),
            "a shared library": (lambda: pt2(None, {"data/aotinductor/model/m.so": b"\x7fELF" + bytes(60)}), "SL735"),
            "a pickled constant that calls `os.system`": (lambda: pt2(program(), {"data/constants/custom_obj_0": _STREAM}), "SL101"),
        },
    ),
    FormatRow(
        format="pytorch-package",
        title="torch.package",
        written_by="`PackageExporter`",
        reads="streams as of a checkpoint; modules as text, searched for what they call",
        order=7,
        benign={"tensors and no code": lambda: package({})},
        hostile={
            "a module of its own": (lambda: package({"mylib/net.py": b"class Net:\n    pass\n"}), "SL737"),
            "a module that starts a program": (lambda: package({"mylib/net.py": b"import os\nos.system('true')\n"}), "SL864"),
            "a stream that calls `os.system`": (lambda: package({"model/x.pkl": _STREAM}), "SL101"),
            "a storage of another size": (lambda: package({".data/0.storage": bytes(4)}), "SL302"),
        },
    ),
    FormatRow(
        format="dcp-metadata",
        title="torch.distributed.checkpoint",
        written_by="`torch.distributed.checkpoint.save`: a directory of `.metadata` and `*.distcp`",
        reads="the stream of the metadata, the places that it names, every item of the other files",
        order=8,
        benign={
            "a directory of one tensor": lambda: {
                ".metadata": dcp_metadata(place(length=10)),
                "__0_0.distcp": checkpoint_item() + checkpoint_item(),
            },
        },
        hostile={
            "metadata whose stream calls `os.system`": (
                lambda: {".metadata": dcp_metadata(planner=_STREAM[:-1]), "__0_0.distcp": checkpoint_item() * 2},
                "SL101",
            ),
            "an item whose stream calls `os.system`": (
                lambda: {".metadata": dcp_metadata(), "__0_0.distcp": checkpoint_item() + checkpoint_item(_STREAM)},
                "SL101",
            ),
            "an item in `../../x`": (lambda: {".metadata": dcp_metadata(place("../../x"))}, "SL739"),
            "a file that is too short": (
                lambda: {".metadata": dcp_metadata(place(length=1 << 40)), "__0_0.distcp": checkpoint_item() * 2},
                "SL739",
            ),
        },
    ),
]
