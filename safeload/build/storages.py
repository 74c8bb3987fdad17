"""Storages in memory: read straight into torch's own allocations, or mapped, before anything is built.

A tensor's memory is the memory that the digest was taken from: `read_storages` fills every storage through
`Source.readinto(keep=True)`, the caller compares digests, and only then does a model ask the bank for storages, which is
when they are swapped, converted and moved to devices.
"""

from __future__ import annotations

import ctypes
import functools
import mmap as memory_map
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch

from safeload.build.placement import Placement
from safeload.errors import LimitError, MalformedError, UnsupportedError, UsageError
from safeload.findings import escape
from safeload.formats.container import Member
from safeload.formats.zip_container import read_member_into
from safeload.program import DTYPE_BITS, Region, StorageSpec
from safeload.source import Limits, Source

__all__ = ["StorageBank", "allocate", "crc_differs", "element_type", "memory_of", "read_storages", "wants_mapping"]

_torch: Any = torch  # for functions without types
_MAPPABLE: Final = frozenset({"torch-zip", "safetensors"})


def crc_differs(key: str, region: Region, found: int) -> MalformedError:
    """The error for a storage whose bytes do not have the recorded CRC."""
    return MalformedError(
        f"the bytes of storage {escape(key)!r} have CRC {found:08x}, and {region.crc32:08x} is recorded",
        where=f"!{escape(region.member)}" if region.member else "",
        hint="the file is damaged, or was changed without its directory: fetch it again",
    ).under("SL209")


def element_type(name: str) -> torch.dtype:
    """Return the dtype that torch has under a name.

    Raises:
        UnsupportedError: this torch has none.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise UnsupportedError(f"this torch ({torch.__version__}) has no dtype {escape(name)}")
    return found


def allocate(nbytes: int) -> torch.UntypedStorage:
    """Return a fresh, resizable CPU storage; its bytes are not initialised.

    Raises:
        LimitError: there is not enough memory.
    """
    try:
        storage: torch.UntypedStorage = _torch.UntypedStorage(nbytes, device="cpu")
    except (RuntimeError, MemoryError) as error:
        raise LimitError(f"a storage of {nbytes} bytes does not fit into memory").under("SL302") from error
    return storage


def memory_of(storage: torch.UntypedStorage) -> memoryview:
    """Return the bytes of a CPU storage as a writable view that keeps the storage alive."""
    if not storage.nbytes():
        return memoryview(bytearray())
    array: Any = (ctypes.c_ubyte * storage.nbytes()).from_address(storage.data_ptr())
    array._owner = storage  # noqa: SLF001 — an attribute of ours on an object of ours
    return memoryview(array).cast("B")


@functools.cache
def _load_config() -> Any:
    """torch's own settings for loading; None before torch 2.7, and not asked for again at every load."""
    try:
        from torch.utils.serialization import config
    except ImportError:
        return None
    return config.load


def wants_mapping(mmap: bool | None, format: str, source: Source) -> bool:
    """Whether the file is to be mapped.

    Args:
        mmap: As passed to load; None for torch's configured default, which is not followed where it cannot be.
        format: The reader's name.
        source: The file.

    Raises:
        UsageError: it cannot be mapped, because it is no path.
        UnsupportedError: its format cannot be mapped.
    """
    if mmap is None:
        config = _load_config()
        return config is not None and bool(config.mmap) and format in _MAPPABLE and source.fd is not None
    if not mmap or format == "torchscript":
        return False
    if format not in _MAPPABLE:
        name = f"{source.path}, " if source.path is not None else ""
        raise UnsupportedError(
            f"mmap can only be used with files saved with `torch.save({name}_use_new_zipfile_serialization=True), "
            "please torch.save your checkpoint with this option in order to use mmap."
        )
    if source.fd is None:
        raise UsageError("f must be a file path in order to use the mmap argument")
    return True


@dataclass(slots=True)
class _Room:
    """One storage by key: the spec that named it first, its bytes in main memory, and where it was placed."""

    spec: StorageSpec
    raw: torch.UntypedStorage | None
    placed: torch.UntypedStorage | None = None
    given: bool = False


class StorageBank:
    """The storages of one file, each read once and placed once, when it is first asked for.

    Args:
        placement: Where they go.
        virtual: They have no memory: a FakeTensorMode is active, or everything goes to the meta device.
        fake: A FakeTensorMode is active.
        garbage: Their bytes were not read (`torch.serialization.skip_data`): nothing that depends on values is checked.
    """

    def __init__(self, placement: Placement, *, fake: bool = False, garbage: bool = False) -> None:
        self.placement = placement
        self.fake = fake
        self.virtual = fake or placement.is_meta
        self.garbage = garbage
        self._rooms: dict[str, _Room] = {}
        self._views: dict[int, tuple[StorageSpec, torch.UntypedStorage]] = {}

    def add(self, spec: StorageSpec, raw: torch.UntypedStorage | None) -> None:
        """Put in the bytes of a storage; the first spec with its key counts."""
        self._rooms.setdefault(spec.key, _Room(spec, raw))

    @property
    def nbytes(self) -> int:
        """Bytes of all storages."""
        return sum(room.spec.nbytes for room in self._rooms.values())

    def __contains__(self, spec: StorageSpec) -> bool:
        return spec.key in self._rooms

    def untyped(self, spec: StorageSpec) -> torch.UntypedStorage:
        """Return the storage of a spec, on its device.

        The same storage each time, except where it has no memory: torch gives such storages no identity.

        Raises:
            MalformedError: it was not read.
            UnsupportedError, ArgumentError, CallerError: as `Placement.place`.
        """
        if spec.base is not None:
            return self._view(spec, spec.base)
        room = self._rooms.get(spec.key)
        if room is None:
            raise MalformedError(f"storage {escape(spec.key)!r} was not listed by the walk").under("SL304")
        if self.virtual:
            return self._without_memory(room.spec)
        if room.placed is None:
            room.placed = self._place(room)
        if room.given and room.placed.data_ptr() == 0:
            return _unlike(room.placed, room.placed.nbytes())
        room.given = True
        return room.placed

    def _place(self, room: _Room) -> torch.UntypedStorage:
        raw, spec = room.raw, room.spec
        if raw is None:
            raise MalformedError(f"storage {escape(spec.key)!r} has no bytes in the file").under("SL304")
        if spec.swap:
            _torch.UntypedStorage.byteswap(raw, element_type(spec.dtype))
        return self.placement.place(raw, spec.location)

    def _without_memory(self, spec: StorageSpec) -> torch.UntypedStorage:
        storage: Any = _torch.UntypedStorage(spec.nbytes, device="meta")
        if spec.region is not None:
            storage._checkpoint_offset = spec.region.offset  # noqa: SLF001 — where torch keeps it
        if self.fake and not self.placement.is_meta:
            storage._fake_device = spec.location  # noqa: SLF001 — as above
        found: torch.UntypedStorage = storage
        return found

    def _view(self, spec: StorageSpec, base: StorageSpec) -> torch.UntypedStorage:
        """A slice of another storage, as the oldest files have them."""
        known = self._views.get(id(spec))
        if known is not None:
            return known[1]
        size = DTYPE_BITS[base.dtype] // 8
        start, stop = spec.base_offset * size, spec.base_offset * size + spec.nbytes
        if start < 0 or stop > base.nbytes or spec.nbytes < 0:
            raise MalformedError(f"view {escape(spec.key)!r} lies outside storage {escape(base.key)!r}").under("SL301")
        whole = self.untyped(base)
        if self.virtual or whole.data_ptr() == 0:
            return _unlike(whole, spec.nbytes)
        part: torch.UntypedStorage = whole[start:stop]
        self._views[id(spec)] = (spec, part)
        return part

    def typed(self, spec: StorageSpec) -> torch.storage.TypedStorage:
        """Return what torch gives for a storage that stands in the data: a typed wrapper, whatever was saved."""
        storage, dtype = self.untyped(spec), element_type(spec.dtype)
        if not self.virtual:
            # What its constructor does with these arguments, which looks at every other way to be called first.
            made: Any = object.__new__(torch.storage.TypedStorage)
            made.dtype, made._untyped_storage = dtype, storage  # noqa: SLF001 — as above
            plain: torch.storage.TypedStorage = made
            return plain
        found: torch.storage.TypedStorage = _torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
        return found


def _unlike(storage: torch.UntypedStorage, nbytes: int) -> torch.UntypedStorage:
    """Another storage on the same device, without contents."""
    found: torch.UntypedStorage = _torch.UntypedStorage(nbytes, device=storage.device)
    return found


def read_storages(
    source: Source,
    specs: Iterable[StorageSpec],
    *,
    map_location: Any = None,
    mapped: bool = False,
    limits: Limits | None = None,
    check_crc: bool = True,
    leaf: int | None = None,
) -> StorageBank:
    """Read the bytes of every storage into memory of its own, before anything is built.

    Args:
        source: The file; what is read becomes part of the snapshot, from the very memory that tensors will have.
        specs: All that the streams name.
        map_location: As for `torch.load`. Nothing is read for the meta device or under a FakeTensorMode.
        mapped: Map stored bytes instead of reading them, where they are aligned; the file must be a path.
        limits: Bounds.
        check_crc: Compare the recorded CRCs of what is read (of mapped bytes they are not).
        leaf: Bytes of a leaf: the source takes the digests of all leaves of the file while it reads.

    Returns:
        The bank. Nothing has been moved to a device, and no code of the caller has run.

    Raises:
        MalformedError: a storage's bytes are missing, outside the file, or of another number.
        LimitError: they do not fit into memory.
    """
    placement = Placement(map_location)
    fake = _torch._guards.detect_fake_mode(None) is not None  # noqa: SLF001 — as torch.load asks
    garbage = bool(getattr(_torch.serialization._serialization_tls, "skip_data", False))  # noqa: SLF001 — as above
    bank = StorageBank(placement, fake=fake, garbage=garbage)
    reader = _Reader(source, limits or Limits(), check_crc=check_crc)
    if mapped and not bank.virtual and not garbage:
        reader.map()
    for spec in specs:
        root = spec
        while root.base is not None:
            root = root.base
        if root not in bank:
            _check_size(source, root)
            raw = None if bank.virtual else allocate(root.nbytes) if garbage else reader.read(root)
            bank.add(root, raw)
    reader.fill(leaf)
    return bank


def _check_size(source: Source, spec: StorageSpec) -> None:
    """Before anything is allocated: the bytes are there, and as many as the elements need."""
    region = spec.region
    if region is None:
        if spec.nbytes:
            raise MalformedError(f"storage {escape(spec.key)!r} has no bytes in the file").under("SL304")
        return
    if region.nbytes != spec.nbytes:
        raise MalformedError(
            f"storage {escape(spec.key)!r} needs {spec.nbytes} bytes for {spec.numel} elements of {spec.dtype},"
            f" and its record has {region.nbytes}"
        ).under("SL302")
    source.check(region.offset, region.nbytes if region.packed is None else region.packed, f"storage {escape(spec.key)!r}")


class _Reader:
    """Fills storages from one source."""

    def __init__(self, source: Source, limits: Limits, *, check_crc: bool) -> None:
        self.source = source
        self.limits = limits
        self.check_crc = check_crc
        self.mapping: memory_map.mmap | None = None
        self.shared = False
        self.waiting: list[tuple[StorageSpec, Region, memoryview]] = []

    def map(self) -> None:
        """Map the file that is open; never open its path for other bytes than these."""
        fd = self.source.fd
        if fd is None:
            raise UsageError("f must be a file path in order to use the mmap argument")
        wanted = getattr(torch.serialization, "get_default_mmap_options", lambda: None)()
        self.shared = wanted is not None and wanted == getattr(memory_map, "MAP_SHARED", object())
        try:
            if self.shared:
                fd = self._writable(fd)
            try:
                access = memory_map.ACCESS_WRITE if self.shared else memory_map.ACCESS_COPY
                self.mapping = memory_map.mmap(fd, self.source.size, access=access)
            finally:
                if self.shared:
                    os.close(fd)
        except (ValueError, OverflowError) as error:
            raise MalformedError(f"the file changed while it was read: {error}", where=self.source.name) from error
        except OSError as error:
            raise UnsupportedError(f"the file cannot be mapped: {error}", where=self.source.name) from error
        self.source.adopt(0, memoryview(self.mapping))

    def _writable(self, fd: int) -> int:
        """The same file, opened for writing: MAP_SHARED means that changes to tensors are changes to the file."""
        again = os.open(self.source.path or "", os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        if not os.path.samestat(os.fstat(again), os.fstat(fd)):
            os.close(again)
            raise MalformedError("the path names another file than when it was opened", where=self.source.name)
        return again

    def read(self, spec: StorageSpec) -> torch.UntypedStorage:
        """Return a filled storage."""
        region = spec.region
        if region is None or not spec.nbytes:
            return allocate(spec.nbytes)
        aligned = region.offset % max(1, DTYPE_BITS[spec.dtype] // 8) == 0
        # Swapping bytes in a shared mapping would rewrite the file, so those are copied.
        if self.mapping is not None and region.packed is None and aligned and not (self.shared and spec.swap):
            return torch.frombuffer(self.mapping, dtype=torch.uint8, count=region.nbytes, offset=region.offset).untyped_storage()
        storage = allocate(spec.nbytes)
        memory = memory_of(storage)
        if region.packed is None:
            self.waiting.append((spec, region, memory))
        else:
            member = Member(region.member or spec.key, region, region.offset, 8, 0, region.crc32 or 0, False, None)
            read_member_into(self.source, member, memory, self.limits)
        return storage

    def fill(self, leaf: int | None) -> None:
        """Read what is stored as it is, all at once, after everything that had to be unpacked."""
        if not self.waiting:
            return
        crc = self.check_crc and any(region.crc32 is not None for _, region, _ in self.waiting)
        crcs = self.source.fill([(region.offset, memory) for _, region, memory in self.waiting], leaf=leaf, crc=crc)
        for (spec, region, _), found in zip(self.waiting, crcs, strict=False):
            if not region.check(found):
                raise crc_differs(spec.key, region, found)
        self.waiting.clear()
