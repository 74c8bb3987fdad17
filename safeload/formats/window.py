"""Small reads at rising offsets: fetched in pieces that grow while reading goes on in one place, and start small after a jump.

A model file is a little structure around a lot of numbers. Readers of structure come here, so that what they skip is never fetched,
and so that a million lengths of four bytes are not a million reads.
"""

from __future__ import annotations

import struct
from typing import Final

from safeload.errors import MalformedError
from safeload.source import Source

__all__ = ["Window"]

_FIRST: Final = 1 << 12
_LARGEST: Final = 1 << 20


class Window:
    """The piece of a file that is at hand.

    Attributes:
        source: The file.
        base: Offset of the piece's first byte.
        piece: Its bytes.
        rule: Which rule a read beyond the end breaks.
    """

    def __init__(self, source: Source, rule: str) -> None:
        self.source, self.rule = source, rule
        self.base = 0
        self.piece = memoryview(b"")
        self._next = _FIRST

    def have(self, offset: int, nbytes: int) -> int:
        """Make the piece hold `nbytes` bytes from `offset`, or all there are; return where `offset` lies in the piece."""
        at = offset - self.base
        if at >= 0 and at + nbytes <= len(self.piece):
            return at
        behind = self.base + len(self.piece)
        # Reading on from where the piece ends: twice as much. Elsewhere: begin small again.
        self._next = min(2 * self._next, _LARGEST) if self.base <= offset <= behind else _FIRST
        size = max(0, min(max(nbytes, self._next), self.source.size - offset))
        self.piece = self.source.view(offset, size) if size else memoryview(b"")
        self.base = offset
        return 0

    def view(self, offset: int, nbytes: int, what: str) -> memoryview:
        """Return exactly these bytes.

        Raises:
            MalformedError: they do not lie in the file.
        """
        if nbytes < 0 or offset + nbytes > self.source.size:
            message = f"{what} ends at byte {offset + nbytes}, and the file has {self.source.size}"
            raise MalformedError(message, where=f"@{offset}").under(self.rule)
        at = self.have(offset, nbytes)
        return self.piece[at : at + nbytes]

    def unpack(self, form: struct.Struct, offset: int, what: str) -> tuple[int, ...]:
        """Return the numbers of a fixed form.

        Raises:
            MalformedError: they do not lie in the file.
        """
        return form.unpack(self.view(offset, form.size, what))
