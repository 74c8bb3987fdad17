"""Each way to sign, on its own: what verifies, and which check names what does not."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from safeload.errors import MissingExtraError, SignatureError
from safeload.signing import sign
from safeload.signing.keyless import sign_keyless
from safeload.signing.with_key import load_private_key, sign_statement
from safeload.trust.bundle import pae
from safeload.trust.git_commit import MEDIA_TYPE, object_id
from safeload.trust.model_list import PREDICATE_TYPE
from safeload.trust.provenance import SLSA_V1
from safeload.trust.pypi import PUBLISH
from safeload.trust.scheme import CODE_SIGNING, Anchor, Artifact, Terms, Verified
from safeload.trust.schemes import verify
from safeload.trust.statement import PAYLOAD_TYPE, STATEMENT_TYPE
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore, Key, certificate, new_key, usage
from tests.forge_gpg import gpg, gpg_home, signed_commit
from tests.forge_signed import make_model, sha256, write_keys

ps = pytest.importorskip("pysequoia")

DATA = b"weights"
DIGEST = hashlib.sha256(DATA).hexdigest()
ARTIFACT = Artifact(path="m/w.bin", sha256=DIGEST, size=len(DATA), files={"m/w.bin": DIGEST}, bases=("m", ""), content=lambda: DATA)


def refused(check: str, message: str, kind: str, artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms | None = None) -> None:
    with pytest.raises(SignatureError, match=message) as caught:
        verify(kind, artifact, bundle, anchor, terms or Terms())
    assert caught.value.check == check


# ---- keys


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), None], ids=["p256", "p384", "p521", "ed25519"])
def test_keys_sign_files_and_models(curve: ec.EllipticCurve | None, tmp_path: Path) -> None:
    """EC signs the digest; Ed25519 cannot, and signs a statement about it."""
    make_model(tmp_path / "m")
    write_keys(tmp_path, "k", curve)
    write_keys(tmp_path, "other", curve)
    anchor = Anchor(kind="key", public_key=(tmp_path / "k.pub").read_bytes())
    path = tmp_path / "m/model.pt"
    artifact = Artifact(path="m/model.pt", sha256=sha256(path), size=1, files={"m/model.pt": sha256(path)}, bases=("m",))
    for kind, target, out in (("sigstore-blob", path, "b.json"), ("oms", tmp_path / "m", "m.sig")):
        made = sign(target, key=tmp_path / "k.pem", output=tmp_path / out)
        bundle = made.output.read_bytes()
        who = verify(kind, artifact, bundle, anchor, Terms())
        assert who.identity == made.signer
        other = Anchor(kind="key", public_key=(tmp_path / "other.pub").read_bytes())
        refused("key", "another key signed: expected sha256:", kind, artifact, bundle, other)
        hintless = json.loads(bundle)
        hintless["verificationMaterial"]["publicKey"]["hint"] = ""
        refused("signature", "the signature is not one of sha256:", kind, artifact, json.dumps(hintless).encode(), other)


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    """A weak curve, an RSA key, no key at all."""
    write_keys(tmp_path, "k1", ec.SECP256K1())
    write_keys(tmp_path, "k", ec.SECP256R1())
    (tmp_path / "f").write_bytes(DATA)
    bundle = sign(tmp_path / "f", key=tmp_path / "k.pem").output.read_bytes()
    for data, message in (((tmp_path / "k1.pub").read_bytes(), "curve secp256k1"), (b"no key", "cannot be read"), (b"", "cannot be read")):
        refused("key", message, "sigstore-blob", ARTIFACT, bundle, Anchor(kind="key", public_key=data))


# ---- certificates


def chained(
    key: Key, eku: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CODE_SIGNING, **leaf: Any
) -> tuple[bytes, list[x509.Certificate]]:
    """The pinned root, and leaf and intermediate of a company."""
    root_key, middle_key = new_key(), new_key()
    root = certificate("acme root", root_key, ca=True, days=3650)
    middle = certificate("acme issuing", middle_key, root, root_key, ca=True, days=3000)
    return root.public_bytes(Encoding.PEM), [certificate("signer", key, middle, middle_key, eku=eku, **leaf), middle]


def statement(resources: list[dict[str, str]] | None = None, **changes: Any) -> bytes:
    listed = resources if resources is not None else [{"name": "w.bin", "algorithm": "sha256", "digest": DIGEST}]
    root = hashlib.sha256(b"".join(bytes.fromhex(entry["digest"]) for entry in listed)).hexdigest()
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [], **changes}
    return json.dumps({
        "_type": STATEMENT_TYPE, "subject": [{"name": "m", "digest": {"sha256": root}}], "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": how, "resources": listed},
    }).encode()  # fmt: skip


def sealed(key: Key, chain: list[x509.Certificate], payload: bytes) -> bytes:
    signature = key.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    certificates = [{"rawBytes": base64.b64encode(cert.public_bytes(Encoding.DER)).decode()} for cert in chain]
    return json.dumps({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        },
    }).encode()  # fmt: skip


SUBJECT = "CN=signer,O=fake.example"


def test_a_certificate_of_the_pinned_authority_signs() -> None:
    key = new_key()
    root, chain = chained(key)
    who = verify("oms", ARTIFACT, sealed(key, chain, statement()), Anchor(kind="x509", certificate=root, subject=SUBJECT), Terms())
    assert who.identity == SUBJECT
    assert who.until is not None


@pytest.mark.parametrize(
    ("leaf", "check", "message"),
    [
        ({"start": dt.datetime.now(dt.UTC) - dt.timedelta(days=800)}, "validity", "the certificate .* expired: valid from"),
        ({"start": dt.datetime.now(dt.UTC) + dt.timedelta(days=2)}, "validity", "is not valid yet"),
        ({"eku": ExtendedKeyUsageOID.SERVER_AUTH}, "usage", r"another purpose .*: expected 1\.3\.6.*\.3\.3, found 1\.3\.6.*\.3\.1"),
        ({"eku": None, "may": usage(digital_signature=True, key_encipherment=True)}, "usage", "another purpose .* found none"),
        ({"eku": None, "may": usage(digital_signature=True, key_agreement=True)}, "usage", "another purpose .* found none"),
        ({"may": usage(key_encipherment=True)}, "usage", "may not make signatures: its key usage lacks digitalSignature"),
        ({"ca": True}, "certificate", "is a certificate authority and not a signer"),
    ],
    ids=["expired", "not yet", "tls server", "no eku, encrypts", "no eku, agrees", "signs nothing", "authority"],
)  # fmt: skip
def test_a_certificate_must_be_valid_now_and_for_signing(leaf: dict[str, Any], check: str, message: str) -> None:
    """The reference accepts the expired one and the TLS server's: sigstore/model-transparency issue 663."""
    key = new_key()
    root, chain = chained(key, **leaf)
    refused(check, message, "oms", ARTIFACT, sealed(key, chain, statement()), Anchor(kind="x509", certificate=root, subject=SUBJECT))


def test_a_certificate_without_a_purpose_signs_when_it_may_do_nothing_else() -> None:
    """NVIDIA's certificates name none; who pins a purpose asks for one, and policy can ask where the lockfile does not."""
    key = new_key()
    root, chain = chained(key, eku=None)
    anchor, bundle = Anchor(kind="x509", certificate=root, subject=SUBJECT), sealed(key, chain, statement())
    assert verify("oms", ARTIFACT, bundle, anchor, Terms()).remarks[0].startswith("the certificate names no purpose")
    refused("usage", "another purpose .* found none", "oms", ARTIFACT, bundle, replace(anchor, eku=CODE_SIGNING))
    whole = sealed(key, [*chain, x509.load_pem_x509_certificate(root)], statement())
    assert verify("oms", ARTIFACT, whole, anchor, Terms()).identity == SUBJECT, "the root may stand in the chain"


def test_an_authority_that_may_issue_nothing_is_a_signer() -> None:
    """Published model signatures have such leaves: cA, and a key usage that is for signatures alone."""
    key = new_key()
    root, chain = chained(key, said_ca=True)
    anchor = Anchor(kind="x509", certificate=root, subject=SUBJECT)
    assert verify("oms", ARTIFACT, sealed(key, chain, statement()), anchor, Terms()).identity == SUBJECT


def test_a_certificate_of_another_authority_or_subject_is_refused() -> None:
    key = new_key()
    root, chain = chained(key)
    other, _ = chained(key)
    bundle = sealed(key, chain, statement())
    refused("chain", "does not lead to the pinned root", "oms", ARTIFACT, bundle, Anchor(kind="x509", certificate=other, subject=SUBJECT))
    boss = Anchor(kind="x509", certificate=root, subject="CN=boss")
    refused("identity", "expected CN=boss, found CN=signer", "oms", ARTIFACT, bundle, boss)
    impostor = sealed(new_key(), chain, statement())
    refused("signature", "not one of CN=signer", "oms", ARTIFACT, impostor, Anchor(kind="x509", certificate=root, subject=SUBJECT))


# ---- what an OMS list may look like


def by_key(tmp_path: Path, payload: bytes) -> tuple[bytes, Anchor]:
    write_keys(tmp_path, "k", ec.SECP256R1())
    key = load_private_key((tmp_path / "k.pem").read_bytes(), None)
    return sign_statement(key, payload), Anchor(kind="key", public_key=(tmp_path / "k.pub").read_bytes())


def resource(name: str, digest: str = DIGEST) -> dict[str, str]:
    return {"name": name, "algorithm": "sha256", "digest": digest}


@pytest.mark.parametrize(
    ("resources", "changes", "check", "message"),
    [
        ([], {}, "coverage", "the signed list is empty"),
        ([resource("../w.bin"), resource("w.bin")], {}, "names", r"an empty part, '\.' or '\.\.'"),
        ([resource("/w.bin")], {}, "names", "not relative"),
        ([resource("a//w.bin")], {}, "names", "an empty part"),
        ([resource("a\\w.bin")], {}, "names", "not relative"),
        ([resource("w.bin"), resource("w.bin")], {}, "names", "a file twice"),
        ([resource("w.bin"), resource("a.bin")], {}, "names", "not sorted"),
        ([resource("W.bin"), resource("w.bin")], {}, "names", "differ only in case"),
        ([resource("other.bin")], {}, "coverage", "the file is not in the signed list"),
        ([resource("w.bin", "00" * 32)], {}, "digest", "the signature is over other bytes: expected sha256:.*, found sha256:0000"),
        (None, {"hash_type": "md5"}, "algorithm", "md5 digests"),
        (None, {"method": "magic"}, "content", "not known: magic"),
        (None, {"ignore_paths": ["modeling_custom.py"]}, "ignore-paths", "policy does not list: modeling_custom.py"),
        (None, {"ignore_paths": "x"}, "format", "not an array"),
    ],
)
def test_a_signed_list_is_read_strictly(
    resources: list[dict[str, str]] | None, changes: dict[str, Any], check: str, message: str, tmp_path: Path
) -> None:
    """Stricter than the reference: ossf/model-signing issues 661 and 647, and what it passes by in silence."""
    bundle, anchor = by_key(tmp_path, statement(resources, **changes))
    refused(check, message, "oms", ARTIFACT, bundle, anchor)


def test_policy_may_list_what_a_signer_leaves_out(tmp_path: Path) -> None:
    bundle, anchor = by_key(tmp_path, statement(ignore_paths=["notes.txt", ".git", "w.sig"]))
    assert verify("oms", ARTIFACT, bundle, anchor, Terms(ignore_paths=("notes.txt",)))


def test_the_list_and_its_own_digest_must_agree(tmp_path: Path) -> None:
    payload = json.loads(statement())
    payload["subject"][0]["digest"]["sha256"] = "11" * 32
    bundle, anchor = by_key(tmp_path, json.dumps(payload).encode())
    refused("content", "contradicts itself", "oms", ARTIFACT, bundle, anchor)


# ---- attestations


def test_provenance_brings_facts(tmp_path: Path) -> None:
    predicate = {
        "buildDefinition": {"externalParameters": {"workflow": {"repository": "https://github.com/acme/models", "ref": "refs/tags/v1"}}},
        "runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}},
    }
    payload = {"_type": STATEMENT_TYPE, "subject": [{"name": "w.bin", "digest": {"sha256": DIGEST}}],
               "predicateType": "https://slsa.dev/provenance/v1", "predicate": predicate}  # fmt: skip
    bundle, anchor = by_key(tmp_path, json.dumps(payload).encode())
    who = verify("slsa-provenance", ARTIFACT, bundle, anchor, Terms())
    assert dict(who.facts) == {
        "builder": "https://github.com/actions/runner/github-hosted", "repository": "https://github.com/acme/models", "ref": "refs/tags/v1",
    }  # fmt: skip
    other = Artifact(path="w.bin", sha256="00" * 32, size=1)
    refused("digest", "the attestation is about other bytes", "slsa-provenance", other, bundle, anchor)


def keyless(top: Path, sigstore: FakeSigstore, payload: Any, **claims: str) -> tuple[bytes, Anchor]:
    """A statement that a workflow signed, as a sigstore bundle."""
    (top / "config.json").write_text(sigstore.trust_config)
    data, _ = sign_keyless(json.dumps(payload).encode(), None, token=sigstore.token(**claims), trust_config=top / "config.json")
    anchor = Anchor(kind="sigstore", trusted_root=sigstore.trusted_root.encode(), issuer=ISSUER, identity=IDENTITY)
    return data, anchor


def attestation(bundle: bytes) -> dict[str, Any]:
    """The same as PyPI serves it (PEP 740)."""
    held = json.loads(bundle)
    material, envelope = held["verificationMaterial"], held["dsseEnvelope"]
    return {
        "version": 1,
        "verification_material": {
            "certificate": material["certificate"]["rawBytes"], "transparency_entries": material["tlogEntries"],
        },
        "envelope": {"statement": envelope["payload"], "signature": envelope["signatures"][0]["sig"]},
    }  # fmt: skip


def test_attestations_are_read_as_pypi_serves_them(tmp_path: Path) -> None:
    """One alone, or all of a file together; then those of the pinned signer count, and one that fails fails alone."""
    about = {"_type": STATEMENT_TYPE, "subject": [{"name": "w.bin", "digest": {"sha256": DIGEST}}]}
    built = {"runDetails": {"builder": {"id": "https://builder.example"}}}
    with FakeSigstore(tsa=False) as sigstore:
        publish, anchor = keyless(tmp_path, sigstore, {**about, "predicateType": PUBLISH, "predicate": None})
        slsa, _ = keyless(tmp_path, sigstore, {**about, "predicateType": SLSA_V1, "predicate": built})
        evil, _ = keyless(tmp_path, sigstore, {**about, "predicateType": SLSA_V1, "predicate": {}}, sub="https://evil.example")
    one, two, other = map(attestation, (publish, slsa, evil))

    def both(*held: dict[str, Any]) -> bytes:
        return json.dumps({"version": 1, "attestation_bundles": [{"publisher": {}, "attestations": list(held)}]}).encode()

    assert verify("slsa-provenance", ARTIFACT, json.dumps(one).encode(), anchor, Terms()).identity == IDENTITY
    found = verify("slsa-provenance", ARTIFACT, both(other, one, two), anchor, Terms())
    assert (found.identity, found.facts) == (IDENTITY, (("builder", "https://builder.example"),))
    anyone = verify("slsa-provenance", ARTIFACT, both(other, one, two), replace(anchor, any_identity=True), Terms())
    assert (anyone.identity, anyone.facts) == ("https://evil.example", ())
    refused("identity", f"expected {IDENTITY}, found https://evil.example", "slsa-provenance", ARTIFACT, both(other), anchor)
    refused("format", "holds 0 attestations", "slsa-provenance", ARTIFACT, both(), anchor)
    refused("format", "another version", "slsa-provenance", ARTIFACT, json.dumps({**one, "version": 2}).encode(), anchor)
    torn = {**one, "envelope": {"statement": one["envelope"]["statement"]}}
    refused("format", "signature is not a string", "slsa-provenance", ARTIFACT, json.dumps(torn).encode(), anchor)


def test_subjects_with_other_digests_are_passed_over(tmp_path: Path) -> None:
    """npm's provenance names SHA-512 alone; then the statement is about nothing that is known here."""
    subjects = [{"name": "x", "digest": {"sha512": "00"}}, {"name": "w.bin", "digest": {"sha256": DIGEST}}]
    payload = {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": SLSA_V1, "predicate": {}}
    bundle, anchor = by_key(tmp_path, json.dumps(payload).encode())
    assert verify("slsa-provenance", ARTIFACT, bundle, anchor, Terms())
    bundle, anchor = by_key(tmp_path, json.dumps({**payload, "subject": subjects[:1]}).encode())
    refused("digest", "found digests of another kind", "slsa-provenance", ARTIFACT, bundle, anchor)


# ---- OpenPGP


def pgp(**options: Any) -> tuple[Any, Anchor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tsk = ps.Tsk.generate("Acme <release@example.org>", **options)
    cert = tsk.extract_certificate()
    return tsk, Anchor(kind="openpgp", certificate=bytes(cert), fingerprint=cert.fingerprint)


def detached(tsk: Any, data: bytes) -> bytes:
    return bytes(ps.sign(tsk.signer(), data, mode=ps.SignatureMode.DETACHED))


def test_openpgp_over_bytes_and_over_an_open_descriptor(tmp_path: Path) -> None:
    tsk, anchor = pgp()
    who = verify("openpgp", ARTIFACT, detached(tsk, DATA), anchor, Terms())
    assert who == Verified(identity=anchor.fingerprint, until=who.until)
    (tmp_path / "f").write_bytes(DATA)
    by_path = Artifact(path="f", sha256=DIGEST, size=7, content=lambda: str(tmp_path / "f"))
    assert verify("openpgp", by_path, detached(tsk, DATA), anchor, Terms()).identity == anchor.fingerprint


def test_openpgp_refuses_other_bytes_keys_and_fingerprints() -> None:
    tsk, anchor = pgp()
    other, other_anchor = pgp()
    none = f"no valid signature of {anchor.fingerprint} over these bytes"
    refused("signature", none, "openpgp", ARTIFACT, detached(tsk, b"else"), anchor)
    refused("signature", none, "openpgp", ARTIFACT, detached(other, DATA), anchor)
    refused("format", "cannot be read", "openpgp", ARTIFACT, b"garbage", anchor)
    swapped = Anchor(kind="openpgp", certificate=other_anchor.certificate, fingerprint=anchor.fingerprint)
    refused("identity", "another fingerprint: expected", "openpgp", ARTIFACT, detached(other, DATA), swapped)


def test_openpgp_refuses_expired_and_revoked_certificates() -> None:
    """gpgv accepts both with exit status 0."""
    tsk, anchor = pgp()
    signature = detached(tsk, DATA)
    certifier = tsk.certifier()
    cert = ps.Cert.from_bytes(anchor.certificate)
    revoked = ps.Cert.from_bytes(bytes(cert) + bytes(cert.revoke(certifier)))
    stale = Anchor(kind="openpgp", certificate=bytes(revoked), fingerprint=anchor.fingerprint)
    refused("validity", f"the certificate {anchor.fingerprint} is revoked", "openpgp", ARTIFACT, signature, stale)


@pytest.fixture(scope="module")
def keyring() -> Path:
    return gpg_home()


def test_gpg_signatures_old_keys_and_sha1(keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's gpg makes verifies; expired keys and SHA-1 do not, although gpg's own verifier takes them."""
    anchors = {}
    for who in ("old", "now"):
        raw = gpg(keyring, "--export", f"{who}@example.org")
        anchors[who] = Anchor(kind="openpgp", certificate=raw, fingerprint=ps.Cert.from_bytes(raw).fingerprint)
    old = gpg(keyring, "--faked-system-time", "20200601T000000", "-u", "old@example.org", "--detach-sign", data=DATA)
    refused("validity", "expired on 2020-12-31", "openpgp", ARTIFACT, old, anchors["old"])
    weak = gpg(keyring, "-u", "now@example.org", "--digest-algo", "SHA1", "--detach-sign", data=DATA)
    refused("algorithm", "made with SHA1, which is too weak", "openpgp", ARTIFACT, weak, anchors["now"])
    monkeypatch.setenv("GNUPGHOME", str(keyring))
    (tmp_path / "f").write_bytes(DATA)
    made = sign(tmp_path / "f", openpgp="now@example.org")
    assert made.output.name == "f.asc"
    assert verify("openpgp", ARTIFACT, made.output.read_bytes(), anchors["now"], Terms())


def test_a_signed_list_of_digests() -> None:
    """Clear-signed, or with the signature beside it."""
    tsk, anchor = pgp()
    listed = f"{DIGEST}  w.bin\n{'0' * 64} *other.bin\n".encode()
    clear = bytes(ps.sign(tsk.signer(), listed, mode=ps.SignatureMode.CLEAR))
    assert verify("openpgp-sha256sums", ARTIFACT, clear, anchor, Terms()).identity == anchor.fingerprint
    beside = Artifact(path="m/w.bin", sha256=DIGEST, size=7, bases=("m",), companion=listed)
    assert verify("openpgp-sha256sums", beside, detached(tsk, listed), anchor, Terms())
    refused("content", "does not lie beside", "openpgp-sha256sums", ARTIFACT, detached(tsk, listed), anchor)
    other = Artifact(path="m/other.bin", sha256=DIGEST, size=7, bases=("m",), companion=listed)
    refused("digest", "the signature is over other bytes", "openpgp-sha256sums", other, detached(tsk, listed), anchor)
    for bad, check in ((b"x", "format"), (f"{DIGEST}  ../w.bin\n".encode(), "names"), (listed + listed, "names")):
        held = Artifact(path="m/w.bin", sha256=DIGEST, size=7, bases=("m",), companion=bad)
        refused(check, "the signed list", "openpgp-sha256sums", held, detached(tsk, bad), anchor)


def test_openpgp_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pysequoia", None)
    with pytest.raises(MissingExtraError, match=r"safeload\[openpgp\]"):
        verify("openpgp", ARTIFACT, b"x", Anchor(kind="openpgp", certificate=b"x", fingerprint="00" * 20), Terms())


# ---- commits


def committed(tsk: Any, blob: bytes, *, signed: bytes | None = None) -> tuple[dict[str, Any], str]:
    """A repository's one commit with one file, signed."""
    blob_id = object_id("blob", blob)
    inner = b"100644 w.bin\0" + bytes.fromhex(blob_id)
    tree = b"40000 m\0" + bytes.fromhex(object_id("tree", inner))
    payload = b"tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nrelease\n" % object_id("tree", tree).encode()
    text = detached(tsk, signed or payload)
    head, _, message = payload.partition(b"\n\n")
    commit = head + b"\ngpgsig " + text.strip().replace(b"\n", b"\n ") + b"\n\n" + message
    raw = [b"tree %d\0%s" % (len(tree), tree), b"tree %d\0%s" % (len(inner), inner), b"blob %d\0%s" % (len(blob), blob)]
    document = {
        "mediaType": MEDIA_TYPE, "commit": base64.b64encode(commit).decode(), "objects": [base64.b64encode(item).decode() for item in raw],
    }  # fmt: skip
    return document, object_id("commit", commit)


def test_a_signed_commit_leads_to_the_file() -> None:
    tsk, anchor = pgp()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 7\n" % DIGEST.encode()
    for blob in (pointer, DATA):
        document, commit = committed(tsk, blob)
        held = Artifact(path="m/w.bin", sha256=DIGEST, size=7, bases=("",), revision=commit)
        who = verify("git-commit", held, json.dumps(document).encode(), anchor, Terms())
        assert who.remarks == (f"commit {commit}",)


def test_a_commit_that_is_another_or_lacks_objects_is_refused() -> None:
    tsk, anchor = pgp()
    document, commit = committed(tsk, DATA)
    bundle = json.dumps(document).encode()
    held = Artifact(path="m/w.bin", sha256=DIGEST, size=7, revision=commit)
    refused("revision", "of another commit", "git-commit", replace(held, revision="0" * 40), bundle, anchor)
    refused("digest", "has other bytes", "git-commit", replace(held, sha256="0" * 64), bundle, anchor)
    refused("coverage", "no such file", "git-commit", replace(held, path="m/x.bin"), bundle, anchor)
    short = json.dumps({**document, "objects": document["objects"][:1]}).encode()
    refused("coverage", "lacks a tree", "git-commit", held, short, anchor)
    forged, _ = committed(tsk, DATA, signed=b"tree of something else")
    refused("signature", "no valid signature", "git-commit", replace(held, revision=None), json.dumps(forged).encode(), anchor)


def test_a_real_repository_is_collected_and_verified(keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git and gpg make the commit, `safeload trust commit` keeps it, and neither is asked again."""
    from safeload.trusting import collect_commit

    monkeypatch.setenv("GNUPGHOME", str(keyring))
    raw = gpg(keyring, "--export", "now@example.org")
    anchor = Anchor(kind="openpgp", certificate=raw, fingerprint=ps.Cert.from_bytes(raw).fingerprint)
    (tmp_path / "w.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 7\n" % DIGEST.encode())
    signed_commit(tmp_path, keyring, "now@example.org", "release")
    commit, bundle = collect_commit(tmp_path)
    held = Artifact(path="m/w.bin", sha256=DIGEST, size=7, bases=("m",), revision=commit)
    assert verify("git-commit", held, bundle, anchor, Terms()).identity == anchor.fingerprint
