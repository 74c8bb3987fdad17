"""What is built is what `torch.load` gives: values, strides, aliasing, identity, types, attributes."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import safeload  # noqa: E402
from safeload.build.granted import safe_global_names  # noqa: E402
from safeload.build.storages import read_storages  # noqa: E402
from safeload.errors import (  # noqa: E402
    LimitError,
    MalformedError,
    RefusedError,
    SafeloadError,
    UnsupportedError,
    UsageError,
)
from safeload.formats import read  # noqa: E402
from safeload.program import Inert, Region, StorageSpec  # noqa: E402
from safeload.source import Source  # noqa: E402
from tests.compare import assert_same  # noqa: E402
from tests.forge_build import build, checkpoint, saved, torch_zip  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")]

PLAIN = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64", "int64", "int32", "int16", "int8", "uint8", "bool")
# Their storages are untyped in the file; torch saves them as legacy streams and cannot load those.
NEWER: tuple[str, ...] = (
    "complex32", "uint64", "uint32", "uint16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2", "bcomplex32",
)  # fmt: skip
NEWER = tuple(name for name in NEWER if hasattr(torch, name))


def row(count: int = 4) -> Any:
    return torch.arange(float(count))


def table() -> Any:
    return torch.arange(12.0).reshape(3, 4)


def sparse(layout: Any) -> Any:
    dense = torch.eye(4) * torch.arange(1.0, 5.0)
    return dense.to_sparse(layout=layout, blocksize=(2, 2) if layout in (torch.sparse_bsr, torch.sparse_bsc) else None)


def of_dtype(name: str) -> Any:
    if name == "bool":
        return torch.tensor([True, False, True])
    return torch.arange(64, dtype=torch.uint8).view(getattr(torch, name))


def with_attribute(tensor: Any, **state: Any) -> Any:
    for name, value in state.items():
        setattr(tensor, name, value)
    return tensor


def views() -> Any:
    base = table()
    return {"whole": base, "row": base[1], "turned": base.t(), "every second": base[:, ::2], "again": base}


def tied() -> Any:
    weight = torch.nn.Parameter(row())
    return {"a": weight, "b": weight, "data": weight.data, "list": [weight]}


def loop() -> Any:
    data: list[Any] = [row()]
    data.append(data)
    return data


def trained() -> Any:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}


KINDS: dict[str, Callable[[], Any]] = {
    "tensor": row,
    "state dict": trained,
    "views of one storage": views,
    "tied": tied,
    "recursive": loop,
    "expanded": lambda: torch.ones(1, 3).expand(4, 3),
    "channels last": lambda: torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "empty": lambda: [torch.empty(0), torch.empty(0, 3)],
    "0-dim": lambda: torch.tensor(3.0),
    "requires grad": lambda: torch.ones(3, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(row(), requires_grad=False),
    "parameter with attributes": lambda: with_attribute(torch.nn.Parameter(row()), sharded=[1, {"a": 2}]),
    "tensor with attributes": lambda: with_attribute(row(), note="x", other=table()),
    "buffer": lambda: torch.nn.Buffer(row(), persistent=False),
    "conj": lambda: torch.tensor([1 + 2j]).conj(),
    "neg": lambda: torch.tensor([1 + 2j]).conj().imag,
    "typed storage": lambda: [row()._typed_storage(), torch.ones(2, dtype=torch.int32)._typed_storage()],
    "size, device, layout": lambda: [torch.Size([1, 2]), torch.device("cuda", 1), torch.sparse_coo, torch.strided],
    "dtypes": lambda: [torch.float32, torch.int4, torch.qint8, torch.bits8],
    "quantisation schemes": lambda: [torch.per_channel_affine, torch.per_tensor_symmetric],
    "meta": lambda: torch.empty(3, 2, device="meta"),
    "coo": lambda: sparse(torch.sparse_coo),
    "coo, not coalesced": lambda: torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2)),
    "csr": lambda: sparse(torch.sparse_csr),
    "csc": lambda: sparse(torch.sparse_csc),
    "bsr": lambda: sparse(torch.sparse_bsr),
    "bsc": lambda: sparse(torch.sparse_bsc),
    "csr in a batch": lambda: torch.tensor([[[0.0, 1], [2, 0]], [[3, 0], [0, 4]]]).to_sparse_csr(),
    "per tensor": lambda: torch.quantize_per_tensor(torch.rand(3, 4), 0.1, 3, torch.quint8),
    "per channel": lambda: torch.quantize_per_channel(torch.rand(3, 4), torch.rand(4), torch.zeros(4), 1, torch.qint8),
    "four bits": lambda: torch.quantize_per_channel(torch.rand(5, 4), torch.rand(5), torch.rand(5), 0, torch.quint4x2),
    "two bits": lambda: torch.quantize_per_channel(torch.rand(5, 4), torch.rand(5), torch.rand(5), 0, torch.quint2x4),
    "counter, set, bytes": lambda: [collections.Counter("abca"), {1, 2}, b"\x00\xff", bytearray(b"x"), 1 + 2j],
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
def test_same_as_torch(kind: str, *, legacy: bool) -> None:
    raw = saved(KINDS[kind](), legacy=legacy)
    assert_same(torch.load(io.BytesIO(raw), weights_only=True), build(raw))


@pytest.mark.parametrize("name", PLAIN + NEWER)
def test_every_dtype_in_a_zip(name: str) -> None:
    raw = saved(of_dtype(name))
    assert_same(torch.load(io.BytesIO(raw), weights_only=True), build(raw))


@pytest.mark.parametrize("name", PLAIN + NEWER)
def test_every_dtype_in_a_legacy_stream(name: str) -> None:
    """PyTorch itself writes the newer ones and cannot read them."""
    value = of_dtype(name)
    assert_same(value, build(saved(value, legacy=True)))


@pytest.mark.parametrize("state", [[1, 2, None], {"dim": 1, "min": 2, "max": None}], ids=["2.7", "2.6"])
def test_a_range_of_a_dimension_as_each_release_writes_it(state: Any) -> None:
    """Jagged tensors carry them. Their class became one with slots in torch 2.7, and its state another."""
    raw = pickle.dumps(state, 2)[2:-1]
    made = build(b"\x80\x02ctorch._dynamo.decorators\n_DimRange\n)\x81" + raw + b"b.")
    assert (type(made).__name__, made.dim, made.min, made.max) == ("_DimRange", 1, 2, None)
    for wrong in ({"dim": 1}, {"dim": "x", "min": 1, "max": 1}, [1], ()):
        with pytest.raises(MalformedError):
            build(b"\x80\x02ctorch._dynamo.decorators\n_DimRange\n)\x81" + pickle.dumps(wrong, 2)[2:-1] + b"b.")


def test_nested_tensors_of_both_kinds() -> None:
    """The legacy form of a strided one makes torch read tables that it has not loaded yet."""
    rows = [torch.ones(2, 3), torch.arange(3.0).reshape(1, 3)]
    strided = torch.nested.nested_tensor(rows)
    for legacy in (False, True):
        assert_same(strided, build(saved(strided, legacy=legacy)))
    jagged = with_attribute(torch.nested.nested_tensor(rows, layout=torch.jagged), note=3)
    found = build(saved(jagged))
    assert type(found) is type(jagged)
    assert found.note == 3
    assert_same([part.clone() for part in jagged.unbind()], [part.clone() for part in found.unbind()])


def test_generators_go_on_where_they_were() -> None:
    """PyTorch saves them and refuses to load them again."""
    value = torch.Generator().manual_seed(5)
    torch.rand(3, generator=value)
    found = build(saved({"g": value}))["g"]
    assert found.initial_seed() == 5
    assert torch.equal(torch.rand(9, generator=value), torch.rand(9, generator=found))
    stream, storages = checkpoint(saved(value))
    with pytest.raises(MalformedError):
        build(torch_zip(stream, {key: b"\xff" * len(data) for key, data in storages.items()}))


@pytest.mark.slow
def test_distributed_tensors_when_the_program_has_imported_them() -> None:
    """Importing `torch.distributed.tensor` puts its classes on torch's list of safe globals; that is what grants them."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no distributed part")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        value = DTensor.from_local(torch.ones(2, 3), init_device_mesh("cpu", (2,)), [Shard(0)])
        found = build(saved(value), grants=safe_global_names())
        assert type(found) is DTensor
        assert (found.shape, found.placements, found.device_mesh) == (value.shape, value.placements, value.device_mesh)
        assert_same(torch.ones(2, 3), found.to_local())
    finally:
        torch.distributed.destroy_process_group()


def test_parameters_are_parameters_and_hooks_are_none() -> None:
    found = build(saved(torch.nn.Parameter(row())))
    assert type(found) is torch.nn.Parameter
    assert found._backward_hooks == collections.OrderedDict()


def test_storages_can_grow() -> None:
    """Programs resize what they loaded; memory that belongs to something else could not."""
    found = build(saved(row()))
    assert found.untyped_storage().resizable()
    found.resize_(100)


def test_the_caller_verifies_when_all_bytes_are_read_and_nothing_is_made() -> None:
    raw = saved({"a": table()})
    calls = []

    class StopError(Exception):
        pass

    def before_build() -> None:
        calls.append("verified")
        raise StopError

    with pytest.raises(StopError):
        build(raw, before_build=before_build, map_location=lambda storage, tag: calls.append("placed"))
    assert calls == ["verified"]


def test_the_digest_is_taken_from_the_memory_of_the_tensors(tmp_path: Path) -> None:
    """A file that changes after it was read changes neither the digest nor the tensors."""
    path = tmp_path / "m.pt"
    raw = saved(torch.arange(100_000))
    path.write_bytes(raw)
    with Source.open(path) as source:
        contents = read(source)
        assert contents is not None
        bank = read_storages(source, contents.storages)
        path.write_bytes(bytes(len(raw)))
        with Source.open(raw) as before:
            assert source.sha256 == before.sha256
        assert bank.untyped(contents.storages[0]).nbytes() == 800_000


# ---- big-endian


@pytest.mark.parametrize("name", ["float32", "int64", "complex64", "int16", "uint8"])
def test_bytes_of_the_other_order_are_swapped(name: str) -> None:
    value = torch.tensor([1, 2, 300]).to(getattr(torch, name))
    stream, storages = checkpoint(saved(value))
    size = torch.empty(0, dtype=value.dtype).element_size() // (2 if value.is_complex() else 1)
    swapped = b"".join(storages["0"][at : at + size][::-1] for at in range(0, len(storages["0"]), size))
    assert_same(value, build(torch_zip(stream, {"0": swapped}, byteorder="big")))


# ---- mapping


def test_a_mapped_file_gives_the_same_and_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(saved(views()))
    before = path.read_bytes()
    found = build(path, mmap=True)
    assert_same(torch.load(path, mmap=True), found)
    found["whole"].fill_(7)
    assert path.read_bytes() == before


def test_a_mapped_file_is_hashed_through_its_mapping(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(saved(row(1000)))
    digests = []
    with Source.open(path) as source:
        contents = read(source)
        assert contents is not None
        bank = read_storages(source, contents.storages, mapped=True)
        digests.append(source.sha256)
        del bank
    with Source.open(path.read_bytes()) as source:
        digests.append(source.sha256)
    assert digests[0] == digests[1]


def test_a_shared_mapping_writes_through(tmp_path: Path) -> None:
    """That is what the program asked for; the CRC in the archive is wrong from then on."""
    mmap = pytest.importorskip("mmap")
    path = tmp_path / "m.pt"
    path.write_bytes(saved(row()))
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        build(path, mmap=True).fill_(5)
    assert_same(torch.full((4,), 5.0), build(path, mmap=True))
    with pytest.raises(MalformedError, match="have CRC"):
        build(path)


def test_a_deflated_archive_is_copied_instead_of_mapped(tmp_path: Path) -> None:
    """PyTorch maps the compressed bytes and says nothing."""
    value = torch.zeros(1000)
    path = tmp_path / "m.pt"
    path.write_bytes(torch_zip(*checkpoint(saved(value)), method=zipfile.ZIP_DEFLATED))
    assert_same(value, build(path, mmap=True))
    assert_same(value, build(path))


def test_storages_that_are_not_aligned_are_copied(tmp_path: Path) -> None:
    value = torch.arange(5)
    stream, storages = checkpoint(saved(value))
    for extra in range(4):
        path = tmp_path / f"{extra}.pt"
        path.write_bytes(torch_zip(stream + b"", {"x" * extra: b"", **storages}))
        assert_same(value, build(path, mmap=True))


def test_what_cannot_be_mapped_says_so_as_torch_does(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="f must be a file path in order to use the mmap argument"):
        build(saved(row()), mmap=True)
    path = tmp_path / "m.pt"
    path.write_bytes(saved(row(), legacy=True))
    with pytest.raises(RuntimeError, match="mmap can only be used with files saved with"):
        build(path, mmap=True)
    with torch.utils.serialization.config.patch({"load.mmap": True}):
        assert_same(row(), build(path))
        assert_same(row(), build(saved(row())))


# ---- modes of torch


def test_fake_tensors_have_no_memory_and_keep_their_device() -> None:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    raw = saved({"w": table(), "p": torch.nn.Parameter(row())})
    with FakeTensorMode():
        found, expected = build(raw), torch.load(io.BytesIO(raw), weights_only=True)
    for name in ("w", "p"):
        assert isinstance(found[name], FakeTensor) or type(found[name]) is type(expected[name])
        assert (found[name].shape, found[name].stride(), found[name].device) == (
            expected[name].shape,
            expected[name].stride(),
            expected[name].device,
        )
        ours, theirs = found[name].untyped_storage(), expected[name].untyped_storage()
        assert ours._checkpoint_offset == theirs._checkpoint_offset


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_skip_data_gives_the_shapes(*, legacy: bool) -> None:
    raw = saved({"w": table()}, legacy=legacy)
    with torch.serialization.skip_data():
        found = build(raw)
    assert found["w"].shape == (3, 4)


# ---- hostile values


def parts(value: Any) -> tuple[bytes, dict[str, bytes]]:
    return checkpoint(saved(value))


def int64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)


def over(storages: dict[str, bytes], key: str, *numbers: int) -> dict[str, bytes]:
    """The storages with the first numbers of one of them replaced."""
    data = int64(*numbers)
    return {**storages, key: data + storages[key][len(data) :]}


@pytest.mark.parametrize("indices", [(0, 9), (-1, 0), (1, 1 << 40)])
def test_coo_indices_must_lie_inside(indices: tuple[int, int]) -> None:
    """CVE-2025-62164, pytorch pull request #184750: `to_dense()` writes wherever they point to."""
    stream, storages = parts(torch.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (3,)))
    with pytest.raises(MalformedError, match="outside a tensor of shape") as caught:
        build(torch_zip(stream, {**storages, "0": int64(*indices)}))
    assert caught.value.rule == "SL301"


def test_coalesced_is_not_believed() -> None:
    stream, storages = parts(torch.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (3,)).coalesce())
    with pytest.raises(MalformedError, match="out of order or twice"):
        build(torch_zip(stream, {**storages, "0": int64(1, 1)}))


@pytest.mark.parametrize(
    ("key", "numbers", "says"),
    [
        ("0", (0, 1, 5, 3, 4), "do not go from 0"),
        ("0", (0, 1, 2, 3, 5), "do not go from 0"),
        ("0", (1, 1, 2, 3, 4), "do not go from 0"),
        ("0", (0, 3, 2, 3, 4), "do not go from 0"),
        ("1", (0, 1, 2, 4), "outside of 4"),
        ("1", (0, 1, -2, 3), "outside of 4"),
    ],
)
@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_csc])
def test_compressed_indices_must_lie_inside(layout: Any, key: str, numbers: tuple[int, ...], says: str) -> None:
    """As above, for the compressed layouts."""
    value = torch.sparse_compressed_tensor(torch.arange(5), torch.arange(4), row(), (4, 4), layout=layout)
    stream, storages = parts(value)
    with pytest.raises(MalformedError, match=says):
        build(torch_zip(stream, over(storages, key, *numbers)))


def test_plain_indices_of_one_line_must_be_in_order() -> None:
    stream, storages = parts(torch.sparse_csr_tensor([0, 2, 2], [0, 1], [1.0, 2.0], (2, 2)))
    with pytest.raises(MalformedError, match="out of order"):
        build(torch_zip(stream, over(storages, "1", 1, 0)))


@pytest.mark.parametrize(("key", "at"), [("1", 0), ("2", 0), ("3", 1)])
def test_rows_of_nested_tensors_must_lie_inside(key: str, at: int) -> None:
    """The tables of a nested tensor are pointers into its buffer."""
    stream, storages = parts(torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]))
    numbers = bytearray(storages[key])
    numbers[8 * at : 8 * at + 8] = int64(1 << 20)
    with pytest.raises(MalformedError, match="reaches outside its buffer"):
        build(torch_zip(stream, {**storages, key: bytes(numbers)}))


def test_rows_of_jagged_tensors_must_lie_inside() -> None:
    stream, storages = parts(torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged))
    with pytest.raises(MalformedError, match="row of a jagged tensor"):
        build(torch_zip(stream, {**storages, "1": int64(0, 2, 4)}))


def test_quantiser_parameters_must_be_numbers() -> None:
    stream, storages = parts(torch.quantize_per_channel(torch.rand(3, 4), torch.rand(4), torch.zeros(4), 1, torch.qint8))
    with pytest.raises(MalformedError, match="no finite numbers"):
        build(torch_zip(stream, {**storages, "1": b"\xff" * 16}))


def test_a_quantised_shape_does_not_allocate() -> None:
    """Strides of 0 make any shape fit its storage; a full tensor of it would not fit into memory."""
    value = torch.quantize_per_tensor(torch.rand(2), 0.1, 3, torch.quint8)
    stream, storages = parts(value)
    huge = stream.replace(b"K\x02\x85", b"J\xff\xff\xff\x7f\x85").replace(b"K\x01\x85", b"K\x00\x85")
    assert build(torch_zip(huge, storages)).shape == (0x7FFFFFFF,)


@pytest.mark.parametrize("name", ["numpy", "data_ptr", "__class__", "grad"])
def test_attributes_may_not_hide_what_the_class_has(name: str) -> None:
    """`t.numpy = …` in a file would be called by the program that loaded it."""
    value = with_attribute(row(), placeholder=1)
    raw = saved(value)
    stream, storages = checkpoint(raw)
    hidden = stream.replace(b"X\x0b\x00\x00\x00placeholder", b"X" + len(name).to_bytes(4, "little") + name.encode())
    with pytest.raises(MalformedError, match="attribute") as caught:
        build(torch_zip(hidden, storages))
    assert caught.value.rule == "SL105"


def test_backward_hooks_are_never_taken() -> None:
    """Autograd would call them."""
    stream, storages = parts(row())
    at = stream.index(b")Rq", stream.index(b"OrderedDict"))
    hooked = stream[: at + 2] + b"X\x01\x00\x00\x00aX\x01\x00\x00\x00bs" + stream[at + 2 :]
    with pytest.raises(MalformedError, match="backward hooks"):
        build(torch_zip(hooked, storages))


def test_a_storage_of_another_size_is_refused_before_it_is_allocated() -> None:
    spec = StorageSpec("0", "float32", 1 << 40, 4 << 40, "cpu", Region(0, 8))
    with Source.open(bytes(100)) as source, pytest.raises(MalformedError, match="its record has 8"):
        read_storages(source, [spec])
    outside = StorageSpec("0", "uint8", 1 << 50, 1 << 50, "cpu", Region(0, 1 << 50))
    with Source.open(bytes(100)) as source, pytest.raises(MalformedError, match="the file has 100"):
        read_storages(source, [outside])


def test_memory_that_is_not_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*args: Any, **keywords: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    raw = saved(row())
    monkeypatch.setattr(torch, "UntypedStorage", no_memory)
    with pytest.raises(LimitError, match="does not fit into memory"):
        build(raw)


def test_a_wrong_crc_is_refused() -> None:
    raw = bytearray(saved(torch.arange(1000)))
    at = raw.index((500).to_bytes(8, "little") + (501).to_bytes(8, "little"))
    raw[at] ^= 1
    with pytest.raises(MalformedError, match="have CRC") as caught:
        build(bytes(raw))
    assert caught.value.rule == "SL209"


# ---- old streams


def global_(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


STORAGE = b"(X\x07\x00\x00\x00storage" + global_("torch", "FloatStorage") + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


def test_tensors_of_the_oldest_releases_take_their_state_in_place() -> None:
    """The memo holds the empty tensor when the state comes: both names must be one object."""
    empty = b"\x80\x02]q\x00(" + global_("torch", "FloatTensor") + b")\x81q\x01"
    stream = empty + b"(" + STORAGE + b"K\x01K\x03\x85K\x01\x85tbh\x01e."
    found = build(torch_zip(stream, {"0": row().numpy().tobytes()}))
    assert found[0] is found[1]
    assert (found[0].tolist(), found[0].storage_offset()) == ([1.0, 2.0, 3.0], 1)


def test_a_tensor_takes_its_state_once() -> None:
    state = b"(" + STORAGE + b"K\x01K\x03\x85K\x01\x85tb"
    stream = b"\x80\x02" + global_("torch", "FloatTensor") + b")\x81" + state + state + b"."
    with pytest.raises(MalformedError, match="state"):
        build(torch_zip(stream, {"0": bytes(16)}))


@pytest.mark.parametrize("flag", [b"\x88", b"\x89"])
def test_parameters_of_old_releases_take_their_flag(flag: bytes) -> None:
    """PyTorch 0.2 and 0.3: Parameter(tensor), then (requires_grad, volatile, hooks)."""
    tensor = global_("torch._utils", "_rebuild_tensor") + b"(" + STORAGE + b"K\x00K\x04\x85K\x01\x85tR"
    stream = b"\x80\x02" + global_("torch.nn.parameter", "Parameter") + tensor + b"\x85R(" + flag + b"\x89)Rtb."
    stream = stream.replace(b")Rtb", global_("collections", "OrderedDict") + b")Rtb")
    found = build(torch_zip(stream, {"0": bytes(16)}))
    assert type(found) is torch.nn.Parameter
    assert found.requires_grad is (flag == b"\x88")


# ---- tables


def test_safetensors_give_a_dict_of_tensors() -> None:
    save = pytest.importorskip("safetensors.torch").save
    value = {"b": table(), "a": torch.arange(3), "e": torch.empty(0, 2)}
    assert_same(torch.load(io.BytesIO(saved(value)))["b"], build(save(value))["b"])
    assert {name: tensor.shape for name, tensor in build(save(value)).items()} == {name: value[name].shape for name in ("a", "b", "e")}


def test_safetensors_can_be_mapped(tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch").save
    path = tmp_path / "m.safetensors"
    path.write_bytes(save({"a": table()}))
    assert_same(table(), build(path, mmap=True)["a"])


# ---- the unknown


class Thing:
    pass


def test_what_is_not_modelled_is_refused_or_inert() -> None:
    raw = saved({"w": row(), "x": Thing()})
    with pytest.raises(RefusedError) as caught:
        build(raw)
    assert caught.value.globals == ("tests.unit.test_torch_build.Thing",)
    found = build(raw, unknown="inert")
    assert_same(row(), found["w"])
    assert isinstance(found["x"], Inert)
    assert found["x"].global_name == "tests.unit.test_torch_build.Thing"


def test_a_tensor_of_an_unknown_class_is_inert_around_a_tensor() -> None:
    class Mine(torch.Tensor):  # type: ignore[misc, name-defined]
        pass

    Mine.__module__, Mine.__qualname__ = __name__, "Mine"
    globals()["Mine"] = Mine
    raw = saved(torch.ones(3).as_subclass(Mine))
    with pytest.raises(SafeloadError):
        build(raw)
    found = build(raw, unknown="inert")
    assert isinstance(found, Inert)
    assert found.args is not None
    assert_same(torch.ones(3), found.args[0])
    granted = build(raw, grants={f"{__name__}.Mine"})
    assert type(granted) is Mine


def test_errors_name_the_member_and_the_offset() -> None:
    stream, storages = parts(row())
    with pytest.raises(MalformedError) as caught:
        build(torch_zip(stream.replace(b"K\x04\x85", b"K\x05\x85"), storages))
    assert caught.value.where.startswith("!a/data.pkl@")
    assert caught.value.rule == "SL301"
    # a call inside a call knows the offset twice
    stream, storages = parts(with_attribute(row(), note=1))
    with pytest.raises(MalformedError) as caught:
        build(torch_zip(stream.replace(b"K\x04\x85", b"K\x05\x85"), storages))
    assert caught.value.where.count("@") == 1


def test_an_old_torch_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    with pytest.raises(UnsupportedError, match=r"torch 2\.5\.1 is too old"):
        build(saved(row()))


def test_a_pickle_without_tensors_is_built_too() -> None:
    assert build(pickle.dumps([1, "two", None])) == [1, "two", None]


def test_an_integer_tensor_that_requires_a_gradient_is_refused_by_us() -> None:
    """torch raises a bare RuntimeError for it; a damaged flag (NEWFALSE to NEWTRUE) is enough."""
    buffer = io.BytesIO()
    torch.save(torch.arange(3), buffer, _use_new_zipfile_serialization=False)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\x89", data.index(b"_rebuild_tensor_v2"))
    data[at] = 0x88
    with pytest.raises(MalformedError, match=r"requires? (a gradient|gradients)"):
        safeload.load(io.BytesIO(bytes(data)), policy={}, lock=False)
    report = safeload.scan(bytes(data), policy={}, lock=False)
    assert "SL303" in {found.rule for found in report.findings}
