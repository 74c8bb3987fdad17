"""Python files that lie beside a model and would start a process or run code when somebody imports or runs them.

A repository's code is not its weights, and most of it is never run by loading them. What a configuration names is judged there
(`hub_config`); a file that nobody names may still be the one that the repository's instructions say to run.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

from safeload.findings import Level
from safeload.formats.base import Contents
from safeload.formats.container import Notes
from safeload.formats.python_source import LARGEST, dangerous_calls
from safeload.source import Reading, Source

__all__ = ["PythonFile"]

_ENTRIES: Final = 4096  # of a directory that are looked at
_CONFIGURATIONS: Final = frozenset(
    """config.json model_index.json modules.json adapter_config.json config_sentence_transformers.json tokenizer_config.json MLmodel
    generation_config.json preprocessor_config.json saved_model.pb model_config.yaml""".split()  # noqa: SIM905 - a table for people
)
_OF_THE_MODEL: Final = "custom_generate"  # a directory whose code transformers runs for the model above it
_WEIGHTS: Final = frozenset(
    """.safetensors .bin .pt .pth .ckpt .gguf .onnx .h5 .keras .pkl .pickle .joblib .msgpack .tflite .npz .npy .pb .skops .nemo .mlmodel
    .model .ubj .cbm .pt2 .distcp""".split()  # noqa: SIM905 - a table for people
)


class PythonFile:
    """The format "python-source": only of files named `.py`, which are the ones that Python imports, and only beside a model."""

    name: Final = "python-source"

    def claims(self, source: Source) -> bool:
        """Whether it would do something that its reader has to know."""
        return bool(self._calls(source))

    def read(self, source: Source, reading: Reading) -> Contents:
        """Say what it calls."""
        contents, notes = Contents(format=self.name, end=source.size), Notes(None)
        for line, what in self._calls(source):
            message = f"code beside a model {what} in line {line}, for whoever imports or runs it"
            notes.add("SL864", message, level=Level.WARNING)
        contents.findings = notes.done()
        return contents

    def _calls(self, source: Source) -> list[tuple[int, str]]:
        if source.path is None or not 0 < source.size <= LARGEST or Path(source.path).suffix != ".py":
            return []
        if self.name not in source.parsed:
            folder = Path(source.path).absolute().parent
            folder = folder.parent if folder.name == _OF_THE_MODEL else folder
            found = []
            if _holds_model(str(folder), folder.stat().st_mtime_ns):
                found = dangerous_calls(bytes(source.view(0, source.size)).decode("utf-8", "replace"))
            source.parsed[self.name] = found
        calls: list[tuple[int, str]] = source.parsed[self.name]
        return calls


@functools.lru_cache(maxsize=256)
def _holds_model(folder: str, changed: int) -> bool:
    """Whether files of a directory are named as a model's; `changed` keeps the cache true."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(_ENTRIES), strict=False)]
    return any(name in _CONFIGURATIONS or Path(name).suffix.lower() in _WEIGHTS for name in names)
