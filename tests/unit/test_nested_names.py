"""Below protocol 4 pickle writes a nested class, or a method of a class, as `getattr(Outer, "Inner")`.

The walk takes that call for the global `Outer.Inner`, and for nothing else: getattr itself is never granted and never a value.
"""

from __future__ import annotations

import datetime as dt
import enum
import io
import pickle
import zoneinfo
from collections.abc import Callable
from typing import Any

import pytest

import safeload
from safeload.walk import walk
from safeload.walk.model import Model, build
from tests import forge

OPEN = {"unpinned": "allow"}
HERE = __name__
OUTER = forge.GLOBAL("a.b", "Outer")
FETCH = forge.call("builtins", "getattr", OUTER, forge.TEXT("Inner"))
GETATTR = forge.GLOBAL("builtins", "getattr")


class Outer:
    class Inner:
        def __init__(self) -> None:
            self.number = 3

        class Most:
            pass

    @classmethod
    def make(cls) -> Outer:
        return cls()

    def __reduce__(self) -> Any:
        return Outer.make, ()


class Colour(enum.Enum):
    """As Python 3.11.0 to 3.11.3 pickle the members of enumerations."""

    RED = "r"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, (Colour, "RED")


def refused(data: bytes, **policy: Any) -> tuple[str, ...]:
    with pytest.raises(safeload.RefusedError) as caught:
        safeload.load(io.BytesIO(data), policy={**OPEN, **policy}, lock=False)
    return caught.value.globals


def test_a_nested_class_is_its_dotted_name() -> None:
    found = walk(forge.stream(forge.PROTO(2), FETCH, forge.EMPTY_TUPLE, forge.NEWOBJ, forge.STOP))
    assert found.unmodelled == ("a.b.Outer", "a.b.Outer.Inner")
    assert [finding.rule for finding in found.findings] == ["SL103", "SL103"]
    assert repr(build(found, Model(found, unknown="inert"))) == "Inert(a.b.Outer.Inner())"


def test_nested_in_nested() -> None:
    data = forge.stream(forge.PROTO(2), forge.call("builtins", "getattr", FETCH, forge.TEXT("Most")), forge.STOP)
    assert walk(data).unmodelled == ("a.b.Outer", "a.b.Outer.Inner", "a.b.Outer.Inner.Most")


@pytest.mark.torch
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("make", [Outer.Inner, Outer.Inner.Most, Outer, lambda: Colour.RED], ids=["nested", "twice", "method", "member"])
def test_a_grant_of_the_dotted_name_builds_it(protocol: int, make: Callable[[], Any]) -> None:
    data = pickle.dumps(make(), protocol)
    names = list(refused(data))
    assert "builtins.getattr" not in names
    found = safeload.load(io.BytesIO(data), policy={**OPEN, "allow-globals": names}, lock=False)
    assert type(found) is type(make())
    assert vars(found) == vars(make())


@pytest.mark.torch
def test_each_name_needs_its_own_grant() -> None:
    """The outer class does not stand for what is in it."""
    data = pickle.dumps(Outer.Inner(), 2)
    assert refused(data, **{"allow-globals": [f"{HERE}.Outer"]}) == (f"{HERE}.Outer.Inner",)


@pytest.mark.torch
def test_a_moment_in_a_time_zone_of_the_system() -> None:
    moment = dt.datetime(2025, 1, 1, 12, tzinfo=zoneinfo.ZoneInfo("UTC"))
    data = pickle.dumps(moment, 2)
    names = refused(data)
    assert names == ("zoneinfo.ZoneInfo", "zoneinfo.ZoneInfo._unpickle")
    assert safeload.load(io.BytesIO(data), policy={**OPEN, "allow-globals": list(names)}, lock=False) == moment
    inert = safeload.load(io.BytesIO(data), policy=OPEN, lock=False, unknown="inert")
    assert repr(inert.args[1]) == "Inert(zoneinfo.ZoneInfo._unpickle('UTC', 1))"


ESCAPES = {
    "as the object": GETATTR,
    "in a list": forge.stream(forge.EMPTY_LIST, GETATTR, forge.APPEND),
    "in a tuple": forge.stream(GETATTR, forge.TUPLE1),
    "as a key": forge.stream(forge.EMPTY_DICT, GETATTR, forge.NONE, forge.SETITEM),
    "as a value": forge.stream(forge.EMPTY_DICT, forge.NONE, GETATTR, forge.SETITEM),
    "as an argument": forge.call("a.b", "Outer", GETATTR),
    "as state": forge.stream(FETCH, GETATTR, forge.BUILD),
    "put into an object": forge.stream(FETCH, GETATTR, forge.APPEND),
    "put into an object by key": forge.stream(FETCH, forge.NONE, GETATTR, forge.SETITEM),
    "as a persistent id": forge.stream(GETATTR, forge.BINPERSID),
    "by INST": forge.stream(forge.MARK, OUTER, forge.TEXT("Inner"), forge.INST("builtins", "getattr")),
    "by OBJ": forge.stream(forge.MARK, GETATTR, OUTER, forge.TEXT("Inner"), forge.OBJ),
    "by NEWOBJ": forge.stream(GETATTR, OUTER, forge.TEXT("Inner"), forge.TUPLE2, forge.NEWOBJ),
    "of a dunder": forge.call("builtins", "getattr", OUTER, forge.TEXT("__init__")),
    "of dots": forge.call("builtins", "getattr", OUTER, forge.TEXT("Inner.Most")),
    "of no name": forge.call("builtins", "getattr", OUTER, forge.TEXT("")),
    "of bytes": forge.call("builtins", "getattr", OUTER, forge.BYTES(b"Inner")),
    "of a computed name": forge.call("builtins", "getattr", OUTER, forge.call("a.b", "Outer")),
    "of what a call gives": forge.call("builtins", "getattr", forge.call("a.b", "Outer"), forge.TEXT("Inner")),
    "of a value": forge.call("builtins", "getattr", forge.TEXT("x"), forge.TEXT("join")),
    "of a modelled class": forge.call("builtins", "getattr", forge.GLOBAL("collections", "OrderedDict"), forge.TEXT("update")),
    "with a default": forge.call("builtins", "getattr", OUTER, forge.TEXT("Inner"), forge.NONE),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("what", ESCAPES)
def test_getattr_for_anything_else_is_refused(what: str) -> None:
    """Whatever else is granted. Beside an ordinary fetch, too, which must not hide it."""
    granted = {"allow-globals": ["a.b.Outer", "a.b.Outer.Inner"]}
    for parts in ((ESCAPES[what],), (FETCH, ESCAPES[what], forge.TUPLE2)):
        data = forge.stream(forge.PROTO(4), *parts, forge.STOP)
        with pytest.raises(safeload.SafeloadError) as caught:
            safeload.load(io.BytesIO(data), policy={**OPEN, **granted}, lock=False)
        assert "getattr" in str(caught.value) or "persistent id" in str(caught.value)
        assert "builtins.getattr" in walk(data).unmodelled


@pytest.mark.torch
def test_what_is_fetched_is_judged_like_any_global() -> None:
    """A step from a module to what it imported, or to its functions, is what it would be written as one name."""
    data = forge.stream(forge.PROTO(2), forge.call("builtins", "getattr", forge.GLOBAL("torch", "os"), forge.TEXT("system")), forge.STOP)
    with pytest.raises(safeload.RefusedError, match=r"os\.system"):
        safeload.load(io.BytesIO(data), policy=OPEN, lock=False)
    with pytest.raises(safeload.PolicyError):
        safeload.load(io.BytesIO(data), policy={**OPEN, "allow-globals": ["torch.os.system"]}, lock=False)


def test_arguments_that_are_no_tuple_are_a_finding_like_any() -> None:
    """The explanation of a call once took whatever stood there for a tuple, and fell over it."""
    for args in (forge.INT(200), forge.TEXT("x"), forge.EMPTY_LIST):
        found = walk(forge.stream(forge.PROTO(2), GETATTR, args, forge.REDUCE, forge.STOP))
        assert found.unmodelled == ("builtins.getattr",)
        assert found.findings
