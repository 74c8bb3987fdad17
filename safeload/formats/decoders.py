"""What unpacks a compressed stream piece by piece, with one interface: the standard library's decompressors, and zstd's where there is one.

Every machine gives at most as many bytes as it is asked for, so that nobody pays for more than was granted.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import escape

__all__ = ["Machine", "Zlib", "bounded", "broken_as_malformed", "bzip2", "drive", "lzma1", "lzma_alone", "raw_lzma", "xz"]

_CHUNK: Final = 1 << 20
_DICTIONARY: Final = 1 << 30
_MEMORY: Final = 256 << 20  # for the dictionary of xz and lzma; `xz -9` writes 64 MiB


class Machine(Protocol):
    """The interface of `bz2.BZ2Decompressor` and `lzma.LZMADecompressor`."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Unpack at most `max_length` bytes; what is not needed yet is kept."""
        ...

    @property
    def eof(self) -> bool:
        """Whether the stream's own end was reached."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes without more data."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given behind the end."""
        ...


class Zlib:
    """zlib's object with the interface of the others.

    Args:
        wbits: As for `zlib.decompressobj`: 31 gzip, 15 zlib, -15 raw deflate.
    """

    def __init__(self, wbits: int) -> None:
        self._machine = zlib.decompressobj(wbits)
        self._rest = b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Unpack at most `max_length` bytes; what is not needed yet is kept."""
        out = self._machine.decompress(self._rest + data, max(max_length, 0))
        self._rest = self._machine.unconsumed_tail
        return out

    @property
    def eof(self) -> bool:
        """Whether the stream's own end was reached."""
        return self._machine.eof

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes without more data."""
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        """What was given behind the end."""
        return self._machine.unused_data


def bzip2() -> Machine:
    """One bzip2 stream."""
    import bz2

    return bz2.BZ2Decompressor()


def xz() -> Machine:
    """One xz stream."""
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)


def lzma_alone() -> Machine:
    """The format before xz."""
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY)


def raw_lzma(*filters: dict[str, Any]) -> Machine:
    """A chain of liblzma's filters without a container around it."""
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)


def lzma1(properties: bytes, size: int) -> Machine:
    """LZMA with its five bytes of properties, of something that unpacks to `size` bytes."""
    if len(properties) != 5 or properties[0] >= 225:
        raise MalformedError("LZMA with properties that do not exist")
    rest, lc = divmod(properties[0], 9)
    pb, lp = divmod(rest, 5)
    if lc + lp > 4:
        raise LimitError(f"LZMA with lc={lc} and lp={lp}, which liblzma does not read").under("SL222")
    dictionary = bounded(int.from_bytes(properties[1:], "little"), size)
    return raw_lzma({"id": 0x4000000000000001, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb})


def bounded(dictionary: int, size: int) -> int:
    """Bytes of a dictionary, which need not be larger than all that comes out.

    Raises:
        LimitError: they are more than 1 GiB.
    """
    wanted = min(dictionary, size)
    if wanted > _DICTIONARY:
        raise LimitError(f"a dictionary of {wanted} bytes; {_DICTIONARY} are granted").under("SL222")
    return max(4096, wanted)


def drive(machine: Machine, pieces: Iterator[bytes], size: int, *, ends: bool = True) -> Iterator[bytes]:
    """Feed a machine until it gave `size` bytes, at most 1 MiB at a time.

    Args:
        machine: Fresh.
        pieces: What it gets.
        size: Bytes that must come out.
        ends: It must say itself that these are all.

    Raises:
        MalformedError: fewer come out, or more.
    """
    total, data = 0, b""
    while total < size:
        if machine.eof:
            raise MalformedError(f"unpacks to {total} bytes, and the header says {size}")
        if machine.needs_input:
            found = next(pieces, None)
            if found is None:
                raise MalformedError(f"the packed stream ends after {total} of {size} bytes").under("SL502")
            data = found
        out = machine.decompress(data, min(_CHUNK, size - total))
        data = b""
        total += len(out)
        if out:
            yield out
    if not ends:
        return
    while not machine.eof:
        if machine.needs_input:
            found = next(pieces, None)
            if found is None:
                raise MalformedError("the packed stream has no end")
            data = found
        if machine.decompress(data, 1):
            raise MalformedError(f"unpacks to more than the {size} bytes that the header says")
        data = b""
    if machine.unused_data or next(pieces, b""):
        raise MalformedError("bytes of a packed stream are left over").under("SL205")


@contextmanager
def broken_as_malformed(name: str) -> Iterator[None]:
    """Turn what decompressors raise for broken data into MalformedError, a missing module of this Python into the same."""
    try:
        yield
    except SafeloadError:  # some of them are builtin errors, too
        raise
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise MalformedError(escape(str(error))) from None
    except ImportError:
        raise MalformedError(f"this Python was built without {name}") from None
    except Exception as error:
        if type(error).__name__ not in ("LZMAError", "ZstdError"):  # their modules may be missing
            raise
        raise MalformedError(escape(str(error))) from None

