"""Results for programs. The object of `scan` is a contract: keys are added, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from safeload.cli.output import as_json
from safeload.cli.render.signatures import signature_json, signer_json
from safeload.cli.scanning import Scanned, Totals
from safeload.findings import Finding, Origin, escape
from safeload.trust.digest import Digest

if TYPE_CHECKING:  # each command pays for its own results only
    from safeload.inspection import Inspection
    from safeload.pinning import LockResult, VerifyResult
    from safeload.scanning import Skipped

__all__ = ["file_json", "finding_json", "inspection_json", "lock_json", "path_text", "skipped_json", "summary_json", "verify_json"]

_MOST: Final = 10_000
_LONG: Final = 5_000


def skipped_json(item: Skipped) -> dict[str, Any]:
    """A file that needed no verdict."""
    return {"path": path_text(item.path), "why": item.why}


def summary_json(totals: Totals) -> dict[str, int]:
    """How many files came out how."""
    return {outcome.value: number for outcome, number in totals.outcomes.items()}


def path_text(path: str) -> str:
    """A path as JSON can hold it: bytes that are no UTF-8 become escapes."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def file_json(scanned: Scanned) -> dict[str, Any]:
    """One file of a scan, as the contract has it."""
    report = scanned.report
    entry: dict[str, Any] = {
        "path": path_text(report.path),
        "format": report.format,
        "size": report.size,
        "sha256": report.sha256,
        "decision": report.decision.outcome.value,
        "globals": [escape(name, _LONG) for name in report.globals],
        "findings": [finding_json(finding, scanned.muted.get(finding)) for finding in report.findings[:_MOST]],
        "reasons": [escape(reason, _LONG) for reason in report.decision.reasons],
    }
    if report.sha256_tree is not None:
        entry["sha256-tree"] = report.sha256_tree
    if report.origin is not None:
        entry["unhashed"] = report.unhashed
        entry["origin"] = origin_json(report.origin)
    if report.error is not None:
        entry["error"] = escape(report.error, _LONG)
    if len(report.findings) > _MOST:
        entry["findings_left_out"] = len(report.findings) - _MOST
    return entry


def origin_json(origin: Origin) -> dict[str, Any]:
    """Where a file elsewhere was read from, and how much of it."""
    entry: dict[str, Any] = {"version": origin.version, "fetched": origin.fetched, "requests": origin.requests}
    if origin.repo is not None:
        entry |= {"repo": escape(origin.repo, _LONG), "requested": escape(origin.requested or "", _LONG), "revision": origin.revision}
    return entry


def finding_json(finding: Finding, muted: str | None = None) -> dict[str, Any]:
    """One finding; `muted` says why it does not count."""
    entry: dict[str, Any] = {
        "rule": finding.rule,
        "level": finding.level.value,
        "message": escape(finding.message, _LONG),
        "member": None if finding.member is None else escape(finding.member, _LONG),
        "offset": finding.offset,
    }
    if finding.subject is not None:
        entry["subject"] = escape(finding.subject, _LONG)
    if muted is not None:
        entry["muted"] = muted
    return entry


def lock_json(result: LockResult) -> str:
    """What became of every file."""
    entries = []
    for entry in result.entries:
        file = entry.after or entry.before
        entries.append(
            {
                "path": path_text(entry.path),
                "model": entry.model,
                "action": entry.action,
                "before": None if entry.before is None else str(entry.before.digest),
                "after": None if entry.after is None else str(entry.after.digest),
                "size": None if file is None else file.size,
                "sha256-tree": None if file is None or file.sha256_tree is None else str(Digest("sha256-tree", file.sha256_tree)),
                "format": None if file is None else file.format,
                "converted": None
                if file is None or file.converted is None
                else {"path": path_text(file.converted.path), "sha256": str(Digest("sha256", file.converted.sha256))},
                "reasons": [escape(reason, _LONG) for reason in entry.reasons],
                "findings": [finding_json(finding) for finding in entry.findings[:_MOST]],
            }
        )
    return as_json(
        {
            "version": 1,
            "lockfile": path_text(str(result.lockfile)),
            "check": result.check,
            "outcome": result.outcome.value,
            "files": entries,
            "signers": [signer_json(entry) for entry in result.signers],
        }
    )


def verify_json(result: VerifyResult) -> str:
    """How every file compares."""
    entries = [
        {
            "path": path_text(entry.path),
            "model": entry.model,
            "status": entry.status,
            "expected": entry.expected or None,
            "found": entry.found or None,
            "findings": [finding_json(finding) for finding in entry.findings],
            "reasons": [escape(reason, _LONG) for reason in entry.reasons],
        }
        for entry in result.entries
    ]
    signatures = [signature_json(entry) for entry in result.signatures]
    return as_json(
        {
            "version": 1,
            "lockfile": path_text(str(result.lockfile)),
            "outcome": result.outcome.value,
            "files": entries,
            "signatures": signatures,
        }
    )


def inspection_json(found: Inspection) -> str:
    """The contract's object, with a few more facts about each tensor."""
    return as_json(
        {
            "format": found.format,
            "size": found.size,
            "parameters": found.parameters,
            "tensors": [
                {
                    "name": escape(tensor.name, _LONG),
                    "dtype": tensor.dtype,
                    "shape": list(tensor.shape),
                    "nbytes": tensor.nbytes,
                    "kind": tensor.kind,
                    "stride": None if tensor.stride is None else list(tensor.stride),
                    "offset": tensor.offset,
                    "storage": None if tensor.storage is None else escape(tensor.storage, _LONG),
                    "device": None if tensor.device is None else escape(tensor.device, _LONG),
                    "requires_grad": tensor.requires_grad,
                }
                for tensor in found.tensors
            ],
            "globals": [escape(name, _LONG) for name in found.globals],
            "metadata": {escape(key, _LONG): escape(value, _LONG) for key, value in found.metadata.items()},
        }
    )
