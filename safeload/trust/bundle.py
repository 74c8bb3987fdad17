"""The sigstore bundle as a container: which material it names and what it signs. Nothing here is verified."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.json_text import base64_bytes, member, objects, parse_object, text

__all__ = ["BUNDLE_V03", "Bundle", "Envelope", "Message", "pae", "parse_bundle"]

BUNDLE_V03: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MEDIA: Final = re.compile(r"application/vnd\.dev\.sigstore\.bundle(\.v0\.3\+json|\+json;version=0\.[123])", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A signature over a file's bytes.

    Attributes:
        signature: Its bytes.
        sha256: The digest that the bundle says the file has, hex, or None. A hint: nobody signed this field.
    """

    signature: bytes
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A DSSE envelope. It has exactly one signature; more would let two readers check different ones."""

    payload_type: str
    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What one bundle holds.

    Attributes:
        raw: Its bytes.
        certificates: DER, the leaf first; none when a public key signed.
        chain: Whether they came as a chain (OMS, certificate method; older sigstore) and not as one certificate.
        key_hint: Which public key signed, as the bundle says, or None.
        logged: Whether there are transparency log entries.
        message: What it signs, when that is a file.
        envelope: What it signs, when that is a statement.
    """

    raw: bytes
    certificates: tuple[bytes, ...] = ()
    chain: bool = False
    key_hint: str | None = None
    logged: bool = False
    message: Message | None = None
    envelope: Envelope | None = None

    def need_envelope(self) -> Envelope:
        """Return the envelope."""
        if self.envelope is None:
            raise SignatureError("the bundle signs a file's bytes, and a signed statement is needed", check="content")
        return self.envelope

    def need_message(self) -> Message:
        """Return the signature over a file."""
        if self.message is None:
            raise SignatureError("the bundle signs a statement, and a signature over the file's bytes is needed", check="content")
        return self.message


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what a DSSE signature is made over (DSSE v1, protocol.md)."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def parse_bundle(data: bytes) -> Bundle:
    """Read a bundle.

    Raises:
        SignatureError: it is not one, or holds no or two things that are signed.
    """
    what = "the bundle"
    table = parse_object(data, what)
    media = text(table, "mediaType", what)
    if not _MEDIA.fullmatch(media):
        raise SignatureError(f"the bundle's mediaType is not known: {escape(media, 100)}", check="format")
    material = member(table, "verificationMaterial", what)
    certificates, chain, hint = _material(material)
    message, envelope = table.get("messageSignature"), table.get("dsseEnvelope")
    if (message is None) == (envelope is None):
        raise SignatureError("the bundle must hold either messageSignature or dsseEnvelope", check="format")
    return Bundle(
        raw=data, certificates=certificates, chain=chain, key_hint=hint, logged=bool(material.get("tlogEntries")),
        message=None if message is None else _message(member(table, "messageSignature", what)),
        envelope=None if envelope is None else _envelope(member(table, "dsseEnvelope", what)),
    )  # fmt: skip


def _material(material: dict[str, object]) -> tuple[tuple[bytes, ...], bool, str | None]:
    what = "the bundle's verificationMaterial"
    kinds = [key for key in ("certificate", "x509CertificateChain", "publicKey") if material.get(key) is not None]
    if len(kinds) != 1:
        raise SignatureError(f"{what} must hold exactly one of certificate, x509CertificateChain and publicKey", check="format")
    if kinds == ["certificate"]:
        return (base64_bytes(member(material, "certificate", what).get("rawBytes"), "the certificate"),), False, None
    if kinds == ["publicKey"]:
        key = member(material, "publicKey", what)
        hint = key.get("hint", "")
        if not isinstance(hint, str):
            raise SignatureError(f"{what}: publicKey.hint is not a string", check="format")
        return (), False, hint
    found = objects(member(material, "x509CertificateChain", what), "certificates", what)
    if not 1 <= len(found) <= 10:
        raise SignatureError(f"{what} has {len(found)} certificates, not 1 to 10", check="format")
    return tuple(base64_bytes(entry.get("rawBytes"), "a certificate") for entry in found), True, None


def _message(table: dict[str, object]) -> Message:
    signature = base64_bytes(table.get("signature"), "the signature")
    digest = table.get("messageDigest")
    if digest is None:
        return Message(signature=signature, sha256=None)
    named = member(table, "messageDigest", "the bundle's messageSignature")
    algorithm = named.get("algorithm", "SHA2_256")
    if algorithm != "SHA2_256":
        raise SignatureError(f"the bundle's digest is {escape(str(algorithm), 40)}, and only SHA2_256 is taken", check="algorithm")
    return Message(signature=signature, sha256=base64_bytes(named.get("digest"), "the bundle's digest").hex())


def _envelope(table: dict[str, object]) -> Envelope:
    what = "the bundle's dsseEnvelope"
    signatures = objects(table, "signatures", what)
    if len(signatures) != 1:
        raise SignatureError(f"{what} has {len(signatures)} signatures, not 1", check="format")
    return Envelope(
        payload_type=text(table, "payloadType", what),
        payload=base64_bytes(table.get("payload"), f"{what}'s payload"),
        signature=base64_bytes(signatures[0].get("sig"), f"{what}'s signature"),
    )
