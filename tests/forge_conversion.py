"""Forges for conversion: checkpoints without torch, converted files with any manifest, and loads of both."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from safeload.conversion.exporting import export
from safeload.conversion.opening import converted
from safeload.conversion.recorder import Recorder
from safeload.conversion.tree import Tree, encode_tree
from safeload.formats import read
from safeload.formats.manifest import KEY, canonical
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.source import Reading, Source
from tests.forge_safetensors import entry, file_of

__all__ = ["build_manifest", "converted_file", "load_converted", "manifest_text", "plain_checkpoint", "rebuilt"]

_SIZES = {"F64": 8, "F32": 4, "U8": 1, "I64": 8, "F16": 2}


def tensors(table: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file of these tensors, in this order."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, raw) in table.items():
        header[name] = entry(dtype, shape, len(data), len(data) + len(raw))
        data += raw
    return file_of(json.dumps(header).encode(), data)


def plain_checkpoint(path: Path, names: int = 3, numel: int = 6) -> Path:
    """Write a torch zip of a few tensors, with no torch at hand."""
    raw = {f"layer{number}.weight": struct.pack(f"<{numel}f", *(number + index / 8 for index in range(numel))) for number in range(names)}
    source = path.with_suffix(".made.safetensors")
    source.write_bytes(tensors({name: ("F32", [numel], data) for name, data in raw.items()}))
    export(source, path, force=True)
    source.unlink()
    return path


def manifest_text(root: Any = None, nodes: list[Any] | None = None, **more: Any) -> str:
    """A manifest that is valid but for what is asked."""
    value: dict[str, Any] = {
        "version": 1,
        "source": {"format": "torch-zip", "size": 0, "sha256": "0" * 64},
        "globals": [],
        "storages": [],
        "payloads": [],
        "nodes": nodes or [],
        "root": root,
    }
    return canonical({**value, **more})


def converted_file(text: str, table: dict[str, tuple[str, list[int], bytes]] | None = None) -> bytes:
    """A safetensors file with a manifest."""
    return tensors(table or {}, {"format": "pt", KEY: text})


def rebuilt(data: bytes | Path, *, unknown: str = "inert") -> tuple[Any, Recorder]:
    """Build what a converted file describes, without torch; return it with the model that made it."""
    with Source.open(data) as source:
        # Its reader alone, so that what is wrong with the manifest is raised here.
        contents = SafetensorsFile().read(source, Reading())
        assert contents.error is None, contents.error
        found = converted(contents, source)
        assert found is not None
        model = Recorder(found.walk, unknown=unknown)
        return found.build(model), model


def build_manifest(root: Any = None, nodes: list[Any] | None = None, *, unknown: str = "inert", **more: Any) -> Any:
    """Build a forged manifest over one tensor "w" of six floats."""
    table = {"w": ("F32", [2, 3], struct.pack("<6f", *range(6))), "b": ("U8", [5], b"bytes")}
    return rebuilt(converted_file(manifest_text(root, nodes, **more), table), unknown=unknown)[0]


def tree_of(data: bytes | Path) -> Tree:
    """The tree of a converted file."""
    return encode_tree(*rebuilt(data))


def load_converted(path: str | Path, **keywords: Any) -> Any:
    """Load a converted file with torch, by its manifest, without policy and pins."""
    from safeload.build.torch_tensors import build_torch

    with Source.open(path) as source:
        contents = read(source)
        assert contents is not None
        assert contents.error is None, contents.error
        return build_torch(contents, source, described=converted(contents, source), **keywords)


def size_of(dtype: str, shape: list[int]) -> int:
    """Bytes of a tensor."""
    return _SIZES[dtype] * math.prod(shape)
