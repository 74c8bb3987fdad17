"""Forge what says how a model is loaded: MLmodel files, NeMo's and TorchServe's archives."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from tests.forge_zip import Part, forge

__all__ = ["MANIFEST", "mar", "mlmodel", "nemo", "tar"]

MANIFEST = "MAR-INF/MANIFEST.json"


def mlmodel(flavors: str = "", *, loader: str = "mlflow.sklearn", more: str = "", behind: str = "") -> bytes:
    """An MLmodel: `more` is put into its python_function, `flavors` beside it, `behind` at its end."""
    text = f"flavors:\n  python_function:\n    env:\n      conda: conda.yaml\n    loader_module: {loader}\n    python_version: 3.11.7\n"
    text += "".join(f"    {line}\n" for line in more.splitlines())
    text += "".join(f"  {line}\n" for line in flavors.splitlines())
    return f"{text}mlflow_version: 3.17.2\nmodel_uuid: 7412c9e91f004bc48ba65aced49779d0\n{behind}".encode()


def tar(members: Mapping[str, bytes]) -> bytes:
    """A tar file as Python writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def nemo(config: str = "target: nemo.collections.asr.models.EncDecCTCModel\n", members: Mapping[str, bytes] | None = None) -> bytes:
    """A `.nemo` archive: a configuration, and whatever lies beside it."""
    return tar({"./model_config.yaml": config.encode(), **(members or {})})


def mar(
    members: Mapping[str, bytes] | None = None, *, handler: Any = "image_classifier", manifest: bytes | None = None, **model: Any
) -> bytes:
    """A `.mar` archive; `model` is put into its manifest's model."""
    described = {"modelName": "m", "serializedFile": "model.pkl", "handler": handler, "modelVersion": "1.0", **model}
    text = json.dumps({"createdOn": "01/01/2026 00:00:00", "runtime": "python", "model": described, "archiverVersion": "0.12.0"}).encode()
    named = {MANIFEST: text if manifest is None else manifest, "model.pkl": b"\x80\x04}.", **(members or {})}
    return forge(*(Part(name, data) for name, data in named.items()))
