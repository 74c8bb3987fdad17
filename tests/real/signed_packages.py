"""Fetch signatures that real publishers made on the public Sigstore: the samples that the package pypi-attestations ships.

They are attestations of wheels and sdists, as GitHub, GitLab, CircleCI and Google's builders made them for PyPI, together with
the files. They belong to their authors and are never vendored.
"""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

from tests.real.fetch import download

__all__ = ["PACKAGE", "fetch_signed"]

PACKAGE: Final = "pypi-attestations==0.0.30"
_FOLDER: Final = PurePosixPath("test/assets")
_LARGEST: Final = 1 << 20


def fetch_signed(directory: Path) -> Path:
    """Download the sdist below `directory`, and return the folder with its samples."""
    into = directory / "signed"
    archive = download(PACKAGE, directory / "packages" / PACKAGE.replace("==", "-sdist-"), source=True)
    into.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as sdist:
        for member in sdist.getmembers():
            path = PurePosixPath(member.name)
            reader = sdist.extractfile(member) if member.isfile() and member.size <= _LARGEST else None
            if reader is not None and PurePosixPath(*path.parts[1:-1]) == _FOLDER:
                (into / path.name).write_bytes(reader.read())
    return into
