"""Signatures of real publishers on the public Sigstore verify offline, against the root that safeload ships.

`./run real` fetches them. What each must say was read off the certificates once, by hand.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest

import safeload
from safeload.lockfile import read
from safeload.signatures.result_cache import forget
from safeload.trusting import add_signer
from tests.real.fetch import real_directory
from tests.real.signed_packages import fetch_signed

GITHUB: Final = "https://token.actions.githubusercontent.com"
STAGING: Final = "_store/https%3A%2F%2Ftuf-repo-cdn.sigstage.dev/trusted_root.json"

pytestmark = [pytest.mark.filterwarnings("ignore::safeload.errors.SafeloadWarning"), pytest.mark.real]


@dataclass(frozen=True, slots=True)
class Signed:
    """One published file, and who signed it."""

    file: str
    endings: tuple[str, ...]
    identity: str
    issuer: str
    says: tuple[str, ...]


SIGNED: Final = (
    Signed(
        "pypi_attestations-0.0.19.tar.gz", (".provenance", ".publish.attestation", ".slsa.attestation"),
        "https://github.com/trailofbits/pypi-attestations/.github/workflows/release.yml@refs/tags/v0.0.19", GITHUB,
        ("source ref: refs/tags/v0.0.19", "states https://slsa.dev/provenance/v1", "ref: refs/tags/v0.0.19"),
    ),
    Signed(
        "pypi_attestation_models-0.0.4a2.tar.gz", (".sigstore", ".attestation"),
        "https://github.com/trailofbits/pypi-attestation-models/.github/workflows/release.yml@refs/tags/v0.0.4a2", GITHUB,
        ("source repository: https://github.com/trailofbits/pypi-attestation-models",),
    ),
    Signed(
        "circleci_sign_publish_example-0.0.1.dev137-py3-none-any.whl", (".provenance", ".publish.attestation"),
        "https://circleci.com/api/v2/projects/fdd9283f-e619-46af-8f9c-851f7d3e8b2b"
        "/pipeline-definitions/8e4f8ab2-8d7c-4827-9f15-de076d6d647f",
        "https://oidc.circleci.com", ("source ref: refs/heads/pypi",),
    ),
    Signed(
        "gitlab_oidc_project-0.0.3.tar.gz", (".publish.attestation",),
        "https://gitlab.com/facutuesca/gitlab-oidc-project//.gitlab-ci.yml@refs/heads/main", "https://gitlab.com",
        ("source ref: refs/heads/main",),
    ),
    Signed(
        "gcb_attestation_test-0.0.0.tar.gz", (".provenance",), "919436158236-compute@developer.gserviceaccount.com",
        "https://accounts.google.com", ("states https://docs.pypi.org/attestations/publish/v1",),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def samples() -> Path:
    return fetch_signed(real_directory(Path(tempfile.gettempdir(), "safeload-real")))


@pytest.fixture
def top(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(samples, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    forget()
    return tmp_path / "w"


def no_network(*_: object) -> None:
    raise AssertionError("verification reached for the network")


@pytest.mark.parametrize("signed", SIGNED, ids=lambda signed: signed.file)
def test_a_published_signature_verifies_offline(signed: Signed, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded on first use, verified afresh, and refused once the file or the pinned identity is another."""
    monkeypatch.setattr(socket.socket, "connect", no_network)
    result = safeload.lock(signed.file, force=True)
    assert {entry.bundle for entry in result.signers} == {signed.file + ending for ending in signed.endings}
    assert {(entry.identity, entry.issuer) for entry in result.signers} == {(signed.identity, signed.issuer)}
    verified = safeload.verify()
    assert verified
    assert set(signed.says) <= {reason for entry in verified.signatures for reason in entry.reasons}

    text = (top / "safeload.lock").read_text()
    (top / "safeload.lock").write_text(text.replace(f'identity = "{signed.identity}"', 'identity = "somebody@example.org"'))
    refused = safeload.verify()
    reasons = [reason for entry in refused.signatures for reason in entry.reasons]
    assert reasons == [f"another identity signed: expected somebody@example.org, found {signed.identity}"] * len(signed.endings)

    (top / "safeload.lock").write_text(text)
    data = (top / signed.file).read_bytes()
    (top / signed.file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    changed = safeload.lock(signed.file, force=True)
    assert {entry.action for entry in changed.signers} == {"vanished", "not verified"}
    assert any("the attestation is about other bytes" in reason for entry in changed.signers for reason in entry.reasons)


def test_another_instance_is_another_root(top: Path) -> None:
    """The sample for rfc8785 was signed on Sigstore's staging instance: the public root refuses it, its own takes it."""
    name = "rfc8785-0.1.2-py3-none-any.whl"
    result = safeload.lock(name, force=True)
    assert {entry.action for entry in result.signers} == {"not verified"}
    (top / "staging.json").write_text(files("sigstore").joinpath(STAGING).read_text())
    (top / "safeload.lock").unlink()
    identity, issuer = "william@yossarian.net", "https://github.com/login/oauth"
    add_signer("staging", identity=identity, issuer=issuer, trust_root="staging.json")
    result = safeload.lock(name, force=True, require=["staging"])
    assert {entry.signer for entry in result.signers} == {"staging"}
    assert [root.path for root in read("safeload.lock").trust_roots] == ["staging.json"]
    assert safeload.verify()
