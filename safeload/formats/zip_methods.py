"""Members of a ZIP file that are packed in ways that torch does not read: bzip2, lzma, zstd and xz.

Such an archive is refused by its method (SL207). What is in it is evidence all the same: Python's zipfile, for one, unpacks it.
Sources: PKWARE APPNOTE 6.3.10, sections 4.4.5 and 5.8.8 (LZMA: a version, the length of the properties, the properties).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from safeload.errors import MalformedError
from safeload.formats.container import Member
from safeload.formats.decoders import broken_as_malformed, bzip2, drive, lzma1, xz
from safeload.formats.zstd_frame import unpack_zstd
from safeload.source import Source

__all__ = ["METHODS", "unpack_member"]

_BZIP2, _LZMA, _ZSTD, _XZ = 12, 14, 93, 95
METHODS: Final = frozenset({_BZIP2, _LZMA, _ZSTD, _XZ})
_CHUNK: Final = 1 << 20


def unpack_member(member: Member, packed: Source) -> Iterator[bytes]:
    """Yield what a member unpacks to.

    Args:
        member: Of one of `METHODS`.
        packed: Its packed bytes.

    Raises:
        MalformedError: they are broken, or give another length than the directory says; what came before was yielded.
        MissingExtraError: it is zstd, and there is no library for it.
    """
    with broken_as_malformed("a decompressor that the member needs"):
        if member.method == _ZSTD:
            yield from unpack_zstd(packed)
            return
        pieces = _pieces(packed, 0)
        if member.method == _LZMA:
            head = packed.head(9)
            if len(head) != 9 or head[2:4] != b"\5\0":
                raise MalformedError("an LZMA member without its properties")
            machine, pieces = lzma1(head[4:], member.region.nbytes), _pieces(packed, 9)
        else:
            machine = bzip2() if member.method == _BZIP2 else xz()
        yield from drive(machine, pieces, member.region.nbytes, ends=member.method != _LZMA)


def _pieces(packed: Source, start: int) -> Iterator[bytes]:
    for at in range(start, packed.size, _CHUNK):
        yield packed.read(at, min(_CHUNK, packed.size - at))
