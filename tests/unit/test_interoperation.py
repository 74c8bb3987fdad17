"""Others read what `safeload sign` writes, and it reads what they write: model-signing and the sigstore command, in every mode."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

import safeload
from safeload.errors import SignatureError, UsageError
from safeload.signatures.result_cache import forget
from safeload.signing import sign
from safeload.trusting import add_signer
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore, certificate, new_key
from tests.forge_signed import make_model, write_keys

pytest.importorskip("OpenSSL")
hashing: Any = pytest.importorskip("model_signing.hashing")
signing: Any = pytest.importorskip("model_signing.signing")
verifying: Any = pytest.importorskip("model_signing.verifying")

SUBJECT = "CN=signer,O=fake.example"
CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with what writers sort differently: "sub-x.bin" before or after "sub/a.bin"."""
    make_model(tmp_path / "m")
    (tmp_path / "m/sub").mkdir()
    (tmp_path / "m/sub/a.bin").write_bytes(bytes(200_000))
    (tmp_path / "m/sub-x.bin").write_bytes(b"x")
    (tmp_path / "m/empty.txt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    forget()
    return tmp_path


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor1", "rekor2"])
def sigstore(request: pytest.FixtureRequest) -> Iterator[FakeSigstore]:
    with FakeSigstore(rekor=request.param) as served:
        yield served


def write_certificates(top: Path) -> None:
    """A company's root, its issuing authority, and a signer's certificate with its key."""
    root_key, middle_key, key = new_key(), new_key(), new_key()
    root = certificate("root", root_key, ca=True, days=3650)
    middle = certificate("issuing", middle_key, root, root_key, ca=True, days=3000)
    leaf = certificate("signer", key, middle, middle_key, eku=ExtendedKeyUsageOID.CODE_SIGNING)
    (top / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (top / "middle.pem").write_bytes(middle.public_bytes(Encoding.PEM))
    (top / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (top / "chain.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + middle.public_bytes(Encoding.PEM))
    (top / "signer.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def write_sigstore(top: Path, sigstore: FakeSigstore) -> None:
    (top / "config.json").write_text(sigstore.trust_config)
    (top / "root.json").write_text(sigstore.trusted_root)


def locks(*, complete: bool = True) -> None:
    """The model can be locked with its signature required, and verifies."""
    safeload.lock("m", require=["release"], complete=complete)
    result = safeload.verify()
    assert result
    assert {entry.status for entry in result.signatures} == {"verified"}


def run_sigstore(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sigstore", "--trust-config", "config.json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


# ---- ours, read by others


@pytest.mark.parametrize("curve", CURVES)
def test_model_signing_reads_our_keys(curve: str, top: Path) -> None:
    write_keys(top, "k", CURVES[curve])
    sign("m", key="k.pem")
    verifying.Config().use_elliptic_key_verifier(public_key=top / "k.pub").verify(top / "m", top / "m/model.sig")
    (top / "m/sub-x.bin").write_bytes(b"y")
    with pytest.raises(ValueError, match="mismatch"):
        verifying.Config().use_elliptic_key_verifier(public_key=top / "k.pub").verify(top / "m", top / "m/model.sig")


def test_model_signing_reads_our_certificates(top: Path) -> None:
    write_certificates(top)
    made = sign("m", key="signer.pem", certificate="chain.pem")
    assert made.signer == SUBJECT
    verifying.Config().use_certificate_verifier(certificate_chain=[top / "root.pem"]).verify(top / "m", top / "m/model.sig")


def test_model_signing_reads_our_keyless_signatures(top: Path, sigstore: FakeSigstore) -> None:
    write_sigstore(top, sigstore)
    sign("m", token=sigstore.token(), trust_config="config.json")
    config = verifying.Config().use_sigstore_verifier(identity=IDENTITY, oidc_issuer=ISSUER, trust_config=top / "config.json")
    config.verify(top / "m", top / "m/model.sig")


def test_the_sigstore_command_reads_our_keyless_signatures(top: Path, sigstore: FakeSigstore) -> None:
    write_sigstore(top, sigstore)
    made = sign("m/model.pt", token=sigstore.token(), trust_config="config.json")
    who = ["--cert-identity", IDENTITY, "--cert-oidc-issuer", ISSUER, "--bundle", str(made.output)]
    done = run_sigstore("verify", "identity", *who, "m/model.pt")
    assert done.returncode == 0, done.stderr
    assert run_sigstore("verify", "identity", *who, "m/config.json").returncode != 0


# ---- theirs, read by us


@pytest.mark.parametrize(("algorithm", "method"), [*itertools.product(("sha256", "blake2", "blake3"), ("files", "shards"))])
@pytest.mark.parametrize("links", [False, True], ids=["", "links"])
def test_we_read_every_serialisation_of_model_signing(algorithm: str, method: str, links: bool, top: Path) -> None:
    write_keys(top, "k", ec.SECP256R1())
    how = hashing.Config()
    use = how.use_file_serialization if method == "files" else how.use_shard_serialization
    use(hashing_algorithm=algorithm, allow_symlinks=links, **({} if method == "files" else {"shard_size": 10_000}))
    how.set_allow_symlinks(links).set_ignored_paths(paths=[top / "m/model.sig"])
    signer = signing.Config().use_elliptic_key_signer(private_key=top / "k.pem").set_hashing_config(how)
    signer.sign(top / "m", top / "m/model.sig")
    add_signer("release", public_key="k.pub")
    # A hash of its own that is not locked is taken of the file at hand, so every file is at hand once.
    locks()
    (top / "m/model.pt").write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.")
    result = safeload.lock("m/model.pt")
    assert "vanished" in {entry.action for entry in result.signers}


@pytest.mark.parametrize("curve", CURVES)
def test_we_read_their_keys(curve: str, top: Path) -> None:
    write_keys(top, "k", CURVES[curve])
    signing.Config().use_elliptic_key_signer(private_key=top / "k.pem").sign(top / "m", top / "m/model.sig")
    add_signer("release", public_key="k.pub")
    locks()


def test_we_read_their_signature_over_one_file(top: Path) -> None:
    """They call the file ".", whatever its name is."""
    write_keys(top, "k", ec.SECP256R1())
    signing.Config().use_elliptic_key_signer(private_key=top / "k.pem").sign(top / "m/model.pt", top / "m/model.pt.sig")
    add_signer("release", public_key="k.pub")
    safeload.lock("m/model.pt", require=["release"])
    assert safeload.verify()


def test_we_read_their_certificates(top: Path) -> None:
    write_certificates(top)
    config = signing.Config().use_certificate_signer(
        private_key=top / "signer.pem", signing_certificate=top / "leaf.pem", certificate_chain=[top / "middle.pem"]
    )
    config.sign(top / "m", top / "m/model.sig")
    add_signer("release", x509="root.pem", subject=SUBJECT)
    locks()


def test_we_read_our_own_certificates_over_models_and_files(top: Path) -> None:
    write_certificates(top)
    sign("m", key="signer.pem", certificate="chain.pem")
    add_signer("release", x509="root.pem", subject=SUBJECT)
    locks()
    (top / "m/model.sig").unlink()
    (top / "safeload.lock").unlink()
    sign("m/model.pt", key="signer.pem", certificate="chain.pem")
    add_signer("release", x509="root.pem", subject=SUBJECT)
    safeload.lock("m/model.pt", require=["release"])
    assert safeload.verify()


def test_we_read_their_keyless_signatures(top: Path, sigstore: FakeSigstore) -> None:
    write_sigstore(top, sigstore)
    signer = signing.Config().use_sigstore_signer(identity_token=sigstore.token(), trust_config=top / "config.json")
    signer.sign(top / "m", top / "m/model.sig")
    add_signer("release", identity=IDENTITY, issuer=ISSUER, trust_root="root.json")
    locks()


def test_we_read_the_sigstore_commands_signatures(top: Path, sigstore: FakeSigstore) -> None:
    """A signature over the file, and an attestation about it."""
    write_sigstore(top, sigstore)
    done = run_sigstore("sign", "--identity-token", sigstore.token(), "--bundle", "m/model.pt.sigstore.json", "m/model.pt")
    assert done.returncode == 0, done.stderr
    predicate = {"buildDefinition": {"buildType": "https://example.org/build", "externalParameters": {}, "resolvedDependencies": []},
                 "runDetails": {"builder": {"id": "https://builder.example"}}}  # fmt: skip
    (top / "predicate.json").write_text(json.dumps(predicate))
    attest = ["--predicate", "predicate.json", "--predicate-type", "https://slsa.dev/provenance/v1"]
    done = run_sigstore("attest", "--identity-token", sigstore.token(), *attest, "--bundle", "m/model.pt.provenance.json", "m/model.pt")
    assert done.returncode == 0, done.stderr
    add_signer("release", identity=IDENTITY, issuer=ISSUER, trust_root="root.json")
    result = safeload.lock("m/model.pt", require=["release"])
    assert {entry.kind for entry in result.signers if entry.signer == "release"} == {"sigstore-blob", "slsa-provenance"}
    verified = safeload.verify(policy={"rule": [{"models": "*", "provenance": {"builder": "https://builder.example"}}]})
    assert verified
    assert any("builder: https://builder.example" in entry.reasons for entry in verified.signatures)


# ---- what cannot be signed


def test_a_certificate_of_another_key_is_not_put_into_a_signature(top: Path) -> None:
    write_certificates(top)
    write_keys(top, "k", ec.SECP256R1())
    with pytest.raises(UsageError, match="the first certificate is not of the key that signs"):
        sign("m", key="k.pem", certificate="chain.pem")
    with pytest.raises(UsageError, match="the certificates cannot be read"):
        sign("m", key="k.pem", certificate="k.pub")
    with pytest.raises(UsageError, match="a certificate goes with its key"):
        sign("m", certificate="chain.pem")
    with pytest.raises(SignatureError, match="may not issue this certificate"):
        add_signer("release", x509="leaf.pem", subject=SUBJECT)
