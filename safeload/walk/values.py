"""Modelled globals of the standard library, and the checks of values that torch's and numpy's need.

Every handler gets arguments whose kinds fit the signature; what they hold is looked at here.
"""

from __future__ import annotations

import collections
import re
import sys
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from safeload.errors import LimitError, MalformedError
from safeload.findings import shown
from safeload.program import Inert
from safeload.walk.strided import check_sizes
from safeload.walk.tensor_names import TENSOR_NAMES

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "CONSTANTS",
    "HANDLERS",
    "MANY",
    "SPARSE_LAYOUTS",
    "TENSOR_TYPES",
    "cheap",
    "check_attributes",
    "check_device",
    "check_hashes",
    "check_layout",
    "check_sizes",
    "is_object",
    "set_uuid",
]  # fmt: skip

SPARSE_LAYOUTS: Final = frozenset(f"torch.sparse_{name}" for name in ("coo", "csr", "csc", "bsr", "bsc"))
LAYOUTS: Final = SPARSE_LAYOUTS | {"torch.strided", "torch._mkldnn", "torch.jagged"}
TENSOR_TYPES: Final = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"})
_PATHS: Final = frozenset({"PurePath", "PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath"})
_PLAIN_OBJECTS: Final = frozenset({slice, range, type(Ellipsis), type(NotImplemented)})
_OBJECTS: Final = {
    "datetime": frozenset({"datetime", "date", "time", "timedelta", "timezone"}), "decimal": frozenset({"Decimal"}),
    "fractions": frozenset({"Fraction"}), "uuid": frozenset({"SafeUUID"}), "pathlib": _PATHS, "pathlib._local": _PATHS,
}  # fmt: skip
"""Module → classes of the standard library whose instances are plain data. A module is imported when a stream names it."""

CONSTANTS: Final[dict[str, Any]] = {
    "builtins.Ellipsis": Ellipsis, "builtins.NotImplemented": NotImplemented, "builtins.list": list, "builtins.tuple": tuple,
    "builtins.set": set, "builtins.frozenset": frozenset, "builtins.dict": dict, "builtins.bytes": bytes,
    "builtins.bytearray": bytearray, "builtins.complex": complex, "builtins.int": int, "builtins.float": float,
    "builtins.str": str, "builtins.bool": bool, "builtins.object": object, "builtins.slice": slice, "builtins.range": range,
    "collections.OrderedDict": collections.OrderedDict, "collections.Counter": collections.Counter,
    "collections.defaultdict": collections.defaultdict, "collections.deque": collections.deque,
}  # fmt: skip
"""Globals that stand in the data as themselves: types whose call does nothing but make plain data."""

_HASHED: Final = 1_000_000
MANY: Final = 16  # keys: fewer are not looked at
LONG_KEY: Final = 65_536  # characters or bytes of a key: comparing it with an equal one counts (the machine has the same number)
_COMPARED: Final = 1 << 18  # values that are compared to tell the keys of one container apart, and
_PER_KEY: Final = 64  # so many more for each key, because hashes of small numbers are the same, too
_SHORT: Final = 1 << 60  # numbers below have different hashes, but for -1 and -2
_KEYED: Final = frozenset({str, bytes, bool, type(None)})  # hashed with a number that no file knows, or few
_DIGITS: Final = 10_000
_COSTLY: Final = 16  # what comparing two fractions takes, in values
_DEVICE: Final = re.compile(r"[a-z0-9_]{1,32}(?::[0-9]{1,5})?\Z")


def is_object(value: Any) -> bool:
    """Whether a value is exactly of one of the standard library's types that are made here and are no containers."""
    kind = type(value)
    if kind in _PLAIN_OBJECTS:
        return True
    known = _OBJECTS.get(kind.__module__)
    return known is not None and kind.__name__ in known and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind


def cheap(items: Iterable[Any]) -> Iterable[Any]:
    """Check that hashing `items` visits a bounded number of values; returns them."""
    items = list(items)
    budget = _HASHED + 4 * len(items)
    todo = [item for item in items if type(item) is tuple]
    while todo:
        item = todo.pop()
        budget -= len(item) + 1
        if budget < 0:
            raise LimitError("keys that stand for too many values to hash").under("SL127")
        todo.extend(part for part in item if type(part) is tuple)
    check_hashes(items)
    return items


def check_hashes(keys: Collection[Any]) -> int:
    """Refuse keys, or members of a set, many of which have the same hash: each is compared with all of those before it.

    A file chooses the hashes of tuples, of large numbers, of frozensets, and of inert objects, whose lists cannot count.

    Returns:
        How many values are looked at to tell the keys apart, about.

    Raises:
        LimitError: it is far more than there are keys.
    """
    if len(keys) < MANY:
        return 0
    odd = [key for key in keys if type(key) not in _KEYED and not (type(key) is int and -_SHORT < key < _SHORT)]
    hashes = list(map(hash, odd))
    if len(set(hashes)) == len(hashes):
        return 0
    groups: dict[int, list[Any]] = {}
    for key, number in zip(odd, hashes, strict=True):
        groups.setdefault(number, []).append(key)
    total, most = 0, _COMPARED + _PER_KEY * len(odd)
    for group in groups.values():
        if len(group) > 1:
            total += len(group) * _looked_at(group, 2 * (most - total) // len(group)) // 2
            if total > most:
                raise LimitError("keys that the file chose so that they have the same hash").under("SL127")
    return total


def _looked_at(keys: Iterable[Any], most: int) -> int:
    """How many values the keys stand for, numbers by their length; not much more than `most`. What is inert counts when it is compared."""
    todo, total = list(keys), 0
    while todo and total <= most:
        key = todo.pop()
        kind = type(key)
        if isinstance(key, (tuple, frozenset)):
            todo.extend(key)
            total += 1
        else:
            total += 1 + (key.bit_length() >> 9) if kind is int else _COSTLY if kind.__module__ in ("fractions", "decimal") else 1
    return total


def check_attributes(state: Any) -> Any:
    """Python attributes of a tensor: plain names that the class does not have. Returns the state."""
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    for part in parts:
        if part is None:
            continue
        if not isinstance(part, dict):
            raise MalformedError("a tensor's attributes are no dict").under("SL105")
        for name in part:
            if type(name) is not str or not name.isidentifier() or name.startswith("__"):
                raise MalformedError(f"a tensor attribute named {shown(name)}").under("SL105")
            if name in TENSOR_NAMES:
                raise MalformedError(f"a tensor attribute that would hide Tensor.{name}").under("SL105")
    return state


def check_device(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of torch.device: a type, and perhaps an index."""
    if not _DEVICE.match(args[0]) or (len(args) == 2 and not 0 <= args[1] < 1 << 15):
        raise MalformedError(f"a device named {', '.join(map(shown, args))}").under("SL303")
    return args


def check_layout(name: str) -> str:
    """The name of a layout, as `torch.serialization._get_layout` takes it."""
    if name not in LAYOUTS:
        raise MalformedError(f"a layout named {shown(name)}").under("SL303")
    return name


def set_uuid(target: UUID, state: Any) -> UUID:
    """BUILD of a UUID: its number. The object stays the same, because the memo may hold it."""
    number = state.get("int") if isinstance(state, dict) and not set(state) - {"int", "is_safe"} else None
    if type(number) is not int or not 0 <= number < 1 << 128:
        raise MalformedError("the state of a UUID is not its number").under("SL303")
    object.__setattr__(target, "int", number)
    return target


def _ordered(args: tuple[Any, ...]) -> Any:
    if not args:
        return collections.OrderedDict()
    if isinstance(args[0], dict):
        return collections.OrderedDict(args[0])
    pairs = [(key, value) for key, value in args[0]]
    cheap([key for key, _ in pairs])
    return collections.OrderedDict(pairs)


def _counter(args: tuple[Any, ...]) -> Any:
    counter: collections.Counter[Any] = collections.Counter()
    dict.update(counter, args[0] if args else {})
    return counter


def _deque(args: tuple[Any, ...]) -> Any:
    if len(args) == 2 and args[1] is not None and not 0 <= args[1] < 1 << 40:
        raise MalformedError(f"a deque of at most {shown(args[1])}").under("SL303")
    return collections.deque(*args)


def _bytes_of(args: tuple[Any, ...]) -> bytes:
    return bytes(args[0]) if args else b""


def _moment(name: str, length: int) -> Callable[[tuple[Any, ...]], Any]:
    """datetime, date and time: from their packed bytes (Python 2 wrote them as text).

    A time zone is `datetime.timezone`, or of a class that policy allows; one that is inert makes the whole inert.
    """

    def make(args: tuple[Any, ...]) -> Any:
        import datetime as dt

        packed = args[0].encode("latin-1") if isinstance(args[0], str) else args[0]
        if len(packed) != length or (len(args) == 2 and not isinstance(args[1], (dt.tzinfo, Inert, type(None)))):
            raise MalformedError(f"a {name} of {len(packed)} bytes").under("SL303")
        if not _on_the_clock(packed):
            raise MalformedError(f"a {name} that no calendar or clock shows").under("SL303")
        if len(args) == 2 and isinstance(args[1], Inert):
            return Inert(f"datetime.{name}", args=args, via="REDUCE")
        return getattr(dt, name)(packed, *args[1:])

    return make


def _on_the_clock(packed: bytes) -> bool:
    """Whether the packed bytes of a datetime (10), date (4) or time (6) are in range.

    CPython looks at a month, or an hour, and at nothing else: day 0 of year 0 has a weekday below the first, by which it reads memory.
    """
    day, clock = (packed, b"") if len(packed) == 4 else (packed[:-6], packed[-6:])
    if day:
        import calendar

        year, month = day[0] << 8 | day[1], day[2] & (127 if clock else 255)  # the high bit is `fold`
        if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day[3] <= calendar.monthrange(year, month)[1]):
            return False
    if clock:
        hour = clock[0] & (255 if day else 127)
        return hour < 24 and clock[1] < 60 and clock[2] < 60 and int.from_bytes(clock[3:]) < 1_000_000
    return True


def _decimal(args: tuple[Any, ...]) -> Any:
    import decimal

    if len(args[0]) > _DIGITS:
        raise MalformedError(f"a decimal of {len(args[0])} characters").under("SL303")
    return decimal.Decimal(args[0])


def _fraction(args: tuple[Any, ...]) -> Any:
    import fractions

    # A text like "1e999999999" would be computed in full; str(Fraction) writes digits and a slash only.
    if len(args) == 1 and not re.fullmatch(r"-?[0-9]{1,4000}(?:/[0-9]{1,4000})?", args[0]):
        raise MalformedError("a fraction that is not written as digits").under("SL303")
    if len(args) == 2 and max(abs(args[0]), abs(args[1])).bit_length() > 1 << 16:
        raise MalformedError("a fraction of too many digits").under("SL303")
    return fractions.Fraction(*args)


def _path(name: str) -> Callable[[tuple[Any, ...]], Any]:
    """Pure paths as they are; a concrete path only on the system that it is for, elsewhere its pure kind."""

    def make(args: tuple[Any, ...]) -> Any:
        import pathlib

        kind = getattr(pathlib, name)
        if name in ("PosixPath", "WindowsPath") and not issubclass(type(pathlib.Path()), kind):
            kind = getattr(pathlib, "Pure" + name)
        return kind(*args)

    return make


def _encode(args: tuple[Any, ...]) -> bytes:
    text: str = args[0]
    return text.encode("latin-1")


def _plain(make: Callable[[tuple[Any, ...]], Any]) -> Callable[[Any, tuple[Any, ...], int], Any]:
    return lambda model, args, at: make(args)


def _timedelta(args: tuple[Any, ...]) -> Any:
    import datetime as dt

    return dt.timedelta(*args)


def _timezone(args: tuple[Any, ...]) -> Any:
    import datetime as dt

    return dt.timezone(*args)


def _uuid(args: tuple[Any, ...]) -> Any:
    import uuid

    return uuid.UUID(int=0)


def _safe_uuid(args: tuple[Any, ...]) -> Any:
    import uuid

    return uuid.SafeUUID(*args)


_MAKERS: Final[dict[str, Callable[[tuple[Any, ...]], Any]]] = {
    "builtins.list": lambda args: list(*args),
    "builtins.tuple": lambda args: tuple(*args),
    "builtins.set": lambda args: set(cheap(*args)) if args else set(),
    "builtins.frozenset": lambda args: frozenset(cheap(*args)) if args else frozenset(),
    "builtins.dict": lambda args: {},
    "builtins.bytes": _bytes_of,
    "builtins.bytearray": lambda args: bytearray(args[0].encode("latin-1") if len(args) == 2 else _bytes_of(args)),
    "builtins.complex": lambda args: complex(*args),
    "builtins.slice": lambda args: slice(*args),
    "builtins.range": lambda args: range(*args),
    "_codecs.encode": _encode,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "collections.defaultdict": lambda args: collections.defaultdict(*args),
    "collections.deque": _deque,
    "datetime.datetime": _moment("datetime", 10),
    "datetime.date": _moment("date", 4),
    "datetime.time": _moment("time", 6),
    "datetime.timedelta": _timedelta,
    "datetime.timezone": _timezone,
    "decimal.Decimal": _decimal,
    "fractions.Fraction": _fraction,
    "uuid.UUID": _uuid,
    "uuid.SafeUUID": _safe_uuid,
    **{
        f"{module}.{name}": _path(name)
        for module in ("pathlib", "pathlib._local")
        for name in ("PurePath", "PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
    },
}

HANDLERS: Final = {name: _plain(make) for name, make in _MAKERS.items()}
