"""Sign with a private key: EC (P-256, P-384, P-521) or Ed25519, PEM, with or without a passphrase."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from safeload.errors import SignatureError, UsageError
from safeload.trust.bundle import BUNDLE_V03, pae
from safeload.trust.by_key import key_digest, load_key, pem_of
from safeload.trust.scheme import guarded
from safeload.trust.statement import PAYLOAD_TYPE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

__all__ = ["load_private_key", "sign_digest", "sign_statement", "signs_digests"]


def load_private_key(data: bytes, passphrase: str | None) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    """Return the key in PEM bytes.

    Raises:
        UsageError: it cannot be read, or is of a kind that is not taken.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with guarded("key", "the private key cannot be read"):
            key = load_pem_private_key(data, passphrase.encode() if passphrase else None)
            if isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
                load_key(pem_of(key.public_key()))
                return key
    except SignatureError as error:
        raise UsageError(error.message) from error
    raise UsageError("the private key is neither EC (P-256, P-384, P-521) nor Ed25519")


def signs_digests(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bool:
    """Whether a key can sign a file by its SHA-256."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return isinstance(key, ec.EllipticCurvePrivateKey)


def sign_digest(key: ec.EllipticCurvePrivateKey, sha256: str) -> bytes:
    """Return a bundle over a file's digest."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    digest = bytes.fromhex(sha256)
    signature = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    message = {"messageDigest": {"algorithm": "SHA2_256", "digest": _b64(digest)}, "signature": _b64(signature)}
    return _bundle(key, "messageSignature", message)


def sign_statement(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, payload: bytes) -> bytes:
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
    return _bundle(key, "dsseEnvelope", envelope)


def _bundle(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, content: str, value: object) -> bytes:
    material = {"publicKey": {"hint": key_digest(key.public_key())}, "tlogEntries": []}
    return json.dumps({"mediaType": BUNDLE_V03, "verificationMaterial": material, content: value}, indent=2).encode() + b"\n"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
