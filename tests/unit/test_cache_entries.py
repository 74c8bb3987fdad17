"""What lies at a place in the cache where safeload put nothing: it is no answer, and nobody waits for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safeload.conversion.cache import TwinCache
from safeload.signatures import result_cache
from safeload.source import Source
from safeload.trust import cache
from safeload.trust.digest import root_of_leaves

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of one's own, and an end to waiting."""

    def too_long(_number: int, _frame: object) -> None:
        raise AssertionError("waits for the other end of a pipe")

    monkeypatch.setenv("SAFELOAD_CACHE", str(tmp_path / "cache"))
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield tmp_path / "cache"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    """More than is read, and sparse."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


anything = pytest.mark.parametrize("put", [pipe, link_to_a_pipe, link_to_a_device, directory, loop, endless])


@anything
def test_a_stamp(root: Path, tmp_path: Path, put: Callable[[Path], None]) -> None:
    (tmp_path / "m.bin").write_bytes(b"bytes")
    stamps = cache.Stamps.here()
    assert stamps is not None
    with Source.open(tmp_path / "m.bin") as source:
        info = source.stat
        assert info is not None
        put(root / "stamps" / f"{info.st_dev:x}-{info.st_ino:x}.json")
        assert not stamps.holds(source, (KEY, None))


@anything
def test_leaves(root: Path, put: Callable[[Path], None]) -> None:
    leaves = [bytes(32)]
    tree = root_of_leaves(5, leaves)
    assert cache.write_leaves(tree, leaves)
    assert cache.read_leaves(5, tree) == leaves
    (root / "leaves" / tree).unlink()
    put(root / "leaves" / tree)
    assert cache.read_leaves(5, tree) is None


@anything
def test_a_twin(root: Path, put: Callable[[Path], None]) -> None:
    twins = TwinCache.here()
    assert twins is not None
    put(root / "converted" / f"{KEY}.json")
    assert twins.find(KEY) is None
    assert twins.entries() == []
    assert twins.prune(0) == []


@anything
def test_a_verified_signature(root: Path, put: Callable[[Path], None]) -> None:
    (root / "signatures" / KEY[:2]).mkdir(parents=True)
    put(root / "signatures" / KEY[:2] / KEY)
    assert result_cache.lookup(KEY, disk=True) is None
