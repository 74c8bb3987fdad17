"""Attestations as PyPI serves them (PEP 740): the same material as in a sigstore bundle, under other names.

An *attestation* is one object, a *provenance* (`FILE.provenance` of the integrity API) holds all attestations of a file.
"""

from __future__ import annotations

import json
from typing import Final

from safeload.errors import SignatureError
from safeload.trust.json_text import Object, member, objects, parse_object, text

__all__ = ["PUBLISH", "bundles_of"]

PUBLISH: Final = "https://docs.pypi.org/attestations/publish/v1"
"""What an attestation says that states no more than "this project published this file"."""

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_MOST: Final = 64


def bundles_of(data: bytes) -> tuple[bytes, ...]:
    """Return sigstore bundles for what one file holds: itself, or each of PyPI's attestations in it.

    Raises:
        SignatureError: it is not JSON, or a PyPI attestation that lacks something.
    """
    table = parse_object(data, "the stored signature")
    if "mediaType" in table:
        return (data,)
    if "attestation_bundles" in table:
        held = [
            attestation
            for bundle in objects(table, "attestation_bundles", "the provenance")
            for attestation in objects(bundle, "attestations", "the provenance")
        ]
        if not 1 <= len(held) <= _MOST:
            raise SignatureError(f"the provenance holds {len(held)} attestations, not 1 to {_MOST}", check="format")
        return tuple(map(_bundle, held))
    return (_bundle(table),) if "verification_material" in table else (data,)


def _bundle(attestation: Object) -> bytes:
    what = "the attestation"
    if attestation.get("version") != 1 or isinstance(attestation["version"], bool):
        raise SignatureError(f"{what} is of another version than 1", check="format")
    material, envelope = member(attestation, "verification_material", what), member(attestation, "envelope", what)
    signature = {"sig": text(envelope, "signature", what)}
    document = {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {
            "certificate": {"rawBytes": text(material, "certificate", what)},
            "tlogEntries": objects(material, "transparency_entries", what),
        },
        "dsseEnvelope": {"payload": text(envelope, "statement", what), "payloadType": _PAYLOAD_TYPE, "signatures": [signature]},
    }
    return json.dumps(document).encode()
