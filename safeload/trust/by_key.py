"""Signatures that a public key made: EC (P-256, P-384, P-521) and Ed25519, for files and for statements.

Nothing says when a key signed, and nothing but its owner's word binds it to anybody: the lockfile pins the key by digest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, cast

from safeload.errors import SignatureError
from safeload.trust.bundle import Bundle, Envelope, pae
from safeload.trust.scheme import Anchor, Verified, guarded, mismatch

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["check_digest", "check_envelope", "key_digest", "load_key", "open_envelope", "pem_of"]

_LONGEST_KEY: Final = 64 << 10
_SMALLEST_RSA: Final = 2048
_OPENSSH: Final = (b"ssh-", b"ecdsa-sha2-", b"sk-")


def load_key(data: bytes) -> PublicKeyTypes:
    """Return the public key in PEM or DER bytes, or in the line that OpenSSH keeps it in.

    Raises:
        SignatureError: it is none, or of a kind that is not taken.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key, load_ssh_public_key

    if len(data) > _LONGEST_KEY:
        raise SignatureError(f"the public key has {len(data)} bytes", check="key")
    with guarded("key", "the public key cannot be read"):
        head = data.lstrip()
        if head.startswith(b"-----BEGIN"):
            key = load_pem_public_key(data)
        else:
            key = cast("PublicKeyTypes", load_ssh_public_key(data)) if head.startswith(_OPENSSH) else load_der_public_key(data)
    if isinstance(key, ec.EllipticCurvePublicKey):
        _curve_hash(key.curve.name)
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise SignatureError("the public key is neither EC (P-256, P-384, P-521) nor Ed25519", check="key")
    return key


def pem_of(key: PublicKeyTypes) -> bytes:
    """Return a key in the one form whose digest stands for it: SubjectPublicKeyInfo, PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_digest(key: PublicKeyTypes) -> str:
    """Return SHA-256 of the key's PEM, hex: what a bundle's hint holds (OMS v1.0, public keys)."""
    return hashlib.sha256(pem_of(key)).hexdigest()


def check_digest(bundle: Bundle, sha256: str, anchor: Anchor) -> Verified:
    """Check a signature over a file, given the file's digest.

    Raises:
        SignatureError: another key signed, or other bytes, or the key cannot sign a digest.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    key, who = _expected(bundle, anchor)
    message = bundle.need_message()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError("an Ed25519 key signs bytes, not a digest: a statement about the file is needed", check="algorithm")
    try:
        with_digest = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        key.verify(message.signature, bytes.fromhex(sha256), with_digest)
    except Exception as error:  # InvalidSignature, and what the binding raises for signatures that are none
        raise SignatureError(f"the signature is not one of {who.identity} over sha256:{sha256}", check="signature") from error
    return who


def open_envelope(bundle: Bundle, anchor: Anchor) -> tuple[str, bytes, Verified]:
    """Check a signed statement, and return its type and its bytes."""
    key, who = _expected(bundle, anchor)
    envelope = bundle.need_envelope()
    check_envelope(key, envelope, who.identity)
    return envelope.payload_type, envelope.payload, who


def _expected(bundle: Bundle, anchor: Anchor) -> tuple[PublicKeyTypes, Verified]:
    if anchor.public_key is None:
        raise SignatureError("no public key is pinned", check="key")
    if bundle.certificates:
        raise SignatureError("the bundle was signed with a certificate, and a public key is pinned", check="key")
    key = load_key(anchor.public_key)
    digest = key_digest(key)
    # The hint is not signed: a wrong one explains the failure, a right one proves nothing.
    if bundle.key_hint and len(bundle.key_hint) == len(digest) and bundle.key_hint != digest:
        raise mismatch("key", "another key signed", f"sha256:{digest}", f"sha256:{bundle.key_hint}")
    return key, Verified(identity=f"sha256:{digest}")


def check_envelope(key: PublicKeyTypes, envelope: Envelope, who: str) -> None:
    """Return when `key` signed the envelope.

    Raises:
        SignatureError: it did not, or is of a kind or a size that is not taken.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    forms = [pae(envelope.payload_type, envelope.payload), _old_form(envelope)]
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SMALLEST_RSA:
        raise SignatureError(f"an RSA key of {key.key_size} bits is too weak", check="algorithm")
    if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, rsa.RSAPublicKey)):
        raise SignatureError("the signing key is neither EC nor Ed25519 nor RSA", check="algorithm")
    for index, signed in enumerate(forms):
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(envelope.signature, signed)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(envelope.signature, signed, ec.ECDSA(_curve_hash(key.curve.name)))
            else:
                key.verify(envelope.signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except SignatureError:
            raise
        except Exception as error:  # as in check_digest
            if index == len(forms) - 1:
                raise SignatureError(f"the signature is not one of {who} over the statement", check="signature") from error
        else:
            return


def _old_form(envelope: Envelope) -> bytes:
    """What model-signing before 1.0 signed instead of the PAE: the payload as Python shows bytes.

    It stands for exactly one payload and can be mistaken for no PAE (the tag is another), so taking it as well lets nobody
    sign anything else.
    """
    kind = envelope.payload_type
    return f"DSSEV1 {len(kind)} {kind} {len(envelope.payload)} {envelope.payload!r}".encode()


def _curve_hash(curve: str) -> hashes.HashAlgorithm:
    """The hash that goes with a curve (sigstore's registry of key details)."""
    from cryptography.hazmat.primitives import hashes

    found: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
    if curve not in found:
        raise SignatureError(f"the curve {curve} is not taken: P-256, P-384 or P-521", check="key")
    return found[curve]
