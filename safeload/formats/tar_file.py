"""tar files that are no torch checkpoint: what is in them is looked at, because some program will open it."""

from __future__ import annotations

from typing import Final

from safeload.formats.base import Contents
from safeload.formats.nested import read_members
from safeload.formats.polyglot import second_stream
from safeload.formats.tar_container import Archive, looks_like_tar, read_member, read_tar
from safeload.formats.torch_tar_file import TorchTarFile
from safeload.source import Reading, Source

__all__ = ["TarFile"]

_TORCH: Final = TorchTarFile()
_NEMO: Final = "model_config.yaml"
_TORCHSERVE: Final = "mar-inf/manifest.json"


class TarFile:
    """The format "tar"."""

    name: Final = "tar"

    def claims(self, source: Source) -> bool:
        """A tar file without the members of a torch checkpoint."""
        return looks_like_tar(source) and not _TORCH.claims(source)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the structure, and every member as a file of its own."""
        contents = Contents(format=self.name)
        archive = read_tar(source, reading.limits)
        contents.findings += archive.findings
        contents.error = archive.error
        # What its last member holds is looked at below; an archive at its end is no second face of the file.
        contents.end = source.size if archive.error is None else None
        contents.metadata["members"] = str(len(archive.members))
        read_members(source, archive, reading, contents)
        self._kind(source, archive, reading, contents)
        second_stream(source, reading, contents)
        return contents

    def _kind(self, source: Source, archive: Archive, reading: Reading, contents: Contents) -> None:
        """Name the archives of model zoos by what lies in them; one of TorchServe's has a manifest to be judged."""
        names = {member.name.removeprefix("./") for member in archive.members}
        if _NEMO in names:
            contents.format = "nemo"
        elif any(name.lower().endswith(_TORCHSERVE) for name in names):
            from safeload.formats.torchserve_file import judge_archive

            contents.format = "torchserve"
            judge_archive(archive, lambda member: read_member(source, member, reading.limits), contents)
