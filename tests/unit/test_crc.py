"""CRC-32 by carry-less multiplication: zlib is the witness."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeload.hashing import crc
from safeload.hashing.crc import crc32
from safeload.parallel import Crc

TEXT = hashlib.shake_128(b"crc").digest(40_000)

try:
    from safeload.hashing import _crc_c
except ImportError:  # no compiler: zlib does it
    _KERNEL = False
else:
    _KERNEL = _crc_c.available()


@given(st.integers(0, 300), st.integers(0, 40_000), st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_any_length_from_anywhere_gives_what_zlib_gives(start: int, nbytes: int, value: int) -> None:
    part = memoryview(TEXT)[start : start + nbytes]
    assert crc32(part, value) == zlib.crc32(part, value)


def test_pieces_of_a_range_in_any_order_give_its_crc() -> None:
    whole = Crc()
    for at in (32_768, 0, 16_384):
        whole.update(at, memoryview(TEXT)[at : at + 16_384])
    assert whole.value() == zlib.crc32(TEXT)


@pytest.mark.skipif(not _KERNEL, reason="the kernel was not built, or the processor has no instructions for it")
class TestKernel:
    def test_every_length_around_those_where_other_code_begins(self) -> None:
        """Registers of 16 bytes, four of them at once, and what is left of both."""
        for nbytes in range(400):
            part = memoryview(TEXT)[nbytes % 17 :][:nbytes]
            assert _crc_c.crc32(part, nbytes * 0x9E3779) == zlib.crc32(part, nbytes * 0x9E3779)

    @pytest.mark.parametrize("value", [0, 1, 0x80000000, 0xFFFFFFFF])
    @pytest.mark.parametrize("byte", [b"\0", b"\xff", b"\x80"])
    def test_runs_of_one_byte(self, value: int, byte: bytes) -> None:
        assert _crc_c.crc32(byte * 4099, value) == zlib.crc32(byte * 4099, value)

    def test_it_is_what_is_used(self) -> None:
        assert crc._best() is _crc_c.crc32

    def test_views_that_are_no_run_of_bytes_are_refused(self) -> None:
        with pytest.raises((BufferError, ValueError)):
            _crc_c.crc32(memoryview(TEXT)[::2])

    def test_the_variable_turns_it_off(self) -> None:
        code = "import zlib; from safeload.hashing import crc; assert crc._best() is zlib.crc32"
        subprocess.run([sys.executable, "-c", code], check=True, env={"SAFELOAD_HASHING": "hashlib"})

    def test_one_that_does_not_agree_is_not_used(self) -> None:
        assert crc._agrees(zlib.crc32)
        assert not crc._agrees(lambda data, value: zlib.crc32(data, value) ^ (len(data) == 64 + 3))
