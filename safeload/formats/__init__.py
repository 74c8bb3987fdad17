"""Which reader a file is for, by its content alone.

A file that two readers claim is refused as a polyglot: each of two programs would see another file.
"""

from __future__ import annotations

from typing import Final

from safeload.formats.base import Contents, Format, StreamPart
from safeload.formats.pickle_file import PickleFile
from safeload.formats.torch_legacy_file import TorchLegacyFile
from safeload.formats.torch_zip_file import TorchScriptFile, TorchZipFile
from safeload.source import Reading, Source


__all__ = ["FORMATS", "Contents", "Format", "StreamPart", "detect", "read"]

FORMATS: Final[tuple[Format, ...]] = (TorchZipFile(), TorchScriptFile(), TorchLegacyFile(), PickleFile())


def detect(source: Source) -> Format | None:
    """The reader for a file, or None when nobody claims it."""
    return next((reader for reader in FORMATS if reader.claims(source)), None)


def read(source: Source, reading: Reading | None = None) -> Contents | None:
    """Read a file by its own format.

    Returns:
        What was found, or None when no reader claims the file.
    """
    reader = detect(source)
    if reader is None:
        return None
    return reader.read(source, reading or Reading())


