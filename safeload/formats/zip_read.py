"""The bytes of one member: stored bytes as they are, deflated ones within bounds, the CRC checked."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.findings import escape
from safeload.formats.container import Member
from safeload.source import Limits, Source

__all__ = ["check_crc", "iter_member", "read_member", "read_member_into"]

_CHUNK: Final = 1 << 20


def _where(source: Source, member: Member) -> str:
    return f"{source.name}!{escape(member.region.member or member.name)}"


def check_crc(source: Source, member: Member, crc: int) -> None:
    """Compare the CRC-32 of a member's unpacked bytes with the recorded one, where one was recorded.

    Raises:
        MalformedError: they differ.
    """
    if not member.region.check(crc):
        raise MalformedError(
            f"the bytes have CRC {crc:08x}, and {member.region.crc32:08x} is recorded",
            where=_where(source, member),
            hint="the file is damaged, or was changed without its directory: fetch it again",
        ).under("SL209")


def read_member(source: Source, member: Member, limits: Limits, *, crc: bool = True) -> memoryview:
    """Return all bytes of a member, unpacked. They stay part of the snapshot (packed ones as they are packed).

    With `crc` false a wrong CRC does not raise: for whoever looks for evidence, because loaders exist that do not check it.

    Raises:
        LimitError: it would unpack to more than `limits` grant.
        MalformedError: it has no bytes that may be read (`member.problem`), does not unpack to exactly what the
            directory says from exactly the bytes it says, or its CRC differs.
    """
    _check(source, member, limits)
    region = member.region
    if region.packed is None:
        data = source.view(region.offset, region.nbytes, "a member")
        if crc:
            check_crc(source, member, zlib.crc32(data))
        return data
    out = bytearray()
    try:
        for piece in _inflate(source, member, crc=crc):
            out += piece
    except MemoryError:
        raise LimitError(f"{region.nbytes} bytes do not fit into memory", where=_where(source, member)).under("SL208") from None
    return memoryview(out).toreadonly()


def read_member_into(source: Source, member: Member, view: memoryview, limits: Limits, *, crc: bool = True) -> None:
    """Fill `view`, writable and exactly as long as the member, with its unpacked bytes.

    A stored member is read straight into `view`, which becomes part of the snapshot: nobody may write to it before the
    digest was taken. With `crc` false the caller compares `member.region.crc32` itself; deflated members are always checked.

    Raises:
        LimitError, MalformedError: as `read_member`.
    """
    _check(source, member, limits)
    region = member.region
    if len(view) != region.nbytes:
        raise MalformedError(f"has {region.nbytes} bytes, and {len(view)} are wanted", where=_where(source, member))
    if region.packed is None:
        source.readinto(region.offset, view, keep=True, what="a member")
        if crc:
            check_crc(source, member, zlib.crc32(view))
        return
    done = 0
    for piece in _inflate(source, member, crc=True):
        view[done : done + len(piece)] = piece
        done += len(piece)


def iter_member(source: Source, member: Member, limits: Limits) -> Iterator[bytes | memoryview]:
    """Yield a member's unpacked bytes in pieces of at most 1 MiB; the CRC is checked after the last.

    For members of any size: a deflated one is never in memory as a whole.

    Raises:
        LimitError, MalformedError: as `read_member`, the moment it is known.
    """
    _check(source, member, limits)
    region = member.region
    if region.packed is not None:
        yield from _inflate(source, member, crc=True)
        return
    crc = 0
    for start in range(0, region.nbytes, _CHUNK):
        piece = source.view(region.offset + start, min(_CHUNK, region.nbytes - start), "a member")
        crc = zlib.crc32(piece, crc)
        yield piece
    check_crc(source, member, crc)


def _check(source: Source, member: Member, limits: Limits) -> None:
    """Raise for a member whose bytes must not be touched."""
    region = member.region
    if region.packed is not None and (region.nbytes > region.packed * limits.inflate_ratio or region.nbytes > limits.inflate_bytes):
        raise LimitError(f"{region.packed} bytes that unpack to {region.nbytes}", where=_where(source, member)).under("SL208")
    if member.problem is not None:
        rule = "SL207" if member.method not in (0, 8) else "SL206" if member.flags & 1 else "SL204"
        raise MalformedError(f"cannot be read: {member.problem}", where=_where(source, member)).under(rule)


def _inflate(source: Source, member: Member, *, crc: bool) -> Iterator[bytes]:
    """Unpack one deflate stream that must begin and end with the member's bytes and give exactly what it promises."""
    region = member.region
    machine = zlib.decompressobj(-15)
    total, fed, value = 0, 0, 0
    packed = region.packed or 0
    pending = b""
    try:
        while not machine.eof:
            if not pending and fed < packed:
                pending = source.read(region.offset + fed, min(_CHUNK, packed - fed), "a member")
                fed += len(pending)
            piece = machine.decompress(pending, min(_CHUNK, region.nbytes - total + 1))
            if not piece and not pending:
                break  # nothing left to give it, and nothing left in it
            pending = machine.unconsumed_tail
            total += len(piece)
            if total > region.nbytes:
                message = f"unpacks to more than the {region.nbytes} bytes it promises"
                raise MalformedError(message, where=_where(source, member)).under("SL203")
            value = zlib.crc32(piece, value)
            if piece:
                yield piece
    except zlib.error as error:
        what = "it is encrypted" if member.flags & 1 else f"its deflate data is broken: {escape(str(error))}"
        rule = "SL206" if member.flags & 1 else "SL203"
        raise MalformedError(f"cannot be unpacked: {what}", where=_where(source, member)).under(rule) from None
    left = packed - fed + len(machine.unused_data)
    if not machine.eof or total != region.nbytes or left:
        what = "ends early" if not machine.eof else f"leaves {left} of {packed} bytes unread" if left else f"gives {total} bytes"
        message = f"its deflate stream {what}; {region.nbytes} bytes are promised"
        raise MalformedError(message, where=_where(source, member)).under("SL203")
    if crc:
        check_crc(source, member, value)
