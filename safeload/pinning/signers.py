"""Signers in `lock`: what lies beside files is verified and recorded, and nobody who signed before disappears unnoticed.

A signer whom the lockfile does not know yet is written down as found: trust on first use. It is shown as that, for a person
to compare with what the publisher says elsewhere. From then on another signer, or none, is refused, until somebody accepts it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from safeload.findings import escape
from safeload.lockfile import Lockfile, Model, SignatureRef
from safeload.policy import Policy
from safeload.signatures import Candidate, Materials, found_beside, named_signers, odd_beside, refs_about
from safeload.trust.scheme import Terms

__all__ = ["SignerEntry", "renew_signers"]

SignerAction = Literal["kept", "renewed", "added", "first use", "vanished", "accepted", "not verified"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerEntry:
    """What became of one signer, or of one file that looks like a signature.

    Attributes:
        model: The model.
        signer: The signer's name in the lock, or "".
        kind: The signature's kind, or "".
        bundle: Where the signature lies, or "".
        action: kept; renewed: the same signer signed anew; added: a known signer, new for this model; first use: nobody knew it
            before; vanished: it signed before and does not now; accepted: the same, and somebody said so; not verified: a
            signature that counts for nobody and was not recorded.
        identity: Who it is, as far as the signature says.
        issuer: Who vouched for that.
        reasons: Why, one line each.
    """

    model: str
    signer: str
    action: SignerAction
    kind: str = ""
    bundle: str = ""
    identity: str = ""
    issuer: str = ""
    reasons: tuple[str, ...] = ()


def renew_signers(
    old: Lockfile, new: Lockfile, lock_path: str | os.PathLike[str], models: Iterable[str], policy: Policy, *, accept: bool
) -> tuple[Lockfile, tuple[SignerEntry, ...], frozenset[str]]:
    """Record the signatures that lie beside models' files.

    Args:
        old: The lock as it was.
        new: The lock with the new pins.
        lock_path: Where it lies.
        models: The models to look at.
        policy: Its `trust-downgrade` says what becomes of a signer that is gone.
        accept: Somebody said that signers may change.

    Returns:
        The lock with signatures and signers, what became of each, and the models whose signer changed or vanished, which
        must stay as they were.
    """
    materials = Materials.of(lock_path)
    entries: list[SignerEntry] = []
    refused: set[str] = set()
    for name in sorted(set(models)):
        model = new.model(name)
        if model is None:
            continue
        before = old.model(name)
        held = policy.for_model(name)
        changed, said = _renewed(new, model, before, materials, Terms(ignore_paths=held.ignore_paths))
        gone = _gone(before, changed.model(name), said, accept=accept or held.trust_downgrade != "refuse")
        entries += [*said, *gone]
        if any(entry.action == "vanished" for entry in gone):
            refused.add(name)
        else:
            new = changed
    return new, tuple(entries), frozenset(refused)


def _renewed(lock: Lockfile, model: Model, before: Model | None, materials: Materials, terms: Terms) -> tuple[Lockfile, list[SignerEntry]]:
    """Verify every candidate of one model, and put what counts into the lock."""
    candidates = found_beside(model, materials)
    # Signatures need not sign one another; but only those that count are signatures, and not just unsigned files.
    while True:
        seen = replace(model, signatures=tuple(candidate.ref("") for candidate in candidates))
        good = [candidate for candidate in candidates if named_signers(lock, seen, candidate, materials, terms)[0]]
        if len(good) == len(candidates):
            break
        candidates = good
    everything = found_beside(model, materials)
    model = replace(model, signatures=tuple(candidate.ref("") for candidate in good))
    known = {(ref.signer, ref.bundle): ref for ref in (before.signatures if before is not None else ())}
    signed_before = {signer for signer, _ in known}
    refs: list[SignatureRef] = []
    said: list[SignerEntry] = []
    for place, why in odd_beside(model, materials):
        said.append(SignerEntry(model=model.name, signer="", bundle=place, action="not verified", reasons=(escape(why, 500),)))
    for candidate in everything:
        found, problems = named_signers(lock, model, candidate, materials, terms)
        if not found:
            said.append(_entry(model, candidate, "", "not verified", reasons=tuple(escape(text, 500) for text in problems)))
        for signer, root, verified in found:
            ref = candidate.ref(signer.name)
            refs.append(ref)
            fresh = all(held.name != signer.name for held in lock.signers)
            if fresh:
                roots = lock.trust_roots if root is None or root in lock.trust_roots else (*lock.trust_roots, root)
                lock = replace(lock, signers=(*lock.signers, signer), trust_roots=roots)
            action: SignerAction = "first use" if fresh else "added" if signer.name not in signed_before else "renewed"
            if known.get((signer.name, candidate.path)) == ref:
                action = "kept"
            said.append(
                _entry(
                    model, candidate, signer.name, action, identity=escape(verified.identity, 500), issuer=escape(verified.issuer, 500),
                    reasons=verified.remarks,
                )
            )  # fmt: skip
    signatures = tuple(dict.fromkeys(refs))
    # A bundle that was pinned as one of the model's own files is a signature from now on.
    return lock.with_model(replace(model, signatures=signatures)), said


def _gone(before: Model | None, after: Model | None, said: list[SignerEntry], *, accept: bool) -> list[SignerEntry]:
    """Say which signatures of before nothing of the same signer has taken the place of, and what was found instead."""
    if before is None or after is None:
        return []
    gone: list[SignerEntry] = []
    for name, path in _never(before, after):
        reason = f"{escape(path)} is new, and not signed by {escape(name)}, whom the lockfile requires"
        gone.append(SignerEntry(model=before.name, signer=name, action="accepted" if accept else "vanished", reasons=(reason,)))
    for ref, files in _lost(before, after):
        here = [entry for entry in said if entry.bundle == ref.bundle and not entry.signer]
        reasons = [f"{entry.bundle}: {reason}" for entry in here for reason in entry.reasons]
        reasons += [f"now signed by {entry.signer}: {entry.identity}" for entry in said if entry.action in ("first use", "added")]
        if not any(entry.bundle == ref.bundle for entry in said):
            reasons.insert(0, f"{escape(ref.bundle)}: the signature is not there, or is no signature any more")
        if any(held.signer == ref.signer for held in after.signatures):
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            reasons.append(f"nothing of {escape(ref.signer)} is about {escape(files[0])}{more}")
        action: SignerAction = "accepted" if accept else "vanished"
        gone.append(
            SignerEntry(model=before.name, signer=ref.signer, kind=ref.kind, bundle=ref.bundle, action=action, reasons=tuple(reasons))
        )
    return gone


def _never(before: Model, after: Model) -> Iterator[tuple[str, str]]:
    """Signers whom the lockfile requires, and weights files that came to the model without them."""
    known, demand = {file.path for file in before.files}, after.require
    for path in (file.path for file in after.weights if file.path not in known):
        now = frozenset(ref.signer for ref in refs_about(after, path))
        if demand is not None and not demand.met_by(now):
            yield from ((name, path) for name in dict.fromkeys((*demand.all, *demand.any)) if name not in now)


def _lost(before: Model, after: Model) -> Iterator[tuple[SignatureRef, list[str]]]:
    """Each signature of before with the files that it was about, that are still there, and that its signer does not sign now."""
    there = {file.path for file in after.files}
    bundles = {ref.bundle for ref in (*before.signatures, *after.signatures)}
    lost: dict[SignatureRef, list[str]] = {}
    for path in (file.path for file in before.files if file.path in there and file.path not in bundles):
        now = {ref.signer for ref in refs_about(after, path)}
        for ref in refs_about(before, path):
            if ref.signer not in now:
                lost.setdefault(ref, []).append(path)
    seen: set[tuple[str, str]] = set()
    for ref, files in lost.items():
        # Of two signatures by one signer over the same files, one stands for both.
        if all((ref.signer, path) in seen for path in files):
            continue
        seen |= {(ref.signer, path) for path in files}
        yield ref, files


def _entry(
    model: Model, candidate: Candidate, signer: str, action: SignerAction, *, identity: str = "", issuer: str = "",
    reasons: tuple[str, ...] = (),
) -> SignerEntry:  # fmt: skip
    return SignerEntry(
        model=model.name, signer=signer, kind=candidate.kind, bundle=candidate.path, action=action, identity=identity, issuer=issuer,
        reasons=reasons,
    )  # fmt: skip
