"""torch's zip checkpoints (torch 1.6 and later) and TorchScript archives, which are the same container.

Records: `<top>/data.pkl` is the stream, `<top>/data/<key>` the storages, and `version`, `byteorder`, `.format_version`,
`.storage_alignment`, `.data/serialization_id` say how it was written. A TorchScript archive also has `constants.pkl`
and `code/`; its code is text here and is never compiled.
Source of the record names: torch/serialization.py and caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import sys
from typing import Final

from safeload.errors import EndiannessError, MalformedError, SafeloadError
from safeload.findings import Level, escape
from safeload.formats.archive_kinds import telling
from safeload.formats.base import Contents, StreamPart
from safeload.formats.first_bytes import looks_like_zip
from safeload.formats.storages import PlainStorages, StorageRef, StorageTable, as_finding, persistent, storage_refs
from safeload.formats.streams import looks_like_pickle, walk_behind
from safeload.formats.zip_container import Archive, Member, archive_of, read_member
from safeload.lean_dataclass import replace
from safeload.program import Region
from safeload.source import Reading, Source
from safeload.walk import default_resolve, finding, walk
from safeload.walk.signatures import Modelled, script_global

__all__ = ["TorchScriptFile", "TorchZipFile"]

_SMALL: Final = 4096
_SHOWN: Final = 20
_CODE: Final = 64 << 20  # bytes of TorchScript code; large models have a few
_PLAIN_RECORDS: Final = frozenset(
    {"data.pkl", "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id", ".data/version"}
)


def _top(archive: Archive) -> str | None:
    """The directory that holds data.pkl, with its slash; None when there is none."""
    for member in archive.members:
        head, slash, tail = member.name.partition("/")
        if slash and tail == "data.pkl":
            return head + "/"
    return None


def _is_script(names: list[str]) -> bool | None:
    """Whether an archive with these members is TorchScript's; None when it is none of torch's."""
    beside = telling(names)
    tops = [name[: -len("/data.pkl")] for name in beside if name.endswith("/data.pkl") and name.count("/") == 1]
    if not tops:
        return None
    # torch looks for "constants.pkl" to tell the two apart; any case counts here, so that nothing slips between.
    folded = {name.casefold() for name in beside}
    return any(f"{top}/constants.pkl".casefold() in folded for top in tops)


def _records(archive: Archive, top: str) -> tuple[dict[str, Member], list[Member], list[Member]]:
    """The records below the top directory by name, further members of the same names, and members outside of it."""
    cut = len(top)
    records = {member.name[cut:]: member for member in archive.members if member.name.startswith(top)}
    again: list[Member] = []
    if len(records) == len(archive.members):
        return records, again, []
    records = {}
    for member in archive.members:
        if member.name.startswith(top) and records.setdefault(member.name[cut:], member) is not member:
            again.append(member)  # noqa: PERF401 — torch takes the first of a name; others take the last
    return records, again, [member for member in archive.members if not member.name.startswith(top)]


class _TorchArchive:
    """What both kinds share."""

    name = "torch-zip"
    script = False

    def claims(self, source: Source) -> bool:
        """A zip with a data.pkl one directory deep; TorchScript when constants.pkl lies beside it."""
        if not looks_like_zip(source):
            return False
        script = source.parsed.get("zip-script", ...)
        if script is ...:
            script = source.parsed["zip-script"] = _is_script(_names(source))
        return script is self.script

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the archive's structure and walk every stream in it."""
        contents = Contents(format=self.name, script=self.script)
        archive = _archive(source, reading)
        contents.findings += archive.findings
        contents.error = archive.error
        top = _top(archive)
        if top is None:
            contents.error = contents.error or "the archive has no data.pkl"
            return contents
        records, again, strangers = _records(archive, top)
        if strangers:
            message = f"members outside the top directory {escape(top)!r}: {escape(strangers[0].name)}"
            contents.findings.append(finding("SL211", message))
        try:
            beside = [name for name in records if not name.startswith("data/")]
            unnamed = [records[name] for name in self._read(source, reading, contents, records, len(records) - len(beside))]
            for member in unnamed:
                self._walk_if_pickle(source, reading, contents, member, named=True)
            if unnamed:
                _hidden_files(source, reading, contents, unnamed)
            self._others(source, reading, contents, [(name, records[name]) for name in beside], strangers + again)
        except MalformedError as error:
            contents.findings.append(as_finding(error, records["data.pkl"].name))
            contents.error = contents.error or error.message
        except SafeloadError as error:
            contents.error = contents.error or str(error)
        _oddly_packed(source, reading, contents, archive)
        return contents

    def _read(self, source: Source, reading: Reading, contents: Contents, records: dict[str, Member], count: int) -> list[str]:
        """Walk the main stream and find its storages; returns those of the `count` records of storages that it does not name."""
        swap = self._facts(source, reading, contents, records)
        self._code(source, reading, contents, records)
        member = records["data.pkl"]
        data = _evidence(source, reading, contents, member)
        walked = walk(data, limits=reading.limits, encoding=reading.encoding, persistent=1, resolve=self.resolve)
        part = StreamPart(member=member.name, offset=0, data=data, walk=walked, main=True)
        contents.parts.append(part)
        if walked.end is not None and walked.end != len(data):
            walk_behind(contents, reading, part)
        if walked.error is None:
            keys = self._storages(contents, part, records, swap=swap)
            if len(keys) == count:  # each of them has a record
                return []
            found = [name for name in records if name.startswith("data/") and name[5:] not in keys and not records[name].is_dir]
            if found:
                contents.findings.append(finding("SL305", f"{len(found)} storage records that the stream does not name"))
            return found
        return []

    def _storages(self, contents: Contents, part: StreamPart, records: dict[str, Member], *, swap: bool) -> set[str]:
        """Find the storages that the stream names; returns their keys."""
        plain = PlainStorages.of(part.walk, records, swap=swap)
        if plain is not None:
            part.persistent, part.storages, contents.storages = persistent(plain.specs), plain, plain
            return plain.keys()
        table = StorageTable(storage_refs(part.walk), lambda ref: self._locate(records, ref), swap=swap)
        part.persistent = persistent(lambda: table.specs)
        part.storages = [None if spec.key in table.shared else spec for spec in table.numbered]
        contents.storages = list(table.specs.values())
        return {spec.key for spec in contents.storages}

    def _facts(self, source: Source, reading: Reading, contents: Contents, records: dict[str, Member]) -> bool:
        """Read the small records; returns whether the byte order is the other one."""
        if "version" not in records and ".data/version" not in records:
            contents.findings.append(finding("SL214", "the archive has no version record"))
        order = reading.byteorder
        for name in ("version", ".data/version", "byteorder", ".format_version", ".storage_alignment"):
            member = records.get(name)
            if member is None:
                continue
            if member.region.nbytes > _SMALL:
                raise MalformedError(f"the record {name} has {member.region.nbytes} bytes").under("SL214")
            value = bytes(read_member(source, member, reading.limits))
            contents.metadata[name.rpartition("/")[2].lstrip(".")] = escape(value.decode("latin-1").strip())
            if name in ("version", ".data/version"):
                number = value.strip()
                if not number.isdigit() or not 1 <= int(number[:9]) <= 10:
                    contents.findings.append(finding("SL214", f"archive version {escape(number.decode('latin-1'), 40)}; 1 to 10 exist"))
            if name == "byteorder":
                order = value.decode("latin-1")
                if order not in ("little", "big"):
                    contents.error, contents.raises = f"Unknown endianness type: {escape(order, 40)}", EndiannessError
                    contents.findings.append(finding("SL214", contents.error))
        return order in ("little", "big") and order != sys.byteorder

    def resolve(self, module: str, attribute: str) -> Modelled | None:
        """What is modelled of a global."""
        return default_resolve(module, attribute)

    def _code(self, source: Source, reading: Reading, contents: Contents, records: dict[str, Member]) -> None:
        """What the archive's code says of its classes; only TorchScript has any."""

    def _locate(self, records: dict[str, Member], ref: StorageRef) -> Region:
        member = records.get(f"data/{ref.key}")
        if member is None:
            raise MalformedError(f"storage {escape(ref.key)!r} is named and not in the archive", where=f"@{ref.at}").under("SL304")
        return member.region

    def _others(
        self, source: Source, reading: Reading, contents: Contents, beside: list[tuple[str, Member]], strangers: list[Member]
    ) -> None:
        """Members that are no torch record: each is read as a file of its own, whatever it is called."""
        others = list(strangers)
        for name, member in beside:
            if name in _PLAIN_RECORDS or member.is_dir:
                continue
            if self.known(name):
                self._walk_if_pickle(source, reading, contents, member)
            else:
                others.append(member)
        for member in others[:_SHOWN]:
            text = f"a member that torch does not write: {escape(member.name)}"
            contents.findings.append(replace(finding("SL215", text), member=member.name))
        if not others:
            return
        from safeload.formats.nested import read_members  # most checkpoints have none

        # What no reader knows is no reason to refuse the checkpoint around it: torch does not look at it either.
        error = contents.error
        read_members(source, Archive(members=tuple(others)), reading, contents)
        contents.error = error

    def known(self, name: str) -> bool:
        """Whether the format itself has a record of this name."""
        return name == "constants.pkl"

    def _walk_if_pickle(self, source: Source, reading: Reading, contents: Contents, member: Member, *, named: bool = False) -> None:
        """Walk a member when its bytes are a pickle stream, whatever it is called; with `named` only if it names a global."""
        data = _evidence(source, reading, contents, member)
        if looks_like_pickle(data):
            walked = walk(data, limits=reading.limits, encoding=reading.encoding, persistent=1, resolve=self.resolve)
            if walked.globals or not named:
                contents.parts.append(StreamPart(member=member.name, offset=0, data=data, walk=walked))


def _hidden_files(source: Source, reading: Reading, contents: Contents, members: list[Member]) -> None:
    """Look whether records of storages that no stream names are files of their own, and keep those that hold what is dangerous.

    Numbers may begin like one by chance, and nobody reads them: what is merely odd about these is let be.
    """
    from safeload.formats.nested import read_members  # most checkpoints have none

    found = Contents(format=contents.format)
    read_members(source, Archive(members=tuple(members)), reading, found)
    told = [item.member for item in found.findings if item.level is Level.ERROR or item.rule == "SL217"]  # or too deep to be seen
    told += [part.member for part in found.parts if any(item.level is Level.ERROR for item in part.walk.findings)]
    dangerous = {member.partition("!")[0] for member in told if member is not None}
    known = {part.member for part in contents.parts}
    for part in found.parts:
        if part.member is not None and part.member.partition("!")[0] in dangerous and part.member not in known:
            contents.parts.append(part)
    contents.findings += (item for item in found.findings if item.member is not None and item.member.partition("!")[0] in dangerous)


def _oddly_packed(source: Source, reading: Reading, contents: Contents, archive: Archive) -> None:
    """Look into records that torch does not unpack and Python's zipfile does; the archive is refused for them anyway."""
    if not any(member.problem for member in archive.members):
        return
    from safeload.formats.nested import oddly_packed, read_members

    odd = tuple(member for member in archive.members if oddly_packed(member))
    error = contents.error
    read_members(source, Archive(members=odd), reading, contents)
    contents.error = error


def _evidence(source: Source, reading: Reading, contents: Contents, member: Member) -> memoryview:
    """The bytes of a stream; a wrong CRC is a finding and hides nothing, because torch does not compare it."""
    try:
        return read_member(source, member, reading.limits)
    except MalformedError as error:
        if error.rule != "SL209":
            raise
        contents.findings.append(as_finding(error, member.name))
        return read_member(source, member, reading.limits, crc=False)


def _names(source: Source) -> list[str]:
    """Member names, for a claim: from the central directory, or none when there is none to read."""
    try:
        return [member.name for member in _archive(source, Reading()).members]
    except SafeloadError:
        return []


def _archive(source: Source, reading: Reading) -> Archive:
    """The archive's directory, parsed once for the claim and the reading."""
    return archive_of(source, reading.limits)


class TorchZipFile(_TorchArchive):
    """The format "torch-zip"."""


class TorchScriptFile(_TorchArchive):
    """The format "torchscript": its objects are described, its code is never compiled."""

    name = "torchscript"
    script = True

    def resolve(self, module: str, attribute: str) -> Modelled | None:
        """Script classes live in the archive, not in any Python package."""
        return script_global(module, attribute)

    def known(self, name: str) -> bool:
        """Code, its debug files, constants, and the arguments that it was traced with belong to the format."""
        named = name in ("constants.pkl", "traced_inputs.pkl")
        return named or name.startswith(("code/", "constants/", "extra/")) or name.endswith(".debug_pkl")

    def _code(self, source: Source, reading: Reading, contents: Contents, records: dict[str, Member]) -> None:
        """Which attributes of a class are parameters and buffers, and which operators are called: it stands in the text of the code."""
        from safeload.formats.script_code import script_classes
        from safeload.formats.script_operators import judge_bytecode, judge_code

        left = _CODE
        known: set[str] = set()
        for name, member in records.items():
            bytecode = name == "bytecode.pkl"
            if not bytecode and not (name.startswith("code/") and name.endswith(".py")):
                continue
            left -= member.region.nbytes
            if left < 0:
                message = f"more than {_CODE} bytes of code; the rest was not looked at"
                contents.findings.append(replace(finding("SL733", message), member=member.name))
                return
            data = _evidence(source, reading, contents, member)
            text = "" if bytecode else bytes(data).decode("utf-8", "replace")
            for found, at in judge_bytecode(data) if bytecode else judge_code(text):
                if found.message not in known and len(known) < _SHOWN:  # each operator once, where it stands first
                    known.add(found.message)
                    place = at if bytecode or text.isascii() else len(text[:at].encode())
                    contents.findings.append(replace(found, member=member.name, offset=place))
            contents.modules.update(script_classes(name, text))
