"""ZIP files that are no torch archive: numpy's .npz, folders that were zipped, wheels, archives of archives.

There is nothing in them for a load to build. Whatever is in them is looked at, because some program will open it.
"""

from __future__ import annotations

from typing import Final

from safeload.errors import MalformedError
from safeload.formats.base import Contents
from safeload.formats.nested import read_members
from safeload.formats.not_a_model import diagnose
from safeload.formats.torch_zip_file import TorchScriptFile, TorchZipFile
from safeload.formats.zip_container import looks_like_zip, read_archive
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["ZipFile"]

_TORCH: Final = (TorchZipFile(), TorchScriptFile())


class ZipFile:
    """The format "zip"."""

    name: Final = "zip"

    def claims(self, source: Source) -> bool:
        """A zip that neither of torch's two readers claims."""
        return looks_like_zip(source) and not any(reader.claims(source) for reader in _TORCH)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the structure, and every member as a file of its own."""
        contents = Contents(format=self.name)
        archive = read_archive(source, reading.limits)
        contents.findings += archive.findings
        contents.error = archive.error
        if archive.error is not None and not archive.members:
            _name_truncation(source, contents)
        contents.metadata["members"] = str(len(archive.members))
        try:
            read_members(source, archive, reading, contents)
        except MalformedError as error:
            contents.error = contents.error or error.message
        return contents


def _name_truncation(source: Source, contents: Contents) -> None:
    """A zip without its directory is a download that stopped early; say so in place of what the directory's reader missed."""
    rule, message, _ = diagnose(source)
    if rule == "SL502":
        contents.findings = [item for item in contents.findings if item.rule != "SL201"]
        contents.findings.append(finding(rule, message))
        contents.error = message
