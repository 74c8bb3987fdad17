"""sign → lock → verify → load through the commands; first use, changed and vanished signers; a lockfile that is signed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import safeload
from safeload.cli import run
from safeload.errors import MissingExtraError, SignatureError
from safeload.lockfile import read
from safeload.signatures.result_cache import forget
from safeload.signing import sign
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore
from tests.forge_signed import make_model, sha256, write_keys

GOLDEN_FIRST_USE = """\
m/model.pt  added  torch-zip  sha256:…  "m"
signer acme-models  first use  sigstore-blob  m/model.pt.sigstore.json  "m"
  identity https://github.com/acme/models/.github/workflows/release.yml@refs/tags/v1
  issuer   https://issuer.example
  trusted on first use: compare identity and issuer with what the publisher says elsewhere
"""
GOLDEN_VANISHED = """\
m/model.pt  refused  torch-zip  sha256:…  "m"
  its signer changed or vanished: see below; --accept-signer-change accepts that
signature  not verified  sigstore-blob  m/model.pt.sigstore.json  "m"
  release: the signature is over other bytes: expected sha256:…, found sha256:…
signer release  vanished  sigstore-blob  m/model.pt.sigstore.json  "m"
  m/model.pt.sigstore.json: release: the signature is over other bytes: expected sha256:…, found sha256:…
"""


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_model(tmp_path / "m")
    write_keys(tmp_path, "k", ec.SECP256R1())
    monkeypatch.chdir(tmp_path)
    forget()
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    import re

    return re.sub(r"sha256:[0-9a-f]{12,64}", "sha256:…", capsys.readouterr().out)


def lock_signed(top: Path) -> None:
    assert run(["trust", "add", "release", "--public-key", "k.pub"]) == 0
    assert run(["sign", "m/model.pt", "--key", "k.pem"]) == 0
    assert run(["lock", "m", "--require", "release"]) == 0


def change_model(top: Path) -> None:
    (top / "m/model.pt").write_bytes(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.")


def test_sign_lock_verify(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock_signed(top)
    capsys.readouterr()
    assert run(["verify", "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(entry["signer"], entry["status"]) for entry in result["signatures"]] == [("release", "verified")]
    model = read("safeload.lock").models[0]
    assert model.require is not None
    assert model.require.all == ("release",)
    (top / "m/model.pt.sigstore.json").write_text("{}")
    assert run(["verify"]) == 1
    out = shown(capsys)
    assert "the stored signature is not the pinned one: m/model.pt.sigstore.json: expected sha256:…, found sha256:…" in out
    assert "m/model.pt: signatures of all of release are required; verified: none" in out


def test_a_signer_that_vanished_is_refused_until_accepted(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file changed, and the old signature lies beside it still."""
    pytest.importorskip("torch", reason="a load asks for torch before it asks for more")
    lock_signed(top)
    before = (top / "safeload.lock").read_bytes()
    change_model(top)
    capsys.readouterr()
    assert run(["lock", "m/model.pt"]) == 1
    assert shown(capsys).replace("pickle", "torch-zip") == GOLDEN_VANISHED
    assert (top / "safeload.lock").read_bytes() == before
    assert run(["lock", "m/model.pt", "--check"]) == 1
    assert run(["lock", "m/model.pt", "--accept-signer-change"]) == 0
    assert read("safeload.lock").models[0].signatures == ()
    with pytest.raises(SignatureError, match="signatures of all of release are required"):
        safeload.load("m/model.pt")


def two_shards(top: Path) -> None:
    """A model of two files, each signed by itself."""
    (top / "m/other.pt").write_bytes((top / "m/model.pt").read_bytes())
    for name in ("model", "other"):
        assert run(["sign", f"m/{name}.pt", "--key", "k.pem"]) == 0


def test_a_signature_of_one_file_that_vanished_is_missed_although_the_signer_signs_another(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_shards(top)
    assert run(["trust", "add", "release", "--public-key", "k.pub"]) == 0
    assert run(["lock", "m"]) == 0
    before = (top / "safeload.lock").read_bytes()
    (top / "m/other.pt.sigstore.json").unlink()
    capsys.readouterr()
    assert run(["lock"]) == 1
    captured = capsys.readouterr()
    assert "signer release  vanished  sigstore-blob  m/other.pt.sigstore.json" in captured.out
    assert "nothing of release is about m/other.pt" in captured.out
    assert captured.err.endswith("a signer that changed or vanished needs a look, and --accept-signer-change\n")
    assert (top / "safeload.lock").read_bytes() == before
    assert run(["lock", "--accept-signer-change"]) == 0
    assert [ref.bundle for ref in read("safeload.lock").models[0].signatures] == ["m/model.pt.sigstore.json"]


def test_who_must_sign_must_sign_every_weights_file(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At first, and when a file comes to the model; a signature over the directory stands for those over its files."""
    two_shards(top)
    (top / "m/other.pt.sigstore.json").rename(top / "kept")
    assert run(["trust", "add", "release", "--public-key", "k.pub"]) == 0
    capsys.readouterr()
    assert run(["lock", "m", "--require", "release"]) == 2
    assert "'m' has no verified signature of release, which must be over m/other.pt" in capsys.readouterr().err
    (top / "kept").rename(top / "m/other.pt.sigstore.json")
    assert run(["lock", "m", "--require", "release"]) == 0
    (top / "m/third.pt").write_bytes((top / "m/model.pt").read_bytes())
    capsys.readouterr()
    assert run(["lock", "m"]) == 1
    assert "m/third.pt is new, and not signed by release, whom the lockfile requires" in capsys.readouterr().out
    for place in (top / "m").glob("*.sigstore.json"):
        place.unlink()
    assert run(["sign", "m", "--key", "k.pem"]) == 0
    assert run(["lock", "m"]) == 0
    assert [ref.kind for ref in read("safeload.lock").models[0].signatures] == ["oms"]


def test_signing_anew_renews(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same signer over the new bytes is no change of signer."""
    lock_signed(top)
    change_model(top)
    assert run(["sign", "m/model.pt", "--key", "k.pem"]) == 2, "the old signature is not overwritten unasked"
    assert run(["sign", "m/model.pt", "--key", "k.pem", "--force"]) == 0
    capsys.readouterr()
    assert run(["lock", "m/model.pt"]) == 0
    assert "signer release  renewed" in shown(capsys)


@pytest.mark.torch
def test_first_use_is_shown_and_another_signer_is_refused(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trust on first use, then exactly that identity."""
    with FakeSigstore() as sigstore:
        (top / "config.json").write_text(sigstore.trust_config)
        (top / "root.json").write_text(sigstore.trusted_root)
        keyless = ["--trust-config", "config.json"]
        assert run(["sign", "m/model.pt", "--token", sigstore.token(), *keyless]) == 0
        assert run(["trust", "add", "private", "--identity", "nobody@example.org", "--issuer", ISSUER, "--trust-root", "root.json"]) == 0
        capsys.readouterr()
        assert run(["lock", "m/model.pt", "--name", "m"]) == 0
        assert shown(capsys) == GOLDEN_FIRST_USE
        assert safeload.verify("m").signatures[0].identity == IDENTITY
        evil = sigstore.token(sub="mallory@example.org", email="mallory@example.org")
        assert run(["sign", "m/model.pt", "--token", evil, *keyless, "--force"]) == 0
        capsys.readouterr()
        assert run(["lock", "m/model.pt"]) == 1
        out = shown(capsys)
        assert "signer acme-models  vanished" in out
        assert "now signed by mallory: mallory@example.org" in out


def test_a_workflow_signs_with_its_ambient_token(top: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No token is given: the CI system is asked for one, as GitHub hands it to workflows with `id-token: write`."""
    for name in ("GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SAFELOAD_IDENTITY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with FakeSigstore() as sigstore:
        (top / "config.json").write_text(sigstore.trust_config)
        command = ["sign", "m/model.pt", "--trust-config", "config.json"]
        assert run(command) == 2
        assert "no identity token is there" in capsys.readouterr().err
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{sigstore.url}/ambient?api-version=2")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong")
        assert run(command) == 2
        assert "signing failed: " in capsys.readouterr().err
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "asked-by-workflow")
        assert run(command) == 0
        assert f"signed by {IDENTITY}" in capsys.readouterr().out


def test_trust_show_names_what_is_wrong(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock_signed(top)
    assert run(["trust", "show"]) == 0
    (top / "k.pub").write_text("x")
    capsys.readouterr()
    assert run(["trust", "show"]) == 1
    assert "the public key of 'release' is not the pinned one: k.pub: expected sha256:…, found sha256:…" in shown(capsys)


def test_a_signer_is_removed_unless_somebody_needs_it(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Removing a key must not lift a demand in passing."""
    write_keys(top, "new", ec.SECP256R1())
    lock_signed(top)
    assert run(["trust", "remove", "release"]) == 2
    assert "'release' must have signed m" in capsys.readouterr().err
    assert run(["trust", "remove", "nobody"]) == 2
    assert "there is no signer 'nobody'" in capsys.readouterr().err
    assert run(["trust", "add", "next", "--public-key", "new.pub"]) == 0
    assert run(["sign", "m/model.pt", "--key", "new.pem", "--force"]) == 0
    assert run(["lock", "m", "--require", "next", "--accept-signer-change"]) == 0
    capsys.readouterr()
    assert run(["trust", "remove", "release"]) == 0
    assert run(["verify"]) == 0
    lock = read("safeload.lock")
    assert [signer.name for signer in lock.signers] == ["next"]
    assert {ref.signer for model in lock.models for ref in model.signatures} == {"next"}


def test_one_of_several_signers_is_removed_with_what_it_signed(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock_signed(top)
    write_keys(top, "new", ec.SECP256R1())
    assert run(["trust", "add", "next", "--public-key", "new.pub"]) == 0
    lock = (top / "safeload.lock").read_text().replace('require = { all = ["release"] }', 'require = { any = ["next", "release"] }')
    (top / "safeload.lock").write_text(lock)
    capsys.readouterr()
    assert run(["trust", "remove", "release"]) == 0
    assert 'signature of release  removed  "m"' in capsys.readouterr().out
    model = read("safeload.lock").models[0]
    assert model.require is not None
    assert (model.require.any, model.signatures) == (("next",), ())
    assert run(["verify"]) == 1


def test_what_an_unknown_signature_claims_is_shown_as_a_claim(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks for the publisher's key or root learns which; nothing is believed."""
    made = sign("m/model.pt", key="k.pem")
    assert run(["lock", "m"]) == 0
    assert f"it claims to be of the key {made.signer}" in capsys.readouterr().out


def test_what_is_named_like_a_signature_is_never_passed_over(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A format that nobody here knows, or a broken file: it is said, and changes nothing."""
    (top / "m/model.sig").write_text('{"a": ')
    (top / "m/model.pt.sig").write_bytes(b"untrusted comment: minisign")
    assert run(["lock", "m"]) == 0
    out = capsys.readouterr().out
    assert 'signature  not verified  m/model.sig  "m"\n  the stored signature is not JSON' in out
    assert 'signature  not verified  m/model.pt.sig  "m"\n  it is no signature of a kind that is known here' in out
    assert read("safeload.lock").models[0].signatures == ()


def test_what_goes_wrong_while_signing_is_an_error_of_ours(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Services that are gone, tokens that are none: requests' errors are OSErrors, and say nothing by themselves."""
    with FakeSigstore() as sigstore:
        token = sigstore.token()
        (top / "config.json").write_text(sigstore.trust_config)
    for arguments in (["--token", token, "--trust-config", "config.json"], ["--token", "x"], ["--openpgp", "--user", "nobody@nowhere"]):
        assert run(["sign", "m/model.pt", *arguments]) == 2
    err = capsys.readouterr().err
    assert "signing failed: ConnectionError: HTTPConnectionPool(host='127.0.0.1'" in err
    assert "signing failed: IdentityError: " in err
    assert run(["sign", "m/model.pt", "--token", token, "--trust-config", "nowhere.json"]) == 2


# ---- the lockfile's own signature


def signed_lock_policy(top: Path) -> dict[str, Any]:
    (top / "safeload.toml").write_text(
        f'[lock-signer]\nkind = "key"\npublic-key = "k.pub"\npublic-key-sha256 = "{sha256(top / "k.pub")}"\n', encoding="utf-8"
    )
    return {}


@pytest.mark.torch
def test_a_lockfile_can_be_required_signed(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Policy names the signer, because a lockfile cannot vouch for itself."""
    lock_signed(top)
    signed_lock_policy(top)
    with pytest.raises(SignatureError, match="policy wants the lockfile signed: the lockfile's signature cannot be read"):
        safeload.load("m/model.pt")
    assert run(["sign", "safeload.lock", "--key", "k.pem"]) == 0
    safeload.load("m/model.pt")
    assert run(["verify"]) == 0
    text = (top / "safeload.lock").read_text()
    (top / "safeload.lock").write_text(text.replace('require = { all = ["release"] }\n', ""))
    with pytest.raises(SignatureError, match="policy wants the lockfile signed: the signature is over other bytes"):
        safeload.load("m/model.pt")
    assert run(["verify"]) == 1
    assert run(["lock", "m/model.pt"]) == 1, "nor is it built upon"


def test_a_hash_only_load_imports_no_signature_code(top: Path) -> None:
    """Who asks for no signature pays for none."""
    assert run(["lock", "m/model.pt"]) == 0
    code = (
        "import sys, safeload\n"
        "from safeload.gate import Gate\nfrom safeload.context import Context\nContext.of()\n"
        "bad = {'sigstore', 'cryptography', 'pysequoia', 'safeload.signatures'} & set(sys.modules)\nassert not bad, bad"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(root), "PATH": ""}, timeout=600)


def test_openpgp_without_its_extra_is_an_error_that_names_it(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysequoia", None)
    (top / "cert.asc").write_text("x")
    from safeload.trusting import add_signer

    with pytest.raises(MissingExtraError, match=r"safeload\[openpgp\]"):
        add_signer("pgp", openpgp="cert.asc")


def test_a_key_with_a_passphrase(top: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The passphrase comes from a variable; without it, and with another, it is said what is missing."""
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = ed25519.Ed25519PrivateKey.generate()
    Path("locked.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"geheim")))
    command = ["sign", "m/model.pt", "--key", "locked.pem"]

    def said(*more: str) -> str:
        capsys.readouterr()
        assert run([*command, *more]) == 2
        return capsys.readouterr().err

    assert "--passphrase-env names the variable that holds its passphrase" in said()
    assert "the environment variable NOT_THERE is not set" in said("--passphrase-env", "NOT_THERE")
    monkeypatch.setenv("WORD", "falsch")
    assert "Incorrect password" in said("--passphrase-env", "WORD")
    monkeypatch.setenv("WORD", "geheim")
    assert run([*command, "--passphrase-env", "WORD"]) == 0
