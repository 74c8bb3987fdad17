"""What lies where in the output: which tensors get an entry of their own, and what carries the rest of each storage.

A storage is cut into entries that lie behind one another: tensors that fill a range of it get an entry under their name,
the rest becomes gaps. So no byte is written twice, none is lost, and what tensors share they still share.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Final

from safeload.conversion.carriers import carrier, dense, row_major
from safeload.conversion.scalars import Json
from safeload.conversion.tree import Group, Tree
from safeload.errors import UnsupportedError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass, field
from safeload.program import COMPLEX, DTYPE_BITS, StorageSpec, TensorSpec

__all__ = ["Entry", "Names", "Plan", "flip_of", "lay_out", "make_plan", "root_of"]

RESERVED: Final = "__metadata__"
_LONGEST: Final = 1000


@dataclass(slots=True, eq=False)
class Entry:
    """One tensor of the output.

    Attributes:
        name: As other tools see it.
        dtype: The format's word.
        shape: The format's.
        nbytes: Bytes.
        root: The storage that it is cut from, or None for `payload`.
        lo: First byte in that storage.
        stride: None when the bytes are a range of the storage, else the steps at which a tensor of `view` finds its elements.
        view: The tensor's shape in elements, when `stride` is set.
        itemsize: Bytes per element of the tensor.
        flip: "", "conj", "neg" or "conj neg": numbers that are stored with the other sign than they have.
        complex: Whether an element is two numbers.
        payload: Its bytes, when they come from the tree.
        offset: First byte in the output's data; filled in last.
        reach: For `span`, where it is not `nbytes`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    root: StorageSpec | None = None
    lo: int = 0
    stride: tuple[int, ...] | None = None
    view: tuple[int, ...] = ()
    itemsize: int = 1
    flip: str = ""
    complex: bool = False
    payload: bytes = b""
    offset: int = 0
    reach: int = -1

    @property
    def span(self) -> int:
        """Bytes of the storage that its elements lie in: more than `nbytes` for a view with gaps, less for an expanded one."""
        return self.nbytes if self.reach < 0 else self.reach

    @property
    def real(self) -> int:
        """Bytes of one real number: half an element of a complex tensor."""
        return self.itemsize // 2 if self.complex else self.itemsize

    @property
    def verbatim(self) -> bool:
        """Whether its bytes are just a range of the storage."""
        return self.stride is None and not self.flip


@dataclass(slots=True)
class Plan:
    """The whole output.

    Attributes:
        parts: One list of entries per file, in the order of their bytes.
        storages: JSON for the manifest, in the order of the tree's.
        payloads: Names of the entries that carry the tree's long bytes.
        groups: Every storage that has bytes, with its entries in the storage's order. Never split between files.
        kept: Tensors under their own name.
        carried: Tensors that only the manifest knows: name and why.
        left_out: What was not asked for: name and why.
    """

    parts: list[list[Entry]] = field(default_factory=list)
    storages: list[Json] = field(default_factory=list)
    payloads: list[str] = field(default_factory=list)
    groups: list[tuple[StorageSpec, list[Entry]]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    carried: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        """Of all files."""
        return [entry for part in self.parts for entry in part]


class Names:
    """Gives every entry a name of its own that every reader takes."""

    def __init__(self) -> None:
        self.taken: set[str] = {RESERVED}
        self._next: dict[str, int] = {}

    def give(self, wanted: str) -> str:
        """Return `wanted`, or `wanted#2` and so on when it is taken; half surrogates become escapes."""
        name = wanted if wanted.isascii() else wanted.encode("utf-8", "backslashreplace").decode("utf-8")
        name = name[:_LONGEST] or "tensor"
        found = name
        while found in self.taken:
            self._next[name] = self._next.get(name, 1) + 1
            found = f"{name}#{self._next[name]}"
        self.taken.add(found)
        return found


def root_of(spec: StorageSpec) -> tuple[StorageSpec, int]:
    """Return the storage that has the bytes, and where in it `spec` begins, in bytes.

    Raises:
        UnsupportedError: slices of slices of slices, which no file has.
    """
    at = 0
    for _ in range(8):
        if spec.base is None:
            return spec, at
        at += spec.base_offset * DTYPE_BITS[spec.base.dtype] // 8
        spec = spec.base
    raise UnsupportedError("a storage that is a slice of a slice, many times over")


@dataclass(slots=True)
class _Candidate:
    """A tensor that fills a range of its storage."""

    name: str
    spec: TensorSpec
    lo: int
    order: int
    contiguous: bool
    flip: str

    @property
    def hi(self) -> int:
        return self.lo + self.spec.nbytes


def flip_of(spec: TensorSpec) -> str | None:
    """How the numbers differ from what is stored; None where that cannot be undone by signs."""
    if not spec.conj and not spec.neg:
        return ""
    real = spec.dtype.startswith("float") and DTYPE_BITS[spec.dtype] >= 16
    if spec.dtype in COMPLEX:
        return " ".join(word for word, on in (("conj", spec.conj), ("neg", spec.neg)) if on)
    return "neg" if real and not spec.conj else None


def make_plan(tree: Tree, named: Iterable[tuple[str, TensorSpec]], *, limit: int | None = None) -> Plan:
    """Decide what becomes of every storage of a tree.

    Args:
        tree: From `encode_tree`.
        named: The tensors that have names, in the order of the tree; the first of several names counts.
        limit: Bytes of tensors in one file; None for one file in all.
    """
    plan, names = Plan(), Names()
    tensors = _first_names(named, plan)
    by_root: dict[Group, list[tuple[str, TensorSpec]]] = {}
    empty: list[Entry] = []
    for wanted, spec in tensors:
        if spec.numel == 0:
            empty.append(Entry(names.give(wanted), *carrier(spec.dtype, spec.shape), 0))
            plan.kept.append(empty[-1].name)
            continue
        by_root.setdefault(tree.group(root_of(spec.storage)[0]), []).append((wanted, spec))
    pieces = _cut_all(tree, by_root, names, plan)
    for number, data in enumerate(tree.payloads):
        name = names.give(f"#bytes.{number}")
        plan.payloads.append(name)
        empty.append(Entry(name, "U8", (len(data),), len(data), payload=data))
    index = {id(spec): number for number, spec in enumerate(tree.storages)}
    plan.storages = [_storage_json(spec, index, pieces.get(tree.group(spec), [])) for spec in tree.storages]
    lay_out(plan, names, [*(entries for _, entries in plan.groups), *([entry] for entry in empty)], limit)
    return plan


def _first_names(named: Iterable[tuple[str, TensorSpec]], plan: Plan) -> list[tuple[str, TensorSpec]]:
    seen: dict[int, str] = {}
    found = []
    for name, spec in named:
        first = seen.get(id(spec))
        if first is None:
            seen[id(spec)] = name
            found.append((name, spec))
        elif first != name:
            plan.carried.append((name, f"it is the same tensor as {escape(first, 200)}"))
    return found


def _cut_all(tree: Tree, by_root: dict[Group, list[tuple[str, TensorSpec]]], names: Names, plan: Plan) -> dict[Group, list[Entry]]:
    """Cut every storage that has bytes; names are given to tensors of all storages before any gap takes one."""
    roots: dict[Group, StorageSpec] = {}
    for spec in tree.storages:
        root, _ = root_of(spec)
        if root.region is not None:
            roots.setdefault(tree.group(root), root)
    for key, tensors in by_root.items():
        root = root_of(tensors[0][1].storage)[0]
        if root.region is None:
            by_root[key] = []
            plan.carried += ((name, "it has no bytes") for name, _ in tensors)
    chosen = {key: _choose(by_root.get(key, []), root, names, plan) for key, root in roots.items() if root.nbytes}
    pieces: dict[Group, list[Entry]] = {}
    for key, found in chosen.items():
        root = roots[key]
        owner = found[0].name if found else by_root[key][0][0] if by_root.get(key) else "tensor"
        pieces[key] = _fill_gaps(root, found, owner, names)
        plan.groups.append((root, pieces[key]))
    return pieces


def _choose(tensors: list[tuple[str, TensorSpec]], root: StorageSpec, names: Names, plan: Plan) -> list[Entry]:
    """Pick tensors that do not overlap: the largest first, of equals the plain one, of those the first in the tree."""
    candidates = []
    for order, (name, spec) in enumerate(tensors):
        flip = flip_of(spec)
        size = DTYPE_BITS[spec.dtype] // 8
        lo = root_of(spec.storage)[1] + spec.offset * size
        if flip is None or not dense(spec.shape, spec.stride) or lo + spec.nbytes > root.nbytes:
            plan.carried.append((name, "its elements do not fill a range of their storage"))
            continue
        candidates.append(_Candidate(name, spec, lo, order, spec.contiguous, flip))
    found: list[_Candidate] = []
    starts: list[int] = []
    for one in sorted(candidates, key=lambda one: (-one.spec.nbytes, bool(one.flip), not one.contiguous, one.order)):
        at = bisect.bisect_right(starts, one.lo)
        if (at and found[at - 1].hi > one.lo) or (at < len(found) and found[at].lo < one.hi):
            plan.carried.append((one.name, "it shares its elements with another tensor"))
            continue
        starts.insert(at, one.lo)
        found.insert(at, one)
    given = {one.order: names.give(one.name) for one in sorted(found, key=lambda one: one.order)}
    plan.kept += given.values()
    return [_entry(one, given[one.order], root) for one in found]


def _entry(one: _Candidate, name: str, root: StorageSpec) -> Entry:
    spec = one.spec
    size = DTYPE_BITS[spec.dtype] // 8
    dtype, shape = carrier(spec.dtype, spec.shape)
    stride = None if one.contiguous else spec.stride
    return Entry(name, dtype, shape, spec.nbytes, root, one.lo, stride, spec.shape, size, one.flip, spec.dtype in COMPLEX)


def _fill_gaps(root: StorageSpec, found: list[Entry], owner: str, names: Names) -> list[Entry]:
    """Carry what no chosen tensor covers as bytes."""
    out: list[Entry] = []
    position = 0
    what = "gap" if found else "storage"
    for entry in [*found, None]:
        start = entry.lo if entry is not None else root.nbytes
        if start > position:
            out.append(Entry(names.give(f"{owner}#{what}"), "U8", (start - position,), start - position, root, position))
        if entry is not None:
            out.append(entry)
            position = entry.lo + entry.nbytes
    return out


def _storage_json(spec: StorageSpec, index: dict[int, int], pieces: list[Entry]) -> Json:
    if spec.dtype not in DTYPE_BITS:
        raise UnsupportedError(f"a storage of dtype {escape(spec.dtype)}")
    found: dict[str, Json] = {"dtype": spec.dtype, "numel": spec.numel}
    if spec.base is not None:
        found["base"] = index[id(spec.base)]
        found["offset"] = spec.base_offset
    elif spec.region is not None:
        found["of"] = [_piece(entry) for entry in pieces]
    if spec.location != "cpu":
        found["location"] = spec.location
    if not spec.typed:
        found["untyped"] = True
    return found


def _piece(entry: Entry) -> Json:
    if entry.verbatim:
        return entry.name
    found: dict[str, Json] = {"entry": entry.name, "itemsize": entry.itemsize, "shape": list(entry.view)}
    found["stride"] = list(row_major(entry.view) if entry.stride is None else entry.stride)
    if entry.flip:
        found["flip"] = entry.flip
        found["real"] = entry.real
    return found


def _alignment(unit: list[Entry]) -> int:
    """Bytes at a multiple of which entries must begin, so that every tensor on them can be used where it lies."""
    own = max((DTYPE_BITS[entry.root.dtype] // 8 for entry in unit if entry.root is not None and entry.verbatim), default=1)
    return max([own, *(entry.itemsize for entry in unit if entry.nbytes)])


def lay_out(plan: Plan, names: Names, units: Iterable[list[Entry]], limit: int | None) -> None:
    """Give all entries their place: in one file, or in several of about `limit` bytes, no unit ever split.

    Files take units in the order of the tree. Within a file those of wide elements come first, as with every writer of the
    format, so that each begins at a multiple of its element's size.
    """
    parts: list[list[list[Entry]]] = [[]]
    filled = 0
    for unit in units:
        nbytes = sum(entry.nbytes for entry in unit)
        if limit is not None and parts[-1] and filled + nbytes > limit:
            parts.append([])
            filled = 0
        parts[-1].append(unit)
        filled += nbytes
    plan.parts = [_place(sorted(part, key=_rank), names) for part in parts]


def _rank(unit: list[Entry]) -> tuple[bool, bool, int]:
    align = _alignment(unit)
    return unit[0].root is None, bool(sum(entry.nbytes for entry in unit) % align), -align


def _place(units: list[list[Entry]], names: Names) -> list[Entry]:
    out: list[Entry] = []
    position = 0
    for unit in units:
        short = -position % _alignment(unit)
        if short:
            out.append(Entry(names.give("#pad"), "U8", (short,), short, payload=bytes(short), offset=position))
            position += short
        for entry in unit:
            entry.offset = position
            position += entry.nbytes
            out.append(entry)
    return out
