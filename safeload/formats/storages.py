"""Which storages a stream names: read from the walk's constants, before anything is built.

A torch stream names a storage by a persistent id, `("storage", class, key, location, elements[, view])`. All of it is
constant data in every file that torch wrote; an id that is computed has no meaning here and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, overload

from safeload.errors import MalformedError
from safeload.findings import Finding, escape
from safeload.formats.container import Member
from safeload.formats.plain import plain_reader
from safeload.program import DTYPE_BITS, Region, StorageSpec
from safeload.walk import Walk, finding
from safeload.walk import kinds as k
from safeload.walk.signatures import STORAGE_DTYPES
from safeload.walk.written_ids import LONGEST_ID, written_id

if TYPE_CHECKING:
    from safeload.walk.model import Model, Persistent

__all__ = ["PlainStorages", "StorageRef", "StorageTable", "persistent", "storage_refs"]

_MOST: Final = 1 << 60


class StorageRef(NamedTuple):
    """A storage as a persistent id names it.

    Attributes:
        type_name: The storage class, "torch.FloatStorage".
        key: The file's name for it.
        location: The device tag.
        numel: Elements.
        view: (key of the view, first element, elements) in old files, or None.
        at: Offset of the persistent id in its stream.
    """

    type_name: str
    key: str
    location: str
    numel: int
    view: tuple[str, int, int] | None
    at: int

    @property
    def dtype(self) -> str:
        """torch's name of the element type."""
        return STORAGE_DTYPES[self.type_name]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole storage."""
        return self.numel * DTYPE_BITS[self.dtype] // 8


def text(value: Any) -> str | None:
    """A key or a device tag: text, or the ASCII bytes that a Python 2 file gives with `encoding="bytes"`."""
    if isinstance(value, bytes) and value.isascii():
        return value.decode("ascii")
    return value if isinstance(value, str) else None


def reference(type_name: str | None, rest: tuple[Any, ...], at: int) -> StorageRef:
    """Make a checked reference out of what follows "storage" in a persistent id.

    Raises:
        MalformedError: it is not (class, key, location, elements[, view]).
    """
    if type_name is None or type_name not in STORAGE_DTYPES or len(rest) not in (3, 4):
        raise MalformedError(f"a persistent id that names {escape(str(type_name))} as its storage", where=f"@{at}").under("SL303")
    key, location, numel, view = text(rest[0]), text(rest[1]), rest[2], rest[3] if len(rest) == 4 else None
    if key is None or location is None or type(numel) is not int or not 0 <= numel < _MOST:
        raise MalformedError("a persistent id that is not (class, key, location, elements)", where=f"@{at}").under("SL303")
    if view is not None:
        name = text(view[0]) if type(view) is tuple and len(view) == 3 else None
        if name is None or any(type(number) is not int or number < 0 for number in view[1:]) or view[1] + view[2] > numel:
            raise MalformedError(f"a view that lies outside its storage of {numel} elements", where=f"@{at}").under("SL301")
        view = (name, view[1], view[2])
    return StorageRef(type_name, key, location, numel, view, at)


def storage_refs(walk: Walk) -> list[StorageRef]:
    """Return every storage that the stream names, in order.

    Raises:
        MalformedError: an id is computed, or not of the form that torch writes.
    """
    walker = walk.walker
    refs = []
    names = walker.globals
    plain = walker.plain_ids()
    for number, (slot, at) in enumerate(walker.storage_ids()):
        known = plain[number]
        if known is not None and names[known[0]][4] in STORAGE_DTYPES:
            refs.append(StorageRef(names[known[0]][4], known[1], known[2], known[3], None, at))
        elif slot == 6:
            refs.append(_written(walk, at))
        else:
            slots, _ = walker.children(slot)
            name = names[slots[1] >> 6][4] if len(slots) > 1 and slots[1] & 63 == k.STORAGE_TYPE else None
            refs.append(reference(name, tuple(_constant(walk, item) for item in slots[2:]), at))
    return refs


def _written(walk: Walk, at: int) -> StorageRef:
    """The reference of a persistent id that protocol 0 wrote as text; the walk looked at it before."""
    line = bytes(walk.walker.raw[at + 1 : at + 1 + LONGEST_ID]).partition(b"\n")[0]
    found = written_id(line)
    if found is None:
        raise MalformedError("a persistent id written as text", where=f"@{at}").under("SL109")
    return reference(found[0], found[1:], at)


def _constant(walk: Walk, slot: int, *, inside: bool = False) -> Any:
    """The value of a slot; of what an id may not hold, tuples of tuples among it, only something that is none of the values."""
    if slot & 63 == k.TUPLE and not inside:
        return tuple(_constant(walk, item, inside=True) for item in walk.walker.children(slot)[0][:8])
    if slot & 63 in (k.NONE, k.BOOL, k.INT, k.STR, k.BYTES):
        return walk.walker.constant(slot)
    return object()


@cache
def _element(type_name: str) -> tuple[str, int, bool]:
    """The element type of a storage class, its bits, and whether the class says it."""
    dtype = STORAGE_DTYPES[type_name]
    return dtype, DTYPE_BITS[dtype], not type_name.endswith("UntypedStorage")


class StorageTable:
    """All storages of one file, one spec per key and element type, in the order in which the stream names them.

    Args:
        refs: From `storage_refs`.
        locate: Gives the region of a storage; raises MalformedError when it is missing or of another size.
        swap: The file's byte order is not this machine's.

    Attributes:
        specs: By key, or name of the view, and class.
        numbered: The storage that each id names, in their order.
        shared: Keys that several ids name.
    """

    def __init__(self, refs: list[StorageRef], locate: Callable[[StorageRef], Region], *, swap: bool = False) -> None:
        self.numbered: list[StorageSpec] = []
        self.shared: set[str] = set()
        self.specs: dict[tuple[str, str], StorageSpec] = {}
        self._swap = swap
        self._regions: dict[str, Region] = {}
        for ref in refs:
            self._add(ref, locate)

    def _add(self, ref: StorageRef, locate: Callable[[StorageRef], Region]) -> None:
        type_name, key, location, numel, view, at = ref
        region = self._regions.get(key)
        if region is None:
            region = self._regions[key] = locate(ref)
        else:
            self.shared.add(key)
        dtype, bits, typed = _element(type_name)
        nbytes = numel * bits // 8
        if region.nbytes != nbytes:
            raise MalformedError(
                f"storage {escape(key)!r} is named with {numel} elements of {dtype}, {nbytes} bytes, and its record has {region.nbytes}",
                where=f"@{at}",
            ).under("SL302")
        name = (key, type_name)
        base = self.specs.get(name)
        if base is None:
            base = self.specs[name] = StorageSpec(key, dtype, numel, nbytes, location, region, typed, self._swap)
        self.numbered.append(base)
        if view is not None and (view[0], type_name) not in self.specs:
            called, first, count = view
            self.specs[(called, type_name)] = StorageSpec(
                called, dtype, count, count * bits // 8, location, None, typed, self._swap, base, first
            )


def persistent(table: Callable[[], Mapping[tuple[str, str], StorageSpec]]) -> Persistent:
    """The reader of persistent ids for a build: the same ids, the same specs.

    Args:
        table: Gives the storages by key, or name of the view, and class; asked when the first id is met.
    """
    specs: Mapping[tuple[str, str], StorageSpec] = {}

    def load(pid: Any, model: Model, at: int) -> Any:
        nonlocal specs
        specs = specs or table()  # made when something asks: tensors that are made together never do
        if type(pid) is tuple and len(pid) == 5 and pid[0] == "storage" and type(pid[2]) is type(pid[3]) is str and type(pid[4]) is int:
            # Nearly all: what the walk listed under this class and key, of as many elements.
            listed = specs.get((pid[2], model.name_of(pid[1]) or ""))
            if listed is not None and listed.numel == pid[4] and listed.base is None:
                return listed
        name: str | None = None
        if type(pid) is str:
            found = written_id(pid)
            name, pid = (found[0], ("storage", *found)) if found is not None else (None, pid)
        if type(pid) is not tuple or not pid:
            raise MalformedError(f"saved_id must be a tuple, got {type(pid).__name__}").under("SL109")
        word = text(pid[0])
        if word == "module" and len(pid) == 4:
            return pid[1]
        if word != "storage" or len(pid) < 2:
            raise MalformedError(f"a persistent id of kind {escape(str(word))}").under("SL109")
        ref = reference(name or model.name_of(pid[1]), pid[2:], at)
        spec = specs.get((ref.view[0] if ref.view else ref.key, ref.type_name))
        if spec is None or (not ref.view and spec.numel != ref.numel):
            raise MalformedError(f"storage {escape(ref.key)!r} was not listed by the walk").under("SL304")
        return spec

    return load


class PlainStorages(Sequence[StorageSpec]):
    """The storages of a stream whose ids are all plain, each with a key and a record of its own; made when somebody looks at one.

    Attributes:
        ids: (index of a class, key, location, elements, offset) for each.
        elements: By index of a class: (its name, element type, bits, whether the class says the type).
        regions: Where the bytes of each lie.
        swap: They are of the other order than this machine's.
    """

    def __init__(
        self,
        ids: list[tuple[int, str, str, int, int]],
        elements: dict[int, tuple[str, str, int, bool]],
        regions: list[Region],
        *,
        swap: bool,
    ) -> None:
        self.ids, self.elements, self.regions, self.swap = ids, elements, regions, swap
        self._made: list[StorageSpec] = []

    @classmethod
    def of(cls, walk: Walk, records: dict[str, Member], *, swap: bool) -> Self | None:
        """The storages of a stream, found among an archive's records; None when something is not plain, errors included."""
        elements = {
            index: (entry[4], *_element(entry[4])) for index, entry in enumerate(walk.walker.globals) if entry[4] in STORAGE_DTYPES
        }
        ids: Any = walk.walker.plain_ids()
        regions = plain_reader().plain_storages(ids, elements, records)
        return None if regions is None else cls(ids, elements, regions, swap=swap)

    def keys(self) -> set[str]:
        """The keys of all."""
        return {known[1] for known in self.ids}

    def specs(self) -> dict[tuple[str, str], StorageSpec]:
        """All, by key and class."""
        return {(known[1], self.elements[known[0]][0]): spec for known, spec in zip(self.ids, self, strict=True)}

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, number: int) -> StorageSpec: ...
    @overload
    def __getitem__(self, number: slice) -> list[StorageSpec]: ...
    def __getitem__(self, number: int | slice) -> StorageSpec | list[StorageSpec]:
        return self._all()[number]

    def __iter__(self) -> Iterator[StorageSpec]:
        return iter(self._all())

    def _all(self) -> list[StorageSpec]:
        if len(self._made) < len(self.ids):
            for (index, key, location, numel, _), region in zip(self.ids, self.regions, strict=True):
                _, dtype, _, typed = self.elements[index]
                self._made.append(StorageSpec(key, dtype, numel, region.nbytes, location, region, typed, self.swap))
        return self._made


def as_finding(error: MalformedError, member: str | None) -> Finding:
    """The finding that a reader's error stands for."""
    at = error.where.rpartition("@")[2]
    base = finding(error.rule or "SL303", error.message, offset=int(at) if at.isdigit() else None)
    return Finding(rule=base.rule, level=base.level, message=base.message, member=member, offset=base.offset)
