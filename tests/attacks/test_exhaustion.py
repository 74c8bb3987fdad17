"""Files of a few bytes that ask for gigabytes or hours. All are scanned in one process that has 1 GiB of address space."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests import forge
from tests.forge_attacks import HOSTILE, PAYLOAD, checkpoint, legacy
from tests.forge_safetensors import file_of
from tests.forge_zip import Part
from tests.forge_zip import forge as zip_file

PROTO = forge.PROTO(4)
SECONDS = 20  # of processor time, for any one of them; none takes more than a few
MIB = 1 << 20


def _length(name: str, length: int, width: int) -> bytes:
    """A declared length, and next to nothing behind it; the payload stands in front."""
    return forge.stream(PROTO, PAYLOAD, forge.POP, forge.LENGTH(name, length, b"abc", width), forge.STOP)


def _doubled(levels: int, *, start: bytes, wrap: bytes) -> bytes:
    return forge.stream(PROTO, start, wrap * levels, forge.STOP)


def _laughs(levels: int) -> bytes:
    """Lists of lists of lists, ten times the one below each."""
    parts = [forge.EMPTY_LIST, forge.PUT(0), forge.POP]
    for level in range(levels):
        parts += [forge.EMPTY_LIST, forge.MARK, *[forge.GET(level)] * 10, forge.APPENDS, forge.PUT(level + 1), forge.POP]
    return forge.stream(PROTO, *parts, forge.GET(levels), forge.STOP)


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _zeros(pack: Callable[[], _Packer], mebibytes: int) -> bytes:
    machine = pack()
    piece = bytes(MIB)
    return b"".join(machine.compress(piece) for _ in range(mebibytes)) + machine.flush()


def _nested_gzip(levels: int) -> bytes:
    data = bytes(32 * MIB)
    for _ in range(levels):
        data = gzip.compress(data, 9)
    return data


def _npy(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


LENGTHS: dict[str, Callable[[], bytes]] = {
    f"{name} of 2**{length.bit_length() - 1} bytes": (lambda name=name, length=length, width=width: _length(name, length, width))  # type: ignore[misc]
    for name, width, lengths in (
        ("BINUNICODE", 4, [1 << 31, (1 << 32) - 1]),
        ("BINBYTES", 4, [1 << 31, (1 << 32) - 1]),
        ("BINSTRING", 4, [1 << 30, 1 << 31]),
        ("LONG4", 4, [1 << 30, 1 << 31]),
        ("BINUNICODE8", 8, [1 << 31, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1]),
        ("BINBYTES8", 8, [1 << 32, 1 << 63]),
        ("BYTEARRAY8", 8, [1 << 32, 1 << 63]),
        ("FRAME", 8, [1 << 31, 1 << 63]),
    )
    for length in lengths
}

BOMBS: dict[str, Callable[[], bytes]] = {
    # modelscan#86 and others: https://github.com/protectai/modelscan/issues/86
    "a memo index of 2**31": lambda: forge.stream(PROTO, forge.NONE, forge.RAW("LONG_BINPUT", b"\0\0\0\x80"), PAYLOAD, forge.STOP),
    "a memo index of 2**32 - 1": lambda: forge.stream(PROTO, forge.NONE, forge.RAW("LONG_BINPUT", b"\xff" * 4), PAYLOAD, forge.STOP),
    "a memo index in text": lambda: forge.stream(PROTO, forge.NONE, forge.LINE("PUT", b"4294967295"), PAYLOAD, forge.STOP),
    "many far memo indices": lambda: forge.stream(
        PROTO,
        forge.NONE,
        *(forge.RAW("LONG_BINPUT", struct.pack("<I", 4_000_000_000 + 97 * i)) for i in range(100_000)),
        PAYLOAD,
        forge.STOP,
    ),
    "tuples doubled by DUP": lambda: _doubled(400, start=forge.NONE, wrap=forge.DUP + forge.TUPLE2),
    "tuples tripled by DUP": lambda: _doubled(400, start=forge.NONE, wrap=forge.DUP + forge.DUP + forge.TUPLE3),
    "lists of ten times the one below": lambda: _laughs(200),
    "keys that stand for too many values": lambda: forge.stream(
        PROTO, forge.EMPTY_DICT, forge.NONE, (forge.DUP + forge.TUPLE2) * 35, forge.NONE, forge.SETITEM, forge.STOP
    ),
    "a frozenset in a frozenset": lambda: forge.stream(PROTO, (forge.MARK * 2000), (forge.FROZENSET * 2000), forge.STOP),
    "400,000 opcodes that do nothing": lambda: forge.stream(PROTO, (forge.NONE + forge.POP) * 200_000, PAYLOAD, forge.STOP),
    "a million marks": lambda: forge.stream(PROTO, forge.MARK * 1_000_000, PAYLOAD, forge.STOP),
    "a million duplicates": lambda: forge.stream(PROTO, forge.NONE, forge.DUP * 1_000_000, PAYLOAD, forge.STOP),
    "lists 200,000 deep": lambda: forge.stream(PROTO, forge.EMPTY_LIST * 200_000, forge.APPEND * 199_999, forge.POP, PAYLOAD, forge.STOP),
    "tuples 200,000 deep": lambda: forge.stream(PROTO, PAYLOAD, forge.POP, forge.NONE, forge.TUPLE1 * 200_000, forge.STOP),
    "dicts 100,000 deep": lambda: forge.stream(
        PROTO, forge.EMPTY_DICT, (forge.NONE + forge.EMPTY_DICT) * 100_000, forge.SETITEM * 100_000, forge.STOP
    ),
    "calls 100,000 deep": lambda: forge.stream(PROTO, forge.GLOBAL("a", "b"), (forge.EMPTY_TUPLE + forge.REDUCE) * 100_000, forge.STOP),
    "a call that is its own argument": lambda: forge.stream(
        PROTO,
        forge.EMPTY_LIST,
        forge.PUT(0),
        forge.GLOBAL("os", "system"),
        forge.GET(0),
        forge.TUPLE1,
        forge.REDUCE,
        forge.APPEND,
        forge.STOP,
    ),
    "100,000 names": lambda: forge.stream(PROTO, *(forge.GLOBAL("m", f"n{i}") + forge.POP for i in range(100_000)), PAYLOAD, forge.STOP),
    "a name of a million dots": lambda: forge.stream(forge.GLOBAL("a" + ".a" * 1_000_000, "b"), forge.STOP),
    "a text name of 2,000 dots": lambda: forge.stream(
        PROTO, forge.TEXT("a" + ".a" * 2_000), forge.TEXT("b" * 3_000), forge.STACK_GLOBAL, forge.STOP
    ),
    "an integer of a million digits": lambda: forge.stream(forge.LINE("LONG", b"9" * 1_000_000 + b"L"), forge.STOP),
    "an integer of a million bytes": lambda: forge.stream(
        PROTO, forge.LENGTH("LONG4", 1_000_000, b"\x7f" * 1_000_000), PAYLOAD, forge.STOP
    ),
    "a string of escapes": lambda: forge.stream(forge.LINE("STRING", b"'" + b"\\x41" * 500_000 + b"'"), PAYLOAD, forge.STOP),
    "100,000 streams": lambda: forge.stream(forge.PROTO(2), forge.NONE, forge.STOP) * 99_999 + HOSTILE,
    "bytearray of 2**33": lambda: forge.stream(forge.PROTO(2), forge.call("builtins", "bytearray", forge.INT(1 << 33)), forge.STOP),
    "range of 2**62": lambda: forge.stream(
        forge.PROTO(2), forge.call("builtins", "list", forge.call("builtins", "range", forge.INT(1 << 62))), forge.STOP
    ),
    "gzip of 600 MiB": lambda: _zeros(lambda: zlib.compressobj(1, zlib.DEFLATED, 31), 600),
    "bzip2 of 300 MiB": lambda: _zeros(lambda: bz2.BZ2Compressor(1), 300),
    "xz of 300 MiB": lambda: _zeros(lambda: lzma.LZMACompressor(preset=0), 300),
    "gzip in gzip in gzip": lambda: _nested_gzip(6),
    "an xz dictionary of 4 GiB": lambda: b"]\0\0\0\xff" + b"\xff" * 8 + bytes(64),
    "a deflated member of 600 MiB": lambda: zip_file(
        Part(
            "data.pkl",
            packed=_zeros(lambda: zlib.compressobj(1, zlib.DEFLATED, -15), 600),
            method=8,
            local={"nbytes": 600 * MIB, "crc": 0},
            central={"nbytes": 600 * MIB, "crc": 0},
        )
    ),
    "a member that promises 2**40": lambda: zip_file(
        Part("data.pkl", b"x", method=8, local={"nbytes": 0xFFFFFFFE}, central={"nbytes": 0xFFFFFFFE})
    ),
    "an array of 2**60": lambda: _npy("(1152921504606846976,)"),
    "an array of many huge dimensions": lambda: _npy("(" + "9999999999," * 30 + ")"),
    "an array of objects of 2**60": lambda: _npy("(1152921504606846976,)", "'|O'") + HOSTILE,
    "a safetensors header of 2**63": lambda: file_of({}, length=1 << 63),
    "a safetensors header of 99 MB that is not there": lambda: file_of({}, length=99_000_000),
    "a legacy file of 2**60 elements": lambda: legacy(HOSTILE) + struct.pack("<q", 1 << 60),
    "a checkpoint of 400,000 opcodes": lambda: checkpoint(forge.stream(PROTO, (forge.NONE + forge.POP) * 200_000, PAYLOAD, forge.STOP)),
}

# Nothing dangerous in them: they need not be refused, and must end.
HARMLESS = frozenset({"lists of ten times the one below", "a frozenset in a frozenset", "dicts 100,000 deep", "gzip in gzip in gzip"})
FILES = {**LENGTHS, **BOMBS}
# Those without a payload, whose trick has a rule of its own.
NAMED = {
    "tuples doubled by DUP": "SL127",
    "tuples tripled by DUP": "SL127",
    "bytearray of 2**33": "SL104",
    "range of 2**62": "SL104",
    "gzip of 600 MiB": "SL208",
    "bzip2 of 300 MiB": "SL208",
    "xz of 300 MiB": "SL208",
    "calls 100,000 deep": "SL103",
    "a call that is its own argument": "SL101",
}


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[str, list[str], str | None, float]]:
    """Scan every file, in one process; it dies of what needs more than its memory."""
    files = {name: make() for name, make in FILES.items()}
    payload = b"".join(struct.pack("<I", len(data)) + data for data in files.values())
    script = Path(__file__).with_name("bounded.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], input=payload, capture_output=True, check=False, timeout=600, env=environment)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, (list(files)[len(lines)], done.stderr.decode()[-2000:])
    return {name: tuple(json.loads(line)) for name, line in zip(files, lines, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_scan_ends_soon_in_little_memory_and_allows_nothing(
    name: str, answers: dict[str, tuple[str, list[str], str | None, float]]
) -> None:
    """A scanner that can be made to hang or to die is one that can be switched off."""
    outcome, rules, error, seconds = answers[name]
    assert seconds < SECONDS
    if name not in HARMLESS:
        assert outcome != "allowed", (rules, error)
    if name in LENGTHS:
        assert outcome == "refused"
        assert {"SL101", "SL129"} <= set(rules)
    if name in NAMED:
        assert NAMED[name] in rules, (rules, error)


def test_a_length_of_half_the_address_space_does_not_move_the_walker_backwards() -> None:
    """Read as signed it would be negative: the same opcodes again and again, or a call never met."""
    from tests.forge_attacks import refused

    for length in (1 << 63, (1 << 64) - 12, (1 << 64) - 1):
        refused(_length("BINBYTES8", length, 8), "SL101", "SL129", subject="os.system")
