"""Read what the lockfile names (bundles, keys, certificates, trust roots): each once, with its digest compared before use."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safeload.errors import SafeloadError, SignatureError
from safeload.findings import escape
from safeload.lockfile import LockedFile, Lockfile, Model, SignatureRef, Signer, locate
from safeload.source import Source
from safeload.trust.builtin_roots import builtin_root
from safeload.trust.cache import unchanged
from safeload.trust.scheme import Anchor, Artifact, Hasher, mismatch

__all__ = ["Materials", "SignedBytes", "anchor_of", "artifact_of", "read_small"]

MOST_BYTES: Final = 32 << 20
_IN_MEMORY: Final = 256 << 20
_COPIED: Final = 64 << 20
_KAGGLE: Final = ".kaggle"


def read_small(path: str | os.PathLike[str], what: str) -> bytes:
    """Return the bytes of one file, bounded.

    Raises:
        SignatureError: it is not there, cannot be read, or is too long for what it should be.
    """
    shown = escape(os.fspath(path), 1000)
    try:
        with Source.open(path) as source:
            if source.size > MOST_BYTES:
                raise SignatureError(f"{what} has {source.size} bytes, and at most {MOST_BYTES} are read: {shown}", check="material")
            return source.read(0, source.size)
    except SignatureError:
        raise
    except SafeloadError as error:
        raise SignatureError(f"{what} cannot be read: {shown}: {error.message}", check="material") from error
    except OSError as error:
        raise SignatureError(f"{what} cannot be read: {shown}: {error.strerror or error}", check="material") from error


@dataclass(slots=True)
class Materials:
    """The files beside one lockfile.

    Attributes:
        base: The directory that paths are relative to.
    """

    base: Path
    _held: dict[tuple[str, str], bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, lock_path: str | os.PathLike[str]) -> Materials:
        """Materials of a lockfile."""
        return cls(locate(lock_path, ""))

    def pinned(self, path: str, sha256: str, what: str) -> bytes:
        """Return the bytes of a pinned file.

        Raises:
            SignatureError: it is not the pinned one, or cannot be read.
        """
        known = self._held.get((path, sha256))
        if known is not None:
            return known
        builtin = path.startswith("builtin:")
        data = builtin_root(path.removeprefix("builtin:"), sha256) if builtin else read_small(self.base / path, what)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise mismatch("pin", f"{what} is not the pinned one: {escape(path)}", f"sha256:{sha256}", f"sha256:{found}")
        self._held[path, sha256] = data
        return data

    def beside(self, path: str) -> bytes | None:
        """Return the file that a detached signature is about (its name without the ending), or None."""
        stem, dot, ending = path.rpartition(".")
        if not dot or ending not in ("asc", "sig", "gpg") or not (self.base / stem).is_file():
            return None
        return read_small(self.base / stem, "the signed list")


def anchor_of(lock: Lockfile, signer: Signer, materials: Materials) -> Anchor:
    """Read a signer's trust material.

    Raises:
        SignatureError: something of it is not what was pinned.
    """
    trusted_root = certificate = public_key = None
    if signer.trust_root is not None:
        root = next((root for root in lock.trust_roots if root.name == signer.trust_root), None)
        if root is None or root.kind != "sigstore":
            raise SignatureError(f"there is no sigstore trust root '{escape(signer.trust_root)}'", check="trust-root")
        trusted_root = materials.pinned(root.path, root.sha256, f"the trust root '{escape(root.name)}'")
    if signer.certificate is not None and signer.certificate_sha256 is not None:
        certificate = materials.pinned(signer.certificate, signer.certificate_sha256, f"the certificate of '{escape(signer.name)}'")
    if signer.public_key is not None and signer.public_key_sha256 is not None:
        public_key = materials.pinned(signer.public_key, signer.public_key_sha256, f"the public key of '{escape(signer.name)}'")
    return Anchor(
        kind=signer.kind, name=signer.name, trusted_root=trusted_root, issuer=signer.issuer or "", identity=signer.identity or "",
        certificate=certificate, fingerprint=signer.fingerprint or "", public_key=public_key, subject=signer.subject or "",
        eku=signer.eku or "",
    )  # fmt: skip


class SignedBytes:
    """A file's bytes, for schemes that cannot do with its digest. What they look at must be what has that digest.

    A signature may be checked before the file was compared with its pin (`safeload.open` reads only what is used), and an answer
    is remembered under the digest: so other bytes, signed as they may be, must never give one.

    Args:
        file: The file; its `sha256` is what the answer will be about.
        source: The open file.
        matched: Whether all that the source has handed out was compared with the pin.
    """

    def __init__(self, file: LockedFile, source: Source, *, matched: bool = False) -> None:
        self._file, self._source, self._matched = file, source, matched
        self._by_name = False

    def hash(self, algorithm: str, make: Callable[[], Hasher]) -> str:
        """Return another digest of the bytes."""
        if self._matched:
            return self._source.digest(algorithm, make)
        wanted, own = make(), hashlib.sha256()
        for piece in self._source.pieces():
            wanted.update(piece)
            own.update(piece)
        self._compare(own.hexdigest())
        return wanted.hexdigest()

    def content(self) -> bytes | str:
        """Return the bytes: as such, or of a large file the open descriptor by name, where the system has such names."""
        source = self._source
        if source.size > _COPIED and source.fd is not None:
            for folder in ("/proc/self/fd", "/dev/fd"):
                if Path(folder).is_dir():
                    self._by_name = True
                    return f"{folder}/{source.fd}"
        if source.size > _IN_MEMORY:
            raise SignatureError(
                f"the file has {source.size} bytes, too many to check an OpenPGP signature over without an open path", check="content",
                hint='sign a list of digests instead (openpgp-sha256sums), or set verify-signature = "lock"',
            )  # fmt: skip
        data = bytearray(source.size)
        source.readinto(0, memoryview(data), keep=False)
        self._compare(hashlib.sha256(data).hexdigest())
        return bytes(data)

    def close(self) -> None:
        """Return when what was looked at by name is what has the digest.

        Raises:
            SignatureError: it is something else, or it changed meanwhile.
        """
        if not self._by_name:
            return
        if not self._matched:
            self._compare(self._source.sha256)
        if not unchanged(self._source):
            raise SignatureError("the file changed while its signature was checked", check="content")

    def _compare(self, found: str) -> None:
        if found != self._file.sha256:
            raise mismatch("digest", "the bytes at hand are not the pinned ones", f"sha256:{self._file.sha256}", f"sha256:{found}")


def artifact_of(
    model: Model, file: LockedFile, ref: SignatureRef, *, data: SignedBytes | None, companion: bytes | None = None
) -> Artifact:  # fmt: skip
    """Describe one file for a scheme.

    Args:
        model: As it is locked.
        file: The file at hand; its `sha256` is that of the bytes at hand, or compared with them by the caller.
        ref: The signature that is to be checked.
        data: The open file, for schemes that need its bytes.
        companion: What lies beside the signature.
    """
    folder = posixpath.dirname(ref.bundle)
    if posixpath.basename(folder) == _KAGGLE:
        folder = posixpath.dirname(folder)
    bases = tuple(dict.fromkeys(base for base in (folder, model.directory, "") if not base or file.path.startswith(f"{base}/")))
    revision = model.source.revision if model.source is not None and model.source.kind in ("git", "huggingface") else None
    return Artifact(
        path=file.path, sha256=file.sha256, size=file.size, files={held.path: held.sha256 for held in model.files},
        complete=model.complete, bundles=frozenset(held.bundle for held in (*model.signatures, ref)), bases=bases, revision=revision,
        companion=companion, hash=None if data is None else data.hash, content=None if data is None else data.content,
    )  # fmt: skip
