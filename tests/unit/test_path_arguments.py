"""Whatever the system says about a path that a caller names is a SafeloadError, but for the three errors that leave as they are."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.conversion import check, export
from safeload.errors import ArgumentError, NoDirectoryError, SafeloadError, UnopenedError

DOORS: dict[str, Callable[[Any], object]] = {
    "scan": lambda path: safeload.scan(path, lock=False),
    "inspect": safeload.inspect,
    "lock": safeload.lock,
    "the lockfile to write": lambda path: safeload.lock("m.pkl", lock=path),
    "the lockfile to compare with": lambda path: safeload.verify(lock=path),
    "the lockfile in force": lambda path: safeload.scan("m.pkl", lock=path),
    "the policy": lambda path: safeload.scan("m.pkl", policy=path, lock=False),
    "what to convert": safeload.convert,
    "where to convert to": lambda path: safeload.convert("m.pkl", path),
    "what to check": lambda path: check("m.pkl", path),
    "what to export": lambda path: export(path, Path("out.pt")),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("m.pkl").write_bytes(pickle.dumps({"a": 1}))
    Path("loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    return tmp_path


PATHS: list[Any] = ["loop", "socket", "a" * 300, "m.pkl/x", "m.pkl\0x", "\ud800.pkl", 7, 3.5, ["m.pkl"]]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path)[:12])
@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_path_and_what_cannot_be_opened_is_said_in_our_words(door: str, path: Any, here: Path) -> None:
    """FileNotFoundError, IsADirectoryError and PermissionError are the caller's to catch, and nothing else is."""
    with contextlib.suppress(SafeloadError, FileNotFoundError, IsADirectoryError, PermissionError):
        DOORS[door](path)
    assert not (here / "out.pt").exists()


def test_the_errors_are_the_systems_too(here: Path) -> None:
    """Callers of torch.load catch OSError and look at its number."""
    with pytest.raises(UnopenedError, match="too many") as caught:
        safeload.scan("loop", lock=False)
    assert isinstance(caught.value, OSError)
    assert (caught.value.filename, caught.value.where) == ("loop", "loop")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.errno, str(again)) == (caught.value.errno, str(caught.value))
    with pytest.raises(NotADirectoryError) as below:
        safeload.scan("m.pkl/x", lock=False)
    assert isinstance(below.value, NoDirectoryError)
    assert below.value.strerror == os.strerror(below.value.errno or 0)
    with pytest.raises(ArgumentError, match="dst is a float"):
        safeload.convert("m.pkl", 3.5)  # type: ignore[arg-type]
