"""Rows about what is no tensor: Python's own data, the standard library, numpy."""

from __future__ import annotations

import argparse
import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import operator
import pathlib
import random
import re
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from tests.matrix.row import Row, kinds, of, with_attributes

__all__ = ["ROWS"]

_NUMBERS: Final = (0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**200, 2**2039 - 1, 2**2039, 2**9000)


def _circle() -> Any:
    inner: list[Any] = []
    outer = {"tuple": (inner,), "list": inner}
    inner += [outer, inner]
    return outer


def _deep() -> Any:
    value: list[Any] = []
    for _ in range(150):
        value = [value]
    return value


def _shared() -> Any:
    one = [1]
    return [one, one, (one,), {"a": one}]


def _with_metadata() -> Any:
    return with_attributes(collections.OrderedDict(a=1), _metadata=collections.OrderedDict({"": {"version": 1}}))


_PYTHON: Final[dict[str, Callable[[], Any]]] = {
    "None, True, False": lambda: [None, True, False],
    "int below 2¹⁶": lambda: [number for number in _NUMBERS if number < 1 << 16],
    "int of up to 64 bits": lambda: [number * sign for number in _NUMBERS if number < 1 << 65 for sign in (1, -1)],
    "int of up to 2,039 bits": lambda: [2**200, -(2**200), 2**2039 - 1],
    "int of 2,040 bits": lambda: 2**2039,
    "int of 9,000 bits": lambda: -(2**9000),
    "float": lambda: [0.0, -0.0, 1e-310, 1e308, float("inf"), float("-inf"), float("nan")],
    "complex": lambda: [1 + 2j, complex(-0.0, float("nan"))],
    "str": lambda: ["", "a", "ü€𝄞", "a\x00\n\\b", "x" * 300],
    "str with surrogates": lambda: "a\ud800b",
    "bytes": lambda: [b"a", bytes(range(256)), b"x" * 300],
    "bytes, empty": lambda: b"",
    "bytearray": lambda: bytearray(range(200)),
    "bytearray, empty": bytearray,
    "list": lambda: [[], [1], [1, [2, [3]]], list(range(1001))],
    "tuple": lambda: [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((1,), (2, (3,)))],
    "dict": lambda: {"a": 1, 2: "b", (1, 2): [], None: {}, 1.5: (), b"k": True},
    "set": lambda: [set(), {1}, {"a", 2, (3,)}],
    "frozenset": lambda: [frozenset(), frozenset({1, "a"})],
    "OrderedDict": lambda: collections.OrderedDict(b=1, a=2),
    "OrderedDict with _metadata": _with_metadata,
    "OrderedDict with other attributes": lambda: with_attributes(collections.OrderedDict(a=1), note=2),
    "Counter": lambda: collections.Counter("abca"),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "defaultdict of int, of none": lambda: [collections.defaultdict(int, a=1), collections.defaultdict(None)],
    "defaultdict of dict": lambda: collections.defaultdict(dict, a={1: 2}),
    "deque": lambda: [collections.deque([1, 2], maxlen=3), collections.deque("ab")],
    "ChainMap": lambda: collections.ChainMap({"a": 1}, {"b": 2}),
    "UserDict": lambda: collections.UserDict(a=1),
    "range": lambda: [range(3), range(10, 0, -2)],
    "slice": lambda: [slice(3), slice(1, None, 2)],
    "Ellipsis, NotImplemented": lambda: [..., NotImplemented],
    "shared lists": _shared,
    "circles": _circle,
    "150 lists deep": _deep,
    "type of None": lambda: type(None),
    "types of Python": lambda: [int, float, str, list, dict],
    "exception": lambda: ValueError("a", 1),
    "a function of Python": lambda: len,
    "a method": lambda: "a".join,
    "lambda": lambda: lambda: None,
    "iterator": lambda: iter([1, 2]),
    "generator": lambda: (item for item in [1]),
    "memoryview": lambda: memoryview(b"a"),
    "module": lambda: re,
    "lock": threading.Lock,
    "dict view": lambda: {}.keys(),  # noqa: PLW0108 - defined below
    "property": lambda: property(len),
}

Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the old kind is a row of its own


class Typed(NamedTuple):
    """A named tuple with types."""

    x: int
    y: Any = None


@dataclasses.dataclass
class Config:
    """A dataclass."""

    lr: float = 0.1
    layers: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """A dataclass without a dict."""

    lr: float = 0.1


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1


class Access(enum.IntFlag):
    """Flags."""

    READ = 1
    WRITE = 2


class Thing:
    """Any class."""

    def __init__(self) -> None:
        self.a = [1]


class Inherited(dict[Any, Any]):
    """A dict with a name."""


def _nothing() -> int:
    """A factory."""
    return 0


_LIBRARY: Final[dict[str, Callable[[], Any]]] = {
    "datetime": lambda: [dt.datetime(2024, 1, 2, 3, 4, 5, 6), dt.datetime(2024, 1, 2, tzinfo=dt.UTC, fold=1)],  # noqa: DTZ001 - a row
    "datetime in another zone": lambda: dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2), "X")),
    "datetime with ZoneInfo": lambda: dt.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "date, time, timedelta": lambda: [dt.date(2024, 1, 2), dt.time(1, 2, 3, 4), dt.timedelta(days=-1, microseconds=3)],
    "timezone": lambda: [dt.UTC, dt.timezone(dt.timedelta(minutes=-30))],
    "Decimal": lambda: [decimal.Decimal("1.50"), decimal.Decimal("NaN"), decimal.Decimal("-Infinity")],
    "Fraction": lambda: fractions.Fraction(-1, 3),
    "UUID": lambda: uuid.UUID(int=12345),
    "pure paths": lambda: [pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("C:\\a"), pathlib.PurePosixPath()],
    "Path": lambda: pathlib.Path("a", "b"),
    "Namespace of argparse": lambda: argparse.Namespace(a=1, b=[2]),
    "SimpleNamespace": lambda: types.SimpleNamespace(a=1),
    "namedtuple": lambda: Point(1, 2),
    "NamedTuple": lambda: Typed(1),
    "dataclass": lambda: Config(0.5, [1]),
    "dataclass, frozen, slots": lambda: Frozen(0.5),
    "Enum": lambda: [Colour.RED, Colour.RED],
    "IntFlag": lambda: Access.READ | Access.WRITE,
    "object of a class": Thing,
    "subclass of dict": lambda: Inherited(a=1),
    "compiled regular expression": lambda: re.compile("a+"),
    "defaultdict of a function of one's own": lambda: collections.defaultdict(_nothing, a=1),
    "BytesIO and StringIO": lambda: [io.BytesIO(b"a"), io.StringIO("b")],
    "functools.partial": lambda: functools.partial(print, 1),
    "operator.itemgetter": lambda: operator.itemgetter(1),
    "array.array": lambda: array.array("f", [1.0]),
    "random.Random": lambda: random.Random(3),
    "random.getstate()": lambda: random.Random(3).getstate(),
    "IPv4Address": lambda: ipaddress.IPv4Address("1.2.3.4"),
    "mappingproxy": lambda: types.MappingProxyType({"a": 1}),
}

_CODES: Final = (
    "?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "g", "F", "D", "G", "S3", "U3", "V5", "M8[ns]", "m8[D]",
    "M8[25s]", ">f4", ">i8", ">U2", "O",
)  # fmt: skip


def _array(code: str) -> Any:
    kind = np.dtype(code)
    if kind.hasobject:
        return np.array([[1, "a", None], [2.5, [3], {}]], dtype=object)
    raw = np.arange(12 * kind.itemsize, dtype=np.uint8) % 2 if kind.kind in "bgG" else np.arange(12 * kind.itemsize, dtype=np.uint8) % 120
    return np.zeros((3, 4), kind) if kind.char in "gG" else raw.view(kind).reshape(3, 4)


def _scalar(code: str) -> Any:
    return _array(code)[1, 1]


def _generator(name: str) -> Any:
    return np.random.Generator(getattr(np.random, name)(3))


def _arrays() -> dict[str, Callable[[], Any]]:
    makers: dict[str, Callable[[], Any]] = {f"array of {code}": partial(_array, code) for code in _CODES}
    makers |= {f"scalar of {code}": partial(_scalar, code) for code in _CODES if code != "O"}
    makers |= {f"dtype {code}": partial(np.dtype, code) for code in _CODES}
    return makers | {
        "array, 0-dim and empty": lambda: [np.array(3.0), np.empty((0, 3))],
        "array in Fortran's order": lambda: np.asfortranarray(_array("d")),
        "array, not contiguous": lambda: _array("d")[:, ::2],
        "array, turned": lambda: _array("i").T,
        "array, read-only": lambda: _read_only(),  # noqa: PLW0108 - defined below
        "array of a structure": lambda: np.zeros(2, dtype=[("a", "<f4"), ("b", "<i2", (2,)), ("c", [("d", "S2")])]),
        "array of an aligned structure": lambda: np.zeros(2, dtype=np.dtype([("a", "b"), ("b", "d")], align=True)),
        "scalar of a structure": lambda: np.zeros(2, dtype=[("a", "<f4")])[0],
        "structure of objects": lambda: np.zeros(2, dtype=[("a", "O")]),
        "the same array twice": lambda: of(_array("d"), lambda value: [value, value]),
        "view of an array": lambda: of(_array("d"), lambda value: [value, value[1:]]),
        "array of arrays": lambda: _of_arrays(),  # noqa: PLW0108 - defined below
        "variable-width strings": lambda: np.array(["a", "bcd"], dtype=np.dtypes.StringDType()),
        "matrix": lambda: _array("d").view(np.matrix),
        "character array": lambda: np.char.array(["a", "bc"]),
        "recarray": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i"), ("b", "d")]),
        "masked array": lambda: np.ma.array([1, 2], mask=[True, False]),
        "scalar types": lambda: [np.float32, np.int64, np.bool_],
        "function of numpy": lambda: np.mean,
        "RandomState": lambda: np.random.RandomState(3),
        "RandomState.get_state()": lambda: np.random.RandomState(3).get_state(),
        **{f"Generator of {name}": partial(_generator, name) for name in (
            "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")},
        "SeedSequence": lambda: np.random.SeedSequence(3),
        "polynomial": lambda: np.polynomial.Polynomial([1.0, 2.0]),
        "memmap of no file": lambda: _array("d").view(np.memmap),
    }  # fmt: skip


def _read_only() -> Any:
    value = _array("d")
    value.flags.writeable = False
    return value


def _of_arrays() -> Any:
    value = np.empty(2, dtype=object)
    value[0], value[1] = _array("d"), np.float32(3)
    return value


ROWS: Final[list[Row]] = [
    *kinds("Python", _PYTHON, why={"OrderedDict with other attributes": "they could hide its methods; only `_metadata` is known"}),
    *kinds("standard library and classes", _LIBRARY),
    *kinds("numpy", _arrays()),
]
