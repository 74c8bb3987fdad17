"""Names and paths in configurations: what a dotted name that is imported reaches, and whether a path stays in its directory.

What is known to be dangerous is asked first (`walk.names`); the list of ordinary names only lets a configuration pass
without a remark.
"""

from __future__ import annotations

import re
from typing import Final

from safeload.findings import Level, escape
from safeload.formats.container import Notes
from safeload.walk.names import deceptive, know

__all__ = ["judge_name", "judge_path", "leaves_directory"]

# Libraries whose classes a training's configuration names as a matter of course.
_LIBRARIES: Final = """
    nemo nemo_automodel nemo_text_processing nemo_asr megatron pytorch_lightning lightning lightning_fabric torch torchvision torchaudio
    torchtext torchmetrics torchtune transformers diffusers sentence_transformers peft accelerate omegaconf apex timm monai sklearn
    speechbrain fairseq fairseq2 hydra_plugins bitsandbytes transformer_engine bionemo modulus physicsnemo audiocraft ldm sgm cldm taming
    open_clip detectron2 mmengine mmdet mmcv mmseg espnet espnet2 funasr kornia segmentation_models_pytorch pytorch_forecasting gluonts
    stable_baselines3 gymnasium ray.tune ray.train optuna composer llmfoundry recurrentgemma webdataset datasets einops xformers
    flash_attn deepspeed hydra.core
"""
_CLASS: Final = re.compile(rf"(?:{'|'.join(name.replace('.', '[.]') for name in _LIBRARIES.split())})\.(?:\w+\.)*_*[A-Z]\w*\Z")
_FUNCTIONS: Final = re.compile(
    r"torch\.(?:float|bfloat|int|uint|complex|bool)\d*\Z|torch\.nn\.(?:functional|init)\.[a-z_0-9]+\Z|torch\.(?:relu|tanh|sigmoid|sin|cos|exp|sqrt)\Z"
    r"|transformers\.(?:\w+\.)*get_[a-z_]*schedule[a-z_]*\Z|torchtune\.(?:models|modules|datasets|training|rlhf|data)\.(?:\w+\.)*[a-z_0-9]+\Z"
    r"|numpy\.(?:float|int|uint|bool|array|linspace|arange)\w*\Z|builtins\.(?:dict|list|tuple|set|int|float|str|bool)\Z"
)
_PRETRAINED: Final = re.compile(
    r"(?:transformers|diffusers|sentence_transformers|timm|open_clip|nemo)\.(?:\w+\.)*[A-Z]\w*\.from_(?:pretrained|config)\Z"
)
_DOTTED: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+\Z")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}:(?://|\\\\)")
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")


def judge_name(notes: Notes, label: str, dotted: str, *, known: re.Pattern[str] | None = None) -> None:
    """Say what importing a dotted name reaches (SL823).

    Args:
        notes: Takes the finding: an error when it is known to run code or to reach out, a warning when nothing is known.
        label: Where the name stands, escaped.
        dotted: As the configuration spells it.
        known: Names that are ordinary in this place, beside those of well-known libraries.
    """
    shown = f"'{label}' is {escape(dotted, 120)}"
    module, _, name = dotted.rpartition(".")
    found = know(module or dotted, name)
    trick = None if dotted.isascii() and dotted.isprintable() else deceptive(module or dotted, name or dotted)
    if trick is not None:
        notes.add("SL823", f"{shown}: {trick}")
    elif _PRETRAINED.match(dotted):
        notes.add("SL823", f"{shown}, which loads another model", level=Level.WARNING)
    elif found.level is Level.ERROR:
        notes.add("SL823", f"{shown}: {found.reason or found.capability}")
    elif not _DOTTED.match(dotted):
        notes.add("SL823", f"{shown}, no name of a module and what is in it", level=Level.WARNING)
    elif not (_CLASS.match(dotted) or _FUNCTIONS.match(dotted) or (known is not None and known.match(dotted))):
        notes.add("SL823", f"{shown}, which is imported and belongs to no library that is known here", level=Level.WARNING)


def leaves_directory(text: str) -> str | None:
    """Why a path is no path below its directory, or None."""
    if _SCHEME.match(text):
        return "an address"
    if text.startswith(("/", "\\", "~")) or _DRIVE.match(text):
        return "an absolute path"
    if ".." in re.split(r"[/\\]", text):
        return "a path that climbs out"
    return "a path with a zero byte" if "\0" in text else None


def judge_path(notes: Notes, label: str, text: str) -> None:
    """Say when a path leads out of the directory that it belongs to (SL824)."""
    why = leaves_directory(text)
    if why is not None:
        notes.add("SL824", f"'{label}' is '{escape(text, 120)}', {why}")
