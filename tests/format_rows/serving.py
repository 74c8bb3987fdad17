"""What says how a model is loaded: MLmodel, NeMo's and TorchServe's archives."""

from __future__ import annotations

from typing import Final

from tests.forge_serving import mar, mlmodel, nemo
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_STREAM: Final = b"cos\nsystem\n(S'true'\ntR."

ROWS: Final = [
    FormatRow(
        format="mlmodel",
        title="MLflow",
        written_by="MLflow, as `MLmodel` in a model's directory",
        reads="every loader, class and path of every flavour; the files beside are read as what they are",
        order=70,
        benign={
            "a flavour of MLflow's own": lambda: mlmodel("sklearn:\n  code: null\n  pickled_model: model.skops"),
            "the same, as a directory": lambda: {"MLmodel": mlmodel(), "model.pkl": b"\x80\x04}.", "requirements.txt": b"mlflow==3.17\n"},
        },
        hostile={
            "a loader that runs code": (lambda: mlmodel(loader="runpy"), "SL861"),
            "code of the directory": (lambda: mlmodel(more="code: code"), "SL861"),
            "a class that starts processes": (lambda: mlmodel("xgboost:\n  model_class: os.system"), "SL823"),
            "a path that climbs out": (lambda: mlmodel("sklearn:\n  pickled_model: ../../other.pkl"), "SL824"),
            "a pickle beside it": (lambda: {"MLmodel": mlmodel(), "model.pkl": _STREAM}, "SL101"),
            "a requirement by address": (lambda: {"MLmodel": mlmodel(), "requirements.txt": b"git+https://host/x.git\n"}, "SL826"),
        },
    ),
    FormatRow(
        format="nemo",
        title="NeMo",
        written_by="NVIDIA NeMo",
        reads="the archive's structure, every `_target_` and `target` of its configuration, every member as a file of its own",
        order=71,
        benign={"a configuration, a vocabulary and weights": lambda: nemo(members={"./vocab.txt": b"a\n", "./w.pkl": b"\x80\x04}."})},
        hostile={
            "a target that starts processes (CVE-2025-23304)": (lambda: nemo("model:\n  _target_: os.system\n"), "SL823"),
            "a tag that makes an object": (lambda: nemo("x: !!python/object/apply:os.system [id]\n"), "SL823"),
            "weights that run code": (lambda: nemo(members={"./model_weights.ckpt": _STREAM}), "SL101"),
            "a member that climbs out": (lambda: nemo(members={"../x": b"x"}), "SL212"),
            "two configurations": (lambda: nemo(members={"model_config.yaml": b"x: 1\n"}), "SL202"),
        },
    ),
    FormatRow(
        format="torchserve",
        title="TorchServe",
        written_by="torch-model-archiver",
        reads="the manifest, every member as a file of its own, the calls in Python source",
        order=72,
        benign={"weights for a handler of the server": mar},
        hostile={
            "a handler of its own": (lambda: mar({"h.py": b"x = 1\n"}, handler="h.py"), "SL863"),
            "a handler that starts processes": (lambda: mar({"h.py": b"import os\nos.system('id')\n"}, handler="h.py"), "SL864"),
            "a handler that climbs out (CVE-2023-48299)": (lambda: mar(handler="../../h.py"), "SL824"),
            "weights that run code": (lambda: mar({"m.pt": _STREAM}), "SL101"),
        },
    ),
]
