"""`verify = "cached"`: a stamp saves hashing a file that did not change, and nothing that changes a file keeps its stamp."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import PinError
from safeload.trust import cache

torch = pytest.importorskip("torch")

POLICY = {"verify": "cached"}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pinned checkpoint with a private cache; a racy window that a test can wait for."""
    monkeypatch.setenv("SAFELOAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "RACY_NS", 20_000_000)
    path = tmp_path / "m.pt"
    torch.save({"w": torch.arange(50_000.0)}, path)
    safeload.lock(path, lock=tmp_path / "safeload.lock")
    return path


def load(path: Path, **more: Any) -> Any:
    """Load it as pinned."""
    return safeload.load(path, lock=path.parent / "safeload.lock", policy=POLICY, **more)


def hashed(path: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> bool:
    """Load, and say whether the bytes were hashed."""
    from safeload import gate

    calls: list[int] = []
    whole = gate.tree_of

    def counting(source: Any) -> str:
        calls.append(1)
        return whole(source)

    with monkeypatch.context() as patched:
        patched.setattr(gate, "tree_of", counting)
        assert torch.equal(load(path, **more)["w"], torch.arange(50_000.0))
    return bool(calls)


def tampered(path: Path) -> bytes:
    """Bytes of the same length with one weight changed, CRC and all left alone."""
    data = bytearray(path.read_bytes())
    at = data.find(torch.arange(50_000.0).numpy().tobytes())
    data[at + 60_000] ^= 1  # not beside a header, which would have been read before
    return bytes(data)


def settle() -> None:
    """Wait until the racy window is over."""
    time.sleep(0.06)


@pytest.mark.parametrize("mmap", [False, True])
def test_the_second_load_hashes_nothing(model: Path, monkeypatch: pytest.MonkeyPatch, mmap: bool) -> None:
    """That is what it is for."""
    settle()
    assert hashed(model, monkeypatch, mmap=mmap)
    assert not hashed(model, monkeypatch, mmap=mmap)


def test_a_file_that_changed_just_now_is_not_stamped(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the clock's resolution it could change again and keep its times."""
    monkeypatch.setattr(cache, "RACY_NS", 3_600_000_000_000)
    assert hashed(model, monkeypatch)
    assert hashed(model, monkeypatch)


def rewritten(path: Path) -> None:
    """Same size, same modification time, same inode."""
    info, data = path.stat(), tampered(path)
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def replaced(path: Path) -> None:
    """Another inode of the same size and times."""
    info = path.stat()
    other = path.with_name("other")
    other.write_bytes(tampered(path))
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    other.replace(path)


def mapped_write(path: Path) -> None:
    """Through a shared mapping, the modification time restored."""
    import mmap

    info, data = path.stat(), tampered(path)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:] = data
        view.flush()
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


@pytest.mark.parametrize("attack", [rewritten, replaced, mapped_write])
def test_a_changed_file_is_refused_whatever_its_times_say(model: Path, attack: Callable[[Path], None]) -> None:
    """The change time and the inode tell, and those cannot be set."""
    settle()
    load(model)
    attack(model)
    with pytest.raises(PinError):
        load(model)


def _stamp(model: Path) -> Path:
    (found,) = (model.parent / "cache" / "stamps").glob("*.json")
    return found


def test_a_clock_that_was_set_back_makes_stamps_worthless(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change made under the old clock could then have the times of before."""
    settle()
    load(model)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 86_400_000_000_000)
    assert hashed(model, monkeypatch)


def test_a_file_from_the_future_is_not_stamped(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times say nothing about when it changed."""
    ahead = time.time_ns() + 10**12
    os.utime(model, ns=(ahead, ahead))
    assert hashed(model, monkeypatch)
    assert hashed(model, monkeypatch)


def test_a_copied_cache_is_not_believed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's inodes mean other files."""
    settle()
    load(model)
    old = model.parent / "cache"
    old.rename(model.parent / "was")
    shutil.copytree(model.parent / "was", old)
    assert hashed(model, monkeypatch)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"at": 1}', "[" * 5000, '{"at": true}'])
def test_a_broken_stamp_only_costs_a_hash(model: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A cache is input."""
    settle()
    load(model)
    _stamp(model).write_text(text)
    assert hashed(model, monkeypatch)


def test_another_pin_than_the_stamp_s_is_compared(model: Path) -> None:
    """The stamp is for digests, not for a path."""
    settle()
    load(model)
    lock = model.parent / "safeload.lock"
    entry = json.loads(_stamp(model).read_text())
    lock.write_text(lock.read_text().replace(entry["tree"], "0" * 64))
    with pytest.raises(PinError):
        load(model)


def test_a_cache_that_others_may_write_is_not_used(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a stamp decides what is not hashed."""
    settle()
    load(model)
    (model.parent / "cache").chmod(0o777)
    assert hashed(model, monkeypatch)


def test_a_change_while_the_file_is_read_falls_back_to_hashing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp was looked at before the bytes were read; the times are looked at once more behind them."""
    settle()
    load(model)
    from safeload.build import storages

    read = storages.read_storages

    def slow(*args: Any, **kwargs: Any) -> Any:
        rewritten(model)
        return read(*args, **kwargs)

    monkeypatch.setattr(storages, "read_storages", slow)
    with pytest.raises(PinError):
        load(model)


def test_always_is_the_default(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody trusts a stamp without having said so."""
    settle()
    load(model)
    monkeypatch.setattr("test_verified_once.POLICY" if __name__ == "test_verified_once" else f"{__name__}.POLICY", {})
    assert hashed(model, monkeypatch)
