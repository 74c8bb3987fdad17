"""Where an HDF5 file begins, how wide its addresses are, and where its root group lies."""

from __future__ import annotations

from typing import Final

from safeload.formats.hdf5.space import NotAnalysedError, Space, bad
from safeload.lean_dataclass import dataclass
from safeload.source import Source

__all__ = ["Superblock", "read_superblock"]

_WIDTHS: Final = (2, 4, 8)


@dataclass(frozen=True, slots=True)
class Superblock:
    """What stands in front of everything else.

    Attributes:
        version: 0 to 3.
        space: How to read the rest.
        root: Address of the root group's object header.
        extension: Address of the object header that goes on with the superblock, or None.
        driver: Address of the block that says how the file is spread over others, or None.
        end: Where the file says that it ends, in bytes from the file's first.
    """

    version: int
    space: Space
    root: int
    extension: int | None
    driver: int | None
    end: int


def read_superblock(source: Source, start: int) -> Superblock:
    """Read the superblock at a place where its signature stands.

    Raises:
        MalformedError: it is cut short, or contradicts itself.
        NotAnalysedError: a version or a width of addresses that is not read.
    """
    head = source.read(start, min(48, source.size - start))
    if len(head) < 24:
        raise bad("the file ends inside its superblock", start)
    version = head[8]
    if version > 3:
        raise NotAnalysedError(f"a superblock of version {version}", where=f"@{start}").under("SL815")
    offset_size, length_size = (head[13], head[14]) if version < 2 else (head[9], head[10])
    if offset_size not in _WIDTHS or length_size not in _WIDTHS:
        raise NotAnalysedError(f"addresses of {offset_size} and lengths of {length_size} bytes", where=f"@{start}").under("SL815")
    # The library counts from where it finds the signature, whatever the base address says.
    space = Space(source, start, offset_size, length_size)
    return _old(space, version) if version < 2 else _new(space, version)


def _old(space: Space, version: int) -> Superblock:
    cursor = space.within(0, 24 + 4 * version + 6 * space.offset_size + 24, "the superblock")
    cursor.skip(24 + 4 * version)
    base, _, end, driver = (cursor.address() for _ in range(4))
    cursor.skip(space.offset_size)
    root = cursor.address()
    _check_base(space, base)
    return Superblock(version, space, root, None, None if driver == space.undefined else driver, end - base + space.base)


def _new(space: Space, version: int) -> Superblock:
    cursor = space.within(0, 16 + 4 * space.offset_size, "the superblock")
    cursor.skip(12)
    base, extension, end, root = (cursor.address() for _ in range(4))
    cursor.sealed()
    _check_base(space, base)
    return Superblock(version, space, root, None if extension == space.undefined else extension, None, end - base + space.base)


def _check_base(space: Space, base: int) -> None:
    if base not in (0, space.base):
        raise bad(f"the superblock lies at byte {space.base}, and says that addresses count from {base}", space.base)
