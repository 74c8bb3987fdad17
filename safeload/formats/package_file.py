"""torch.package archives: pickled objects together with the Python modules of their classes.

`PackageImporter` imports modules out of the archive, and unpickles objects of their classes, so to load a package is to run its code.
The streams are walked like those of a checkpoint; the modules are text here, searched for what they call and never compiled.
Records: `<top>/.data/extern_modules`, `.data/python_version`, `.data/<key>.storage`, `<package>/<resource>.pkl`, `<module>.py`.
Source: torch/package/package_importer.py and package_exporter.py of torch 2.13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.base import Contents, StreamPart
from safeload.formats.container import Archive, Member
from safeload.formats.nested import read_members
from safeload.formats.python_source import LARGEST, dangerous_calls
from safeload.formats.storages import as_finding, reference
from safeload.formats.streams import looks_like_pickle, walk_behind
from safeload.formats.zip_container import archive_of, looks_like_zip, read_member
from safeload.lean_dataclass import replace
from safeload.program import StorageSpec
from safeload.source import Limits, Reading, Source
from safeload.walk import finding, walk

if TYPE_CHECKING:
    from safeload.walk.model import Model, Persistent

__all__ = ["PackageFile"]

_SMALL: Final = 1 << 20
_SOURCES: Final = 64 << 20  # bytes of modules that are searched
_SHOWN: Final = 20
_PLAIN: Final = frozenset(
    {".data/extern_modules", ".data/python_version", ".data/version", ".data/serialization_id", "version", "byteorder"}
)


class PackageFile:
    """The format "pytorch-package"."""

    name: Final = "pytorch-package"

    def claims(self, source: Source) -> bool:
        """A torch archive with a list of the modules that lie outside of it."""
        from safeload.formats.archive_kinds import is_package

        return looks_like_zip(source) and is_package([member.name for member in archive_of(source, Limits()).members])

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk every stream, and search every module."""
        contents = Contents(format=self.name)
        archive = archive_of(source, reading.limits)
        contents.findings += archive.findings
        contents.error = archive.error
        try:
            _Package(source, reading, contents, archive).read()
        except MalformedError as error:
            contents.findings.append(as_finding(error, None))
            contents.error = contents.error or error.message
        except SafeloadError as error:
            contents.error = contents.error or str(error)
        return contents


class _Package:
    """Reads one archive."""

    def __init__(self, source: Source, reading: Reading, contents: Contents, archive: Archive) -> None:
        self.source, self.reading, self.contents = source, reading, contents
        self.members = [member for member in archive.members if member.problem is None and not member.is_dir]
        tops = (member.name.partition("/")[0] for member in archive.members if member.name.endswith("/.data/extern_modules"))
        top = next(tops, "")
        self.top = f"{top}/"
        self.records = {member.name.removeprefix(self.top): member for member in reversed(self.members)}

    def read(self) -> None:
        """Read every member by its name."""
        modules: list[Member] = []
        others: list[Member] = []
        for member in self.members:
            name = member.name.removeprefix(self.top)
            if name in _PLAIN:
                self._fact(name, member)
            elif name.endswith(".py"):
                modules.append(member)
            elif not (name.endswith(".pkl") and self._stream(member)) and not (name.startswith(".data/") and name.endswith(".storage")):
                others.append(member)
        self._modules(modules)
        error = self.contents.error
        read_members(self.source, Archive(members=tuple(others)), self.reading, self.contents)
        # Resources of a package are what its code makes of them; what no reader knows is no reason to refuse.
        if self.contents.error != error and " is in no format that is read" in (self.contents.error or ""):
            self.contents.error = error

    def _fact(self, name: str, member: Member) -> None:
        if name not in (".data/extern_modules", ".data/python_version") or member.region.nbytes > _SMALL:
            return
        text = bytes(read_member(self.source, member, self.reading.limits)).decode("utf-8", "backslashreplace")
        self.contents.metadata[name.rpartition("/")[2]] = escape(", ".join(text.split()), 1000)

    def _stream(self, member: Member) -> bool:
        """Walk a pickled object; return whether it is one."""
        data = read_member(self.source, member, self.reading.limits)
        if not looks_like_pickle(data):
            return False
        walked = walk(data, limits=self.reading.limits, encoding=self.reading.encoding, persistent=1)
        part = StreamPart(member=member.name, offset=0, data=data, walk=walked)
        self.contents.parts.append(part)
        if walked.end is not None and walked.end != len(data):
            walk_behind(self.contents, self.reading, part)
        part.persistent = self._persistent()
        return True

    def _persistent(self) -> Persistent:
        """How ids are understood: as in a checkpoint, with a number for a key and a name of its own for the record."""
        specs: dict[tuple[str, str], StorageSpec] = {}

        def load(pid: Any, model: Model, at: int) -> StorageSpec:
            if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage" or type(pid[2]) not in (int, str):
                raise MalformedError("a persistent id that names no storage").under("SL109")
            ref = reference(model.name_of(pid[1]), (str(pid[2]), *pid[3:]), at)
            key = (ref.key, ref.type_name)
            if key not in specs:
                member = self.records.get(f".data/{ref.key}.storage")
                if member is None or member.region.nbytes != ref.nbytes:
                    held = "none" if member is None else f"one of {member.region.nbytes} bytes"
                    message = f"storage {escape(ref.key)!r} of {ref.nbytes} bytes is named, and {held} is in the archive"
                    raise MalformedError(message).under("SL304" if member is None else "SL302")
                specs[key] = StorageSpec(ref.key, ref.dtype, ref.numel, ref.nbytes, ref.location, member.region)
            return specs[key]

        return load

    def _modules(self, modules: list[Member]) -> None:
        if not modules:
            return
        more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
        message = f"Python code that runs when the package is loaded: '{escape(modules[0].name, 80)}'{more}"
        self.contents.findings.append(replace(finding("SL737", message), member=modules[0].name))
        left, said = _SOURCES, 0
        for member in modules:
            left -= member.region.nbytes
            if left < 0 or member.region.nbytes > LARGEST:
                message = "Python code that is longer than is searched"
                self.contents.findings.append(replace(finding("SL737", message), member=member.name))
                return
            text = bytes(read_member(self.source, member, self.reading.limits)).decode("utf-8", "replace")
            for line, what in dangerous_calls(text):
                said += 1
                if said <= _SHOWN:
                    message = f"the code {what} in line {line}"
                    self.contents.findings.append(replace(finding("SL864", message, level=Level.ERROR), member=member.name))
