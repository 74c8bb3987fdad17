"""A scan as Markdown, for pull requests and job summaries. Everything from a file stands in code spans."""

from __future__ import annotations

import re
from typing import Final

from safeload.cli.output import count, short_digest
from safeload.cli.scanning import Scanned, ScanResult
from safeload.findings import Outcome, escape
from safeload.rules import RULES

__all__ = ["code", "scan_markdown"]

_MOST: Final = 50
_TICKS: Final = re.compile("`+")
_SIGNS: Final = {Outcome.ALLOWED: "allowed", Outcome.REFUSED: "**refused**", Outcome.ERROR: "**not analysed**"}


def code(text: str, limit: int = 500) -> str:
    """A code span that the text cannot leave: its fence is longer than any run of backticks inside."""
    shown = escape(text, limit) or " "
    fence = "`" * (1 + max((len(run) for run in _TICKS.findall(shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def scan_markdown(result: ScanResult) -> str:
    """A line of numbers, then the files that are not allowed, then the others."""
    counts = ", ".join(f"{number} {outcome.value}" for outcome, number in result.totals.outcomes.items())
    lines = ["# safeload scan", "", f"{count(result.totals.files, 'file')}: {counts}", ""]
    loud = [item for item in result.files if item.report.decision.outcome is not Outcome.ALLOWED]
    for scanned in loud:
        lines += _file(scanned)
    calm = [item for item in result.files if item.report.decision.outcome is Outcome.ALLOWED]
    if calm:
        lines += ["## Allowed", ""]
        for scanned in calm:
            lines += _short(scanned)
        lines += [*_more(result.totals.outcomes[Outcome.ALLOWED] - len(calm)), ""]
    if result.skipped:
        skipped = (f"- {code(item.path, 1000)}: {code(item.why)}" for item in result.skipped)
        lines += ["## Skipped", "", *skipped, *_more(result.totals.skipped - len(result.skipped)), ""]
    return "\n".join(lines)


def _more(number: int) -> list[str]:
    return [f"- and {count(number, 'more file')}: --format json lists them"] if number else []


def _file(scanned: Scanned) -> list[str]:
    report = scanned.report
    facts = [_SIGNS[report.decision.outcome], report.format]
    if report.sha256 is not None:
        facts.append(short_digest(report.sha256))
    lines = [f"## {code(report.path, 1000)}", "", ", ".join(facts), ""]
    lines += _findings(scanned)
    if not report.findings:
        lines += [f"- {code(reason)}" for reason in (report.decision.reasons or (report.error or "no reason is known",))]
    lines.append("")
    return lines


def _short(scanned: Scanned) -> list[str]:
    report = scanned.report
    return [f"- {code(report.path, 1000)}, {report.format}", *(f"  {line}" for line in _findings(scanned))]


def _findings(scanned: Scanned) -> list[str]:
    report = scanned.report
    lines = []
    for finding in report.findings[:_MOST]:
        place = f" at {code(finding.where.lstrip('!@'))}" if finding.where else ""
        muted = f" ({code(scanned.muted[finding])})" if finding in scanned.muted else ""
        lines.append(f"- {finding.level.value} {finding.rule} ({RULES[finding.rule].name}): {code(finding.message)}{place}{muted}")
    if len(report.findings) > _MOST:
        lines.append(f"- and {count(len(report.findings) - _MOST, 'more finding')}")
    return lines
