"""`openpgp`: a detached signature over a file, checked against one certificate that is pinned by digest and fingerprint.

pysequoia does the work: no keyring, no key server, no trust database. It has no trusted time, so a certificate that is
expired today counts as expired, whenever the signature says it was made; so does a revoked one. A signature cannot be
checked against a digest, so the bytes are hashed once more, from the descriptor that is open already.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from safeload.errors import MissingExtraError, SignatureError
from safeload.findings import escape
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified, guarded, mismatch

if TYPE_CHECKING:
    from pysequoia import Cert

__all__ = ["certificate_of", "check", "check_inline", "verify"]

_WEAK: Final = ("MD5", "SHA1", "RipeMD", "RIPEMD")
_LONGEST: Final = 1 << 20


def verify(artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Check a detached signature over the artifact; see `Scheme.verify`."""
    if artifact.content is None:
        raise SignatureError("the file's bytes are not at hand, and an OpenPGP signature cannot be checked without", check="content")
    return check(bundle, anchor, artifact.content())


def certificate_of(anchor: Anchor) -> tuple[Cert, Verified]:
    """Return the pinned certificate, when it may vouch for anything today.

    Raises:
        SignatureError: it is not the pinned one, expired, or revoked.
        MissingExtraError: pysequoia is not installed.
    """
    try:
        from pysequoia import Cert
    except ImportError as error:
        text = "OpenPGP signatures need the package pysequoia"
        raise MissingExtraError(text, hint="install it: pip install 'safeload[openpgp]'") from error
    if anchor.certificate is None or not anchor.fingerprint:
        raise SignatureError("no certificate is pinned", check="certificate")
    with guarded("certificate", "the certificate cannot be read"):
        cert = Cert.from_bytes(anchor.certificate)
        try:
            found, revoked, end = cert.fingerprint, cert.is_revoked, cert.expiration
        except RuntimeError as error:
            if "olicy rejected" in str(error):
                said = escape(str(error).splitlines()[0], 100)
                raise SignatureError(f"the certificate {cert.fingerprint} is too weak: {said}", check="algorithm") from error
            raise
    if found.lower() != anchor.fingerprint.lower():
        raise mismatch("identity", "the certificate has another fingerprint", anchor.fingerprint.lower(), found.lower())
    if revoked:
        raise SignatureError(f"the certificate {found} is revoked", check="validity", found="revoked")
    now = dt.datetime.now(tz=dt.UTC)
    if end is not None and end.replace(tzinfo=end.tzinfo or dt.UTC) <= now:
        raise SignatureError(f"the certificate {found} expired on {end:%Y-%m-%d}", check="validity", found=end.isoformat())
    return cert, Verified(identity=found.lower(), until=None if end is None else end.timestamp())


def check(signature: bytes, anchor: Anchor, content: bytes | str) -> Verified:
    """Return who signed `content`: bytes, or the path of a descriptor that is open.

    Raises:
        SignatureError: nobody that counts, or in a way that does not.
    """
    cert, who = certificate_of(anchor)
    from pysequoia import Sig
    from pysequoia import verify as verify_with

    if len(signature) > _LONGEST:
        raise SignatureError(f"the signature has {len(signature)} bytes", check="format")
    with guarded("format", "the signature cannot be read"):
        sig = Sig.from_bytes(signature)
        algorithm = str(sig.hash_algorithm).rpartition(".")[2]
        said = str(sig.issuer_fingerprint or sig.issuer_key_id or "").lower()
    if any(algorithm.upper().startswith(weak.upper()) for weak in _WEAK):
        raise SignatureError(f"the signature is made with {algorithm}, which is too weak", check="algorithm", found=algorithm)
    named = f", but one that names the key {escape(said, 80)}" if said and said != who.identity else ""
    with _none_valid(f"no valid signature of {who.identity} over these bytes{named}"):
        if isinstance(content, str):
            result = verify_with(file=content, store=lambda _ids: [cert], signature=sig)
        else:
            result = verify_with(bytes=content, store=lambda _ids: [cert], signature=sig)
        signers = [str(found.certificate).lower() for found in result.valid_sigs]
    return _one_of(signers, who)


def check_inline(message: bytes, anchor: Anchor) -> tuple[bytes, Verified]:
    """Return what a clear-signed message says, and who signed it."""
    cert, who = certificate_of(anchor)
    from pysequoia import verify as verify_with

    with _none_valid(f"no valid signature of {who.identity} in the message"):
        result = verify_with(bytes=message, store=lambda _ids: [cert])
        signers = [str(found.certificate).lower() for found in result.valid_sigs]
        content = result.bytes
    if content is None:
        raise SignatureError("the signed message is empty", check="content")
    return content, _one_of(signers, who)


@contextmanager
def _none_valid(what: str) -> Iterator[None]:
    """As `guarded`; the library says the same about other bytes, other keys and weak hashes, so its text is left out."""
    with guarded("signature", what):
        try:
            yield
        except RuntimeError as error:
            if "no valid signatures" in str(error):
                raise SignatureError(what, check="signature") from error
            raise


def _one_of(signers: list[str], who: Verified) -> Verified:
    if who.identity not in signers:
        raise mismatch("identity", "another key signed", who.identity, ", ".join(escape(signer) for signer in signers))
    return who
