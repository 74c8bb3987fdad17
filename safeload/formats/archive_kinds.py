"""Which kind of torch's archives a zip is, by the names of its members: what its reader needs is imported only then."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["has_program", "is_package", "telling"]


def telling(names: Sequence[str]) -> list[str]:
    """The names that can tell the kinds apart: of the tens of thousands that an archive may have, nearly all are of its storages."""
    return [name for name in names if "/data/" not in name or "/models/" in name]


def has_program(names: Sequence[str]) -> bool:
    """Whether there is an exported program, whatever else lies in the archive: `torch.export.load` looks for nothing more."""
    said = telling(names)
    known = set(said)  # an archive can have any number of programs beside the one stream that they are compared with
    if "serialized_exported_program.json" in known:
        return True
    for name in said:
        top, slash, rest = name.partition("/")
        if slash and rest == "archive_format":
            return True
        if rest.startswith("models/") and rest.endswith(".json") and f"{top}/data.pkl" not in known:
            return True
    return False


def is_package(names: Sequence[str]) -> bool:
    """Whether it is an archive of torch.package: `PackageImporter` wants a list of outer modules and nothing more."""
    return any(name.partition("/")[2] == ".data/extern_modules" for name in telling(names))
