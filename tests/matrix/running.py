"""Run the matrix: every row in both formats, with every argument and pickle protocol. Each row runs once per session."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch as typed_torch

from tests.matrix.arguments import ARGUMENTS
from tests.matrix.outcome import (
    BOTH,
    CANNOT,
    DIFFERS,
    ERROR,
    NEITHER,
    OURS,
    THEIRS,
    WRONG,
    Argument,
    File,
    Outcome,
    allowed,
    inert,
    judge,
    quietly,
    saved,
)
from tests.matrix.row import Row
from tests.matrix.rows import ROWS
from tests.matrix.tensors import DENSE, elements

__all__ = ["FORMATS", "PROTOCOLS", "Result", "dtype_result", "result"]

torch: Any = typed_torch

FORMATS: Final = ("zip", "legacy")
PROTOCOLS: Final = (0, 1, 3, 4, 5)
# They hold objects of C++ that do not survive protocols 0 and 1: torch.save ends the process.
_FRAGILE: Final = frozenset({"quantised, dynamic", "quantised, static", "compiled module", "ExportedProgram", "fx.GraphModule"})
# What is asked of files without storages: the rest of the arguments says where storages go.
_ALWAYS: Final = frozenset({"a path", "weights_only=False", 'encoding="latin1"', "a keyword that does not exist"})


@dataclass(slots=True)
class Result:
    """What came of one row.

    Attributes:
        cells: By format.
        granted: What comes of it when its globals are granted, or "".
        counts: By (what was varied, format): outcomes' words and how often.
        wrong: Everything that is neither agreement nor explained; a test fails on it.
    """

    cells: dict[str, Outcome] = field(default_factory=dict)
    granted: str = ""
    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, what: str, form: str, outcome: Outcome, base: Outcome) -> None:
        """Count one more outcome, and complain about it when it is no agreement and nothing explains it."""
        self.counts.setdefault((what, form), Counter())[outcome.word] += 1
        fine = outcome.word in (BOTH, OURS, ERROR, DIFFERS, CANNOT) or outcome.word == base.word
        by_code = what == "weights_only=False" and outcome.word == THEIRS and base.word == NEITHER
        if outcome.word == WRONG or not (fine or by_code or base.word in (CANNOT, THEIRS)):
            self.wrong.append(f"{what}, {form}: {outcome}; without it: {base}")


@contextmanager
def _surroundings(row: Row) -> Iterator[None]:
    """What a row needs to be made and loaded: a process group for distributed tensors."""
    if row.group != "distributed tensors":
        yield
        return
    import torch.distributed.tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _cannot(error: Exception) -> Outcome:
    text = str(error).strip().partition("\n")[0].partition(".")[0][:100].replace("|", "\\|")
    return Outcome(CANNOT, f"{type(error).__name__}, {text}")


def _has_storages(raw: bytes) -> bool:
    """Whether a file that torch wrote has storages; zips always have a record `.storage_alignment`."""
    return b"/data/0" in raw if raw.startswith(b"PK") else b"storage" in raw


def _asked(row: Row, raw: bytes) -> Iterator[Argument]:
    for argument in ARGUMENTS:
        if (_has_storages(raw) or argument.name in _ALWAYS) and not (row.numbers and argument.blank):
            yield argument


@functools.cache
def result(index: int) -> Result:
    """Run the row of this index in `ROWS`."""
    row, found = ROWS[index], Result()
    with quietly(), _surroundings(row), tempfile.TemporaryDirectory(prefix="safeload-matrix-") as directory:
        for form in FORMATS:
            _run(row, form, Path(directory, "m.pt"), found)
    return found


def _run(row: Row, form: str, path: Path, found: Result) -> None:
    legacy = form == "legacy"
    unread = row.legacy if legacy else ""
    try:
        value = row.make()
        raw = saved(value, legacy=legacy)
        zipped = saved(value, legacy=False) if legacy else b""
    except Exception as error:  # noqa: BLE001 - torch says in many classes that it cannot save something
        found.cells[form] = _cannot(error)
        return
    path.write_bytes(raw)
    file = File(raw, value, path, unread, zipped)
    base = judge(file)
    if base.word == THEIRS and row.why:
        base = Outcome(THEIRS, row.why)
    elif base.word in (THEIRS, WRONG):
        found.wrong.append(f"{form}: {base}")
    if base.word == NEITHER:
        found.granted = allowed(file, base.names) if base.names else ""
        refused = inert(file) if base.names else None
        if WRONG in found.granted or refused:
            found.wrong.append(f"{form}: {found.granted}; inert: {refused}")
    found.cells[form] = base
    for argument in _asked(row, raw):
        found.count(argument.name, form, judge(file, argument, base=base), base)
    if form == "zip" or _has_storages(raw):
        for protocol in PROTOCOLS:
            crash = protocol < 2 and (row.name in _FRAGILE or row.group == "distributed tensors")
            outcome = Outcome(CANNOT, "the process ends") if crash else _by_protocol(file, form, protocol)
            found.count(f"pickle_protocol={protocol}", form, outcome, base)


def _by_protocol(file: File, form: str, protocol: int) -> Outcome:
    try:
        raw = saved(file.original, legacy=form == "legacy", protocol=protocol)
        zipped = file.zipped or saved(file.original, legacy=False)
    except Exception as error:  # noqa: BLE001 - as above
        return _cannot(error)
    return judge(File(raw, file.original, file.path, file.torch, zipped))


@functools.cache
def dtype_result(dtype: str, kind: str, form: str) -> Outcome:
    """What came of one dense kind of tensor of one dtype."""
    with quietly():
        try:
            value = DENSE[kind](elements(dtype))
        except Exception as error:  # noqa: BLE001 - no such tensor
            return Outcome("cannot be made", type(error).__name__)
        try:
            raw = saved(value, legacy=form == "legacy")
            zipped = saved(value, legacy=False)
        except Exception as error:  # noqa: BLE001 - as above
            return _cannot(error)
        return judge(File(raw, value, Path(), zipped=zipped if form == "legacy" else b""))


def names() -> list[str]:
    """Labels of all rows, for test ids."""
    return [row.label for row in ROWS]


