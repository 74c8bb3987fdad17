"""ZIP files that are no torch archive: numpy's .npz, folders that were zipped, wheels, archives of archives.

There is nothing in them for a load to build. Whatever is in them is looked at, because some program will open it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from safeload.errors import MalformedError
from safeload.formats.base import Contents
from safeload.formats.container import Member
from safeload.formats.first_bytes import looks_like_zip
from safeload.formats.nested import Seen, read_members
from safeload.formats.not_a_model import diagnose
from safeload.formats.torch_zip_file import TorchScriptFile, TorchZipFile
from safeload.formats.zip_container import archive_of
from safeload.lean_dataclass import replace
from safeload.source import Reading, Source
from safeload.walk import finding

__all__ = ["ZipFile", "read_zip"]

_TORCH: Final = (TorchZipFile(), TorchScriptFile())


class ZipFile:
    """The format "zip"."""

    name: Final = "zip"

    def claims(self, source: Source) -> bool:
        """A zip that neither of torch's two readers claims."""
        return looks_like_zip(source) and not any(reader.claims(source) for reader in _TORCH)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the structure, and every member as a file of its own."""
        return read_zip(source, reading, self.name)


def read_zip(source: Source, reading: Reading, name: str, known: Collection[Member] = (), seen: Seen | None = None) -> Contents:
    """Read a zip's structure, and every member as a file of its own.

    Args:
        source: The archive.
        reading: How.
        name: What the report calls the format.
        known: Members that the caller reads itself.
        seen: Called with each other member that a reader claimed, and what was found in it.
    """
    contents = Contents(format=name)
    archive = archive_of(source, reading.limits)
    contents.findings += archive.findings
    contents.error = archive.error
    if archive.error is not None and not archive.members:
        _name_truncation(source, contents)
    contents.metadata["members"] = str(len(archive.members))
    others = replace(archive, members=tuple(member for member in archive.members if member not in known)) if known else archive
    try:
        read_members(source, others, reading, contents, seen)
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
