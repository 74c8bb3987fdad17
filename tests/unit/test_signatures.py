"""Signatures end to end: an in-process Sigstore signs, the lockfile stores, a load verifies, and every tampering is refused."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import PinError, RefusedError, SignatureError
from safeload.lockfile import LockedFile
from safeload.policy import SignerRule
from safeload.signatures.result_cache import forget
from safeload.signing import sign
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore
from tests.forge_signed import SignedModel, make_model

pytestmark = pytest.mark.torch

EVIL = "https://github.com/evil/models/.github/workflows/release.yml@refs/tags/v1"


@pytest.fixture(scope="module", params=[(1, False), (1, True), (2, True)], ids=["rekor1", "rekor1-tsa", "rekor2-tsa"])
def signed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model signed as a file and as a model, and one of another identity, in each kind of Sigstore."""
    top = tmp_path_factory.mktemp("signed")
    make_model(top / "m")
    rekor, tsa = request.param
    with FakeSigstore(rekor=rekor, tsa=tsa) as sigstore:
        (top / "config.json").write_text(sigstore.trust_config)
        (top / "root.json").write_text(sigstore.trusted_root)
        token = sigstore.token(repository="acme/models", ref="refs/tags/v1")
        sign(top / "m", token=token, trust_config=top / "config.json", output=top / "m.sig")
        sign(top / "m/model.pt", token=token, trust_config=top / "config.json", output=top / "model.sigstore.json")
        other = top / "other.pt"
        other.write_bytes(b"another version")
        sign(other, token=token, trust_config=top / "config.json")
        sign(top / "m/model.pt", token=sigstore.token(sub=EVIL), trust_config=top / "config.json", output=top / "evil.sigstore.json")
    with FakeSigstore() as foreign:
        (top / "foreign.json").write_text(foreign.trusted_root)
    return top


@pytest.fixture
def top(signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(signed, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    forget()
    yield tmp_path / "w"
    forget()


def blob(top: Path) -> SignedModel:
    return SignedModel(top, bundle="model.sigstore.json")


def oms(top: Path) -> SignedModel:
    return SignedModel(top, kind="oms", bundle="m.sig")


@pytest.mark.parametrize("make", [blob, oms])
def test_a_signed_and_locked_model_loads_without_network_or_home(
    make: Callable[[Path], SignedModel], top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a load needs lies beside the lock; nothing else is asked, and nothing is written."""
    make(top).write()
    home = top / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    assert sorted(safeload.load("m/model.pt")) == ["bias", "weight"]
    assert sorted(safeload.load("acme/m")) == ["bias", "weight"]
    assert list(home.iterdir()) == []


def _no_network(*_: object) -> None:
    raise AssertionError("a load reached for the network")


# ---- each tampering alone; the lock's digests follow the change, as an editor of the lock would make them


def tamper_bytes(top: Path, model: SignedModel) -> None:
    data = bytearray((top / "m/model.pt").read_bytes())
    at = data.index(b"\x00\x00\x00\x3f")  # a weight of 0.5
    data[at + 3] = 0x40
    (top / "m/model.pt").write_bytes(_with_crc(bytes(data), top))


def _with_crc(data: bytes, top: Path) -> bytes:
    """Write the archive again, so that only its content is another."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(top / "m/model.pt") as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(zipfile.ZipInfo(info.filename), content.replace(b"\x00\x00\x00\x3f", b"\x00\x00\x00\x40", 1))
    return out.getvalue()


def tamper_bundle(top: Path, model: SignedModel) -> None:
    place = top / model.bundle
    bundle = json.loads(place.read_text())
    if "messageSignature" in bundle:
        bundle["messageSignature"]["signature"] = bundle["messageSignature"]["signature"][:-8] + "AAAAAAA="
    else:
        bundle["dsseEnvelope"]["payload"] = bundle["dsseEnvelope"]["payload"][:-8] + "e30AAAA="
    place.write_text(json.dumps(bundle))


def tamper_identity(top: Path, model: SignedModel) -> None:
    model.change_signer(identity=EVIL)


def tamper_issuer(top: Path, model: SignedModel) -> None:
    model.change_signer(issuer="https://evil.example")


def tamper_root(top: Path, model: SignedModel) -> None:
    shutil.copy(top / "foreign.json", top / "root.json")


def tamper_removed(top: Path, model: SignedModel) -> None:
    model.signed = False


TAMPERINGS: dict[str, tuple[Callable[[Path, SignedModel], None], str, str]] = {
    "bytes": (tamper_bytes, "digest", "the signature is over other bytes: expected sha256:"),
    "bundle": (tamper_bundle, "sigstore", "the signature does not verify: "),
    "identity": (tamper_identity, "identity", f"another identity signed: expected {EVIL}, found {IDENTITY}"),
    "issuer": (tamper_issuer, "issuer", f"another issuer vouched for the identity: expected https://evil.example, found {ISSUER}"),
    "trusted root": (tamper_root, "sigstore", "the signature does not verify: "),
    "signature removed": (tamper_removed, "missing", "signatures of all of release are required; verified: none"),
}


@pytest.mark.parametrize("make", [blob, oms])
@pytest.mark.parametrize("what", TAMPERINGS)
def test_each_tampering_is_refused_and_named(make: Callable[[Path], SignedModel], what: str, top: Path) -> None:
    """Whoever edits files and lock together still cannot sign."""
    tamper, check, message = TAMPERINGS[what]
    model = make(top)
    tamper(top, model)
    model.write()
    with pytest.raises(SignatureError) as caught:
        safeload.load("m/model.pt")
    assert caught.value.check == check
    assert message in str(caught.value)
    assert caught.value.where == "m/model.pt"


def test_bytes_alone_break_the_pin_first(top: Path) -> None:
    """Without an edited lock the digest is compared before any signature."""
    model = blob(top)
    model.write()
    tamper_bytes(top, model)
    with pytest.raises(PinError, match="the bytes are not the pinned bytes"):
        safeload.load("m/model.pt")


def test_a_stored_signature_that_is_not_the_pinned_one_is_named(top: Path) -> None:
    """A valid signature of somebody else, put in the place of the stored one."""
    model = blob(top)
    model.write()
    shutil.copy(top / "evil.sigstore.json", top / "model.sigstore.json")
    with pytest.raises(SignatureError, match=r"stored signature is not the pinned one: model\.sigstore\.json: expected sha256:") as caught:
        safeload.load("m/model.pt")
    assert caught.value.check == "pin"
    model.write()
    with pytest.raises(SignatureError, match=f"another identity signed: expected {IDENTITY}, found {EVIL}"):
        safeload.load("m/model.pt")


def test_a_replayed_bundle_of_another_version_is_refused(top: Path) -> None:
    """The same signer's valid signature over other bytes says nothing about these."""
    model = SignedModel(top, bundle="other.pt.sigstore.json")
    model.write()
    with pytest.raises(SignatureError, match="the signature is over other bytes") as caught:
        safeload.load("m/model.pt")
    assert caught.value.expected.startswith("sha256:")
    assert caught.value.found.startswith("sha256:")


def test_a_bundle_of_the_other_kind_is_refused(top: Path) -> None:
    """A statement is no signature over a file, and the other way round."""
    wrong = (("sigstore-blob", "m.sig", "not a plain signature"), ("oms", "model.sigstore.json", "signs a file's bytes"))
    for kind, bundle, message in wrong:
        SignedModel(top, kind=kind, bundle=bundle).write()  # type: ignore[arg-type]
        with pytest.raises(SignatureError, match=message):
            safeload.load("m/model.pt")


def test_oms_covers_every_locked_file(top: Path) -> None:
    """A file that was added, locked, and never signed."""
    (top / "m/modeling.py").write_text("print()")
    model = oms(top)
    model.paths.append("m/modeling.py")
    model.write()
    with pytest.raises(SignatureError, match=r"locked, and not in the signed list: m/modeling\.py"):
        safeload.load("m/model.pt")


def test_a_shard_cannot_take_the_place_of_another(top: Path) -> None:
    """Two files of one signed model, swapped, with the lock edited to match."""
    model = oms(top)
    files = [model.locked("m/model.pt"), model.locked("m/config.json")]
    config = files[1]
    model.write([files[0], LockedFile(path="m/config.json", size=files[0].size, sha256=files[0].sha256)])
    with pytest.raises(SignatureError, match=r"'m/config\.json' is locked with other bytes than were signed") as caught:
        safeload.load("m/model.pt")
    assert caught.value.found == f"sha256:{config.sha256}"


@pytest.mark.parametrize("name", ["extra.bin", ".github/evil.pkl", ".hidden"])
def test_nothing_hides_in_a_complete_model(top: Path, name: str) -> None:
    """Dot-directories count: the reference verifies with a file in them."""
    model = oms(top)
    model.complete = True
    model.write()
    safeload.load("m/model.pt")
    (top / "m" / name).parent.mkdir(exist_ok=True)
    (top / "m" / name).write_bytes(b"x")
    with pytest.raises(RefusedError, match="a file that the lock does not list") as caught:
        safeload.load("m/model.pt")
    assert caught.value.rule == "SL604"


def test_a_link_in_a_complete_model_is_refused(top: Path) -> None:
    """A link is an entry that nobody signed, wherever it leads."""
    model = oms(top)
    model.complete = True
    model.write()
    (top / "m/link").symlink_to("model.pt")
    with pytest.raises(RefusedError, match="a link that the lock does not list"):
        safeload.load("m/model.pt")


# ---- who demands


def test_policy_insists_although_the_lock_does_not(top: Path) -> None:
    """An editor of the lock drops `require` and the signature."""
    model = blob(top)
    model.require, model.signed = None, False
    model.write()
    safeload.load("m/model.pt")
    policy = {"rule": [{"models": "acme/*", "signers": {"all": ["release"]}}]}
    with pytest.raises(SignatureError, match="signatures of all of release are required; verified: none"):
        safeload.load("m/model.pt", policy=policy)
    with pytest.raises(SignatureError, match="policy wants a signature, and none was verified"):
        safeload.load("m/model.pt", policy={"signature": "require"})


def test_policy_says_who_a_name_is(top: Path) -> None:
    """An editor of the lock gives the name to somebody else, who did sign."""
    model = SignedModel(top, bundle="evil.sigstore.json")
    model.change_signer(identity=EVIL)
    model.write()
    safeload.load("m/model.pt")
    insists = {"signer": {"release": {"identity": "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/*"}}}
    with pytest.raises(SignatureError, match="policy describes the signer 'release' otherwise, its identity"):
        safeload.load("m/model.pt", policy=insists)
    blob(top).write()
    safeload.load("m/model.pt", policy=insists)


def test_warn_warns_and_off_is_silent(top: Path) -> None:
    """A demand of the lock is the owner's to lift, in policy."""
    model = blob(top)
    model.change_signer(identity=EVIL)
    model.write()
    with pytest.warns(UserWarning, match="another identity signed"):
        safeload.load("m/model.pt", policy={"signature": "warn"})
    safeload.load("m/model.pt", policy={"signature": "off"})


def test_any_of_several_is_enough(top: Path) -> None:
    """`any` names alternatives."""
    model = blob(top)
    model.require = SignerRule(any=("release",))
    model.write()
    safeload.load("m/model.pt")


# ---- what is remembered


def test_the_answer_is_remembered_and_hangs_on_everything(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second load verifies nothing; any change asks again."""
    asked: list[str] = []
    from safeload.trust.schemes import verify

    def counting(kind: str, *rest: Any) -> Any:
        asked.append(kind)
        return verify(kind, *rest)

    monkeypatch.setattr("safeload.signatures.checking.verify", counting)
    model = blob(top)
    model.write()
    safeload.load("m/model.pt")
    safeload.load("m/model.pt")
    assert len(asked) == 1
    forget()
    safeload.load("m/model.pt", policy={"verify": "cached"})
    forget()
    safeload.load("m/model.pt", policy={"verify": "cached"})
    assert len(asked) == 2, "the cache directory answers where policy trusts it"
    forget()
    safeload.load("m/model.pt")
    assert len(asked) == 3, "and is not read where policy does not"
    forget()
    model.change_signer(identity=EVIL)
    model.write()
    with pytest.raises(SignatureError):
        safeload.load("m/model.pt", policy={"verify": "cached"})


def test_verify_signature_lock_trusts_what_was_locked(top: Path) -> None:
    """Bundles are then looked at by `lock` and `verify` only."""
    model = blob(top)
    model.write()
    (top / "model.sigstore.json").unlink()
    safeload.load("m/model.pt", policy={"verify-signature": "lock"})
    with pytest.raises(SignatureError, match="the stored signature cannot be read"):
        safeload.load("m/model.pt")
    assert not safeload.verify("acme/m")


def test_verify_shows_signatures(top: Path) -> None:
    """`safeload verify` checks afresh, and says who signed."""
    blob(top).write()
    result = safeload.verify("acme/m")
    assert result
    assert [(entry.signer, entry.status, entry.identity, entry.issuer) for entry in result.signatures] == [
        ("release", "verified", IDENTITY, ISSUER)
    ]
    assert "source ref: refs/tags/v1" in result.signatures[0].reasons


def test_a_certificate_that_had_expired_when_it_signed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log's time counts, not the certificate's own word."""
    make_model(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    with FakeSigstore(tsa=False, log_ahead=3600) as sigstore:
        (tmp_path / "config.json").write_text(sigstore.trust_config)
        (tmp_path / "root.json").write_text(sigstore.trusted_root)
        sign("m/model.pt", token=sigstore.token(), trust_config="config.json")
    SignedModel(tmp_path).write()
    with pytest.raises(SignatureError, match="the signature does not verify: ") as caught:
        safeload.load("m/model.pt")
    assert caught.value.check == "sigstore"
