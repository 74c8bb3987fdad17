"""Fingerprints: the compiled part and the one in Python are each other's witness."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeload.hashing import fingerprint
from safeload.hashing.fingerprint import FINGERPRINT_BYTES, Fingerprint, key_of

KEY = key_of(bytes(range(32)))


def text(nbytes: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(nbytes)


def taken(data: bytes, *, key: bytes = KEY, piece: int = 1 << 30) -> bytes:
    made = Fingerprint(key)
    for at in range(0, max(len(data), 1), piece):
        made.update(data[at : at + piece])
    return made.value()


def in_python(data: bytes, key: bytes = KEY) -> bytes:
    state = bytearray(FINGERPRINT_BYTES)
    fingerprint._absorb(state, key, data)
    return bytes(state)


@given(st.integers(0, 5000), st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_both_give_the_same_however_the_bytes_come(nbytes: int, seed: int, blocks: int) -> None:
    """Whole blocks, a tail that is filled up, nothing at all."""
    data = text(nbytes, seed)
    assert taken(data, piece=1024 * blocks) == taken(data) == in_python(data)


def test_the_largest_values() -> None:
    """Sums of products and the field's modulus are where a carry would be lost."""
    for key in (b"\xff" * len(KEY), bytes(len(KEY)), KEY):
        for data in (b"\xff" * 4096, bytes(4096), b"\xff" * 1025):
            assert taken(data, key=key) == in_python(data, key)


@pytest.mark.parametrize("at", [0, 1, 1023, 1024, 4095, 4999])
def test_one_bit_changes_both_halves(at: int) -> None:
    """Each half is a fingerprint of its own: 2**-64 is the product of both."""
    data = bytearray(text(5000))
    before = taken(bytes(data))
    data[at] ^= 4
    after = taken(bytes(data))
    assert before[:8] != after[:8]
    assert before[8:] != after[8:]


def test_blocks_in_another_order_and_another_key() -> None:
    """A sum of blocks would not see the first, and a file that was made for one key must not fit another."""
    data = text(2048)
    assert taken(data) != taken(data[1024:] + data[:1024])
    assert taken(data) != taken(data, key=key_of(bytes(32)))


def test_a_key_depends_on_every_byte_of_the_secret() -> None:
    """What one process draws, nobody else can take out again."""
    assert len({key_of(bytes(at) + b"x" + bytes(31 - at)) for at in range(32)}) == 32


def test_hashlib_alone_means_no_fingerprints() -> None:
    """The switch that distrusts compiled hashing distrusts this, too."""
    code = "from safeload.hashing.fingerprint import usable; print(usable())"
    env = {"SAFELOAD_HASHING": "hashlib", "PATH": "/usr/bin:/bin"}
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    assert answer.stdout == "False\n"


@pytest.mark.skipif(fingerprint._compiled() is None, reason="no compiler was there, and the part in Python takes what it is given")
def test_the_compiled_part_refuses_other_sizes() -> None:
    """A state or key that is too short would be read past its end."""
    from safeload.hashing import _fingerprint_c

    for state, key in ((bytearray(8), KEY), (bytearray(16), KEY[:-1]), (bytearray(17), KEY)):
        with pytest.raises(ValueError, match="a state has 16 bytes"):
            _fingerprint_c.absorb(state, key, b"data")
    with pytest.raises(TypeError):
        _fingerprint_c.absorb(bytes(16), KEY, b"data")
