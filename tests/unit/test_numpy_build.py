"""numpy values come out as `pickle` would give them, from plain dtypes only, and no callable of numpy's is called for a file."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

from safeload.errors import MalformedError, MissingExtraError, SafeloadError  # noqa: E402
from safeload.program import Call  # noqa: E402
from safeload.walk import walk  # noqa: E402
from safeload.walk.model import Model  # noqa: E402
from safeload.walk.model import build as build_without_numpy  # noqa: E402
from tests.compare import assert_same  # noqa: E402
from tests.forge_build import build, saved  # noqa: E402

pytestmark = pytest.mark.torch

STRUCTURE = np.dtype([("name", "S4"), ("place", "<f4", (2,)), ("when", "<M8[ms]"), ("inner", [("a", "i1"), ("b", ">i2")])])

VALUES = {
    "floats": np.arange(6.0),
    "Fortran order": np.arange(6.0).reshape(2, 3).T,
    "axes in another order": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "a slice": np.arange(10)[::2],
    "0-dim": np.array(3.5),
    "empty": np.empty((0, 3), np.int16),
    "large": np.arange(5000, dtype=np.int64),
    "big-endian": np.arange(4, dtype=">i4"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j], np.complex64),
    "half": np.array([1.5], np.float16),
    "long double": np.array([1.5], np.longdouble),
    "text": np.array(["a", "bcd", "ü"]),
    "bytes": np.array([b"a", b"bcd"]),
    "void": np.array([b"abcd"], dtype="V4"),
    "dates": np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
    "spans": np.array([1, 2], dtype="m8[25s]"),
    "generic span": np.array([1], dtype="m8"),
    "structure": np.zeros(3, STRUCTURE),
    "aligned structure": np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "read-only": pickle.loads(pickle.dumps(np.arange(3))),
    "float scalar": np.float64(0.1),
    "int scalar": np.int8(-3),
    "bool scalar": np.bool_(True),
    "text scalar": np.str_("abc"),
    "empty text scalar": np.str_(""),
    "date scalar": np.datetime64("2020-01-01T12", "h"),
    "structure scalar": np.zeros(1, STRUCTURE)[0],
    "dtypes": [np.dtype("f4"), np.dtype(">u2"), np.dtype("S5"), np.dtype("M8[ns]"), np.dtype(("i4", (2, 3))), STRUCTURE],
    "shared": [shared := np.arange(3), shared],
    "types": [np.float32, np.ndarray],
}
VALUES["read-only"].flags.writeable = False


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", VALUES)
def test_same_as_pickle(name: str, protocol: int) -> None:
    raw = pickle.dumps(VALUES[name], protocol)
    expected, found = pickle.loads(raw), build(raw)
    assert_same(expected, found)
    if isinstance(expected, np.ndarray):
        assert (found.flags.writeable, found.strides) == (expected.flags.writeable, expected.strides)


def test_names_of_numpy_1_and_2_are_the_same() -> None:
    raw = pickle.dumps([np.arange(3), np.float32(1)], 2)
    other = raw.replace(b"numpy._core", b"numpy.core") if b"numpy._core" in raw else raw.replace(b"numpy.core", b"numpy._core")
    assert other != raw
    assert_same(build(raw), build(other))


def test_arrays_inside_a_checkpoint() -> None:
    """`torch.load(weights_only=True)` refuses these: the most common complaint about it."""
    value = {"w": torch.ones(2), "loss": np.float64(0.5), "hist": np.arange(4), "rng": np.random.RandomState(3).get_state()}
    assert_same(value, build(saved(value)))


def generators() -> dict[str, Any]:
    made = {kind: getattr(np.random, kind)(7) for kind in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")}
    state = np.random.RandomState(3)
    state.standard_normal(5)
    twice = np.random.RandomState(np.random.PCG64(4))
    return {**made, "Generator": np.random.default_rng(5), "RandomState": state, "RandomState over PCG64": twice}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", generators())
def test_generators_go_on_where_they_were(name: str, protocol: int) -> None:
    value = generators()[name]
    getattr(value, "standard_normal" if hasattr(value, "standard_normal") else "random_raw")(3)
    found = build(pickle.dumps(value, protocol))
    assert type(found) is type(value)
    draw = "standard_normal" if hasattr(value, "standard_normal") else "random_raw"
    assert list(getattr(value, draw)(10)) == list(getattr(found, draw)(10))


def test_a_bit_generator_keeps_its_seed_sequence() -> None:
    value = np.random.PCG64(np.random.SeedSequence(5, spawn_key=(1, 2)))
    found = build(pickle.dumps(value))
    assert found.seed_seq.state == value.seed_seq.state


def test_generators_of_older_numpy_name_their_bit_generator() -> None:
    """Before 1.24: the constructor took a name, and everything else came as state."""
    bits = np.random.PCG64(7)

    class Old:
        def __reduce__(self) -> Any:
            return getattr(np.random._pickle, "__generator_ctor"), ("PCG64",), bits.state

    assert build(pickle.dumps(Old())).random() == np.random.Generator(np.random.PCG64(7)).random()


# ---- hostile


def refused(raw: bytes, says: str) -> None:
    """With numpy and without, for the same reason."""
    with pytest.raises(MalformedError, match=says):
        build(raw)
    seen = walk(raw)
    with pytest.raises(MalformedError, match=says):
        build_without_numpy(seen, Model(seen))


def test_an_array_has_as_many_bytes_as_its_shape_needs() -> None:
    raw = pickle.dumps(np.arange(3, dtype=np.int8), 3)
    refused(raw.replace(b"K\x03\x85", b"K\x04\x85"), "needs 4 bytes, and has 3")
    refused(pickle.dumps(np.arange(3, dtype=np.int8), 5).replace(b"K\x03\x85", b"K\x02\x85"), "needs 2 bytes, and has 3")


def test_a_scalar_has_as_many_bytes_as_its_type() -> None:
    refused(pickle.dumps(np.float32(1), 3).replace(b"X\x02\x00\x00\x00f4", b"X\x02\x00\x00\x00f8"), "needs 8 bytes, and has 4")


def test_a_field_lies_in_its_structure() -> None:
    raw = pickle.dumps(np.dtype([("a", "i1"), ("b", "i1")]), 2)
    refused(raw.replace(b"K\x01\x86", b"K\x02\x86"), "leaves its structure")


@pytest.mark.parametrize("name", ["f3", "i16", "l", "x", "S99999999999", "float32", "f4,f4", "(2,3)f4"])
def test_types_that_are_not_plain_are_not_made(name: str) -> None:
    raw = pickle.dumps(np.dtype("f4"), 2)
    forged = raw.replace(b"X\x02\x00\x00\x00f4", b"X" + len(name).to_bytes(4, "little") + name.encode())
    with pytest.raises(SafeloadError):
        build(forged)


def test_a_dtype_takes_its_state_once() -> None:
    """Arrays that were made of it meanwhile would change with it."""
    raw = pickle.dumps(np.dtype("f4"), 2)
    state = raw[raw.index(b"(K\x03X\x01\x00\x00\x00<") : -1]
    refused(raw[:-1] + state + b".", "state is given twice")


def test_an_array_takes_its_state_once() -> None:
    """A second state frees the memory that a tensor made from the first may look into."""
    raw = pickle.dumps(np.arange(3), 3)
    state = raw[raw.index(b"(K\x01K\x03\x85") : -1]
    refused(raw[:-1] + state + b".", "state is given twice")


@pytest.mark.parametrize("position", [-1, 625, 1 << 40])
def test_a_generator_may_not_point_outside_its_key(position: int) -> None:
    """Some releases of numpy take any position, and read the key there."""
    bits = np.random.MT19937(1)
    state = {**bits.state, "state": {**bits.state["state"], "pos": position}}

    class Forged:
        def __reduce__(self) -> Any:
            return getattr(np.random._pickle, "__bit_generator_ctor"), (np.random.MT19937,), state

    refused(pickle.dumps(Forged()), "pos is out of its bounds")


def test_a_generator_of_another_kind_does_not_take_the_state() -> None:
    raw = pickle.dumps(np.random.PCG64(1), 2)
    refused(raw.replace(b"cnumpy.random._pcg64\nPCG64\n", b"cnumpy.random._sfc64\nSFC64\n"), "bit generator named")


def test_a_subclass_of_arrays_is_not_made() -> None:
    raw = pickle.dumps(np.arange(3), 2).replace(b"cnumpy\nndarray\n", b"cnumpy\nrecarray\n")
    with pytest.raises(SafeloadError):
        build(raw)


# ---- without numpy


def test_without_numpy_values_are_descriptions() -> None:
    seen = walk(pickle.dumps(np.arange(6, dtype=np.int16).reshape(2, 3), 3))
    found = build_without_numpy(seen, Model(seen))
    assert isinstance(found, Call)
    shape, dtype, order, data = found.args
    assert (found.global_name, shape, dtype.args[0].text, order, len(data)) == ("numpy.ndarray", (2, 3), "<i2", "C", 12)


def test_a_missing_numpy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = pickle.dumps(np.arange(3))
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtraError, match="numpy") as caught:
        build(raw)
    assert "safeload[numpy]" in caught.value.hint
