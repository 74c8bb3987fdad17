"""`sigstore-blob`: a signature over one file, as `sigstore sign`, `cosign sign-blob` and `safeload sign` write it.

It binds bytes to a signer, and nothing else: no file name, no model, no version. What keeps an old file from coming back
under a valid signature is the lockfile. Ed25519 keys cannot sign a digest, so `safeload sign` wraps it into a statement.
"""

from __future__ import annotations

from typing import Final

from safeload.errors import SignatureError
from safeload.trust.bundle import parse_bundle
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified, mismatch
from safeload.trust.sealed import signed_digest, signed_statement

__all__ = ["PREDICATE_TYPE", "verify"]

PREDICATE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"
"""What a statement that only signs says."""


def verify(artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Check a bundle over a file's bytes, or a statement that does nothing but sign the file; see `Scheme.verify`."""
    if parse_bundle(bundle).envelope is None:
        return signed_digest(bundle, artifact, anchor)
    statement, who = signed_statement(bundle, anchor)
    if statement.predicate_type != PREDICATE_TYPE:
        raise mismatch("content", "the statement is not a plain signature", PREDICATE_TYPE, statement.predicate_type)
    if len(statement.subjects) != 1:
        raise SignatureError(f"the statement is about {len(statement.subjects)} files, not 1", check="content")
    if statement.subjects[0][1] != artifact.sha256:
        raise mismatch("digest", "the signature is over other bytes", f"sha256:{artifact.sha256}", f"sha256:{statement.subjects[0][1]}")
    return who
