"""Keras' files of version 3 (".keras") and its configurations as plain JSON.

A .keras file is a zip of `config.json` (which objects to make), `metadata.json` (who wrote it) and `model.weights.h5` or
`model.weights.npz`, with `assets/` for what layers keep in files of their own. Every member is read like a file of its own; the
configuration must be one, because Keras makes whatever it names.
Source of the member names: keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import Finding, escape
from safeload.formats.base import Contents, Listed
from safeload.formats.container import Member
from safeload.formats.first_bytes import looks_like_zip
from safeload.formats.json_tree import parse_json
from safeload.formats.keras_config import CONFIG_BYTES, Checked, check_config, decoded, looks_like_config
from safeload.formats.storages import as_finding
from safeload.formats.zip_container import archive_of
from safeload.formats.zip_file import read_zip
from safeload.formats.zip_read import read_member
from safeload.lean_dataclass import replace
from safeload.source import Reading, Source

__all__ = ["KerasFile", "KerasJsonFile"]

_CONFIG: Final = "config.json"
_METADATA: Final = "metadata.json"
_WEIGHTS: Final = ("model.weights.h5", "model.weights.npz")
_SMALL: Final = 1 << 20
_HEAD: Final = 4096


class KerasFile:
    """The format "keras"."""

    name: Final = "keras"

    def claims(self, source: Source) -> bool:
        """A zip with a config.json beside a metadata.json or weights, as Keras writes them."""
        if not looks_like_zip(source):
            return False
        try:
            names = {member.name for member in archive_of(source, Reading().limits).members}
        except SafeloadError:
            return False
        return _CONFIG in names and not names.isdisjoint((_METADATA, *_WEIGHTS))

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the archive, judge the configuration, and read every other member as a file of its own."""
        known = [member for member in archive_of(source, reading.limits).members if member.name in (_CONFIG, _METADATA)]
        tensors: list[Listed] = []

        def seen(member: Member, found: Contents) -> None:
            if member.name in _WEIGHTS:
                tensors.extend(found.listed)

        contents = read_zip(source, reading, self.name, known, seen)
        contents.listed = tensors
        del contents.metadata["members"]
        for member in known:
            try:
                self._member(source, reading, contents, member)
            except MalformedError as error:
                contents.findings.append(as_finding(error, member.name))
                contents.error = contents.error or f"member '{member.name}': {error.message}"
            except SafeloadError as error:
                contents.error = contents.error or str(error)
        return contents

    def _member(self, source: Source, reading: Reading, contents: Contents, member: Member) -> None:
        if member.problem is not None:
            return  # the structure's findings speak for it
        most = CONFIG_BYTES if member.name == _CONFIG else _SMALL
        if member.region.nbytes > most:
            raise MalformedError(f"has {member.region.nbytes} bytes; at most {most} are read").under("SL801")
        # Keras' own reader compares the checksum, so the bytes that it gets are these.
        data = read_member(source, member, reading.limits)
        if member.name == _CONFIG:
            take(check_config(data, reading, top=True), contents, member.name)
            return
        root = parse_json(decoded(data), most, "metadata.json").root
        for key in ("keras_version", "date_saved"):
            if isinstance(root, dict) and isinstance(root.get(key), str):
                contents.metadata[key] = escape(root[key], 80)


class KerasJsonFile:
    """The format "keras-json": what `model.to_json()` gives, and the config.json of an unpacked .keras file."""

    name: Final = "keras-json"

    def claims(self, source: Source) -> bool:
        """An object with a class name and a configuration."""
        return keras_root(source) is not None

    def read(self, source: Source, reading: Reading) -> Contents:
        """Judge the configuration."""
        contents = Contents(format=self.name)
        take(check_config(source.view(0, source.size), reading, top=True), contents, None)
        contents.end = source.size
        return contents


def keras_root(source: Source) -> Any:
    """The object that a JSON text is, when it is a Keras configuration; else None."""
    if "keras" not in source.parsed:
        source.parsed["keras"] = _root(source)
    return source.parsed["keras"]


def _root(source: Source) -> Any:
    head = source.head(_HEAD)
    if not looks_like_config(head + b'"class_name"') or source.size > CONFIG_BYTES:
        return None
    data = source.view(0, source.size)
    if not looks_like_config(bytes(data)):
        return None
    try:
        root = parse_json(decoded(data), CONFIG_BYTES).root
    except MalformedError:
        return None
    return root if isinstance(root, dict) and isinstance(root.get("class_name"), str) and "config" in root else None


def take(checked: Checked, contents: Contents, member: str | None) -> None:
    """Hand on what was found in a configuration.

    Args:
        checked: The configuration.
        contents: Of the file around it.
        member: Where it stands there.
    """
    contents.findings += _within(checked.findings, member)
    contents.metadata |= checked.metadata
    for part in checked.parts:
        part.member = part.member if member is None else f"{member}!{part.member}"
        contents.parts.append(part)
    contents.error = contents.error or checked.error


def _within(findings: list[Finding], member: str | None) -> Iterator[Finding]:
    return (replace(item, member=member) for item in findings)
