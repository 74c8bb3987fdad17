"""torch's tar checkpoints (before 0.1.10), read without extracting anything.

Members: `storages` (how many; for each a pickled (key, location, class) and its elements behind an int64 count; then the
pickled list of views), `tensors` (how many; for each a pickled (key, storage key, class), then dimensions, sizes, strides and
offset as integers), `pickle` (the object, in which a persistent id is the key of a tensor or storage), `sys_info`.
Source: torch/serialization.py, `_legacy_load.legacy_load`, which runs every one of these streams. They are all walked here.
"""

from __future__ import annotations

import re
import struct
import sys
from typing import Any, Final

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import escape, shown
from safeload.formats.base import Contents, StreamPart
from safeload.formats.container import Archive, Member
from safeload.formats.nested import read_members
from safeload.formats.polyglot import second_stream
from safeload.formats.storages import as_finding, text
from safeload.formats.streams import looks_like_pickle, walk_behind
from safeload.formats.tar_container import looks_like_tar, read_member, read_tar
from safeload.lean_dataclass import replace
from safeload.program import DTYPE_BITS, Region, StorageSpec, TensorSpec
from safeload.source import Reading, Source
from safeload.walk import finding, walk
from safeload.walk.model import Model, build
from safeload.walk.signatures import STORAGE_DTYPES, TENSOR_DTYPES
from safeload.walk.strided import check_strided

__all__ = ["TorchTarFile"]

_MEMBERS: Final = ("storages", "tensors", "pickle")
_WINDOW: Final = 4096  # bytes fetched for a header stream; an ordinary one has about a hundred
_NEAR: Final = 512
_PARTS: Final = 1_000  # header streams kept as evidence although there is nothing to say about them
_DIMENSIONS: Final = 64
_KEY: Final = re.compile(r"-?[0-9]{1,20}\Z")


class TorchTarFile:
    """The format "torch-tar"."""

    name: Final = "torch-tar"

    def claims(self, source: Source) -> bool:
        """A tar file with a `pickle` and one of the two tables that it refers to."""
        if not looks_like_tar(source):
            return False
        names = read_tar(source, Reading().limits).by_name
        return "pickle" in names and ("storages" in names or "tensors" in names)

    def read(self, source: Source, reading: Reading) -> Contents:
        """Walk every stream, and find every storage's bytes."""
        contents = Contents(format=self.name)
        archive = read_tar(source, reading.limits)
        contents.findings += archive.findings
        contents.error = archive.error
        chosen = {name: archive.by_name[name] for name in _MEMBERS if name in archive.by_name}
        reader = _Checkpoint(source, reading, contents)
        for name in _MEMBERS:
            member = chosen.get(name)
            if member is None:
                contents.error = contents.error or f"the checkpoint has no member '{name}'"
                contents.findings.append(finding("SL214", f"the checkpoint has no member '{name}'"))
                continue
            try:
                # After an error in one member the others are still walked: torch would have run what comes before it.
                reader.read(name, member)
            except MalformedError as error:
                contents.findings.append(as_finding(error, name))
                contents.error = contents.error or error.message
            except SafeloadError as error:
                contents.findings.append(replace(finding(error.rule or "SL104", error.message), member=name))
                contents.error = contents.error or error.message
        kept = {id(member) for member in chosen.values()}
        others = tuple(member for member in archive.members if id(member) not in kept)
        read_members(source, Archive(members=others), reading, contents)
        contents.storages = [spec for spec in reader.table.values() if isinstance(spec, StorageSpec)]
        second_stream(source, reading, contents)
        return contents


def _bad(message: str, offset: int, rule: str = "SL303") -> MalformedError:
    return MalformedError(message, where=f"@{offset}").under(rule)


class _Checkpoint:
    """Reads the members into one table: key → storage or tensor."""

    def __init__(self, source: Source, reading: Reading, contents: Contents) -> None:
        self.source, self.reading, self.contents = source, reading, contents
        self.table: dict[int, StorageSpec | TensorSpec] = {}

    def read(self, name: str, member: Member) -> None:
        """Read one of the three members.

        Raises:
            MalformedError, RefusedError: it is not what torch writes.
        """
        if member.problem is not None:
            raise _bad(f"cannot be read: {member.problem}", 0, "SL219")
        if name == "pickle":
            self._object(member)
            return
        streams = _Streams(self.source, member, self.reading, self.contents)
        if name == "storages":
            self._storages(streams)
        else:
            self._tensors(streams)
        streams.finish()

    def _object(self, member: Member) -> None:
        data = read_member(self.source, member, self.reading.limits)
        walked = walk(data, limits=self.reading.limits, encoding=self.reading.encoding, persistent=2)
        part = StreamPart(member=member.name, offset=0, data=data, walk=walked, main=True, persistent=self.persistent)
        self.contents.parts.append(part)
        if walked.error is not None:
            self.contents.error = self.contents.error or f"the stream breaks: {walked.error}"
        walk_behind(self.contents, self.reading, part)

    def persistent(self, pid: Any, _: Model, at: int) -> Any:
        """What a persistent id stands for: the class that a source text belongs to, a tensor, or a storage.

        Raises:
            MalformedError: it is neither, or nothing has this key.
        """
        if type(pid) is tuple and len(pid) == 3:
            return pid[0]
        if type(pid) is str and _KEY.match(pid):
            pid = int(pid)
        if type(pid) is not int:
            raise _bad(f"a persistent id that is no key: {shown(pid, 80)}", at, "SL109")
        spec = self.table.get(pid)
        if spec is None:
            raise _bad(f"nothing in the file has the key {shown(pid)}", at, "SL304")
        return spec

    # ---- storages

    def _storages(self, streams: _Streams) -> None:
        for _ in range(streams.count("storages")):
            start = streams.position
            value, model = streams.load()
            if type(value) is not tuple or len(value) != 3 or text(value[1]) is None:
                raise _bad("a storage's header is not (key, location, class)", start)
            class_name = model.name_of(value[2]) or ""
            dtype = STORAGE_DTYPES.get(class_name)
            if dtype is None or class_name.endswith("UntypedStorage"):
                raise _bad(f"a storage of class {escape(class_name) or 'that is not known'}", start)
            key = self._new_key(value[0], start)
            (numel,) = struct.unpack("<q", streams.take(8, "a storage's length"))
            nbytes = numel * (DTYPE_BITS[dtype] // 8)
            region = streams.skip(nbytes, f"storage {key} of {numel} elements of {dtype}")
            swap = sys.byteorder != "little"
            self.table[key] = StorageSpec(str(key), dtype, numel, nbytes, text(value[1]) or "", region, swap=swap)
        start = streams.position
        views, _ = streams.load()
        if type(views) is not list:
            raise _bad("the views of storages are no list", start)
        for view in views:
            self._view(view, start)

    def _view(self, view: Any, at: int) -> None:
        """One storage that is a slice of another: (key, key of the other, first element, elements)."""
        if type(view) is not tuple or len(view) != 4 or any(type(number) is not int for number in view):
            raise _bad("a view is not (key, key of its storage, first element, elements)", at)
        _, base_key, first, numel = view
        key = self._new_key(view[0], at)
        root = self.table.get(base_key)
        if not isinstance(root, StorageSpec):
            raise _bad(f"view {key} is of storage {shown(base_key)}, which is not in the file", at, "SL304")
        if first < 0 or numel < 0 or first + numel > root.numel:
            raise _bad(f"view {key}: {numel} elements from {first} on, and storage {base_key} has {root.numel}", at, "SL301")
        base, offset = (root, first) if root.base is None else (root.base, root.base_offset + first)
        nbytes = numel * (DTYPE_BITS[root.dtype] // 8)
        self.table[key] = StorageSpec(
            str(key), root.dtype, numel, nbytes, root.location, None, swap=root.swap, base=base, base_offset=offset
        )

    def _new_key(self, key: Any, at: int) -> int:
        """Check a key: torch lets a later one replace an earlier one, and then nobody can tell what a tensor lies in."""
        if type(key) is not int or key.bit_length() > 64:
            raise _bad(f"a key that is no integer of 64 bits: {shown(key, 80)}", at)
        if key in self.table:
            raise _bad(f"two storages or tensors have the key {key}", at)
        return key

    # ---- tensors

    def _tensors(self, streams: _Streams) -> None:
        for _ in range(streams.count("tensors")):
            start = streams.position
            value, model = streams.load()
            if type(value) is not tuple or len(value) != 3:
                raise _bad("a tensor's header is not (key, storage, class)", start)
            key = self._new_key(value[0], start)
            (dimensions,) = struct.unpack("<i", streams.take(8, "a tensor's dimensions")[:4])
            if not 0 <= dimensions <= _DIMENSIONS:
                raise _bad(f"tensor {key} has {dimensions} dimensions", start)
            numbers = struct.unpack(f"<{2 * dimensions + 1}q", streams.take(16 * dimensions + 8, "a tensor's sizes"))
            size, stride, offset = numbers[:dimensions], numbers[dimensions:-1], numbers[-1]
            storage = self._storage_of(value[1], model.name_of(value[2]), key, start)
            if not dimensions and not storage.numel:
                size, stride = (0,), (1,)  # what had no dimensions had no elements, in that time
            try:
                shape, strides = check_strided(storage, offset, size, stride, storage.dtype)
            except MalformedError as error:
                raise _bad(f"tensor {key}: {error.message}", start, error.rule) from None
            self.table[key] = TensorSpec(storage, storage.dtype, shape, strides, offset, global_name="torch._utils._rebuild_tensor")

    def _storage_of(self, storage_key: Any, class_name: str | None, key: int, at: int) -> StorageSpec:
        if storage_key is None and class_name in TENSOR_DTYPES:
            return StorageSpec(f"{key} (empty)", TENSOR_DTYPES[class_name], 0, 0, "cpu")
        storage = self.table.get(storage_key) if type(storage_key) is int else None
        if not isinstance(storage, StorageSpec):
            raise _bad(f"tensor {key} lies in storage {shown(storage_key, 80)}, which is not in the file", at, "SL304")
        return storage


class _Streams:
    """Small pickle streams and raw bytes that alternate in one member; raw bytes that nobody asks for are not fetched."""

    def __init__(self, source: Source, member: Member, reading: Reading, contents: Contents) -> None:
        self.source, self.member, self.reading, self.contents = source, member, reading, contents
        self.size = member.region.nbytes
        self.position = 0
        self._base = 0
        self._window = memoryview(b"")
        self._seen: set[str] = set()
        self._loaded = 0

    def _fetch(self, nbytes: int) -> memoryview:
        """At least `nbytes` bytes from the position on, or all that there are."""
        left = self.size - self.position
        inside = self.position - self._base
        if inside < 0 or len(self._window) - inside < min(nbytes, left):
            count = min(max(nbytes, _WINDOW), left)
            self._window = self.source.view(self.member.region.offset + self.position, count, f"member '{self.member.name}'")
            self._base, inside = self.position, 0
        return self._window[inside:]

    def load(self) -> tuple[Any, Model]:
        """Walk the stream here and build its value; the position moves behind it.

        Raises:
            MalformedError: it breaks.
            RefusedError: it calls what is not modelled.
        """
        if self._loaded >= self.reading.limits.streams:
            raise _bad(f"more than {self.reading.limits.streams} streams", self.position, "SL127")
        self._loaded += 1
        want = _NEAR
        while True:
            data = self._fetch(want)
            walked = walk(data, limits=self.reading.limits, encoding=self.reading.encoding)
            if not walked.truncated or len(data) >= min(self.size - self.position, self.reading.limits.stream_bytes):
                break
            want = 8 * max(len(data), _NEAR)
        start = self.position
        # Evidence counts from the member's first byte; the walk itself counts from the stream's.
        walked.findings = [replace(item, offset=start + (item.offset or 0)) for item in walked.findings]
        error_at = start + walked.error_offset
        end, walked.error_offset = walked.end, error_at
        walked.end = None if end is None else start + end
        if walked.findings or self._loaded <= _PARTS or not self._seen.issuperset(walked.globals):
            self._seen.update(walked.globals)
            self.contents.parts.append(StreamPart(member=self.member.name, offset=start, data=data, walk=walked))
        if end is None:
            raise _bad(f"the stream breaks: {walked.error}", error_at, "SL129")
        self.position += end
        model = Model(walked)
        try:
            return build(walked, model), model
        except SafeloadError as error:
            error.where = f"@{start}"
            raise

    def count(self, what: str) -> int:
        """A stream that is a number: how many entries follow."""
        start = self.position
        value, _ = self.load()
        if type(value) is not int or not 0 <= value <= self.reading.limits.members:
            raise _bad(f"the number of {what} is {shown(value, 80)}", start)
        return value

    def take(self, nbytes: int, what: str) -> bytes:
        """The next raw bytes."""
        self._check(nbytes, what)
        data = bytes(self._fetch(nbytes)[:nbytes])
        self.position += nbytes
        return data

    def skip(self, nbytes: int, what: str) -> Region:
        """Where the next raw bytes lie in the file; they are not fetched."""
        self._check(nbytes, what)
        region = Region(self.member.region.offset + self.position, nbytes, member=self.member.name)
        self.position += nbytes
        return region

    def _check(self, nbytes: int, what: str) -> None:
        if nbytes < 0 or nbytes > self.size - self.position:
            where = f"member '{self.member.name}' has {self.size - self.position} bytes left"
            raise _bad(f"{what} takes {nbytes} bytes, and {where}", self.position, "SL302")

    def finish(self) -> None:
        """Nothing may follow the last entry."""
        rest = self.size - self.position
        if not rest:
            return
        name, data = self.member.name, self._fetch(min(rest, self.reading.limits.stream_bytes))
        self.contents.findings.append(replace(finding("SL126", f"{rest} bytes follow the last entry", offset=self.position), member=name))
        if looks_like_pickle(data):
            self.contents.findings.append(
                replace(finding("SL125", "a pickle stream behind the last entry", offset=self.position), member=name)
            )
            self.load()
