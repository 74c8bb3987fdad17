"""The watch over imports, code and files must see what it promises to see."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safeload.lean_dataclass import dataclass
from tests.watch import nothing_runs

ACTS: dict[str, Callable[[Path], object]] = {
    "import": lambda path: __import__("colorsys"),
    "exec": lambda path: exec("1"),
    "unpickle": lambda path: pickle.loads(b"cbuiltins\nlen\n."),
    "process": lambda path: subprocess.run([sys.executable, "-c", ""], check=True),
    "write": lambda path: path.write_bytes(b""),
    "open for appending": lambda path: os.close(os.open(path, os.O_APPEND)),
    "make a directory": lambda path: (path.parent / "new").mkdir(),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_act_is_seen(name: str, tmp_path: Path) -> None:
    """A watch that sees nothing would pass everything."""
    sys.modules.pop("colorsys", None)
    (tmp_path / "file").touch()
    with pytest.raises(AssertionError), nothing_runs():
        ACTS[name](tmp_path / "file")


def test_reading_is_no_act(tmp_path: Path) -> None:
    """Reading the file is what a load is there for; writing is, for a conversion."""
    (tmp_path / "file").write_bytes(b"1")
    with nothing_runs():
        assert (tmp_path / "file").read_bytes() == b"1"
    with nothing_runs(writing=True):
        (tmp_path / "file").write_bytes(b"2")


def test_the_first_instance_of_an_own_class_is_no_act() -> None:
    """safeload's dataclasses compile their `__init__` late; anything else that compiles is seen, beside it too."""

    @dataclass(frozen=True, slots=True)
    class Fresh:
        number: int

    with nothing_runs():
        assert Fresh(3).number == 3

    @dataclass(frozen=True, slots=True)
    class Second:
        number: int

    with pytest.raises(AssertionError, match="compile"), nothing_runs():
        compile(str(Second(3).number), "<test>", "eval")
