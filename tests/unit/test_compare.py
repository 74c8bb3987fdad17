"""The comparer must be able to fail: every difference that it promises to see is made here."""

from __future__ import annotations

import io
import struct
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.compare import assert_same, difference  # noqa: E402


def bits(*words: int) -> Any:
    """Make a float32 tensor of these bit patterns."""
    return torch.frombuffer(bytearray(struct.pack(f"<{len(words)}I", *words)), dtype=torch.float32)


def parameter(**attributes: Any) -> Any:
    """Make a Parameter with attributes of its own."""
    made = torch.nn.Parameter(torch.ones(2))
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def with_metadata(metadata: Any) -> OrderedDict[str, Any]:
    made: OrderedDict[str, Any] = OrderedDict(a=1)
    made._metadata = metadata  # type: ignore[attr-defined]
    return made


def shared(same: bool) -> list[Any]:
    one = torch.zeros(3)
    return [one, one if same else torch.zeros(3)]


def aliased(same: bool) -> list[Any]:
    one = torch.zeros(4)
    return [one[:2], one[2:] if same else torch.zeros(4)[2:]]


NAN = float("nan")
BASE = torch.arange(6.0)
DIFFERENT: dict[str, tuple[Any, Any]] = {
    "type": ([1], (1,)),
    "bool or int": (True, 1),
    "int": (1, 2),
    "negative zero": (0.0, -0.0),
    "negative zero in a tensor": (bits(0), bits(0x80000000)),
    "NaN payload of a number": (NAN, struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\1")[0]),
    "NaN payload of a part": (complex(0, NAN), complex(0, -NAN)),
    "NaN payload": (bits(0x7FC00000), bits(0x7FC00001)),
    "dtype": (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
    "shape": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "stride": (BASE.view(2, 3), BASE.as_strided((2, 3), (1, 2))),
    "offset": (BASE[:2], BASE[1:3]),
    "bytes outside the view": (torch.tensor([1.0, 2.0])[:1], torch.tensor([1.0, 3.0])[:1]),
    "size of the storage": (torch.zeros(3)[:1], torch.zeros(2)[:1]),
    "requires_grad": (torch.zeros(1), torch.zeros(1, requires_grad=True)),
    "conj": (torch.zeros(1, dtype=torch.complex64), torch.zeros(1, dtype=torch.complex64).conj()),
    "neg": (torch.zeros(2), torch.zeros(1, dtype=torch.complex64).conj().imag.expand(2)),
    "device": (torch.zeros(1), torch.zeros(1, device="meta")),
    "parameter": (torch.ones(2, requires_grad=True), parameter()),
    "parameter's attribute": (parameter(note=1), parameter(note=2)),
    "identity": (shared(True), shared(False)),
    "identity, the other way round": (shared(False), shared(True)),
    "aliasing": (aliased(True), aliased(False)),
    "aliasing, the other way round": (aliased(False), aliased(True)),
    "key order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "_metadata": (with_metadata({"": 1}), with_metadata({"": 2})),
    "_metadata missing": (with_metadata({"": 1}), OrderedDict(a=1)),
    "default factory": (defaultdict(list), defaultdict(dict)),
    "maxlen": (deque([1], 2), deque([1], 3)),
    "sparse values": (torch.tensor([0.0, 1.0]).to_sparse(), torch.tensor([0.0, 2.0]).to_sparse()),
    "coalesced": (torch.ones(2).to_sparse(), torch.sparse_coo_tensor([[0, 1]], [1.0, 1.0], (2,))),
    "storage dtype": (torch.FloatStorage(1).fill_(0), torch.IntStorage(1).fill_(0)),
    "scale": (torch.quantize_per_tensor(BASE, 0.1, 0, torch.qint8), torch.quantize_per_tensor(BASE * 2, 0.2, 0, torch.qint8)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_seen(name: str) -> None:
    """A comparer that calls everything the same would make every test that uses it worthless."""
    a, b = DIFFERENT[name]
    assert difference(a, b) is not None
    assert difference({"deep": [a]}, {"deep": [b]}) is not None


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_thing_is_the_same_as_its_round_trip(name: str) -> None:
    """What torch writes and reads again keeps bits, strides, aliasing and identity, in storage of its own."""
    for value in DIFFERENT[name]:
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        assert_same(value, torch.load(file, weights_only=False))


def csr(value: float) -> Any:
    """Make a tensor whose numbers lie in parts."""
    return torch.tensor([[0.0, value]]).to_sparse_csr()


def nested(value: float) -> Any:
    """Make a tensor without one shape."""
    return torch.nested.nested_tensor([torch.zeros(2), torch.full((3,), value)])


@pytest.mark.parametrize("make", [csr, nested])
def test_other_layouts_are_compared_by_their_parts(make: Callable[[float], Any]) -> None:
    """They have no storage of their own to compare."""
    assert_same(make(1.0), make(1.0))
    assert difference(make(1.0), make(2.0)) is not None


def test_a_cycle_ends() -> None:
    """Checkpoints can hold themselves."""
    one: list[Any] = []
    one.append(one)
    two: list[Any] = []
    two.append(two)
    assert_same(one, two)
