"""GGML files from before GGUF: whisper.cpp's models to this day, and what llama.cpp and ggml's examples wrote until August 2023.

A magic, numbers that size the network, a vocabulary, and tensors to the end of the file: nothing in it is code, and nothing says how
many tensors there are. So a file is right when its last tensor ends with it. The oldest magic stands for several programs' files,
which differ in how many numbers come first and in whether words have scores; the form that fits to the last byte is the file's.
Sources: ggml/examples (gpt-2, gpt-j, gpt-neox, mpt, replit, starcoder, whisper), llama.cpp before b1046 and its convert-lora-to-ggml.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from safeload.errors import MalformedError
from safeload.findings import escape
from safeload.formats.base import Contents
from safeload.formats.checked_file import CheckedFile
from safeload.formats.container import Notes
from safeload.formats.window import Window
from safeload.lean_dataclass import dataclass
from safeload.source import Limits, Source

__all__ = ["GgmlFile"]

_U32: Final = struct.Struct("<I")
_ALIGNMENT: Final = 32
_WORD: Final = 1 << 16  # bytes of a word of the vocabulary
_NAME: Final = 1 << 10
_MOST: Final = 1 << 50
# Type → (elements, bytes) of a block. Until May 2023 four of them kept their scale as a float, and one summed differently.
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84), 11: (256, 110),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 24: (1, 1), 25: (1, 2), 26: (1, 4),
}  # fmt: skip
_OLDER: Final = {**_BLOCKS, 2: (32, 20), 3: (32, 24), 8: (32, 36)}


@dataclass(frozen=True, slots=True)
class _Form:
    """How a program lays its files out.

    Attributes:
        numbers: That come first; the first of them is the vocabulary's size.
        filters: The mel filters of a speech model follow.
        counted: The vocabulary begins with its own size.
        scores: Each word has one.
        aligned: The bytes of each tensor begin at a multiple of 32.
        words: There is a vocabulary.
    """

    numbers: int
    filters: bool = False
    counted: bool = False
    scores: bool = False
    aligned: bool = False
    words: bool = True


_VERSIONED: Final = {
    b"fmgg": _Form(8, scores=True),
    b"tjgg": _Form(8, scores=True, aligned=True),
    b"algg": _Form(3, aligned=True, words=False),
}
_ANY: Final = (
    _Form(11, filters=True, counted=True),
    _Form(7),
    *(_Form(numbers, counted=counted, scores=scores) for numbers in range(5, 13) for counted in (True, False) for scores in (False, True)),
)


class _Tensor(NamedTuple):
    """One tensor: where its bytes begin and how many they are."""

    name: str
    start: int
    nbytes: int


class GgmlFile(CheckedFile):
    """The format "ggml"."""

    name = "ggml"
    broken = "SL851"
    largest = 1 << 50

    def claims(self, source: Source) -> bool:
        """A magic with a version, or the oldest one where some form fits to the last byte."""
        head = source.head(4)
        return head in _VERSIONED or (head == b"lmgg" and _fitting(source) is not None)

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Go from tensor to tensor; their numbers are not looked at."""
        form = _VERSIONED.get(source.head(4))
        found = _fitting(source) if form is None else _read(source, form)
        if found is None:
            raise MalformedError("no form of these files fits it", where="@0").under("SL851")
        names: set[str] = set()
        for tensor in found:
            if tensor.name in names:
                notes.add("SL851", f"two tensors are named '{escape(tensor.name, 80)}'")
            names.add(tensor.name)
        contents.metadata["tensors"] = str(len(found))
        contents.end = source.size


def _fitting(source: Source) -> list[_Tensor] | None:
    """The tensors by the first form that fits, or None."""
    if "ggml" not in source.parsed:
        source.parsed["ggml"] = None
        for form in _ANY:
            try:
                source.parsed["ggml"] = _read(source, form)
                break
            except MalformedError:
                continue
    found: list[_Tensor] | None = source.parsed["ggml"]
    return found


def _read(source: Source, form: _Form) -> list[_Tensor]:
    """The tensors of a file of this form.

    Raises:
        MalformedError: it is none.
    """
    window = Window(source, "SL851")
    at = 4 + 4 * form.numbers
    first = 4 if source.head(4) == b"lmgg" else 8
    words = _number(window, first, "the vocabulary's size") if form.words else 0
    if form.filters:
        at += 8 + 4 * _number(window, at, "the filters") * _number(window, at + 4, "the filters")
    if form.counted:
        words, at = _number(window, at, "the vocabulary's size"), at + 4
    if words > max(0, source.size - at) // 4:
        raise _bad(f"{words} words, and {max(0, source.size - at)} bytes are left", at)
    for _ in range(words):
        length = _number(window, at, "a word's length")
        at += 4 + length + (4 if form.scores else 0)
        if length > _WORD or at > source.size:
            raise _bad(f"a word of {length} bytes", at)
    try:
        return list(_tensors(window, at, form, _BLOCKS))
    except MalformedError:
        return list(_tensors(window, at, form, _OLDER))


def _tensors(window: Window, at: int, form: _Form, blocks: dict[int, tuple[int, int]]) -> Iterator[_Tensor]:
    """Yield the tensors from here to the end of the file."""
    size = window.source.size
    for _ in range(Limits().members):
        if at == size:
            return
        count, length, kind = (_number(window, at + 4 * place, "a tensor") for place in range(3))
        if not (1 <= count <= 4 and 1 <= length <= _NAME and kind in blocks):
            raise _bad(f"no tensor: {count} dimensions, a name of {length} bytes, the type {kind}", at)
        dims = [_number(window, at + 12 + 4 * place, "a dimension") for place in range(count)]
        at += 12 + 4 * count
        name = bytes(window.view(at, length, "a tensor's name")).decode("utf-8", "replace")
        at += length
        if form.aligned:
            at += -at % _ALIGNMENT
        block, width = blocks[kind]
        elements = 1
        for dim in dims:
            elements *= dim
        if dims[0] % block or not 0 < elements < _MOST:
            raise _bad(f"tensor '{escape(name, 80)}' has the shape {dims}, and blocks of {block}", at)
        nbytes = elements // block * width
        if at + nbytes > size:
            raise _bad(f"tensor '{escape(name, 80)}' ends at byte {at + nbytes}, and the file has {size}", at)
        yield _Tensor(name, at, nbytes)
        at += nbytes
    raise _bad("more tensors than are read", at)


def _number(window: Window, at: int, what: str) -> int:
    value: int = window.unpack(_U32, at, what)[0]
    return value


def _bad(message: str, offset: int) -> MalformedError:
    return MalformedError(message, where=f"@{offset}").under("SL851")
