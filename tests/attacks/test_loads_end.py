"""Streams of a few hundred bytes that a load could go through for ever, or make gigabytes of, by values that share values.

What holds a lot in a few bytes must not be hashed, compared, written out or copied as if it were as short as it looks. All files are
loaded in one process with little memory; an exception that is not of ours, or a load that does not end, ends that process.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forge
from tests.forge import (
    APPEND,
    APPENDS,
    BINPERSID,
    BUILD,
    DUP,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    FLOAT,
    FROZENSET,
    GET,
    GLOBAL,
    INT,
    MARK,
    NEWFALSE,
    NONE,
    POP,
    PUT,
    RAW,
    REDUCE,
    SETITEMS,
    TEXT,
    TUPLE,
    TUPLE1,
    TUPLE2,
    call,
)  # fmt: skip
from tests.forge_build import torch_zip
from tests.forge_tensors import HOOKS, storage, tensor

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SECONDS = 60  # of processor time, for all that is done with one file; each takes a second or two
LEVELS = 36  # 2**36 values: within what a stream may stand for, and beyond what anybody can wait for

Files = tuple[bytes, dict[str, bytes]]


def tuple_of(*items: bytes) -> bytes:
    return forge.stream(MARK, *items, TUPLE)


def list_of(*items: bytes) -> bytes:
    return forge.stream(EMPTY_LIST, MARK, *items, APPENDS)


def dict_of(*items: bytes) -> bytes:
    return forge.stream(EMPTY_DICT, MARK, *items, SETITEMS)


def tuples() -> bytes:
    return forge.stream(NONE, TUPLE1, (DUP + TUPLE2) * LEVELS)


def lists() -> bytes:
    parts = [EMPTY_LIST, PUT(100), POP]
    for level in range(100, 100 + LEVELS):
        parts += [list_of(GET(level), GET(level)), PUT(level + 1), POP]
    return forge.stream(*parts, GET(100 + LEVELS))


def frozensets(base: int, make: Callable[..., bytes]) -> bytes:
    """Each holds the one below, and one more that holds it, too: what a comparison goes through doubles."""
    parts = [make(NONE), PUT(base), POP]
    for level in range(base, base + LEVELS):
        parts += [make(GET(level), make(GET(level), INT(level))), PUT(level + 1), POP]
    return forge.stream(*parts, GET(base + LEVELS))


def by_call(*items: bytes) -> bytes:
    return call("builtins", "frozenset", list_of(*items))


def by_opcode(*items: bytes) -> bytes:
    return forge.stream(MARK, *items, FROZENSET)


def big(nbytes: int) -> bytes:
    return RAW("LONG4", struct.pack("<i", nbytes) + b"\x7f" * nbytes)


def again(callee: bytes, args: bytes, times: int = 20_000) -> bytes:
    """The same call with the same arguments, many times; everything it gives is kept."""
    return forge.stream(
        args, PUT(1), POP, callee, PUT(2), POP, EMPTY_LIST, MARK, (GET(2) + GET(1) + REDUCE) * times, APPENDS
    )  # fmt: skip


def dtype(text: str) -> bytes:
    return call("numpy", "dtype", TEXT(text), INT(0), INT(1))


def dense(size: bytes, stride: bytes, key: str = "0", kind: str = "FloatStorage", count: int = 2) -> bytes:
    return call("torch._utils", "_rebuild_tensor_v2", storage(key, count, kind), INT(0), size, stride, NEWFALSE, HOOKS)


def wide(key: str, kind: str, *shape: int) -> bytes:
    """One element, as often as one likes."""
    return dense(tuple_of(*map(INT, shape)), tuple_of(*[INT(0)] * len(shape)), key, kind, 1)


def built(made: bytes, state: bytes) -> bytes:
    return forge.stream(made, state, BUILD)


def shown() -> dict[str, bytes]:
    """Where an error tells what it found."""
    found: dict[str, bytes] = {}
    two = tuple_of(INT(2))
    one = tuple_of(INT(1))
    for name, bomb in {"tuples": tuples(), "lists": lists(), "an integer of 100,000 bytes": big(100_000)}.items():
        quantised = ("torch._utils", "_rebuild_qtensor", storage("8", 8, "QInt8Storage"), INT(0), tuple_of(INT(8)), one)
        affine = GLOBAL("torch", "per_tensor_affine")
        found |= {
            f"a size of {name}": dense(tuple_of(bomb), one),
            f"a stride of {name}": dense(two, tuple_of(bomb)),
            f"a torch.Size of {name}": call("torch", "Size", tuple_of(bomb)),
            f"a meta tensor's size of {name}": call(
                "torch._utils", "_rebuild_meta_tensor_no_storage", GLOBAL("torch", "float32"), tuple_of(bomb), one, NEWFALSE
            ),
            f"a scale of {name}": call(*quantised, tuple_of(affine, bomb, INT(0)), NEWFALSE, HOOKS),
            f"an old tensor's size of {name}": built(
                forge.stream(GLOBAL("torch", "FloatTensor"), EMPTY_TUPLE, forge.NEWOBJ), tuple_of(storage("0"), INT(0), tuple_of(bomb), one)
            ),
            f"a bit generator named {name}": built(
                call("numpy.random._pickle", "__bit_generator_ctor", TEXT("MT19937")), dict_of(TEXT("bit_generator"), bomb)
            ),
            f"a date's unit of {name}": built(
                dtype("M8"),
                tuple_of(
                    *(INT(4), TEXT("<"), NONE, NONE, NONE, INT(-1), INT(-1), INT(0)),
                    tuple_of(EMPTY_DICT, tuple_of(bomb, INT(1), INT(1), INT(1))),
                ),
            ),
            f"a field named {name}": built(
                dtype("V4"),
                tuple_of(
                    *(INT(3), TEXT("|"), NONE, tuple_of(bomb), dict_of(TEXT("a"), tuple_of(dtype("f4"), INT(0)))), INT(4), INT(1), INT(0)
                ),
            ),
            f"axes of {name}": call(
                "numpy.core.numeric", "_frombuffer", forge.BYTES(b"abcd"), dtype("f4"), tuple_of(INT(1)), TEXT("K"), tuple_of(bomb)
            ),
            f"a storage of {name}": forge.stream(
                tuple_of(TEXT("storage"), GLOBAL("torch", "FloatStorage"), TEXT("0"), TEXT("cpu"), bomb), BINPERSID
            ),
            f"a view of {name}": forge.stream(
                tuple_of(TEXT("storage"), GLOBAL("torch", "FloatStorage"), TEXT("0"), TEXT("cpu"), INT(2), tuple_of(TEXT("v"), bomb, bomb)),
                BINPERSID,
            ),
        }
    location = storage("0").replace(TEXT("cpu"), TEXT("c\x1b" * 100_000))
    found["a location of 200,000 characters"] = call("torch._utils", "_rebuild_tensor", location, INT(0), two, one)
    return found


def keys() -> dict[str, bytes]:
    """What is hashed and compared."""
    many_tuples = forge.stream(GLOBAL("builtins", "tuple"), PUT(9), POP, (GET(9) + EMPTY_LIST) * 100_000, NONE)
    other = next(number for number in range(1_000) if abs(hash((1, number))) < 1 << 60)
    number = struct.pack("<q", hash((1, other)))
    scalar = call("numpy.core.multiarray", "scalar", dtype("i8"), forge.BYTES(number))
    return {
        "a key that is a tuple made of a list of tuples": dict_of(call("builtins", "tuple", list_of(tuples())), NONE),
        "a key that is tuples made of lists, 100,000 deep": dict_of(forge.stream(many_tuples, (APPEND + TUPLE1 + REDUCE) * 100_000), NONE),
        "frozensets that are equal": dict_of(frozensets(1, by_opcode), NONE, frozensets(60, by_opcode), NONE),
        "frozensets made of lists that are equal": dict_of(frozensets(1, by_call), NONE, frozensets(60, by_call), NONE),
        "frozensets 20,000 deep that are equal": dict_of(*[MARK * 20_000 + FROZENSET * 20_000, NONE] * 2),
        "a number of numpy and a tuple of the same hash": dict_of(scalar, NONE, tuple_of(INT(1), INT(other)), NONE),
        "tuples of one hash": dict_of(*(forge.stream(tuple_of(INT(a), INT(b)), NONE) for a, b in same_hash(40_000))),
    }


def same_hash(count: int) -> list[tuple[int, int]]:
    """Pairs of integers whose tuples have the same hash: CPython's tuple hash of two small integers, the other way round."""
    first, second, fifth, mask = 11400714785074694791, 14029467366897019727, 2870177450012600261, (1 << 64) - 1

    def rotated(value: int) -> int:
        return ((value << 31) | (value >> 33)) & mask

    inverse = pow(second, -1, 1 << 64)
    wanted, a, found = 12345, 1, list[tuple[int, int]]()
    while len(found) < count:
        a += 1
        inner = rotated((fifth + a * second) & mask) * first & mask
        b = (wanted - inner) * inverse & mask
        b -= (b >> 63) << 64
        if abs(b) < (1 << 61) - 2 and b != -1:
            found.append((a, b))
    assert len({hash(pair) for pair in found[:100]}) == 1
    return found


def copies() -> dict[str, bytes]:
    """A call of six bytes that copies a megabyte each time, and values without memory of which there are any number."""
    million = tuple_of(*[NONE] * 1_000_000)
    ones = list_of(*[INT(1)] * 1_000_000)
    table = dict_of(*(forge.stream(INT(number), NONE) for number in range(1_000, 101_000)))
    letters = "a" * 1_000_000
    numbers = [list_of(*[FLOAT(1.0)] * 100_000), list_of(*[INT(1)] * 100_000)]
    layout = forge.stream(call("torch.serialization", "_get_layout", TEXT("torch.sparse_coo")))
    indices = wide("1", "LongStorage", 1, 1 << 40)
    pieces = {
        "lists": (GLOBAL("builtins", "list"), tuple_of(million)),
        "tuples": (GLOBAL("builtins", "tuple"), tuple_of(ones)),
        "frozensets": (GLOBAL("builtins", "frozenset"), tuple_of(ones)),
        "bytes of a list": (GLOBAL("builtins", "bytes"), tuple_of(ones)),
        "byte arrays": (GLOBAL("builtins", "bytearray"), tuple_of(forge.BYTES(letters.encode()))),
        "bytes of a text": (GLOBAL("_codecs", "encode"), tuple_of(TEXT(letters), TEXT("latin1"))),
        "deques": (GLOBAL("collections", "deque"), tuple_of(million)),
        "ordered dicts": (GLOBAL("collections", "OrderedDict"), tuple_of(table)),
        "counters": (GLOBAL("collections", "Counter"), tuple_of(table)),
        "default dicts": (GLOBAL("collections", "defaultdict"), tuple_of(NONE, table)),
        "fractions": (GLOBAL("fractions", "Fraction"), tuple_of(TEXT("9" * 4_000 + "/" + "7" * 4_000))),
        "paths": (GLOBAL("pathlib", "PurePosixPath"), tuple_of(TEXT("a/" * 50_000))),
        "bit generators": (GLOBAL("numpy.random._pickle", "__bit_generator_ctor"), tuple_of(TEXT("MT19937"))),
        "quantisers": (
            GLOBAL("torch._utils", "_rebuild_qtensor"),
            tuple_of(
                storage("100000", 100_000, "QInt8Storage"),
                INT(0),
                tuple_of(INT(100_000)),
                tuple_of(INT(1)),
                tuple_of(GLOBAL("torch", "per_channel_affine"), *numbers, INT(0)),
                NEWFALSE,
                HOOKS,
            ),
        ),
    }
    empty = call("numpy.core.multiarray", "_reconstruct", GLOBAL("numpy", "ndarray"), tuple_of(INT(0)), forge.BYTES(b"b"))
    found = {f"20,000 {name}": again(*piece) for name, piece in pieces.items()}
    found["20,000 arrays"] = forge.stream(
        tuple_of(INT(1), tuple_of(INT(1_000_000)), dtype("S1"), NEWFALSE, forge.BYTES(letters.encode())), PUT(1), POP,
        EMPTY_LIST, MARK,
        forge.stream(empty, GET(1), BUILD) * 20_000,
        APPENDS,
    )  # fmt: skip
    found["a sparse tensor of 2**40 indices"] = call(
        "torch._utils", "_rebuild_sparse_tensor", layout, tuple_of(indices, wide("4", "FloatStorage", 1 << 40), tuple_of(INT(5)))
    )
    rows = [wide("1", "LongStorage", 1 << 40, 2)] * 2
    found["a nested tensor of 2**40 rows"] = call(
        "torch._utils", "_rebuild_nested_tensor", tensor("0"), *rows, wide("1", "LongStorage", 1 << 40)
    )
    found["a tensor of 2**40 elements on a device"] = call(
        "torch._utils",
        "_rebuild_device_tensor_from_cpu_tensor",
        wide("4", "FloatStorage", 1 << 40),
        GLOBAL("torch", "float64"),
        TEXT("cpu"),
        NEWFALSE,
    )
    return found


STORAGES = {"0": bytes(8), "1": bytes(8), "4": bytes(4), "8": bytes(8), "100000": bytes(100_000)}
SHOWN, KEYS, COPIES = shown(), keys(), copies()


def whole(body: bytes) -> bytes:
    """A checkpoint around a value, with those storages that it names."""
    used = {key: data for key, data in STORAGES.items() if TEXT("storage") in body and TEXT(key) in body}
    return torch_zip(forge.stream(forge.PROTO(4), body, forge.STOP), used)


EVERY = {**SHOWN, **KEYS, **COPIES}


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[str, str, str, float]]:
    """Load every file, in one process."""
    files = {name: whole(body) for name, body in EVERY.items()}
    payload = b"".join(struct.pack("<I", len(data)) + data for data in files.values())
    script = Path(__file__).with_name("loading.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], input=payload, capture_output=True, check=False, timeout=600, env=environment)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, (list(files)[len(lines)], done.stderr.decode()[-2000:])
    return {name: tuple(json.loads(line)) for name, line in zip(files, lines, strict=True)}


@pytest.mark.parametrize("name", EVERY)
def test_a_load_ends_soon_in_little_memory_and_in_an_error_of_ours(name: str, answers: dict[str, tuple[str, str, str, float]]) -> None:
    loaded, inert, found, seconds = answers[name]
    assert seconds < SECONDS
    assert loaded, "it was loaded"
    assert found
    if name in COPIES:
        assert (loaded, inert) == ("LimitError", "LimitError")
