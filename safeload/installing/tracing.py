"""Write down every load of a process, one JSON object a line, for `safeload trace`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from safeload.errors import RefusedError, SafeloadError
from safeload.findings import Report
from safeload.source import Source

__all__ = ["EVENT", "write_trace"]

EVENT = "safeload.load"
"""The audit event that every load ends with: the `Source`, the `Report`, and the `SafeloadError` that it raises, or None."""


def write_trace(path: str) -> None:
    """From now on, append every load of this process to a file.

    A line is written at once and in one piece, so that several processes may share the file and a killed one loses nothing.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == EVENT:
            _write(path, _line(*arguments))

    sys.addaudithook(hook)


def _line(source: Source, report: Report, error: SafeloadError | None) -> dict[str, Any]:
    decision = "allowed" if error is None else "refused" if isinstance(error, RefusedError) else "error"
    try:
        sha256 = source.digest("sha256", hashlib.sha256)
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
