"""Add a signer to the lockfile or take one out, and renew a sigstore trust root through TUF."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from safeload.errors import SignatureError, UsageError
from safeload.findings import escape
from safeload.lockfile import Lockfile, Model, Signer, TrustRoot, find, lock_relative, update
from safeload.policy import SignerRule
from safeload.signatures.material import read_small
from safeload.signatures.searching import DEFAULT_ROOT, default_root
from safeload.trust.by_key import load_key
from safeload.trust.by_sigstore import check_root
from safeload.trust.by_x509 import check_authority
from safeload.trust.openpgp import certificate_of
from safeload.trust.scheme import Anchor
from safeload.trusting.fetching import fetch_root

__all__ = ["add_signer", "remove_signer", "update_root"]


def _where(lock: str | os.PathLike[str] | None) -> Path:
    found = Path(lock).absolute() if lock is not None else find()
    return found or Path.cwd() / "safeload.lock"


def add_signer(
    name: str,
    *,
    lock: str | os.PathLike[str] | None = None,
    public_key: str | os.PathLike[str] | None = None,
    openpgp: str | os.PathLike[str] | None = None,
    x509: str | os.PathLike[str] | None = None,
    subject: str | None = None,
    eku: str | None = None,
    issuer: str | None = None,
    identity: str | None = None,
    trust_root: str | os.PathLike[str] | None = None,
    replace_existing: bool = False,
) -> Signer:
    """Write a signer into the lockfile, its material pinned by digest.

    Args:
        name: As models and policy shall call it.
        lock: The lockfile; None: the one in force, or a new one.
        public_key: A public key file (EC or Ed25519).
        openpgp: A certificate file; its full fingerprint is pinned.
        x509: A root certificate file; goes with `subject`, and with `eku` when that is not code signing.
        subject: The leaf's subject, as RFC 4514 writes it.
        eku: The leaf's extended key usage, a dotted OID.
        issuer: keyless, with `identity`: who vouches.
        identity: keyless: who signs, exactly.
        trust_root: keyless: a trusted root file; by default the public instance's, or the lock's own default.
        replace_existing: A signer of that name may be there and is replaced.

    Raises:
        UsageError: the arguments do not name exactly one kind of signer, or the name is taken.
        SignatureError: the material cannot be read, is expired or revoked.
    """
    where = _where(lock)
    given = [kind for kind, value in (("key", public_key), ("openpgp", openpgp), ("x509", x509), ("sigstore", identity)) if value]
    if len(given) != 1 or (given == ["sigstore"]) != bool(issuer) or (given == ["x509"]) != bool(subject):
        raise UsageError("name one of a public key, an OpenPGP certificate, an x509 root with a subject, or an identity with its issuer")
    root: TrustRoot | None = None
    if public_key is not None:
        path, data = _material(public_key, where, "the public key")
        load_key(data)
        signer = Signer(name=name, kind="key", public_key=path, public_key_sha256=_sha256(data))
    elif openpgp is not None:
        path, data = _material(openpgp, where, "the certificate")
        signer = Signer(name=name, kind="openpgp", fingerprint=_fingerprint(data), certificate=path, certificate_sha256=_sha256(data))
    elif x509 is not None:
        path, data = _material(x509, where, "the root certificate")
        check_authority(data)
        signer = Signer(name=name, kind="x509", certificate=path, certificate_sha256=_sha256(data), subject=subject, eku=eku)
    else:
        if trust_root is not None:
            path, data = _material(trust_root, where, "the trusted root")
            check_root(data)
            root = TrustRoot(name=name, kind="sigstore", path=path, sha256=_sha256(data))
        signer = Signer(name=name, kind="sigstore", trust_root=name if root else DEFAULT_ROOT, issuer=issuer, identity=identity)

    def change(now: Lockfile) -> Lockfile:
        if any(held.name == name for held in now.signers) and not replace_existing:
            raise UsageError(f"a signer '{escape(name)}' is in the lockfile already", hint="--force replaces it")
        roots = [held for held in now.trust_roots if root is None or held.name != root.name]
        if root is not None:
            roots.append(root)
        elif signer.kind == "sigstore" and all(held.name != DEFAULT_ROOT for held in roots):
            roots += [replace(held, name=DEFAULT_ROOT) for held in default_root(Lockfile())]
        signers = (*(held for held in now.signers if held.name != name), signer)
        return replace(now, signers=signers, trust_roots=tuple(roots))

    update(where, change)
    return signer


def remove_signer(name: str, *, lock: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Take a signer out of the lockfile, with every signature that it made. Its key files stay where they are.

    Args:
        name: The signer.
        lock: The lockfile; None: the one in force.

    Returns:
        The models whose signatures went with it.

    Raises:
        UsageError: there is no such signer, or a model needs its signature: that demand is not dropped in passing.
    """
    where = _where(lock)
    signed: tuple[str, ...] = ()

    def change(now: Lockfile) -> Lockfile:
        nonlocal signed
        if all(held.name != name for held in now.signers):
            raise UsageError(f"there is no signer '{escape(name)}' in the lockfile", where=escape(os.fspath(where), 1000))
        needed = [model.name for model in now.models if model.require is not None and not _can_do_without(model.require, name)]
        if needed:
            raise UsageError(
                f"'{escape(name)}' must have signed {', '.join(map(escape, needed[:10]))}{' and more' if len(needed) > 10 else ''}",
                hint="have somebody else sign, then: safeload lock MODEL --require OTHER --accept-signer-change",
            )
        signed = tuple(model.name for model in now.models if any(ref.signer == name for ref in model.signatures))
        signers = tuple(held for held in now.signers if held.name != name)
        return replace(now, signers=signers, models=tuple(_without(model, name) for model in now.models))

    update(where, change)
    return signed


def _can_do_without(rule: SignerRule, name: str) -> bool:
    return name not in rule.all and rule.any != (name,)


def _without(model: Model, name: str) -> Model:
    require = model.require
    if require is not None and name in require.any:
        require = replace(require, any=tuple(other for other in require.any if other != name))
    return replace(model, require=require, signatures=tuple(ref for ref in model.signatures if ref.signer != name))


def _material(path: str | os.PathLike[str], where: Path, what: str) -> tuple[str, bytes]:
    return lock_relative(where, path), read_small(path, what)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fingerprint(data: bytes) -> str:
    """The full fingerprint of a certificate that may vouch for something today."""
    try:
        from pysequoia import Cert
    except ImportError:
        certificate_of(Anchor(kind="openpgp"))  # says which extra is missing
        raise
    try:
        found = str(Cert.from_bytes(data).fingerprint).lower()
    except RuntimeError as error:
        raise SignatureError(f"the certificate cannot be read: {escape(str(error).splitlines()[0])}", check="certificate") from error
    certificate_of(Anchor(kind="openpgp", certificate=data, fingerprint=found))
    return found


def update_root(
    name: str = DEFAULT_ROOT,
    *,
    lock: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    url: str | None = None,
    bootstrap: str | os.PathLike[str] | None = None,
) -> tuple[TrustRoot | None, TrustRoot]:
    """Fetch the current trusted root through TUF, keep it beside the lockfile, and pin it. Uses the network.

    Args:
        name: Which trust root of the lockfile.
        lock: The lockfile.
        output: Where to keep it; `keys/NAME.trusted_root.json` beside the lockfile by default.
        url: The TUF repository of a private instance; goes with `bootstrap`, its root.json.
        bootstrap: As above; the public instance's is part of safeload.

    Returns:
        What was pinned before, if anything, and what is now.

    Raises:
        SafeloadError: it could not be fetched, or does not verify.
    """
    where = _where(lock)
    place = Path(output) if output is not None else where.parent / "keys" / f"{name}.trusted_root.json"
    relative = lock_relative(where, place)
    data = fetch_root(url, bootstrap)
    place.parent.mkdir(parents=True, exist_ok=True)
    spare = place.with_name(place.name + ".new")
    spare.write_bytes(data)
    spare.replace(place)
    made = TrustRoot(name=name, kind="sigstore", path=relative, sha256=_sha256(data))
    before: TrustRoot | None = None

    def change(now: Lockfile) -> Lockfile:
        nonlocal before
        before = next((held for held in now.trust_roots if held.name == name), None)
        return replace(now, trust_roots=(*(held for held in now.trust_roots if held.name != name), made))

    update(where, change)
    return before, made
