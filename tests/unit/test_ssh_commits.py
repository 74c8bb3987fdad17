"""Commits that an SSH key signed: what git and ssh-keygen make is read, and every part of such a signature counts."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from safeload.cli import run
from safeload.errors import SignatureError
from safeload.lockfile import read
from safeload.trust.by_ssh import check_ssh
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified
from safeload.trust.schemes import verify
from safeload.trusting import collect_commit
from tests.forge_ssh import CURVES, armored, committed, line_of, new_key, ssh_signature

DATA = b"weights"
DIGEST = hashlib.sha256(DATA).hexdigest()
FILES = {"w.bin": DATA}


def check(document: dict[str, Any], anchor: Anchor, commit: str | None = None) -> Verified:
    held = Artifact(path="m/w.bin", sha256=DIGEST, size=len(DATA), bases=("m",), revision=commit)
    return verify("git-commit", held, json.dumps(document).encode(), anchor, Terms())


def refused(check_: str, message: str, signature: bytes, anchor: Anchor) -> None:
    with pytest.raises(SignatureError, match=message) as caught:
        check(committed(lambda _: signature, FILES)[0], anchor)
    assert caught.value.check == check_


@pytest.mark.parametrize("wide", [False, True], ids=["sha1", "sha256"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("kind", CURVES)
def test_a_commit_that_an_ssh_key_signed_leads_to_the_file(kind: str, algorithm: str, wide: bool) -> None:
    """The key is pinned in OpenSSH's form or as PEM: the identity is the same."""
    key = new_key(kind)
    document, commit = committed(lambda payload: ssh_signature(key, payload, algorithm=algorithm), FILES, wide=wide)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    whos = {check(document, Anchor(kind="key", public_key=form), commit) for form in (pem, line_of(key))}
    assert [who.identity for who in whos] == [f"sha256:{hashlib.sha256(pem).hexdigest()}"]
    assert whos.pop().remarks[0] == f"commit {commit}"
    with pytest.raises(SignatureError, match="another SSH key signed: expected SHA256:"):
        check(document, Anchor(kind="key", public_key=line_of(new_key(kind))), commit)


def test_every_part_of_an_ssh_signature_counts() -> None:
    key, other = new_key("ed25519"), new_key("ed25519")
    payload = committed(lambda _: b"-----BEGIN SSH SIGNATURE-----", FILES)[0]
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
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", name], check=True, timeout=600)
    settings = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "gpg.format=ssh", "-c", "commit.gpgsign=true"]
    for command in (["init", "-q", f"--object-format={form}"], ["add", "-A"],
                    [*settings, "-c", f"user.signingkey={tmp_path / 'id'}", "commit", "-q", "-m", "release"]):  # fmt: skip
        done = subprocess.run(["git", "-C", "hub", *command], check=False, capture_output=True, timeout=600)
        if form == "sha256" and b"object" in done.stderr and done.returncode:
            pytest.skip("this git makes no repositories with SHA-256 ids")
        assert done.returncode == 0, done.stderr
    commit, bundle = collect_commit("hub", ["w.pt"])
    Path("hub/git-commit.json").write_bytes(bundle)
    assert len(commit) == {"sha1": 40, "sha256": 64}[form]
    assert run(["trust", "add", "other", "--public-key", "other.pub"]) == 0
    capsys.readouterr()
    assert run(["lock", "hub/w.pt", "--name", "hub"]) == 0
    shown = subprocess.run(["ssh-keygen", "-l", "-f", "id.pub"], check=True, capture_output=True, timeout=600).stdout.decode().split()[1]
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
