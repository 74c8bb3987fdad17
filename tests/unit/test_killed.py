"""Killed at any moment, a conversion leaves nothing or the whole, and nothing that stands in the way; a full disk is an error.

`./run fuzz` kills 200 times each; here it is a few.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from safeload import load
from safeload.conversion import convert
from safeload.errors import UnsupportedError
from safeload.findings import Outcome
from safeload.pinning import lock as pin
from tests.forge_conversion import plain_checkpoint

ROOT = Path(__file__).parents[2]
TIMES = max(6, int(os.environ.get("SAFELOAD_FUZZ") or 0) // 500)
pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"), reason="no fork and no SIGKILL here")


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the system says so as it says that a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["convert", "force", "shards", "sidecar", "lock", "cache"])
def test_fuzz_killed_at_any_moment_it_leaves_nothing_or_the_whole(kind: str, tmp_path: Path) -> None:
    """No torn file and no stale lock: a new one, in the place of an old one, in several files, a twin, one in the cache."""
    command = [sys.executable, "-m", "tests.killing", kind, str(TIMES), str(TIMES), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMES * 30 + 60)
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout).values()) == TIMES


@pytest.mark.parametrize("limit", [100, 50_000, 500_000])
@pytest.mark.parametrize("how", [{"force": True}, {"dst": "other.safetensors"}, {"dst": "other.safetensors", "state_dict": True}])
def test_a_disk_that_is_full_leaves_source_and_destination_alone(limit: int, how: dict[str, Any], tmp_path: Path) -> None:
    """The system itself says so: at the header, within the data, and close to the end."""
    source = plain_checkpoint(tmp_path / "model.pt", names=30, numel=5000)
    before = source.read_bytes()
    old = tmp_path / "model.safetensors"
    old.write_bytes(b"old")
    target = {"dst": tmp_path / how["dst"]} if "dst" in how else {}
    with small_disk(limit), pytest.raises(UnsupportedError, match="no room for") as caught:
        convert(source, lock=False, **{**how, **target})
    assert "nothing was changed" in caught.value.hint
    assert (source.read_bytes(), old.read_bytes()) == (before, b"old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "model.safetensors"]


def test_a_disk_that_is_full_after_some_shards_leaves_none_of_them(tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "model.pt", names=30, numel=5000)
    convert(source, tmp_path / "sizes.safetensors", max_shard_size=100_000, lock=False)
    parts = sorted(tmp_path.glob("sizes-*"))
    largest = max(part.stat().st_size for part in parts)
    assert len(parts) > 3
    for part in [*parts, *tmp_path.glob("sizes.*")]:
        part.unlink()
    with small_disk(largest - 1), pytest.raises(UnsupportedError, match="no room for"):
        convert(source, max_shard_size=100_000, lock=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    with small_disk(largest):
        convert(source, max_shard_size=100_000, lock=False)


def test_a_full_disk_leaves_the_lockfile_alone(tmp_path: Path) -> None:
    source, lock = plain_checkpoint(tmp_path / "model.pt", names=30, numel=5000), tmp_path / "safeload.lock"
    pin(source, lock=lock)
    before = lock.read_bytes()
    with small_disk(50_000):
        found = pin(source, lock=lock, convert=True)
    assert found.outcome is Outcome.ERROR
    assert "no room for" in found.entries[0].reasons[0]
    assert lock.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "safeload.lock"]
    assert pin(source, lock=lock, convert=True).outcome is Outcome.ALLOWED


@pytest.mark.torch
def test_a_cache_that_is_full_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("SAFELOAD_CACHE", str(tmp_path / "cache"))
    source, lock = plain_checkpoint(tmp_path / "model.pt", names=30, numel=5000), tmp_path / "safeload.lock"
    pin(source, lock=lock)
    with small_disk(50_000):
        assert len(load(source, lock=lock, policy={"convert": "cache"})) == 30
    assert not list((tmp_path / "cache/converted").iterdir())
