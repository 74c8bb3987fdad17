"""Signatures in `verify`: every one that the lock stores is checked afresh, and demands are held against what verifies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safeload.errors import MissingExtraError, SignatureError
from safeload.findings import escape
from safeload.lockfile import LockedFile, Lockfile, Model, SignatureRef
from safeload.policy import Policy
from safeload.signatures import ABOUT_ONE, SignatureCheck, check_signatures, demanded, refs_about, unmet
from safeload.source import Source

__all__ = ["SignatureEntry", "SigningCheck"]

@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureEntry:
    """What came of one signer of one model.

    Attributes:
        model: The model.
        signer: The signer's name; "" for a demand that is not met.
        kind: The signature's kind.
        bundle: Where it lies.
        status: verified, refused, or error: it could not be checked here.
        identity: Who signed.
        issuer: Who vouched for that.
        expected, found: What differed.
        reasons: One line each.
    """

    model: str
    signer: str
    kind: str
    bundle: str
    status: Literal["verified", "refused", "error"]
    identity: str = ""
    issuer: str = ""
    expected: str = ""
    found: str = ""
    reasons: tuple[str, ...] = ()


class SigningCheck:
    """Checks signatures file by file, and puts the answers together by signature.

    A signature over one file counts when it verifies for one; a signature over a model must verify for every weights file.
    """

    def __init__(self, lock: Lockfile, where: Path, policy: Policy) -> None:
        self._lock, self._where, self._policy = lock, where, policy
        self._checks: dict[tuple[str, SignatureRef], list[SignatureCheck]] = {}
        self._unmet: list[SignatureEntry] = []

    def check(self, model: Model, file: LockedFile, source: Source) -> None:
        """Check the model's signatures for one open file: when it is one of its weights files, or has a signature of its own."""
        if file.path in {ref.bundle for ref in model.signatures}:
            return
        weights = file.path in {one.path for one in model.weights}
        refs = refs_about(model, file.path)
        if not weights:
            refs = tuple(ref for ref in refs if ref.kind in ABOUT_ONE and ref.bundle.startswith(f"{file.path}."))
        if not refs and not weights:
            return
        held = self._policy.for_model(model.name)
        checks = check_signatures(self._lock, self._where, model, file, held, source=source, fresh=True, refs=refs)
        for check in checks:
            self._checks.setdefault((model.name, check.ref), []).append(check)
        if weights and demanded(held, model):
            lines = unmet(held, model, checks)
            if lines:
                reasons = tuple(f"{escape(file.path)}: {line}" for line in lines)
                self._unmet.append(SignatureEntry(model=model.name, signer="", kind="", bundle="", status="refused", reasons=reasons))

    def entries(self) -> tuple[SignatureEntry, ...]:
        """Everything that was found, signatures first."""
        found = [_entry(name, ref, checks) for (name, ref), checks in self._checks.items()]
        return (*sorted(found, key=lambda entry: (entry.model, entry.signer, entry.bundle)), *self._unmet)


def _entry(model: str, ref: SignatureRef, checks: list[SignatureCheck]) -> SignatureEntry:
    good = [check for check in checks if check.verified is not None]
    bad = [check for check in checks if check.problem is not None]
    if good and (not bad or ref.kind in ABOUT_ONE):
        who = good[0].verified
        return SignatureEntry(
            model=model, signer=ref.signer, kind=ref.kind, bundle=ref.bundle, status="verified",
            identity=escape(who.identity if who is not None else "", 500), issuer=escape(who.issuer if who is not None else "", 500),
            reasons=who.remarks if who is not None else (),
        )  # fmt: skip
    problem = bad[0].problem
    status: Literal["refused", "error"] = "error" if isinstance(problem, MissingExtraError) else "refused"
    return SignatureEntry(
        model=model, signer=ref.signer, kind=ref.kind, bundle=ref.bundle, status=status,
        expected=problem.expected if isinstance(problem, SignatureError) else "",
        found=problem.found if isinstance(problem, SignatureError) else "",
        reasons=(problem.message if problem is not None else "",),
    )  # fmt: skip
