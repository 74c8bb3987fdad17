"""Turn evidence into a decision, and say what would change it.

Nothing here reads a file, a clock or the environment: the same report and policy give the same decision everywhere.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from safeload.findings import Decision, Finding, Level, Outcome, Report, escape
from safeload.policy.data import Policy, SignerRule

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["INERT_RULES", "decide", "expired_suppressions", "signer_reasons", "snippet", "unpinned_finding"]

INERT_RULES: Final = frozenset({"SL101", "SL102", "SL103", "SL104", "SL106", "SL731", "SL732"})
"""What is harmless in a load that builds inert nodes instead of calling: the name and its arguments stay data, code stays text."""

# "Could not say", however the reader phrased it: no verdict about content that is not there or not a model.
_NO_VERDICT: Final = frozenset({"SL129", "SL222", "SL501", "SL502", "SL503"})
_MOST_REASONS: Final = 100
_EXPIRED: Final = "the suppression of"


def decide(
    report: Report,
    policy: Policy,
    *,
    pin_grants: frozenset[str] = frozenset(),
    pinned: bool = False,
    today: dt.date | None = None,
    inert: bool = False,
) -> Decision:
    """Turn evidence into a decision.

    Errors and warnings refuse, notes never do. A global that is not modelled (SL103) does not refuse when policy or pin
    grant it; one that is known to be dangerous (SL101, SL102) refuses whatever is granted.

    Args:
        report: The evidence.
        policy: Already narrowed by `Policy.for_model`.
        pin_grants: Globals that the pin of these very bytes grants. Names that may never be granted are passed over.
        pinned: A pin covers the file, so that SL602 has no meaning.
        today: Only for scans: apply the policy's suppressions as of this day. A load leaves it out, and so no
            suppression can make anything loadable. An allowed decision may then still list `refused_globals`.
        inert: Only for a load that makes inert nodes of what it will not call: `INERT_RULES` do not refuse it.

    Returns:
        refused as soon as one finding refuses, even if reading broke off afterwards; error when there is no verdict.
    """
    granted = _granted((*policy.allow_globals, *pin_grants))
    hidden, remarks = _suppressed(report, policy, today)
    blockers: list[Finding] = []
    subjects: dict[str, None] = {}
    unclear: list[Finding] = []
    for finding in report.findings:
        if finding.level is Level.NOTE or (pinned and finding.rule == "SL602") or (inert and finding.rule in INERT_RULES):
            continue
        if finding.rule == "SL103" and finding.subject in granted:
            continue
        if finding.subject is not None:
            subjects[finding.subject] = None
        if finding.rule not in hidden:
            (unclear if finding.rule in _NO_VERDICT else blockers).append(finding)
    # Findings may have been cut short by a limit; the list of what is not modelled decides by itself, too.
    unmodelled = [] if inert else [name for name in report.unmodelled if name not in granted]
    silent = [name for name in unmodelled if name not in subjects] if "SL103" not in hidden else []
    subjects.update(dict.fromkeys(unmodelled))
    reasons = [*_lines(blockers), *(f"names a global that safeload does not model: {escape(name)} [SL103]" for name in silent)]
    if reasons:
        return Decision(outcome=Outcome.REFUSED, reasons=_bounded([*reasons, *_error(report), *remarks]), refused_globals=tuple(subjects))
    if report.error is not None or unclear:
        reasons = [*_error(report), *_lines(unclear), *remarks]
        return Decision(outcome=Outcome.ERROR, reasons=_bounded(reasons), refused_globals=tuple(subjects))
    return Decision(outcome=Outcome.ALLOWED, reasons=_bounded(remarks), refused_globals=tuple(subjects))


def _granted(names: Sequence[str]) -> frozenset[str]:
    """Those of the names that anybody may grant."""
    if not names:
        return frozenset()
    from safeload.denied import denied_reason

    return frozenset(name for name in names if denied_reason(name) is None)


def _error(report: Report) -> list[str]:
    return [] if report.error is None else [f"reading ended early: {escape(report.error, 1000)}"]


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Write each finding on one line, errors before warnings, each line once."""
    worst_first = sorted(findings, key=lambda finding: finding.level is not Level.ERROR)
    place = (f" at {finding.where.removeprefix('!').removeprefix('@')}" if finding.where else "" for finding in worst_first)
    return iter(dict.fromkeys(f"{finding.message} [{finding.rule}]{at}" for finding, at in zip(worst_first, place, strict=True)))


def _bounded(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= _MOST_REASONS:
        return tuple(lines)
    return (*lines[:_MOST_REASONS], f"and {len(lines) - _MOST_REASONS} more")


def _suppressed(report: Report, policy: Policy, today: dt.date | None) -> tuple[frozenset[str], list[str]]:
    """Return the rules that are suppressed for this file, and what to say about it."""
    if today is None:
        return frozenset(), []
    seen = {finding.rule for finding in report.findings}
    base = posixpath.dirname(policy.origin.replace("\\", "/")) if policy.origin else None
    hidden: set[str] = set()
    remarks = []
    for entry in policy.suppress:
        if entry.rule not in seen or not entry.covers(report, base):
            continue
        if today > entry.expires:
            remarks.append(f"{_EXPIRED} {entry} expired on {entry.expires.isoformat()}: {escape(entry.reason)}")
        else:
            hidden.add(entry.rule)
            remarks.append(f"suppressed until {entry.expires.isoformat()}: {entry}: {escape(entry.reason)}")
    return frozenset(hidden), remarks


def expired_suppressions(decision: Decision) -> list[str]:
    """What a decision says of suppressions that were for the file and ended: whoever wrote them wants to know."""
    return [reason for reason in decision.reasons if reason.startswith(_EXPIRED)]


def unpinned_finding(policy: Policy, *, lock_in_force: bool) -> Finding | None:
    """Return what to add to the report of a file that no pin covers.

    Args:
        policy: Its `unpinned`, or by default refuse with a lockfile and warn without.
        lock_in_force: Whether a lockfile was found.

    Returns:
        SL602 at level warning (refuses), at level note (does not), or None.
    """
    held = policy.unpinned or ("refuse" if lock_in_force else "warn")
    if held == "allow":
        return None
    level = Level.WARNING if held == "refuse" else Level.NOTE
    return Finding(rule="SL602", level=level, message="no pin covers the file")


def signer_reasons(policy: Policy, verified: frozenset[str], required: SignerRule | None = None) -> tuple[str, ...]:
    """Say which demands for signatures are not met; empty when all are.

    Args:
        policy: Already narrowed by `Policy.for_model`.
        verified: Signers whose signature over these bytes was verified.
        required: What the lockfile's `require` says. Policy can only add to it.
    """
    demands = [*([required] if required else []), *policy.signers]
    if policy.signature == "off" or (policy.signature is None and not demands):
        return ()
    missing = [f"signatures of {demand} are required; verified: {', '.join(map(escape, sorted(verified))) or 'none'}"
               for demand in demands if not demand.met_by(verified)]  # fmt: skip
    if not demands and not verified:
        missing.append("policy wants a signature, and none was verified")
    return tuple(missing)


def snippet(names: Iterable[str]) -> str:
    """Write the policy that would grant refused globals, ready to paste; what may never be granted becomes a comment."""
    from safeload.denied import denied_reason

    grants, comments = [], []
    for name in dict.fromkeys(names):
        if reason := denied_reason(name):
            comments.append(f"# {escape(name)}: can never be granted: {reason}")
        else:
            grants.append(name)
    if not grants:
        return "\n".join(comments)
    items = [f'    "{name}",' for name in grants]
    return "\n".join(["[tool.safeload]", *comments, "allow-globals = [", *items, "]"])
