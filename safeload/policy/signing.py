"""What people demand of signers and attestations, as frozen data. Who compares is `safeload.signatures`."""

from __future__ import annotations

from typing import Final, Literal

from safeload.errors import PolicyError
from safeload.lean_dataclass import dataclass

__all__ = ["IDENTITY_KEYS", "IdentityRule", "LockSigner", "LockSignerKind", "ProvenanceRule"]

IDENTITY_KEYS: Final = (
    "kind", "issuer", "identity", "fingerprint", "public-key-sha256", "certificate-sha256", "subject", "eku", "trust-root-sha256",
)  # fmt: skip
"""What a policy can insist on about a signer of the lockfile."""

LockSignerKind = Literal["sigstore", "openpgp", "key", "x509"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRule:
    """Who a signer's name must stand for, whatever the lockfile says. None where it says nothing.

    Attributes:
        name: The signer's name in the lockfile.
        kind, issuer, fingerprint, public_key_sha256, certificate_sha256, subject: Exactly.
        eku: Exactly; without it an x509 signer must be one for code signing.
        trust_root_sha256: Exactly; without it a keyless signer's root must be one that safeload carries.
        identity: A glob; "*" stays within one "/", so that a workflow's tag can be left open.
    """

    name: str
    kind: str | None = None
    issuer: str | None = None
    identity: str | None = None
    fingerprint: str | None = None
    public_key_sha256: str | None = None
    certificate_sha256: str | None = None
    subject: str | None = None
    eku: str | None = None
    trust_root_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceRule:
    """What attestations about a model must say; each is a glob, None where anything goes.

    Attributes:
        builder: Who built: SLSA's `builder.id`.
        repository: The source repository's address.
        ref: Its ref, "refs/tags/*".

    Raises:
        PolicyError: it demands nothing.
    """

    builder: str | None = None
    repository: str | None = None
    ref: str | None = None

    def __post_init__(self) -> None:
        if self.builder is None and self.repository is None and self.ref is None:
            raise PolicyError("provenance: demands nothing", hint="name a builder, a repository or a ref")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSigner:
    """Who must have signed the lockfile itself. All of it stands in policy: a lockfile cannot vouch for itself.

    Attributes:
        kind: How it signs; which of the others are set depends on it, as for a signer in the lockfile.
        public_key, certificate, trust_root: Paths relative to the policy file; a trust root may be `builtin:NAME`.
        public_key_sha256, certificate_sha256, trust_root_sha256: Of these files.
        issuer, identity, fingerprint, subject: Exactly.
    """

    kind: LockSignerKind
    issuer: str = ""
    identity: str = ""
    fingerprint: str = ""
    subject: str = ""
    public_key: str | None = None
    public_key_sha256: str | None = None
    certificate: str | None = None
    certificate_sha256: str | None = None
    trust_root: str | None = None
    trust_root_sha256: str | None = None
