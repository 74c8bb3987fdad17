"""SHA-256 side by side: whatever the processor does it with, hashlib is the witness."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeload import hashing
from safeload.hashing import BLOCK, MOST_LANES, Lanes, _Compiled, _compiled, _Plain, lanes

try:
    from safeload.hashing import _lanes_c
except ImportError:  # no compiler: hashlib does it, and that is tested just the same
    _KERNELS = False
else:
    _KERNELS = _lanes_c.width() > 0

MAKERS: list[Callable[[int], Lanes]] = [_Plain, lanes]


def text(nbytes: int, seed: int) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(nbytes)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("count", [*range(1, 35), MOST_LANES])
def test_every_number_of_lanes_gives_what_hashlib_gives(make: Callable[[int], Lanes], count: int) -> None:
    """Lanes without work, pairs and sixteens are different code."""
    strings = [text(5 * BLOCK, lane) for lane in range(count)]
    made = make(count)
    made.update(strings, 2 * BLOCK)
    made.update([memoryview(string)[2 * BLOCK :] for string in strings], 3 * BLOCK)
    assert made.digests() == [hashlib.sha256(string).digest() for string in strings]


@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 2**32)), min_size=1, max_size=20),
    st.integers(0, 8),
    st.sampled_from(MAKERS),
)
@settings(max_examples=150, deadline=None)
def test_lanes_of_different_lengths(shapes: list[tuple[int, int]], together: int, make: Callable[[int], Lanes]) -> None:
    """Chains go side by side as far as the shortest reaches, then alone, and end anywhere."""
    strings = [text(nbytes, seed) for nbytes, seed in shapes]
    common = min(together, min(len(string) for string in strings) // BLOCK) * BLOCK
    made = make(len(strings))
    made.update(strings, common)
    found = []
    for lane, string in enumerate(strings):
        whole = len(string) // BLOCK * BLOCK
        made.advance(lane, string[common:whole])
        found.append(made.finish(lane, string[whole:]))
    assert found == [hashlib.sha256(string).digest() for string in strings]


def test_more_than_four_gigabits() -> None:
    """The number of bits at the end of a message outgrows 32 bits."""
    piece = memoryview(bytearray(64 << 20))
    made, hasher = lanes(1), hashlib.sha256()
    for _ in range(9):
        made.update([piece], len(piece))
        hasher.update(piece)
    assert made.digests() == [hasher.digest()]


@pytest.mark.skipif(not _KERNELS, reason="the kernels were not built, or the processor has no instructions for them")
class TestKernels:
    @pytest.mark.parametrize(
        ("states", "views", "nbytes"),
        [
            (bytearray(32), [bytes(64), bytes(64)], 64),
            (bytearray(64), [bytes(64)], 64),
            (bytearray(32), [bytes(64)], 63),
            (bytearray(32), [bytes(64)], -64),
            (bytearray(32), [bytes(64)], 128),
            (bytearray(64), [bytes(128), bytes(127)], 128),
            (bytearray(32 * 65), [bytes(64)] * 65, 64),
        ],
    )
    def test_lengths_that_do_not_fit_are_refused(self, states: bytearray, views: list[bytes], nbytes: int) -> None:
        """Nothing is read or written outside what was handed over."""
        before = bytes(states)
        with pytest.raises(ValueError, match=r"state|shorter"):
            _lanes_c.advance(states, views, nbytes)
        assert states == before

    def test_a_state_must_be_writable_and_a_view_a_buffer(self) -> None:
        with pytest.raises((TypeError, BufferError)):
            _lanes_c.advance(bytes(32), [bytes(64)], 64)  # type: ignore[arg-type,unused-ignore]
        with pytest.raises(TypeError):
            _lanes_c.advance(bytearray(32), ["text"], 64)  # type: ignore[list-item,unused-ignore]

    def test_they_are_not_used_when_they_disagree(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong digest would refuse every pinned file: better slow."""

        class Wrong:
            def width(self) -> int:
                return 16

            def advance(self, states: bytearray, views: list[bytes], nbytes: int) -> None:
                _lanes_c.advance(states, views, nbytes)
                states[-1] ^= 1

        assert not hashing._agrees(Wrong())
        assert hashing._agrees(_lanes_c)

    def test_hashlib_can_be_asked_for(self) -> None:
        code = "from safeload.hashing import lanes, width; print(type(lanes(2)).__name__, width())"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"SAFELOAD_HASHING": "hashlib", "PATH": ""}
        )
        assert done.stdout.split() == ["_Plain", "1"]
        assert _compiled() is None or isinstance(lanes(2), _Compiled)
