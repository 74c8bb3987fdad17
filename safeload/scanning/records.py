"""Reports as text that can be kept, and back: for the journal, which outlives a process and is no place for pickles."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from safeload.findings import Decision, Finding, Level, Origin, Outcome, Report, Stream
from safeload.scanning.jobs import Skipped

__all__ = ["from_record", "to_record"]


def to_record(result: Report | Skipped) -> str:
    """Write a result as JSON, plain ASCII; lone surrogates of names survive."""
    if isinstance(result, Skipped):
        return json.dumps({"skipped": result.why, "path": result.path}, separators=(",", ":"))
    document = asdict(result)
    kept = {key: value for key, value in document.items() if value not in (None, (), {}, [])}
    return json.dumps(kept, separators=(",", ":"))


def from_record(text: str) -> Report | Skipped:
    """Read what `to_record` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    try:
        document: dict[str, Any] = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if type(document) is not dict:
        raise TypeError("no object")
    if "skipped" in document:
        return Skipped(document["path"], document["skipped"])
    decision, origin = document.pop("decision"), document.pop("origin", None)
    findings = tuple(Finding(**{**found, "level": Level(found["level"])}) for found in document.pop("findings", ()))
    streams = tuple(Stream(**found) for found in document.pop("streams", ()))
    for key in ("globals", "unmodelled"):
        document[key] = tuple(document.get(key, ()))
    return Report(
        **document, findings=findings, streams=streams, origin=None if origin is None else Origin(**origin),
        decision=Decision(
            outcome=Outcome(decision["outcome"]), reasons=tuple(decision["reasons"]), refused_globals=tuple(decision["refused_globals"])
        ),
    )  # fmt: skip
