"""Scalars as JSON that loses no bit: big ints and floats in hex, NaN payloads, bytes, text with lone surrogates."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Any, Final

from safeload.errors import MalformedError

__all__ = ["LONG", "Json", "decode", "encode", "is_scalar", "is_tagged"]

Json = Any
"""What `json.loads` gives: the edge where types begin."""

_SAFE: Final = 1 << 53  # JSON readers in other languages keep integers exact up to here
_HEX: Final = re.compile(r"-?0x[0-9a-f]+\Z")
_FLOAT: Final = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}\Z")
_NAN: Final = re.compile(r"nan:[0-9a-f]{16}\Z")
_TAGS: Final = frozenset({"int", "float", "complex", "str", "bytes"})
LONG: Final = 64
"""Texts and bytes longer than this stand in the table of nodes, once, and are referred to."""


def is_scalar(value: Any) -> bool:
    """Whether `encode` takes it: exact types only, a subclass of int is no int."""
    return value is None or type(value) in (bool, int, float, str, bytes, complex)


def is_tagged(found: Json) -> bool:
    """Whether a JSON value is an object that `decode` takes."""
    return type(found) is dict and len(found) == 1 and next(iter(found)) in _TAGS


def encode(value: Any) -> Json:
    """Return the JSON for a scalar."""
    if value is None or type(value) is bool:
        return value
    if type(value) is int:
        return value if -_SAFE < value < _SAFE else {"int": hex(value)}
    if type(value) is float:
        return {"float": _float_text(value)}
    if type(value) is complex:
        return {"complex": [_float_text(value.real), _float_text(value.imag)]}
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode("ascii")}
    if any(0xD800 <= ord(char) < 0xE000 for char in value) if not value.isascii() else False:
        return {"str": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii")}
    return value


def _float_text(value: float) -> str:
    if math.isnan(value):
        return f"nan:{struct.pack('>d', value).hex()}"
    return value.hex()


def decode(found: Json) -> Any:
    """Return the scalar that a JSON value stands for; only what `encode` writes is taken.

    Raises:
        MalformedError: it is written in another way.
    """
    if found is None or type(found) is bool:
        return found
    if type(found) is str:
        if not found.isascii() and any(0xD800 <= ord(char) < 0xE000 for char in found):
            raise _bad("a text with half a surrogate pair")
        return found
    if type(found) is int:
        if not -_SAFE < found < _SAFE:
            raise _bad("a number that is not written in hex")
        return found
    if not is_tagged(found):
        raise _bad("a value of no known kind")
    ((tag, text),) = found.items()
    if tag == "complex":
        if type(text) is not list or len(text) != 2:
            raise _bad("a complex number that is not two floats")
        return complex(_to_float(text[0]), _to_float(text[1]))
    if type(text) is not str:
        raise _bad(f"a tagged {tag} that is no text")
    if tag == "float":
        return _to_float(text)
    if tag == "int":
        return _to_int(text)
    raw = _to_bytes(text)
    return raw if tag == "bytes" else _to_text(raw)


def _bad(message: str) -> MalformedError:
    return MalformedError(message).under("SL401")


def _to_float(text: Any) -> float:
    if type(text) is str and text in ("inf", "-inf"):
        return float(text)
    if type(text) is str and _NAN.match(text):
        value: float = struct.unpack(">d", bytes.fromhex(text[4:]))[0]
        if math.isnan(value):
            return value
    elif type(text) is str and _FLOAT.match(text):
        try:
            value = float.fromhex(text)
        except (OverflowError, ValueError):
            raise _bad("a float that is out of range") from None
        if value.hex() == text:
            return value
    raise _bad("a float that is not written as float.hex() writes it")


def _to_int(text: str) -> int:
    if not _HEX.match(text):
        raise _bad("an integer that is not written in hex")
    value = int(text, 16)
    if -_SAFE < value < _SAFE or hex(value) != text:
        raise _bad("an integer that is not written as hex() writes it")
    return value


def _to_bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _bad("bytes that are not base64") from None
    if base64.b64encode(raw).decode("ascii") != text:
        raise _bad("bytes in a second spelling of base64")
    return raw


def _to_text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise _bad("text that is not UTF-8") from None
    if not any(0xD800 <= ord(char) < 0xE000 for char in text):
        raise _bad("a text that needs no tag")
    return text
