"""The object in a source, as an inert tree, together with what judges it."""

from __future__ import annotations

from typing import Any

from safeload.conversion.arrays import ARRAY_FORMATS, array_table
from safeload.conversion.recorder import Recorder
from safeload.errors import MalformedError, UsageError
from safeload.findings import Level, Outcome, Report
from safeload.formats import Contents
from safeload.lean_dataclass import dataclass, field
from safeload.policy import Policy, decide
from safeload.program import StorageSpec
from safeload.refusal import refusal
from safeload.reporting import examine
from safeload.source import Reading, Source
from safeload.walk.model import build

__all__ = ["Opened", "open_tree"]


@dataclass(slots=True)
class Opened:
    """One source, read and judged.

    Attributes:
        source: Its bytes.
        contents: What the reader found.
        report: The evidence.
        root: The object, without torch.
        recorder: The model that made it; None for formats without a stream.
        script: Whether it is TorchScript's.
        arrays: Whether it is numpy's arrays, which become tensors, and nothing else.
        left_out: What it holds besides `root`: (name, why).
    """

    source: Source
    contents: Contents
    report: Report
    root: Any
    recorder: Recorder | None
    script: bool
    arrays: bool = False
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def storages(self) -> list[StorageSpec]:
        """Every storage that the reader found."""
        return list(self.contents.storages)

    @property
    def dangers(self) -> tuple[str, ...]:
        """What a loader that runs the file would do, of that what is known to be dangerous; one line each."""
        return tuple(dict.fromkeys(f"{found.message} [{found.rule}]" for found in self.report.findings if found.level is Level.ERROR))


def open_tree(source: Source, reading: Reading, policy: Policy | None, *, strict: bool) -> Opened:
    """Read a source into an inert tree.

    Args:
        source: Open.
        reading: How.
        policy: What is allowed; by default nothing beyond what is modelled.
        strict: Whether globals that are not modelled refuse the file; else they become inert nodes.

    Raises:
        RefusedError: policy does not allow the file, even as inert data.
        MalformedError: it is not what it claims to be, or no reader claims it.
        UsageError: it was converted already.
    """
    contents, report = examine(source, reading, values=False)
    if contents is None:
        raise MalformedError(report.error or "no reader claims the file", where=source.name).under("SL501")
    from safeload.formats.manifest import KEY, SIDECAR_KEY

    if contents.format == "safetensors" and (KEY in contents.metadata or SIDECAR_KEY in contents.metadata):
        raise UsageError("the file is a converted one already", where=source.name)
    decision = decide(report, policy or Policy(), inert=not strict)
    if decision.outcome is Outcome.ERROR and report.error is not None:
        raise contents.raises(report.error, where=source.name)
    if decision.outcome is not Outcome.ALLOWED:
        raise refusal(source, report, decision)
    if contents.format in ARRAY_FORMATS:
        table, left = array_table(source, reading)
        return Opened(source, contents, report, table, None, script=False, arrays=True, left_out=left)
    root, recorder = _build(source, contents)
    return Opened(source, contents, report, root, recorder, contents.script)


def _build(source: Source, contents: Contents) -> tuple[Any, Recorder | None]:
    """The object, by a build that makes nothing real."""
    main = contents.main
    if contents.table is not None and main is None:
        return dict(contents.table), None
    if main is None:
        raise MalformedError(f"a {contents.format} file that has neither a stream nor tensors", where=source.name)
    recorder = Recorder(main.walk, unknown="inert", persistent=main.persistent)
    try:
        return build(main.walk, recorder), recorder
    except MalformedError as error:
        raise error.at(source.name) from None
