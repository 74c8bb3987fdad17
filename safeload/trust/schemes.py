"""Which module verifies which kind of signature; none is imported before its first signature."""

from __future__ import annotations

import importlib
from typing import Final, cast

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.scheme import Anchor, Artifact, Scheme, Terms, Verified, guarded

__all__ = ["SCHEMES", "verify"]

SCHEMES: Final[dict[str, str]] = {
    "sigstore-blob": "sigstore_blob",
    "oms": "oms",
    "openpgp": "openpgp",
    "openpgp-sha256sums": "openpgp_sums",
    "slsa-provenance": "provenance",
    "git-commit": "git_commit",
}
"""`kind` of a signature in the lockfile → the module below `safeload.trust`."""


def verify(kind: str, artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Verify one stored signature.

    Raises:
        SignatureError: whatever is wrong with it, whichever library noticed.
        MissingExtraError: a package that this kind needs is not installed.
    """
    if kind not in SCHEMES:
        raise SignatureError(f"signatures of kind {escape(kind, 40)} are not known", check="kind")
    scheme = cast("Scheme", importlib.import_module(f"safeload.trust.{SCHEMES[kind]}"))
    with guarded("internal", "the signature could not be checked"):
        return scheme.verify(artifact, bundle, anchor, terms)
