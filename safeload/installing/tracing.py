"""Write down every load of a process, one JSON object a line, for `safeload trace`.

Loads that go through safeload announce themselves, with all that is known of them. Model files that other loaders open are
written down by path only: those that Python opens are announced by Python; safetensors and TorchScript open theirs in native
code, so their functions are wrapped.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from safeload.errors import RefusedError, SafeloadError
from safeload.findings import Report
from safeload.installing.arrival import Watcher
from safeload.source import Source

__all__ = ["EVENT", "SUFFIXES", "write_trace"]

EVENT: Final = "safeload.load"
"""The audit event that every load ends with: the `Source`, the `Report`, and the `SafeloadError` that it raises, or None."""

SUFFIXES: Final = frozenset(
    """.pt .pth .ckpt .bin .safetensors .pkl .pickle .joblib .npy .npz .h5 .hdf5 .keras .onnx .gguf .ggml .msgpack .pt2 .jit .ts .mar
    .nemo .t7 .tflite .caffemodel .pb .params .dill .distcp""".split()  # noqa: SIM905 - a table for people
)
"""Endings of files that are worth a look when another loader opens them; what they are is then decided by content."""

_NATIVE: Final = {"safetensors": "safe_open", "torch.jit._serialization": "load"}
_WRITES: Final = os.O_WRONLY | os.O_RDWR


def write_trace(path: str) -> None:
    """From now on, append every load of this process to a file.

    A line is written at once and in one piece, so that several processes may share the file and a killed one loses nothing.
    """
    opened: set[str] = set()

    def note(place: Any) -> None:
        found = _model_path(place)
        if found is not None and found not in opened:
            opened.add(found)
            _write(path, {"opened": found})

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (isinstance(mode, str) and set(mode) & set("wax")) and not (isinstance(flags, int) and flags & _WRITES):
                note(arguments[0])
        elif event == EVENT:
            _write(path, _line(*arguments))

    Watcher({module: functools.partial(_wrap, name=name, note=note) for module, name in _NATIVE.items()}).start()
    sys.addaudithook(hook)


def _wrap(module: ModuleType, *, name: str, note: Callable[[Any], None]) -> None:
    """Let a function say which file it opens."""
    original = getattr(module, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def wrapper(*args: Any, **options: Any) -> Any:
        note(args[0] if args else next(iter(options.values()), None))
        return original(*args, **options)

    setattr(module, name, wrapper)


def _model_path(place: Any) -> str | None:
    """The absolute path of a file that may be a model, else None."""
    if not isinstance(place, (str, bytes, os.PathLike)):
        return None
    found = os.fsdecode(place)
    if Path(found).suffix.lower() not in SUFFIXES:
        return None
    return str(Path(found).absolute())


def _line(source: Source, report: Report, error: SafeloadError | None) -> dict[str, Any]:
    decision = "allowed" if error is None else "refused" if isinstance(error, RefusedError) else "error"
    try:
        sha256 = source.sha256
    except SafeloadError:
        sha256 = None
    return {
        "path": str(Path(source.path).absolute()) if source.path is not None else None,
        "name": source.name,
        "format": report.format,
        "size": source.size,
        "sha256": sha256,
        "decision": decision,
        "message": None if error is None else error.message,
        "globals": list(report.unmodelled),
    }


def _write(path: str, line: dict[str, Any]) -> None:
    data = json.dumps(line).encode("ascii") + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
    try:
        os.write(file, data)
    finally:
        os.close(file)
