"""A manifest is input: whoever wrote the file wrote it. What no build makes is refused, within bounds, by one kind of error."""

from __future__ import annotations

import collections
import contextlib
import copy
import itertools
import json
import random
import struct
from typing import Any

import pytest

from safeload import scan
from safeload.conversion import keys
from safeload.errors import LimitError, MalformedError, RefusedError, SafeloadError, UnsupportedError
from safeload.findings import Outcome
from safeload.formats.manifest import KEY, SIDECAR_KEY, manifest_of
from safeload.program import Inert, TensorSpec
from safeload.walk import _machine
from safeload.walk.values import check_hashes
from tests.forge_conversion import build_manifest, converted_file, manifest_text, rebuilt, tensors

FLOATS: dict[str, Any] = {"dtype": "float32", "numel": 6, "of": ["w"]}


def test_a_file_without_a_manifest_has_none() -> None:
    assert manifest_of({"format": "pt"}) is None


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([["list", [1, "a", None]]], [1, "a", None]),
        ([["tuple", [[1], [1]]], ["list", []]], ([], [])),
        ([["dict", [["a", 1], [{"float": "0x1.8000000000000p+0"}, True]]]], {"a": 1, 1.5: True}),
        ([["set", [1, "x"]]], {1, "x"}),
        ([["frozenset", [1]]], frozenset([1])),
        ([["deque", 3, [1, 2]]], collections.deque([1, 2], 3)),
        ([["counter", [["a", 2]]]], collections.Counter(a=2)),
        ([["bytearray", {"bytes": "QQ=="}]], bytearray(b"A")),
        ([["scalar", {"bytes": "QQ=="}]], b"A"),
    ],
)
def test_plain_data_is_built(nodes: list[Any], expected: Any) -> None:
    """Types exactly, shared parts once."""
    found = build_manifest([0], nodes)
    assert type(found) is type(expected)
    assert found == expected


def test_shared_and_circular_parts_are_one_object() -> None:
    """A list in a tuple in that list: what a pickle stream can say, a manifest can say."""
    found = build_manifest([0], [["list", [[1], [0]]], ["tuple", [[0], [0]]]])
    assert found[1] is found
    assert found[0][0] is found
    assert found[0][1] is found


def test_a_very_deep_tree_is_built_without_recursion() -> None:
    """A hundred thousand lists in each other."""
    depth = 100_000
    found = build_manifest([0], [["list", [[number + 1]]] for number in range(depth)] + [["list", []]])
    for _ in range(depth):
        (found,) = found
    assert found == []


def test_a_tensor_lies_in_its_storage() -> None:
    found = build_manifest([0], [["tensor", {"of": 0, "shape": [3, 2], "stride": [1, 3]}]], storages=[FLOATS])
    assert isinstance(found, TensorSpec)
    assert (found.shape, found.stride, found.storage.nbytes) == ((3, 2), (1, 3), 24)


@pytest.mark.parametrize(
    "fields",
    [
        {"of": 0, "shape": [7]},
        {"of": 0, "shape": [2], "stride": [6]},
        {"of": 0, "shape": [1], "offset": 6},
        {"of": 0, "shape": [-1]},
        {"of": 0, "shape": [1], "offset": -1},
        {"of": 1, "shape": [1]},
        {"of": 0},
        {"of": 0, "shape": [1], "dtype": "float64", "offset": 3},
        {"of": 0, "shape": [1], "dtype": "object"},
        {"of": 0, "shape": [True]},
        {"of": 0, "shape": [1], "conj": 1},
        {"of": "0", "shape": [1]},
        {"of": 0, "shape": [1], "stride": [1, 1]},
        {"of": 0, "shape": [1] * 65},
        {"of": 0, "shape": [1], "more": 1},
        {"of": 0, "shape": [1], "conj": True},
        {"of": 0, "shape": [1], "dtype": []},
        {"of": 0, "shape": [1 << 40, 1 << 40], "stride": [0, 0]},
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(fields: dict[str, Any]) -> None:
    """It would read memory that is not the file's."""
    with pytest.raises(MalformedError):
        build_manifest([0], [["tensor", fields]], storages=[FLOATS])


@pytest.mark.parametrize(
    "storage",
    [
        {"dtype": "float32", "numel": 7, "of": ["w"]},
        {"dtype": "float32", "numel": 6, "of": ["missing"]},
        {"dtype": "float33", "numel": 6, "of": ["w"]},
        {"dtype": "float32", "numel": -6, "of": ["w"]},
        {"dtype": "float32", "numel": 12, "of": ["w", "w"]},
        {"dtype": "float32", "numel": 6, "of": "w"},
        {"dtype": "float32", "numel": 6, "base": 0, "offset": 0},
        {"dtype": "float32", "numel": 6, "of": ["w"], "base": 0, "offset": 0},
        {"dtype": "float32", "numel": 6, "of": [{"entry": "w", "itemsize": 4, "shape": [2, 2], "stride": [1, 2]}]},
        {"dtype": "float32", "numel": 6, "of": [{"entry": "w", "itemsize": 4, "shape": [2, 3], "stride": [3, 3]}]},
        {"dtype": "float32", "numel": 6, "of": [{"entry": "w", "itemsize": 3, "shape": [8], "stride": [1]}]},
        {"dtype": "float32", "numel": 6, "of": [{"entry": "w", "itemsize": 4, "shape": [6], "stride": [1], "flip": "conj", "real": 4}]},
        {"dtype": "float32", "numel": 6, "of": [{"entry": "w", "itemsize": 4, "shape": [6], "stride": [1], "flip": 3, "real": 4}]},
        {"dtype": "float32", "numel": 6, "of": ["w"], "location": 5},
        {"dtype": "float32", "numel": 6, "of": ["w"], "untyped": False},
        [],
        5,
    ],
)
def test_a_storage_that_its_entries_are_not_is_refused(storage: Any) -> None:
    """Sizes are compared before anything is allocated."""
    with pytest.raises(MalformedError):
        build_manifest([0], [["storage", 0]], storages=[storage])


def test_two_storages_may_not_share_an_entry_in_part() -> None:
    """What is one memory must be said to be one."""
    both = [{"dtype": "uint8", "numel": 29, "of": ["w", "b"]}, {"dtype": "uint8", "numel": 5, "of": ["b"]}]
    with pytest.raises(MalformedError, match="another storage has"):
        build_manifest([0], [["storage", 0]], storages=both)


def test_a_slice_stays_inside_its_storage() -> None:
    outside = {"dtype": "float32", "numel": 4, "base": 0, "offset": 3}
    with pytest.raises(MalformedError, match="leaves the storage"):
        build_manifest([0], [["storage", 1]], storages=[FLOATS, outside])


@pytest.mark.parametrize(
    "nodes",
    [
        [["object", []]],
        [["list", 5]],
        [["list", [[5]]]],
        [["list", [[0, 0]]]],
        [["list", [[-1]]]],
        [["dict", [[1]]]],
        [["tuple", [[0]]]],
        [[]],
        [5],
        [["set", [[1]]], ["list", []]],
        [["dict", [[[1], 1]]], ["dict", []]],
        [["frozenset", [[1]]], ["list", []]],
        [["defaultdict", 5, []]],
        [["deque", -1, []]],
        [["deque", True, []]],
        [["bytes", 0]],
        [["bytearray", "a"]],
        [["call", {"global": 0}, []]],
        [["call", None, [], {"op": "X"}]],
        [["call", [0], []]],
        [["__class__", []]],
        [["make_list", []]],
        [["odict", [], [["keys", 1]]]],
        [["odict", [], [["_metadata", 1], ["x", 1]]]],
        [["call", None, [], {"then": [["set", [1]]]}]],
        [["call", None, [], []]],
        [["call", None, [], {"op": []}]],
        [["call", None, [], {"kwargs": [[1, 2]]}]],
        [["scalar", [0]]],
    ],
)
def test_a_node_that_says_nothing_is_refused(nodes: list[Any]) -> None:
    """Unknown kinds, references to nowhere, keys that cannot be keys, attributes that replace methods."""
    with pytest.raises(SafeloadError):
        build_manifest([0], nodes)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("builtins.bytearray", [1 << 33]),
        ("torch.FloatTensor", [1 << 40]),
        ("torch.UntypedStorage", [64]),
        ("builtins.range", ["a"]),
        ("_codecs.encode", ["a", "rot13"]),
        ("torch.device", ["nowhere at all"]),
        ("torch.Size", [5]),
        ("datetime.datetime", [{"bytes": "QQ=="}]),
    ],
)
def test_a_call_is_judged_as_in_a_stream(name: str, args: list[Any]) -> None:
    """Allocation from a number, any codec by name: the table of signatures is asked, as for every pickle."""
    with pytest.raises((MalformedError, RefusedError)):
        build_manifest([0], [["call", {"global": 0}, args]], globals=[name], unknown="refuse")


@pytest.mark.parametrize("how", [{}, {"op": "NEWOBJ"}, {"op": "NEWOBJ_EX", "kwargs": [["a", 1]]}])
def test_a_global_that_is_not_modelled_is_refused_or_stays_inert(how: dict[str, Any]) -> None:
    """Nothing from the file runs, and the error lists every name at once."""
    nodes = [["call", {"global": 0}, ["true"], *([how] if how else [])]]
    with pytest.raises(RefusedError) as caught:
        build_manifest([0], nodes, globals=["os.system", "acme.Thing"], unknown="refuse")
    assert caught.value.globals == ("os.system", "acme.Thing")
    found = build_manifest([0], nodes, globals=["os.system"])
    assert isinstance(found, Inert)
    assert (found.global_name, found.args) == ("os.system", ("true",))


def test_a_bare_dangerous_global_is_refused_too() -> None:
    with pytest.raises(RefusedError):
        build_manifest({"global": 0}, globals=["os.system"], unknown="refuse")


def test_an_object_may_hold_itself() -> None:
    """A module that is its own parent is state that came back."""
    nodes = [["call", {"global": 0}, [], {"op": "NEWOBJ", "then": [["state", [1]]]}], ["dict", [["me", [0]]]]]
    found = build_manifest([0], nodes, globals=["acme.Thing"])
    assert found.state["me"] is found


def test_keys_that_take_long_to_hash_are_refused() -> None:
    """A tuple of tuples of tuples, each twice, is visited two to the n times by a single hash."""
    nodes: list[Any] = [["dict", [[[1], 1]]]]
    nodes += [["tuple", [[number + 2], [number + 2]]] for number in range(60)]
    nodes += [["tuple", [1]]]
    with pytest.raises(LimitError, match="hash"):
        build_manifest([0], nodes)


def test_keys_that_a_call_makes_weigh_what_they_hold() -> None:
    """The same tuples, made by calls: sixty of them stand for two to the sixty values."""
    nodes: list[Any] = [["dict", [[[1], 1]]]]
    for number in range(1, 120, 2):
        nodes += [["call", {"global": 0}, [[number + 1]]], ["list", [[number + 2], [number + 2]]]]
    nodes += [["tuple", [1]]]
    with pytest.raises(LimitError, match="hash"):
        build_manifest([0], nodes, globals=["builtins.tuple"], unknown="refuse")


def test_names_of_arguments_are_texts_before_they_are_hashed() -> None:
    nodes: list[Any] = [["call", {"global": 0}, [], {"op": "NEWOBJ_EX", "kwargs": [[[1], 1]]}]]
    nodes += [["tuple", [[number + 2], [number + 2]]] for number in range(60)]
    nodes += [["tuple", [1]]]
    with pytest.raises(MalformedError, match="unknown form"):
        build_manifest([0], nodes, globals=["acme.Thing"])


def test_tuples_nested_without_end_are_refused() -> None:
    """Python hashes and compares them by recursion in C, which has an end that no exception tells of."""
    depth = 20_000
    nodes: list[Any] = [["dict", [[[1], 1]]], *(["tuple", [[number + 2]]] for number in range(depth)), ["tuple", [1]]]
    with pytest.raises(LimitError, match="deep"):
        build_manifest([0], nodes)


@pytest.mark.parametrize("kind", ["dict", "set", "frozenset"])
def test_tuples_of_one_hash_are_refused(kind: str) -> None:
    """Hashes of -1 and -2 are the same, so two to the n tuples of them are."""
    found = list(itertools.islice(itertools.product((-1, -2), repeat=14), 10_000))
    nodes = [["tuple", list(key)] for key in found]
    items = [[number + 1] for number in range(len(found))]
    with pytest.raises(LimitError, match="same hash"):
        build_manifest([0], [[kind, [[item, 0] for item in items] if kind == "dict" else items], *nodes])


def test_an_eighth_of_many_tuples_may_not_have_one_hash() -> None:
    """Comparing those takes as long as if the others were not there."""
    same = list(itertools.islice(itertools.product((-1, -2), repeat=14), 10_000))
    with pytest.raises(LimitError, match="same hash"):
        check_hashes([*same, *((number, 0) for number in range(90_000))])
    check_hashes([(row, column) for row in range(-150, 150) for column in range(-150, 150)])


def test_bounds_of_keys_are_those_of_the_walk() -> None:
    names = ("MAX_TUPLE_DEPTH", "MAX_HASH_DEPTH", "MAX_HASH_SIZE", "MAX_ODD_KEYS")
    assert [getattr(keys, name) for name in names] == [getattr(_machine, name) for name in names]


@pytest.mark.parametrize("kind", ["bytes", "bytearray"])
def test_bytes_are_not_copied_without_end(kind: str) -> None:
    """A node of twelve characters asks for all bytes of an entry once more."""
    blob = bytes(1 << 20)
    table = {"b": ("U8", [len(blob)], blob)}
    nodes = [["list", [[number + 1] for number in range(4000)]], *([kind, 0] for _ in range(4000))]
    with pytest.raises(LimitError, match="copy"):
        rebuilt(converted_file(manifest_text([0], nodes, payloads=["b"]), table))


def test_a_shape_without_end_is_refused_before_it_is_multiplied() -> None:
    with pytest.raises(MalformedError, match="dimensions"):
        build_manifest([0], [["tensor", {"of": 0, "shape": [1 << 50] * 1_000_000}]], storages=[FLOATS])


def test_keys_that_all_hash_alike_are_refused() -> None:
    """Big integers can be chosen to collide."""
    step = (1 << 61) - 1
    found = [[{"int": hex(step * (number + (1 << 20)))}, 1] for number in range(10_001)]
    with pytest.raises(LimitError):
        build_manifest([0], [["dict", found]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "NaN",
        '{"version":1}',
        '{"version":"1"}',
        "[" * 100_000,
        manifest_text(script=False),
        manifest_text(more=1),
        manifest_text(globals=["a.b", "a.b"]),
        manifest_text(globals=[1]),
        manifest_text(source={}),
        manifest_text(1.5),
        manifest_text() + " ",
        manifest_text().replace('"root":null', '"root":null,"root":null'),
        manifest_text().replace('"nodes":[]', '"nodes":{}'),
        manifest_text(payloads=["missing"]),
        manifest_text(payloads=["w"]),
    ],
)
def test_a_manifest_that_is_not_one_is_refused(text: str) -> None:
    """One spelling, one tree."""
    with pytest.raises(MalformedError):
        rebuilt(converted_file(text, {"w": ("F32", [2, 3], struct.pack("<6f", *range(6)))}))


def test_another_version_is_named() -> None:
    with pytest.raises(UnsupportedError, match="version 2"):
        manifest_of({KEY: manifest_text(version=2)})


@pytest.mark.parametrize(
    "text", ["", "x", "../x 0 1", "/etc/passwd " + "0" * 64 + " 1", "gone.json " + "0" * 64 + " 12", ". " + "0" * 64 + " 1"]
)
def test_a_sidecar_that_is_not_there_or_elsewhere_is_refused(text: str) -> None:
    """The header may name a file beside it, and no other."""
    with pytest.raises(MalformedError):
        rebuilt(tensors({}, {SIDECAR_KEY: text}))


@pytest.mark.parametrize(
    ("nodes", "globals_", "rule"),
    [
        ([["call", {"global": 0}, ["true"]]], ["os.system"], "SL102"),
        ([["list", [{"global": 0}]]], ["acme.Thing"], "SL103"),
        ([["call", {"global": 0}, [5]]], ["collections.OrderedDict"], "SL104"),
        ([["call", None, [5], {"op": "PERSID"}]], [], "SL109"),
        ([["tensor", {"of": 3, "shape": []}]], [], "SL401"),
        ([["tensor", {"of": 0, "shape": [7]}]], [], "SL301"),
    ],
)
def test_what_a_manifest_names_is_evidence(nodes: list[Any], globals_: list[str], rule: str) -> None:
    """A scan says of a converted file what a load would: the names are listed, and what would be refused is."""
    data = converted_file(manifest_text([0], nodes, globals=globals_, storages=[FLOATS]), {"w": ("F32", [6], bytes(24))})
    report = scan(data, lock=False)
    assert report.globals == tuple(globals_)
    assert [found.rule for found in report.findings] == [rule]
    assert report.findings[0].member == KEY
    assert report.decision.outcome is Outcome.REFUSED


def test_a_manifest_that_cannot_be_read_is_no_verdict_of_allowed() -> None:
    for data in (converted_file("{}"), tensors({}, {SIDECAR_KEY: "gone.json " + "0" * 64 + " 12"})):
        report = scan(data, lock=False)
        assert report.error is not None
        assert report.decision.outcome is not Outcome.ALLOWED


def test_random_damage_never_gets_out_as_another_error() -> None:
    """Whatever is changed in a good manifest, the outcome is an object or a SafeloadError."""
    good = json.loads(
        manifest_text(
            [0],
            [
                ["odict", [["w", [1]], ["c", [2]], ["m", [3]]], [["_metadata", [4]]]],
                ["tensor", {"of": 0, "shape": [2, 3]}],
                ["call", {"global": 0}, [[5], {"float": "0x1.8000000000000p+0"}], {"then": [["state", [4]]]}],
                ["tuple", [[1], [0]]],
                ["dict", []],
                ["bytes", 0],
            ],
            globals=["acme.Thing"],
            storages=[FLOATS],
            payloads=["b"],
        )
    )
    rng = random.Random(6)
    values: list[Any] = [None, True, 0, -1, 1 << 60, "", "w", [], [0], [[0]], {}, {"global": 0}, {"of": 0}, ["call", None, []], 5]
    table = {"w": ("F32", [2, 3], struct.pack("<6f", *range(6))), "b": ("U8", [5], b"bytes")}
    for _ in range(1500):
        value = json.loads(json.dumps(good))
        for _ in range(rng.randrange(1, 4)):
            spot = value
            while isinstance(spot, (list, dict)) and spot:
                keys = list(range(len(spot))) if isinstance(spot, list) else list(spot)
                key = rng.choice(keys)
                if rng.random() < 0.3 or not isinstance(spot[key], (list, dict)) or not spot[key]:
                    spot[key] = copy.deepcopy(rng.choice(values))
                    break
                spot = spot[key]
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        with contextlib.suppress(SafeloadError):
            rebuilt(converted_file(text, table))
