"""Forges TorchScript archives, .pt2 archives, torch.package archives and distributed checkpoints, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tests import forge
from tests.forge_zip import torch_zip

__all__ = [
    "CODE", "checkpoint_item", "dcp_metadata", "graph_node", "made", "package", "pairs", "place", "program", "pt2", "script", "sizes",
    "with_code",
]  # fmt: skip

_EMPTY: Final = b"\x80\x02)."
CODE: Final = """class Net(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  weight : Tensor
  training : bool
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    weight = self.weight
    {0}
    return torch.linear(x, weight, None)
"""


def script(code: str | Mapping[str, str], more: Mapping[str, bytes] | None = None) -> bytes:
    """An archive whose object is an empty tuple: code by its file, or that of `__torch__.py`."""
    files = {"code/__torch__.py": code} if isinstance(code, str) else code
    members = {"data.pkl": _EMPTY, **{name: text.encode() for name, text in files.items()}, "constants.pkl": _EMPTY, "version": b"3\n"}
    return torch_zip({**members, "byteorder": b"little", **(more or {})})


def with_code(line: str) -> bytes:
    """An archive whose one method has this line."""
    return script(CODE.format(line))


# ---- .pt2


def graph_node(target: str, argument: Any = None) -> dict[str, Any]:
    """A node of an exported program."""
    given = {"as_tensor": {"name": "x"}} if argument is None else argument
    return {"target": target, "inputs": [{"name": "self", "arg": given, "kind": 1}], "outputs": [], "metadata": {"torch_fn": "f;g"}}


def program(*nodes: dict[str, Any]) -> dict[str, Any]:
    """An exported program."""
    return {"graph_module": {"graph": {"inputs": [], "outputs": [], "nodes": list(nodes)}}, "torch_version": "2.13.0", "guards_code": []}


def pt2(document: dict[str, Any] | bytes | None, more: Mapping[str, bytes] | None = None) -> bytes:
    """A .pt2 archive of one program, given as data or as text."""
    members = {"archive_format": b"pt2", "archive_version": b"0", ".data/version": b"6\n", "byteorder": b"little"}
    if document is not None:
        members["models/model.json"] = document if isinstance(document, bytes) else json.dumps(document).encode()
    return torch_zip({**members, **(more or {})})


# ---- torch.package


def package(more: Mapping[str, bytes], without: str = "") -> bytes:
    """A package of one tensor of two numbers, and other members."""
    pid = forge.stream(
        forge.MARK, forge.TEXT("storage"), forge.GLOBAL("torch", "FloatStorage"), forge.INT(0), forge.TEXT("cpu"), forge.INT(2),
        forge.TUPLE,
        forge.BINPERSID,
    )  # fmt: skip
    two, one = forge.stream(forge.INT(2), forge.TUPLE1), forge.stream(forge.INT(1), forge.TUPLE1)
    hooks = forge.stream(forge.GLOBAL("collections", "OrderedDict"), forge.EMPTY_TUPLE, forge.REDUCE)
    made = forge.stream(
        forge.GLOBAL("torch._utils", "_rebuild_tensor_v2"), forge.MARK, pid, forge.INT(0), two, one, forge.NEWFALSE, hooks, forge.TUPLE,
        forge.REDUCE,
    )  # fmt: skip
    members = {
        ".data/extern_modules": b"torch\ntorch._utils\ncollections\n", ".data/python_version": b"3.11.7", ".data/version": b"6\n",
        "byteorder": b"little", ".data/0.storage": bytes(8), "model/w.pkl": forge.stream(forge.PROTO(3), made, forge.STOP),
    }  # fmt: skip
    return torch_zip({name: data for name, data in {**members, **more}.items() if name != without})


# ---- distributed checkpoints

_METADATA: Final = "torch.distributed.checkpoint.metadata"


def made(name: str, state: bytes, module: str = _METADATA) -> bytes:
    """An object of a class, as a dataclass is pickled."""
    return forge.stream(forge.GLOBAL(module, name), forge.EMPTY_TUPLE, forge.NEWOBJ, state, forge.BUILD)


def pairs(**values: bytes) -> bytes:
    """A dict with texts for keys."""
    return forge.stream(
        forge.EMPTY_DICT, forge.MARK, *(part for key, value in values.items() for part in (forge.TEXT(key), value)), forge.SETITEMS
    )


def sizes(*numbers: int) -> bytes:
    """A torch.Size."""
    return forge.stream(forge.GLOBAL("torch", "Size"), forge.MARK, *map(forge.INT, numbers), forge.TUPLE, forge.TUPLE1, forge.REDUCE)


def place(path: str = "__0_0.distcp", offset: int = 0, length: int = 100) -> bytes:
    """Where an item lies."""
    state = pairs(relative_path=forge.TEXT(path), offset=forge.INT(offset), length=forge.INT(length))
    return made("_StorageInfo", state, "torch.distributed.checkpoint.filesystem")


def dcp_metadata(*places: bytes, size: bytes | None = None, planner: bytes = forge.NONE) -> bytes:
    """The `.metadata` of a checkpoint of one tensor, with an index for each place."""
    properties = made(
        "TensorProperties", forge.stream(forge.MARK, forge.GLOBAL("torch", "float32"), forge.NONE, forge.NEWFALSE, forge.TUPLE)
    )
    tensor = made("TensorStorageMetadata", pairs(properties=properties, size=size or sizes(2, 3), chunks=forge.EMPTY_LIST))
    index = made("MetadataIndex", pairs(fqn=forge.TEXT("w"), offset=sizes(0, 0), index=forge.INT(0)))
    storage = forge.stream(forge.EMPTY_DICT, forge.MARK, *(part for one in places or (place(),) for part in (index, one)), forge.SETITEMS)
    state = pairs(state_dict_metadata=pairs(w=tensor), planner_data=planner, storage_data=storage)
    return forge.stream(forge.PROTO(2), made("Metadata", state), forge.STOP)


def checkpoint_item(stream: bytes = b"\x80\x02}.") -> bytes:
    """One item of a `.distcp` file."""
    return torch_zip({"data.pkl": stream, "version": b"3\n", "byteorder": b"little"})
