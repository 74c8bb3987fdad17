"""Scalars in the manifest come back bit for bit, and in one spelling only."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from safeload.conversion.scalars import decode, encode
from safeload.errors import MalformedError


def nan(bits: int) -> float:
    """A NaN with this payload."""
    value: float = struct.unpack(">d", struct.pack(">Q", bits))[0]
    return value


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**53 - 1,
        2**53,
        -(2**53),
        2**64,
        -(2**3000),
        "",
        "é",
        "\ud800",
        "\ud83d\ude00",
        "\x00\u2028",
        b"",
        b"\x00\xff",
        1e-300,
    ],
)
def test_a_scalar_comes_back_through_json(value: Any) -> None:
    """JSON's own numbers and texts would lose big integers and lone surrogates."""
    again = decode(json.loads(json.dumps(encode(value))))
    assert type(again) is type(value)
    assert again == value


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, math.inf, -math.inf, 5e-324, nan(0x7FF8000000000001), nan(0xFFF8DEADBEEF0001)])
def test_a_float_keeps_its_bits(value: float) -> None:
    """-0.0 and a NaN's payload compare equal to what they are not."""
    assert bits(decode(encode(value))) == bits(value)
    pair = decode(encode(complex(value, -0.0)))
    assert bits(pair.real) == bits(value)
    assert bits(pair.imag) == bits(-0.0)


def test_adjacent_lone_surrogates_stay_two_characters() -> None:
    """JSON would join them into one."""
    assert len(decode(json.loads(json.dumps(encode("\ud83d\ude00"))))) == 2


@pytest.mark.parametrize(
    "found",
    [
        1.5,
        [1],
        {},
        {"int": "0x1", "float": "inf"},
        {"int": "12"},
        {"int": "0x1"},
        {"int": 5},
        {"int": "0x0000000000000000000020000000000000"},
        {"float": "1.5"},
        {"float": "0x1.8p+0"},
        {"float": "0x1.8000000000000p+9999"},
        {"float": "nan"},
        {"float": "nan:7ff0000000000000"},
        {"float": "infinity"},
        {"complex": ["inf"]},
        {"complex": "inf"},
        {"bytes": "=="},
        {"bytes": "QQ"},
        {"bytes": "QR=="},
        {"str": "QQ=="},
        {"str": "/w=="},
        {"tuple": []},
        1 << 53,
        "\ud800",
    ],
)
def test_a_second_spelling_is_refused(found: Any) -> None:
    """Where one value has two spellings, two readers can see two trees."""
    with pytest.raises(MalformedError):
        decode(found)
