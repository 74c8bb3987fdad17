"""Reports as text that can be kept, and back: for the journal, which outlives a process and is no place for pickles."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final, TypeVar

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
        return Skipped(_typed(document, "path", _TEXT), _typed(document, "skipped", _TEXT))
    decision, origin = document.pop("decision"), document.pop("origin", None)
    findings = tuple(_made(Finding, {**found, "level": Level(found["level"])}) for found in _listed(document.pop("findings", [])))
    streams = tuple(_made(Stream, found) for found in _listed(document.pop("streams", [])))
    for key in ("globals", "unmodelled"):
        document[key] = _texts(document.get(key, []))
    metadata = document.setdefault("metadata", {})
    if type(metadata) is not dict or {type(value) for value in metadata.values()} - {str}:
        raise TypeError("metadata")
    return _made(
        Report, document, findings=findings, streams=streams, origin=None if origin is None else _made(Origin, origin),
        decision=Decision(
            outcome=Outcome(decision["outcome"]), reasons=_texts(decision["reasons"]), refused_globals=_texts(decision["refused_globals"])
        ),
    )  # fmt: skip


_Kind = TypeVar("_Kind")

_TEXT: Final = (str,)
_TEXT_OR_NONE: Final = (str, type(None))
_COUNT: Final = (int,)
_COUNT_OR_NONE: Final = (int, type(None))
# Of every field that is no collection, the types that it may have.
_FIELDS: Final[dict[type, dict[str, tuple[type, ...]]]] = {
    Finding: {
        "rule": _TEXT, "level": (Level,), "message": _TEXT, "member": _TEXT_OR_NONE, "offset": _COUNT_OR_NONE, "subject": _TEXT_OR_NONE,
    },
    Stream: {"member": _TEXT_OR_NONE, **dict.fromkeys(("offset", "nbytes", "protocol", "opcodes"), _COUNT)},
    Origin: {
        "version": _TEXT, "fetched": _COUNT, "requests": _COUNT, **dict.fromkeys(("repo", "requested", "revision"), _TEXT_OR_NONE),
    },
    Report: {
        "path": _TEXT, "format": _TEXT, "size": _COUNT_OR_NONE, "globals": (tuple,), "unmodelled": (tuple,), "metadata": (dict,),
        **dict.fromkeys(("sha256", "sha256_tree", "error"), _TEXT_OR_NONE),
    },
}  # fmt: skip


def _made(kind: type[_Kind], document: Any, **more: Any) -> _Kind:
    """An object of the record's fields, each of the type that safeload writes: nothing else is evidence."""
    if type(document) is not dict:
        raise TypeError("no object")
    for key in document:
        _typed(document, key, _FIELDS[kind][key])
    return kind(**document, **more)


def _typed(document: dict[str, Any], key: str, kinds: tuple[type, ...]) -> Any:
    value = document[key]
    if type(value) not in kinds or (type(value) is int and value < 0):
        raise TypeError(key)
    return value


def _listed(value: Any) -> list[Any]:
    if type(value) is not list or {type(item) for item in value} - {dict}:
        raise TypeError("no list of objects")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if type(value) is not list or {type(item) for item in value} - {str}:
        raise TypeError("no list of texts")
    return tuple(value)
