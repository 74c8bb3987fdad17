"""Tensors that are made many at once are what the long way makes, whatever the stream does around them."""

from __future__ import annotations

import os
import random
from collections import OrderedDict
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safeload.build import many_tensors  # noqa: E402
from safeload.errors import MalformedError, SafeloadError  # noqa: E402
from safeload.formats import read  # noqa: E402
from safeload.source import Source  # noqa: E402
from tests.compare import assert_same, difference  # noqa: E402
from tests.forge import (  # noqa: E402
    APPEND,
    BINPERSID,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    GET,
    GLOBAL,
    INT,
    MARK,
    MEMOIZE,
    NEWFALSE,
    NEWTRUE,
    NONE,
    POP,
    POP_MARK,
    PROTO,
    PUT,
    REDUCE,
    SETITEM,
    SETITEMS,
    STOP,
    TEXT,
    TUPLE,
    TUPLE1,
    TUPLE2,
    stream,
)  # fmt: skip
from tests.forge_build import build, checkpoint, saved, torch_zip  # noqa: E402
from tests.forge_tensors import HOOKS, PUT_TENSOR, TENSOR, random_tensors, rest, storage, tensor  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

ROUNDS = int(os.environ.get("SAFELOAD_FUZZ", "0") or 0) // 8 or 400

DATA = {str(number): bytes([number] * 8) for number in range(6)}


def both_ways(raw: bytes, monkeypatch: pytest.MonkeyPatch, **keywords: Any) -> tuple[Any, Any]:
    """What comes of a file when tensors are made at once, and one by one: a value, or the error."""

    def outcome(worth: int) -> Any:
        monkeypatch.setattr(many_tensors, "WORTH", worth)
        try:
            return build(raw, **keywords)
        except SafeloadError as error:
            return error

    return outcome(1), outcome(1 << 60)


def assert_both_ways_same(raw: bytes, monkeypatch: pytest.MonkeyPatch, **keywords: Any) -> Any:
    quick, slow = both_ways(raw, monkeypatch, **keywords)
    if isinstance(slow, SafeloadError) or isinstance(quick, SafeloadError):
        assert type(quick) is type(slow), (quick, slow)
    else:
        assert_same(quick, slow)
    return quick


def made_at_once(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many tensors of a file are."""
    monkeypatch.setattr(many_tensors, "WORTH", 1)
    with Source.open(raw) as source:
        contents = read(source)
        assert contents is not None
        found = many_tensors.find_many(contents, None)
        return len(found.ids) if found is not None else 0


def ordinary() -> dict[str, Any]:
    tied = torch.arange(3.0)
    whole = torch.arange(6.0)
    return {
        "model": OrderedDict((f"layers.{number}.weight", torch.full((2, number + 1), float(number))) for number in range(6)),
        "more": [torch.tensor(number) for number in range(4)],
        "kinds": [torch.zeros(3, dtype=kind) for kind in (torch.float16, torch.bool, torch.int8, torch.complex64, torch.bfloat16)],
        "tied": (tied, tied, {"again": tied}),
        "views": [whole, whole[2:4], whole.view(2, 3).T],
        "gradient": torch.ones(2, requires_grad=True),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "odd": [torch.empty(0), torch.ones(2, 3).T, torch.ones(1).expand(3), torch.eye(2).to_sparse(), torch.ones(4, device="meta")],
        "large": torch.zeros(5000),
        "optimizer": {
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2, 2)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_ordinary_checkpoint_is_the_same_both_ways_and_for_torch(protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    buffer = io.BytesIO()
    torch.save(ordinary(), buffer, pickle_protocol=protocol)
    raw = buffer.getvalue()
    quick = assert_both_ways_same(raw, monkeypatch)
    if protocol < 4:  # torch reads no others
        assert_same(quick, torch.load(io.BytesIO(raw), weights_only=True))
    assert made_at_once(raw, monkeypatch) > 15


def test_a_table_of_tensors_is_the_same_both_ways_and_for_safetensors(monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load, save

    state = {f"layers.{number}": torch.full((2, number % 3), float(number)) for number in range(40)}
    state |= {"flag": torch.tensor(True), "wide": torch.zeros(5000), "half": torch.ones(3, dtype=torch.float16), "none": torch.empty(0)}
    raw = save(state)
    quick = assert_both_ways_same(raw, monkeypatch)
    assert_same({name: quick[name] for name in state}, {name: load(raw)[name] for name in state})
    assert quick["flag"]._backward_hooks is None


def test_a_tensor_made_at_once_has_a_storage_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = saved({str(number): torch.arange(4.0) + number for number in range(40)})
    loaded = build(raw)
    first, second = loaded["0"].untyped_storage(), loaded["1"].untyped_storage()
    assert first.nbytes() == 16
    assert first.resizable()
    assert first.data_ptr() != second.data_ptr()
    assert loaded["0"]._base is None
    assert loaded["0"].is_leaf
    loaded["0"].resize_(100).fill_(9)
    assert loaded["1"].tolist() == [1.0, 2.0, 3.0, 4.0]


FORGED = {
    "two of them": stream(MARK, tensor("0"), tensor("1"), TUPLE),
    "one storage twice, by two ids": stream(MARK, tensor("0"), tensor("0"), TUPLE),
    "a storage that was put into the memo": stream(
        MARK, TENSOR, MARK, storage("0"), PUT(1), rest(), TUPLE, REDUCE, GET(1), TENSOR, MARK, GET(1), rest(), TUPLE, REDUCE, TUPLE
    ),
    "a storage that was doubled": stream(MARK, TENSOR, MARK, storage("0"), DUP, rest(), TUPLE, REDUCE, TUPLE),
    "arguments from the memo": stream(
        MARK, TENSOR, MARK, storage("0"), rest(), TUPLE, PUT(1), REDUCE, TENSOR, GET(1), REDUCE, GET(1), TUPLE
    ),
    "arguments that were doubled": stream(MARK, TENSOR, MARK, storage("0"), rest(), TUPLE, DUP, POP, REDUCE, TUPLE1, TUPLE),
    "a global from the memo": stream(MARK, PUT_TENSOR, POP, tensor("0", callee=GET(9)), tensor("1", callee=GET(9)), TUPLE),
    "text inside a call, used behind it": stream(
        MARK,
        PUT_TENSOR,
        POP,
        tensor("0", callee=GET(9)),
        GET(9),
        MARK,
        MARK,
        TEXT("storage"),
        GLOBAL("torch", "FloatStorage"),
        TEXT("1"),
        PUT(2),
        TEXT("cpu"),
        INT(2),
        TUPLE,
        BINPERSID,
        rest(),
        TUPLE,
        REDUCE,
        tensor("2", callee=GET(9)),
        GET(2),
        TUPLE,
    ),
    "a tuple inside a call, used behind it": stream(
        MARK,
        PUT_TENSOR,
        POP,
        tensor("0", callee=GET(9)),
        GET(9),
        MARK,
        storage("1"),
        INT(0),
        INT(2),
        TUPLE1,
        PUT(3),
        INT(1),
        TUPLE1,
        NEWFALSE,
        HOOKS,
        TUPLE,
        REDUCE,
        GET(3),
        TUPLE,
    ),
    "None inside a call, used behind it": stream(
        MARK, PUT_TENSOR, POP, GET(9), MARK, storage("1"), rest(), NONE, PUT(3), POP, TUPLE, REDUCE, GET(3), TUPLE
    ),
    "an entry that a call writes anew": stream(
        MARK,
        PUT_TENSOR,
        POP,
        TEXT("before"),
        PUT(3),
        GET(9),
        MARK,
        storage("1"),
        rest(),
        TEXT("after"),
        PUT(3),
        POP,
        TUPLE,
        REDUCE,
        GET(3),
        TUPLE,
    ),
    "a list that is changed inside a call": stream(
        EMPTY_LIST, PUT(4), PUT_TENSOR, POP, GET(9), MARK, GET(4), TEXT("x"), APPEND, POP, storage("1"), rest(), TUPLE, REDUCE, APPEND
    ),
    "a dict that is filled inside a call": stream(
        EMPTY_DICT,
        PUT(4),
        TEXT("w"),
        PUT_TENSOR,
        POP,
        GET(9),
        MARK,
        GET(4),
        TEXT("k"),
        INT(1),
        SETITEM,
        POP,
        storage("1"),
        rest(),
        TUPLE,
        REDUCE,
        SETITEM,
    ),
    "a call that is made inside a call and dropped": stream(
        MARK, PUT_TENSOR, POP, GET(9), MARK, tensor("2", callee=GET(9)), PUT(5), POP, storage("1"), rest(), TUPLE, REDUCE, GET(5), TUPLE
    ),
    "another global in the place of the one from the memo": stream(
        MARK, PUT_TENSOR, GET(9), POP, MARK, storage("1"), rest(), TUPLE, REDUCE, TUPLE
    ),
    "a MARK that is left open": stream(MARK, PUT_TENSOR, POP, GET(9), MARK, MARK, POP_MARK, storage("1"), rest(), TUPLE, REDUCE, TUPLE),
    "a MARK that was set before": stream(PUT_TENSOR, POP, MARK, GET(9), storage("1"), rest(), POP_MARK, tensor("2", callee=GET(9))),
    "entries that are counted": stream(
        MARK,
        TENSOR,
        MEMOIZE,
        POP,
        GET(0),
        MARK,
        storage("1"),
        TEXT("a"),
        MEMOIZE,
        POP,
        rest(),
        TUPLE,
        REDUCE,
        TEXT("b"),
        MEMOIZE,
        GET(2),
        TUPLE,
    ),
    "hooks that are not empty": stream(
        TENSOR,
        MARK,
        storage("0"),
        INT(0),
        INT(2),
        TUPLE1,
        INT(1),
        TUPLE1,
        NEWFALSE,
        HOOKS,
        MARK,
        TEXT("k"),
        INT(1),
        SETITEMS,
        TUPLE,
        REDUCE,
    ),
    "hooks that are filled later": stream(
        MARK, HOOKS, PUT(6), TENSOR, MARK, storage("0"), rest(hooks=GET(6)), TUPLE, REDUCE, GET(6), TEXT("k"), INT(1), SETITEM, TUPLE
    ),
    "a gradient": stream(MARK, tensor("0", gradient=NEWTRUE), tensor("1"), TUPLE),
    "another number of elements than there are": stream(MARK, tensor("0"), TENSOR, MARK, storage("1"), rest(1), TUPLE, REDUCE, TUPLE),
    "a storage beside its tensor": stream(MARK, tensor("0"), storage("1"), TUPLE),
    "arguments that nobody calls": stream(MARK, storage("1"), rest(), TUPLE, tensor("0"), TUPLE2),
    "a dict of tensors": stream(EMPTY_DICT, MARK, TEXT("a"), tensor("0"), TEXT("b"), tensor("1"), SETITEMS),
}


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED)
def test_what_no_pickler_writes_is_the_same_both_ways(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving a part of a stream out is right only where nothing else looks at what it did."""
    assert_both_ways_same(torch_zip(stream(PROTO(2), body, STOP), DATA), monkeypatch)


def test_a_gradient_on_integers_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    body = stream(MARK, TENSOR, MARK, storage("0", 1, "LongStorage"), rest(1, gradient=NEWTRUE), TUPLE, REDUCE, TUPLE)
    quick, slow = both_ways(torch_zip(stream(PROTO(2), body, STOP), DATA), monkeypatch)
    assert isinstance(quick, MalformedError)
    assert str(quick) == str(slow)


def test_bytes_with_another_crc_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = saved([torch.full((4,), float(number)) for number in range(3)])
    at = raw.index(torch.full((4,), 2.0).numpy().tobytes())
    broken = raw[:at] + b"\1" + raw[at + 1 :]
    quick, slow = both_ways(broken, monkeypatch)
    assert isinstance(quick, MalformedError)
    assert (quick.rule, quick.message) == (slow.rule, slow.message)


def test_nothing_is_made_at_once_where_somebody_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    raw = saved([torch.full((4,), float(number)) for number in range(3)])
    monkeypatch.setattr(many_tensors, "WORTH", 1)
    with Source.open(raw) as source:
        contents = read(source)
        assert contents is not None
        for free in (None, "cpu", torch.device("cpu")):
            assert many_tensors.find_many(contents, free) is not None
        for map_location in ("meta", {"cpu": "cpu"}, lambda storage, tag: storage):
            assert many_tensors.find_many(contents, map_location) is None
        with FakeTensorMode():
            assert many_tensors.find_many(contents, None) is None
        with torch.device("meta"):
            assert many_tensors.find_many(contents, None) is None
        with torch.serialization.skip_data():
            assert many_tensors.find_many(contents, None) is None
        entry = (1, lambda storage: None, lambda storage, tag: storage)
        torch.serialization._package_registry.insert(0, entry)
        try:
            assert many_tensors.find_many(contents, None) is None
        finally:
            torch.serialization._package_registry.remove(entry)


@pytest.mark.parametrize("seed", range(4))
def test_forged_streams_are_the_same_both_ways(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    stats = {"value": 0, "error": 0, "quick": 0}
    for _ in range(ROUNDS):
        data = random_tensors(rng)
        raw = torch_zip(data, DATA)
        quick, slow = both_ways(raw, monkeypatch)
        if isinstance(slow, SafeloadError) or isinstance(quick, SafeloadError):
            stats["error"] += 1
            assert type(quick) is type(slow), (data, quick, slow)
        else:
            stats["value"] += 1
            assert difference(quick, slow) is None, data
            stats["quick"] += made_at_once(raw, monkeypatch)
    assert stats["value"] > ROUNDS // 20, stats
    assert stats["quick"] > ROUNDS // 20, stats


@pytest.mark.parametrize("seed", range(4))
def test_damaged_streams_are_the_same_both_ways(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data, storages = checkpoint(saved(ordinary()))
    rng = random.Random(seed)
    built = 0
    for _ in range(ROUNDS):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(broken))
            if rng.random() < 0.7:
                broken[at] = rng.choice((broken[at] ^ 1, (broken[at] + 1) % 256, 0, rng.randrange(256)))
            else:
                first = rng.randrange(len(broken))
                broken[at:at] = broken[first : first + rng.randint(1, 6)]
        quick, slow = both_ways(torch_zip(bytes(broken), storages), monkeypatch)
        if isinstance(slow, SafeloadError) or isinstance(quick, SafeloadError):
            assert type(quick) is type(slow), (bytes(broken), quick, slow)
        else:
            built += 1
            assert difference(quick, slow) is None, bytes(broken)
    assert built > ROUNDS // 50
