"""What bytes calls get that other calls made: `pickle.loads(_codecs.encode("…", "latin1"))`, as protocols below 3 write them.

The walk knows only that they are bytes. So the values are made, by the pass that makes a load's: modelled calls give plain data,
all others become inert nodes, and what these are made of is looked at.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from safeload.errors import SafeloadError
from safeload.formats.base import StreamPart
from safeload.source import Reading
from safeload.walk import Walk, walk
from safeload.walk.model import Model, build

if TYPE_CHECKING:
    from safeload.program import Inert
    from safeload.walk.signatures import Modelled

__all__ = ["made_bytes"]

# A longer stream is refused without a word on what its calls would get: a value takes far more memory than its opcode.
_STREAM: Final = 64 << 20  # bytes
_OPCODES: Final = 2_000_000
_FILLING: Final = 1 << 20  # bytes; picklers write frames of 64 KiB
_KEPT: Final = 64 << 20
_MOST: Final = 256  # byte strings, each of which is read like a file
_VISITED: Final = 1_000_000


def made_bytes(part: StreamPart, reading: Reading) -> dict[bytes, int]:
    """The bytes that calls of a stream get, constants among them, with the offset of the first call that gets them.

    Of a stream that breaks, these are what comes before: an unpickler has run it by then.
    """
    walked, start = part.walk, 0
    at = walked.end if walked.end is not None else walked.error_offset
    if at - part.offset > _STREAM or walked.walker.opcodes > _OPCODES:
        return {}
    if walked.end is None:
        # A frame ends within the data, or it is refused where it begins. Of these opcodes it may end behind any.
        filling = b"N" * min(len(part.data) - at, _FILLING)
        walked = walk(bytes(part.data[part.offset : at]) + filling + b".", limits=reading.limits, encoding=reading.encoding)
        start = part.offset
        if walked.end is None:
            return {}
    model = _Listening(walked)
    with suppress(SafeloadError, MemoryError):  # the stream is refused anyway; what was seen until then counts
        build(walked, model)
    return {data: at + start for data, at in model.got.items()}


class _Listening(Model):
    """Makes inert nodes, and keeps the bytes that they are made of."""

    def __init__(self, walked: Walk) -> None:
        super().__init__(walked, unknown="inert")
        self.got: dict[bytes, int] = {}
        self._visits, self._bytes = _VISITED, _KEPT

    def _inert_call(self, op: str, callee: Any, modelled: Modelled | None, args: Any, kwargs: Any, at: int) -> Inert:
        self._look_at([args, kwargs], at)
        return super()._inert_call(op, callee, modelled, args, kwargs, at)

    def _look_at(self, todo: list[Any], at: int) -> None:
        while todo and self._visits > 0 and len(self.got) < _MOST:
            self._visits -= 1
            value = todo.pop()
            if isinstance(value, (bytes, bytearray)) and len(value) <= self._bytes:
                self._bytes -= len(value)
                self.got.setdefault(bytes(value), at)
            elif isinstance(value, (tuple, list, set, frozenset)):
                todo.extend(value)
            elif isinstance(value, dict):
                todo.extend(value.values())
