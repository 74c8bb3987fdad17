"""What unpacks a compressed stream piece by piece, with one interface: the standard library's decompressors, and zstd's where there is one.

Every machine gives at most as many bytes as it is asked for, so that nobody pays for more than was granted.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from safeload.errors import MalformedError, SafeloadError
from safeload.findings import escape

__all__ = ["Machine", "Zlib", "broken_as_malformed", "bzip2", "lzma_alone", "raw_lzma", "xz"]

_MEMORY = 256 << 20  # for the dictionary of xz and lzma; `xz -9` writes 64 MiB


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

