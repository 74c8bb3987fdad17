"""Evidence as frozen data: what was seen, where, and by which rule."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from safeload.lean_dataclass import dataclass, field

__all__ = ["Decision", "Finding", "Level", "Origin", "Outcome", "Report", "Stream", "escape", "shown"]


class Level(enum.StrEnum):
    """How bad it is: error = known to run code or to deceive; warning = not modelled, refused at load; note = worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Outcome(enum.StrEnum):
    """What comes of a file."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was seen, with the rule that names it.

    Attributes:
        rule: The stable id, "SL101"; `safeload explain` prints its page.
        level: See `Level`.
        message: One line, lower case, hostile text already escaped.
        member: The container member, every level joined by "!"; None at top level.
        offset: Bytes from the start of the member (of the file, without one); None where no place is meant.
        subject: The global concerned, as "module.attribute", when there is one.
    """

    rule: str
    level: Level
    message: str
    member: str | None = None
    offset: int | None = None
    subject: str | None = None

    @property
    def where(self) -> str:
        """`!member@offset`, as far as known."""
        text = f"!{escape(self.member)}" if self.member is not None else ""
        return text if self.offset is None else f"{text}@{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One pickle stream that was walked.

    Attributes:
        member: Its container member, or None when the file is the stream.
        offset: Its first byte in the member.
        nbytes: Its length in bytes, STOP included.
        protocol: The highest protocol that its opcodes need.
        opcodes: How many opcodes it has.
    """

    member: str | None
    offset: int
    nbytes: int
    protocol: int
    opcodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What policy made of a report.

    Attributes:
        outcome: allowed, refused, or error (could not say).
        reasons: One line each, worst first; empty when allowed without remark.
        refused_globals: Globals that stand in the way, in stream order.
    """

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    refused_globals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a file that is not on this machine was read from, and how much of it.

    Attributes:
        version: What its server calls these bytes: an entity tag, a generation, a commit, a date. Escaped; "" when it says nothing.
        fetched: Bytes that came over the network for it.
        requests: How many ranges were asked for.
        repo: On a hub, the repository; else None.
        requested: There, the revision that was asked for.
        revision: There, the commit that this was.
    """

    version: str
    fetched: int
    requests: int
    repo: str | None = None
    requested: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All evidence about one file. Facts only; `decision` is filled in by policy.

    Attributes:
        path: As the caller named it, unescaped; "<bytes>" or "<stream>" without a name.
        format: "torch-zip", "torch-legacy", "torchscript", "torch-tar", "pickle", "safetensors", …; "unknown" when no reader claims it.
        size: Bytes, or None when it could not be told.
        sha256: Lower-case hex, or None when the file was not hashed.
        sha256_tree: Likewise, see `safeload.trust.digest`.
        globals: Every global that any stream names, sorted, each once.
        unmodelled: Those that are not modelled, in stream order.
        findings: In order of appearance.
        streams: Every pickle stream that was walked.
        metadata: Small facts of the format (byteorder, versions), as strings.
        error: Why no verdict was possible, or None.
        decision: Filled in by `policy.decide`.
        origin: Of a file that was read from an address; None for one on this machine.
    """

    path: str
    format: str
    size: int | None = None
    sha256: str | None = None
    sha256_tree: str | None = None
    globals: tuple[str, ...] = ()
    unmodelled: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    streams: tuple[Stream, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    decision: Decision = field(default_factory=lambda: Decision(outcome=Outcome.ERROR, reasons=("not decided",)))
    origin: Origin | None = None

    @property
    def unhashed(self) -> bool:
        """Whether only parts of a file elsewhere were read, so that nothing is known about which bytes the whole is."""
        return self.origin is not None and self.sha256 is None and self.sha256_tree is None


# Characters that change how the text around them reads on a terminal or in a log: bidi controls,
# zero-width marks, line and paragraph separators.
_DECEPTIVE = frozenset(
    [*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0x061C, 0x180E, *range(0xE0000, 0xE0080)]
)


def escape(text: str, limit: int = 200) -> str:
    """Make hostile text safe to print: controls, bidi marks and surrogates as escapes, at most `limit` characters.

    Args:
        text: Anything that came out of a file.
        limit: Characters kept; the rest becomes "…".
    """
    cut = text if len(text) <= limit else text[:limit]
    if not (cut.isascii() and cut.isprintable()):
        out = []
        for char in cut:
            code = ord(char)
            if char.isprintable() and code not in _DECEPTIVE:
                out.append(char)
            elif code < 0x100:
                out.append(f"\\x{code:02x}")
            elif code < 0x10000:
                out.append(f"\\u{code:04x}")
            else:
                out.append(f"\\U{code:08x}")
        cut = "".join(out)
    return cut if len(text) <= limit else cut + "…"


def shown(value: object, limit: int = 60) -> str:
    """A value out of a file, for a message: a number or a text as Python writes it, of anything else only what it is.

    `repr` would go through everything that a value holds, and a list of a hundred bytes can stand for more than any machine writes.

    Args:
        value: Anything that was built from a file.
        limit: Characters of a text that are kept.
    """
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return repr(value)
    if isinstance(value, int) and kind is int:
        return str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, (str, bytes)) and kind in (str, bytes):
        return escape(repr(value[: limit + 1]), limit)
    return f"a {escape(kind.__name__, limit)}"
