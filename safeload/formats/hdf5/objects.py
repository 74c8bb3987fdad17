"""Every object of an HDF5 file, each once: groups, datasets, named datatypes, and what hangs on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.findings import Level, escape
from safeload.formats.base import Contents, Listed
from safeload.formats.container import Notes
from safeload.formats.hdf5 import datasets, datatypes
from safeload.formats.hdf5.attributes import ATTRIBUTE, ATTRIBUTE_INFO, DATATYPE, Attribute, datatype_of, read_attributes
from safeload.formats.hdf5.datasets import Filter, Layout, external_files, read_filters, read_layout, virtual_sources
from safeload.formats.hdf5.datatypes import Dataspace, Datatype, read_dataspace
from safeload.formats.hdf5.headers import Message, read_header
from safeload.formats.hdf5.heaps import GlobalHeaps
from safeload.formats.hdf5.judging import Judge
from safeload.formats.hdf5.links import Link, read_links
from safeload.formats.hdf5.space import NotAnalysedError, Space, bad
from safeload.formats.hdf5.values import Reader, holds_bytes, holds_references
from safeload.source import Reading

__all__ = ["Objects"]

DATASPACE, EXTERNAL, LAYOUT, FILTERS, SHARED_TABLE, DRIVER = 0x01, 0x07, 0x08, 0x0B, 0x0F, 0x14
_KNOWN: Final = 0x18
_FACTS: Final = ("keras_version", "backend", "TITLE", "PYTABLES_FORMAT_VERSION", "pandas_type")
_PATH: Final = 1_000

# Filters of the library itself, and those of h5py and the registered plug-ins that people use. A filter is a native library
# which the HDF5 library looks up in its plug-in directory; one that nobody registered is whatever lies there.
_FILTERS: Final = frozenset(
    {1, 2, 3, 4, 5, 6, 305, 307, 32000, 32001, 32004, 32008, 32009, 32013, 32014, 32015, 32016, 32017, 32018, 32019, 32022, 32023,
     32024, 32026, 32027, 32028}
)  # fmt: skip

# As Keras draws the line: an array may be so large in any case, and beyond that so many times what is stored.
_FLOOR: Final = 1 << 32
_EXPANSION: Final = 1000


class Objects:
    """Goes through a file.

    Args:
        space: The file.
        reading: How.
        contents: Takes tensors, streams and facts.
        notes: Takes findings.
    """

    def __init__(self, space: Space, reading: Reading, contents: Contents, notes: Notes) -> None:
        self.space, self.reading, self.contents, self.notes = space, reading, contents, notes
        self.reader = Reader(space, GlobalHeaps(space))
        self.judge = Judge(reading, contents, notes)
        self._todo: list[tuple[str, int]] = []
        self._referred: list[tuple[str, int]] = []  # asked after all links: a link has the better name
        self._seen: set[int] = set()

    def walk(self, root: int, extension: int | None) -> None:
        """Read all that can be reached from the root group, and what the superblock goes on with.

        Raises:
            LimitError: the structures lie in one another.
        """
        if extension is not None:
            with self._noted("superblock"):
                self._extension(read_header(self.space, extension))
        self._todo.append(("", root))
        while self._todo or self._referred:
            path, address = (self._todo or self._referred).pop()
            if address in self._seen:
                continue
            self._seen.add(address)
            if len(self._seen) > self.reading.limits.members:
                raise LimitError(f"more than {self.reading.limits.members} objects").under("SL811")
            with self._noted(path):
                self._object(path, read_header(self.space, address))

    @contextmanager
    def _noted(self, path: str) -> Iterator[None]:
        """A structure that cannot be read is a finding, and hides nothing that lies elsewhere."""
        try:
            yield
        except LimitError:
            raise
        except NotAnalysedError as error:
            self.notes.add("SL815", f"not analysed: {error.message}", name=path or None)
        except MalformedError as error:
            self.notes.add("SL811", error.message, name=path or None)

    def _extension(self, messages: list[Message]) -> None:
        for message in messages:
            if message.kind == DRIVER:
                self.notes.add("SL812", "the file says that it is spread over other files, by a driver of its own")
            elif message.kind == SHARED_TABLE:
                self.notes.add("SL815", "not analysed: a table of shared messages")

    # ---- one object

    def _object(self, path: str, messages: list[Message]) -> None:
        kinds = {message.kind for message in messages}
        for kind in sorted(kinds):
            if kind >= _KNOWN:
                self.notes.add("SL815", f"not analysed: a message of type {kind:#04x} in an object's header", name=path or None)
        steps: list[tuple[bool, Callable[[str, list[Message]], None]]] = [
            (bool(kinds & {ATTRIBUTE, ATTRIBUTE_INFO}), self._attributes),
            (LAYOUT in kinds, self._dataset),
            (LAYOUT not in kinds, self._group),
        ]
        for there, step in steps:
            if there:
                with self._noted(path):
                    step(path, messages)

    def _group(self, path: str, messages: list[Message]) -> None:
        found: list[tuple[str, int]] = []
        for link in read_links(self.space, messages):
            below = f"{path}/{link.name}" if path else link.name
            if link.address is not None:
                found.append((below[:_PATH], link.address))
            else:
                self._elsewhere(below[:_PATH], link)
        self._todo += reversed(found)

    def _elsewhere(self, path: str, link: Link) -> None:
        target = escape(link.target or "", 120)
        if link.kind == "soft":
            self.notes.add("SL817", f"a soft link to '{target}'", name=path)
        elif link.kind == "external":
            self.notes.add("SL812", f"a link into another file: '{target}'", name=path)
        else:
            self.notes.add("SL815", f"not analysed: a link {target}, which a program of its own follows", name=path)

    def _attributes(self, path: str, messages: list[Message]) -> None:
        for attribute in read_attributes(self.space, messages):
            if isinstance(attribute, NotAnalysedError):
                self.notes.add("SL815", f"not analysed: {attribute.message}", name=path or None)
                continue
            member = f"{path}.attrs[{attribute.name}]"[:_PATH]
            with self._noted(member):
                self._attribute(path, member, attribute)

    def _attribute(self, path: str, member: str, attribute: Attribute) -> None:
        for value in self.reader.values(attribute.kind, attribute.dataspace.count, attribute.data):
            if not path and attribute.name in _FACTS and attribute.dataspace.count == 1:
                self.contents.metadata[attribute.name] = escape(value.rstrip(b"\0").decode("utf-8", "replace"), 80)
            self.judge.look(value, member, named=attribute.name if attribute.dataspace.count == 1 else "")
        if holds_references(attribute.kind):
            self._references(member, attribute.kind, attribute.data)

    # ---- datasets

    def _dataset(self, path: str, messages: list[Message]) -> None:
        by_kind: dict[int, Message] = {}
        once = (DATASPACE, DATATYPE, EXTERNAL, LAYOUT, FILTERS)
        for message in messages:
            if by_kind.setdefault(message.kind, message) is not message and message.kind in once:
                raise bad(f"two messages {message.kind:#04x} in one object's header", message.cursor.start)
        if DATATYPE not in by_kind or DATASPACE not in by_kind:
            raise bad("a dataset without a datatype or a dataspace", by_kind[LAYOUT].cursor.start)
        if by_kind[DATASPACE].shared or by_kind[LAYOUT].shared:
            raise NotAnalysedError("a dataset described in the table of shared messages").under("SL815")
        kind = datatype_of(self.space, by_kind[DATATYPE].cursor, shared=by_kind[DATATYPE].shared)
        dataspace = read_dataspace(by_kind[DATASPACE].cursor)
        nbytes = dataspace.count * kind.size
        self.contents.listed.append(Listed(escape(path, _PATH), kind.name, dataspace.shape or (), nbytes))
        if EXTERNAL in by_kind:
            files = external_files(self.space, by_kind[EXTERNAL])
            shown = ", ".join(f"'{escape(name, 80)}'" for name in files[:4]) or "no name"
            self.notes.add("SL812", f"its bytes lie in other files: {shown}", name=path)
            return
        layout = read_layout(by_kind[LAYOUT].cursor)
        filters = [] if FILTERS not in by_kind else read_filters(by_kind[FILTERS].cursor)
        self._check(path, layout, filters, nbytes)
        self._look(path, kind, dataspace, layout, filters)

    def _check(self, path: str, layout: Layout, filters: list[Filter], nbytes: int) -> None:
        """What a dataset says of itself must fit the file."""
        if layout.kind == datasets.VIRTUAL:
            self._virtual(path, layout)
        for step in filters:
            if step.number not in _FILTERS:
                named = f" '{escape(step.name, 40)}'" if step.name else ""
                self.notes.add("SL814", f"goes through filter {step.number}{named}, a native library that nobody registered", name=path)
        if nbytes > _FLOOR and nbytes > _EXPANSION * self.space.source.size:
            message = f"{nbytes} bytes when it is read, {nbytes // max(1, self.space.source.size)} times the size of the file"
            self.notes.add("SL813", message, name=path)
        if layout.kind == datasets.CONTIGUOUS and layout.address is not None:
            stored = nbytes if layout.nbytes < 0 else layout.nbytes
            end = self.space.base + layout.address + stored
            if stored < nbytes or end > self.space.source.size:
                raise bad(f"{nbytes} bytes, stored in {stored} that end at byte {end} of {self.space.source.size}")
        if layout.kind == datasets.COMPACT and len(layout.data) < nbytes:
            raise bad(f"{nbytes} bytes, stored in {len(layout.data)}")

    def _virtual(self, path: str, layout: Layout) -> None:
        for file, dataset in virtual_sources(self.reader.heaps, layout):
            if file == ".":
                self.notes.add("SL812", f"put together from other datasets: '{escape(dataset, 80)}'", name=path, level=Level.WARNING)
            else:
                self.notes.add("SL812", f"put together from datasets of other files: '{escape(file, 80)}'", name=path)

    def _look(self, path: str, kind: Datatype, dataspace: Dataspace, layout: Layout, filters: list[Filter]) -> None:
        """Look at what may be more than numbers."""
        if layout.kind == datasets.VIRTUAL or not dataspace.count:
            return
        if holds_references(kind):
            for data in self.reader.pieces(kind, dataspace, layout, filters):
                self._references(path, kind, data)
        elif holds_bytes(kind):
            try:
                for value in self.reader.dataset(kind, dataspace, layout, filters):
                    self.judge.look(value, path)
            except NotAnalysedError as error:
                # Columns of a table: no program keeps streams as texts of one fixed length among numbers.
                table = kind.kind == datatypes.COMPOUND and all(_is_column(member) for _, _, member in kind.members)
                self.notes.add("SL815", f"not analysed: {error.message}", name=path, level=Level.NOTE if table else None)
        elif kind.kind == datatypes.FIXED and kind.size == 1 and len(dataspace.shape or ()) == 1:
            self._octets(path, dataspace, layout)

    def _octets(self, path: str, dataspace: Dataspace, layout: Layout) -> None:
        """A row of bytes: pictures and sounds are, and so is a pickle that was put there as an array."""
        if layout.kind == datasets.CONTIGUOUS and layout.address is not None and dataspace.count > 3:
            head = bytes(self.space.view(layout.address, 2, "a dataset"))
            if head[0] == 0x80 and 2 <= head[1] <= 5 and dataspace.count <= self.reader.left:
                self.reader.pay(dataspace.count)
                self.judge.look(bytes(self.space.view(layout.address, dataspace.count, "a dataset")), path)

    def _references(self, path: str, kind: Datatype, data: memoryview) -> None:
        """Objects that no link leads to may be reached by a reference."""
        base = kind
        while base.base is not None:
            base = base.base
        if kind.kind != datatypes.REFERENCE or base.name != "reference" or base.size != self.space.offset_size:
            self.notes.add("SL817", f"references of another kind: {kind.name}", name=path)
            return
        for start in range(0, len(data) - base.size + 1, base.size):
            address = int.from_bytes(data[start : start + base.size], "little")
            self.reader.pay(base.size)
            if address not in (0, self.space.undefined) and address not in self._seen:
                self._referred.append((f"{path}[{start // base.size}]"[:_PATH], address))


def _is_column(kind: Datatype) -> bool:
    return kind.kind == datatypes.STRING or not holds_bytes(kind)
