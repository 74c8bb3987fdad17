"""Many small tensors at once: what costs a few microseconds each is done by torch in one call for all of a shape.

A checkpoint of twenty thousand small tensors is ordinary, and loading it is waiting for Python: an allocation, a wrapper, a view, a
copy for every storage. Here the tensors that are all of a storage that nothing else names are gathered by element type and shape, their
bytes put behind one another, and cut into tensors with memory of their own by one call (`torch.unbind_copy`). Each is what the long way
gives: its own resizable storage of just its size, row-major. Everything that is not that plain goes the long way.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

import torch

from safeload.build.placement import Placement
from safeload.build.storages import crc_differs, element_type, memory_of
from safeload.formats import Contents, StreamPart
from safeload.formats.storages import PlainStorages
from safeload.program import Region, StorageSpec, TensorSpec
from safeload.source import Source

__all__ = ["Many", "find_many"]

_torch: Any = torch  # for functions without types

WORTH: int = 32
"""Fewer tensors than these are made one by one."""

LARGEST: Final = 8 << 10
"""Bytes of a tensor; for larger ones copying them once more is what costs."""

_SPAN: Final = 8 << 20
_NEAR: Final = 4096
_PLAIN: Final = frozenset(
    {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128"}
)
_WITH_GRADIENT: Final = ("float", "bfloat", "complex")


@dataclass(slots=True)
class _Group:
    """Tensors of one element type and shape.

    Attributes:
        dtype: torch's name.
        size: Elements for each dimension.
        keys: What they are known by: the machine's offsets, or names.
        regions: Where the bytes of each lie.
        gradient: The places of those that require a gradient.
        parts: The bytes of each, once they were read.
    """

    dtype: str
    size: tuple[int, ...]
    keys: list[Any]
    regions: list[Region]
    gradient: list[int]
    parts: list[memoryview] = field(default_factory=list)


@dataclass(slots=True)
class Many:
    """What is made at once.

    Attributes:
        groups: By element type and shape.
        rest: The storages that are still to be read one by one.
        ids: The offsets of the persistent ids that name the others.
        ends: Where the stream goes on behind some of them, see `plain_tensors` in the machine.
        hooks: Whether each has an empty dictionary of backward hooks, as torch gives what comes out of a stream.
    """

    groups: list[_Group]
    rest: list[StorageSpec]
    ids: set[int] = field(default_factory=set)
    ends: dict[int, int] = field(default_factory=dict)
    hooks: bool = True

    def read(self, source: Source, *, check_crc: bool) -> None:
        """Have the bytes of every storage; they become part of the snapshot.

        Raises:
            MalformedError: a storage's bytes leave the file, or have another CRC than is recorded.
        """
        for group in self.groups:
            group.parts = _parts(source, group.regions)
            if check_crc:
                for region, part in zip(group.regions, group.parts, strict=True):
                    if region.crc32 is not None and crc32(part) != region.crc32:
                        raise crc_differs((region.member or "").rpartition("/")[2], region, crc32(part))

    def made(self) -> dict[Any, torch.Tensor]:
        """Make the tensors, by what each is known by."""
        found: dict[Any, torch.Tensor] = {}
        hooks = collections.OrderedDict
        for group in self.groups:
            together = _torch.empty((len(group.parts) * len(group.parts[0]),), dtype=torch.uint8, device="cpu")
            memory = memory_of(together.untyped_storage())
            nbytes, position = len(group.parts[0]), 0
            for part in group.parts:
                memory[position : position + nbytes] = part
                position += nbytes
            group.parts.clear()
            tensors = _torch.unbind_copy(together.view(element_type(group.dtype)).view(-1, *group.size))
            if self.hooks:
                for tensor in tensors:
                    tensor._backward_hooks = hooks()
            for number in group.gradient:
                tensors[number].requires_grad = True
            found.update(zip(group.keys, tensors, strict=True))
        return found


def _parts(source: Source, regions: list[Region]) -> list[memoryview]:
    """The bytes of regions of one size; such as lie near one another are fetched together."""
    parts: list[memoryview] = []
    at, count, nbytes = 0, len(regions), regions[0].nbytes
    while at < count:
        start = behind = regions[at].offset
        starts: list[int] = []
        for region in itertools.islice(regions, at, None):
            offset = region.offset
            if not 0 <= offset - behind <= _NEAR or offset - start > _SPAN:
                break
            behind = offset + nbytes
            starts.append(offset - start)
        view = source.view(start, behind - start, "storages")
        parts += [view[first : first + nbytes] for first in starts]
        at += len(starts)
    return parts


def find_many(contents: Contents, map_location: Any) -> Many | None:
    """Find what of a file can be made at once; None when that is not worth it, or when somebody wants a say in each tensor."""
    main, table = contents.main, contents.table
    count = len(table) if table is not None else len(main.storages) if main is not None else 0
    if count < WORTH or contents.script or not _nobody_watches() or not _stays(map_location):
        return None
    if table is not None:
        return _of_table(table)
    return _of_stream(contents, main) if main is not None else None


def _of_table(table: Mapping[str, TensorSpec]) -> Many | None:
    """Of a format in which every tensor has bytes of its own."""
    groups: dict[tuple[str, tuple[int, ...]], _Group] = {}
    rest: list[StorageSpec] = []
    count = 0
    for name, spec in table.items():
        storage = spec.storage
        region = storage.region
        if region is None or region.packed is not None or storage.swap or spec.dtype not in _PLAIN or not 0 < region.nbytes <= LARGEST:
            rest.append(storage)
            continue
        key = (spec.dtype, spec.shape)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(spec.dtype, spec.shape, [], [], [])
        group.keys.append(name)
        group.regions.append(region)
        count += 1
    return Many(list(groups.values()), rest, hooks=False) if count >= WORTH else None


def _of_stream(contents: Contents, main: StreamPart) -> Many | None:
    """Of a torch archive: tensors that are all of a storage that nothing else names."""
    found, ends = main.walk.walker.plain_tensors()
    groups: list[_Group] = []
    ids: set[int] = set()
    left = bytearray(b"\1") * len(main.storages)
    for (_, location, size), (calls, numbers, gradient, offsets) in found.items():
        facts = _facts(main.storages, numbers) if location == "cpu" else None
        # With a gradient where there can be none, the long way says what is wrong.
        if facts is None or (gradient and not facts[0].startswith(_WITH_GRADIENT)):
            dropped = set(calls)
            ends = {start: end for start, end in ends.items() if start not in dropped}
            continue
        groups.append(_Group(facts[0], size, calls, facts[1], gradient))
        ids.update(offsets)
        for number in numbers:
            left[number] = 0
    if len(ids) < WORTH:
        return None
    if main.storages is contents.storages:
        rest = [contents.storages[number] for number, one in enumerate(left) if one]
    else:
        taken = {id(spec) for spec, one in zip(main.storages, left, strict=True) if not one}
        rest = [spec for spec in contents.storages if id(spec) not in taken]
    return Many(groups, rest, ids, ends)


def _facts(storages: Sequence[StorageSpec | None], numbers: list[int]) -> tuple[str, list[Region]] | None:
    """The element type and the regions of storages of one class and number of elements; None where they are not all small and plain."""
    if isinstance(storages, PlainStorages):
        _, dtype, _, typed = storages.elements[storages.ids[numbers[0]][0]]
        regions, swap = [storages.regions[number] for number in numbers], storages.swap
    else:
        specs = [spec for spec in [storages[number] for number in numbers] if spec is not None and spec.region is not None]
        if len(specs) < len(numbers):
            return None
        dtype, typed, swap = specs[0].dtype, specs[0].typed, specs[0].swap
        regions = [spec.region for spec in specs if spec.region is not None]
    if swap or not typed or dtype not in _PLAIN or not 0 < regions[0].nbytes <= LARGEST:
        return None
    return (dtype, regions) if all(region[2] is None for region in regions) else None  # stored as they are


def _stays(map_location: Any) -> bool:
    """Whether a storage saved on the CPU stays there, and nobody is asked."""
    placement = Placement(map_location)
    if map_location is not None and placement.fixed != "cpu":
        return False
    registry = _torch.serialization._package_registry
    return bool(registry) and registry[0][0] == 10  # torch's own entry for the CPU: others may stand before it


def _nobody_watches() -> bool:
    """Whether no mode of torch is active that sees, or changes, what is made."""
    inner = torch._C
    if getattr(_torch.serialization._serialization_tls, "skip_data", False) or _torch._guards.detect_fake_mode(None):
        return False
    return not (inner._len_torch_function_stack() or inner._len_torch_dispatch_stack())
