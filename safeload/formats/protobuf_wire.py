"""The wire format of protocol buffers, read strictly and without a schema compiler: fields of messages, as ranges of the file.

What parsers of the same bytes could disagree on is refused: groups, varints and tags that are too long, fields of another wire type
than the schema's (which parsers drop in silence), and a field twice that may stand once (which parsers merge).
Source: the Protocol Buffers encoding specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from safeload.errors import LimitError, MalformedError
from safeload.formats.window import Window
from safeload.source import Source

__all__ = ["BYTES", "DEPTH", "FIXED32", "FIXED64", "MESSAGE", "VARINT", "Schema", "Wire", "signed"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEPTH: Final = 100
"""How deep messages may lie in one another: what every protobuf parser grants by default."""

_FIELDS: Final = 20_000_000  # in one file; some twenty seconds
_LONGEST: Final = 20  # bytes of a tag and the number behind it

# What a schema says of a field: its wire type, and whether it may stand more than once. Repeated numbers may be packed, too.
Schema = Mapping[int, str]
MESSAGE: Final = "m"
_WIRE: Final = {"v": VARINT, "f": FIXED32, "d": FIXED64, "m": BYTES}


def signed(value: int) -> int:
    """The int64 that a varint stands for."""
    return value - (1 << 64) if value >> 63 else value


class Wire:
    """Reads messages of one file.

    Args:
        source: The file.
        rule: What a broken message breaks.

    Attributes:
        unknown: (message, number) of fields that no schema has, each once, with the offset of the first.
    """

    def __init__(self, source: Source, rule: str, most: int = _FIELDS) -> None:
        self.window = Window(source, rule)
        self.source, self.rule = source, rule
        self.unknown: dict[tuple[str, int], int] = {}
        self._left = most

    def bad(self, message: str, offset: int) -> MalformedError:
        """An error at a byte of the file."""
        return MalformedError(message, where=f"@{offset}").under(self.rule)

    def fields(self, start: int, end: int, what: str, *, cut: bool = False) -> Iterator[tuple[int, int, int, int]]:
        """Yield (number, wire type, a, b) of each field of the message in `start:end`.

        `a` is a varint's value, or the offset of the first byte of anything else; `b` is the offset behind it. With `cut`, bytes
        that go on behind the end are yielded as far as they go: for looking at the front of a file that is not all there.

        Raises:
            MalformedError: the bytes are no message.
            LimitError: the file has more fields than are read.
        """
        window, at = self.window, start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise LimitError(f"more than {_FIELDS} fields in one file", where=f"@{at}").under(self.rule)
            place = window.have(at, min(_LONGEST, end - at))
            piece = window.piece
            tag = piece[place]
            if tag < 0x80:
                size = 1
            else:
                tag, size = self._varint(at, end, 5, what)
            wire, number = tag & 7, tag >> 3
            if not 0 < number < 1 << 29:
                raise self.bad(f"{what} has a field of number {number}", at)
            behind = at + size
            if wire in (VARINT, BYTES):
                if behind >= end:
                    raise self.bad(f"{what} ends inside of field {number}", at)
                value = piece[place + size]
                if value < 0x80:
                    width = 1
                else:
                    value, width = self._varint(behind, end, 10, what)
                first = behind + width
                if wire == VARINT:
                    yield number, wire, value, first
                    at = first
                    continue
                last = first + value
            elif wire in (FIXED32, FIXED64):
                first, last = behind, behind + (4 if wire == FIXED32 else 8)
            else:
                kind = "a group" if wire in (3, 4) else f"wire type {wire}"
                raise self.bad(f"{what} has {kind} as field {number}, which no writer of today writes", at)
            if last > end and cut and wire == BYTES and first <= end:
                yield number, wire, first, end
                return
            if last > end:
                raise self.bad(f"field {number} of {what} ends at byte {last}, and what is around it at {end}", at)
            yield number, wire, first, last
            at = last

    def _varint(self, at: int, end: int, most: int, what: str) -> tuple[int, int]:
        """(value, bytes) of a varint of at most `most` bytes."""
        place = self.window.have(at, min(most, end - at))
        piece = self.window.piece
        value = 0
        for index in range(min(most, end - at)):
            byte = piece[place + index]
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                if value >> (64 if most == 10 else 32):
                    break
                return value, index + 1
        raise self.bad(f"{what} has a number of more than {64 if most == 10 else 32} bits, or one that does not end", at)

    def checked(self, start: int, end: int, schema: Schema, what: str) -> Iterator[tuple[int, int, int, int]]:
        """Like `fields`, held against a schema; fields that it does not have are noted in `unknown` and left out.

        Raises:
            MalformedError: also where a field has another wire type, or stands twice and may not.
        """
        seen = 0
        for number, wire, a, b in self.fields(start, end, what):
            form = schema.get(number)
            if form is None:
                if len(self.unknown) < 1000:
                    self.unknown.setdefault((what, number), b)
                continue
            lower = form.lower()
            if wire != _WIRE[lower] and not (wire == BYTES and form != lower):
                raise self.bad(f"field {number} of {what} has wire type {wire}", b)
            if form == lower:
                if seen >> number & 1:
                    raise self.bad(f"field {number} of {what} stands there twice", b)
                seen |= 1 << number
            yield number, wire, a, b

    def text(self, start: int, end: int, most: int = 1 << 16) -> str:
        """A text of at most `most` bytes, the rest left out; bytes that are not UTF-8 become escapes, so that no two look the same."""
        return str(self.window.view(start, min(end - start, most), "a text"), "utf-8", "backslashreplace")

    def numbers(self, wire: int, a: int, b: int, what: str, most: int) -> list[int]:
        """The varints of one occurrence of a repeated field, packed or not.

        Raises:
            MalformedError: they break, or there are more than `most`.
        """
        if wire == VARINT:
            return [a]
        found: list[int] = []
        at = a
        while at < b:
            value, size = self._varint(at, b, 10, what)
            at += size
            found.append(value)
            if len(found) > most:
                raise self.bad(f"{what} has more than {most} numbers", a)
        return found
