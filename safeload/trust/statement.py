"""The in-toto statement inside an envelope: what it is about, and what it says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from safeload.errors import SignatureError
from safeload.trust.json_text import Object, member, objects, parse_object, text
from safeload.trust.scheme import mismatch

__all__ = ["PAYLOAD_TYPE", "STATEMENT_TYPE", "Statement", "parse_statement"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_OLD_TYPE: Final = "https://in-toto.io/Statement/v0.1"
_MOST_SUBJECTS: Final = 200_000
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


# Compared by identity: what was read out of one is kept for it.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statement:
    """A signed statement.

    Attributes:
        predicate_type: What sort of thing it says.
        subjects: (name, sha256) in the order of the statement; "" for one that has only digests of other kinds.
        predicate: What it says.
        hashed_with: What subjects' annotations say about how they were really hashed, as model-signing before 0.3 wrote them.
    """

    predicate_type: str
    subjects: tuple[tuple[str, str], ...]
    predicate: Object
    hashed_with: tuple[str, ...] = ()

    def hashed(self) -> tuple[tuple[str, str], ...]:
        """Return the subjects, each of which has a SHA-256.

        Raises:
            SignatureError: one has none.
        """
        if any(not digest for _, digest in self.subjects):
            raise SignatureError("a subject of the signed statement has no sha256 of 64 lower-case hex digits", check="content")
        return self.subjects


def parse_statement(payload_type: str, payload: bytes) -> Statement:
    """Read a statement whose signature was verified.

    Raises:
        SignatureError: it is something else, or names a subject without a SHA-256.
    """
    if payload_type != PAYLOAD_TYPE:
        raise mismatch("content", "the signed payload is of another type", PAYLOAD_TYPE, payload_type)
    what = "the signed statement"
    table = parse_object(payload, what)
    kind = text(table, "_type", what)
    if kind not in (STATEMENT_TYPE, _OLD_TYPE):
        raise mismatch("content", "the signed statement is of another type", STATEMENT_TYPE, kind)
    subjects = objects(table, "subject", what)
    if not 1 <= len(subjects) <= _MOST_SUBJECTS:
        raise SignatureError(f"{what} has {len(subjects)} subjects, not 1 to {_MOST_SUBJECTS}", check="content")
    found = tuple((_name(entry), _digest(entry)) for entry in subjects)
    return Statement(
        predicate_type=text(table, "predicateType", what),
        subjects=found,
        predicate=member(table, "predicate", what) if table.get("predicate") is not None else {},
        hashed_with=tuple(dict.fromkeys(said for entry in subjects if (said := _hashed_with(entry)))),
    )


def _name(entry: Object) -> str:
    name = entry.get("name", "")
    if not isinstance(name, str):
        raise SignatureError("a subject's name is not a string", check="format")
    return name


def _digest(entry: Object) -> str:
    """The subject's SHA-256; "" where there are others only, as npm's provenance has a SHA-512."""
    digests = member(entry, "digest", "a subject of the signed statement")
    digest = digests.get("sha256")
    if digest is None and digests:
        return ""
    if not isinstance(digest, str) or not _HEX.fullmatch(digest):
        raise SignatureError("a subject of the signed statement has no sha256 of 64 lower-case hex digits", check="content")
    return digest


def _hashed_with(entry: Object) -> str:
    notes = entry.get("annotations")
    said = notes.get("actual_hash_algorithm", "") if isinstance(notes, dict) else ""
    if not isinstance(said, str):
        raise SignatureError("a subject's actual_hash_algorithm is not a string", check="format")
    return said
