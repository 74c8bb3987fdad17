"""A hub's repository: a directory of weights and of what decides how they are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tests.forge_safetensors import entry, file_of
from tests.formats_page import FormatRow

__all__ = ["ROWS"]

_WEIGHTS: Final = {"model.safetensors": file_of({"a": entry("U8", [3], 0, 3)}, b"abc")}
_CONFIG: Final = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8}


def _repository(files: Mapping[str, Any] | None = None, **config: Any) -> dict[str, bytes]:
    """A directory: weights, a configuration with more keys, and more files, as data or as text."""
    others = {name: held.encode() if isinstance(held, str) else json.dumps(held).encode() for name, held in (files or {}).items()}
    return {**_WEIGHTS, "config.json": json.dumps(_CONFIG | config).encode(), "README.md": b"# A model\n", **others}


ROWS: Final = [
    FormatRow(
        format="safetensors",
        title="Hub repository",
        written_by="transformers, sentence-transformers, diffusers and PEFT, with weights in any of the formats here",
        reads=(
            "every file; a configuration, Python file, template or list of requirements is listed (as `config`, `yaml`, `python-source`, …)"
            " when it names code, reaches out or cannot be judged, and skipped as text otherwise"
        ),
        loads="its weights, by their own format",
        order=20,
        benign={
            "weights, a configuration, a tokenizer, requirements, code that nothing names": lambda: _repository(
                {"tokenizer_config.json": {"tokenizer_class": "X"}, "requirements.txt": "torch>=2\nnumpy\n", "train.py": "print(1)\n"}
            ),
            "a U-Net of diffusers, whose lists of two blocks name no library": lambda: _repository(
                {"unet/config.json": {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0", "up_block_types": ["AUp", "BUp"]}}
            ),
            "modules of sentence-transformers": lambda: _repository(
                {"modules.json": [{"path": "", "type": "sentence_transformers.models.Pooling"}]}
            ),
        },
        hostile={
            "`auto_map` with code beside it": (lambda: _repository({"m.py": "x = 1\n"}, auto_map={"AutoModel": "m.Model"}), "SL821"),
            "`auto_map` with code of another repository": (lambda: _repository(auto_map={"AutoModel": "owner/repo--m.Model"}), "SL822"),
            "a kernel of another repository": (lambda: _repository(attn_implementation="owner/kernel"), "SL822"),
            "`trust_remote_code` in the configuration": (lambda: _repository(trust_remote_code=True), "SL827"),
            "a pipeline with a library of its own": (
                lambda: _repository({"model_index.json": {"_class_name": "P", "_diffusers_version": "0", "unet": ["mine", "UNet"]}}),
                "SL823",
            ),
            "a module that is no module": (lambda: _repository({"modules.json": [{"path": "", "type": "os.system"}]}), "SL823"),
            "a module outside of the directory": (
                lambda: _repository({"modules.json": [{"path": "../x", "type": "sentence_transformers.models.Pooling"}]}),
                "SL824",
            ),
            "requirements by address": (lambda: _repository({"requirements.txt": "x @ git+https://host/x.git\n"}), "SL826"),
            "YAML that makes Python objects": (lambda: _repository({"x.yaml": "a: !!python/object/apply:os.system ['id']\n"}), "SL823"),
            "code beside the weights that starts a process": (
                lambda: _repository({"handler.py": "import subprocess\nsubprocess.run(['id'])\n"}),
                "SL864",
            ),
            "a pickle beside the weights": (lambda: {**_repository(), "x.bin": b"cos\nsystem\n(S'true'\ntR."}, "SL101"),
        },
    ),
]
