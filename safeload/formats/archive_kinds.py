"""Which kind of torch's archives a zip is, by the names of its members: what its reader needs is imported only then."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["has_program", "is_package"]


def has_program(names: Sequence[str]) -> bool:
    """Whether there is an exported program, whatever else lies in the archive: `torch.export.load` looks for nothing more."""
    known = set(names)
    if "serialized_exported_program.json" in known:
        return True
    for name in names:
        top, slash, rest = name.partition("/")
        program = rest.startswith("models/") and rest.endswith(".json") and f"{top}/data.pkl" not in known
        if slash and (rest == "archive_format" or program):
            return True
    return False


def is_package(names: Sequence[str]) -> bool:
    """Whether it is an archive of torch.package: `PackageImporter` wants a list of outer modules and nothing more."""
    return any(name.partition("/")[2] == ".data/extern_modules" for name in names)
