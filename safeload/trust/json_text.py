"""Read JSON that somebody else signed: one meaning only, bounded, and every value of the type that is expected."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final, NoReturn

from safeload.errors import SignatureError
from safeload.findings import escape

__all__ = ["MOST_BYTES", "Object", "base64_bytes", "member", "objects", "parse_object", "text"]

MOST_BYTES: Final = 32 << 20

Object = dict[str, object]


def _fail(what: str) -> SignatureError:
    return SignatureError(what, check="format")


def parse_object(data: bytes, what: str) -> Object:
    """Return a JSON object.

    Two readers of the same text must not see two documents, so a key that stands there twice is refused, and so are
    the numbers that JSON does not have.

    Raises:
        SignatureError: too long, not UTF-8, not JSON, or not an object.
    """
    if len(data) > MOST_BYTES:
        raise _fail(f"{what} has {len(data)} bytes, and at most {MOST_BYTES} are read")
    try:
        found: object = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise _fail(f"{what} is not UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise _fail(f"{what} is not JSON: {escape(str(error), 100)}") from None
    if not isinstance(found, dict):
        raise _fail(f"{what} is not a JSON object")
    return found


def _object(pairs: list[tuple[str, object]]) -> Object:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def member(table: Object, key: str, what: str) -> Object:
    """Return the object under `key`."""
    value = table.get(key)
    if not isinstance(value, dict):
        raise _fail(f"{what}: {key} is not an object")
    return value


def text(table: Object, key: str, what: str) -> str:
    """Return the string under `key`."""
    value = table.get(key)
    if not isinstance(value, str):
        raise _fail(f"{what}: {key} is not a string")
    return value


def objects(table: Object, key: str, what: str) -> list[Object]:
    """Return the array of objects under `key`."""
    value = table.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _fail(f"{what}: {key} is not an array of objects")
    return value


def base64_bytes(value: object, what: str) -> bytes:
    """Return what a standard base64 string stands for; nothing but its alphabet is passed over in silence."""
    if not isinstance(value, str):
        raise _fail(f"{what} is not a string")
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _fail(f"{what} is not base64") from None
