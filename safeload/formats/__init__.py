"""Which reader a file is for, by its content alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from safeload.findings import Level
from safeload.formats.base import Contents, Format, StreamPart
from safeload.formats.compressed_file import CompressedFile
from safeload.formats.gguf_file import GgufFile
from safeload.formats.index_file import IndexFile
from safeload.formats.inner_bytes import read_inner
from safeload.formats.joblib_file import JoblibFile
from safeload.formats.not_a_model import diagnose
from safeload.formats.npy_file import NpyFile
from safeload.formats.pickle_file import PickleFile
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.formats.skops_file import SkopsFile
from safeload.formats.tar_file import TarFile
from safeload.formats.torch_legacy_file import TorchLegacyFile
from safeload.formats.torch_tar_file import TorchTarFile
from safeload.formats.torch_zip_file import TorchScriptFile, TorchZipFile
from safeload.formats.zip_container import trailing_zip
from safeload.formats.zip_file import ZipFile
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["FORMATS", "Contents", "Format", "StreamPart", "detect", "diagnose", "read"]

FORMATS: Final[tuple[Format, ...]] = (
    TorchZipFile(),
    TorchScriptFile(),
    SkopsFile(),
    ZipFile(),
    SafetensorsFile(),
    NpyFile(),
    GgufFile(),
    TorchTarFile(),
    TarFile(),
    CompressedFile(),
    TorchLegacyFile(),
    JoblibFile(),
    PickleFile(),
    IndexFile(),
)
"""In the order in which they are asked; the first that claims a file reads it."""


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
        return _zip_only(source, reading or Reading())
    reading = reading or Reading()
    contents = reader.read(source, reading)
    read_inner(source, reading, contents)
    if contents.format == "safetensors" and contents.metadata:
        from safeload.formats.manifest import read_manifest

        read_manifest(source, reading, contents)
    if not reader.name.startswith(("torch-zip", "torchscript", "zip")) and trailing_zip(source):
        # An archive inside the last value of a stream is data; one behind the format's own end is a second face.
        level = Level.NOTE if contents.end == source.size else None
        message = f"the file is {reader.name} from its front and a ZIP archive from its end"
        contents.findings.append(finding("SL213", message, level=level))
    return contents


def _zip_only(source: Source, reading: Reading) -> Contents | None:
    """A file that is nothing that is read here from its front, and an archive from its end: some readers look only there."""
    if not trailing_zip(source):
        return None
    contents = ZipFile().read(source, reading)
    # A self-extracting archive looks like this, too: odd, and nobody's deception as long as the front is nothing that is read here.
    contents.findings = [
        replace(item, level=Level.WARNING) if item.rule == "SL205" and item.level is Level.ERROR else item for item in contents.findings
    ]
    message = "the file is something else from its front and a ZIP archive from its end"
    contents.findings.append(finding("SL213", message, level=Level.WARNING))
    return contents
