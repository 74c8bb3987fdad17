"""Ways to a build for tests: save with torch, forge a zip around a stream, load with safeload's reader and builder only."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from safeload.build.torch_tensors import build_torch
from safeload.errors import MalformedError
from safeload.formats import read
from safeload.source import Reading, Source

__all__ = ["build", "checkpoint", "saved", "torch_zip"]


def saved(value: Any, *, legacy: bool = False) -> bytes:
    """Return what `torch.save` writes."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def torch_zip(
    stream: bytes, storages: Mapping[str, bytes] | None = None, *, method: int = zipfile.ZIP_STORED, byteorder: str = "little"
) -> bytes:
    """Return a torch zip around a stream of one's own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a/data.pkl", stream)
        archive.writestr("a/byteorder", byteorder)
        for key, data in (storages or {}).items():
            archive.writestr(f"a/data/{key}", data)
        archive.writestr("a/version", "3\n")
    return buffer.getvalue()


def checkpoint(raw: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Take a torch zip apart: its stream and its storages."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        storages = {name[5:]: archive.read(full) for name, full in names.items() if name.startswith("data/")}
        return archive.read(names["data.pkl"]), storages


def build(f: Any, *, encoding: str = "utf-8", **keywords: Any) -> Any:
    """Read and build, without policy and pins; what the walk refuses is refused by the build as well."""
    with Source.open(f) as source:
        contents = read(source, Reading(encoding=encoding))
        if contents is None or contents.error is not None:
            raise MalformedError(contents.error or "" if contents is not None else "no reader claims the file")
        return build_torch(contents, source, **keywords)
