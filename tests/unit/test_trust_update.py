"""`safeload trust update` against a TUF repository on loopback: what is fetched is verified, what is old or forged is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from securesystemslib.signer._crypto_signer import CryptoSigner

import safeload
from safeload.cli import run
from safeload.errors import SafeloadError, SignatureError, UsageError
from safeload.lockfile import read
from safeload.signatures.result_cache import forget
from safeload.signing import sign
from safeload.trusting import show, update_root
from safeload.trusting.fetching import fetch_root
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore
from tests.forge_signed import make_model, sha256
from tests.forge_tuf import ForgedTuf
from tests.unit.golden_messages import compare_message


@pytest.fixture(scope="module")
def roots() -> tuple[bytes, bytes]:
    """Trusted roots of two instances."""
    with FakeSigstore() as one, FakeSigstore() as two:
        return one.trusted_root.encode(), two.trusted_root.encode()


@pytest.fixture
def tuf(roots: tuple[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForgedTuf]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFELOAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with ForgedTuf(roots[0]) as served:
        Path("bootstrap.json").write_bytes(served.bootstrap)
        yield served


def update(tuf: ForgedTuf) -> tuple[str | None, str]:
    before, now = update_root(url=tuf.url, bootstrap="bootstrap.json")
    return (before.sha256 if before is not None else None), now.sha256


def test_an_update_pins_what_the_repository_serves(tuf: ForgedTuf, roots: tuple[bytes, bytes], tmp_path: Path) -> None:
    """Byte for byte, and nothing is written but the lockfile, keys/ and the cache."""
    before, now = update(tuf)
    place = tmp_path / "keys/default.trusted_root.json"
    assert place.read_bytes() == roots[0]
    assert (before, now) == (None, sha256(place))
    root = read("safeload.lock").trust_roots[0]
    assert (root.name, root.path, root.sha256) == ("default", "keys/default.trusted_root.json", now)
    assert update(tuf) == (now, now)
    tuf.publish(roots[1])
    assert update(tuf) == (now, sha256(place))
    assert place.read_bytes() == roots[1]
    assert not (tmp_path / "home").exists()
    assert [line.split()[0] for line in show().roots[0].holds] == ["certificate", "transparency", "certificate", "timestamp"]


def test_the_command_says_what_changed(tuf: ForgedTuf, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(["trust", "update", "--url", tuf.url, "--bootstrap", "bootstrap.json"]) == 0
    captured = capsys.readouterr()
    assert re.sub(r"[0-9a-f]{64}", "…", captured.out) == (
        "trust root default  keys/default.trusted_root.json\n  nothing became sha256:…\n"
        "trust root default  keys/default.trusted_root.json\n  sha256:… became sha256:…\n"
    )
    assert "review the change like code" in captured.err


def test_show_names_what_a_root_holds_and_what_is_wrong(tuf: ForgedTuf, capsys: pytest.CaptureFixture[str]) -> None:
    update(tuf)
    assert run(["trust", "show", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["outcome"], [root["problem"] for root in shown["trust-roots"]]) == ("allowed", [None])
    assert shown["trust-roots"][0]["holds"][0].startswith("certificate authority http://127.0.0.1")
    Path("keys/default.trusted_root.json").write_text("{}")
    assert run(["trust", "show"]) == 1
    assert "the trust root 'default' is not the pinned one" in capsys.readouterr().out


def test_keys_rotate_through_signed_roots(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    """From the first root, however old, each signs the next."""
    tuf.new_root(rotate="timestamp")
    tuf.new_root(rotate="root")
    tuf.new_root(rotate="targets")
    tuf.publish(roots[1])
    assert update(tuf)[1] == sha256(Path("keys/default.trusted_root.json"))


@pytest.mark.torch
def test_signatures_follow_the_root(tuf: ForgedTuf, tmp_path: Path) -> None:
    """An instance that changes its keys: what the old root vouched for loads with it, what the new one does after an update."""
    make_model(tmp_path / "m")
    with FakeSigstore() as sigstore:
        Path("config.json").write_text(sigstore.trust_config)
        tuf.publish(sigstore.trusted_root.encode())
        sign("m/model.pt", token=sigstore.token(), trust_config="config.json")
    update_root("private", url=tuf.url, bootstrap="bootstrap.json")
    from safeload.trusting import add_signer

    add_signer("release", identity=IDENTITY, issuer=ISSUER, trust_root="keys/private.trusted_root.json")
    safeload.lock("m/model.pt", require=["release"])
    safeload.load("m/model.pt")
    with FakeSigstore() as other:
        tuf.publish(other.trusted_root.encode())
    update_root("release", url=tuf.url, bootstrap="bootstrap.json")
    forget()
    with pytest.raises(SignatureError, match="not issued under the pinned trusted root"):
        safeload.load("m/model.pt")


# ---- what is served wrongly; nothing that is pinned changes


def rollback(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    old = dict(tuf.files)
    tuf.publish(roots[1])
    update(tuf)
    tuf.files = old


def rollback_of_a_part(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    """A new timestamp that vouches for an old snapshot."""
    tuf.publish(roots[1])
    tuf.files[f"{tuf.version}.snapshot.json"] = tuf.files["1.snapshot.json"]


def expired(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.publish(roots[1], days=-1)


def another_key(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.publish(roots[1], keys={"timestamp": CryptoSigner.generate_ecdsa()})


def another_targets_key(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.publish(roots[1], keys={"targets": CryptoSigner.generate_ecdsa()})


def another_target(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.publish(roots[1])
    name = next(name for name, data in tuf.files.items() if data == roots[1])
    tuf.files[name] = roots[1].replace(b"SHA2_256", b"SHA2_257", 1)


def a_long_target(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.publish(b"x" * (5 << 20))


def no_target(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.publish(None)


def no_root_in_it(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.publish(b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", "tlogs": 5}')


def garbage(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.files["timestamp.json"] = b"\x00\xff"


def deep(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.files["timestamp.json"] = b"[" * 15_000


def a_root_that_nobody_signed(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    with ForgedTuf(roots[1]) as other:
        other.new_root()
        tuf.files["2.root.json"] = other.files["2.root.json"]


def gone(tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    tuf.files.clear()


WRONG: dict[str, Callable[[ForgedTuf, tuple[bytes, bytes]], None]] = {
    "rollback": rollback, "rollback_of_a_part": rollback_of_a_part, "expired": expired, "another_key": another_key,
    "another_targets_key": another_targets_key, "another_target": another_target, "a_long_target": a_long_target, "no_target": no_target,
    "no_root_in_it": no_root_in_it, "garbage": garbage, "deep": deep, "a_root_that_nobody_signed": a_root_that_nobody_signed, "gone": gone,
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_served_wrongly_is_refused_and_changes_nothing(what: str, tuf: ForgedTuf, roots: tuple[bytes, bytes]) -> None:
    update(tuf)
    WRONG[what](tuf, roots)
    held = {path: path.read_bytes() for path in (Path("safeload.lock"), Path("keys/default.trusted_root.json"))}
    with pytest.raises(SafeloadError) as caught:
        update(tuf)
    assert {path: path.read_bytes() for path in held} == held
    compare_message(f"trust_update/{what}", caught.value)
    assert run(["trust", "update", "--url", tuf.url, "--bootstrap", "bootstrap.json"]) == 2


def test_what_is_kept_is_not_believed(tuf: ForgedTuf, roots: tuple[bytes, bytes], tmp_path: Path) -> None:
    """sigstore-python reads its cached root as it is; here everything kept is verified again from the bootstrap root."""
    update(tuf)
    with ForgedTuf(roots[1]) as evil:
        evil.publish(roots[1])
        kept = next((tmp_path / "cache/tuf").iterdir())
        for path in kept.rglob("*.json"):
            name = path.name if path.name in evil.files else "1.root.json"
            path.unlink()
            path.write_bytes(evil.files[name])
    assert update(tuf)[1] == sha256(Path("keys/default.trusted_root.json"))
    assert Path("keys/default.trusted_root.json").read_bytes() == roots[0]


def test_an_unreachable_repository_is_an_error(tuf: ForgedTuf) -> None:
    tuf.__exit__()
    try:
        with pytest.raises(SafeloadError, match="the trusted root could not be fetched from http://127"):
            update(tuf)
    finally:
        tuf.__enter__()


def test_where_trust_starts_must_be_said(tuf: ForgedTuf) -> None:
    with pytest.raises(UsageError, match="go together"):
        fetch_root(tuf.url)
    with pytest.raises(UsageError, match="go together"):
        fetch_root(None, "bootstrap.json")
    with pytest.raises(UsageError, match="by https: http://example"):
        fetch_root("http://example.org", "bootstrap.json")
    with pytest.raises(SignatureError, match="the bootstrap root cannot be read"):
        fetch_root(tuf.url, "nowhere.json")
    Path("bootstrap.json").write_text("{}")
    with pytest.raises(SafeloadError, match="could not be fetched"):
        update(tuf)


def test_the_public_instance_starts_from_what_is_carried(tuf: ForgedTuf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bootstrap is part of the package; a server without its keys cannot stand in for it.

    The root that is carried expires one day; then the public instance serves its successors, which this server cannot.
    """
    monkeypatch.setattr("safeload.trusting.fetching.PUBLIC_URL", tuf.url)
    tuf.files = {name: data for name, data in tuf.files.items() if "root" not in name}
    with pytest.raises(SafeloadError, match=r"timestamp was signed by 0/1 keys|Final root\.json is expired"):
        fetch_root()
    with ForgedTuf(b"{}") as evil:
        evil.new_root()
        tuf.files = {f"{version}.root.json": evil.files["2.root.json"] for version in range(2, 30)}
    with pytest.raises(SafeloadError, match="root was signed by 0/"):
        fetch_root()
