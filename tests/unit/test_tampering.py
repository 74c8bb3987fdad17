"""sign → lock → load, then every tampering alone: each is refused where the model is loaded, each with its own words.

Whoever tampers may have changed files alone, or the lockfile's digests with them (`relock`). `UPDATE_GOLDEN=1` writes the
messages below tests/golden/messages/tampering anew: read the diff.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

import safeload
from safeload.errors import PinError, SafeloadError, SignatureError
from safeload.lockfile import LockedFile, Lockfile, Model, read, update
from safeload.signatures.result_cache import forget
from tests.fake_sigstore import FakeSigstore
from tests.forge_lanes import EVIL, LANES, Lane
from tests.forge_signed import relock, write_version
from tests.unit.golden_messages import compare_message

pytest.importorskip("pysequoia")
pytestmark = pytest.mark.torch

LOCK: Final = Path("safeload.lock")
Tamper = Callable[[Lane], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make each lane once."""
    held: dict[str, Path] = {}

    def lane(name: str) -> Path:
        if name not in held:
            top = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(top)
                LANES[name].make(top)
            held[name] = top
        return held[name]

    return lane


@pytest.fixture
def enter(made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Lane]:
    """Stand in a fresh copy of a lane, with no network and nothing remembered."""

    def lane(name: str) -> Lane:
        shutil.copytree(made(name), tmp_path / "w", symlinks=True)
        monkeypatch.chdir(tmp_path / "w")
        monkeypatch.setattr(socket.socket, "connect", _no_network)
        forget()
        return LANES[name]

    return lane


def _no_network(*_: object) -> None:
    raise AssertionError("a load reached for the network")


def load(lane: Lane, path: str = "m/a.pt") -> Any:
    return safeload.load(path, policy=lane.policy or None)


def change_model(change: Callable[[Model], Model]) -> None:
    update(LOCK, lambda lock: replace(lock, models=tuple(map(change, lock.models))))


def change_signer(**values: str) -> None:
    def change(lock: Lockfile) -> Lockfile:
        return replace(lock, signers=tuple(replace(signer, **values) for signer in lock.signers))  # type: ignore[arg-type]

    update(LOCK, change)


def spare(name: str) -> Tamper:
    """Put another signature in the place of the stored one, and its digest into the lock."""

    def tamper(lane: Lane) -> None:
        shutil.copy(f"spare/{name}", lane.bundle)
        if Path(f"spare/{name}").suffix == ".json" and Path("spare/older").exists():
            shutil.copy("spare/older", "m/SHA256SUMS")
        relock(LOCK)

    return tamper


# ---- what anybody can do to any of them


def the_bytes(lane: Lane) -> None:
    write_version(Path("m/a.pt"), 7)


def bytes_and_lock(lane: Lane) -> None:
    write_version(Path("m/a.pt"), 7)
    relock(LOCK)


def the_bundle(lane: Lane) -> None:
    Path(lane.bundle).write_bytes(Path(lane.bundle).read_bytes() + b"\n")


def the_bundle_gone(lane: Lane) -> None:
    Path(lane.bundle).unlink()


def bundle_empty(lane: Lane) -> None:
    Path(lane.bundle).write_bytes(b"")
    relock(LOCK)


def bundle_and_lock(lane: Lane) -> None:
    """One byte of the signature itself."""
    place = Path(lane.bundle)
    raw = place.read_bytes()
    if raw.lstrip().startswith(b"-----"):
        lines = raw.split(b"\n")
        at = lines.index(b"-----BEGIN PGP SIGNATURE-----") + 3
        lines[at] = lines[at][:-1] + (b"A" if lines[at][-1:] != b"A" else b"B")
        place.write_bytes(b"\n".join(lines))
    else:
        document = json.loads(raw)
        if "commit" in document:
            commit = base64.b64decode(document["commit"])
            document["commit"] = base64.b64encode(commit.replace(b"release", b"relaese")).decode()
        else:
            holder = document.get("messageSignature") or document["dsseEnvelope"]["signatures"][0]
            key = "signature" if "signature" in holder else "sig"
            signature = bytearray(base64.b64decode(holder[key]))
            signature[-1] ^= 1
            holder[key] = base64.b64encode(bytes(signature)).decode()
        place.write_text(json.dumps(document))
    relock(LOCK)


def signature_removed(lane: Lane) -> None:
    change_model(lambda model: replace(model, signatures=()))


def signature_and_demand_removed(lane: Lane) -> None:
    """Then policy has to insist."""
    change_model(lambda model: replace(model, signatures=(), require=None))


def extra_file(lane: Lane) -> None:
    Path("m/extra.pt").write_bytes(b"x")


def hidden_file(lane: Lane) -> None:
    Path("m/.github").mkdir()
    Path("m/.github/evil.pkl").write_bytes(b"x")


def link(lane: Lane) -> None:
    Path("m/c.pt").symlink_to("a.pt")


def link_to_directory(lane: Lane) -> None:
    Path("m/sub").symlink_to("../spare")


def shards_swapped(lane: Lane) -> None:
    Path("m/a.pt").rename("m/c.pt")
    Path("m/b.pt").rename("m/a.pt")
    Path("m/c.pt").rename("m/b.pt")


def shards_and_lock_swapped(lane: Lane) -> None:
    shards_swapped(lane)
    relock(LOCK)


def replayed_bundle(lane: Lane) -> None:
    """The same signer's signature over an older version."""
    spare("older.json")(lane)


def bundle_of_the_other_shard(lane: Lane) -> None:
    shutil.copy(lane.bundle.replace("a.pt", "b.pt"), lane.bundle)
    relock(LOCK)


FILES: Final[dict[str, Tamper]] = {
    "bytes": the_bytes, "bundle": the_bundle, "bundle_gone": the_bundle_gone, "bundle_empty": bundle_empty,
    "signature_removed": signature_removed, "signature_and_demand_removed": signature_and_demand_removed, "extra_file": extra_file,
    "hidden_file": hidden_file, "link": link, "link_to_directory": link_to_directory, "shards_swapped": shards_swapped,
}  # fmt: skip
SIGNED: Final[dict[str, Tamper]] = {
    "bytes_and_lock": bytes_and_lock, "bundle_and_lock": bundle_and_lock, "replayed_bundle": replayed_bundle,
}  # fmt: skip

# A signature that binds bytes and no names cannot tell that two files that the same signer signed were swapped: the lock does.
NAMES_BOUND: Final = ("oms", "shards", "x509", "openpgp-sums", "git-commit", "ssh-commit")


OF_THE_INSTANCE: Final = ("bundle_and_lock", "root_and_lock")
"""Which of a bundle's parts is looked at first, and so named, hangs on what the instance put into it."""


# ---- what can be done to some


def other_identity(lane: Lane) -> None:
    change_signer(identity=EVIL)


def other_issuer(lane: Lane) -> None:
    change_signer(issuer="https://evil.example")


def root_file(lane: Lane) -> None:
    shutil.copy("spare/root.json", "root.json")


def root_and_lock(lane: Lane) -> None:
    shutil.copy("spare/root.json", "root.json")
    relock(LOCK)


def root_is_none(lane: Lane) -> None:
    Path("root.json").write_text("{}")
    relock(LOCK)


def not_logged(lane: Lane) -> None:
    _edit_material(lane, lambda material: material.update(tlogEntries=[]))


def no_time(lane: Lane) -> None:
    """Without a time stamp nothing says when it was signed; Rekor v2's entries have no time."""
    _edit_material(lane, lambda material: material.pop("timestampVerificationData"))


def log_forged(lane: Lane) -> None:
    def forge(material: dict[str, Any]) -> None:
        proof = material["tlogEntries"][0]["inclusionProof"]
        proof["rootHash"] = base64.b64encode(bytes(32)).decode()

    _edit_material(lane, forge)


def _edit_material(lane: Lane, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(Path(lane.bundle).read_text())
    edit(document["verificationMaterial"])
    Path(lane.bundle).write_text(json.dumps(document))
    relock(LOCK)


KEYLESS: Final[dict[str, Tamper]] = {
    "other_identity": other_identity, "other_issuer": other_issuer, "signed_by_another": spare("evil.json"), "root": root_file,
    "root_and_lock": root_and_lock, "root_is_none": root_is_none, "certificate_expired": spare("expired.json"),
    "wrong_eku": spare("eku.json"), "not_logged": not_logged, "log_forged": log_forged,
}  # fmt: skip


def key_and_lock(lane: Lane) -> None:
    """Another's key under the signer's name; the signature is still the old one."""
    shutil.copy("spare/k.pub", "k.pub")
    relock(LOCK)


def key_file(lane: Lane) -> None:
    shutil.copy("spare/k.pub", "k.pub")


def subject(lane: Lane) -> None:
    change_signer(subject="CN=boss")


def authority(lane: Lane) -> None:
    shutil.copy("spare/root.pem", "root.pem")
    relock(LOCK)


def authority_file(lane: Lane) -> None:
    shutil.copy("spare/root.pem", "root.pem")


def openpgp_key(who: str) -> Tamper:
    """Pin another's certificate, and store their signature; the lockfile is edited to match, fingerprint included."""

    def tamper(lane: Lane) -> None:
        import pysequoia

        shutil.copy(f"spare/{who}.pgp", "release.pgp")
        shutil.copy(f"spare/{who}.asc", lane.bundle)
        change_signer(fingerprint=str(pysequoia.Cert.from_bytes(Path("release.pgp").read_bytes()).fingerprint).lower())
        relock(LOCK)

    return tamper


def revoked(lane: Lane) -> None:
    """The pinned certificate, with a revocation that its owner made."""
    import pysequoia

    from tests.forge_gpg import gpg, gpg_home

    home = gpg_home()
    revocation = (home / "openpgp-revocs.d" / f"{_fingerprint('spare/now.pgp').upper()}.rev").read_text()
    # gpg puts a colon before the block, so that nobody revokes by mistake
    armored = revocation[revocation.index(":-----BEGIN") + 1 :].encode()
    data = Path("spare/now.pgp").read_bytes() + gpg(home, "--dearmor", data=armored)
    Path("release.pgp").write_bytes(data)
    assert pysequoia.Cert.from_bytes(data).is_revoked
    relock(LOCK)


def _fingerprint(path: str) -> str:
    import pysequoia

    return str(pysequoia.Cert.from_bytes(Path(path).read_bytes()).fingerprint)


def certificate_swapped(lane: Lane) -> None:
    """Another certificate under the pinned fingerprint."""
    shutil.copy("spare/evil.pgp", "release.pgp")
    relock(LOCK)


def list_and_lock(lane: Lane) -> None:
    """Another list beside the old signature."""
    place = Path("m/SHA256SUMS")
    place.write_bytes(place.read_bytes().replace(b"config.json", b"conf1g.json"))
    relock(LOCK)


def unsigned_and_locked(lane: Lane) -> None:
    """A file that nobody signed, locked by an editor of the lock."""
    Path("m/modeling.py").write_text("print()")
    added = LockedFile(path="m/modeling.py", size=0, sha256="0" * 64)
    change_model(lambda model: replace(model, files=(*model.files, added)))
    relock(LOCK)


def signed_and_not_locked(lane: Lane) -> None:
    """A file that was signed is gone, from the lock as well."""
    Path("m/config.json").unlink()
    change_model(lambda model: replace(model, files=tuple(file for file in model.files if file.path != "m/config.json")))


def of(lanes: str, tamperings: dict[str, Tamper]) -> list[tuple[str, str, Tamper]]:
    names = [lane for lane in LANES if any(lane.startswith(start) for start in lanes.split())]
    return [(lane, name, tamper) for lane in names for name, tamper in tamperings.items()]


BOUND: Final[dict[str, Tamper]] = {"shards_and_lock_swapped": shards_and_lock_swapped}
CASES: Final = [
    # What no signature is asked about is the same whatever instance signed.
    *of("blob-rekor1-tsa oms-rekor2 slsa-rekor1 key x509 openpgp git-commit", FILES),
    *of("blob oms shards slsa key x509 openpgp git-commit ssh-commit", SIGNED),
    *of("blob oms slsa", KEYLESS),
    *of("blob-rekor2 oms-rekor2 slsa-rekor2", {"no_time": no_time}),
    *of("blob slsa key", {"bundle_of_the_other_shard": bundle_of_the_other_shard}),
    *of(" ".join(NAMES_BOUND), BOUND),
    *of("oms shards x509 openpgp-sums", {"unsigned_and_locked": unsigned_and_locked}),
    *of("oms shards x509", {"signed_and_not_locked": signed_and_not_locked}),
    *of("slsa", {"other_repository": spare("repository.json"), "other_ref": spare("ref.json")}),
    *of("key", {"key": key_file, "key_and_lock": key_and_lock, "signed_by_another": spare("evil.json")}),
    *of("x509", {
        "certificate_expired": spare("expired.json"), "certificate_of_tomorrow": spare("future.json"), "wrong_eku": spare("eku.json"),
        "signed_by_another": spare("evil.json"), "subject": subject, "authority": authority_file, "authority_and_lock": authority,
    }),
    *of("openpgp git-commit", {"revoked": revoked, "certificate_swapped": certificate_swapped}),
    *of("ssh-commit", {"signed_by_another": spare("evil.json"), "other_tree": spare("tree.json")}),
    *of("git-commit", {"unsigned": spare("unsigned.json"), "other_tree": spare("tree.json"), "signed_by_another": spare("weak.json")}),
]  # fmt: skip
OPENPGP: Final = [
    ("openpgp", "key_expired", openpgp_key("old")), ("openpgp", "key_weak", openpgp_key("weak")), ("openpgp", "sha1", spare("sha1.asc")),
    ("openpgp", "signed_by_another", spare("weak.asc")), ("openpgp-sums", "list_and_lock", list_and_lock),
    ("openpgp-sums", "sha1", spare("sha1.asc")), ("openpgp-sums-clear", "sha1", spare("sha1.asc")),
]  # fmt: skip


@pytest.mark.parametrize("name", LANES)
def test_what_is_signed_and_locked_loads(name: str, enter: Callable[[str], Lane], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no network and no home; and `verify` finds every signature good."""
    lane = enter(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in ("m/a.pt", "m/b.pt"):
        assert sorted(load(lane, path)) == ["bias", "weight"]
    assert list((tmp_path / "home").iterdir()) == []
    result = safeload.verify(policy=lane.policy or None)
    assert result
    assert {entry.status for entry in result.signatures} == {"verified"}


@pytest.mark.parametrize(("name", "what", "tamper"), [*CASES, *OPENPGP], ids=lambda value: value if isinstance(value, str) else "")
def test_each_tampering_is_refused_in_its_own_words(name: str, what: str, tamper: Tamper, enter: Callable[[str], Lane]) -> None:
    lane = enter(name)
    if what == "signature_and_demand_removed":
        lane = replace(lane, policy={"rule": [{"models": "acme/*", "signers": {"all": ["release"]}}]})
    load(replace(lane, policy={**lane.policy, "verify": "cached"}))
    load(lane)
    tamper(lane)
    scheme, _, instance = name.partition("-rekor")
    kind = f"-rekor{instance}" if what in OF_THE_INSTANCE and instance else ""
    # What was verified before is remembered, in the process and on the disk, and must not speak for what was made of it.
    for believed in ({}, {"verify": "cached"}, None):
        if believed is None:
            forget()
        with pytest.raises(SafeloadError) as caught:
            load(replace(lane, policy={**lane.policy, **(believed or {})}))
        assert isinstance(caught.value, (SignatureError, PinError))
        compare_message(f"tampering/{scheme}/{what}{kind}", caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not safeload.verify(policy=lane.policy or None), "what does not load does not verify"


def test_swapped_shards_of_signatures_without_names_load(enter: Callable[[str], Lane]) -> None:
    """What docs/signing.md says of them: such a signature binds bytes to a signer, and only the lock binds them to a name."""
    lane = enter("blob-rekor1")
    shards_swapped(lane)
    Path("m/a.pt.sigstore.json").rename("m/c")
    Path("m/b.pt.sigstore.json").rename("m/a.pt.sigstore.json")
    Path("m/c").rename("m/b.pt.sigstore.json")
    with pytest.raises(PinError):
        load(lane)
    relock(LOCK)
    load(lane)


@pytest.mark.parametrize("name", ["openpgp", "shards"])
def test_what_was_verified_of_other_bytes_is_not_remembered_for_these(name: str, enter: Callable[[str], Lane]) -> None:
    """`safeload.open` checks a signature before all bytes are: the signed file lies there then, and the one that is pinned later."""
    enter(name)
    signed = Path("m/a.pt").read_bytes()
    write_version(Path("m/a.pt"), 7)
    unsigned = Path("m/a.pt").read_bytes()
    assert len(signed) == len(unsigned)
    relock(LOCK)
    for policy in ({"verify": "always"}, {"verify": "cached"}):
        for kept in (False, True):
            Path("m/a.pt").write_bytes(signed)
            with pytest.raises(SignatureError) as caught, safeload.open("m/a.pt", policy=policy):
                pass
            compare_message(f"tampering/{name}/signed_and_not_pinned", caught.value)
            Path("m/a.pt").write_bytes(unsigned)
            with pytest.raises(SignatureError, match="release are required; verified: none"):
                safeload.load("m/a.pt", policy=policy)
            if not kept:
                with pytest.raises(SignatureError), safeload.open("m/a.pt", policy=policy):
                    pass


def test_a_large_file_is_looked_at_by_name(enter: Callable[[str], Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large for a copy is verified through the open descriptor, and must be the pinned bytes, too."""
    monkeypatch.setattr("safeload.signatures.material._COPIED", 0)
    enter("openpgp")
    safeload.load("m/a.pt")
    forget()
    with safeload.open("m/a.pt") as opened:
        assert list(opened.keys()) == ["weight", "bias"]
    forget()
    signed = Path("m/a.pt").read_bytes()
    write_version(Path("m/a.pt"), 7)
    relock(LOCK)
    Path("m/a.pt").write_bytes(signed)
    with pytest.raises(SignatureError, match="the bytes at hand are not the pinned ones"), safeload.open("m/a.pt"):
        pass


def test_a_file_that_changes_while_it_is_checked_is_refused(enter: Callable[[str], Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenPGP cannot be given a digest: it reads a large file once more, and must have read the same."""
    monkeypatch.setattr("safeload.signatures.material._COPIED", 0)
    lane = enter("openpgp")
    from safeload.trust.schemes import verify

    def meanwhile(*arguments: Any) -> Any:
        found = verify(*arguments)
        with Path("m/a.pt").open("r+b") as file:
            file.write(b"PK")
        return found

    monkeypatch.setattr("safeload.signatures.checking.verify", meanwhile)
    with pytest.raises(SignatureError) as caught:
        load(lane)
    compare_message("tampering/openpgp/changed_meanwhile", caught.value)


def test_rekor_v2_needs_a_timestamp_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entries have no time of their own, so without one nothing says that the certificate was valid."""
    from safeload.signing import sign
    from safeload.trusting import add_signer
    from tests.fake_sigstore import IDENTITY, ISSUER

    monkeypatch.chdir(tmp_path)
    write_version(tmp_path / "a.pt", 1)
    with FakeSigstore(rekor=2, tsa=False) as sigstore:
        Path("config.json").write_text(sigstore.trust_config)
        Path("root.json").write_text(sigstore.trusted_root)
        try:
            sign("a.pt", token=sigstore.token(), trust_config="config.json")
        except SafeloadError as error:
            compare_message("tampering/rekor2_without_tsa", error)
            return
    add_signer("release", identity=IDENTITY, issuer=ISSUER, trust_root="root.json")
    result = safeload.lock("a.pt")
    assert {entry.action for entry in result.signers} == {"not verified"}
    compare_message("tampering/rekor2_without_tsa", SignatureError("\n".join(result.signers[0].reasons)))


def test_another_purpose_is_not_made_right_by_the_lock(enter: Callable[[str], Lane]) -> None:
    """An editor of the lock says that a web server's certificate is meant; policy, where it describes the signer, means signing."""
    lane = enter("x509")
    spare("eku.json")(lane)
    change_signer(eku="1.3.6.1.5.5.7.3.1")
    load(lane)
    digest = read(LOCK).signers[0].certificate_sha256
    policy = {"signer": {"release": {"subject": "CN=signer,O=fake.example", "certificate-sha256": digest}}}
    with pytest.raises(SignatureError) as caught:
        safeload.load("m/a.pt", policy=policy)
    compare_message("tampering/x509/eku_in_lock", caught.value)


def test_a_purpose_that_policy_names_must_stand_in_the_certificate(enter: Callable[[str], Lane]) -> None:
    """The lockfile names none, and the certificate names none either: enough for the lockfile, and not for such a policy."""
    lane = enter("x509")
    spare("purpose.json")(lane)
    digest = read(LOCK).signers[0].certificate_sha256
    load(lane)
    with pytest.raises(SignatureError) as caught:
        safeload.load("m/a.pt", policy={"signer": {"release": {"eku": "1.3.6.1.5.5.7.3.3", "certificate-sha256": digest}}})
    compare_message("tampering/x509/no_purpose", caught.value)


def test_a_signer_of_another_kind_is_refused(enter: Callable[[str], Lane]) -> None:
    """An editor of the lock who has no Sigstore identity puts a key of theirs under the name; policy says what it must be."""
    lane = enter("key-p256")
    load(lane)
    policy = {"signer": {"release": {"kind": "sigstore"}}}
    with pytest.raises(SignatureError) as caught:
        safeload.load("m/a.pt", policy=policy)
    compare_message("tampering/kind_of_signer", caught.value)
