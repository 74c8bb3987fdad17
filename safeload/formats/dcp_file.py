"""Distributed checkpoints of torch: `.metadata`, and the files of items beside it.

`.metadata` is a pickle that torch reads with the plain unpickler, unguarded. What torch writes into it is a handful of dataclasses that
hold texts, sizes and places; those are described here and never made, and everything else is judged as in any stream. The
other files (`__0_0.distcp`) are items behind one another, each an archive as `torch.save` writes it.
Source: torch/distributed/checkpoint/metadata.py and filesystem.py of torch 2.13.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats.base import Contents, Listed, StreamPart
from safeload.formats.container import Archive, Member
from safeload.formats.first_bytes import END, END_SIGNATURE, looks_like_zip
from safeload.formats.nested import read_members
from safeload.formats.onnx_tensor import location_problems
from safeload.formats.pickle_file import PickleFile
from safeload.formats.storages import as_finding
from safeload.formats.streams import walk_behind
from safeload.program import DTYPE_BITS, Call, Global, Inert, Region
from safeload.source import Reading, Source
from safeload.walk import default_resolve, finding, walk
from safeload.walk.model import Model, build
from safeload.walk.signatures import Modelled, described

__all__ = ["DcpMetadataFile", "DcpShardFile"]

_METADATA: Final = "torch.distributed.checkpoint.metadata"
_CLASSES: Final = frozenset(
    f"{_METADATA}.{name}"
    for name in ("Metadata", "TensorStorageMetadata", "TensorProperties", "_MEM_FORMAT_ENCODING", "ChunkStorageMetadata",
                 "BytesStorageMetadata", "MetadataIndex", "StorageMeta")
) | {"torch.distributed.checkpoint.filesystem._StorageInfo"}  # fmt: skip
_INDEX: Final = f"{_METADATA}.MetadataIndex"
_MOST: Final = 1 << 62
_SHOWN: Final = 50
_CHUNK: Final = 4 << 20
_LOCAL: Final = b"PK\3\4"


class DcpMetadataFile:
    """The format "dcp-metadata"."""

    name: Final = "dcp-metadata"

    def claims(self, source: Source) -> bool:
        """A stream that names the metadata's own class first."""
        return _METADATA.encode() in source.head(256) and PickleFile().claims(source)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk the stream, and look at the places that it names."""
        contents = Contents(format=self.name)
        if source.size > reading.limits.stream_bytes:
            contents.error = f"a stream of {source.size} bytes; at most {reading.limits.stream_bytes} are read"
            return contents
        data = source.view(0, source.size)
        walked = walk(data, limits=reading.limits, encoding=reading.encoding, resolve=_resolve)
        part = StreamPart(member=None, offset=0, data=data, walk=walked)
        contents.parts.append(part)
        walk_behind(contents, reading, part)
        if walked.error is not None:
            contents.error = f"the stream breaks: {walked.error}"
        elif not walked.unmodelled and not any(found.level != "note" for found in walked.findings):
            part.judged = True
            try:
                _Metadata(source, contents).read(build(walked, _Keys(walked, unknown="inert")))
            except MalformedError as error:
                contents.findings.append(as_finding(error, None))
            except SafeloadError as error:
                contents.error = error.message
        return contents


def _resolve(module: str, attribute: str) -> Modelled | None:
    name = f"{module}.{attribute}"
    return described(name) if name in _CLASSES else default_resolve(module, attribute)


class _Key(Inert):
    """An index of the metadata: a key that is only itself. Nodes alike in name share a hash, and there are as many as there are tensors."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class _Keys(Model):
    """A model whose indices are keys of their own."""

    def call(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        """As the model does."""
        made = super().call(op, callee, args, kwargs, at)
        if type(made) is Inert and made.global_name == _INDEX:
            return _Key(made.global_name, args=made.args, via=made.via)
        return made


class _Metadata:
    """What the metadata says, held against itself and against the files beside it."""

    def __init__(self, source: Source, contents: Contents) -> None:
        self.source, self.contents = source, contents
        self.reach: dict[str, int] = {}

    def read(self, root: Any) -> None:
        """Read the tree of one metadata."""
        state = _state(root, "Metadata")
        if state is None:
            self._add("the stream is not the metadata of a checkpoint")
            return
        for name, entry in _items(state.get("state_dict_metadata")):
            self._entry(str(name), entry)
        for _, entry in _items(state.get("storage_data")):
            self._place(entry)
        self.contents.metadata |= {"entries": str(len(self.contents.listed)), "files": str(len(self.reach))}
        for path, reach in list(self.reach.items())[:_SHOWN]:
            self._beside(path, reach)

    def _entry(self, name: str, entry: Any) -> None:
        state = _state(entry, "TensorStorageMetadata")
        if state is None:
            if _state(entry, "BytesStorageMetadata") is None:
                self._add(f"'{escape(name, 80)}' is neither a tensor nor bytes")
            self.contents.listed.append(Listed(name, "bytes", (), 0))
            return
        properties = _held(state.get("properties"))
        dtype = properties[0] if isinstance(properties, tuple) and properties else None
        kind = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else "unknown"
        shape = _sizes(state.get("size"))
        if shape is None or prod(shape) >= _MOST:
            self._add(f"tensor '{escape(name, 80)}' has a shape that is none")
            return
        self.contents.listed.append(Listed(name, kind, shape, prod(shape) * DTYPE_BITS.get(kind, 0) // 8))

    def _place(self, entry: Any) -> None:
        """Where one item lies."""
        state = _state(entry, "_StorageInfo")
        path, offset, length = (state.get(key) for key in ("relative_path", "offset", "length")) if state is not None else (None, 0, 0)
        if not isinstance(path, str) or type(offset) is not int or type(length) is not int or not 0 <= offset <= offset + length < _MOST:
            self._add("an item lies at no place of a file")
            return
        for what in location_problems(path):
            self._add(f"an item lies in the file '{escape(path, 120)}', which {what}")
        self.reach[path] = max(self.reach.get(path, 0), offset + length)

    def _beside(self, path: str, reach: int) -> None:
        """Hold a file beside the metadata against it; it is looked at and never opened. One that is not there is not missed here."""
        if self.source.path is None or any(location_problems(path)):
            return
        folder = Path(self.source.path).absolute().parent
        try:
            there = (folder / path).resolve(strict=True)
            size, inside = there.stat().st_size, {folder.resolve(), Path(self.source.path).resolve().parent}
        except (OSError, ValueError, RuntimeError):
            return
        if not any(there.is_relative_to(one) for one in inside):
            self._add(f"'{escape(path, 120)}' is a link that leads out of the checkpoint's directory, to '{escape(str(there), 120)}'")
        elif size < reach:
            self._add(f"'{escape(path, 120)}' has {size} bytes, and its items reach up to byte {reach}")

    def _add(self, message: str) -> None:
        if len(self.contents.findings) < _SHOWN:
            self.contents.findings.append(finding("SL739", message))


def _held(node: Any) -> Any:
    return node.state if isinstance(node, Inert) else None


def _state(node: Any, name: str) -> dict[Any, Any] | None:
    """The attributes of an object of one of the metadata's classes; none is an empty state."""
    if not isinstance(node, Inert) or node.global_name.rpartition(".")[2] != name or node.global_name not in _CLASSES:
        return None
    if node.state is None:
        return {}
    return node.state if isinstance(node.state, dict) else None


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items() if isinstance(value, dict) else ())


def _sizes(value: Any) -> tuple[int, ...] | None:
    """The numbers of a torch.Size."""
    if isinstance(value, Call) and value.global_name == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, (tuple, list)) or any(type(size) is not int or not 0 <= size < _MOST for size in value):
        return None
    return tuple(value)


# ---- the files of items


class DcpShardFile:
    """The format "dcp-shard": archives behind one another, each as `torch.save` writes it."""

    name: Final = "dcp-shard"

    def claims(self, source: Source) -> bool:
        """An archive of torch at its front that ends before the file does, with another right behind it."""
        if not looks_like_zip(source) or not _is_item(source, 0):
            return False
        end = next(_ends(source, 0), None)
        return end is not None and end < source.size and _is_item(source, end)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read every item as a file of its own."""
        contents = Contents(format=self.name)
        members, at = [], 0
        for end in _ends(source, 0):
            name = f"item@{at}"
            members.append(Member(name, Region(at, end - at, member=name), at, 0, 0, 0, is_dir=False))
            at = end
            if len(members) > reading.limits.members:
                contents.error = f"more than {reading.limits.members} items"
                break
        if at != source.size and contents.error is None:
            message = f"{source.size - at} bytes at byte {at} are no archive as torch.save writes it"
            contents.findings.append(finding("SL739", message, offset=at))
            name = f"item@{at}"
            members.append(Member(name, Region(at, source.size - at, member=name), at, 0, 0, 0, is_dir=False))
        contents.metadata["items"] = str(len(members))
        try:
            read_members(source, Archive(members=tuple(members)), reading, contents)
        except MalformedError as error:
            contents.error = contents.error or error.message
        return contents


def _is_item(source: Source, at: int) -> bool:
    """Whether an archive with a data.pkl in front begins here."""
    if at + 30 > source.size:
        return False
    header = source.read(at, 30)
    length = header[26] | header[27] << 8
    return header[:4] == _LOCAL and at + 30 + length <= source.size and source.read(at + 30, length).endswith(b"/data.pkl")


def _ends(source: Source, start: int) -> Iterator[int]:
    """Yield where each archive ends, for as long as one begins where the last ended.

    An archive says at its end how far its directory and its first byte lie back; only an end that leads back to where the archive
    began is one. The bytes between are searched and not kept.
    """
    at = start
    scratch = bytearray(_CHUNK + END.size)
    while _is_item(source, at):
        position, end = at, None
        while end is None and position < source.size:
            size = min(len(scratch), source.size - position)
            view = memoryview(scratch)[:size]
            source.readinto(position, view, keep=False)
            found = scratch.find(END_SIGNATURE, 0, size)
            while found >= 0 and end is None:
                end = _end(source, at, position + found)
                found = scratch.find(END_SIGNATURE, found + 1, size)
            position += _CHUNK
        if end is None:
            return
        yield end
        at = end


def _end(source: Source, start: int, position: int) -> int | None:
    """Where the archive that begins at `start` ends, when an end record at `position` is its own."""
    if position + END.size > source.size:
        return None
    _, disk, first, _, _, size, offset, comment = END.unpack(source.read(position, END.size))
    directory = position - size
    if offset == 0xFFFFFFFF or size == 0xFFFFFFFF or source.read(max(0, position - 20), 4) == b"PK\6\7":
        record = position - 20 - 56  # torch writes both records of zip64, and nothing between
        if record < start or source.read(record, 4) != b"PK\6\6":
            return None
        size, offset = (int.from_bytes(source.read(record + place, 8), "little") for place in (40, 48))
        directory = record - size
    if disk or first or directory < start or start + offset != directory or source.read(directory, 4) != b"PK\1\2":
        return None
    end = position + END.size + comment
    return end if end <= source.size else None
