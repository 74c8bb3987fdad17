"""What torch makes of tensors holds on to the very objects; a stream that changes one of them later changes nothing that was checked."""

from __future__ import annotations

import struct
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.forge import BUILD, GET, GLOBAL, INT, MARK, NEWFALSE, NONE, POP, PROTO, PUT, REDUCE, STOP, TEXT, TUPLE, call, stream  # noqa: E402
from tests.forge_build import build, torch_zip  # noqa: E402
from tests.forge_tensors import HOOKS, storage  # noqa: E402

pytestmark = pytest.mark.torch


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def tuple_of(*items: bytes) -> bytes:
    return stream(MARK, *items, TUPLE)


def dense(key: str, *shape: int, kind: str = "LongStorage") -> bytes:
    count, stride = 1, list[int]()
    for size in reversed(shape):
        stride.insert(0, count)
        count *= size
    sizes, strides = tuple_of(*map(INT, shape)), tuple_of(*map(INT, stride))
    return call("torch._utils", "_rebuild_tensor_v2", storage(key, count, kind), INT(0), sizes, strides, NEWFALSE, HOOKS)


def exchanged(made: bytes, *shape: int) -> bytes:
    """A Parameter over storage 1, put to memo 7; what is made of it; then the state that old releases write, with storage 9."""
    parameter = stream(GLOBAL("torch.nn.parameter", "Parameter"), tuple_of(dense("1", *shape), NEWFALSE), REDUCE, PUT(7), POP)
    state = tuple_of(dense("9", *shape), NONE, HOOKS, NEWFALSE, NEWFALSE)
    return stream(PROTO(2), parameter, made, PUT(8), POP, GET(7), state, BUILD, POP, GET(8), STOP)


def test_compressed_indices_stay_those_that_were_checked() -> None:
    layout = call("torch.serialization", "_get_layout", TEXT("torch.sparse_csr"))
    parts = tuple_of(GET(7), dense("2", 2), dense("3", 2, kind="FloatStorage"), tuple_of(INT(2), INT(2)))
    made = call("torch._utils", "_rebuild_sparse_tensor", layout, parts)
    storages = {"1": numbers(0, 1, 2), "2": numbers(0, 1), "3": bytes(8), "9": numbers(0, 1 << 40, 1 << 41)}
    found: Any = build(torch_zip(exchanged(made, 3), storages))
    assert found.crow_indices().tolist() == [0, 1, 2]
    assert found.to_dense().shape == (2, 2)


def test_the_table_of_a_nested_tensor_stays_the_one_that_was_checked() -> None:
    made = call("torch._utils", "_rebuild_nested_tensor", dense("3", 4, kind="FloatStorage"), GET(7), dense("2", 2, 2), dense("4", 2))
    storages = {
        "1": numbers(1, 2, 1, 2),
        "2": numbers(2, 1, 2, 1),
        "3": bytes(16),
        "4": numbers(0, 2),
        "9": numbers(1 << 40, 2, 1 << 40, 2),
    }
    found: Any = build(torch_zip(exchanged(made, 2, 2), storages))
    assert found._nested_tensor_size().tolist() == [[1, 2], [1, 2]]
    assert [row.shape for row in found.unbind()] == [(1, 2), (1, 2)]


def test_the_parameters_of_a_quantiser_stay_those_that_were_checked() -> None:
    scales = dense("2", 2, kind="DoubleStorage")
    scheme = tuple_of(GLOBAL("torch", "per_channel_affine"), scales, GET(7), INT(0))
    sizes, strides = tuple_of(INT(2), INT(1)), tuple_of(INT(1), INT(1))
    made = call("torch._utils", "_rebuild_qtensor", storage("3", 2, "QInt8Storage"), INT(0), sizes, strides, scheme, NEWFALSE, HOOKS)
    storages = {"1": numbers(1, 2), "2": struct.pack("<2d", 1, 1), "3": bytes(2), "9": numbers(77, 78)}
    found: Any = build(torch_zip(exchanged(made, 2), storages))
    assert found.q_per_channel_zero_points().tolist() == [1, 2]
