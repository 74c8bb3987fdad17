"""The output file: its header first, then every storage where it belongs, in one pass over the input."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Self

from safeload.conversion.gather import flip, gather
from safeload.conversion.output import Draft, failed
from safeload.conversion.plan import Entry
from safeload.conversion.reading import Tape, storage_bytes
from safeload.errors import LimitError
from safeload.formats.manifest import canonical
from safeload.program import StorageSpec
from safeload.source import Limits

__all__ = ["HEADER_BYTES", "Groups", "Spool", "copy_storages", "header_bytes", "ordered", "write_payloads"]

HEADER_BYTES: Final = 100_000_000
"""Longest header that the reference implementation reads."""

_ALIGNED: Final = 64
_IN_MEMORY: Final = 16 << 20

Groups = list[tuple[StorageSpec, list[Entry]]]


def header_bytes(entries: Iterable[Entry], metadata: dict[str, str]) -> bytes:
    """Return the first bytes of the file: the header's length and the header, filled up so that the data begins aligned.

    Raises:
        LimitError: it is longer than any reader takes.
    """
    parts = [f'"__metadata__":{canonical(metadata)}']
    for entry in entries:
        shape = ",".join(map(str, entry.shape))
        place = f"[{entry.offset},{entry.offset + entry.nbytes}]"
        # As `canonical` writes it, without asking it for every tensor.
        parts.append(f'{canonical(entry.name)}:{{"data_offsets":{place},"dtype":"{entry.dtype}","shape":[{shape}]}}')
    text = ("{" + ",".join(parts) + "}").encode("ascii")
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    if len(text) > HEADER_BYTES:
        raise LimitError(f"the header would have {len(text)} bytes; readers take at most {HEADER_BYTES}").under("SL401")
    return len(text).to_bytes(8, "little") + text


def write_payloads(draft: Draft, base: int, entries: Iterable[Entry]) -> None:
    """Write what does not come from storages."""
    for entry in entries:
        if entry.root is None and entry.payload:
            draft.write(base + entry.offset, entry.payload)


def copy_storages(tape: Tape, groups: Groups, place: Callable[[Entry], tuple[Draft, int]], limits: Limits, where: str) -> None:
    """Copy every storage to its entries, in the order in which they lie in the source.

    Args:
        tape: The source.
        groups: Storages with their entries.
        place: Gives the file of an entry, and the entry's first byte in it.
        limits: Bounds on unpacking.
        where: For messages.
    """
    for root, entries in sorted(groups, key=lambda group: group[0].region.offset if group[0].region is not None else 0):
        with contextlib.ExitStack() as stack:
            _copy_one(storage_bytes(tape.read, root, limits, where), entries, place, stack)


def _copy_one(
    chunks: Iterator[memoryview], entries: list[Entry], place: Callable[[Entry], tuple[Draft, int]], stack: contextlib.ExitStack
) -> None:
    """Cut the bytes of one storage into its entries; those that need another order are gathered once all of them is here."""
    spools: dict[int, Spool] = {}
    position = first = 0
    for chunk in chunks:
        end = position + len(chunk)
        for index in range(first, len(entries)):
            entry = entries[index]
            if entry.lo >= end:
                break
            start, stop = max(position, entry.lo), min(end, entry.lo + entry.span)
            part = chunk[start - position : stop - position]
            if entry.verbatim:
                draft, at = place(entry)
                draft.write(at + start - entry.lo, part)
            elif part:
                if index not in spools:
                    spools[index] = stack.enter_context(Spool(entry.span, place(entry)[0].path.parent))
                spools[index].append(part)
            if stop == entry.lo + entry.span and index in spools:
                draft, at = place(entry)
                for block in ordered(spools.pop(index).read, entry):
                    draft.write(at, block)
                    at += len(block)
            if stop == entry.lo + entry.span and index == first:
                first += 1
        position = end


def ordered(read: Callable[[int, int], bytes | bytearray | memoryview], entry: Entry) -> Iterator[bytearray]:
    """Yield an entry's bytes in the order of its tensor, from a reader of the range that it fills."""
    stride = entry.stride if entry.stride is not None else (1,)
    shape = entry.view if entry.stride is not None else (entry.nbytes // entry.itemsize,)
    for block in gather(read, shape, stride, entry.itemsize):
        if entry.flip:
            flip(block, entry.flip, entry.real)
        yield block


class Spool:
    """Bytes that wait to be read in another order: in memory while they are few, else in a file without a name."""

    def __init__(self, nbytes: int, directory: Path) -> None:
        import tempfile

        self._directory = directory
        try:
            self._file = None if nbytes <= _IN_MEMORY else tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise failed(error, directory, nbytes) from error
        self._memory = bytearray()

    def append(self, part: memoryview) -> None:
        """Take the next bytes."""
        if self._file is None:
            self._memory += part
            return
        try:
            while part:
                part = part[self._file.write(part) :]
        except OSError as error:
            raise failed(error, self._directory, len(part)) from error

    def read(self, offset: int, nbytes: int) -> bytes | memoryview:
        """Return bytes that were taken."""
        if self._file is None:
            return memoryview(self._memory)[offset : offset + nbytes]
        self._file.seek(offset)
        out = b""
        while len(out) < nbytes and (part := self._file.read(nbytes - len(out))):
            out += part
        return out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
