"""Signers and signatures, as lines and as JSON, for `lock` and `verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from safeload.cli.output import Line
from safeload.findings import escape

if TYPE_CHECKING:
    from safeload.pinning import SignatureEntry, SignerEntry

__all__ = ["signature_json", "signature_lines", "signer_json", "signer_lines"]

_MOST: Final = 50
_LONG: Final = 5_000
_STYLES: Final = {
    "kept": "green", "renewed": "green", "added": "yellow", "first use": "bold yellow", "vanished": "bold red", "accepted": "yellow",
    "not verified": "bold yellow", "verified": "green", "refused": "bold red", "error": "bold yellow",
}  # fmt: skip


def signer_lines(entry: SignerEntry) -> Iterator[Line]:
    """A signer, and for one that nobody knew before, what to do about it."""
    name = f"signer {escape(entry.signer)}" if entry.signer else "signature"
    kind = f"  {entry.kind}" if entry.kind else ""
    what = f'{kind}  {escape(entry.bundle)}  "{escape(entry.model)}"'
    yield [(name, "bold"), ("  ", ""), (entry.action, _STYLES[entry.action]), (what, "")]
    yield from _who(entry.identity, entry.issuer)
    if entry.action == "first use":
        yield [("  trusted on first use: compare identity and issuer with what the publisher says elsewhere", "yellow")]
    yield from ([(f"  {escape(reason, 1000)}", "dim")] for reason in entry.reasons[:_MOST])


def signature_lines(entry: SignatureEntry) -> Iterator[Line]:
    """What came of one signature, or a demand that is not met."""
    name = f"signature of {escape(entry.signer)}" if entry.signer else "signatures"
    kind = f"  {entry.kind}  {escape(entry.bundle)}" if entry.kind else ""
    yield [(name, "bold"), ("  ", ""), (entry.status, _STYLES[entry.status]), (f'{kind}  "{escape(entry.model)}"', "dim")]
    yield from _who(entry.identity, entry.issuer)
    yield from ([(f"  {escape(reason, 1000)}", "")] for reason in entry.reasons[:_MOST])


def _who(identity: str, issuer: str) -> Iterator[Line]:
    if identity:
        yield [(f"  identity {identity}", "")]
    if issuer:
        yield [(f"  issuer   {issuer}", "")]


def signer_json(entry: SignerEntry) -> dict[str, Any]:
    """One signer, for programs."""
    return {
        "model": entry.model, "signer": entry.signer or None, "action": entry.action, "kind": entry.kind, "bundle": _path(entry.bundle),
        "identity": entry.identity or None, "issuer": entry.issuer or None,
        "reasons": [escape(reason, _LONG) for reason in entry.reasons],
    }  # fmt: skip


def signature_json(entry: SignatureEntry) -> dict[str, Any]:
    """One signature, for programs."""
    return {
        "model": entry.model, "signer": entry.signer or None, "kind": entry.kind or None, "bundle": _path(entry.bundle),
        "status": entry.status, "identity": entry.identity or None, "issuer": entry.issuer or None, "expected": entry.expected or None,
        "found": entry.found or None, "reasons": [escape(reason, _LONG) for reason in entry.reasons],
    }  # fmt: skip


def _path(path: str) -> str | None:
    return path.encode("utf-8", "backslashreplace").decode("utf-8") or None
