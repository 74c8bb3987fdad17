"""What `safeload scan` does before anything is printed: which files, each one's report, and what of it was known before."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from safeload.api import scan_source
from safeload.context import Context
from safeload.errors import SafeloadError, UsageError
from safeload.findings import Decision, Finding, Level, Outcome, Report, escape
from safeload.lean_dataclass import dataclass, replace
from safeload.policy import decide
from safeload.remote import shown
from safeload.rules import RULES
from safeload.source import Source

if TYPE_CHECKING:
    import datetime as dt

__all__ = [
    "Baseline",
    "Job",
    "ScanResult",
    "Scanned",
    "Settings",
    "Skipped",
    "collect",
    "failed",
    "fingerprint",
    "judged",
    "scan_all",
    "scan_file",
]

_BASELINE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for every file of one scan.

    Attributes:
        digest: Hash every file.
        strict: Notes refuse, too.
        max_size: Bytes; a larger file is not analysed. None: no bound.
        timeout: Seconds for one file, or None.
    """

    digest: bool = False
    strict: bool = False
    max_size: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One file to scan.

    Attributes:
        path: As it was named, or found.
        walked: It was found in a directory, so that it may be passed by when it is plainly no model.
        problem: Why it cannot be scanned, or None.
    """

    path: str
    walked: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that needs no verdict.

    Attributes:
        path: As found.
        why: One line.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """One file's report, and which of its findings do not count.

    Attributes:
        report: With its decision.
        muted: Finding → why it does not count: a suppression of the policy, or the baseline.
    """

    report: Report
    muted: Mapping[Finding, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """Everything that one scan found.

    Attributes:
        files: In the order of the command line, directories in the order of their walk.
        skipped: What needed no verdict.
    """

    files: tuple[Scanned, ...]
    skipped: tuple[Skipped, ...]

    def count(self, outcome: Outcome) -> int:
        """How many files came out so."""
        return sum(item.report.decision.outcome is outcome for item in self.files)

    @property
    def status(self) -> int:
        """The exit status."""
        if self.count(Outcome.ERROR):
            return 2
        return 1 if self.count(Outcome.REFUSED) else 0


# ---- which files


def collect(paths: Sequence[str], *, include: Sequence[str], exclude: Sequence[str]) -> Iterator[Job | Skipped]:
    """Yield what the paths mean, each file once. The globs are about files in directories, not about files that are named."""
    folders = {path for path in paths if os.path.isdir(path)}
    # A file that is named is scanned as one, also when it lies in a directory that is walked and left out there.
    named = {os.path.normpath(path) for path in paths if path not in folders}
    seen: set[str] = set()
    for path in paths:
        found = _walked(path, include, exclude) if path in folders else [Job(path)]
        for job in found:
            key = os.path.normpath(job.path)
            if key not in seen and (path not in folders or key not in named):
                seen.add(key)
                yield job


def _walked(path: str, include: Sequence[str], exclude: Sequence[str]) -> Iterator[Job | Skipped]:
    from safeload.directory import files_below

    for found in files_below(path, include=include, exclude=exclude):
        yield Skipped(found.path, found.skipped) if found.skipped is not None else Job(found.path, True, found.problem)


# ---- one file


def scan_all(jobs: Iterable[Job], context: Context, settings: Settings) -> Iterator[Report | Skipped]:
    """Scan one file after the other, each within the timeout when there is one."""
    if settings.timeout is not None:
        from safeload.cli.scan_worker import scan_within  # processes and their pipes cost an import

        yield from scan_within(jobs, context, settings, settings.timeout)
        return
    for job in jobs:
        yield scan_file(job, context, settings)


def scan_file(job: Job, context: Context, settings: Settings) -> Report | Skipped:
    """Scan one file; whatever goes wrong is in the report."""
    if job.problem is not None:
        return _problem(job.path, job.problem)
    try:
        target = context.target(job.path, remote=True)
        with Source.open(target.file) as source:
            if settings.max_size is not None and source.size > settings.max_size:
                return replace(
                    failed(job.path, f"not analysed: {source.size} bytes, and --max-size is {settings.max_size}"), size=source.size
                )
            report = scan_source(source, context, pin=target.pin, digest=settings.digest)
            if job.walked and report.format == "unknown" and report.decision.outcome is Outcome.ERROR:
                from safeload.formats.not_a_model import plainly_no_model

                why = plainly_no_model(source)
                if why is not None:
                    return Skipped(shown(job.path), why)
            return replace(report, path=shown(job.path))
    except SafeloadError as error:
        return failed(job.path, error.message)
    except OSError as error:
        return failed(job.path, (error.strerror or str(error)).lower())


def _problem(path: str, why: str) -> Report:
    """The report of what a walk found and cannot look at."""
    from safeload.directory import OUTSIDE

    finding = Finding(rule="SL825", level=RULES["SL825"].level, message=why)
    return replace(failed(path, why), findings=(finding,) if why == OUTSIDE else ())


def failed(path: str, why: str) -> Report:
    """The report of a file that could not be analysed."""
    return Report(path=shown(path), format="unknown", error=why, decision=Decision(outcome=Outcome.ERROR, reasons=(why,)))


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
