"""GGML files from before GGUF: right to the last byte, or refused."""

from __future__ import annotations

import random
import struct

import pytest

from safeload.findings import Level, Outcome
from tests.forge_attacks import scan
from tests.forge_ggml import ggml, tensor

LLAMA = {"magic": b"tjgg", "version": 3, "scores": True}


@pytest.mark.parametrize(
    "file",
    [
        ggml(), ggml(numbers=6, counted=True), ggml(numbers=8), ggml(numbers=9, scores=True), ggml(numbers=11, counted=True, filters=True),
        ggml(b"fmgg", version=1, scores=True), ggml(b"tjgg", version=1, scores=True), ggml(b"tjgg", version=3, scores=True),
        ggml(b"algg", version=1), ggml(words=()), ggml(tensors=(("a", (2, 3, 4, 5), 1), ("b", (32,), 8), ("c", (32,), 3))),
        ggml(tensors=()) + tensor("q", (32,), 2, bytes(20)) + tensor("r", (64,), 8, bytes(72)),
    ],
)  # fmt: skip
def test_the_form_of_each_program_is_read(file: bytes) -> None:
    report = scan(file)
    assert (report.format, report.decision.outcome) == ("ggml", Outcome.ALLOWED)


@pytest.mark.parametrize(
    "tensors",
    [
        (("w", (1 << 20, 1 << 20), 0),), (("w", (0, 4), 0),), (("w", (33,), 2),), (("w", (4,), 99),), (("w", (1,) * 5, 0),),
        (("", (4,), 0),),
        (("w", (0xFFFFFFFF,) * 4, 0),), (("w", (4,), 0), ("w", (4,), 0)),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(tensors: tuple[tuple[str, tuple[int, ...], int], ...]) -> None:
    file = ggml(b"tjgg", version=3, scores=True, tensors=())
    for name, dims, kind in tensors:
        file += tensor(name, dims, kind, bytes(16), at=len(file))
    report = scan(file)
    assert report.decision.outcome is Outcome.REFUSED
    assert {item.rule for item in report.findings if item.level is Level.ERROR} == {"SL851"}


@pytest.mark.parametrize("behind", [b"x", b"\0" * 64, b"cos\nsystem\n(S'true'\ntR."])
def test_bytes_behind_the_last_tensor_are_no_tensor(behind: bytes) -> None:
    assert scan(ggml(b"tjgg", version=3, scores=True) + behind).decision.outcome is Outcome.REFUSED
    assert scan(ggml() + behind).decision.outcome is Outcome.ERROR  # of the oldest magic's files nobody knows all


def test_counts_beyond_the_file_cost_nothing() -> None:
    file = bytearray(ggml(b"tjgg", version=3, scores=True))
    for count in (0xFFFFFFFF, 1 << 31):
        struct.pack_into("<I", file, 8, count)
        assert {item.rule for item in scan(bytes(file)).findings if item.level is Level.ERROR} == {"SL851"}


def test_damaged_files_are_reports_and_nothing_else() -> None:
    rng = random.Random(8)
    for good in (ggml(), ggml(b"tjgg", version=3, scores=True), ggml(numbers=11, counted=True, filters=True), ggml(b"algg", version=1)):
        for _ in range(300):
            data = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(4, len(data))] = rng.randrange(256)
            report = scan(bytes(data[: rng.randrange(4, len(data) + 1)]))
            assert "internal" not in (report.error or "")
