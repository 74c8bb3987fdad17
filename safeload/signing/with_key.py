"""Sign with a private key: EC (P-256, P-384, P-521) or Ed25519, PEM, with or without a passphrase, and with a certificate or without."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from safeload.errors import SignatureError, UsageError
from safeload.trust.bundle import BUNDLE_V03, pae
from safeload.trust.by_key import key_digest, load_key, pem_of
from safeload.trust.scheme import guarded
from safeload.trust.statement import PAYLOAD_TYPE

__all__ = ["load_chain", "load_private_key", "sign_digest", "sign_statement", "subject_of"]

_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def load_private_key(data: bytes, passphrase: str | None) -> PrivateKey:
    """Return the key in PEM bytes, or in the form that OpenSSH keeps keys in.

    Raises:
        UsageError: it cannot be read, or is of a kind that is not taken.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if data.lstrip().startswith(_OPENSSH) else load_pem_private_key
    try:
        with guarded("key", "the private key cannot be read"):
            key = load(data, passphrase.encode() if passphrase else None)
            if isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
                load_key(pem_of(key.public_key()))
                return key
    except SignatureError as error:
        # cryptography says so by a TypeError, and by nothing else that could be told apart.
        locked = passphrase is None and isinstance(error.__cause__, (TypeError, ValueError)) and "ncrypted" in str(error.__cause__)
        raise UsageError(error.message, hint="--passphrase-env names the variable that holds its passphrase" if locked else "") from error
    raise UsageError("the private key is neither EC (P-256, P-384, P-521) nor Ed25519")


def load_chain(data: bytes, key: PrivateKey) -> tuple[bytes, ...]:
    """Return the certificates in PEM bytes as DER: the key's first, then those that lead to the root.

    Raises:
        UsageError: they cannot be read, or the first is another key's.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        with guarded("certificate", "the certificates cannot be read"):
            found = x509.load_pem_x509_certificates(data)
            own = pem_of(found[0].public_key()) == pem_of(key.public_key())
    except SignatureError as error:
        raise UsageError(error.message) from error
    if not own:
        raise UsageError("the first certificate is not of the key that signs", hint="put the signing certificate first, then its issuers")
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def subject_of(certificate: bytes) -> str:
    """Return a DER certificate's subject as RFC 4514 writes it: what a signer of the lockfile must be pinned to."""
    from cryptography import x509

    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()


def sign_digest(key: ec.EllipticCurvePrivateKey, sha256: str, chain: tuple[bytes, ...] = ()) -> bytes:
    """Return a bundle over a file's digest."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    digest = bytes.fromhex(sha256)
    signature = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    message = {"messageDigest": {"algorithm": "SHA2_256", "digest": _b64(digest)}, "signature": _b64(signature)}
    return _bundle(key, chain, "messageSignature", message)


def sign_statement(key: PrivateKey, payload: bytes, chain: tuple[bytes, ...] = ()) -> bytes:
    """Return a bundle over a statement."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signed = pae(PAYLOAD_TYPE, payload)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        sizes: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
        signature = key.sign(signed, ec.ECDSA(sizes[key.curve.key_size]))
    else:
        signature = key.sign(signed)
    envelope = {"payload": _b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": _b64(signature), "keyid": ""}]}
    return _bundle(key, chain, "dsseEnvelope", envelope)


def _bundle(key: PrivateKey, chain: tuple[bytes, ...], content: str, value: object) -> bytes:
    # A chain in a v0.3 bundle is what model signatures have; sigstore's own bundles of that version hold one certificate.
    who: dict[str, object] = {"publicKey": {"hint": key_digest(key.public_key())}}
    if chain:
        who = {"x509CertificateChain": {"certificates": [{"rawBytes": _b64(certificate)} for certificate in chain]}}
    document = {"mediaType": BUNDLE_V03, "verificationMaterial": {**who, "tlogEntries": []}, content: value}
    return json.dumps(document, indent=2).encode() + b"\n"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
