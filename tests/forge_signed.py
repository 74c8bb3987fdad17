"""A signed model, locked, and ways to lock it wrongly: for the tests of signatures."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from safeload.cli.demo_files import write_checkpoint
from safeload.lockfile import LockedFile, Lockfile, Model, SignatureRef, Signer, TrustRoot, update
from safeload.lockfile.data import SignatureKind
from safeload.policy import SignerRule
from safeload.source import Source
from safeload.trust.both_digests import file_digests
from tests.fake_sigstore import IDENTITY, ISSUER

__all__ = ["NAME", "SignedModel", "make_model", "relock", "sha256", "write_keys", "write_version"]

NAME: Final = "acme/m"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_model(folder: Path) -> None:
    """A checkpoint and what lies beside it."""
    folder.mkdir(parents=True)
    write_checkpoint(folder / "model.pt")
    (folder / "config.json").write_text("{}", encoding="utf-8")


def write_version(path: Path, number: int) -> None:
    """A checkpoint as that of `make_model`, of other values; the archive's own name in it is another's, too."""
    write_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            value = struct.pack("<f", 0.5), struct.pack("<f", float(number))
            archive.writestr(zipfile.ZipInfo(name), data.replace(*value, 1) if "/data/" in name else data)


def relock(path: Path) -> None:
    """Bring every digest of a lockfile in line with what lies there now, as somebody does who edits files and lock together."""
    top = path.parent

    def file(held: LockedFile) -> LockedFile:
        with Source.open(top / held.path) as source:
            digest, tree = file_digests(source)
            return replace(held, size=source.size, sha256=digest, sha256_tree=tree)

    def model(held: Model) -> Model:
        refs = tuple(replace(ref, bundle_sha256=sha256(top / ref.bundle)) for ref in held.signatures)
        return replace(held, files=tuple(file(one) for one in held.files if (top / one.path).exists()), signatures=refs)

    def signer(held: Signer) -> Signer:
        named = {"certificate_sha256": held.certificate, "public_key_sha256": held.public_key}
        return replace(held, **{key: sha256(top / place) for key, place in named.items() if place is not None})  # type: ignore[arg-type]

    def change(lock: Lockfile) -> Lockfile:
        roots = (root if root.path.startswith("builtin:") else replace(root, sha256=sha256(top / root.path)) for root in lock.trust_roots)
        return replace(
            lock, trust_roots=tuple(roots), signers=tuple(map(signer, lock.signers)), models=tuple(map(model, lock.models))
        )

    update(path, change)


def write_keys(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> None:
    """A key pair, `name.pem` and `name.pub`: EC of a curve, or Ed25519."""
    key = ed25519.Ed25519PrivateKey.generate() if curve is None else ec.generate_private_key(curve)
    (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


class SignedModel:
    """A lockfile in a directory that a test may change piece by piece."""

    def __init__(self, top: Path, *, kind: SignatureKind = "sigstore-blob", bundle: str = "m/model.pt.sigstore.json") -> None:
        self.top = top
        self.signer = Signer(name="release", kind="sigstore", trust_root="default", issuer=ISSUER, identity=IDENTITY)
        self.ref_kind: SignatureKind = kind
        self.bundle = bundle
        self.require: SignerRule | None = SignerRule(all=("release",))
        self.complete = False
        self.paths = ["m/model.pt", "m/config.json"]
        self.signed = True

    def locked(self, path: str) -> LockedFile:
        place = self.top / path
        kind = "torch-zip" if path.endswith(".pt") else None
        return LockedFile(path=path, size=place.stat().st_size, sha256=sha256(place), format=kind)

    def write(self, files: Iterable[LockedFile] | None = None) -> Path:
        """Lock everything as it lies there now."""
        ref = SignatureRef(signer="release", kind=self.ref_kind, bundle=self.bundle, bundle_sha256=sha256(self.top / self.bundle))
        model = Model(
            name=NAME, files=tuple(files or map(self.locked, self.paths)), require=self.require, complete=self.complete,
            signatures=(ref,) if self.signed else (),
        )  # fmt: skip
        roots: tuple[TrustRoot, ...] = ()
        if self.signer.kind == "sigstore":
            roots = (TrustRoot(name="default", kind="sigstore", path="root.json", sha256=sha256(self.top / "root.json")),)
        lock = Lockfile(trust_roots=roots, signers=(self.signer,), models=(model,))
        update(self.top / "safeload.lock", lambda _: lock)
        return self.top / "safeload.lock"

    def change_signer(self, *, identity: str | None = None, issuer: str | None = None) -> None:
        self.signer = replace(self.signer, identity=identity or self.signer.identity, issuer=issuer or self.signer.issuer)
