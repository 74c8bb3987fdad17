"""Who demands signatures, and what is remembered of them; test_tampering.py has what is refused, one tampering at a time."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import PolicyError, SignatureError
from safeload.lockfile import read, update
from safeload.policy import SignerRule, parse_policy
from safeload.signatures.result_cache import forget
from safeload.signing import sign
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore
from tests.forge_signed import SignedModel, make_model, sha256

pytestmark = pytest.mark.torch

EVIL = "https://github.com/evil/models/.github/workflows/release.yml@refs/tags/v1"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model signed as a file and as a model, and by another identity."""
    top = tmp_path_factory.mktemp("signed")
    make_model(top / "m")
    with FakeSigstore() as sigstore:
        (top / "config.json").write_text(sigstore.trust_config)
        (top / "root.json").write_text(sigstore.trusted_root)
        token = sigstore.token(repository="acme/models", ref="refs/tags/v1")
        sign(top / "m", token=token, trust_config=top / "config.json", output=top / "m.sig")
        sign(top / "m/model.pt", token=token, trust_config=top / "config.json", output=top / "model.sigstore.json")
        sign(top / "m/model.pt", token=sigstore.token(sub=EVIL), trust_config=top / "config.json", output=top / "evil.sigstore.json")
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


def test_a_bundle_of_the_other_kind_is_refused(top: Path) -> None:
    """A statement is no signature over a file, and the other way round."""
    wrong = (("sigstore-blob", "m.sig", "not a plain signature"), ("oms", "model.sigstore.json", "signs a file's bytes"))
    for kind, bundle, message in wrong:
        SignedModel(top, kind=kind, bundle=bundle).write()  # type: ignore[arg-type]
        with pytest.raises(SignatureError, match=message):
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
    any_tag = "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/*"
    release = {"identity": any_tag, "trust-root-sha256": sha256(top / "root.json")}
    insists: dict[str, Any] = {"signer": {"release": release}}
    with pytest.raises(SignatureError, match="policy describes the signer 'release' otherwise, its identity"):
        safeload.load("m/model.pt", policy=insists)
    blob(top).write()
    safeload.load("m/model.pt", policy=insists)


def test_an_identity_in_policy_goes_with_a_root(top: Path) -> None:
    """An editor of the lock runs a Sigstore of their own, in which anybody is anybody."""
    blob(top).write()
    identity: dict[str, Any] = {"identity": IDENTITY, "issuer": ISSUER}
    with pytest.raises(SignatureError, match="gives the signer 'release' another trust root: expected builtin:sigstore-public") as caught:
        safeload.load("m/model.pt", policy={"signer": {"release": identity}})
    assert caught.value.hint == "if the root is right, set trust-root-sha256 of the signer 'release' in the policy"
    with pytest.raises(SignatureError, match=r"another trust root: expected sha256:0000.*, found sha256:"):
        safeload.load("m/model.pt", policy={"signer": {"release": {**identity, "trust-root-sha256": "0" * 64}}})
    safeload.load("m/model.pt", policy={"signer": {"release": {**identity, "trust-root-sha256": sha256(top / "root.json")}}})


def test_a_subject_in_policy_goes_with_an_authority() -> None:
    """Whoever has an authority can issue any subject."""
    with pytest.raises(PolicyError, match="goes with certificate-sha256"):
        parse_policy({"signer": {"release": {"subject": "CN=signer"}}})
    parse_policy({"signer": {"release": {"subject": "CN=signer", "certificate-sha256": "0" * 64, "eku": "1.3.6.1.5.5.7.3.1"}}})


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


def test_a_cache_that_others_may_write_to_is_not_believed(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one read that SAFELOAD_CACHE does not name, and an answer of another verifier's is none."""
    blob(top).write()
    monkeypatch.setenv("SAFELOAD_CACHE", str(top / "cache"))

    def load() -> int:
        asked: list[str] = []
        with monkeypatch.context() as patch:
            from safeload.trust.schemes import verify

            def counting(kind: str, *rest: Any) -> Any:
                asked.append(kind)
                return verify(kind, *rest)

            patch.setattr("safeload.signatures.checking.verify", counting)
            forget()
            safeload.load("m/model.pt", policy={"verify": "cached"})
        return len(asked)

    assert [load(), load()] == [1, 0]
    assert len([path for path in (top / "cache/signatures").rglob("*") if path.is_file()]) == 1
    (top / "cache").chmod(0o777)
    assert [load(), load()] == [1, 1]
    (top / "cache").chmod(0o700)
    assert load() == 0
    monkeypatch.setattr("safeload.signatures.result_cache._installed", lambda: [["sigstore", 1, 2, 3]])
    assert [load(), load()] == [1, 0]


def test_verify_signature_lock_trusts_what_was_locked(top: Path) -> None:
    """Bundles are then looked at by `lock` and `verify` only."""
    model = blob(top)
    model.write()
    (top / "model.sigstore.json").unlink()
    safeload.load("m/model.pt", policy={"verify-signature": "lock"})
    with pytest.raises(SignatureError, match="the stored signature cannot be read"):
        safeload.load("m/model.pt")
    assert not safeload.verify("acme/m")


def test_what_an_attestation_states_is_read_although_the_lock_is_believed(signed: Path, tmp_path: Path) -> None:
    """`verify-signature = "lock"` spares verifying, but a demand for provenance asks for words that stand in the bundle only."""
    from tests.forge_lanes import LANES

    top = tmp_path / "slsa"
    top.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        LANES["slsa-rekor1"].make(top)
        policy = {**LANES["slsa-rekor1"].policy, "verify-signature": "lock"}
        safeload.load("m/a.pt", policy=policy)
        forget()
        policy["rule"] = [{"models": "acme/*", "provenance": {"repository": "https://github.com/evil/models"}}]
        with pytest.raises(SignatureError, match=r"provenance is required: expected repository https://github\.com/evil/models, found"):
            safeload.load("m/a.pt", policy=policy)


def test_verify_shows_signatures(top: Path) -> None:
    """`safeload verify` checks afresh, and says who signed."""
    blob(top).write()
    result = safeload.verify("acme/m")
    assert result
    assert [(entry.signer, entry.status, entry.identity, entry.issuer) for entry in result.signatures] == [
        ("release", "verified", IDENTITY, ISSUER)
    ]
    assert "source ref: refs/tags/v1" in result.signatures[0].reasons


def test_a_model_is_named_as_its_directory(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`safeload lock m` calls the model "m", and that is how it is loaded; another directory of that name is not it."""
    model = blob(top)
    model.write()
    lock = read("safeload.lock")
    update("safeload.lock", lambda _: replace(lock, models=tuple(replace(held, name="m") for held in lock.models)))
    assert sorted(safeload.load("m")) == ["bias", "weight"]
    with pytest.raises(IsADirectoryError):
        safeload.load("m", lock=False)
    (top / "below/m").mkdir(parents=True)
    monkeypatch.chdir(top / "below")
    with pytest.raises(IsADirectoryError):
        safeload.load("m")


@pytest.mark.parametrize("make", [blob, oms])
def test_every_way_to_the_tensors_asks_for_the_signature(make: Callable[[Path], SignedModel], top: Path) -> None:
    """Loaded by path, by name, by digest, as bytes; opened, flattened, converted: none goes around it."""

    def ways() -> Iterator[Callable[[], object]]:
        yield lambda: safeload.load("m/model.pt")
        yield lambda: safeload.load("acme/m")
        yield lambda: safeload.load("elsewhere.pt")
        yield lambda: safeload.load(io.BytesIO(Path("m/model.pt").read_bytes()))
        yield lambda: safeload.state_dict("m/model.pt")
        yield lambda: safeload.convert("m/model.pt", "out.safetensors", force=True)
        yield _first_tensor

    shutil.copy("m/model.pt", "elsewhere.pt")
    model = make(top)
    model.write()
    for way in ways():
        way()
    model.change_signer(identity=EVIL)
    model.write()
    Path("out.safetensors").unlink()
    for way in ways():
        with pytest.raises(SignatureError, match="another identity signed"):
            way()
    assert not Path("out.safetensors").exists()


def _first_tensor() -> object:
    with safeload.open("m/model.pt") as opened:
        return opened.get_tensor("weight")
