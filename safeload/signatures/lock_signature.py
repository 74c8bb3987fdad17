"""A lockfile that is signed itself: read once, and parsed only when the signer whom policy names has signed these bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from safeload.errors import LockfileError, SignatureError
from safeload.findings import escape
from safeload.lockfile import Lockfile, loads, read
from safeload.policy import LockSigner, Policy
from safeload.signatures.material import Materials, read_small
from safeload.source import Source
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified
from safeload.trust.schemes import verify

__all__ = ["check_lock", "read_lock", "signature_path"]

_MOST_BYTES: Final = 64 << 20


def signature_path(lock_path: str | os.PathLike[str], kind: str) -> Path:
    """Where the lockfile's own signature lies: beside it, `.asc` for OpenPGP, else `.sigstore.json`."""
    path = Path(lock_path)
    return path.with_name(path.name + (".asc" if kind == "openpgp" else ".sigstore.json"))


def read_lock(path: str | os.PathLike[str], policy: Policy) -> Lockfile:
    """Read the lockfile, signed where policy wants that.

    Raises:
        SignatureError: it is not signed, or not by the signer whom policy names.
        LockfileError: it is not valid.
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
    """
    if policy.lock_signer is None:
        return read(path)
    data, shown = _bytes(path), escape(os.fspath(path), 1000)
    check_lock(data, path, policy)
    return loads(data, where=shown)


def check_lock(data: bytes, path: str | os.PathLike[str], policy: Policy) -> Verified | None:
    """Return who signed the lockfile's bytes; None when policy asks for nobody.

    Raises:
        SignatureError: nobody, or somebody else.
    """
    signer = policy.lock_signer
    if signer is None:
        return None
    place = signature_path(path, signer.kind)
    hint = f"if the lockfile is as it should be, sign it again: safeload sign {escape(Path(path).name)}"
    try:
        anchor = _anchor(signer, Materials(Path(policy.origin).parent if policy.origin else Path.cwd()))
        bundle = read_small(place, "the lockfile's signature")
        artifact = Artifact(path=Path(path).name, sha256=hashlib.sha256(data).hexdigest(), size=len(data), content=lambda: data)
        return verify("openpgp" if signer.kind == "openpgp" else "sigstore-blob", artifact, bundle, anchor, Terms())
    except SignatureError as error:
        raise SignatureError(
            f"policy wants the lockfile signed: {error.message}", where=escape(os.fspath(path), 1000), hint=hint,
            check=error.check, expected=error.expected, found=error.found,
        ) from error  # fmt: skip


def _bytes(path: str | os.PathLike[str]) -> bytes:
    with Source.open(path) as source:
        if source.size > _MOST_BYTES:
            raise LockfileError(f"the file has {source.size} bytes, and at most {_MOST_BYTES} are read", where=source.name)
        return source.read(0, source.size)


def _anchor(signer: LockSigner, materials: Materials) -> Anchor:
    """Read the signer's material, relative to the policy that names it."""
    held: dict[str, bytes | None] = {}
    for key, path, sha256 in (
        ("public_key", signer.public_key, signer.public_key_sha256),
        ("certificate", signer.certificate, signer.certificate_sha256),
        ("trusted_root", signer.trust_root, signer.trust_root_sha256),
    ):
        held[key] = None if path is None or sha256 is None else materials.pinned(path, sha256, f"the lock signer's {key.replace('_', ' ')}")
    return Anchor(
        kind=signer.kind, name="lock-signer", issuer=signer.issuer, identity=signer.identity, fingerprint=signer.fingerprint,
        subject=signer.subject, public_key=held["public_key"], certificate=held["certificate"], trusted_root=held["trusted_root"],
    )  # fmt: skip
