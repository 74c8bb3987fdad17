"""Keyless signing with sigstore-python: the one kind of signing that needs a network, and says who signed by itself."""

from __future__ import annotations

import os
from pathlib import Path

from safeload.errors import SafeloadError, UsageError
from safeload.findings import escape

__all__ = ["sign_keyless"]


def sign_keyless(
    payload: bytes | None, sha256: str | None, *, token: str | None, trust_config: str | os.PathLike[str] | None
) -> tuple[bytes, str]:
    """Return a bundle over a statement or over a digest, and the identity that signed.

    Args:
        payload: An in-toto statement, or None.
        sha256: A file's digest, when there is no statement.
        token: An OIDC token; None: the ambient one of a CI system.
        trust_config: A ClientTrustConfig; None: the public instance's, refreshed through TUF.

    Raises:
        UsageError: there is no token.
        SafeloadError: the services refused, or could not be reached.
        OSError: as `open` does, of `trust_config`.
    """
    from sigstore import dsse
    from sigstore.hashes import Hashed
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, detect_credential
    from sigstore.sign import SigningContext
    from sigstore_models.common.v1 import HashAlgorithm

    given = None if trust_config is None else Path(trust_config).read_bytes()
    try:
        raw = token or detect_credential()
        if not raw:
            raise UsageError("no identity token is there", hint="pass one with --token, or sign where a CI system gives one, or with --key")
        identity = IdentityToken(raw)
        config = ClientTrustConfig.production() if given is None else ClientTrustConfig.from_json(given.decode("utf-8"))
        with SigningContext.from_trust_config(config).signer(identity) as signer:
            if payload is not None:
                bundle = signer.sign_dsse(dsse.Statement(payload))
            else:
                hashed = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(sha256 or ""))
                bundle = signer.sign_artifact(hashed)
        return bundle.to_json().encode() + b"\n", identity.identity
    except SafeloadError:
        raise
    except Exception as error:  # requests' errors are OSErrors; of the file system's there is none any more
        text = (str(error).strip().splitlines() or [""])[0]
        raise SafeloadError(f"signing failed: {type(error).__name__}: {escape(text, 300)}") from error
