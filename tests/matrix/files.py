"""Files that are not simply an object given to `torch.save`: TorchScript, tar, archives of other tools, broken and foreign ones."""

from __future__ import annotations

import functools
import gzip
import io
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch as typed_torch

import safeload
from safeload.errors import SafeloadError
from tests.compare import assert_same
from tests.forge_build import checkpoint, torch_zip
from tests.matrix.outcome import ERROR, NEITHER, OURS, WRONG, File, difference, judge, quietly, saved
from tests.matrix.tensors import table

__all__ = ["FILES", "file_result"]

torch: Any = typed_torch


class Scripted(typed_torch.nn.Module):
    """A module with everything that a scripted one can hold; TorchScript reads annotations and type comments itself."""

    if TYPE_CHECKING:
        inner: Callable[[typed_torch.Tensor], typed_torch.Tensor]
        dropped: typed_torch.Tensor
        kept: typed_torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.BatchNorm1d(3)
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("kept", torch.arange(3.0))
        self.register_buffer("dropped", torch.zeros(2), persistent=False)
        self.plain = torch.full((2,), 7.0)
        self.again = self.inner

    def forward(self, x: typed_torch.Tensor) -> typed_torch.Tensor:
        return typed_torch.add(self.inner(x) * self.scale + self.kept, self.dropped.sum() + self.plain.sum())


def script(module: Any) -> bytes:
    """Return a TorchScript archive."""
    buffer = io.BytesIO()
    with quietly():
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def traced() -> bytes:
    """Return one that was traced."""
    buffer = io.BytesIO()
    with quietly():
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)), buffer)
    return buffer.getvalue()


def _script_state(raw: bytes) -> str:
    """torch.jit's state dict is what safeload.state_dict gives."""
    with quietly():
        theirs = torch.jit.load(io.BytesIO(raw)).state_dict()
        ours = safeload.state_dict(io.BytesIO(raw), policy={"unpinned": "allow"}, lock=False)
    different = difference(ours, {name: tensor.detach() for name, tensor in theirs.items()})
    whole = _inert(raw)
    return f"{OURS}: {whole}; `safeload.state_dict` is `torch.jit.load(f).state_dict()`" if different is None else f"{WRONG}: {different}"


def _inert(raw: bytes) -> str:
    with quietly():
        safeload.load(io.BytesIO(raw), policy={"unpinned": "allow"}, lock=False, unknown="inert")
    return "its objects as inert data, nothing compiled"


def _tar(raw: bytes) -> str:
    with quietly(), tempfile.TemporaryDirectory(prefix="safeload-matrix-") as directory:
        path = Path(directory, "old.tar")
        path.write_bytes(raw)
        theirs = torch.load(path, weights_only=False)
        ours = safeload.load(path, policy={"unpinned": "allow"}, lock=False)
        again = safeload.load(io.BytesIO(raw), policy={"unpinned": "allow"}, lock=False)
    assert_same(ours, theirs)
    assert_same(again, theirs)
    return f"{OURS}: torch reads it with weights_only=False, and by path"


def _old_tar() -> bytes:
    from tests.forge_tar_checkpoint import example

    return example().file()


def _exported() -> bytes:
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),)), buffer)
    return buffer.getvalue()


def _package() -> bytes:
    buffer = io.BytesIO()
    with quietly(), torch.package.PackageExporter(buffer) as exporter:
        exporter.save_pickle("model", "weights.pkl", {"a": table()})
    return buffer.getvalue()


def _deflated() -> bytes:
    return torch_zip(*checkpoint(saved(table(), legacy=False)), method=zipfile.ZIP_DEFLATED)


def _without(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(table(), legacy=False))) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.infolist():
            if not member.filename.endswith(name):
                new.writestr(member.filename, old.read(member))
    return buffer.getvalue()


def _big() -> bytes:
    stream, storages = checkpoint(saved(table(), legacy=False))
    swapped = {key: b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4)) for key, data in storages.items()}
    return torch_zip(stream, swapped, byteorder="big")


def _safetensors() -> bytes:
    from safetensors.torch import save

    return save({"a": table(), "b": torch.arange(3)})


def _safetensors_by_path(raw: bytes) -> str:
    with quietly(), tempfile.TemporaryDirectory(prefix="safeload-matrix-") as directory:
        path, other = Path(directory, "m.safetensors"), Path(directory, "m.pt")
        path.write_bytes(raw)
        other.write_bytes(raw)
        theirs = torch.load(path)
        for f in (path, other, io.BytesIO(raw)):
            ours = safeload.load(f, policy={"unpinned": "allow"}, lock=False)
            assert_same(dict(sorted(ours.items())), dict(sorted(theirs.items())))
    return "same; under any other name, and as a stream: safeload only"


def _judged(raw: bytes) -> str:
    with tempfile.TemporaryDirectory(prefix="safeload-matrix-") as directory:
        return str(judge(File(raw, None, Path(directory, "none"))))


def _refused(raw: bytes) -> str:
    """Neither loads it; safeload says what it is."""
    theirs: Exception | None = None
    ours: Exception | None = None
    with quietly():
        try:
            torch.load(io.BytesIO(raw))
        except Exception as error:  # noqa: BLE001 - its class is the question
            theirs = error
        try:
            safeload.load(io.BytesIO(raw), policy={"unpinned": "allow"}, lock=False)
        except SafeloadError as error:
            ours = error
    if theirs is None or ours is None:
        return f"{WRONG}: loads"
    message = re.sub(r"\d{9,}", "…", str(getattr(ours, "message", "")).partition("\n")[0])[:110].replace("|", "\\|")
    return f"{ERROR if isinstance(ours, type(theirs)) else NEITHER}: {type(theirs).__name__}, and here {type(ours).__name__}, “{message}”"


FILES: Final[dict[str, tuple[Callable[[], bytes], Callable[[bytes], str]]]] = {
    "TorchScript, scripted": (lambda: script(Scripted()), _script_state),
    "TorchScript, scripted, of torch's modules": (
        lambda: script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LSTM(2, 2))), _script_state,
    ),
    "TorchScript, traced": (traced, _script_state),
    "tar, before torch 0.1.10": (_old_tar, _tar),
    "safetensors": (_safetensors, _safetensors_by_path),
    "zip, deflated by another tool": (_deflated, _judged),
    "zip, the other byte order": (_big, _judged),
    "zip without byteorder": (lambda: _without("byteorder"), _judged),
    "zip without serialization_id": (lambda: _without("serialization_id"), _judged),
    "zip without version": (lambda: _without("/version"), _refused),
    "gzip around a checkpoint": (lambda: gzip.compress(saved(table(), legacy=False)), _refused),
    "torch.export (.pt2)": (_exported, _refused),
    "torch.package": (_package, _refused),
    "plain pickle": (lambda: pickle.dumps({"a": 1}, 2), lambda raw: f"{OURS}: {_plain(raw)}"),
    "nothing": (lambda: b"", _refused),
    "a Git-LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n", _refused),
    "an HTML page": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", _refused),
    "half of a zip": (lambda: saved(table(), legacy=False)[:500], _refused),
    "half of a legacy stream": (lambda: saved(table(), legacy=True)[:-10], _refused),
}  # fmt: skip


def _plain(raw: bytes) -> str:
    assert safeload.load(io.BytesIO(raw), policy={"unpinned": "allow"}, lock=False) == {"a": 1}
    return "torch wants a magic number in front"


@functools.cache
def file_result(name: str) -> str:
    """What came of one of `FILES`."""
    make, compare = FILES[name]
    return compare(make())
