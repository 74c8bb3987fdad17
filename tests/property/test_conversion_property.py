"""Arbitrary nested checkpoints survive conversion, with torch and without."""

from __future__ import annotations

import collections
import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeload.conversion import check, convert, export
from safeload.conversion.tree import encode_tree
from safeload.program import DTYPE_BITS
from tests.forge_conversion import rebuilt, tree_of

floats = st.floats(allow_nan=False) | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", struct.pack(">Q", bits))[0])
scalars = st.none() | st.booleans() | st.integers() | floats | st.text(st.characters(), max_size=80) | st.binary(max_size=80)
keys = st.text(max_size=8) | st.integers(-5, 5) | st.tuples(st.integers(0, 3), st.text(max_size=2)) | st.booleans() | st.none()


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Containers of containers of leaves."""
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(keys, inner, max_size=4)
            | st.tuples(inner, inner)
            | st.dictionaries(keys, inner, max_size=3).map(collections.OrderedDict)
            | st.frozensets(keys, max_size=3)
            | st.sets(keys, max_size=3)
            | inner.map(lambda item: [item, item])
        ),
        max_leaves=12,
    )


@given(nested(scalars), st.sampled_from([0, 2, 3, 4, 5]))
@settings(max_examples=60)
def test_plain_data_comes_back_without_torch(value: Any, protocol: int) -> None:
    """The tree that is read back is the tree that was written, node for node; and so is that of an export."""
    with tempfile.TemporaryDirectory() as folder:
        source, made, back = (Path(folder) / name for name in ("in.pkl", "in.safetensors", "back.pt"))
        source.write_bytes(pickle.dumps(value, protocol))
        if source.stat().st_size < 2:
            return
        convert(source)
        found, model = rebuilt(made)
        # Protocol 0 writes a NaN as "nan": what came into the file is what must come out of it.
        assert repr(canonical(found)) == repr(canonical(pickle.loads(source.read_bytes())))
        assert check(source, made).same
        export(made, back)
        convert(back, Path(folder) / "again.safetensors")
        assert tree_of(Path(folder) / "again.safetensors").described() == encode_tree(found, model).described()


def canonical(value: Any) -> Any:
    """Sets have no order of their own."""
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, value))
    if isinstance(value, dict):
        return type(value), [(canonical(key), canonical(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [canonical(item) for item in value]
    return struct.pack(">d", value) if type(value) is float else value


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.data())
@settings(max_examples=60)
def test_checkpoints_come_back_with_torch(data: st.DataObject) -> None:
    """Views of shared storages, of every dtype and stride, plain, as parameters and with lazy signs, in any nesting, from any container.

    Read by safeload, by somebody else's reader, and by torch from an export.
    """
    torch = pytest.importorskip("torch")
    from tests.compare import assert_same
    from tests.forge_build import build
    from tests.forge_conversion import load_converted
    from tests.page_reader import read_page

    dtypes = [getattr(torch, name) for name in DTYPE_BITS if hasattr(torch, name) and not name.startswith(("qint", "quint"))]
    bases = [
        torch.randint(0, 2 if dtype == torch.bool else 256, (16 * dtype.itemsize,), dtype=torch.uint8).view(dtype)
        for dtype in data.draw(st.lists(st.sampled_from(dtypes), min_size=1, max_size=4))
    ]

    def view(choice: tuple[int, list[int], list[int], int, str]) -> Any:
        number, shape, stride, offset, kind = choice
        base = bases[number % len(bases)]
        reach = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=False) if size)
        found = base.as_strided(shape, stride[: len(shape)], offset) if reach < 16 else base.as_strided((4, 4), (1, 4))
        if kind == "parameter":
            return torch.nn.Parameter(found, requires_grad=found.is_floating_point() and found.dtype.itemsize > 1)
        if kind == "conj":
            return found.conj() if found.is_complex() else found
        # on other dtypes torch has no lazy negative, or none that it saves
        return torch._neg_view(found) if kind == "neg" and found.dtype in (torch.float32, torch.complex64) else found

    sizes = st.lists(st.integers(0, 4), max_size=3)
    steps = st.lists(st.integers(0, 5), min_size=3, max_size=3)
    kinds = st.sampled_from(["", "", "parameter", "conj", "neg"])
    tensors = st.tuples(st.integers(0, 3), sizes, steps, st.integers(0, 4), kinds).map(view)
    value = data.draw(nested(tensors | scalars))
    with tempfile.TemporaryDirectory() as folder:
        source, made, back = (Path(folder) / name for name in ("in.pt", "in.safetensors", "back.pt"))
        torch.save(value, source, _use_new_zipfile_serialization=data.draw(st.booleans()))
        written = convert(source, made, max_shard_size=data.draw(st.sampled_from([None, 16]))).paths
        last = Path(written[-1] if len(written) > 1 else written[0])
        expected = build(source)  # torch does not read all that it writes in its old form
        assert_same(expected, read_page(last))
        assert check(source, last).same
        if last == made:
            assert_same(expected, load_converted(made))
        export(last, back)
        assert_same(expected, torch.load(back, weights_only=False))
