"""What `safeload scan` makes of reports before anything is printed: what of them was known before, and the numbers of a whole scan."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from safeload.context import Context
from safeload.errors import UsageError
from safeload.findings import Decision, Finding, Level, Outcome, Report, escape
from safeload.lean_dataclass import dataclass, field, replace
from safeload.policy import decide
from safeload.scanning import Settings, Skipped

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["Baseline", "ScanResult", "Scanned", "Totals", "fingerprint", "judged"]

_BASELINE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """One file's report, and which of its findings do not count.

    Attributes:
        report: With its decision.
        muted: Finding → why it does not count: a suppression of the policy, or the baseline.
    """

    report: Report
    muted: Mapping[Finding, str]


_ORDER: Final = {Level.ERROR: 0, Level.WARNING: 1, Level.NOTE: 2}


@dataclass(slots=True)
class Totals:
    """Numbers of one scan, as it goes on.

    Attributes:
        outcomes: Files, by what came of them.
        dangerous: Refused files with an error that counts: they are known to run code or to deceive.
        skipped: Files that needed no verdict.
        findings: Those that count.
        first_rule: The rule to read first: of the first finding that counts in a file that is not allowed, worst level first.
    """

    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys((Outcome.ALLOWED, Outcome.REFUSED, Outcome.ERROR), 0))
    dangerous: int = 0
    skipped: int = 0
    findings: int = 0
    first_rule: str = ""
    _worst: int = len(_ORDER)

    @property
    def files(self) -> int:
        """All that have a verdict, or should have."""
        return sum(self.outcomes.values())

    @property
    def status(self) -> int:
        """The exit status."""
        if self.outcomes[Outcome.ERROR]:
            return 2
        return 1 if self.outcomes[Outcome.REFUSED] else 0

    def add(self, scanned: Scanned) -> None:
        """Count one file."""
        outcome = scanned.report.decision.outcome
        self.outcomes[outcome] += 1
        counted = [finding for finding in scanned.report.findings if finding not in scanned.muted]
        self.findings += len(counted)
        self.dangerous += outcome is Outcome.REFUSED and any(finding.level is Level.ERROR for finding in counted)
        for finding in counted:
            if outcome is not Outcome.ALLOWED and _ORDER[finding.level] < self._worst:
                self._worst, self.first_rule = _ORDER[finding.level], finding.rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """What a document needs that is written as a whole.

    Attributes:
        files: In the order of the command line, directories in the order of their walk; those that the document is about.
        skipped: What needed no verdict, as far as it is listed.
        totals: Of all files.
    """

    files: Sequence[Scanned]
    skipped: Sequence[Skipped]
    totals: Totals


# ---- what of it counts


def fingerprint(path: str, finding: Finding) -> str:
    """What stays the same of a finding when the file is written anew, or lies under another directory name of the system.

    Offsets are left out: they move with every change in front of them.
    """
    import hashlib

    shown = posixpath.normpath(path.replace("\\", "/"))
    parts = (finding.rule, shown, finding.member or "", finding.subject or finding.message)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


class Baseline:
    """Findings that were known before: an earlier `safeload scan --format json`.

    A finding counts as known when rule, path, member and what it says are the same, and the file's digest too wherever both
    scans took it.

    Args:
        path: The file.

    Raises:
        UsageError: it is not the result of a scan.
        FileNotFoundError, PermissionError: as `open` does.
    """

    def __init__(self, path: str) -> None:
        import json

        self._known: dict[str, set[str | None]] = {}
        with open(path, "rb") as file:
            raw = file.read(_BASELINE_BYTES + 1)
        where = escape(path, 1000)
        if len(raw) > _BASELINE_BYTES:
            raise UsageError(f"a baseline of more than {_BASELINE_BYTES} bytes", where=where)
        try:
            document = json.loads(raw)
            if document["version"] != 1:
                raise UsageError("a baseline of another version", where=where, hint="make it with 'safeload scan --format json'")
            for entry in document["files"]:
                self._add(entry)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError("is not the result of 'safeload scan --format json'", where=where) from None

    def _add(self, entry: Mapping[str, Any]) -> None:
        for found in entry["findings"]:
            finding = Finding(
                rule=str(found["rule"]), level=Level(found["level"]), message=str(found["message"]),
                member=found["member"], subject=found.get("subject"),
            )  # fmt: skip
            self._known.setdefault(fingerprint(str(entry["path"]), finding), set()).add(entry.get("sha256"))

    def knows(self, report: Report, finding: Finding) -> bool:
        """Whether a finding was there before."""
        digests = self._known.get(fingerprint(report.path, finding))
        return digests is not None and (report.sha256 is None or None in digests or report.sha256 in digests)


def judged(report: Report, context: Context, settings: Settings, baseline: Baseline | None) -> Scanned:
    """Take out what was known before, and apply --strict."""
    muted = dict(_suppressed(report, context))
    if baseline is not None:
        known = {finding: "known: in the baseline" for finding in report.findings if baseline.knows(report, finding)}
        muted = {**known, **muted}
        if known and report.decision.outcome is Outcome.REFUSED:
            report = replace(report, decision=_decided_without(report, known, context))
    notes = [finding for finding in report.findings if finding.level is Level.NOTE and finding not in muted]
    if settings.strict and notes and report.decision.outcome is Outcome.ALLOWED:
        reasons = tuple(f"{note.message} [{note.rule}]" for note in notes[:100])
        report = replace(report, decision=replace(report.decision, outcome=Outcome.REFUSED, reasons=reasons))
    return Scanned(report=report, muted=muted)


def _decided_without(report: Report, known: Mapping[Finding, str], context: Context) -> Decision:
    """The decision as it would be without findings that were known before."""
    pin = context.by_digest(report.sha256) if report.sha256 is not None else None
    subjects = {finding.subject for finding in known}
    rest = replace(
        report,
        findings=tuple(finding for finding in report.findings if finding not in known),
        unmodelled=tuple(name for name in report.unmodelled if name not in subjects),
    )
    grants = frozenset(pin.file.allow_globals) if pin is not None else frozenset[str]()
    return decide(rest, context.policy_for(pin), pin_grants=grants, today=_today())


def _suppressed(report: Report, context: Context) -> Iterator[tuple[Finding, str]]:
    """What the policy's suppressions take out of this file's findings, with their reasons."""
    policy = context.policy
    base = posixpath.dirname(policy.origin.replace("\\", "/")) if policy.origin else None
    for entry in policy.suppress:
        if _today() <= entry.expires and entry.covers(report, base):
            for finding in report.findings:
                if finding.rule == entry.rule:
                    yield finding, f"suppressed until {entry.expires.isoformat()}: {escape(entry.reason)}"


def _today() -> dt.date:
    import datetime as dt

    return dt.datetime.now(tz=dt.UTC).date()
