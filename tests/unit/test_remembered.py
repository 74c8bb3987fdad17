"""A policy and a lockfile that have not changed are parsed once in a process; any change counts at once."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

import safeload
from safeload.errors import LockfileError, PolicyError, SafeloadWarning
from safeload.lockfile import Lockfile, read
from safeload.policy import load_policy, read_policy
from safeload.remembered import Remembered


def test_the_same_bytes_are_made_once_and_other_bytes_anew() -> None:
    made: list[bytes] = []

    def make(data: bytes) -> tuple[bytes]:
        made.append(data)
        return (data,)

    cache: Remembered[tuple[bytes]] = Remembered(most=2, longest=3)
    first = cache.of("k", b"a", make)
    assert cache.of("k", b"a", make) is first
    assert cache.of("k", b"b", make) == (b"b",)
    assert cache.of("k", b"a", make) == (b"a",)  # only the latest is kept
    assert cache.of("other", b"a", make) is not cache.of("k", b"a", make)
    assert made == [b"a", b"b", b"a", b"a"]
    cache.of("third", b"c", make)  # one too many: all are forgotten
    cache.of("k", b"a", make)
    cache.of("long", b"long", make)
    cache.of("long", b"long", make)
    assert made[4:] == [b"c", b"a", b"long", b"long"]


def test_an_error_is_not_remembered() -> None:
    cache: Remembered[int] = Remembered(most=2, longest=3)
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid"):
            cache.of("k", b"x", int)
    assert cache.of("k", b"1", int) == 1


def same_stat(path: Path, text: str) -> None:
    """Write other bytes, and make everything but the bytes look as it was."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_a_policy_that_changed_counts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same size, same times: the bytes are compared, nothing else."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "safeload.toml"
    path.write_text('unpinned = "allow" ')
    first = load_policy()
    assert load_policy() is first
    assert read_policy(path) == first
    same_stat(path, 'unpinned = "refuse"')
    assert load_policy().unpinned == "refuse"
    same_stat(path, 'unpinned = "whatev"')
    for _ in range(2):
        with pytest.raises(PolicyError):
            load_policy()


def test_the_same_bytes_elsewhere_are_another_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in it are relative to where it lies."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "safeload.toml").write_text('unpinned = "allow"')
    found = []
    for name in ("a", "b"):
        monkeypatch.chdir(tmp_path / name)
        found.append(read_policy("safeload.toml").origin)
    assert found == [str(tmp_path / name / "safeload.toml") for name in ("a", "b")]


LOCK = 'lock-version = "1.0"\ncreated-by = "me"\n'


def test_a_lockfile_that_changed_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "safeload.lock"
    path.write_text(LOCK)
    first = read(path)
    assert isinstance(first, Lockfile)
    assert read(path) is first
    same_stat(path, LOCK.replace("me", "us"))
    assert read(path).created_by == "us"
    path.write_text("lock-")
    for _ in range(2):
        with pytest.raises(LockfileError):
            read(path)


def test_a_newer_lockfile_warns_each_time_at_the_line_that_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "safeload.lock"
    path.write_text(LOCK.replace("1.0", "1.9"))
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read(path)
        assert [(item.category, item.filename) for item in caught] == [(SafeloadWarning, __file__)]


def test_a_load_sees_the_policy_of_this_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From end to end: what a load refuses, the next one allows, because the file says so now."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(1)}, "m.pt")
    path = tmp_path / "safeload.toml"
    path.write_text('unpinned = "refuse"')
    with pytest.raises(safeload.RefusedError):
        safeload.load("m.pt")
    same_stat(path, 'unpinned = "allow" ')
    assert list(safeload.load("m.pt")) == ["w"]
