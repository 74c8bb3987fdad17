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
@given(st.data())
@settings(max_examples=60)
def test_checkpoints_come_back_with_torch(data: st.DataObject) -> None:
    """Views of shared storages, of any dtype and stride, in any nesting."""
    torch = pytest.importorskip("torch")
    from tests.compare import assert_same
    from tests.forge_build import build
    from tests.forge_conversion import load_converted

    names = ["float32", "float64", "bfloat16", "int64", "uint8", "bool", "complex64", "float16"]
    bases = [
        torch.randint(0, 2 if name == "bool" else 256, (16 * getattr(torch, name).itemsize,), dtype=torch.uint8).view(getattr(torch, name))
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
    ]

    def view(choice: tuple[int, list[int], list[int], int]) -> Any:
        number, shape, stride, offset = choice
        reach = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=False) if size)
        base = bases[number % len(bases)]
        return base.as_strided(shape, stride[: len(shape)], offset) if reach < 16 else base.view(4, 4).t()

    sizes = st.lists(st.integers(0, 4), max_size=3)
    steps = st.lists(st.integers(0, 5), min_size=3, max_size=3)
    tensors = st.tuples(st.integers(0, 3), sizes, steps, st.integers(0, 4)).map(view)
    value = data.draw(nested(tensors | scalars))
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "in.pt", Path(folder) / "in.safetensors"
        torch.save(value, source, _use_new_zipfile_serialization=data.draw(st.booleans()))
        convert(source, max_shard_size=None)
        assert_same(build(source), load_converted(made))
