"""What every signature scheme is given, and what it gives back.

A scheme is a module with one function, `verify`. It gets an artifact whose bytes were hashed here, the stored signature, the
trust material that was pinned, and the terms of the policy, and returns who signed, or raises a `SignatureError` that says
which check failed. It opens no file, asks no network, and lets nothing but a `SignatureError` out: `guarded` sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from safeload.errors import MissingExtraError, SafeloadError, SignatureError
from safeload.findings import escape

__all__ = [
    "CODE_SIGNING", "Anchor", "AnchorKind", "Artifact", "Hasher", "Scheme", "Terms", "Verified", "below", "first_line", "guarded",
    "mismatch",
]  # fmt: skip

AnchorKind = Literal["sigstore", "openpgp", "key", "x509"]
CODE_SIGNING: Final = "1.3.6.1.5.5.7.3.3"
"""The extended key usage that a certificate of a company's must have, where nothing else is pinned and it has any."""

_LONGEST: Final = 300


class Hasher(Protocol):
    """What `hashlib` makes."""

    def update(self, data: Any, /) -> None:
        """Go on with `data`."""

    def hexdigest(self) -> str:
        """Return what came so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file that was read and hashed, and the model that it is part of. All paths are as the lockfile has them.

    Attributes:
        path: The file's path.
        sha256: Of the file, 64 hex digits, taken here.
        size: Bytes.
        files: Every locked file of the model → its locked `sha256`.
        complete: Whether the model is to have no other file.
        bundles: Where the model's signatures lie.
        bases: Directories that names in a signed list may be relative to, the likeliest first; "" is the lockfile's own.
        revision: The commit that the model came from, or None.
        companion: The file beside the signature that it signs (`SHA256SUMS` of `SHA256SUMS.asc`), or None.
        hash: Takes another digest of the very same bytes; None when they are not at hand any more.
        content: Gives the bytes for schemes that can only hash them by themselves: `bytes`, or a path such as
            "/proc/self/fd/3" of the descriptor that is open already. None when they are not at hand.
    """

    path: str
    sha256: str
    size: int
    files: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    bundles: frozenset[str] = frozenset()
    bases: tuple[str, ...] = ("",)
    revision: str | None = None
    companion: bytes | None = None
    hash: Callable[[str, Callable[[], Hasher]], str] | None = None
    content: Callable[[], bytes | str] | None = None

    def base_in(self, names: Mapping[str, object]) -> str | None:
        """Return the first base below which a signed list of names has this file, or None."""
        return next((base for base in self.bases if (name := below(base, self.path)) is not None and name in names), None)


def below(base: str, path: str) -> str | None:
    """Return `path` relative to the directory `base`, or None when it does not lie below it."""
    if not base:
        return path
    return path.removeprefix(f"{base}/") if path.startswith(f"{base}/") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One identity, and the pinned material that proves it. Every digest was checked by whoever read the files.

    Attributes:
        kind: How it signs.
        name: As lockfile and policy call it.
        trusted_root: sigstore: the trusted root, JSON.
        issuer: sigstore: the OIDC issuer, exactly.
        identity: sigstore: the subject alternative name, exactly.
        certificate: openpgp: the certificate; x509: the root, PEM or DER.
        fingerprint: openpgp: of the primary key.
        public_key: key: PEM or DER.
        subject: x509: the leaf's subject, RFC 4514.
        eku: x509: the extended key usage that the leaf must have, as a dotted OID; "" for code signing, or none at all.
        any_identity: sigstore: take whoever signed. Only for showing a signer that nobody knows yet; a load never does this.
    """

    kind: AnchorKind
    name: str = ""
    trusted_root: bytes | None = None
    issuer: str = ""
    identity: str = ""
    certificate: bytes | None = None
    fingerprint: str = ""
    public_key: bytes | None = None
    subject: str = ""
    eku: str = ""
    any_identity: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What policy says about signatures.

    Attributes:
        ignore_paths: Paths that a signer may leave out of a model signature, besides those that the format always leaves out.
    """

    ignore_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Who signed, after every check was passed.

    Attributes:
        identity: The signer: a subject alternative name, a fingerprint, a key's digest, a certificate's subject.
        issuer: sigstore: who vouched for the identity, else "".
        facts: What an attestation says, for policy to look at: (name, value), "builder", "repository", "ref".
        remarks: What else is worth knowing, one line each, escaped.
        until: Unix time from which on the answer must be asked for again (a certificate's end), or None.
    """

    identity: str
    issuer: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    until: float | None = None


class Scheme(Protocol):
    """One module below `safeload.trust` for each kind of signature in the lockfile."""

    def verify(self, artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
        """Return who signed.

        Raises:
            SignatureError: a check failed; `.check` names it.
            MissingExtraError: a package is not installed.
        """


def mismatch(check: str, what: str, expected: str, found: str) -> SignatureError:
    """Make the error for two values that differ; both are shown."""
    want, have = escape(expected, _LONGEST), escape(found, _LONGEST)
    return SignatureError(f"{what}: expected {want or 'none'}, found {have or 'none'}", check=check, expected=want, found=have)


def first_line(error: Exception) -> str:
    """What an error of a library says first; of pydantic's, also which field it is about, and what is wrong with that."""
    lines = str(error).strip().splitlines() or [""]
    if "validation error" in lines[0] and len(lines) > 2:
        return f"{lines[0]}: {lines[1].strip()}: {lines[2].strip().split(' [type=')[0]}"
    return lines[0]


@contextmanager
def guarded(check: str, what: str) -> Iterator[None]:
    """Turn whatever a library below raises into a refusal: its own classes, and those that leak out of it.

    Args:
        check: Goes into `.check`.
        what: What was being done, for the message.
    """
    try:
        yield
    except (SignatureError, MissingExtraError):
        raise
    except SafeloadError as error:
        raise SignatureError(f"{what}: {error.message}", check=check) from error
    except Exception as error:
        # Fail closed: a parser's ValueError, a binding's RuntimeError, a RecursionError are all "not verified".
        text = first_line(error)
        detail = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise SignatureError(f"{what}: {escape(detail, _LONGEST)}", check=check) from error
