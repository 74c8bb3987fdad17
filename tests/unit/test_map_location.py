"""`map_location` in all its forms: what torch does, and what it meant to do where it trips."""

from __future__ import annotations

import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safeload.errors import ArgumentError, SafeloadError, UnsupportedError  # noqa: E402
from tests.compare import assert_same  # noqa: E402
from tests.forge_build import build, checkpoint, saved, torch_zip  # noqa: E402

pytestmark = pytest.mark.torch

FORMS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def model() -> Any:
    base = torch.arange(12.0).reshape(3, 4)
    return {"base": base, "row": base[1], "p": torch.nn.Parameter(torch.ones(2)), "empty": [torch.empty(0), torch.empty(0)]}


def tagged(tag: str) -> bytes:
    """A checkpoint whose storages were saved from a device that is not here."""
    stream, storages = checkpoint(saved({"w": torch.arange(4.0)}))
    return torch_zip(stream.replace(b"X\x03\x00\x00\x00cpu", b"X" + len(tag).to_bytes(4, "little") + tag.encode()), storages)


@FORMS
@pytest.mark.parametrize(
    "where",
    [None, "cpu", torch.device("cpu"), {}, {"cpu": "cpu"}, {"cuda:0": "cpu"}, lambda storage, tag: None, lambda storage, tag: storage],
    ids=str,
)
def test_same_as_torch(where: Any, *, legacy: bool) -> None:
    raw = saved(model(), legacy=legacy)
    assert_same(torch.load(io.BytesIO(raw), where, weights_only=True), build(raw, map_location=where))


def to_meta(storage: Any, tag: str) -> Any:
    return torch.UntypedStorage(storage.nbytes(), device="meta")


@pytest.mark.parametrize("where", ["meta", torch.device("meta"), {"cpu": "meta"}, to_meta], ids=str)
def test_meta_has_shapes_and_no_memory(where: Any) -> None:
    raw = saved(model())
    assert_same(torch.load(io.BytesIO(raw), where, weights_only=True), build(raw, map_location=where))


def test_meta_reads_no_storage_and_says_where_it_lies() -> None:
    """Programs that fill meta tensors later find the bytes by `_checkpoint_offset`."""
    raw = saved(model())
    ours, theirs = build(raw, map_location="meta"), torch.load(io.BytesIO(raw), "meta", weights_only=True)
    for name in ("base", "row", "p"):
        assert ours[name].untyped_storage()._checkpoint_offset == theirs[name].untyped_storage()._checkpoint_offset
    broken = raw.replace(torch.arange(12.0).numpy().tobytes(), bytes(48))
    assert build(broken, map_location="meta")["base"].shape == (3, 4)


@FORMS
def test_meta_from_a_legacy_stream(*, legacy: bool) -> None:
    """PyTorch gives a view of a legacy storage a smaller one of its own there; here it is the storage's size in both forms."""
    found = build(saved(model(), legacy=legacy), map_location="meta")
    assert found["row"].device.type == "meta"
    assert found["row"].untyped_storage().nbytes() == 48


def test_bytes_work_like_text() -> None:
    """PyTorch takes bytes and then searches them with a text pattern."""
    assert_same(build(saved(model())), build(saved(model()), map_location=b"cpu"))


def test_a_dict_may_name_devices_as_objects() -> None:
    assert_same(build(saved(model())), build(saved(model()), map_location={"cpu": torch.device("cpu")}))


@FORMS
def test_a_callable_gets_each_storage_once_filled_and_on_the_cpu(*, legacy: bool) -> None:
    """PyTorch calls it before the bytes of a legacy storage are read."""
    seen = []

    def where(storage: Any, tag: str) -> Any:
        seen.append((type(storage), storage.device.type, bytes(storage)[:8], tag))

    value = {"a": torch.arange(4), "b": torch.arange(4)}
    value["again"] = value["a"]
    value["view"] = value["a"][1:]
    build(saved(value, legacy=legacy), map_location=where)
    assert seen == [(torch.UntypedStorage, "cpu", bytes(8), "cpu")] * 2
    seen.clear()
    build(saved(torch.full((3,), 7, dtype=torch.int64), legacy=legacy), map_location=where)
    assert seen[0][2] == (7).to_bytes(8, "little")


def test_what_a_callable_gives_is_what_tensors_share() -> None:
    kept = []

    def where(storage: Any, tag: str) -> Any:
        kept.append(storage.clone())
        return kept[-1]

    found = build(saved(model()), map_location=where)
    assert found["base"].untyped_storage()._cdata == kept[0]._cdata


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError, ValueError, TypeError, RuntimeError, KeyError, KeyboardInterrupt, MemoryError])
def test_what_a_callable_raises_comes_out_as_it_is(error: type[BaseException]) -> None:
    def where(storage: Any, tag: str) -> Any:
        raise error("mine")

    with pytest.raises(error) as caught:
        build(saved(model()), map_location=where)
    assert not isinstance(caught.value, SafeloadError)


@pytest.mark.parametrize(("where", "says"), [(lambda storage, tag: 5, "gave a int"), (3, "'int' object is not callable")])
def test_junk_is_a_type_error(where: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says) as caught:
        build(saved(model()), map_location=where)
    assert isinstance(caught.value, ArgumentError)


def test_a_smaller_storage_than_the_tensors_need_is_refused() -> None:
    """`set_` would enlarge it, with whatever lies behind it."""
    with pytest.raises(ArgumentError, match="storage of 1 bytes for one of 48"):
        build(saved(model()), map_location=lambda storage, tag: torch.UntypedStorage(1) if storage.nbytes() else None)


def message_of_torch(raw: bytes, where: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        torch.load(io.BytesIO(raw), where, weights_only=True)
    return str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="wants a device that is not there")
@pytest.mark.parametrize("where", ["cuda", "cuda:7", "bogus", torch.device("cuda")], ids=str)
def test_a_device_that_is_not_there_says_what_torch_says(where: Any) -> None:
    """Programs catch RuntimeError and look into its text."""
    raw = saved(model())
    with pytest.raises(RuntimeError) as caught:
        build(raw, map_location=where)
    assert isinstance(caught.value, UnsupportedError)
    assert caught.value.message == message_of_torch(raw, where)


@pytest.mark.skipif(torch.cuda.is_available(), reason="wants a device that is not there")
def test_a_device_that_the_file_names_is_replaced() -> None:
    raw = tagged("cuda:0")
    with pytest.raises(UnsupportedError) as caught:
        build(raw)
    assert caught.value.message == message_of_torch(raw, None)
    assert "map_location" in caught.value.hint
    for where in ("cpu", {"cuda:0": "cpu"}, lambda storage, tag: storage if tag == "cuda:0" else None):
        assert_same(torch.arange(4.0), build(raw, map_location=where)["w"])


@pytest.mark.parametrize("tag", ["cuda:99999999999999999999", "cuda:-1", "cuda:x", "mps", "xpu:0", "hpu", "privateuseone:1", "", "\x1b[2J"])
def test_hostile_tags_raise_errors_of_ours_only(tag: str) -> None:
    with pytest.raises(SafeloadError):
        build(tagged(tag))


def test_devices_that_other_packages_registered_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.serialization.register_package` is how a device comes to torch."""
    calls = []

    def restore(storage: Any, tag: str) -> Any:
        calls.append(tag)
        return storage if tag == "mine" else None

    registry = [*torch.serialization._package_registry, (5, lambda storage: None, restore)]
    monkeypatch.setattr(torch.serialization, "_package_registry", registry)
    assert_same(torch.arange(4.0), build(tagged("mine"))["w"])
    assert calls == ["mine"]


@pytest.mark.parametrize("broken", [False, True])
def test_the_map_location_that_torch_keeps_is_taken_back(*, broken: bool) -> None:
    """PyTorch leaves it behind when unpickling raises, and the next load of this thread uses it."""
    state = torch.serialization._serialization_tls
    stream, storages = checkpoint(saved(model()))
    raw = torch_zip(stream.replace(b"K\x04\x86", b"K\x05\x86") if broken else stream, storages)
    try:
        build(raw, map_location="cpu")
    except SafeloadError:
        assert broken
    assert state.map_location is None


def test_tensors_rebuilt_from_arrays_go_where_map_location_says() -> None:
    """`_rebuild_device_tensor_from_numpy` takes it from torch's own thread-local, and a callable has no meaning there."""
    pytest.importorskip("numpy")
    import numpy as np

    class Foreign:
        def __reduce__(self) -> Any:
            array = np.arange(3.0, dtype=np.float32)
            return torch._utils._rebuild_device_tensor_from_numpy, (array, torch.float32, "cuda:0", True)

    raw = saved(Foreign())
    found = build(raw, map_location="cpu")
    assert (found.tolist(), found.requires_grad) == ([0.0, 1.0, 2.0], True)
    with pytest.raises(RuntimeError, match="Callable map_location not supported"):
        build(raw, map_location=lambda storage, tag: storage)
