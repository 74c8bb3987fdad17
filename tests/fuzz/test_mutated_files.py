"""Damaged and forged model files: only a SafeloadError or the right result comes out, in bounded time, and nothing runs.

SAFELOAD_FUZZ sets how many files are tried (a share of it here; `./run fuzz` takes 100,000). Published files join in where
SAFELOAD_REAL_DIR says they lie.
"""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import random
import time
import warnings
from typing import Any

import pytest
import torch

import safeload.build
import safeload.formats
import safeload.walk
from safeload.errors import SafeloadError
from tests import forge
from tests.compare import difference
from tests.fuzz.seeds import fuzz_seeds, real_seeds
from tests.watch import nothing_runs

COUNT = int(os.environ.get("SAFELOAD_FUZZ", "4000"))
SEEDS = [*fuzz_seeds(), *real_seeds()]
SLOWEST = 20.0  # seconds of processor time for one small file: a hang
DENSE = ("state dict", "dtypes", "training", "bits")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Flip bits, cut, splice, swap ranges, or overwrite a length."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        kind, at = rng.randrange(8), rng.randrange(max(1, len(out)))
        if kind <= 1:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + rng.randint(1, 64)]
        elif kind == 5:
            size = rng.randint(1, 64)
            other = rng.randrange(max(1, len(out)))
            out[at : at + size] = out[other : other + size]
        elif kind == 6:
            out[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\0\0\0\0"])
        else:
            out[at:at] = forge.random_stream(rng, 6)
        if not out:
            return b"\0"
    return bytes(out)


def outcome(data: bytes, **options: Any) -> tuple[str, Any]:
    """Load a file: ("value", it) or ("refused", the error). Anything else is the failure that this looks for."""
    try:
        return "value", safeload.load(memoryview(data), map_location="cpu", policy={}, lock=False, **options)
    except SafeloadError as error:
        return "refused" if str(error) else "refused without a word", error


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Import late what is imported late, so that only the files' own doing is left to see."""
    rng = random.Random(5)
    for package in (safeload.formats, safeload.walk, safeload.build):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for codec in ("raw_unicode_escape", "unicode_escape", "latin-1", "ascii", "utf-8", "cp437"):  # codecs are modules; their names are ours
        assert b"a".decode(codec) == "a"
    for wide in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"):
        assert "a".encode(wide).decode(wide) == "a"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _, data in SEEDS:
            for version in (data, damaged(rng, data), data[: len(data) // 2]):
                outcome(version)
                outcome(version, unknown="inert")
                safeload.scan(version, policy={}, lock=False)
        safeload.scan(b"cos\nsystem\n(S'x'\ntR.", policy={}, lock=False)
        safeload.scan(b"\xef\xbb\xbf<html>", policy={}, lock=False)


@pytest.mark.filterwarnings("ignore")
def test_fuzz_damaged_files_end_in_our_errors_and_run_nothing() -> None:
    """No builtin exception, no hang, no import, no file, no process: for every format and kind of object."""
    rng = random.Random(20261123)
    results = {"value": 0, "refused": 0}
    for number in range(COUNT // 4):
        name, data = SEEDS[number % len(SEEDS)]
        bad = damaged(rng, data)
        began = time.process_time()
        with nothing_runs():
            report = safeload.scan(bad, policy={}, lock=False)
            kind, _ = outcome(bad, unknown=rng.choice(["refuse", "inert"]))
        took = time.process_time() - began
        results[kind] += 1
        assert took < SLOWEST, (name, took)
        assert report.decision.reasons != ("not decided",)
    assert min(results.values()) > COUNT // 1000, results  # most seeds are of formats that are never built


@pytest.mark.filterwarnings("ignore")
def test_fuzz_what_torch_also_loads_is_the_same() -> None:
    """Where both load a damaged file, both load the same; dense kinds only, because torch may crash on others."""
    rng = random.Random(3)
    seeds = [(name, data) for name, data in SEEDS if name.startswith(DENSE)]
    both = 0
    for number in range(COUNT // 16):
        name, data = seeds[number % len(seeds)]
        bad = damaged(rng, data)
        kind, value = outcome(bad)
        if kind != "value":
            continue
        try:
            theirs = torch.load(io.BytesIO(bad), map_location="cpu", weights_only=True)
        except Exception:  # noqa: BLE001 — torch refuses more than we do, in many ways
            continue
        both += 1
        assert difference(value, theirs) is None, (name, difference(value, theirs))
    assert both > COUNT // 1000
