"""What docs/signing.md speaks of: models as publishers of every kind give them out, and a Sigstore of its own to sign with.

Made in code and served on loopback while the page is run; its names are theirs, its keys are not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from safeload.signing import sign
from tests.fake_sigstore import FakeSigstore, certificate, new_key
from tests.forge_gpg import gpg, gpg_home, signed_commit
from tests.forge_signed import sha256, write_version
from tests.forge_tuf import ForgedTuf

__all__ = ["published"]

GITHUB: Final = "https://token.actions.githubusercontent.com"
WORKFLOW: Final = "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/v1.2.0"


def model(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True)
    write_version(folder / "model.pt", number)
    (folder / "config.json").write_text("{}\n", encoding="utf-8")
    return folder


@contextmanager
def published(top: Path) -> Iterator[None]:
    """Make everything below `top`, and serve the Sigstore and its TUF repository meanwhile."""
    with FakeSigstore() as sigstore, ForgedTuf(sigstore.trusted_root.encode()) as tuf, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", os.fspath(gpg_home()))  # the reader's own, on the page
        room = top / "sigstore"
        room.mkdir()
        for name, text in {
            "config.json": sigstore.trust_config, "trusted_root.json": sigstore.trusted_root, "tuf.url": tuf.url,
            "token": sigstore.token(sub=WORKFLOW, iss=GITHUB, repository="acme/models", ref="refs/tags/v1.2.0"),
        }.items():  # fmt: skip
            (room / name).write_text(text, encoding="utf-8")
        (room / "root.json").write_bytes(tuf.bootstrap)
        keyless(top, sigstore)
        by_company(top)
        by_hub(top)
        model(top / "sentiment", 1)
        model(top / "digits", 6)
        yield


def keyless(top: Path, sigstore: FakeSigstore) -> None:
    config = top / "sigstore/config.json"
    who = "Granite.Preview@ibm.com"
    granite = sigstore.token(sub=who, email=who, iss="https://sigstore.verify.ibm.com/oauth2")
    sign(model(top / "granite", 2), token=granite, trust_config=config)
    kaggle = model(top / "titanic", 3)
    (kaggle / ".kaggle").mkdir()
    who = "https://kaggle.example/models/titanic"
    sign(kaggle, token=sigstore.token(sub=who, iss="https://kaggle.example"), trust_config=config, output=kaggle / ".kaggle/signing.json")


def by_company(top: Path) -> None:
    """A company's own certificate authority, and a publisher's."""
    authority(top / "ca", "model signer")
    authority(top / "publisher", "ngc signer", purpose=None)  # as NVIDIA's certificates are
    sign(model(top / "ngc", 4), key=top / "publisher/signer.pem", certificate=top / "publisher/chain.pem")
    shutil.copy(top / "publisher/root.pem", top / "publisher-root.pem")


def authority(room: Path, signer: str, *, purpose: ObjectIdentifier | None = ExtendedKeyUsageOID.CODE_SIGNING) -> None:
    """Make a root, an issuing certificate, and a signer's with its key."""
    root_key, middle_key, key = new_key(), new_key(), new_key()
    root = certificate(f"{signer} root", root_key, ca=True, days=3650)
    middle = certificate("issuing", middle_key, root, root_key, ca=True, days=3000)
    leaf = certificate(signer, key, middle, middle_key, eku=purpose)
    room.mkdir()
    (room / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (room / "chain.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + middle.public_bytes(Encoding.PEM))
    (room / "signer.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def by_hub(top: Path) -> None:
    """A clone whose commit its author signed: pointers in git, the file itself beside them."""
    import pysequoia

    home = gpg_home()
    hub = model(top / "hub", 5)
    data = (hub / "model.pt").read_bytes()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(hub / 'model.pt')}\nsize {len(data)}\n"
    (hub / "model.pt").write_text(pointer)
    signed_commit(hub, home, "now@example.org", "release")
    (hub / "model.pt").write_bytes(data)
    (top / "author.pgp").write_bytes(gpg(home, "--export", "now@example.org"))
    fingerprint = pysequoia.Cert.from_bytes((top / "author.pgp").read_bytes()).fingerprint
    armored = (home / "openpgp-revocs.d" / f"{fingerprint.upper()}.rev").read_text()
    revocation = gpg(home, "--dearmor", data=armored[armored.index(":-----BEGIN") + 1 :].encode())
    (top / "author-revoked.pgp").write_bytes((top / "author.pgp").read_bytes() + revocation)
