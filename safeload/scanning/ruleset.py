"""Which rules a result is by: a name that changes with everything that could change a verdict."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

import safeload

__all__ = ["ruleset"]

# All that leads from bytes to findings. What only loads, signs, converts or prints does not.
_JUDGES: Final = (
    "walk", "formats", "rules.py", "denied.py", "findings.py", "program.py", "source.py", "reporting.py", "api.py", "conversion/opening.py",
)  # fmt: skip
_ENDINGS: Final = (".py", ".toml", ".json")
# Readers that use a library say more where it is installed.
_LIBRARIES: Final = ("Jinja2", "onnx", "h5py", "lz4", "zstandard", "py7zr", "defusedxml", "fickling")


@functools.cache
def ruleset() -> str:
    """The version of safeload, and a digest of what judges in it: 16 hex digits.

    Found from the sources themselves, so that a development version has rules of its own, too.
    """
    from importlib.metadata import PackageNotFoundError, version

    top = Path(safeload.__file__).parent
    hasher = hashlib.sha256()
    for name in _JUDGES:
        place = top / name
        files = [place] if place.suffix else sorted(path for path in place.rglob("*") if path.suffix in _ENDINGS)
        for path in files:
            hasher.update(f"{path.relative_to(top).as_posix()}\0".encode())
            try:
                hasher.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                hasher.update(b"missing")
    for library in _LIBRARIES:
        try:
            hasher.update(f"{library} {version(library)}\0".encode())
        except PackageNotFoundError:
            hasher.update(f"{library} -\0".encode())
    return f"{safeload.__version__}+{hasher.hexdigest()[:16]}"
