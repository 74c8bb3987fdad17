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
_SAME: Final = 128  # keys of one hash, which small numbers do give
_COMPARED: Final = 16  # comparisons per key
_ALIKE: Final = 1 << 16  # comparisons of inert objects, each of which goes through both
_DIGITS: Final = 10_000
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
    if len(items) >= 256:
        check_hashes(items)
    return items


def check_hashes(keys: Collection[Any]) -> None:
    """Refuse tuples, or inert objects, many of which have the same hash.

    Raises:
        LimitError: finding each would take far more comparisons than there are keys.
    """
    hashes = [hash(key) for key in keys if type(key) is tuple]
    if len(hashes) - len(set(hashes)) > _SAME and _compared(hashes) > _SAME * _SAME + _COMPARED * len(hashes):
        raise LimitError("tuples that the file chose so that they have the same hash").under("SL127")
    if _compared([hash(key) for key in keys if type(key) is Inert]) > _ALIKE:
        raise LimitError("inert objects as keys that only what they hold tells apart").under("SL127")


def _compared(hashes: list[int]) -> int:
    """How many comparisons it takes to find that keys of these hashes are all different."""
    return sum(count * (count - 1) // 2 for count in collections.Counter(hashes).values())


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
        if len(args) == 2 and isinstance(args[1], Inert):
            return Inert(f"datetime.{name}", args=args, via="REDUCE")
        return getattr(dt, name)(packed, *args[1:])

    return make


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
