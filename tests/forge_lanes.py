"""Models that are signed and locked, one for each way to sign, with what an attacker would put in their place beside them.

Each lane is made once and copied for each test: `m/` holds two shards, a configuration and signatures, `spare/` what could be
put there instead, and `safeload.lock` requires the signer "release".
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

import safeload
from safeload.signing import sign
from safeload.signing.keyless import sign_keyless
from safeload.signing.with_key import load_private_key, sign_statement
from safeload.trust.model_list import PREDICATE_TYPE
from safeload.trust.provenance import SLSA_V1
from safeload.trust.statement import STATEMENT_TYPE
from safeload.trusting import add_signer, collect_commit
from tests.fake_sigstore import DAY, IDENTITY, ISSUER, FakeSigstore, certificate, new_key
from tests.forge_gpg import OLD, gpg, gpg_home, signed_commit
from tests.forge_signed import sha256, write_keys, write_version
from tests.forge_ssh import committed, line_of, ssh_signature
from tests.forge_ssh import new_key as new_ssh_key

__all__ = ["EVIL", "LANES", "REPOSITORY", "Lane"]

EVIL: Final = "https://github.com/evil/models/.github/workflows/release.yml@refs/tags/v1"
REPOSITORY: Final = "https://github.com/acme/models"
SUBJECT: Final = "CN=signer,O=fake.example"
SHARDS: Final = ("m/a.pt", "m/b.pt")


@dataclass(frozen=True, slots=True)
class Lane:
    """One way to sign.

    Attributes:
        make: Signs and locks in the working directory.
        bundle: The signature of "m/a.pt", or of the model.
        policy: What a load is given.
    """

    make: Callable[[Path], None]
    bundle: str
    policy: dict[str, Any] = field(default_factory=dict)


def _model(top: Path) -> None:
    (top / "m").mkdir()
    (top / "spare").mkdir()
    for number, name in enumerate(SHARDS):
        write_version(top / name, number + 1)
    (top / "m/config.json").write_text("{}", encoding="utf-8")
    write_version(top / "spare/older.pt", 9)


def _lock(top: Path) -> None:
    safeload.lock("m", name="acme/m", complete=True, require=["release"])


def _older_model(top: Path) -> Path:
    """The same model a version ago."""
    shutil.copytree(top / "m", top / "older", ignore=shutil.ignore_patterns("*.sig", "*.json"))
    shutil.copy(top / "spare/older.pt", top / "older/a.pt")
    return top / "older"


# ---- keyless


def _keyless(top: Path, sigstore: FakeSigstore) -> dict[str, Any]:
    _model(top)
    (top / "config.json").write_text(sigstore.trust_config)
    (top / "root.json").write_text(sigstore.trusted_root)
    with FakeSigstore() as other:
        (top / "spare/root.json").write_text(other.trusted_root)
    add_signer("release", identity=IDENTITY, issuer=ISSUER, trust_root="root.json")
    return {"token": sigstore.token(repository="acme/models", ref="refs/tags/v1"), "trust_config": top / "config.json"}


def _spares(sigstore: FakeSigstore, how: dict[str, Any], make: Callable[[str, dict[str, Any]], None]) -> None:
    """The same, signed by others and at other times."""
    make("evil", {**how, "token": sigstore.token(sub=EVIL)})
    sigstore.ahead = 7200.0
    make("expired", how)
    sigstore.ahead = 0.0
    sigstore.eku = ExtendedKeyUsageOID.SERVER_AUTH
    make("eku", how)
    sigstore.eku = ExtendedKeyUsageOID.CODE_SIGNING


def _blob(rekor: int, tsa: bool) -> Callable[[Path], None]:
    def make(top: Path) -> None:
        with FakeSigstore(rekor=rekor, tsa=tsa) as sigstore:
            how = _keyless(top, sigstore)
            for shard in SHARDS:
                sign(shard, **how)
            sign("spare/older.pt", output="spare/older.json", **how)
            _spares(sigstore, how, lambda name, other: _signed("m/a.pt", f"spare/{name}.json", other))
        _lock(top)

    return make


def _oms(rekor: int, tsa: bool) -> Callable[[Path], None]:
    def make(top: Path) -> None:
        with FakeSigstore(rekor=rekor, tsa=tsa) as sigstore:
            how = _keyless(top, sigstore)
            sign("m", **how)
            sign(_older_model(top), output="spare/older.json", **how)
            _spares(sigstore, how, lambda name, other: _signed("m", f"spare/{name}.json", other))
        _lock(top)

    return make


def _signed(target: str, output: str, how: dict[str, Any]) -> None:
    """Sign `target`, whose own signature lies in it already and is left out."""
    if Path(target).is_dir():
        held = Path(target, "model.sig")
        data = held.read_bytes()
        held.unlink()
        sign(target, output=held, **how)
        held.rename(output)
        held.write_bytes(data)
    else:
        sign(target, output=output, **how)


def _slsa(rekor: int, tsa: bool, *, intoto: bool = False) -> Callable[[Path], None]:
    def make(top: Path) -> None:
        with FakeSigstore(rekor=rekor, tsa=tsa) as sigstore:
            how = _keyless(top, sigstore)

            def attest(name: str, other: dict[str, Any], target: str = "m/a.pt", **says: str) -> None:
                payload = provenance(sha256(top / target), **{"repository": REPOSITORY, "ref": "refs/tags/v1", **says})
                made = sign_keyless(payload, None, **other)[0]
                Path(name).write_bytes(sigstore.as_intoto(made) if intoto else made)

            for shard in SHARDS:
                attest(f"{shard}.provenance.json", how, shard)
            attest("spare/older.json", how, "spare/older.pt")
            attest("spare/repository.json", how, repository="https://github.com/evil/models")
            attest("spare/ref.json", how, ref="refs/heads/main")
            _spares(sigstore, how, lambda name, other: attest(f"spare/{name}.json", other))
        _lock(top)

    return make


def provenance(digest: str, repository: str, ref: str) -> bytes:
    """SLSA provenance as GitHub's attestations have it."""
    predicate = {
        "buildDefinition": {"externalParameters": {"workflow": {"repository": repository, "ref": ref}}},
        "runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}},
    }
    subject = {"name": "a.pt", "digest": {"sha256": digest}}
    return json.dumps({"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": SLSA_V1, "predicate": predicate}).encode()


# ---- keys and certificates


def _key(curve: ec.EllipticCurve | None) -> Callable[[Path], None]:
    def make(top: Path) -> None:
        _model(top)
        write_keys(top, "k", curve)
        write_keys(top / "spare", "k", curve)
        add_signer("release", public_key="k.pub")
        for shard in SHARDS:
            sign(shard, key="k.pem")
        sign("spare/older.pt", key="k.pem", output="spare/older.json")
        sign("m/a.pt", key="spare/k.pem", output="spare/evil.json")
        _lock(top)

    return make


def _shards(top: Path) -> None:
    """A model signature over pieces of files, and of another digest, which cannot do without the bytes."""
    _model(top)
    write_keys(top, "k", ec.SECP384R1())
    add_signer("release", public_key="k.pub")
    key = load_private_key((top / "k.pem").read_bytes(), None)
    (top / "m/model.sig").write_bytes(sign_statement(key, sharded(top / "m", 300)))
    (top / "spare/older.json").write_bytes(sign_statement(key, sharded(_older_model(top), 300)))
    _lock(top)


def sharded(folder: Path, size: int) -> bytes:
    """What model-signing signs of a directory that is cut into shards, hashed with BLAKE2b."""
    resources = []
    for name in sorted(path.name for path in folder.iterdir()):
        data = (folder / name).read_bytes()
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            digest = hashlib.blake2b(piece).hexdigest()
            resources.append({"name": f"{name}:{at}:{at + len(piece)}", "algorithm": "blake2b", "digest": digest})
    how = {"method": "shards", "hash_type": "blake2b", "shard_size": size, "allow_symlinks": False, "ignore_paths": ["model.sig"]}
    root = hashlib.sha256(b"".join(bytes.fromhex(entry["digest"]) for entry in resources)).hexdigest()
    subject = {"name": folder.name, "digest": {"sha256": root}}
    predicate = {"serialization": how, "resources": resources}
    return json.dumps({"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": PREDICATE_TYPE, "predicate": predicate}).encode()


def _x509(top: Path) -> None:
    _model(top)
    root_key, middle_key, key, evil_key = (new_key() for _ in range(4))
    root = certificate("acme root", root_key, ca=True, days=3650)
    middle = certificate("acme issuing", middle_key, root, root_key, ca=True, days=3000)
    code, tls = ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH
    later = dt.datetime.now(dt.UTC) + 2 * DAY

    def chain(name: str, leaf: x509.Certificate) -> dict[str, Any]:
        (top / name).write_bytes(leaf.public_bytes(Encoding.PEM) + middle.public_bytes(Encoding.PEM))
        return {"key": "k.pem", "certificate": name}

    for name, data in (("root.pem", root), ("spare/root.pem", certificate("acme root", evil_key, ca=True, days=3650))):
        (top / name).write_bytes(data.public_bytes(Encoding.PEM))
    (top / "k.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    how = chain("chain.pem", certificate("signer", key, middle, middle_key, eku=code))
    sign("m", **how)
    sign(_older_model(top), output="spare/older.json", **how)
    for name, leaf in {
        "expired": certificate("signer", key, middle, middle_key, eku=code, days=0.5),
        "future": certificate("signer", key, middle, middle_key, eku=code, start=later),
        "eku": certificate("signer", key, middle, middle_key, eku=tls),
        "purpose": certificate("signer", key, middle, middle_key),
        "evil": certificate("mallory", key, middle, middle_key, eku=code),
    }.items():
        _signed("m", f"spare/{name}.json", chain("spare/chain.pem", leaf))
    add_signer("release", x509="root.pem", subject=SUBJECT)
    _lock(top)


# ---- OpenPGP


def _openpgp_keys(top: Path) -> Path:
    import pysequoia

    home = gpg_home()
    for who in ("now", "old", "weak"):
        (top / f"spare/{who}.pgp").write_bytes(gpg(home, "--export", f"{who}@example.org"))
    shutil.copy(top / "spare/now.pgp", top / "release.pgp")
    tsk = pysequoia.Tsk.generate("Mallory <mallory@example.org>")
    (top / "spare/evil.pgp").write_bytes(bytes(tsk.extract_certificate()))
    return home


def _detached(home: Path, who: str, data: bytes, *options: str) -> bytes:
    return gpg(home, *options, "-u", f"{who}@example.org", "--armor", "--detach-sign", data=data)


def _openpgp(top: Path) -> None:
    _model(top)
    home = _openpgp_keys(top)
    add_signer("release", openpgp="release.pgp")
    for shard in SHARDS:
        (top / f"{shard}.asc").write_bytes(_detached(home, "now", (top / shard).read_bytes()))
    data = (top / "m/a.pt").read_bytes()
    (top / "spare/older.json").write_bytes(_detached(home, "now", (top / "spare/older.pt").read_bytes()))
    (top / "spare/sha1.asc").write_bytes(_detached(home, "now", data, "--digest-algo", "SHA1"))
    (top / "spare/old.asc").write_bytes(_detached(home, "old", data, "--faked-system-time", OLD))
    (top / "spare/weak.asc").write_bytes(_detached(home, "weak", data))
    _lock(top)


def _sums(*, clear: bool) -> Callable[[Path], None]:
    def make(top: Path) -> None:
        _model(top)
        home = _openpgp_keys(top)
        add_signer("release", openpgp="release.pgp")
        names = ("a.pt", "b.pt", "config.json")
        listed = "".join(f"{sha256(top / 'm' / name)}  {name}\n" for name in names).encode()
        older = f"{sha256(top / 'spare/older.pt')}  a.pt\n".encode() + listed.split(b"\n", 1)[1]
        for place, text in (("m/SHA256SUMS", listed), ("spare/older", older)):
            if clear:
                (top / f"{place}.asc").write_bytes(gpg(home, "-u", "now@example.org", "--clear-sign", data=text))
            else:
                (top / place).write_bytes(text)
                (top / f"{place}.asc").write_bytes(_detached(home, "now", text))
        shutil.copy(top / "spare/older.asc", top / "spare/older.json")
        how = ["--digest-algo", "SHA1", "-u", "now@example.org", "--armor", "--clear-sign" if clear else "--detach-sign"]
        (top / "spare/sha1.asc").write_bytes(gpg(home, *how, data=listed))
        _lock(top)

    return make


def _commit(top: Path) -> None:
    _model(top)
    home = _openpgp_keys(top)
    for name, who, shard in (("older", "now", "spare/older.pt"), ("good", "now", "m/a.pt"), ("weak", "weak", "m/a.pt")):
        repository = top / f"repository-{name}"
        repository.mkdir()
        for path, held in (("a.pt", shard), ("b.pt", "m/b.pt")):
            data = (top / held).read_bytes()
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(top / held)}\nsize {len(data)}\n"
            (repository / path).write_text(pointer)
        signed_commit(repository, home, f"{who}@example.org", "release")
        place = "m/git-commit.json" if name == "good" else f"spare/{name}.json"
        (top / place).write_bytes(collect_commit(repository)[1])
        shutil.rmtree(repository)
    document = json.loads((top / "m/git-commit.json").read_text())
    older = json.loads((top / "spare/older.json").read_text())
    (top / "spare/tree.json").write_text(json.dumps({**document, "objects": older["objects"]}))
    commit = base64.b64decode(document["commit"])
    bare = commit[: commit.index(b"\ngpgsig ")] + commit[commit.index(b"\n\n") :]
    (top / "spare/unsigned.json").write_text(json.dumps({**document, "commit": base64.b64encode(bare).decode()}))
    add_signer("release", openpgp="release.pgp")
    _lock(top)


def _ssh(top: Path) -> None:
    """Files that git keeps itself, in a commit that an SSH key signed."""
    _model(top)
    key, other = new_ssh_key("ed25519"), new_ssh_key("ed25519")
    (top / "k.pub").write_bytes(line_of(key))
    files = {name: (top / "m" / name).read_bytes() for name in ("a.pt", "b.pt", "config.json")}
    older = {**files, "a.pt": (top / "spare/older.pt").read_bytes()}

    def keep(place: str, signer: Any, held: dict[str, bytes]) -> dict[str, Any]:
        document = committed(lambda payload: ssh_signature(signer, payload), held)[0]
        (top / place).write_text(json.dumps(document))
        return document

    good, before = keep("m/git-commit.json", key, files), keep("spare/older.json", key, older)
    keep("spare/evil.json", other, files)
    (top / "spare/tree.json").write_text(json.dumps({**good, "objects": before["objects"]}))
    add_signer("release", public_key="k.pub")
    _lock(top)


_PROVENANCE: Final = {"rule": [{"models": "acme/*", "provenance": {"repository": REPOSITORY, "ref": "refs/tags/*"}}]}
_BLOB, _MODEL = "m/a.pt.sigstore.json", "m/model.sig"

LANES: Final[dict[str, Lane]] = {
    "blob-rekor1": Lane(_blob(1, tsa=False), _BLOB),
    "blob-rekor1-tsa": Lane(_blob(1, tsa=True), _BLOB),
    "blob-rekor2-tsa": Lane(_blob(2, tsa=True), _BLOB),
    "oms-rekor1": Lane(_oms(1, tsa=False), _MODEL),
    "oms-rekor1-tsa": Lane(_oms(1, tsa=True), _MODEL),
    "oms-rekor2-tsa": Lane(_oms(2, tsa=True), _MODEL),
    "slsa-rekor1": Lane(_slsa(1, tsa=False), "m/a.pt.provenance.json", _PROVENANCE),
    "slsa-intoto-rekor1": Lane(_slsa(1, tsa=False, intoto=True), "m/a.pt.provenance.json", _PROVENANCE),
    "slsa-rekor2-tsa": Lane(_slsa(2, tsa=True), "m/a.pt.provenance.json", _PROVENANCE),
    "key-p256": Lane(_key(ec.SECP256R1()), _BLOB),
    "key-ed25519": Lane(_key(None), _BLOB),
    "shards": Lane(_shards, _MODEL),
    "x509": Lane(_x509, _MODEL),
    "openpgp": Lane(_openpgp, "m/a.pt.asc"),
    "openpgp-sums": Lane(_sums(clear=False), "m/SHA256SUMS.asc"),
    "openpgp-sums-clear": Lane(_sums(clear=True), "m/SHA256SUMS.asc"),
    "git-commit": Lane(_commit, "m/git-commit.json"),
    "ssh-commit": Lane(_ssh, "m/git-commit.json"),
}
