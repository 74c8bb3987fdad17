"""Files that are numbers and nothing else, because a model beside them says where each tensor lies in them.

Large ONNX models, TensorFlow's checkpoints, OpenVINO and TensorFlow.js keep their tensors so. Such a file has no structure that a
reader could claim, and needs none: what it means stands in the model. Whoever walks a directory asks here before calling one unreadable.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from safeload.errors import SafeloadError
from safeload.findings import escape
from safeload.source import Source

__all__ = ["described_by"]

_SHARD: Final = re.compile(r"(.+)\.data-(\d{5})-of-(\d{5})\Z")
_LARGEST: Final = 4096  # entries of a directory that are looked at


def described_by(path: str | os.PathLike[str]) -> str | None:
    """Say whose data a file is that no reader claims, or return None.

    Args:
        path: The file, on this machine.
    """
    file = Path(path).absolute()
    match = _SHARD.match(file.name)
    try:
        if file.suffix == ".bin" and _is_openvino(file.with_suffix(".xml")):
            return f"numbers that '{escape(file.stem, 80)}.xml' describes"
        if match is not None and _is_shard(file, Path(file.parent, f"{match[1]}.index"), int(match[2]), int(match[3])):
            return f"numbers that '{escape(match[1], 80)}.index' describes"
        for folder in (file.parent, file.parent.parent):
            models = _models(str(folder), folder.stat().st_mtime_ns)
            for model, locations in models:
                if any(Path(folder, location) == file for location in locations):
                    return f"numbers that '{escape(model, 80)}' describes"
    except (OSError, ValueError, SafeloadError):
        return None
    return None


def _is_openvino(model: Path) -> bool:
    from safeload.formats.openvino_file import OpenVinoFile, reach

    if not model.is_file():
        return False
    with Source.open(model) as source:
        return OpenVinoFile().claims(source) and reach(source) > 0  # a file that is too short is the model's finding


def _is_shard(file: Path, index: Path, number: int, of: int) -> bool:
    from safeload.formats.tensorflow_checkpoint import shards

    if not index.is_file():
        return False
    with Source.open(index) as source:
        return any((shard.number, shard.of) == (number, of) and shard.reach <= file.stat().st_size for shard in shards(source))


@functools.lru_cache(maxsize=256)
def _models(folder: str, changed: int) -> tuple[tuple[str, frozenset[str]], ...]:
    """Models of a directory that have data in other files: name and those files. `changed` keeps the cache true."""
    return tuple(_described(folder))


def _described(folder: str) -> Iterator[tuple[str, frozenset[str]]]:
    from safeload.formats.first_bytes import may_be_json, may_be_onnx
    from safeload.formats.onnx_file import OnnxFile, data_files
    from safeload.formats.tfjs_file import number_files

    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry, _ in zip(entries, range(_LARGEST), strict=False) if entry.is_file())
    for name in names:
        try:
            with Source.open(Path(folder, name)) as source:
                if may_be_onnx(source) and OnnxFile().claims(source):
                    locations = data_files(source)
                else:
                    locations = number_files(source) if may_be_json(source) else frozenset()
                if locations:
                    yield name, locations
        except (SafeloadError, OSError):
            continue
