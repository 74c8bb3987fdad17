"""A scan as SARIF 2.1.0, as code scanning services read it. Section numbers are those of the OASIS standard."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections import Counter
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import quote

from safeload import __version__
from safeload.cli.output import as_json
from safeload.cli.rule_pages import page
from safeload.cli.scanning import Scanned, ScanResult, fingerprint
from safeload.findings import Finding, Level, Outcome, Report, escape
from safeload.remote import is_address
from safeload.rules import RULES, Rule

__all__ = ["scan_sarif"]

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_MOST: Final = 5_000  # findings of one file
_RESULTS: Final = 25_000  # GitHub rejects a run that has more, and shows the 5,000 that weigh most
_LEVELS: Final = (Level.ERROR, Level.WARNING, Level.NOTE)
_ROOT: Final = "%SRCROOT%"
# How urgent code scanning shows a rule, on the scale of CVSS.
_SEVERITY: Final = {Level.ERROR: "9.0", Level.WARNING: "5.0", Level.NOTE: "1.0"}


def scan_sarif(result: ScanResult) -> str:
    """One run; paths below the working directory are relative to it (3.14.14), others absolute."""
    chosen, left_out = _chosen(result)
    used = sorted({finding.rule for _, findings in chosen for finding in findings})
    index = {rule: number for number, rule in enumerate(used)}
    results: list[dict[str, Any]] = []
    for scanned, findings in chosen:
        results += _results(scanned, findings, index)
    run = {
        "tool": {"driver": _driver([RULES[rule] for rule in used])},
        "originalUriBaseIds": {_ROOT: {"description": {"text": "the working directory of the scan"}}},
        "invocations": [_invocation(result, left_out)],
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    return as_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _chosen(result: ScanResult) -> tuple[list[tuple[Scanned, list[Finding]]], int]:
    """The findings that are told, by file, and how many are not: where they are too many, the lowest levels go first."""
    counts = Counter(finding.level for scanned in result.files for finding in scanned.report.findings[:_MOST])
    room, granted = _RESULTS, {}
    for level in _LEVELS:
        granted[level] = min(counts[level], room)
        room -= granted[level]
    chosen = []
    for scanned in result.files:
        kept = []
        for finding in scanned.report.findings[:_MOST]:
            if granted[finding.level] > 0:
                granted[finding.level] -= 1
                kept.append(finding)
        chosen.append((scanned, kept))
    told = sum(len(kept) for _, kept in chosen)
    return chosen, sum(len(scanned.report.findings) for scanned in result.files) - told


def _driver(rules: list[Rule]) -> dict[str, Any]:
    return {"name": "safeload", "version": __version__, "semanticVersion": __version__, "rules": [_rule(rule) for rule in rules]}


def _rule(rule: Rule) -> dict[str, Any]:
    """A reportingDescriptor (3.49): the rule's page is its help."""
    text = page(rule.id)
    return {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.summary},
        "help": {"text": text, "markdown": text},
        "defaultConfiguration": {"level": rule.level.value},
        "properties": {"tags": ["security", "model-file"], "precision": "high", "security-severity": _SEVERITY[rule.level]},
    }


def _results(scanned: Scanned, findings: list[Finding], index: dict[str, int]) -> list[dict[str, Any]]:
    path = _relative(scanned.report.path)
    seen: Counter[str] = Counter()
    found = []
    for finding in findings:
        mark = fingerprint(path, finding)
        seen[mark] += 1
        found.append(_result(scanned, finding, index[finding.rule], f"{mark}:{seen[mark]}"))
    return found


def _result(scanned: Scanned, finding: Finding, rule_index: int, mark: str) -> dict[str, Any]:
    """A result (3.27)."""
    report = scanned.report
    where = escape(finding.member, 1000) if finding.member is not None else None
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": _artifact(report.path), "region": _region(finding)}}
    if where is not None:
        location["logicalLocations"] = [{"fullyQualifiedName": where, "kind": "member"}]
    properties: dict[str, Any] = {"decision": report.decision.outcome.value, "format": report.format}
    if finding.offset is not None:
        properties["offset"] = finding.offset
    if report.sha256 is not None:
        properties["sha256"] = report.sha256
    entry: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.level.value,
        "message": {"text": escape(finding.message, 1000) + (f" (in {where})" if where is not None else "")},
        "locations": [location],
        # GitHub compares by the second alone. Where it is missing, the uploader makes it of the line's text: all findings of a
        # rule in one binary file would be one alert.
        "partialFingerprints": {"safeloadFinding/v1": mark, "primaryLocationLineHash": mark},
        "properties": properties,
    }
    if finding in scanned.muted:
        entry["suppressions"] = [{"kind": "external", "status": "accepted", "justification": scanned.muted[finding]}]
    return entry


def _region(finding: Finding) -> dict[str, Any]:
    """A region (3.30). Services ask for a line, and a binary file has one; the byte is exact where the file itself is meant."""
    region: dict[str, Any] = {"startLine": 1}
    if finding.member is None and finding.offset is not None:
        region |= {"byteOffset": finding.offset, "byteLength": 1}
    return region


def _relative(path: str) -> str:
    """The path relative to the working directory where it lies below it, with "/"."""
    if is_address(path):
        return path
    shown = os.path.normpath(path)
    if PurePath(shown).is_absolute() and PurePath(shown).is_relative_to(Path.cwd()):
        shown = os.path.relpath(shown)
    return shown.replace(os.sep, "/")


def _artifact(path: str) -> dict[str, Any]:
    """An artifactLocation (3.4): a relative URI with its base, or an absolute one."""
    if is_address(path):
        return {"uri": quote(path.encode("utf-8", "surrogateescape"), safe=":/@?=&#")}
    shown = _relative(path)
    if posixpath.isabs(shown) or shown.startswith("../") or PurePath(shown).is_absolute():
        absolute = quote(os.path.abspath(path).encode("utf-8", "surrogateescape"))  # noqa: PTH100 — resolving links would name another file
        return {"uri": f"file://{absolute}"}
    return {"uri": quote(shown.encode("utf-8", "surrogateescape")), "uriBaseId": _ROOT}


def _invocation(result: ScanResult, left_out: int) -> dict[str, Any]:
    """An invocation (3.20): what could not be analysed, or was not told, is said here, too."""
    unclear = [scanned.report for scanned in result.files if scanned.report.decision.outcome is Outcome.ERROR]
    entry: dict[str, Any] = {"executionSuccessful": not unclear, "exitCode": result.totals.status}
    notes = [_notification(report) for report in unclear]
    if left_out:
        text = f"{left_out} findings are not among the results, lower levels first: --format json has all"
        notes.append({"level": "warning", "message": {"text": text}})
    if notes:
        entry["toolExecutionNotifications"] = notes
    return entry


def _notification(report: Report) -> dict[str, Any]:
    text = escape(report.error or "; ".join(report.decision.reasons) or "no verdict was possible", 1000)
    return {
        "level": "error",
        "message": {"text": f"not analysed: {text}"},
        "locations": [{"physicalLocation": {"artifactLocation": _artifact(report.path)}}],
        "properties": {"fingerprint": hashlib.sha256(_relative(report.path).encode("utf-8", "backslashreplace")).hexdigest()[:32]},
    }
