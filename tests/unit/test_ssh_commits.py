"""Commits that an SSH key signed: what git and ssh-keygen make is read, and every part of such a signature counts."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from safeload.cli import run
from safeload.errors import SignatureError
from safeload.lockfile import read
from safeload.trust.by_ssh import check_ssh
from safeload.trust.git_commit import MEDIA_TYPE, object_id
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified
from safeload.trust.schemes import verify
from safeload.trusting import collect_commit

CURVES: dict[str, ec.EllipticCurve | None] = {
    "ed25519": None, "p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(),
}  # fmt: skip
DATA = b"weights"
DIGEST = hashlib.sha256(DATA).hexdigest()
Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def new_key(kind: str) -> Key:
    curve = CURVES[kind]
    return ed25519.Ed25519PrivateKey.generate() if curve is None else ec.generate_private_key(curve)


def line_of(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)) + b" me@host\n"


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def number(value: int) -> bytes:
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def raw_signature(key: Key, data: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return string(b"ssh-ed25519") + string(key.sign(data))
    bits = key.curve.key_size
    hash_of: hashes.HashAlgorithm = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[bits]
    first, second = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hash_of)))
    return string(b"ecdsa-sha2-nistp%d" % bits) + string(number(first) + number(second))


def armored(blob: bytes) -> bytes:
    text = base64.b64encode(blob)
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return b"-----BEGIN SSH SIGNATURE-----\n" + b"\n".join(lines) + b"\n-----END SSH SIGNATURE-----\n"


def ssh_signature(
    key: Key, message: bytes, *, namespace: bytes = b"git", algorithm: str = "sha512", version: int = 1, behind: bytes = b"",
    shown: Key | None = None,
) -> bytes:  # fmt: skip
    """What `ssh-keygen -Y sign` writes."""
    public = base64.b64decode(line_of(shown or key).split(b" ")[1])
    digest = hashlib.new(algorithm, message).digest()
    head = string(namespace) + string(b"") + string(algorithm.encode())
    made = raw_signature(key, b"SSHSIG" + head + string(digest))
    return armored(b"SSHSIG" + struct.pack(">I", version) + string(public) + head + string(made) + behind)


def committed(sign: Callable[[bytes], bytes], *, wide: bool = False) -> tuple[dict[str, Any], str]:
    """A repository's one commit with one file."""
    blob = object_id("blob", DATA, sha256=wide)
    tree = b"100644 w.bin\0" + bytes.fromhex(blob)
    payload = b"tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nrelease\n" % object_id("tree", tree, sha256=wide).encode()
    head, _, message = payload.partition(b"\n\n")
    name = b"gpgsig-sha256 " if wide else b"gpgsig "
    commit = head + b"\n" + name + sign(payload).strip().replace(b"\n", b"\n ") + b"\n\n" + message
    objects = [b"tree %d\0%s" % (len(tree), tree), b"blob %d\0%s" % (len(DATA), DATA)]
    document = {"mediaType": MEDIA_TYPE, "commit": base64.b64encode(commit), "objects": [*map(base64.b64encode, objects)]}
    return json.loads(json.dumps(document, default=bytes.decode)), object_id("commit", commit, sha256=wide)


def check(document: dict[str, Any], anchor: Anchor, commit: str | None = None) -> Verified:
    held = Artifact(path="m/w.bin", sha256=DIGEST, size=len(DATA), bases=("m",), revision=commit)
    return verify("git-commit", held, json.dumps(document).encode(), anchor, Terms())


def refused(check_: str, message: str, signature: bytes, anchor: Anchor) -> None:
    with pytest.raises(SignatureError, match=message) as caught:
        check(committed(lambda _: signature)[0], anchor)
    assert caught.value.check == check_


@pytest.mark.parametrize("wide", [False, True], ids=["sha1", "sha256"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("kind", CURVES)
def test_a_commit_that_an_ssh_key_signed_leads_to_the_file(kind: str, algorithm: str, wide: bool) -> None:
    """The key is pinned in OpenSSH's form or as PEM: the identity is the same."""
    key = new_key(kind)
    document, commit = committed(lambda payload: ssh_signature(key, payload, algorithm=algorithm), wide=wide)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    whos = {check(document, Anchor(kind="key", public_key=form), commit) for form in (pem, line_of(key))}
    assert [who.identity for who in whos] == [f"sha256:{hashlib.sha256(pem).hexdigest()}"]
    assert whos.pop().remarks[0] == f"commit {commit}"
    with pytest.raises(SignatureError, match="another SSH key signed: expected SHA256:"):
        check(document, Anchor(kind="key", public_key=line_of(new_key(kind))), commit)


def test_every_part_of_an_ssh_signature_counts() -> None:
    key, other = new_key("ed25519"), new_key("ed25519")
    payload = committed(lambda _: b"-----BEGIN SSH SIGNATURE-----")[0]
    signed = base64.b64decode(payload["commit"]).replace(b"gpgsig -----BEGIN SSH SIGNATURE-----\n", b"")
    anchor = Anchor(kind="key", public_key=line_of(key))
    assert check_ssh(ssh_signature(key, signed), anchor, signed, namespace="git").issuer == ""
    refused("content", "for another purpose: expected git, found file", ssh_signature(key, signed, namespace=b"file"), anchor)
    refused("signature", "not one of the SSH key SHA256:", ssh_signature(key, b"else"), anchor)
    refused("signature", "not one of the SSH key SHA256:", ssh_signature(other, signed, shown=key), anchor)
    refused("algorithm", "made with sha1, which is not taken", ssh_signature(key, signed, algorithm="sha1"), anchor)
    refused("algorithm", "of another kind than its key", ssh_signature(new_key("p256"), signed, shown=key), anchor)
    refused("format", "of version 1", ssh_signature(key, signed, version=2), anchor)
    refused("format", "something behind its end", ssh_signature(key, signed, behind=b"x"), anchor)
    whole = ssh_signature(key, signed)
    refused("format", "is torn", armored(base64.b64decode(b"".join(whole.split(b"\n")[1:-2]))[:60]), anchor)
    refused("format", "no SSH signature in its armor", whole.replace(b"-----END", b"---END"), anchor)
    refused("key", "no public key is pinned", whole, Anchor(kind="openpgp", certificate=b"x", fingerprint="00" * 20))
    refused("kind", "neither with OpenPGP nor with an SSH key", b"-----BEGIN SIGNED MESSAGE-----\nx\n-----END SIGNED MESSAGE-----", anchor)
    strong = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    refused("key", "neither EC .* nor Ed25519", whole, replace(anchor, public_key=line_of(strong)))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_what_git_and_ssh_keygen_sign_is_locked_and_verified(
    kind: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In repositories with either kind of ids; another key is shown as what it claims to be, and is not recorded."""
    if shutil.which("ssh-keygen") is None or shutil.which("git") is None:
        pytest.skip("needs git and ssh-keygen")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    Path("hub").mkdir()
    Path("hub/w.pt").write_bytes(b"\x80\x02}q\x00.")
    for name in ("id", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", name], check=True, timeout=60)
    settings = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "gpg.format=ssh", "-c", "commit.gpgsign=true"]
    for command in (["init", "-q", f"--object-format={form}"], ["add", "-A"],
                    [*settings, "-c", f"user.signingkey={tmp_path / 'id'}", "commit", "-q", "-m", "release"]):  # fmt: skip
        done = subprocess.run(["git", "-C", "hub", *command], check=False, capture_output=True, timeout=60)
        if form == "sha256" and b"object" in done.stderr and done.returncode:
            pytest.skip("this git makes no repositories with SHA-256 ids")
        assert done.returncode == 0, done.stderr
    commit, bundle = collect_commit("hub", ["w.pt"])
    Path("hub/git-commit.json").write_bytes(bundle)
    assert len(commit) == {"sha1": 40, "sha256": 64}[form]
    assert run(["trust", "add", "other", "--public-key", "other.pub"]) == 0
    capsys.readouterr()
    assert run(["lock", "hub/w.pt", "--name", "hub"]) == 0
    shown = subprocess.run(["ssh-keygen", "-l", "-f", "id.pub"], check=True, capture_output=True, timeout=60).stdout.decode().split()[1]
    assert f"it claims to be of the SSH key {shown}" in capsys.readouterr().out
    assert run(["trust", "add", "author", "--public-key", "id.pub"]) == 0
    assert run(["lock", "hub/w.pt", "--require", "author"]) == 0
    assert [(ref.signer, ref.kind) for ref in read("safeload.lock").models[0].signatures] == [("author", "git-commit")]
    assert run(["verify"]) == 0


def test_a_private_ssh_key_signs_files_as_any_key_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    key = new_key("ed25519")
    Path("id").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    Path("id.pub").write_bytes(line_of(key))
    Path("w.pt").write_bytes(b"\x80\x02}q\x00.")
    assert run(["trust", "add", "me", "--public-key", "id.pub"]) == 0
    assert run(["sign", "w.pt", "--key", "id"]) == 0
    assert run(["lock", "w.pt", "--require", "me"]) == 0
    assert run(["verify"]) == 0
