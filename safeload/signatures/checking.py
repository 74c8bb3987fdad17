"""Check the signatures that the lockfile stores about a file, and say whether they are what lock and policy demand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from safeload.errors import MissingExtraError, SafeloadError, SignatureError, warn
from safeload.findings import escape
from safeload.lockfile import LockedFile, Lockfile, Model, SignatureRef, Signer, TrustRoot
from safeload.policy import IdentityRule, Policy, glob_match, signer_reasons
from safeload.signatures.material import Materials, SignedBytes, anchor_of, artifact_of
from safeload.signatures.result_cache import key_of, lookup, remember
from safeload.source import Source
from safeload.trust.builtin_roots import PUBLIC_GOOD, builtin_roots
from safeload.trust.scheme import CODE_SIGNING, Anchor, Terms, Verified, mismatch
from safeload.trust.schemes import verify

if TYPE_CHECKING:
    from safeload.lockfile import Pin

__all__ = ["ABOUT_ONE", "SignatureCheck", "check_ref", "check_signatures", "demanded", "refs_about", "require_signers", "unmet"]

ABOUT_ONE: Final = frozenset({"sigstore-blob", "openpgp", "slsa-provenance"})
"""Kinds of signatures that are over one file, and not over a model."""

_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureCheck:
    """What came of one stored signature, for one file.

    Attributes:
        ref: The signature, as the lock has it.
        path: The file that it was checked for.
        verified: Who signed, or None.
        problem: Why nobody is taken to have signed, or None.
        cached: Whether the answer was known.
    """

    ref: SignatureRef
    path: str
    verified: Verified | None = None
    problem: SafeloadError | None = None
    cached: bool = False

    def __str__(self) -> str:
        return f"{escape(self.ref.signer)} ({self.ref.kind}, {escape(self.ref.bundle)})"


def demanded(policy: Policy, model: Model | None) -> bool:
    """Whether anything about signatures is to be looked at for this model.

    Args:
        policy: Already narrowed by `Policy.for_model`.
        model: The model that covers the file, or None.
    """
    if policy.signature is None:
        return bool(policy.signers or policy.provenance) or (model is not None and model.require is not None)
    return policy.signature != "off"


def require_signers(
    policy: Policy, lock: Lockfile | None, lock_path: str | os.PathLike[str] | None, pin: Pin | None, source: Source,
    *, matched: bool = False,
) -> tuple[SignatureCheck, ...]:  # fmt: skip
    """Return when the signatures that are demanded verify; with `signature = "warn"`, warn otherwise.

    Args:
        policy: Already narrowed by `Policy.for_model`.
        lock: The lockfile in force.
        lock_path: Where it lies.
        pin: The pin that covers the file, whose digest the bytes have or are compared with; None: nobody's signature is known.
        source: The open file.
        matched: Whether its bytes were compared with the pin already.

    Raises:
        SignatureError: a demand is not met. Lists every signature that failed, and why.
        MissingExtraError: a signature that is needed cannot be checked with what is installed.
    """
    checks: tuple[SignatureCheck, ...] = ()
    if pin is not None and lock is not None and lock_path is not None:
        checks = check_signatures(lock, lock_path, pin.model, pin.file, policy, source=source, matched=matched)
    missing = unmet(policy, pin.model if pin is not None else None, checks)
    if not missing:
        return checks
    error = _refusal(source.name, missing, [check for check in checks if check.problem is not None], stored=bool(checks))
    if policy.signature == "warn":
        warn(str(error))
        return checks
    raise error


def unmet(policy: Policy, model: Model | None, checks: Sequence[SignatureCheck]) -> tuple[str, ...]:
    """Say which demands of lock and policy the checks of one file do not meet; empty when all are met."""
    verified = frozenset(check.ref.signer for check in checks if check.verified is not None)
    return signer_reasons(policy, verified, model.require if model is not None else None) + _provenance_reasons(policy, checks)


def check_signatures(
    lock: Lockfile,
    lock_path: str | os.PathLike[str],
    model: Model,
    file: LockedFile,
    policy: Policy,
    *,
    source: Source | None,
    fresh: bool = False,
    matched: bool = False,
    refs: tuple[SignatureRef, ...] | None = None,
) -> tuple[SignatureCheck, ...]:
    """Check every stored signature of a model that can be about one of its files.

    Args:
        lock: The lockfile.
        lock_path: Where it lies.
        model: The model, one of the lock's.
        file: The file; its `sha256` is that of the bytes at hand.
        policy: Already narrowed by `Policy.for_model`.
        source: The open file, or None when only its digest is at hand.
        fresh: Take no known answer, and look at what is stored whatever `verify-signature` says.
        matched: Whether the bytes of `source` were compared with the digest already.
        refs: Which signatures; by default all that `refs_about` gives.
    """
    materials = Materials.of(lock_path)
    chosen = refs_about(model, file.path) if refs is None else refs
    return tuple(check_ref(lock, materials, model, file, ref, policy, source=source, fresh=fresh, matched=matched) for ref in chosen)


def refs_about(model: Model, path: str) -> tuple[SignatureRef, ...]:
    """Return the stored signatures that can be about a file: not those over one file that lie beside another one of the model."""
    bundles = {ref.bundle for ref in model.signatures}
    paths = [file.path for file in model.files if file.path not in bundles]

    def beside(ref: SignatureRef) -> str:
        return max((one for one in paths if ref.bundle.startswith(f"{one}.")), key=len, default=path)

    return tuple(ref for ref in model.signatures if ref.kind not in ABOUT_ONE or beside(ref) == path)


def check_ref(
    lock: Lockfile, materials: Materials, model: Model, file: LockedFile, ref: SignatureRef, policy: Policy,
    *, source: Source | None, fresh: bool = False, matched: bool = False,
) -> SignatureCheck:  # fmt: skip
    """Check one stored signature for one file; whatever is wrong is in the result."""
    try:
        signer = next((signer for signer in lock.signers if signer.name == ref.signer), None)
        if signer is None:
            raise SignatureError(f"there is no signer '{escape(ref.signer)}'", check="signer")
        _check_identity(policy.identities, signer, lock)
        # What an attestation states stands nowhere but in it.
        stated = ref.kind == "slsa-provenance" and bool(policy.provenance)
        if policy.verify_signature == "lock" and not fresh and not stated:
            then = Verified(identity="", remarks=("verified when it was locked",))
            return SignatureCheck(ref=ref, path=file.path, verified=then, cached=True)
        anchor = _for_purpose(policy.identities, anchor_of(lock, signer, materials))
        bundle = materials.pinned(ref.bundle, ref.bundle_sha256, "the stored signature")
        companion = materials.beside(ref.bundle) if ref.kind == "openpgp-sha256sums" else None
        data = None if source is None else SignedBytes(file, source, matched=matched)
        artifact = artifact_of(model, file, ref, data=data, companion=companion)
        terms = Terms(ignore_paths=policy.ignore_paths)
        key, disk = key_of(ref.kind, artifact, bundle, anchor, terms), policy.verify == "cached"
        known = None if fresh else lookup(key, disk=disk)
        if known is not None:
            return SignatureCheck(ref=ref, path=file.path, verified=known, cached=True)
        verified = verify(ref.kind, artifact, bundle, anchor, terms)
        if data is not None:
            data.close()
        remember(key, verified, disk=disk)
        return SignatureCheck(ref=ref, path=file.path, verified=verified)
    except (SignatureError, MissingExtraError) as error:
        return SignatureCheck(ref=ref, path=file.path, problem=error)


def _check_identity(rules: Sequence[IdentityRule], signer: Signer, lock: Lockfile) -> None:
    """A name that policy describes must stand for that identity in the lock, too: who edits the lock cannot redefine it."""
    root = next((root for root in lock.trust_roots if root.name == signer.trust_root), None)
    for rule in rules:
        if rule.name != signer.name:
            continue
        for key in ("kind", "issuer", "fingerprint", "public_key_sha256", "certificate_sha256", "subject", "eku"):
            wanted, found = getattr(rule, key), getattr(signer, key) or ""
            if key == "eku" and signer.kind == "x509":
                # Without it code signing is meant: an editor of the lock must not make a web server's certificate a signer.
                wanted, found = wanted or CODE_SIGNING, found or CODE_SIGNING
            same = wanted is None or (wanted.lower() == found.lower() if key == "fingerprint" else wanted == found)
            if not same:
                text = f"policy describes the signer '{escape(signer.name)}' otherwise, its {key.replace('_', '-')}"
                raise mismatch("policy", text, wanted, found)
        _check_root(rule, signer, root)
        if rule.identity is not None and not glob_match(rule.identity, signer.identity or ""):
            text = f"policy describes the signer '{escape(signer.name)}' otherwise, its identity"
            raise mismatch("policy", text, rule.identity, signer.identity or "")


def _for_purpose(rules: Sequence[IdentityRule], anchor: Anchor) -> Anchor:
    """A purpose that policy names must stand in the certificate, also where the lockfile names none."""
    named = next((rule.eku for rule in rules if rule.name == anchor.name and rule.eku is not None), "")
    return replace(anchor, eku=named) if named and anchor.kind == "x509" and not anchor.eku else anchor


def _check_root(rule: IdentityRule, signer: Signer, root: TrustRoot | None) -> None:
    """An identity means something under a root only: without policy's word it must be one that safeload carries."""
    if signer.kind != "sigstore":
        return
    text, found = f"policy gives the signer '{escape(signer.name)}' another trust root", root.sha256 if root is not None else ""
    if rule.trust_root_sha256 is not None:
        if found != rule.trust_root_sha256:
            raise mismatch("policy", text, f"sha256:{rule.trust_root_sha256}", f"sha256:{found}")
    elif (rule.identity is not None or rule.issuer is not None) and found not in builtin_roots(PUBLIC_GOOD):
        raise SignatureError(
            f"{text}: expected builtin:{PUBLIC_GOOD}, found sha256:{found}", check="policy",
            hint=f"if the root is right, set trust-root-sha256 of the signer '{escape(signer.name)}' in the policy",
            expected=f"builtin:{PUBLIC_GOOD}", found=f"sha256:{found}",
        )  # fmt: skip


def _provenance_reasons(policy: Policy, checks: Iterable[SignatureCheck]) -> tuple[str, ...]:
    """Say which demands for provenance no verified attestation meets."""
    # Whom policy names speaks; a signer whom only the lockfile names could have been added by whoever edited it.
    named = {name for demand in policy.signers for name in (*demand.all, *demand.any)} | {rule.name for rule in policy.identities}
    attested = [
        dict(check.verified.facts)
        for check in checks
        if check.verified is not None and check.verified.facts and (not named or check.ref.signer in named)
    ]
    missing = []
    for rule in policy.provenance:
        wanted = {"builder": rule.builder, "repository": rule.repository, "ref": rule.ref}
        demands = {name: pattern for name, pattern in wanted.items() if pattern is not None}
        if any(all(glob_match(pattern, facts.get(name, "")) for name, pattern in demands.items()) for facts in attested):
            continue
        asked = ", ".join(f"{name} {escape(pattern)}" for name, pattern in demands.items())
        found = "; ".join(", ".join(f"{name} {escape(facts.get(name, 'none'))}" for name in demands) for facts in attested)
        missing.append(f"provenance is required: expected {asked}, found {found or 'no attestation'}")
    return tuple(missing)


def _refusal(where: str, missing: Sequence[str], failed: Sequence[SignatureCheck], *, stored: bool) -> SafeloadError:
    """One error with every demand that is not met, and every signature that failed."""
    lines = list(missing)
    lines += [f"{check}: {check.problem.message}" for check in failed[:_SHOWN] if check.problem is not None]
    if len(failed) > _SHOWN:
        lines.append(f"and {len(failed) - _SHOWN} more that failed")
    message = lines[0] if len(lines) == 1 else "\n  ".join(["refused:", *lines])
    first = next((check.problem for check in failed if isinstance(check.problem, SignatureError)), None)
    extra = next((check.problem for check in failed if isinstance(check.problem, MissingExtraError)), None)
    if extra is not None and first is None:
        return MissingExtraError(message, where=where, hint=extra.hint)
    hint = (first.hint if first is not None else "") or "'safeload verify' shows every signature"
    if not stored:
        hint = "the lockfile stores no signature for it: 'safeload lock' records those that lie beside the file"
    return SignatureError(
        message, where=where, hint=hint, check=first.check if first is not None else "missing",
        expected=first.expected if first is not None else "", found=first.found if first is not None else "",
    )  # fmt: skip
