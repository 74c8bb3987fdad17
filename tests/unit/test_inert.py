"""`Inert`: what stays of a global that is not modelled. It prints, compares, can be a key, and does nothing."""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from safeload.errors import LimitError
from safeload.program import Inert, metered
from tests import forge
from tests.effort import within
from tests.watch import nothing_runs


def built(*parts: bytes) -> Any:
    """Build a forged stream with inert nodes."""
    from safeload.walk import walk
    from safeload.walk.model import Model, build

    seen = walk(forge.stream(*parts))
    return build(seen, Model(seen, unknown="inert"))


def call(*arguments: bytes, name: str = "thing") -> tuple[bytes, ...]:
    return (forge.GLOBAL("some.module", name), forge.MARK, *arguments, forge.TUPLE, forge.REDUCE)


def test_a_call_keeps_its_name_and_arguments() -> None:
    """Everything that the stream says is there, as data."""
    node = built(*call(forge.TEXT("a"), forge.INT(3)), forge.STOP)
    assert (node.global_name, node.args, node.via) == ("some.module.thing", ("a", 3), "REDUCE")
    assert (node.kwargs, node.state, node.items) == ({}, None, [])
    assert repr(node) == "Inert(some.module.thing('a', 3))"


def test_a_bare_global_has_no_arguments() -> None:
    """None is: was never called; () is: was called with nothing."""
    assert built(forge.GLOBAL("some.module", "thing"), forge.STOP) == Inert("some.module.thing")
    assert built(*call(), forge.STOP) == Inert("some.module.thing", args=(), via="REDUCE")
    assert repr(Inert("a.b")) == "Inert(a.b)"
    assert repr(Inert("a.b", args=())) == "Inert(a.b())"


def test_state_items_and_keyword_arguments_are_kept() -> None:
    """BUILD, SETITEMS, APPENDS and NEWOBJ_EX."""
    node = built(
        forge.PROTO(4), forge.GLOBAL("m", "Thing"), forge.TEXT("x"), forge.TUPLE1, forge.EMPTY_DICT, forge.TEXT("k"), forge.INT(1),
        forge.OP["SETITEM"], forge.NEWOBJ_EX, forge.MARK, forge.TEXT("key"), forge.INT(2), forge.SETITEMS, forge.MARK, forge.INT(7),
        forge.APPENDS, forge.EMPTY_DICT, forge.TEXT("attr"), forge.INT(9), forge.OP["SETITEM"], forge.BUILD, forge.STOP,
    )  # fmt: skip
    assert node == Inert("m.Thing", args=("x",), kwargs={"k": 1}, state={"attr": 9}, items=[("key", 2), 7], via="NEWOBJ_EX")
    assert repr(node) == "Inert(m.Thing('x', k=1), state={'attr': 9}, items=[('key', 2), 7])"


@pytest.mark.parametrize(
    "other",
    [
        Inert("m.Other", args=(1,)), Inert("m.Thing"), Inert("m.Thing", args=(2,)), Inert("m.Thing", args=(True,)),
        Inert("m.Thing", args=(1,), via="NEWOBJ"), Inert("m.Thing", args=(1,), state={}), Inert("m.Thing", args=(1,), items=[1]),
        Inert("m.Thing", args=(1,), kwargs={"a": 1}), ("m.Thing", (1,)),
    ],
)  # fmt: skip
def test_every_part_counts_when_nodes_are_compared(other: Any) -> None:
    """And types count: True is not 1 here."""
    assert Inert("m.Thing", args=(1,)) != other


def test_nodes_are_equal_by_value_and_can_be_keys() -> None:
    """An enum member as a key of a configuration is looked up by a node like it."""
    table = {Inert("m.Colour", args=("red",), via="REDUCE"): 1, Inert("m.Colour", args=("blue",), via="REDUCE"): 2}
    assert table[Inert("m.Colour", args=("blue",), via="REDUCE")] == 2


def test_circles_print_compare_and_walk() -> None:
    """A module that knows its parent is ordinary."""

    def circle() -> Inert:
        top = Inert("m.Parent", args=(), state={})
        top.state["child"] = Inert("m.Child", args=(), state={"parent": top, "list": [top]})
        return top

    one, two = circle(), circle()
    assert one == two
    assert [node.global_name for node in one.walk()] == ["m.Parent", "m.Child"]
    assert len(repr(one)) < 5_000
    two.state["child"].state["list"].append(1)
    assert one != two


def test_depth_is_no_problem() -> None:
    """Ten thousand levels are within the limits of a stream; nothing recurses on them."""

    def deep() -> Inert:
        node: Any = 1
        for _ in range(10_000):
            node = Inert("m.Node", args=(node,), state=[(node,)])
        return node  # type: ignore[no-any-return]

    one, two = deep(), deep()
    assert one == two
    assert len(list(one.walk())) == 10_000
    assert len(repr(one)) < 5_000


def test_text_is_bounded_however_wide_and_deep() -> None:
    """Eight levels of eight shared branches would be sixteen million leaves."""
    node: Any = "x" * 1_000_000
    for _ in range(12):
        node = Inert("m.Node", args=(node,) * 50, state={"a": node, "b": [node] * 50}, items=[node] * 50)
    with within(1):
        text = repr(node)
        assert len(text) < 20_000


@pytest.mark.parametrize("name", ["m.\x1b[2Jthing", "m.a\nb", "m.a\u202eb", "m.\ud800", "m." + "x" * 10_000, "m.thing\x00", "m.a\u200bb"])
def test_hostile_names_cannot_deceive_a_reader(name: str) -> None:
    """Terminal escapes, bidi marks, line breaks and endless names come escaped and cut."""
    text = repr(Inert(name, args=(name,), kwargs={name: name}, state={name: name}, items=[name]))
    assert text.isprintable()
    assert len(text) < 2_000


def test_leaves_that_cannot_be_shown_hide_nothing() -> None:
    """Python refuses to write integers of a million bits, and recurses on some types of its own."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    text = repr(Inert("m.Thing", args=(1 << 1_000_000, Broken(), slice(nested), deque([1]), b"\x00" * 1000)))
    assert "<an integer of 1000001 bits>, <Broken>, slice(None, [[[[[…]]]]], None), deque([1])" in text
    while nested:  # taken apart from outside, for releases that recurse here, too
        nested = nested.pop()


def test_modules_show_what_is_in_them() -> None:
    """Not the hooks that every module has and hardly any uses."""
    state = {"training": True, "_parameters": {}, "_forward_hooks": {}, "_modules": {"fc": Inert("torch.nn.Linear", args=())}, "rate": 0.5}
    text = repr(Inert("m.Net", args=(), state=state))
    assert text == "Inert(m.Net(), state={'training': True, '_modules': {'fc': Inert(torch.nn.Linear())}, 'rate': 0.5, … 2 more})"


@pytest.mark.torch
def test_tensors_in_nodes_compare_by_value() -> None:
    """Two loads of one file give equal nodes."""
    torch = pytest.importorskip("torch")
    one = Inert("m.Thing", args=(), state={"w": torch.ones(2, 3)})
    assert one == Inert("m.Thing", args=(), state={"w": torch.ones(2, 3)})
    assert one != Inert("m.Thing", args=(), state={"w": torch.zeros(2, 3)})
    assert one != Inert("m.Thing", args=(), state={"w": torch.ones(2, 3, dtype=torch.float64)})
    assert one != Inert("m.Thing", args=(), state={"w": torch.ones(3)})
    assert "Tensor(float32, (2, 3))" in repr(one)


def test_nodes_can_be_copied_and_pickled() -> None:
    """They are plain data for the program, too."""
    node = Inert("m.Thing", args=(1,), state={"a": Inert("m.Other")}, items=[2])
    assert copy.deepcopy(node) == node
    assert pickle.loads(pickle.dumps(node)) == node


def test_many_members_of_one_class_as_keys_are_no_way_to_hang() -> None:
    """With a hash of the name alone, every insertion would compare with all before it."""
    with within(5):
        table = {Inert("m.Colour", args=(number,), via="REDUCE"): number for number in range(20_000)}
        assert len(table) == 20_000


def test_nothing_is_called() -> None:
    """Not when it is built, printed, compared or walked."""
    node = built(*call(name="a"), forge.STOP)
    with nothing_runs():
        repr(node)
        hash(node)
        assert node == node  # noqa: PLR0124 - the comparison is what is watched
        list(node.walk())


@pytest.mark.parametrize("into", ["SETITEMS", "ADDITEMS", "FROZENSET"])
def test_keys_that_only_what_they_hold_tells_apart_are_few(into: str) -> None:
    """Lists may change, so their hash cannot count: each such key is compared with all that came before it."""
    node = [forge.stream(*call(forge.stream(forge.EMPTY_LIST, forge.INT(number), forge.APPEND))) for number in range(2_000)]
    streams = {
        "SETITEMS": (forge.EMPTY_DICT, forge.MARK, *(forge.stream(one, forge.NONE) for one in node), forge.SETITEMS),
        "ADDITEMS": (forge.EMPTY_SET, forge.MARK, *node, forge.ADDITEMS),
        "FROZENSET": (forge.MARK, *node, forge.FROZENSET),
    }
    with pytest.raises(LimitError, match="keys that the file chose"):
        built(forge.PROTO(4), *streams[into], forge.STOP)
    assert len(built(forge.PROTO(4), forge.EMPTY_SET, forge.MARK, *node[:100], forge.ADDITEMS, forge.STOP)) == 100


def in_dicts(keys: list[bytes], times: int) -> tuple[bytes, ...]:
    """The same keys in many dicts, which takes some bytes for each."""
    made = forge.stream(*(forge.stream(key, forge.PUT(at), forge.OP["POP"]) for at, key in enumerate(keys)))
    pairs = (forge.stream(forge.GET(at), forge.NONE) for at in range(len(keys)))
    table = forge.stream(forge.EMPTY_DICT, forge.MARK, *pairs, forge.SETITEMS)
    return (forge.PROTO(4), made, forge.EMPTY_LIST, forge.MARK, table * times, forge.APPENDS, forge.STOP)


def fraction(numerator: int) -> bytes:
    return forge.stream(forge.GLOBAL("fractions", "Fraction"), forge.TEXT(str(numerator)), forge.TUPLE1, forge.REDUCE)


@pytest.mark.parametrize(
    "key",
    [
        lambda at: forge.stream(*call(forge.stream(forge.EMPTY_LIST, forge.INT(at), forge.APPEND)), forge.TUPLE1),
        lambda at: forge.stream(*call(forge.EMPTY_LIST, forge.EMPTY_LIST, forge.INT(at), forge.APPEND), forge.TUPLE1, forge.TUPLE1),
        lambda at: forge.stream(fraction(7 + at * ((1 << 61) - 1)), forge.TUPLE1),
        lambda at: forge.stream(forge.MARK, *(forge.INT(-1 - (at >> bit & 1)) for bit in range(8)), forge.TUPLE),
    ],
    ids=["inert in a tuple", "nested", "fractions", "small numbers"],
)  # fmt: skip
def test_the_same_keys_of_one_hash_in_many_dicts_are_no_way_to_hang(key: Callable[[int], bytes]) -> None:
    """Each dict is small; what it takes to tell their keys apart is counted for all of them together."""
    keys = [key(at) for at in range(240)]
    assert len(built(*in_dicts(keys[:12], 3))) == 3
    with pytest.raises(LimitError, match="keys that the file chose"):
        built(*in_dicts(keys, 120))


@pytest.mark.parametrize("into", ["SETITEMS", "OrderedDict", "ADDITEMS", "FROZENSET"])
@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_two_long_keys_that_are_equal_are_compared_to_their_end_only_so_often(kind: str, into: str) -> None:
    """Two equal texts cost their length each time that both are put into one container."""

    def made(times: int) -> Any:
        long = (
            forge.TEXT("a" * 1_000_000) if kind == "text" else forge.OP["BINBYTES"] + (1_000_000).to_bytes(4, "little") + b"a" * 1_000_000
        )
        keys = [forge.stream(long, forge.PUT(number), forge.OP["POP"]) for number in (1, 2)]
        pairs = [forge.stream(forge.GET(number), forge.NONE) for number in (1, 2)]
        one = {
            "SETITEMS": (forge.EMPTY_DICT, forge.MARK, *pairs, forge.SETITEMS),
            "OrderedDict": (
                forge.GLOBAL("collections", "OrderedDict"),
                forge.MARK,
                forge.TUPLE,
                forge.REDUCE,
                forge.MARK,
                *pairs,
                forge.SETITEMS,
            ),
            "ADDITEMS": (forge.EMPTY_SET, forge.MARK, forge.GET(1), forge.GET(2), forge.ADDITEMS),
            "FROZENSET": (forge.MARK, forge.GET(1), forge.GET(2), forge.FROZENSET),
        }[into]
        return built(forge.PROTO(4), *keys, forge.EMPTY_LIST, forge.MARK, forge.stream(*one) * times, forge.APPENDS, forge.STOP)

    assert len(made(20)) == 20
    with pytest.raises(LimitError, match="keys that the file chose"):
        made(1_000)


@pytest.mark.parametrize("nested", [False, True])
def test_a_large_integer_is_hashed_only_so_often(*, nested: bool) -> None:
    """Its hash is not kept: it goes through all of it each time, also inside of a tuple."""
    from safeload.walk import walk

    def made(times: int) -> bytes:
        long = forge.OP["LONG4"] + (500_000).to_bytes(4, "little") + b"\x55" * 500_000
        key = forge.stream(long, *([forge.TUPLE1] if nested else []), forge.PUT(1), forge.OP["POP"])
        one = forge.stream(forge.EMPTY_DICT, forge.GET(1), forge.NONE, forge.OP["SETITEM"])
        return forge.stream(forge.PROTO(4), key, forge.EMPTY_LIST, forge.MARK, one * times, forge.APPENDS, forge.STOP)

    assert len(built(made(20))) == 20
    assert "keys whose hashes the file chooses" in (walk(made(2_000)).error or "")


def test_circles_of_different_lengths_are_compared_in_steps_not_in_pairs() -> None:
    """Going around both until they meet again would take as many pairs as the product of their lengths."""

    def circle(length: int) -> Inert:
        first: list[Any] = []
        last = first
        for _ in range(length - 1):
            last.append([])
            last = last[0]
        last.append(first)
        return Inert("m.Thing", args=(first,))

    steps = 0

    def count(amount: int) -> None:
        nonlocal steps
        steps += amount

    with metered(count):
        assert circle(999) == circle(1_000)
    assert steps < 10_000


@pytest.mark.torch
def test_tensors_of_few_bytes_and_many_elements_are_not_compared_as_keys() -> None:
    """With strides of 0, comparing two of them takes memory that neither has."""
    torch = pytest.importorskip("torch")

    def refuse(amount: int) -> None:
        if amount > 1 << 20:
            raise LimitError("too many")

    one, two = (Inert("m.Thing", args=(torch.zeros(1).expand(1 << 40),)) for _ in range(2))
    with metered(refuse), pytest.raises(LimitError):
        assert one == two
