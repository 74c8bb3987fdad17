"""Results for people at a terminal, or in a log: one line per fact, everything from a file escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from safeload.cli.output import Line, count, outcome_style, place, short_digest, size_text
from safeload.cli.render.signatures import signature_lines, signer_lines
from safeload.cli.scanning import Scanned, Totals
from safeload.findings import Finding, Outcome, escape
from safeload.policy import expired_suppressions

if TYPE_CHECKING:  # each command pays for its own results only
    from safeload.inspection import Inspection, TensorInfo
    from safeload.pinning import LockResult, VerifyResult
    from safeload.scanning import Skipped

__all__ = [
    "file_lines",
    "finding_line",
    "inspection_lines",
    "lock_lines",
    "lock_summary",
    "scan_summary",
    "skipped_line",
    "verify_lines",
    "verify_summary",
]

_MOST: Final = 50
_PATH: Final = 1000
_ACTIONS: Final = {
    "added": "green", "renewed": "yellow", "removed": "yellow", "unchanged": "", "skipped": "dim", "missing": "bold red",
    "refused": "bold red", "error": "bold yellow",
}  # fmt: skip
_STATES: Final = {"matches": "green", "differs": "bold red", "missing": "bold red", "unlocked": "bold red", "error": "bold yellow"}


def finding_line(finding: Finding, why_muted: str = "") -> Line:
    """One finding: level, rule, what, where."""
    style = "dim" if why_muted else outcome_style(finding.level)
    where = finding.where
    place = f"  at {where.removeprefix('!').removeprefix('@')}" if where else ""
    if where.startswith("@"):
        place = f"  at byte {finding.offset}"
    line: list[tuple[str, str]] = [
        (f"  {finding.level.value:<7}", style),
        (f"  {finding.rule}  ", "bold"),
        (escape(finding.message, 500), ""),
        (place, "dim"),
    ]
    if why_muted:
        line.append((f"  ({why_muted})", "dim"))
    return line


def skipped_line(skipped: Skipped) -> Line:
    """A file that needed no verdict."""
    return [(f"{escape(skipped.path, _PATH)}  ", ""), (f"skipped: {escape(skipped.why, 300)}", "dim")]


def file_lines(scanned: Scanned) -> Iterator[Line]:
    """A file with its findings."""
    report = scanned.report
    head: list[tuple[str, str]] = [(escape(report.path, _PATH), "bold"), (f"  {report.format}  ", "")]
    if report.sha256 is not None:
        head.append((f"{short_digest(report.sha256)}  ", "dim"))
    elif report.unhashed:
        head.append(("unhashed  ", "dim"))
    yield [*head, (report.decision.outcome.value, outcome_style(report.decision.outcome))]
    for finding in report.findings[:_MOST]:
        yield finding_line(finding, scanned.muted.get(finding, ""))
    if len(report.findings) > _MOST:
        yield [(f"  and {count(len(report.findings) - _MOST, 'more finding')}: --format json lists them", "dim")]
    yield from ([(f"  {escape(reason, 500)}", "dim")] for reason in expired_suppressions(report.decision))
    if report.decision.outcome is Outcome.ERROR and not report.findings:
        yield [("  " + escape(report.error or "; ".join(report.decision.reasons), 1000).replace("\\x0a  ", " "), "")]


def scan_summary(totals: Totals) -> Line:
    """`refused: 2 of 3 files, 1 dangerous; 'safeload explain SL101' says why`.

    Dangerous is what has an error; the others are refused for what is not modelled, and nobody may learn to ignore the difference.
    """
    refused, unclear, total = totals.outcomes[Outcome.REFUSED], totals.outcomes[Outcome.ERROR], totals.files
    skipped = f", {totals.skipped:,} skipped" if totals.skipped else ""
    parts: list[tuple[str, str]] = []
    if refused:
        parts.append((f"refused: {refused:,} of {count(total, 'file')}", outcome_style(Outcome.REFUSED)))
        parts.append((f", {totals.dangerous:,} dangerous" if totals.dangerous else ", none known to be dangerous", ""))
    if unclear:
        parts.append(("; " if parts else "", ""))
        parts.append((f"error: {unclear:,} of {count(total, 'file')} not analysed", outcome_style(Outcome.ERROR)))
    if not parts:
        return [(f"allowed: {count(total, 'file')}", outcome_style(Outcome.ALLOWED)), (skipped, "")]
    rule = totals.first_rule
    return [*parts, (skipped, ""), (f"; 'safeload explain {rule}' says why" if rule else "", "")]


# ---- lock and verify


def lock_lines(result: LockResult, *, verbose: bool) -> list[Line]:
    """What became of every file; those that stay as they are, and those that are no models, only with `verbose`."""
    lines: list[Line] = []
    for entry in result.entries:
        if entry.action in ("unchanged", "skipped") and not verbose:
            continue
        file = entry.after or entry.before
        line: list[tuple[str, str]] = [(escape(entry.path, _PATH), "bold"), ("  ", ""), (entry.action, _ACTIONS[entry.action])]
        if file is not None:
            line.append((f'  {file.format or "data"}  {short_digest(file.sha256)}  "{escape(entry.model)}"', ""))
        lines.append(line)
        made = entry.after.converted if entry.after is not None else None
        if made is not None and entry.action != "renewed":  # there, the reasons say so
            lines.append([("  converted  ", "bold"), (f"{escape(made.path, _PATH)}  {short_digest(made.sha256)}", "")])
        # In an error without findings the reasons are all there is; where there are findings, they say the same with a place.
        refusing = [finding for finding in entry.findings if finding.level.value != "note"] if entry.action in ("refused", "error") else []
        lines += [finding_line(finding) for finding in refusing[:_MOST]]
        if not refusing:
            lines += [[(f"  {escape(reason, 1000)}", "")] for reason in entry.reasons[:_MOST]]
    for signer in result.signers:
        if signer.action != "kept" or verbose:
            lines += signer_lines(signer)
    return lines


def lock_summary(result: LockResult) -> Line:
    """`locked: 2 files in safeload.lock`."""
    problems = {name: sum(entry.action == name for entry in result.entries) for name in ("refused", "missing", "error")}
    text = ", ".join(f"{name}: {number}" for name, number in problems.items() if number)
    pinned = sum(entry.action in ("added", "renewed", "unchanged") for entry in result.entries)
    if result.check:
        changed = len(result.differs)
        verdict = f"differs: {count(changed, 'file')}" if changed else f"matches: {count(pinned, 'file')}"
        style = outcome_style(Outcome.REFUSED if changed else Outcome.ALLOWED)
        return [(verdict, style), (f" ({text})" if text else "", ""), (f"; nothing was written to {place(result.lockfile)}", "")]
    style = outcome_style(result.outcome)
    unsigned = {entry.model for entry in result.signers if entry.action == "vanished"}
    others = any(entry.action == "refused" and entry.model not in unsigned for entry in result.entries)
    hint = "; a refused file is pinned only with --allow-global or --force" if others else ""
    hint += "; a signer that changed or vanished needs a look, and --accept-signer-change" if unsigned else ""
    return [(f"{text}; " if text else "", style), (f"locked: {count(pinned, 'file')} in {place(result.lockfile)}{hint}", "")]


def verify_lines(result: VerifyResult) -> list[Line]:
    """How every file compares."""
    lines: list[Line] = []
    for entry in result.entries:
        line: list[tuple[str, str]] = [(escape(entry.path, _PATH), "bold"), ("  ", ""), (entry.status, _STATES[entry.status])]
        if entry.status == "matches":
            line.append((f"  {entry.found[:19]}", ""))
        if entry.model:
            line.append((f'  "{escape(entry.model)}"', "dim"))
        lines.append(line)
        lines += [finding_line(finding) for finding in _telling(entry.findings)]
        lines += [[(f"  {escape(reason, 1000)}", "")] for reason in entry.reasons]
    for signature in result.signatures:
        lines += signature_lines(signature)
    return lines


def _telling(findings: Sequence[Finding]) -> list[Finding]:
    """One difference of the bytes is enough for a person: the one with both digests that the world knows."""
    bytes_differ = [finding for finding in findings if finding.rule == "SL601"]
    best = next((finding for finding in bytes_differ if "sha256:" in finding.message), bytes_differ[0] if bytes_differ else None)
    return [finding for finding in findings if finding.rule != "SL601" or finding is best]


def verify_summary(result: VerifyResult) -> Line:
    """`matches: 3 files`."""
    wrong = [entry for entry in result.entries if entry.status not in ("matches", "error")]
    unclear = [entry for entry in result.entries if entry.status == "error"]
    total = count(len(result.entries), "file")
    bad = sum(entry.status != "verified" for entry in result.signatures)
    if not wrong and not unclear and not bad:
        signed = f", {count(len(result.signatures), 'signature')} verified" if result.signatures else ""
        return [(f"matches: {total}{signed}", outcome_style(Outcome.ALLOWED)), (f" of {place(result.lockfile)}", "")]
    parts = [f"differs: {len(wrong)} of {total}"] if wrong else []
    parts += [f"not verified: {count(bad, 'signature')}"] if bad else []
    parts += [f"error: {len(unclear)} of {total} could not be read"] if unclear else []
    return [("; ".join(parts), outcome_style(result.outcome)), ("; if a change is meant, run 'safeload lock'" if wrong else "", "")]


# ---- inspect


def inspection_lines(found: Inspection) -> list[Line]:
    """A table of tensors, then globals and metadata."""
    lines: list[Line] = [
        [(escape(found.path, _PATH), "bold"), (f"  {found.format}  {size_text(found.size)}  {count(len(found.tensors), 'tensor')}", "")]
    ]
    rows = [_row(tensor) for tensor in found.tensors]
    lines += _table(rows)
    if found.globals:
        lines.append([("globals", "bold")])
        lines += [[(f"  {escape(name)}", "")] for name in found.globals]
    if found.metadata:
        lines.append([("metadata", "bold")])
        lines += [[(f"  {escape(key)} = {escape(value, 120)}", "")] for key, value in found.metadata.items()]
    return lines


def _row(tensor: TensorInfo) -> tuple[str, ...]:
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    return escape(tensor.name) or "(the file itself)", tensor.dtype, shape, size_text(tensor.nbytes), tensor.kind


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[Line]:
    """Columns as wide as their widest cell, up to a bound; the last one is not padded."""
    if not rows:
        return
    widths = [min(80, max(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        yield [("  " + "  ".join(cells), "")]
