"""A float is read to the last bit, by both machines: the compiled one computes it from integers."""

from __future__ import annotations

import random
import struct
from types import ModuleType
from typing import Any

import pytest

from safeload.source import Limits
from safeload.walk import _machine, kinds, python3_name
from safeload.walk.signatures import BUILD_STATE

MACHINES = [_machine]
try:
    from safeload.walk import _machine_c

    MACHINES.append(_machine_c)
except ImportError:
    pass

EDGES = [
    0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF,
    0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000001, 0x7FF0000000000001, 0xFFF8000000000000, 0x3FF0000000000000,
    0x3FECCCCCCCCCCCCD, 0x3FEFFFFFFFFFFFFF, 0x3FE00000FFFFFFFF, 0x3FE00000FF000000, 0xBFE0000080000000,
]  # fmt: skip


def read(machine: ModuleType, patterns: list[int]) -> list[int]:
    """Return the bit patterns of floats that went through a stream."""
    stream = b"\x80\x02](" + b"".join(b"G" + pattern.to_bytes(8, "big") for pattern in patterns) + b"e."
    walker: Any = machine.Walker(memoryview(stream), 0, lambda *_: ("", kinds.UNKNOWN, None), python3_name, "utf-8", Limits(), 0)
    walker.run(BUILD_STATE)
    values = machine.Builder(walker, [], None).run()
    return [int.from_bytes(struct.pack(">d", value), "big") for value in values]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__.rpartition(".")[2])
def test_floats_keep_every_bit(machine: ModuleType) -> None:
    """A learning rate that is off by one bit is another checkpoint; found where a byte of 128 or more overflowed a C int."""
    source = random.Random(20261123)
    patterns = EDGES + [source.getrandbits(64) for _ in range(20_000)]
    # and numbers as people write them, whose exponents lie close together
    patterns += [int.from_bytes(struct.pack(">d", source.uniform(-2, 2)), "big") for _ in range(20_000)]
    assert read(machine, patterns) == patterns
