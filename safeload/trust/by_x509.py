"""Signatures with a certificate of a company's own authority: a pinned root, a subject, a purpose, valid now.

Nothing in such a bundle says when it was signed, so the clock that counts is today's: an expired certificate's signatures
are over. A certificate for something else (a web server's) does not sign models, whoever issued it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.bundle import Bundle
from safeload.trust.by_key import check_envelope
from safeload.trust.scheme import CODE_SIGNING, Anchor, Verified, guarded, mismatch

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["check_authority", "check_digest", "open_envelope", "trusted_leaf"]

_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
# RFC 5280, 4.2: a critical extension that is not understood here must refuse the certificate.
_UNDERSTOOD: Final = frozenset({"2.5.29.15", "2.5.29.19", "2.5.29.37"})
_SMALLEST_RSA: Final = 2048


def check_digest(bundle: Bundle, sha256: str, anchor: Anchor) -> Verified:
    """Check a signature over a file, given the file's digest."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    leaf, who = trusted_leaf(bundle.certificates, anchor)
    message = bundle.need_message()
    with guarded("certificate", "the certificate's key cannot be read"):
        key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError("only an EC key can sign a file's digest", check="algorithm")
    try:
        key.verify(message.signature, bytes.fromhex(sha256), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except Exception as error:  # InvalidSignature, and what the binding raises for signatures that are none
        raise SignatureError(f"the signature is not one of {who.identity} over sha256:{sha256}", check="signature") from error
    return who


def open_envelope(bundle: Bundle, anchor: Anchor) -> tuple[str, bytes, Verified]:
    """Check a signed statement, and return its type and its bytes."""
    leaf, who = trusted_leaf(bundle.certificates, anchor)
    envelope = bundle.need_envelope()
    with guarded("certificate", "the certificate's key cannot be read"):
        key = leaf.public_key()
    check_envelope(key, envelope, who.identity)
    return envelope.payload_type, envelope.payload, who


def trusted_leaf(chain: tuple[bytes, ...], anchor: Anchor, now: dt.datetime | None = None) -> tuple[x509.Certificate, Verified]:
    """Return the leaf when its chain leads to the pinned root, and it is who and what it must be.

    Args:
        chain: DER, the leaf first; the root may stand at its end, where only equality with the pinned one counts.
        anchor: The root, the subject, and the extended key usage.
        now: The time that counts; the system's by default.

    Raises:
        SignatureError: a check failed.
    """
    if not chain or anchor.certificate is None:
        raise SignatureError("the bundle holds no certificate" if not chain else "no root certificate is pinned", check="certificate")
    with guarded("certificate", "a certificate cannot be read"):
        root = _root(anchor.certificate)
        found = _load(chain)
        if found[-1] == root and len(found) > 1:
            found = found[:-1]
        leaf = found[0]
        subject = leaf.subject.rfc4514_string()
        if subject != anchor.subject:
            raise mismatch("identity", "the certificate is another's", anchor.subject, subject)
        links = [*found, root]
        moment = now or dt.datetime.now(tz=dt.UTC)
        for index, certificate in enumerate(links):
            _check_valid(certificate, moment)
            if index:
                _check_issuer(links[index - 1], certificate, below=index - 1)
        remarks = _check_leaf(leaf, anchor.eku)
        until = min(certificate.not_valid_after_utc for certificate in links).timestamp()
        return leaf, Verified(identity=escape(subject), issuer=escape(root.subject.rfc4514_string()), until=until, remarks=remarks)


def check_authority(data: bytes, now: dt.datetime | None = None) -> None:
    """Return when the bytes are a certificate that can be pinned as a root: an authority, valid now, strong enough.

    Raises:
        SignatureError: they are not.
    """
    with guarded("certificate", "the root certificate cannot be read"):
        root = _root(data)
        _check_valid(root, now or dt.datetime.now(tz=dt.UTC))
        _check_may_issue(root, below=0)


def _root(data: bytes) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(data) if data.lstrip().startswith(b"-----BEGIN") else x509.load_der_x509_certificate(data)


def _load(chain: tuple[bytes, ...]) -> list[x509.Certificate]:
    """Read a chain. The reference signer of OMS writes PEM where the format wants DER; both are taken."""
    return [_root(data) for data in chain]


def _name(certificate: x509.Certificate) -> str:
    return escape(certificate.subject.rfc4514_string(), 120)


def _check_valid(certificate: x509.Certificate, now: dt.datetime) -> None:
    """Valid now, signed with a hash that holds, and with no critical extension that is not understood."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        state = "expired" if now > end else "is not valid yet"
        raise SignatureError(
            f"the certificate {_name(certificate)} {state}: valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC",
            check="validity", expected=f"{start.isoformat()} to {end.isoformat()}", found=now.isoformat(timespec="seconds"),
        )  # fmt: skip
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name not in _HASHES:
        raise SignatureError(f"the certificate {_name(certificate)} is signed with {algorithm.name}, which is too weak", check="algorithm")
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SMALLEST_RSA:
        text = f"the certificate {_name(certificate)} has an RSA key of {key.key_size} bits, which is too weak"
        raise SignatureError(text, check="algorithm")
    for extension in certificate.extensions:
        if extension.critical and extension.oid.dotted_string not in _UNDERSTOOD:
            text = f"the certificate {_name(certificate)} has a critical extension {extension.oid.dotted_string}, which is not understood"
            raise SignatureError(text, check="certificate")


def _check_issuer(subject: x509.Certificate, issuer: x509.Certificate, *, below: int) -> None:
    """`issuer` is an authority, may have `below` authorities under it, and signed `subject`."""
    try:
        subject.verify_directly_issued_by(issuer)
    except Exception as error:
        text = f"{_name(subject)} was not issued by {_name(issuer)}: the chain does not lead to the pinned root"
        raise SignatureError(text, check="chain") from error
    _check_may_issue(issuer, below=below)


def _check_may_issue(issuer: x509.Certificate, *, below: int) -> None:
    from cryptography import x509

    try:
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise SignatureError(f"{_name(issuer)} is no certificate authority", check="chain") from None
    if not basic.ca or not usage.key_cert_sign or (basic.path_length is not None and basic.path_length < below):
        raise SignatureError(f"{_name(issuer)} may not issue this certificate", check="chain")


def _check_leaf(leaf: x509.Certificate, eku: str) -> tuple[str, ...]:
    """A leaf that may sign, for the purpose that is wanted, and is no authority itself; returns what is worth knowing of it.

    A large publisher's certificates name no purpose at all, which by RFC 5280 (4.2.1.12) restricts nothing. Where no purpose is
    pinned, such a leaf is taken when signatures are all that its key may make.
    """
    from cryptography import x509

    extensions = leaf.extensions
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise SignatureError(f"{_name(leaf)} has no key usage", check="usage") from None
    # By its key usage, and not by cA alone: published model signatures have leaves with cA that may issue nothing.
    if usage.key_cert_sign:
        raise SignatureError(f"{_name(leaf)} is a certificate authority and not a signer", check="certificate")
    if not usage.digital_signature:
        raise SignatureError(f"{_name(leaf)} may not make signatures: its key usage lacks digitalSignature", check="usage")
    try:
        purposes = [oid.dotted_string for oid in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value]
    except x509.ExtensionNotFound:
        purposes = []
        if not eku and not (usage.key_encipherment or usage.data_encipherment or usage.key_agreement or usage.crl_sign):
            return ("the certificate names no purpose (extended key usage), and may sign only",)
    if (eku or CODE_SIGNING) not in purposes:
        raise mismatch("usage", "the certificate is for another purpose (extended key usage)", eku or CODE_SIGNING, ", ".join(purposes))
    return ()
