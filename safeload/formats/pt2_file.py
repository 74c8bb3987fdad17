"""`.pt2` archives: exported programs of torch.export and packages of AOTInductor.

Programs are JSON and are judged by `exported_program`; weights are numbers, or streams where the configuration beside them says
so; a package of AOTInductor carries shared libraries. Records: `archive_format`, `models/*.json`, `data/weights`, `data/constants`,
`data/sample_inputs`, `data/aotinductor`, `extra`; older ones have `serialized_exported_program.json` at the top.
Source: torch/csrc/export/pt2_archive_constants.h and torch/export/pt2_archive/_package.py of torch 2.13.
"""

from __future__ import annotations

from typing import Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Finding, escape
from safeload.formats.archive_kinds import has_program
from safeload.formats.base import Contents, Listed, StreamPart
from safeload.formats.container import Archive, Member
from safeload.formats.exported_program import judge_program
from safeload.formats.json_tree import parse_json
from safeload.formats.nested import read_members
from safeload.formats.storages import as_finding
from safeload.formats.streams import looks_like_pickle
from safeload.formats.zip_container import archive_of, looks_like_zip, read_member
from safeload.lean_dataclass import replace
from safeload.source import Limits, Reading, Source
from safeload.walk import finding, walk

__all__ = ["Pt2File"]

_PROGRAM: Final = 256 << 20
_CONFIG: Final = 64 << 20
_PROBE: Final = 1 << 20
_SHOWN: Final = 50
_OLD: Final = "serialized_exported_program.json"
_PLAIN: Final = frozenset(
    {"archive_format", "archive_version", ".data/version", ".data/serialization_id", "byteorder", "version", ".format_version",
     ".storage_alignment", "module_info.json"}
)  # fmt: skip
_NATIVE: Final = (".so", ".dylib", ".dll", ".pyd", ".cubin", ".hsaco", ".spv", ".o", ".a", ".ptx")

# ScalarType of torch._export.serde.schema → name and bits.
_TYPES: Final = {
    1: ("uint8", 8), 2: ("int8", 8), 3: ("int16", 16), 4: ("int32", 32), 5: ("int64", 64), 6: ("float16", 16), 7: ("float32", 32),
    8: ("float64", 64), 9: ("complex32", 32), 10: ("complex64", 64), 11: ("complex128", 128), 12: ("bool", 8), 13: ("bfloat16", 16),
}  # fmt: skip


class Pt2File:
    """The format "pt2"."""

    name: Final = "pt2"

    def claims(self, source: Source) -> bool:
        """A torch archive that says so, or that has a program where one belongs."""
        return looks_like_zip(source) and has_program([member.name for member in archive_of(source, Limits()).members])

    def read(self, source: Source, reading: Reading) -> Contents:
        """Judge every program, and read every member that is not plain numbers."""
        contents = Contents(format=self.name)
        archive = archive_of(source, reading.limits)
        contents.findings += archive.findings
        contents.error = archive.error
        try:
            _Archive(source, reading, contents, archive).read()
        except MalformedError as error:
            contents.findings.append(as_finding(error, None))
            contents.error = contents.error or error.message
        except SafeloadError as error:
            contents.error = contents.error or str(error)
        return contents


class _Archive:
    """Reads one archive."""

    def __init__(self, source: Source, reading: Reading, contents: Contents, archive: Archive) -> None:
        self.source, self.reading, self.contents, self.archive = source, reading, contents, archive
        self.said: set[str] = set()

    def read(self) -> None:
        """Read every member by its place."""
        tops = {member.name.partition("/")[0] for member in self.archive.members if "/" in member.name}
        flat = any(member.name == _OLD for member in self.archive.members)
        top = "" if flat else f"{next(iter(tops))}/" if len(tops) == 1 else ""
        numbers = self._numbers(top)
        others: list[Member] = []
        programs = 0
        for member in self.archive.members:
            if member.problem is not None or member.is_dir:
                continue
            name = member.name.removeprefix(top)
            if (name.startswith("models/") and name.endswith(".json")) or name == _OLD:
                programs += 1
                self._program(member)
            elif name in numbers:
                self._stream(member)
            elif name not in _PLAIN and not (name.startswith("data/") and name.endswith("_config.json")):
                self._other(name, member)
                others.append(member)
        self.contents.metadata["programs"] = str(programs)
        error = self.contents.error
        read_members(self.source, Archive(members=tuple(others)), self.reading, self.contents)
        # What no reader knows is no reason to refuse: notes and settings of whoever made the archive.
        if self.contents.error != error and " is in no format that is read" in (self.contents.error or ""):
            self.contents.error = error

    def _stream(self, member: Member) -> None:
        """Numbers that are a stream as well, and name something, are looked at as one."""
        region = member.region
        if region.packed is not None or region.nbytes < 4:
            return
        data = self.source.view(region.offset, min(region.nbytes, _PROBE))
        if looks_like_pickle(data, region.nbytes):
            walked = walk(data, limits=self.reading.limits, encoding=self.reading.encoding)
            if walked.globals:
                self.contents.parts.append(StreamPart(member=member.name, offset=0, data=data, walk=walked))

    def _other(self, name: str, member: Member) -> None:
        native = name.lower().endswith(_NATIVE) or self.source.read(*_head(member)).startswith(b"\x7fELF")
        if name.startswith("data/aotinductor/") and (native or name.endswith((".cpp", ".cu"))):
            self._add(member, finding("SL735", "compiled code, or its source, that is loaded into the process"))
        elif native:
            self._add(member, finding("SL735", "compiled code that a program may load into the process"))

    def _program(self, member: Member) -> None:
        data = read_member(self.source, member, self.reading.limits)
        try:
            document = parse_json(data, _PROGRAM, "the program")
        except MalformedError as error:
            self._add(member, as_finding(MalformedError(error.message, where=error.where).under("SL734"), member.name))
            return
        if document.repeated:
            shown = ", ".join(f"'{escape(key, 40)}'" for key in document.repeated)
            self._add(member, finding("SL734", f"keys that stand twice in one object of the program, and readers differ: {shown}"))
        for found in judge_program(document.root):
            self._add(member, found)
        root = document.root
        if isinstance(root, dict) and isinstance(root.get("torch_version"), str):
            self.contents.metadata["torch"] = escape(root["torch_version"], 80)

    def _add(self, member: Member, found: Finding) -> None:
        """Add a finding once for each member, and not a million of one rule."""
        key = f"{member.name}\0{found.message}"
        if key not in self.said and len(self.said) < 4 * _SHOWN:
            self.said.add(key)
            self.contents.findings.append(replace(found, member=member.name))

    def _numbers(self, top: str) -> set[str]:
        """Members that are numbers by the configurations of weights and constants; their tensors are listed."""
        found: set[str] = set()
        for member in self.archive.members:
            name = member.name.removeprefix(top)
            if member.problem is not None or not name.endswith("_config.json") or not name.startswith(("data/weights/", "data/constants/")):
                continue
            folder = name.rpartition("/")[0]
            root = parse_json(read_member(self.source, member, self.reading.limits), _CONFIG, "a configuration of weights").root
            config = root.get("config") if isinstance(root, dict) else None
            for title, entry in config.items() if isinstance(config, dict) else ():
                path = self._entry(str(title), entry)
                if path is not None:
                    found.add(f"{folder}/{path}")
        return found

    def _entry(self, title: str, entry: Any) -> str | None:
        if not isinstance(entry, dict) or not isinstance(entry.get("path_name"), str):
            return None
        meta = entry.get("tensor_meta")
        if isinstance(meta, dict):
            dtype, bits = _TYPES.get(meta.get("dtype", 0), ("unknown", 0)) if isinstance(meta.get("dtype"), int) else ("unknown", 0)
            sizes = meta.get("sizes")
            shape = tuple(_size(size) for size in sizes) if isinstance(sizes, list) and len(sizes) <= 64 else ()
            count = 1
            for size in shape:
                count = min(count * max(size, 0), 1 << 62)
            self.contents.listed.append(Listed(title, dtype, shape, count * bits // 8))
        return None if entry.get("use_pickle") else entry["path_name"]


def _size(size: Any) -> int:
    value = size.get("as_int") if isinstance(size, dict) else None
    return value if isinstance(value, int) and 0 <= value < 1 << 62 else -1


def _head(member: Member) -> tuple[int, int]:
    """Where the first bytes of a stored member lie; of a deflated one they say nothing."""
    region = member.region
    return region.offset, 0 if region.packed is not None else min(4, region.nbytes)
