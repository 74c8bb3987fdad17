"""What a lockfile says, as frozen data in one canonical order, so that equal locks are equal and written alike.

Field names are the TOML keys with "_" for "-"; digests are 64 lower-case hex digits. `docs/lockfile.md` is the spec.
"""

from __future__ import annotations

import posixpath
from typing import Final, Literal

from safeload.lean_dataclass import dataclass
from safeload.policy import SignerRule
from safeload.trust.digest import Digest

__all__ = [
    "ANY_SIZE",
    "LOCK_VERSION",
    "Converted",
    "LockedFile",
    "Lockfile",
    "Model",
    "ModelSource",
    "SignatureRef",
    "Signer",
    "TrustRoot",
]

LOCK_VERSION: Final = "1.0"

ANY_SIZE: Final = -1
"""No lockfile has it: `LockedFile.twin` does, because `converted` has no size."""

TrustRootKind = Literal["sigstore", "x509"]
SignerKind = Literal["sigstore", "openpgp", "key", "x509"]
SourceKind = Literal["huggingface", "https", "oci", "git", "file"]
SignatureKind = Literal["sigstore-blob", "oms", "openpgp", "openpgp-sha256sums", "slsa-provenance", "git-commit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoot:
    """One trust anchor, pinned by digest.

    Attributes:
        name: As signers refer to it.
        kind: What it anchors.
        path: `builtin:NAME`, or a file relative to the lockfile.
        sha256: Of that file.
    """

    name: str
    kind: TrustRootKind
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One identity, exactly: no pattern has a meaning here. Which fields are set depends on the kind.

    Attributes:
        name: As models and policy refer to it.
        kind: How it signs.
        trust_root: sigstore: name of a `TrustRoot`.
        issuer: sigstore: the OIDC issuer.
        identity: sigstore: the certificate's subject alternative name.
        fingerprint: openpgp: of the primary key, 40 or 64 hex digits.
        certificate: openpgp, x509: file relative to the lockfile.
        certificate_sha256: Of that file.
        public_key: key: file relative to the lockfile.
        public_key_sha256: Of that file.
        subject: x509: the leaf certificate's subject.
        eku: x509: the extended key usage that the leaf must have, as a dotted OID; None for code signing.
    """

    name: str
    kind: SignerKind
    trust_root: str | None = None
    issuer: str | None = None
    identity: str | None = None
    fingerprint: str | None = None
    certificate: str | None = None
    certificate_sha256: str | None = None
    public_key: str | None = None
    public_key_sha256: str | None = None
    subject: str | None = None
    eku: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model came from.

    Attributes:
        kind: What sort of place.
        repo: Repository name or address.
        url: https: the address.
        requested: What a person asked for: a branch, a tag.
        revision: What it was then: a full commit id, or a manifest digest. Never something that can move.
    """

    kind: SourceKind
    repo: str | None = None
    url: str | None = None
    requested: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The safetensors file that was made from a locked file.

    Attributes:
        path: Relative to the lockfile.
        sha256: Of that file.
        sha256_tree: Likewise, or None.
    """

    path: str
    sha256: str
    sha256_tree: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One pinned file.

    Attributes:
        path: Relative to the lockfile, with "/", never outside its directory.
        size: Bytes; `ANY_SIZE` for a twin, whose digest says it.
        sha256: Of the file.
        sha256_tree: See `safeload.trust.digest`; None when it was not taken.
        format: What the bytes were when pinned ("torch-zip"); None for a file that is no model.
        globals: What the bytes asked for when pinned, sorted; None when nobody looked.
        allow_globals: Granted to these bytes only, sorted.
        converted: The safetensors file made from it, or None.
    """

    path: str
    size: int
    sha256: str
    sha256_tree: str | None = None
    format: str | None = None
    globals: tuple[str, ...] | None = None
    allow_globals: tuple[str, ...] = ()
    converted: Converted | None = None

    def __post_init__(self) -> None:
        if self.globals is not None:
            object.__setattr__(self, "globals", tuple(sorted(set(self.globals))))
        object.__setattr__(self, "allow_globals", tuple(sorted(set(self.allow_globals))))

    @property
    def digest(self) -> Digest:
        """`sha256` as a digest."""
        return Digest("sha256", self.sha256)

    @property
    def twin(self) -> LockedFile | None:
        """The converted file as a pin of its own: what is granted to the bytes is granted to what was made of them."""
        made = self.converted
        if made is None:
            return None
        return LockedFile(
            path=made.path, size=ANY_SIZE, sha256=made.sha256, sha256_tree=made.sha256_tree, format="safetensors",
            allow_globals=self.allow_globals,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SignatureRef:
    """One signature that is kept beside the lock.

    Attributes:
        signer: Name of a `Signer`.
        kind: What the bundle is.
        bundle: File relative to the lockfile: verification never needs the network.
        bundle_sha256: Of that file.
    """

    signer: str
    kind: SignatureKind
    bundle: str
    bundle_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model: its files, and what is known about where they come from.

    Attributes:
        name: What `safeload.load(name)` resolves when it has one weights file.
        files: At least one, by path.
        complete: No file that the lock does not know may lie in its directory.
        require: Whose signatures it needs, or None.
        source: Where it came from, or None.
        signatures: In a stable order.
    """

    name: str
    files: tuple[LockedFile, ...]
    complete: bool = False
    require: SignerRule | None = None
    source: ModelSource | None = None
    signatures: tuple[SignatureRef, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(sorted(self.files, key=lambda file: file.path)))
        object.__setattr__(self, "signatures", tuple(sorted(self.signatures)))

    @property
    def weights(self) -> tuple[LockedFile, ...]:
        """The files that hold tensors: those with a format; all, when none has one."""
        return tuple(file for file in self.files if file.format is not None) or self.files

    @property
    def directory(self) -> str:
        """The deepest directory that holds all its files, relative to the lockfile; "" for the lockfile's own."""
        return posixpath.commonpath([posixpath.dirname(file.path) for file in self.files]) if self.files else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    """Everything one lockfile says. `Lockfile()` is an empty one.

    Attributes:
        version: "1.0"; another minor version was read with a warning and is never written back.
        created_by: Which program wrote it.
        trust_roots, signers, models: By name.
    """

    version: str = LOCK_VERSION
    created_by: str = "safeload"
    trust_roots: tuple[TrustRoot, ...] = ()
    signers: tuple[Signer, ...] = ()
    models: tuple[Model, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trust_roots", tuple(sorted(self.trust_roots, key=lambda root: root.name)))
        object.__setattr__(self, "signers", tuple(sorted(self.signers, key=lambda signer: signer.name)))
        object.__setattr__(self, "models", tuple(sorted(self.models, key=lambda model: model.name)))

    def model(self, name: str) -> Model | None:
        """Return the model of that name, or None."""
        return next((model for model in self.models if model.name == name), None)

    def file(self, path: str) -> tuple[Model, LockedFile] | None:
        """Return the pin of a path relative to the lockfile, or None."""
        return next(((model, file) for model in self.models for file in model.files if file.path == path), None)

    def with_model(self, model: Model) -> Lockfile:
        """Return the lock with `model` in it, in the place of the one that has its name."""
        others = tuple(other for other in self.models if other.name != model.name)
        return Lockfile(
            version=self.version,
            created_by=self.created_by,
            trust_roots=self.trust_roots,
            signers=self.signers,
            models=(*others, model),
        )

    @property
    def paths(self) -> frozenset[str]:
        """Every file that the lock pins by digest, bundles, certificates and converted files too."""
        found = {file.path for model in self.models for file in model.files}
        found |= {file.converted.path for model in self.models for file in model.files if file.converted}
        found |= {signature.bundle for model in self.models for signature in model.signatures}
        found |= {path for signer in self.signers for path in (signer.certificate, signer.public_key) if path}
        found |= {root.path for root in self.trust_roots if not root.path.startswith("builtin:")}
        return frozenset(found)
