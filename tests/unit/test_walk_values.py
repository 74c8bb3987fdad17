"""Plain data of every protocol is walked without a finding and built as the standard library builds it."""

from __future__ import annotations

import collections
import datetime  # noqa: ICN001 — as in the module under test
import decimal
import fractions
import math
import pathlib
import pickle
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeload.errors import MalformedError, RefusedError
from safeload.program import Inert
from safeload.walk import walk
from safeload.walk.model import Model, build
from safeload.walk.opcodes import OPCODES
from tests import forge

ZONE = datetime.timezone(datetime.timedelta(hours=2), "east")
VALUES: list[Any] = [
    None, True, False, 0, 255, 256, -1, 1 << 31, -(1 << 31), 1 << 63, -(1 << 200), 1 << 2040, 0.0, -0.0, 1.5, math.inf, "", "é\ud800\n\\",
    "x" * 300, b"", b"\x00\xff" * 200, bytearray(b"ab"), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], {}, {1: 2}, set(), {1, 2},
    frozenset({3}), 1 + 2j, slice(1, None, 2), range(3), range(1, 10, 3), Ellipsis, NotImplemented, collections.OrderedDict(b=1, a=2),
    collections.Counter("abca"), collections.defaultdict(list, {"a": [1]}), collections.deque([1, 2], 5), collections.deque(),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 — naive ones are pickled too
    datetime.datetime(2026, 1, 2, tzinfo=ZONE), datetime.date(2026, 1, 2),
    datetime.time(1, 2, 3, 4), datetime.timedelta(1, 2, 3), ZONE, decimal.Decimal("-1.50"), fractions.Fraction(-3, 7),
    uuid.UUID(int=77), pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("c:/x"), pathlib.PosixPath("a/b"), list, dict, int,
]  # fmt: skip


def value_of(data: bytes, **options: Any) -> Any:
    """Walk and build; the walk must find nothing."""
    seen = walk(data, **options)
    assert seen.error is None, seen.error
    assert seen.findings == []
    return build(seen, Model(seen))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_come_back_equal_and_of_the_same_type(value: Any, protocol: int) -> None:
    """torch refuses many of these (empty bytes, LONG4, frozenset, protocols 0, 1, 4, 5) without need."""
    found = value_of(pickle.dumps(value, protocol))
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, float):
        assert math.copysign(1, found) == math.copysign(1, value)
    if isinstance(value, collections.deque):
        assert found.maxlen == value.maxlen
    if isinstance(value, (dict, collections.OrderedDict)):
        assert list(found) == list(value)


DAY, CLOCK = b"\x07\xea\x01\x02", b"\x03\x04\x05\x00\x00\x06"


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("date", b"\x00\x00\x01\x01"), ("date", b"\x07\xea\x01\x00"), ("date", b"\x07\xea\x02\x1d"), ("date", b"\x27\x10\x01\x01"),
        ("date", b"\x07\xea\x81\x01"), ("time", b"\x18" + CLOCK[1:]), ("time", b"\x03\x3c" + CLOCK[2:]),
        ("time", b"\x03\x04\x3c\x00\x00\x06"), ("time", b"\x03\x04\x05\x0f\x42\x40"),
        ("datetime", b"\x00\x00\x01\x00" + CLOCK), ("datetime", DAY + b"\x83" + CLOCK[1:]), ("datetime", b"\x07\xea\x8d\x01" + CLOCK),
    ],
)  # fmt: skip
def test_a_day_that_no_calendar_shows_is_refused(name: str, packed: bytes) -> None:
    """CPython takes it from a pickle: day 0 of year 0 lies before its table of weekdays, and a text of it reads memory there."""
    seen = walk(forge.stream(forge.GLOBAL("datetime", name), forge.BYTES(packed), forge.TUPLE1, forge.REDUCE, forge.STOP))
    with pytest.raises(MalformedError, match="no calendar or clock"):
        build(seen, Model(seen))


def test_the_second_of_two_equal_times_comes_back() -> None:
    """The high bit of the month, or of the hour, says which one it is when clocks are put back."""
    for value in (datetime.datetime(2026, 10, 25, 2, 30, fold=1), datetime.time(2, 30, fold=1)):  # noqa: DTZ001 - as above
        assert value_of(pickle.dumps(value, 4)).fold == 1


def test_nan_keeps_its_payload() -> None:
    """A comparison with == would not see a changed bit."""
    bits = b"\x7f\xf8\x00\x00\x00\x00\x12\x34"
    assert struct.pack(">d", value_of(forge.stream(forge.RAW("BINFLOAT", bits), forge.STOP))) == bits


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.frozensets(KEYS) | st.sets(KEYS),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(TREES, st.integers(0, 5))
def test_any_nesting_of_plain_data_is_built_as_pickle_builds_it(value: Any, protocol: int) -> None:
    """The oracle here is pickle itself, on data that we wrote."""
    assert value_of(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_identity_and_cycles_survive(protocol: int) -> None:
    """Tied weights are tied by the memo."""
    shared = [1]
    loop: list[Any] = [shared, shared]
    loop.append(loop)
    found = value_of(pickle.dumps(loop, protocol))
    assert found[0] is found[1]
    assert found[2] is found


def test_python_2_strings_follow_the_encoding() -> None:
    """Checkpoints of Python 2 hold text as bytes."""
    data = forge.stream(forge.PROTO(2), forge.STRING2(b"\xe9"), forge.STOP)
    assert value_of(data, encoding="latin1") == "é"
    assert value_of(data, encoding="bytes") == b"\xe9"
    assert walk(data).error == "a Python 2 string that is not utf-8"


def test_python_2_names_are_understood() -> None:
    """Protocol 2 files name `__builtin__`, later ones `builtins`."""
    data = forge.stream(forge.PROTO(2), forge.call("__builtin__", "set", forge.stream(forge.EMPTY_LIST)), forge.STOP)
    assert value_of(data) == set()
    late = forge.stream(forge.PROTO(4), forge.call("__builtin__", "set", forge.stream(forge.EMPTY_LIST)), forge.STOP)
    assert walk(late).unmodelled == ("__builtin__.set",)


@pytest.mark.parametrize("text", [b"12", b"-7", b"0", b"00", b"01", b"0x1F", b"0b11", b"0o17", b"1_000"])
def test_int_text_is_read_as_c_reads_it(text: bytes) -> None:
    """C takes base prefixes and underscores, pickletools does not: the value is C's, and the form a finding."""
    data = forge.stream(forge.LINE("INT", text), forge.STOP)
    seen = walk(data)
    value = build(seen, Model(seen))
    assert value == pickle.loads(data)
    assert type(value) is type(pickle.loads(data))
    plain = text.lstrip(b"-").isdigit()
    assert [found.rule for found in seen.findings] == ([] if plain else ["SL122"])


@pytest.mark.parametrize("name", [name for name, _, form in OPCODES.values() if form.startswith("bytes")])
@pytest.mark.parametrize("length", [1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1])
def test_forged_lengths_end_in_an_error_and_not_in_memory(name: str, length: int) -> None:
    """A length of 2**31 is negative for a C int; one of 2**63 for a C long."""
    width = int(next(form for known, _, form in OPCODES.values() if known == name)[5:])
    length = min(length, (1 << 8 * width) - 1)
    seen = walk(forge.stream(forge.LENGTH(name, length, b"abc", width), forge.STOP))
    assert seen.error is not None
    assert seen.end is None
    assert seen.error_offset == 0


@pytest.mark.parametrize("code", sorted(OPCODES))
def test_an_opcode_cut_anywhere_is_an_error_at_its_own_offset(code: int) -> None:
    """Every operand is bounds-checked before it is read."""
    operand = {"": b"", "line": b"1\n", "line2": b"a\nb\n"}.get(OPCODES[code][2], b"\x04\0\0\0\0\0\0\0abcd")
    whole = bytes([code]) + operand
    for end in range(1, len(whole)):
        seen = walk(whole[:end])
        assert seen.error is not None, whole[:end]
        assert seen.end is None


def test_a_build_of_what_is_not_modelled_is_refused_or_inert() -> None:
    """The two ways that a load has."""
    data = forge.stream(forge.PROTO(4), forge.call("os", "system", forge.TEXT("true")), forge.STOP)
    seen = walk(data)
    with pytest.raises(RefusedError, match=r"REDUCE of os\.system is not modelled"):
        build(seen, Model(seen))
    assert build(seen, Model(seen, unknown="inert")) == Inert("os.system", args=("true",), via="REDUCE")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (forge.stream(forge.call("builtins", "bytearray", forge.INT(1 << 33))), "SL104"),
        (forge.call("torch", "UntypedStorage", forge.INT(64)), "SL104"),
        (forge.call("torch", "FloatTensor", forge.INT(1 << 40)), "SL104"),
        (forge.call("_codecs", "encode", forge.TEXT("x"), forge.TEXT("rot13")), "SL104"),
        (forge.stream(forge.EMPTY_DICT, forge.EMPTY_LIST, forge.INT(1), forge.SETITEM), "SL129"),
        (forge.stream(forge.EMPTY_LIST, forge.INT(1), forge.INT(2), forge.SETITEM), "SL105"),
        (forge.stream(forge.EMPTY_DICT, forge.INT(1), forge.APPEND), "SL105"),
        (forge.stream(forge.EMPTY_LIST, forge.EMPTY_DICT, forge.BUILD), "SL105"),
        (forge.stream(forge.INT(1), forge.EMPTY_TUPLE, forge.REDUCE), "SL110"),
        (forge.stream(forge.RAW("EXT1", b"\x01")), "SL106"),
        (forge.stream(forge.INT(1), forge.INT(2)), "SL121"),
        (forge.stream(forge.INT(1), forge.PROTO(2)), "SL123"),
        (forge.stream(forge.INT(1), forge.RAW("LONG_BINPUT", b"\0\0\0\x80")), "SL124"),
        (forge.stream(forge.FRAME(100), forge.INT(1)), "SL129"),
        (forge.stream(forge.FRAME(1), forge.INT(1)), "SL120"),
        (forge.stream(forge.FRAME(12), forge.FRAME(2), forge.INT(1)), "SL120"),
        (forge.stream(forge.INT(1), forge.INT(2), forge.STACK_GLOBAL), "SL107"),
        (forge.stream(forge.call("os", "getcwd"), forge.call("os", "getcwd"), forge.STACK_GLOBAL), "SL107"),
        (forge.stream(forge.NONE, forge.BINPERSID), "SL109"),
        (forge.stream(forge.TEXT("a"), forge.EMPTY_TUPLE, forge.STACK_GLOBAL), "SL107"),
    ],
)
def test_each_trick_is_named(what: bytes, why: str) -> None:
    """A finding of its own, so that a person learns what was tried."""
    seen = walk(forge.stream(what, forge.STOP))
    assert why in {found.rule for found in seen.findings}


def test_order_of_attributes_of_an_ordered_dict_is_not_the_files_to_choose() -> None:
    """BUILD could put `keys` or `__class__` on it; only `_metadata` is ever written."""

    def built(*pairs: bytes) -> bytes:
        state = forge.stream(forge.EMPTY_DICT, forge.MARK, *pairs, forge.SETITEMS)
        return forge.stream(forge.call("collections", "OrderedDict"), state, forge.BUILD, forge.STOP)

    assert value_of(built(forge.TEXT("_metadata"), forge.INT(1))).__dict__ == {"_metadata": 1}
    for name in ("keys", "__class__", "items"):
        assert [found.rule for found in walk(built(forge.TEXT(name), forge.INT(1))).findings] == ["SL105"]
    many = b"".join(forge.TEXT(f"k{number}") + forge.NONE for number in range(200))
    assert [found.rule for found in walk(built(many)).findings] == ["SL105"]


def test_doubling_through_the_memo_is_not_hashed() -> None:
    """60 tuples of two can stand for 2**60 values; hashing the last would take years."""
    parts = [forge.EMPTY_TUPLE]
    for _ in range(60):
        parts += [forge.DUP, forge.TUPLE2]
    doubled = forge.stream(*parts)
    assert walk(forge.stream(forge.EMPTY_DICT, doubled, forge.NONE, forge.SETITEM, forge.STOP)).error is not None
    assert walk(forge.stream(doubled, forge.STOP)).error is not None
    # A list hides the tuple from the walk; the build looks at what it hashes.
    data = forge.stream(forge.EMPTY_TUPLE, *[forge.DUP, forge.TUPLE2] * 30)
    listed = forge.stream(forge.EMPTY_LIST, data, forge.APPEND)
    hidden = forge.stream(forge.GLOBAL("builtins", "set"), forge.MARK, listed, forge.TUPLE, forge.REDUCE, forge.STOP)
    seen = walk(hidden)
    with pytest.raises(MalformedError):
        build(seen, Model(seen))


def test_deep_tuples_are_refused_before_c_recurses() -> None:
    """Hashing, comparing and showing tuples recurses in C without a check."""
    assert "nested deeper" in str(walk(forge.stream(forge.EMPTY_TUPLE, forge.TUPLE1 * 100_000, forge.STOP)).error)


def test_a_decimal_that_takes_quadratic_time_is_refused() -> None:
    """CPython itself refuses to read so many digits."""
    assert walk(forge.stream(forge.LINE("LONG", b"9" * 100_000), forge.STOP)).error is not None


def test_calls_are_shown_as_a_person_would_write_them() -> None:
    """With hostile text escaped, and bounded."""
    data = forge.stream(forge.call("os", "system", forge.TEXT("curl x\x1b[2J" + "y" * 500)), forge.STOP)
    (found,) = walk(data).findings
    assert found.rule == "SL101"
    assert found.message.startswith("calls os.system('curl x\\x1b[2Jyyy")
    assert len(found.message) < 400
    nested = forge.call("builtins", "getattr", forge.call("builtins", "__import__", forge.TEXT("os")), forge.TEXT("system"))
    data = forge.stream(nested, forge.TEXT("id"), forge.TUPLE1, forge.REDUCE, forge.STOP)
    messages = [found.message for found in walk(data).findings]
    assert any("getattr(builtins.__import__('os'), 'system')" in message for message in messages), messages


def test_calls_that_contain_themselves_are_shown() -> None:
    """A memo entry can make a call an argument of itself."""
    data = forge.stream(
        forge.GLOBAL("os", "system"), forge.PUT(0), forge.MARK, forge.GET(0), forge.TUPLE, forge.REDUCE, forge.PUT(0),
        *[forge.stream(forge.GLOBAL("os", "system"), forge.GET(0), forge.TUPLE1, forge.REDUCE, forge.PUT(0))] * 50, forge.STOP,
    )  # fmt: skip
    assert walk(data).findings[0].rule == "SL101"


def test_inert_nodes_take_what_the_object_would_have_taken() -> None:
    """NEWOBJ, BUILD, APPENDS and SETITEMS on a class that is not modelled."""
    data = forge.stream(
        forge.PROTO(4), forge.GLOBAL("pkg.mod", "Config"), forge.INT(1), forge.TUPLE1, forge.NEWOBJ,
        forge.EMPTY_DICT, forge.TEXT("lr"), forge.FLOAT(0.5), forge.SETITEM, forge.BUILD,
        forge.MARK, forge.INT(7), forge.APPENDS, forge.MARK, forge.TEXT("k"), forge.NONE, forge.SETITEMS, forge.STOP,
    )  # fmt: skip
    seen = walk(data)
    assert [(found.rule, found.subject) for found in seen.findings] == [("SL103", "pkg.mod.Config")]
    node = build(seen, Model(seen, unknown="inert"))
    assert (node.global_name, node.args, node.via) == ("pkg.mod.Config", (1,), "NEWOBJ")
    assert node.state == {"lr": 0.5}
    assert node.items == [7, ("k", None)]
