"""Signatures that `ssh-keygen -Y sign` and git make with an SSH key (OpenSSH's PROTOCOL.sshsig), checked against one pinned key.

The key is pinned as any other public key is, in OpenSSH's one-line form or as PEM: EC or Ed25519. No list of allowed signers is read,
and neither ssh-keygen nor an agent is asked.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from typing import TYPE_CHECKING, Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.by_key import key_digest, load_key
from safeload.trust.json_text import base64_bytes
from safeload.trust.scheme import Anchor, Verified, guarded, mismatch

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["BEGIN", "check_ssh", "ssh_fingerprint"]

BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"

_ARMOR: Final = re.compile(rb"\s*-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\r\n]{1,16384})-----END SSH SIGNATURE-----\s*")
_MAGIC: Final = b"SSHSIG"
_HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_CURVES: Final = {"secp256r1": b"nistp256", "secp384r1": b"nistp384", "secp521r1": b"nistp521"}


def ssh_fingerprint(signature: bytes) -> str:
    """Return the fingerprint of the key that a signature says made it, as `ssh-keygen -l` shows it; nothing is verified."""
    return _fingerprint(_parts(signature)[0])


def check_ssh(signature: bytes, anchor: Anchor, message: bytes, *, namespace: str) -> Verified:
    """Return who signed `message`.

    Args:
        signature: Armored.
        anchor: The pinned key.
        message: What must be signed.
        namespace: What it must be signed as: a signature for one purpose is none for another.

    Raises:
        SignatureError: another key signed, or other bytes, or for another purpose, or in a way that is not taken.
    """
    if anchor.kind != "key" or anchor.public_key is None:
        raise SignatureError("the signature was made with an SSH key, and no public key is pinned", check="key")
    key = load_key(anchor.public_key)
    public, found, reserved, algorithm, signed = _parts(signature)
    wanted = _wire_key(key)
    if public != wanted:
        raise mismatch("key", "another SSH key signed", _fingerprint(wanted), _fingerprint(public))
    if found != namespace.encode():
        raise mismatch("content", "the SSH signature is for another purpose", namespace, found.decode("utf-8", "backslashreplace"))
    if algorithm not in _HASHES:
        text = escape(algorithm.decode("utf-8", "backslashreplace"), 40)
        raise SignatureError(f"the SSH signature is made with {text}, which is not taken", check="algorithm")
    digest = _HASHES[algorithm](message).digest()
    _verify(key, signed, _MAGIC + b"".join(map(_string, (found, reserved, algorithm, digest))), _fingerprint(public))
    return Verified(identity=f"sha256:{key_digest(key)}", remarks=(f"SSH key {_fingerprint(public)}",))


def _verify(key: PublicKeyTypes, signed: bytes, data: bytes, who: str) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

    kind, raw = _strings(signed, 2)
    if kind != _wire_kind(key):
        raise SignatureError("the SSH signature is of another kind than its key", check="algorithm")
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(raw, data)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            first, second = (int.from_bytes(number, "big", signed=True) for number in _strings(raw, 2))
            hash_of = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}[key.curve.name]
            key.verify(utils.encode_dss_signature(first, second), data, ec.ECDSA(hash_of))
        else:
            raise SignatureError("the SSH key is neither EC nor Ed25519", check="algorithm")
    except SignatureError:
        raise
    except Exception as error:  # InvalidSignature, and what the binding raises for signatures that are none
        raise SignatureError(f"the signature is not one of the SSH key {who} over these bytes", check="signature") from error


def _parts(armored: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Public key, namespace, reserved, hash and signature."""
    found = _ARMOR.fullmatch(armored)
    if found is None:
        raise SignatureError("it is no SSH signature in its armor", check="format")
    blob = base64_bytes(found[1].translate(None, b"\r\n").decode(), "the SSH signature")
    if blob[:10] != _MAGIC + struct.pack(">I", 1):
        raise SignatureError("it is no SSH signature of version 1", check="format")
    public, namespace, reserved, algorithm, signed = _strings(blob[10:], 5)
    return public, namespace, reserved, algorithm, signed


def _strings(data: bytes, count: int) -> list[bytes]:
    """Read `count` strings as SSH writes them, and nothing behind them."""
    found, at = [], 0
    for _ in range(count):
        if at + 4 > len(data):
            raise SignatureError("the SSH signature is torn", check="format")
        size = struct.unpack_from(">I", data, at)[0]
        at += 4
        if at + size > len(data):
            raise SignatureError("the SSH signature is torn", check="format")
        found.append(data[at : at + size])
        at += size
    if at != len(data):
        raise SignatureError("the SSH signature has something behind its end", check="format")
    return found


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _wire_kind(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    return b"ecdsa-sha2-" + _CURVES[key.curve.name] if isinstance(key, ec.EllipticCurvePublicKey) else b"ssh-ed25519"


def _wire_key(key: PublicKeyTypes) -> bytes:
    """The key as SSH writes it; compared whole, so that a signature never says by itself which key counts."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    with guarded("key", "the public key cannot be written as an SSH key"):
        return base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split(b" ")[1])


def _fingerprint(public: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")
