"""Bundles, whoever signed them: a keyless identity, a key, or a certificate of a pinned authority.

A statement about many files (a model signature over shards) is verified once in a process, and not once for each file: what
is remembered hangs on every byte of the bundle and of the pinned material, and ends when a certificate does.
"""

from __future__ import annotations

import importlib
import time
from functools import lru_cache
from typing import Final, Protocol, cast

from safeload.errors import SignatureError
from safeload.trust.bundle import Bundle, parse_bundle
from safeload.trust.scheme import Anchor, Artifact, Verified, mismatch
from safeload.trust.statement import Statement, parse_statement

__all__ = ["signed_digest", "signed_statement"]

# One module for each way to sign a bundle; imported when it is needed, because each brings its library.
_SIGNERS: Final = {"sigstore": "by_sigstore", "key": "by_key", "x509": "by_x509"}


class _Signer(Protocol):
    def check_digest(self, bundle: Bundle, sha256: str, anchor: Anchor) -> Verified: ...

    def open_envelope(self, bundle: Bundle, anchor: Anchor) -> tuple[str, bytes, Verified]: ...


def _signer(anchor: Anchor) -> _Signer:
    if anchor.kind not in _SIGNERS:
        raise SignatureError(f"a bundle is never signed by a signer of kind {anchor.kind}", check="kind")
    return cast("_Signer", importlib.import_module(f"safeload.trust.{_SIGNERS[anchor.kind]}"))


def signed_digest(data: bytes, artifact: Artifact, anchor: Anchor) -> Verified:
    """Return who signed the artifact's bytes.

    Raises:
        SignatureError: a check failed; also when the bundle says itself that it is about other bytes.
    """
    bundle = parse_bundle(data)
    message = bundle.need_message()
    if message.sha256 is not None and message.sha256 != artifact.sha256:
        raise mismatch("digest", "the signature is over other bytes", f"sha256:{artifact.sha256}", f"sha256:{message.sha256}")
    return _signer(anchor).check_digest(bundle, artifact.sha256, anchor)


def signed_statement(data: bytes, anchor: Anchor) -> tuple[Statement, Verified]:
    """Return a statement whose signature was verified, and who signed it."""
    statement, who = _opened(data, anchor)
    if who.until is not None and time.time() >= who.until:
        _opened.cache_clear()
        statement, who = _opened(data, anchor)
    return statement, who


@lru_cache(maxsize=16)
def _opened(data: bytes, anchor: Anchor) -> tuple[Statement, Verified]:
    payload_type, payload, who = _signer(anchor).open_envelope(parse_bundle(data), anchor)
    return parse_statement(payload_type, payload), who
