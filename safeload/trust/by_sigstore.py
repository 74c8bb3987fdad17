"""Keyless signatures: a certificate of a few minutes, an identity that an issuer vouched for, and a public log.

sigstore-python does the work, on a trusted root whose bytes were pinned. Its own caches, its clock (there is none: the log's
and the timestamp authority's count) and the network are not involved; `Verifier.production()` is not used, because it reads
a cache file that nobody verifies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from safeload.errors import MissingExtraError, SignatureError
from safeload.findings import escape
from safeload.trust.bundle import Bundle
from safeload.trust.intoto_entry import is_intoto, open_intoto
from safeload.trust.scheme import Anchor, Verified, first_line, guarded, mismatch

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle as SigstoreBundle
    from sigstore.verify import Verifier

__all__ = ["check_digest", "check_root", "open_envelope"]

# Fulcio's extensions, docs/oid-info.md of sigstore/fulcio.
_ISSUER_V1: Final = "1.3.6.1.4.1.57264.1.1"
_ISSUER_V2: Final = "1.3.6.1.4.1.57264.1.8"
_OTHER_NAME: Final = "1.3.6.1.4.1.57264.1.7"
_SHOWN: Final = {
    "1.3.6.1.4.1.57264.1.12": "source repository",
    "1.3.6.1.4.1.57264.1.13": "source commit",
    "1.3.6.1.4.1.57264.1.14": "source ref",
}


# What of the library's texts, the check that failed, and what that means.
_WORDS: Final = (
    ("not valid at validation time", "validity", "the certificate was not valid when it signed, by the log's or the time stamp's clock"),
    ("validation failed", "chain", "the certificate was not issued under the pinned trusted root"),
    ("not enough sources of verified time", "time", "nothing that the pinned trusted root vouches for says when it was signed"),
    ("an inclusion promise or signed timestamp", "time", "nothing in the bundle says when it was signed"),
    ("does not contain `code signing`", "usage", "the certificate is for another purpose than signing (extended key usage)"),
    ("Signature is invalid for input", "signature", "the signature is not one of the certificate over these bytes"),
    ("DSSE: invalid signature", "signature", "the signature is not one of the certificate over the statement"),
    ("exactly one log entry", "log", "the bundle has no entry of a transparency log"),
    ("invalid log entry", "log", "the transparency log's entry does not prove itself"),
    ("inclusion proof", "log", "the transparency log's entry does not prove itself"),
    ("checkpoint", "log", "the transparency log's entry does not prove itself"),
)


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """As `guarded`, and say in plain words what the library means, where that is known."""
    with guarded("sigstore", what):
        try:
            yield
        except (SignatureError, MissingExtraError):
            raise
        except Exception as error:
            text = first_line(error)
            for part, check, words in _WORDS:
                if part in text:
                    raise SignatureError(f"{words} (sigstore: {escape(text, 80)})", check=check) from error
            raise


class _Exactly:
    """The identity policy: one subject, one issuer, both exactly. A mismatch is raised as ours, with both values."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self.seen: Verified | None = None

    def verify(self, cert: Certificate) -> None:
        """Check the certificate, whose chain was verified before."""
        found = _identity(cert)
        if not self._anchor.any_identity:
            if not self._anchor.identity or not self._anchor.issuer:
                raise SignatureError("no identity and issuer are pinned", check="identity")
            if found.identity != self._anchor.identity:
                raise mismatch("identity", "another identity signed", self._anchor.identity, found.identity)
            if found.issuer != self._anchor.issuer:
                raise mismatch("issuer", "another issuer vouched for the identity", self._anchor.issuer, found.issuer)
        self.seen = found


def check_digest(bundle: Bundle, sha256: str, anchor: Anchor) -> Verified:
    """Check a signature over a file, given the file's digest."""
    bundle.need_message()
    policy = _Exactly(anchor)
    verifier, parsed = _prepared(bundle, anchor)
    with _in_words("the signature does not verify"):
        from sigstore.hashes import Hashed
        from sigstore_models.common.v1 import HashAlgorithm

        verifier.verify_artifact(Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(sha256)), parsed, policy)
    return _seen(policy)


def open_envelope(bundle: Bundle, anchor: Anchor) -> tuple[str, bytes, Verified]:
    """Check a signed statement, and return its type and its bytes as sigstore verified them."""
    bundle.need_envelope()
    policy = _Exactly(anchor)
    verifier, parsed = _prepared(bundle, anchor)
    with _in_words("the signature does not verify"):
        if is_intoto(bundle):
            payload_type, payload = open_intoto(verifier, bundle, policy)
        else:
            payload_type, payload = verifier.verify_dsse(parsed, policy)
    return payload_type, payload, _seen(policy)


def _seen(policy: _Exactly) -> Verified:
    if policy.seen is None:  # the library did not ask: then nobody was identified
        raise SignatureError("the signer's identity was not checked", check="identity")
    return policy.seen


def _prepared(bundle: Bundle, anchor: Anchor) -> tuple[Verifier, SigstoreBundle]:
    if anchor.trusted_root is None:
        raise SignatureError("no trusted root is pinned", check="trust-root")
    if not bundle.certificates:
        raise SignatureError("the bundle was signed with a key, and an identity is pinned", check="identity")
    try:
        from sigstore.models import Bundle as SigstoreBundle
    except ImportError as error:
        raise MissingExtraError("sigstore cannot be imported", hint="install it: pip install 'safeload' brings sigstore along") from error
    verifier = _verifier(anchor.trusted_root)
    with _in_words("the bundle is not valid"):
        return verifier, SigstoreBundle.from_json(bundle.raw)


def check_root(data: bytes) -> None:
    """Return when the bytes are a trusted root that verification can use.

    Raises:
        SignatureError: they are not.
    """
    _verifier(data)


@lru_cache(maxsize=8)
def _verifier(trusted_root: bytes) -> Verifier:
    """One verifier for each root; keyed by its bytes, so no file can change under it."""
    with guarded("trust-root", "the trusted root is not valid"):
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier
        from sigstore_models.trustroot.v1 import TrustedRoot as Inner

        # What TrustedRoot.from_file does, from the bytes whose digest was compared and not from a second look at the file.
        return Verifier(trusted_root=TrustedRoot(Inner.from_json(trusted_root)))


def _identity(cert: Certificate) -> Verified:
    """Read subject, issuer and source out of a certificate."""
    from cryptography import x509

    with guarded("certificate", "the certificate's identity cannot be read"):
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if len(names) != 1:
            raise SignatureError(f"the certificate has {len(names)} subject alternative names, not 1", check="identity")
        found = _name(names[0])
        raw = {
            extension.oid.dotted_string: extension.value.value
            for extension in cert.extensions
            if isinstance(extension.value, x509.UnrecognizedExtension)
        }
        issuers = {raw[_ISSUER_V1].decode("utf-8")} if _ISSUER_V1 in raw else set()
        issuers |= {_utf8_string(raw[_ISSUER_V2])} if _ISSUER_V2 in raw else set()
        if len(issuers) != 1:
            raise SignatureError("the certificate names no issuer" if not issuers else "the certificate names two issuers", check="issuer")
        remarks = tuple(f"{label}: {escape(_utf8_string(raw[oid]), 300)}" for oid, label in _SHOWN.items() if oid in raw)
        return Verified(identity=found, issuer=issuers.pop(), remarks=remarks)


def _name(name: object) -> str:
    from cryptography import x509

    if isinstance(name, (x509.RFC822Name, x509.UniformResourceIdentifier)):
        return str(name.value)
    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == _OTHER_NAME:
        return _utf8_string(name.value)
    raise SignatureError("the certificate's subject alternative name is of a kind that is not known", check="identity")


def _utf8_string(der: bytes) -> str:
    """Decode one DER UTF8String, nothing before or after it."""
    if len(der) < 2 or der[0] != 0x0C:
        raise SignatureError("an extension is not a UTF8String", check="certificate")
    size, start = der[1], 2
    if size & 0x80:
        count = size & 0x7F
        start = 2 + count
        size = int.from_bytes(der[2:start], "big")
    if not size or start + size != len(der):
        raise SignatureError("an extension's length is wrong", check="certificate")
    return der[start:].decode("utf-8")
