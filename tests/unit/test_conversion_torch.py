"""A converted file gives back what the original gives: every dtype, layout, kind of sharing, container and nesting."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import decimal
import fractions
import math
import pathlib
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

import safeload  # noqa: E402
from safeload.conversion import check, convert, export, job  # noqa: E402
from safeload.denied import denied_reason  # noqa: E402
from safeload.errors import RefusedError  # noqa: E402
from safeload.program import DTYPE_BITS  # noqa: E402
from tests.compare import assert_same  # noqa: E402
from tests.forge_build import build  # noqa: E402
from tests.forge_conversion import load_converted  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")]

DTYPES = [name for name in DTYPE_BITS if not name.startswith(("qint", "quint")) and hasattr(torch, name)]


def nan(bits: int) -> float:
    value: float = struct.unpack(">d", struct.pack(">Q", bits))[0]
    return value


def numbers(name: str, count: int) -> Any:
    """Random bits of a dtype: NaNs with payloads, -0.0 and all."""
    raw = torch.randint(0, 2 if name == "bool" else 256, (count * DTYPE_BITS[name] // 8,), dtype=torch.uint8)
    return raw.view(getattr(torch, name))


def layouts(name: str) -> dict[str, Any]:
    """Every way in which a tensor can lie in its storage."""
    return {
        "plain": numbers(name, 24).as_strided((4, 6), (6, 1)),
        "transposed": numbers(name, 24).as_strided((6, 4), (1, 6)),
        "channels last": numbers(name, 48).as_strided((2, 3, 2, 4), (24, 1, 12, 3)),
        "slice": numbers(name, 24).as_strided((3,), (1,), 5),
        "step": numbers(name, 24).as_strided((5,), (3,), 1),
        "expanded": numbers(name, 1).as_strided((3, 2), (0, 0)),
        "empty": numbers(name, 4)[:0].as_strided((0, 3), (3, 1)),
        "scalar": numbers(name, 1).as_strided((), ()),
    }


def sharing() -> Any:
    weight, flat, bias = torch.randn(10, 10), torch.arange(20.0), torch.randn(6)
    whole = torch.nn.Parameter(torch.randn(3))
    return {
        "w": weight,
        "tied": weight,
        "view": weight.view(100),
        "t": weight.t(),
        "row": weight[3],
        "diagonal": weight.diagonal(),
        "new": weight.view(10, 10),
        "parts": [flat[:5], flat[5:12], flat[14:]],
        "b": [bias, bias[:3], bias[3:]],
        "p": whole,
        "data": whole.data,
    }


def lazy_signs() -> Any:
    pair = torch.randn(4, dtype=torch.complex64)
    return {
        "conj": torch.randn(3, 4, dtype=torch.complex64).conj(),
        "neg": torch._neg_view(torch.randn(5, dtype=torch.complex128)),
        "both": torch._neg_view(torch.randn(2, 3, dtype=torch.complex64).conj().t()),
        "imaginary": pair.conj().imag,
        "half": torch.randn(6, dtype=torch.complex32).conj(),
    }


def parameters() -> Any:
    tagged = torch.nn.Parameter(torch.randn(2), requires_grad=False)
    tagged.foo, tagged.bar = "x", [1, {"a": 2.5}]
    plain = torch.randn(2)
    plain.tag = ("z", 1)
    one = torch.nn.Parameter(torch.randn(3))
    return {
        "p": one,
        "again": one,
        "tagged": tagged,
        "grad": torch.randn(3, requires_grad=True),
        "plain": plain,
        "b": torch.nn.Buffer(torch.randn(3)),
    }


def composite() -> Any:
    dense, rows = torch.eye(4), torch.randn(4, 6)
    coo = torch.sparse_coo_tensor(torch.tensor([[0, 1, 1], [2, 0, 2]]), torch.tensor([3.0, 4, 5]), (2, 3), check_invariants=True)
    return {
        "coo": coo,
        "coalesced": coo.coalesce(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((2, 2)),
        "bsc": dense.to_sparse_bsc((2, 2)),
        "nested": torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)]),
        "affine": torch.quantize_per_tensor(rows, 0.1, 3, torch.quint8),
        "q32": torch.quantize_per_tensor(rows, 0.1, 0, torch.qint32),
        "channels": torch.quantize_per_channel(rows, torch.rand(4).double() + 0.1, torch.zeros(4).long(), 0, torch.qint8),
        "meta": torch.empty(3, 4, device="meta"),
    }


def scalars() -> Any:
    return {
        "floats": [0.1, -0.0, math.inf, -math.inf, nan(0x7FF8000000000001), nan(0xFFF8DEAD0000BEEF), 5e-324],
        "ints": [0, -1, 2**53, -(2**53), 2**63, -(2**200), 2**3000],
        "flags": [True, False, None],
        "complex": [1j, complex(-0.0, math.nan)],
        "texts": ["", "\ud800", "\ud83d\ude00", "a" * 500, "\x00\u2028"],
        "bytes": [b"", b"\x00\xff", b"z" * 5000, bytearray(b"q" * 3000)],
    }


def containers() -> Any:
    circle: list[Any] = [1]
    circle.append(circle)
    knot: tuple[list[Any]] = ([],)
    knot[0].append(knot)
    me: dict[str, Any] = {}
    me["self"] = me
    shared = [1, 2]
    table = collections.defaultdict(list, a=[1])
    ordered = collections.OrderedDict(b=torch.randn(2), a=2)
    ordered._metadata = collections.OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return {
        "circle": circle,
        "knot": knot,
        "me": me,
        "shared": (shared, shared),
        "table": table,
        "ordered": ordered,
        "counter": collections.Counter("abca"),
        "set": {1, "a", (1, 2), None, 2.5},
        "deque": collections.deque([1, 2], 5),
        "frozen": frozenset([1, frozenset(["q"])]),
        1: "int",
        (1, "k"): "tuple",
        2.5: "float",
        None: 0,
        "empty": [(), [], {}, set()],
        "range": range(1, 10, 2),
        "slice": slice(None, 3, None),
        "types": [list, dict, int, ...],
    }


def library() -> Any:
    zone = dt.timezone(dt.timedelta(hours=1), "X")
    return {
        "when": dt.datetime(2020, 1, 2, 3, 4, 5, 6, zone),
        "fold": dt.datetime(2020, 1, 1, fold=1, tzinfo=dt.UTC),
        "day": dt.date(2020, 1, 1),
        "time": dt.time(1, 2, 3, 4, zone),
        "delta": dt.timedelta(-1, 5, 7),
        "decimal": decimal.Decimal("1.10"),
        "fraction": fractions.Fraction(3, 7),
        "uuid": uuid.UUID(int=5),
        "path": pathlib.PurePosixPath("a/b"),
        "torch": [torch.float32, torch.Size([1, 2]), torch.device("cuda:1"), torch.strided, torch.per_tensor_affine],
        "storages": [torch.randn(3).untyped_storage(), torch.randn(3).storage()],
    }


def arrays() -> Any:
    structure = np.zeros(3, dtype=[("x", "<i4"), ("y", "<f8", (2,))])
    return {
        "array": np.arange(6).reshape(2, 3),
        "fortran": np.asfortranarray(np.random.default_rng(1).normal(size=(3, 4))),
        "scalar": np.float32(1.5),
        "dtype": np.dtype("<f4"),
        "structure": structure,
        "dates": np.array(["2020-01-01"], dtype="M8[D]"),
        "texts": np.array(["a", "bc"]),
        "generators": [np.random.RandomState(1), np.random.default_rng(2)],
        "big": np.zeros(1000),
        "none": np.zeros((0, 3)),
    }


class Unknown:
    """A class that nobody here knows."""


def unknown() -> Any:
    node = Unknown()
    node.__dict__.update(x=1, me=node, w=torch.randn(3), space=argparse.Namespace(a=1, b=[node]))
    return {"node": node, "class": Unknown}


def training() -> Any:
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    )
    optimizer = torch.optim.Adam(model[0].parameters())
    model[0](torch.randn(2, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "epoch": 3}


def names() -> Any:
    return {
        "a.b": torch.randn(2),
        "a": {"b": torch.randn(3)},
        "__metadata__": torch.randn(1),
        "": torch.randn(1),
        "\ud800x": torch.randn(2),
        "x" * 3000: torch.randn(1),
        "w#2": torch.randn(1),
        "w": torch.randn(1),
        "é\n\x1b": torch.randn(1),
    }


def deep() -> Any:
    top: list[Any] = []
    at = top
    for _ in range(200):
        at.append([])
        at = at[0]
    at.append(torch.randn(2))
    return top


CASES: dict[str, Callable[[], Any]] = {
    **{f"layouts of {name}": (lambda name=name: layouts(name)) for name in DTYPES},  # type: ignore[misc]
    **{
        case.__name__: case
        for case in (sharing, lazy_signs, parameters, composite, scalars, containers, library, arrays, unknown, training, names, deep)
    },
    "module": lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)),
    "one tensor": lambda: torch.randn(3),
    "one number": lambda: 5,
    "nothing": dict,
}


def saved(path: Path, value: Any, **how: Any) -> Path:
    torch.save(value, path, **how)
    return path


@pytest.mark.parametrize(
    "how", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}], ids=["zip", "legacy", "protocol 4"]
)
@pytest.mark.parametrize("case", CASES)
def test_a_converted_file_gives_back_the_object(case: str, how: dict[str, Any], tmp_path: Path) -> None:
    """Keys, order, bits, strides, sharing, identity, types, attributes; and the same again by way of an export."""
    torch.manual_seed(6)
    source = saved(tmp_path / "in.pt", CASES[case](), **how)
    expected = build(source, unknown="inert")
    convert(source)
    assert_same(expected, load_converted(tmp_path / "in.safetensors", unknown="inert"))
    assert check(source, tmp_path / "in.safetensors").same
    asked = safeload.scan(source).unmodelled
    grants = {"allow-globals": [name for name in asked if denied_reason(name) is None]}
    if len(grants["allow-globals"]) < len(asked):
        with pytest.raises(RefusedError):
            export(tmp_path / "in.safetensors", tmp_path / "back.pt", policy=grants)
        return
    export(tmp_path / "in.safetensors", tmp_path / "back.pt", policy=grants)
    assert_same(build(tmp_path / "back.pt", unknown="inert"), load_converted(tmp_path / "in.safetensors", unknown="inert"))


@pytest.mark.parametrize("parts", ["one file", "a manifest beside it", "several files"])
@pytest.mark.parametrize("case", ["sharing", "parameters", "training", "lazy_signs", "composite", "names"])
def test_torch_loads_an_export_with_weights_only(case: str, parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is locked in, by whatever a conversion wrote."""
    monkeypatch.setattr(job, "SIDECAR_BYTES", 8 << 20 if parts == "one file" else 10)
    source = saved(tmp_path / "in.pt", CASES[case]())
    made = convert(source, max_shard_size=1 if parts == "several files" else None).paths
    export(made[-1] if parts == "several files" else made[0], tmp_path / "back.pt")
    assert_same(torch.load(source, weights_only=True), torch.load(tmp_path / "back.pt", weights_only=True))


@pytest.mark.parametrize(
    "case", ["sharing", "training", "lazy_signs", *(f"layouts of {name}" for name in ("float32", "bfloat16", "complex64"))]
)
def test_other_readers_see_the_right_values(case: str, tmp_path: Path) -> None:
    """An entry under a tensor's name holds that tensor's numbers: transposed, conjugated, whatever it is."""
    from safetensors.torch import load_file

    value = CASES[case]()
    result = convert(saved(tmp_path / "in.pt", value))
    seen = load_file(tmp_path / "in.safetensors")
    named = dict(flat("", value))
    checked = 0
    for name in result.kept:
        # complex128 and complex32 have no name in the format: they travel as bytes
        if name in named and seen[name].dtype == named[name].dtype:
            assert seen[name].shape == named[name].shape
            assert bits(seen[name]) == bits(named[name].resolve_conj().resolve_neg())
            checked += 1
    assert checked > 1


def bits(tensor: Any) -> bytes:
    raw: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return raw


def flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, torch.Tensor):
        return [(prefix, value)]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else []
    return [found for key, item in pairs for found in flat(f"{prefix}.{key}" if prefix else str(key), item)]


def test_weights_alone_are_contiguous_under_their_names(tmp_path: Path) -> None:
    """What `from_pretrained` reads: no optimiser, no gaps, of tied weights one."""
    from safetensors.torch import load_file

    model = torch.nn.Sequential(collections.OrderedDict(a=torch.nn.Linear(3, 3), b=torch.nn.Linear(3, 3)))
    model.b.weight = model.a.weight
    state = model.state_dict()
    state["t"] = torch.arange(6.0).view(2, 3).t()
    state["step"] = torch.arange(10.0)[::3]
    source = saved(tmp_path / "in.pt", {"state_dict": state, "optimizer": {"state": {0: torch.randn(3)}}, "epoch": 1})
    result = convert(source, transformers=True)
    assert dict(result.left_out) == {"b.weight": "it is the same tensor as a.weight"}
    seen = load_file(tmp_path / "in.safetensors")
    assert set(seen) == {"a.weight", "a.bias", "b.bias", "t", "step"}
    for name, tensor in seen.items():
        assert torch.equal(tensor, state[name])
    assert check(source, tmp_path / "in.safetensors").same
    loaded = load_converted(tmp_path / "in.safetensors")
    assert list(loaded) == list(state)
    assert loaded["b.weight"].data_ptr() == loaded["a.weight"].data_ptr()


def test_every_name_that_other_readers_do_not_see_is_said(tmp_path: Path) -> None:
    """A tensor that stands under two names has one entry."""
    weight = torch.randn(2, 2)
    result = convert(saved(tmp_path / "in.pt", {"w": weight, "tied": weight, "row": weight[1]}))
    assert result.kept == ("w",)
    assert dict(result.carried) == {"tied": "it is the same tensor as w", "row": "it shares its elements with another tensor"}


def test_an_expanded_tensor_does_not_fill_the_disk(tmp_path: Path) -> None:
    """A byte that is expanded to a terabyte stays a byte, and as a weight it is refused."""
    source = saved(tmp_path / "in.pt", {"w": torch.zeros(1).expand(1 << 40)})
    assert convert(source).files[0].size < 10_000
    with pytest.raises(Exception, match="bytes of weights"):
        convert(source, tmp_path / "w.safetensors", state_dict=True)


def test_a_hidden_tail_of_a_storage_is_kept(tmp_path: Path) -> None:
    """Bytes that no view reaches are part of the storage."""
    whole = torch.arange(1000.0)
    source = saved(tmp_path / "in.pt", {"w": whole[:2]})
    convert(source)
    assert load_converted(tmp_path / "in.safetensors")["w"].untyped_storage().nbytes() == 4000


def test_large_transposed_tensors_go_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are gathered from the disk, in blocks."""
    from safeload.conversion import writing

    monkeypatch.setattr(writing, "_IN_MEMORY", 1000)
    value = {"w": torch.randn(300, 200).t()}
    source = saved(tmp_path / "in.pt", value)
    convert(source)
    assert_same(build(source), load_converted(tmp_path / "in.safetensors"))


def test_a_tar_checkpoint_keeps_its_slices(tmp_path: Path) -> None:
    """The oldest files have storages that are slices of storages."""
    from tests.forge_tar_checkpoint import example

    source = tmp_path / "old.tar"
    source.write_bytes(example().file())
    convert(source)
    assert_same(build(source), load_converted(tmp_path / "old.safetensors"))
    assert check(source, tmp_path / "old.safetensors").same


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_an_npz_become_tensors(tmp_path: Path, *, compressed: bool) -> None:
    """Numbers of any order in memory; texts and structures are named as left out."""
    from safetensors.torch import load_file

    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
        "n": np.array(5, dtype="u1"),
        "e": np.zeros((0, 3), dtype="f4"),
        "b": np.array([True, False]),
        "far": np.arange(300_001, dtype=">f4"),
        "far in order": np.asfortranarray(np.arange(6.0).reshape(2, 3)).astype(">f8"),
        "pairs": (np.arange(5) + 1j).astype(">c8"),
        "long": np.arange(500_001),
    }
    (np.savez_compressed if compressed else np.savez)(tmp_path / "x.npz", **arrays, text=np.array(["a"]))
    result = convert(tmp_path / "x.npz")
    assert dict(result.left_out).keys() == {"text"}
    seen = load_file(tmp_path / "x.safetensors")
    assert seen.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(seen[name].numpy(), array)
        assert seen[name].numpy().dtype == array.dtype.newbyteorder("=")
    found = check(tmp_path / "x.npz", tmp_path / "x.safetensors")
    assert found.same
    assert dict(found.left_out).keys() == {"text"}
    np.save(tmp_path / "y.npy", arrays["a"])
    convert(tmp_path / "y.npy")
    assert list(load_file(tmp_path / "y.safetensors")) == ["array"]
