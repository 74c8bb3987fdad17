"""Show trust roots and signers, and whether their material is what was pinned."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeload.errors import LockfileError, SafeloadError, SignatureError
from safeload.findings import Outcome, escape
from safeload.lockfile import Lockfile, Signer, find, read
from safeload.signatures import Materials, anchor_of

__all__ = ["RootEntry", "SignerLine", "TrustResult", "show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RootEntry:
    """One trust root: what it is, and what it holds, one line each."""

    name: str
    kind: str
    path: str
    sha256: str
    holds: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerLine:
    """One signer: what it is, and which models it signed."""

    name: str
    kind: str
    about: tuple[tuple[str, str], ...]
    models: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustResult:
    """Everything that one lockfile trusts."""

    lockfile: Path
    roots: tuple[RootEntry, ...]
    signers: tuple[SignerLine, ...]

    @property
    def outcome(self) -> Outcome:
        """Refused when some material is not what was pinned."""
        bad = any(root.problem for root in self.roots) or any(signer.problem for signer in self.signers)
        return Outcome.REFUSED if bad else Outcome.ALLOWED


def show(lock: str | os.PathLike[str] | None = None) -> TrustResult:
    """Return what the lockfile in force trusts; nothing is fetched.

    Raises:
        LockfileError: no lock is in force, or it is not valid.
    """
    where = find(argument=lock)
    if where is None:
        raise LockfileError("no lockfile is in force", hint="run 'safeload lock PATH' to make one")
    held = read(where)
    materials = Materials.of(where)
    roots = []
    for root in held.trust_roots:
        entry = RootEntry(name=root.name, kind=root.kind, path=root.path, sha256=root.sha256)
        try:
            data = materials.pinned(root.path, root.sha256, f"the trust root '{escape(root.name)}'")
            entry = RootEntry(name=root.name, kind=root.kind, path=root.path, sha256=root.sha256, holds=_holds(data))
        except SignatureError as error:
            entry = RootEntry(name=root.name, kind=root.kind, path=root.path, sha256=root.sha256, problem=error.message)
        roots.append(entry)
    return TrustResult(lockfile=where, roots=tuple(roots), signers=tuple(_signer(held, signer, materials) for signer in held.signers))


def _signer(lock: Lockfile, signer: Signer, materials: Materials) -> SignerLine:
    keys = ("issuer", "identity", "trust_root", "fingerprint", "subject", "eku", "public_key", "public_key_sha256", "certificate",
            "certificate_sha256")  # fmt: skip
    about = tuple((key.replace("_", "-"), value) for key in keys if (value := getattr(signer, key)) is not None)
    models = tuple(model.name for model in lock.models if any(ref.signer == signer.name for ref in model.signatures))
    problem = ""
    try:
        anchor_of(lock, signer, materials)
    except SafeloadError as error:
        problem = error.message
    return SignerLine(name=signer.name, kind=signer.kind, about=about, models=models, problem=problem)


def _holds(data: bytes) -> tuple[str, ...]:
    """Name what a sigstore root holds; what cannot be read is passed over, since verification reads it by itself."""
    try:
        root: Any = json.loads(data)
        lines = [f"certificate authority {entry['uri']}" for entry in root.get("certificateAuthorities", [])]
        lines += [f"transparency log {entry['baseUrl']}" for entry in root.get("tlogs", [])]
        lines += [f"certificate log {entry['baseUrl']}" for entry in root.get("ctlogs", [])]
        lines += [f"timestamp authority {entry['uri']}" for entry in root.get("timestampAuthorities", [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    return tuple(escape(line) for line in lines)
