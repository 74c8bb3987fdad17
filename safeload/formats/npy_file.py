"""numpy's .npy files: a header, then numbers, or, for an object array, a pickle stream.

The header is a Python literal, {'descr': …, 'fortran_order': …, 'shape': …}, which numpy gives to `ast.literal_eval` and
then to `numpy.dtype`. Both take far more than numpy writes (comments, joined and escaped text, dtypes by name, dicts), and
a header that means "object" to numpy and "number" to a reader hides a stream. So only what numpy writes is read here; of
anything else the bytes behind the header are looked at as if they were a stream.
Source of the format: numpy's NEP 1 and numpy/lib/_format_impl.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.findings import escape
from safeload.formats.base import Contents, StreamPart
from safeload.formats.storages import as_finding
from safeload.formats.streams import looks_like_pickle
from safeload.lean_dataclass import dataclass
from safeload.source import Reading, Source
from safeload.walk import finding, walk

__all__ = ["MAGIC", "NpyFile", "array_header"]

MAGIC: Final = b"\x93NUMPY"
_HEADER: Final = 1 << 20  # bytes of a header; numpy itself takes 10,000 unless it may unpickle
_DEPTH: Final = 16  # nesting of structured dtypes
_MOST: Final = 1 << 62
_ARRAYS: Final = 100_000

_Literal = str | int | bool | list["_Literal"] | tuple["_Literal", ...] | dict[str, "_Literal"]

_TOKEN: Final = re.compile(
    r"""[ \n]*(?:'([^'"\\\n]*)'|"([^"\\\n]*)"|(0|[1-9][0-9]{0,18})L?(?![0-9A-Za-z_])|(True|False)|([()\[\]{},:])|\Z)"""
)
_PLAIN: Final = re.compile(r"[<>=|]?([biufcSUVO?])([0-9]{0,18})\Z|[<>=|]?([mM])8(?:\[[0-9]{0,9}[a-zA-Z]{1,8}(?:/[0-9]{1,9})?\])?\Z")
_SIZES: Final = {
    "b": ("1",), "i": ("1", "2", "4", "8"), "u": ("1", "2", "4", "8"), "f": ("2", "4", "8", "12", "16"), "c": ("8", "16", "24", "32"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Array:
    """One array's header: `data` is where its bytes begin, `nbytes` how many; None for a pickle stream."""

    dtype: str
    shape: tuple[int, ...]
    fortran_order: bool
    data: int
    nbytes: int | None


class NpyFile:
    """The format "npy"."""

    name: Final = "npy"

    def claims(self, source: Source) -> bool:
        """By its magic."""
        return source.head(len(MAGIC)) == MAGIC

    def read(self, source: Source, reading: Reading) -> Contents:
        """Read the header of every array in the file, and walk the streams of those that hold objects."""
        contents = Contents(format=self.name)
        at = 0
        try:
            for count in range(_ARRAYS + 1):
                if count == _ARRAYS:
                    raise LimitError(f"more than {_ARRAYS} arrays in one file")
                array = _header(source, at)
                if not count:
                    contents.metadata |= {"dtype": array.dtype, "shape": str(array.shape), "fortran_order": str(array.fortran_order)}
                at = _behind(source, reading, contents, array)
                if at == source.size:
                    break
                if source.read(at, min(len(MAGIC), source.size - at)) != MAGIC:
                    raise MalformedError(f"{source.size - at} bytes follow the array's last", where=f"@{at}").under("SL302")
        except MalformedError as error:
            contents.error = error.message
            contents.findings.append(as_finding(error, None))
            _hidden(source, reading, contents, at)
        except SafeloadError as error:
            contents.error = str(error)
        return contents


def _bad(message: str, offset: int, rule: str = "SL303") -> MalformedError:
    return MalformedError(message, where=f"@{offset}").under(rule)


def _behind(source: Source, reading: Reading, contents: Contents, array: _Array) -> int:
    """Where an array ends; a stream is walked for it."""
    if array.nbytes is None:
        return _objects(source, reading, contents, array.data)
    end = array.data + array.nbytes
    if end > source.size:
        raise _bad(f"the array's data ends at byte {end}, and the file has {source.size}", array.data, "SL502")
    return end


def _objects(source: Source, reading: Reading, contents: Contents, start: int) -> int:
    """Walk the stream of an object array; return where it ends."""
    if source.size > reading.limits.stream_bytes:
        raise LimitError(f"an object array in a file of {source.size} bytes; at most {reading.limits.stream_bytes} are read")
    data = source.view(0, source.size)
    walked = walk(data, start, limits=reading.limits, encoding=reading.encoding)
    contents.parts.append(StreamPart(member=None, offset=start, data=data, walk=walked))
    if walked.end is None:
        raise MalformedError(f"the stream of an object array breaks: {walked.error}", where=f"@{walked.error_offset}").under("SL129")
    return walked.end


def _hidden(source: Source, reading: Reading, contents: Contents, at: int) -> None:
    """After an error: a stream behind the header, or behind the last array, may be what another reader goes on with."""
    places = [at]
    head = source.read(at, min(12, source.size - at))
    if head.startswith(MAGIC) and len(head) == 12:
        wide = head[6] > 1
        places.append(at + (12 if wide else 10) + int.from_bytes(head[8:12] if wide else head[8:10], "little"))
    known = {part.offset for part in contents.parts}
    for place in places:
        if place in known or place >= source.size or source.size > reading.limits.stream_bytes:
            continue
        if not looks_like_pickle(source.view(place, source.size - place)):
            continue
        data = source.view(0, source.size)
        walked = walk(data, place, limits=reading.limits, encoding=reading.encoding)
        contents.parts.append(StreamPart(member=None, offset=place, data=data, walk=walked))
        contents.findings.append(finding("SL125", "a pickle stream where the header announces none", offset=place))


# ---- the header


def array_header(source: Source) -> _Array:
    """Read the header of the first array.

    Raises:
        MalformedError: it is not of the form that numpy writes.
    """
    return _header(source, 0)


def _header(source: Source, at: int) -> _Array:
    """Read one array's header.

    Raises:
        MalformedError: it is cut short, too long, or not of the form that numpy writes.
    """
    if source.size - at < 12:
        raise _bad("the file ends inside an array's header", at, "SL502")
    head = source.read(at, 12)
    if head[:6] != MAGIC or head[6] not in (1, 2, 3) or head[7]:
        raise _bad(f"not an array of format 1.0, 2.0 or 3.0: it begins with {head[:8].hex(' ')}", at)
    start = at + (10 if head[6] == 1 else 12)
    length = int.from_bytes(head[8:10] if head[6] == 1 else head[8:12], "little")
    if length > _HEADER:
        raise _bad(f"an array's header of {length} bytes; {_HEADER} are read", at)
    if start + length > source.size:
        raise _bad(f"an array's header ends at byte {start + length}, and the file has {source.size}", at, "SL502")
    try:
        text = source.read(start, length).decode("utf-8" if head[6] == 3 else "latin-1")
    except UnicodeDecodeError:
        raise _bad("an array's header is not UTF-8", start) from None
    found = _literal(text, start)
    if not isinstance(found, dict) or set(found) != {"descr", "fortran_order", "shape"}:
        raise _bad("an array's header is not a dict of descr, fortran_order and shape", start)
    shape, order = found["shape"], found["fortran_order"]
    if not isinstance(shape, tuple) or not isinstance(order, bool):
        raise _bad("an array's shape is no tuple, or its order no boolean", start)
    itemsize, objects = _dtype(found["descr"], start)
    nbytes = _product((itemsize, *shape), start)
    return _Array(escape(str(found["descr"])), _sizes(shape, start), order, start + length, None if objects else nbytes)


def _product(numbers: tuple[object, ...], offset: int) -> int:
    total = 1
    for number in _sizes(numbers, offset):
        total *= number
        if total >= _MOST:
            raise _bad("an array's size in bytes does not fit 62 bits", offset)
    return total


def _sizes(numbers: tuple[object, ...], offset: int) -> tuple[int, ...]:
    found = tuple(number for number in numbers if isinstance(number, int) and not isinstance(number, bool))
    if len(found) != len(numbers) or any(number >= _MOST for number in found):
        raise _bad("an array's shape holds what is no number of elements", offset)
    return found


def _dtype(descr: _Literal, offset: int, depth: int = 0) -> tuple[int, bool]:
    """(bytes per element, whether it holds objects) of a dtype as numpy writes it.

    Raises:
        MalformedError: numpy does not write it so. What `numpy.dtype` would make of it is not guessed.
    """
    if isinstance(descr, str):
        return _scalar(descr, offset)
    if isinstance(descr, tuple) and len(descr) == 2:
        itemsize, objects = _dtype(descr[0], offset, depth + 1)
        return _product((itemsize, *_subshape(descr[1])), offset), objects
    if not isinstance(descr, list) or depth > _DEPTH:
        raise _bad("a dtype in a form that numpy does not write", offset)
    total, any_objects = 0, False
    for field in descr:
        if not isinstance(field, tuple) or len(field) not in (2, 3) or not _is_name(field[0]):
            raise _bad("a field of a dtype in a form that numpy does not write", offset)
        itemsize, objects = _dtype(field[1], offset, depth + 1)
        total += _product((itemsize, *_subshape(field[2] if len(field) == 3 else ())), offset)
        any_objects |= objects
    return total, any_objects


def _scalar(descr: str, offset: int) -> tuple[int, bool]:
    match = _PLAIN.match(descr)
    kind, size = (match[1] or match[3], match[2] or "") if match else ("", "")
    if kind in ("m", "M"):
        return 8, False
    if kind == "O" and size in ("", "4", "8"):
        return 8, True
    if kind == "?" and not size:
        return 1, False
    if kind in ("S", "U", "V") and size:
        return int(size) * (4 if kind == "U" else 1), False
    if size not in _SIZES.get(kind, ()):
        raise _bad(f"a dtype that numpy does not write so: '{escape(descr, 80)}'", offset)
    return int(size), False


def _is_name(name: _Literal) -> bool:
    return isinstance(name, str) or (isinstance(name, tuple) and len(name) == 2 and all(isinstance(part, str) for part in name))


def _subshape(shape: _Literal) -> tuple[object, ...]:
    return shape if isinstance(shape, tuple) else (shape,)


def _literal(text: str, offset: int) -> _Literal:
    """Read a Python literal of texts, numbers, booleans, tuples, lists and dicts: no escapes, no comments, nothing joined.

    Raises:
        MalformedError: it is anything else.
    """
    tokens = _tokens(text, offset)
    value = _value(next(tokens), tokens, offset, 0)
    if next(tokens) is not None:
        raise _bad("an array's header goes on behind its dict", offset)
    return value


class _Mark(str):
    """A bracket, comma or colon, as opposed to a text."""

    __slots__ = ()


def _tokens(text: str, offset: int) -> Iterator[str | int | bool | None]:
    """Texts, numbers, booleans and marks; None at the end."""
    at = 0
    while at <= len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _bad(f"an array's header that numpy does not write so, at '{escape(text[at : at + 40])}'", offset + at)
        single, double, number, word, mark = found.groups()
        at = found.end()
        if mark is not None:
            yield _Mark(mark)
        elif number is not None:
            yield int(number)
        elif word is not None:
            yield word == "True"
        elif single is not None or double is not None:
            yield single if single is not None else double
        else:
            break
    while True:
        yield None


def _value(first: str | int | bool | None, tokens: Iterator[str | int | bool | None], offset: int, depth: int) -> _Literal:
    if depth > _DEPTH:
        raise _bad(f"an array's header nested deeper than {_DEPTH}", offset)
    if first is None or not isinstance(first, _Mark):
        if first is None:
            raise _bad("an array's header ends early", offset)
        return first
    if first == "{":
        return _pairs(tokens, offset, depth)
    if first not in ("(", "["):
        raise _bad(f"'{first}' where a value is due in an array's header", offset)
    close = ")" if first == "(" else "]"
    items: list[_Literal] = []
    comma = True
    for item in tokens:
        if isinstance(item, _Mark) and item == close:
            if first == "(" and len(items) == 1 and not comma:
                return items[0]  # a value in brackets is no tuple
            return tuple(items) if first == "(" else items
        if isinstance(item, _Mark) and item == "," and not comma:
            comma = True
            continue
        if not comma:
            raise _bad("a comma is missing in an array's header", offset)
        items.append(_value(item, tokens, offset, depth + 1))
        comma = False
    raise _bad("an array's header ends early", offset)


def _pairs(tokens: Iterator[str | int | bool | None], offset: int, depth: int) -> dict[str, _Literal]:
    found: dict[str, _Literal] = {}
    for key in tokens:
        if isinstance(key, _Mark) and key == "}":
            return found
        if not isinstance(key, str) or isinstance(key, _Mark) or key in found or next(tokens) != _Mark(":"):
            raise _bad("an array's header is not a dict of texts by text, each once", offset)
        found[key] = _value(next(tokens), tokens, offset, depth + 1)
        mark = next(tokens)
        if not isinstance(mark, _Mark) or mark not in (",", "}"):
            break
        if mark == "}":
            return found
    raise _bad("an array's header ends early, or lacks a comma", offset)
