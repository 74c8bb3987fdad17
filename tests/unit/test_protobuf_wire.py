"""The wire format is read strictly: where two parsers could see two messages, there is no message."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.formats.protobuf_wire import Wire, signed
from safeload.source import Source
from tests.forge_protobuf import double, fixed, msg, number, packed, tag, varint


def fields(data: bytes) -> list[tuple[int, int, int, int]]:
    return list(Wire(Source.open(data), "SL714").fields(0, len(data), "a message"))


def checked(data: bytes, schema: dict[int, str]) -> list[int]:
    return [found for found, _, _, _ in Wire(Source.open(data), "SL714").checked(0, len(data), schema, "a message")]


def test_every_wire_type_is_read() -> None:
    data = number(1, 300) + msg(2, "text") + fixed(3, 1.5) + double(4, 2.5) + number(5, -1)
    found = fields(data)
    assert [(field, wire) for field, wire, _, _ in found] == [(1, 0), (2, 2), (3, 5), (4, 1), (5, 0)]
    assert found[0][2] == 300
    assert data[found[1][2] : found[1][3]] == b"text"
    assert signed(found[4][2]) == -1


@pytest.mark.parametrize(
    "data",
    [
        tag(1, 0),
        tag(1, 0) + b"\x80",
        tag(1, 0) + varint(0, 11),
        tag(1, 0) + b"\xff" * 9 + b"\x02",
        tag(1, 2),
        tag(1, 2) + b"\x05abc",
        tag(1, 2) + varint((1 << 64) - 1),
        tag(1, 2) + varint(1 << 63),
        tag(1, 3),
        tag(1, 3) + tag(1, 4),
        tag(1, 6),
        tag(1, 7),
        tag(0, 0) + b"\0",
        b"\xff\xff\xff\xff\xff\x01",
        varint(8, 6) + b"\0",
        tag(1, 5) + b"abc",
        tag(1, 1) + b"abcdefg",
        b"\x80",
    ],
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    """Numbers that do not end or are too long, lengths beyond the message, groups, field 0."""
    with pytest.raises(MalformedError):
        fields(data)


def test_a_number_may_be_longer_than_it_has_to_be() -> None:
    """Every parser takes it, and for the same number."""
    assert fields(tag(1, 0) + varint(5, 10))[0][2] == 5
    assert fields(varint(8, 5) + b"\7")[0] == (1, 0, 7, 6)


def test_a_field_that_may_stand_once_stands_once() -> None:
    """Parsers merge two messages, and take the last of two numbers."""
    with pytest.raises(MalformedError, match="stands there twice"):
        checked(msg(1, "a") + msg(1, "b"), {1: "m"})
    assert checked(msg(1, "a") + msg(1, "b"), {1: "M"}) == [1, 1]


def test_another_wire_type_than_the_schemas_is_malformed() -> None:
    """Parsers take it for an unknown field, and drop it in silence."""
    with pytest.raises(MalformedError, match="wire type 0"):
        checked(number(1, 5), {1: "m"})
    with pytest.raises(MalformedError, match="wire type 2"):
        checked(msg(1, "a"), {1: "v"})
    assert checked(packed(1, 1, 2), {1: "V"}) == [1]


def test_unknown_fields_are_noted() -> None:
    data = number(1, 1) + number(99, 1)
    wire = Wire(Source.open(data), "SL714")
    assert [found for found, _, _, _ in wire.checked(0, len(data), {1: "v"}, "a message")] == [1]
    assert list(wire.unknown) == [("a message", 99)]


def test_fields_are_counted() -> None:
    data = number(1, 1) * 100
    with pytest.raises(LimitError):
        list(Wire(Source.open(data), "SL714", 50).fields(0, len(data), "a message"))


def test_packed_numbers_are_bounded() -> None:
    data = packed(1, *range(100))
    wire = Wire(Source.open(data), "SL714")
    ((_, kind, a, b),) = list(wire.fields(0, len(data), "a message"))
    assert wire.numbers(kind, a, b, "numbers", 100) == list(range(100))
    with pytest.raises(MalformedError, match="more than 99 numbers"):
        wire.numbers(kind, a, b, "numbers", 99)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_fields_or_in_our_error(data: bytes) -> None:
    """And fields lie in the message, one behind the other."""
    at, found = 0, Wire(Source.open(data), "SL714").fields(0, len(data), "a message")
    while True:
        try:
            field = next(found, None)
        except SafeloadError:
            break
        if field is None:
            assert at == len(data)
            break
        _, wire, a, b = field
        assert at < b <= len(data)
        assert wire == 0 or at < a <= b
        at = b


def test_a_message_across_many_pieces_is_the_same() -> None:
    """Pieces grow and begin anew; what is read does not depend on it."""
    rng = random.Random(1)
    parts = [
        msg(rng.randrange(1, 30), bytes(rng.randrange(20_000))) if rng.random() < 0.3 else number(1, rng.getrandbits(63))
        for _ in range(400)
    ]
    data = b"".join(parts)
    assert list(Wire(Source.open(io.BytesIO(data)), "SL714").fields(0, len(data), "m")) == fields(data)
