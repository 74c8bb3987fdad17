"""Statements whose log entry is of kind `intoto` 0.0.2, as npm and SLSA's generators logged them before Rekor had `dsse`.

sigstore-python knows no such entry. It tells kinds apart by the entry's `kindVersion`, which stands outside of what the log signs, so
it is given the bundle with another hint, and verifies what is the same for every entry: the certificate, when it was used, the
identity, the log's promise and proof over the entry's bytes. What those bytes say is compared here: this payload, this signature,
this certificate. Whatever the library would do otherwise with another version of itself ends in a refusal.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.bundle import Bundle, Envelope, pae
from safeload.trust.json_text import Object, base64_bytes, member, objects, parse_object, text
from safeload.trust.scheme import mismatch

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.verify import Verifier
    from sigstore.verify.policy import VerificationPolicy

__all__ = ["is_intoto", "open_intoto"]

_KIND: Final = "intoto"
_VERSION: Final = "0.0.2"
_KNOWN: Final = {"kind": "dsse", "version": "0.0.1"}
_WHAT: Final = "the transparency log's entry"


def is_intoto(bundle: Bundle) -> bool:
    """Whether the log entry says that it is of that kind; it is believed when it shows it."""
    if b'"intoto"' not in bundle.raw:
        return False
    entries = objects(member(parse_object(bundle.raw, "the bundle"), "verificationMaterial", "the bundle"), "tlogEntries", "the bundle")
    kinds = [entry.get("kindVersion") for entry in entries]
    return any(isinstance(kind, dict) and kind.get("kind") == _KIND for kind in kinds)


def open_intoto(verifier: Verifier, bundle: Bundle, policy: VerificationPolicy) -> tuple[str, bytes]:
    """Verify a bundle, and return the type and the bytes of what was signed.

    Raises:
        SignatureError, and whatever sigstore-python raises: it does not verify.
    """
    from sigstore.models import Bundle as SigstoreBundle

    document = parse_object(bundle.raw, "the bundle")
    entries = objects(member(document, "verificationMaterial", "the bundle"), "tlogEntries", "the bundle")
    if len(entries) != 1:
        raise SignatureError(f"the bundle has {len(entries)} entries of a transparency log, not 1", check="log")
    _check_kind(member(entries[0], "kindVersion", _WHAT), "kind", "version")
    entries[0]["kindVersion"] = _KNOWN
    parsed = SigstoreBundle.from_json(json.dumps(document))
    verifier._verify_common_signing_cert(parsed, policy)  # noqa: SLF001
    envelope = bundle.need_envelope()
    _check_signature(parsed.signing_certificate, envelope)
    _check_body(parsed.log_entry._inner.canonicalized_body, envelope, parsed.signing_certificate)  # noqa: SLF001
    return envelope.payload_type, envelope.payload


def _check_kind(table: Object, kind: str, version: str) -> None:
    found = (text(table, kind, _WHAT), text(table, version, _WHAT))
    if found != (_KIND, _VERSION):
        raise SignatureError(f"{_WHAT} is of a kind that is not read: {escape(' '.join(found), 80)}", check="log")


def _check_signature(certificate: Certificate, envelope: Envelope) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError("the certificate's key is not EC", check="algorithm")
    try:
        key.verify(envelope.signature, pae(envelope.payload_type, envelope.payload), ec.ECDSA(hashes.SHA256()))
    except Exception as error:  # InvalidSignature, and what the binding raises for signatures that are none
        raise SignatureError("the signature is not one of the certificate over the statement", check="signature") from error


def _check_body(body: bytes, envelope: Envelope, certificate: Certificate) -> None:
    """Rekor's `intoto` 0.0.2: the signature stands there encoded twice, and its certificate as PEM in base64."""
    from cryptography import x509

    table = parse_object(body, _WHAT)
    _check_kind(table, "kind", "apiVersion")
    content = member(member(table, "spec", _WHAT), "content", _WHAT)
    logged = member(content, "envelope", _WHAT)
    if (found := text(logged, "payloadType", _WHAT)) != envelope.payload_type:
        raise mismatch("log", f"{_WHAT} is about another type", envelope.payload_type, found)
    payload = member(content, "payloadHash", _WHAT)
    digest = hashlib.sha256(envelope.payload).hexdigest()
    if text(payload, "algorithm", _WHAT) != "sha256" or (found := text(payload, "value", _WHAT)) != digest:
        raise mismatch("log", f"{_WHAT} is about another statement", f"sha256:{digest}", f"sha256:{payload.get('value')}")
    signatures = objects(logged, "signatures", _WHAT)
    if len(signatures) != 1:
        raise SignatureError(f"{_WHAT} has {len(signatures)} signatures, not 1", check="log")
    twice = base64.b64encode(base64.b64encode(envelope.signature)).decode()
    if text(signatures[0], "sig", _WHAT) != twice:
        raise SignatureError(f"{_WHAT} is about another signature", check="log")
    pem = base64_bytes(signatures[0].get("publicKey"), f"{_WHAT}'s certificate")
    if not pem.lstrip().startswith(b"-----BEGIN CERTIFICATE-----") or x509.load_pem_x509_certificate(pem) != certificate:
        raise SignatureError(f"{_WHAT} is about another certificate", check="log")
