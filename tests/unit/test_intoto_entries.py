"""Log entries of kind `intoto`: verified as strictly as those that sigstore-python knows, part by part."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safeload.errors import SignatureError
from safeload.signing.keyless import sign_keyless
from safeload.trust.scheme import Anchor, Artifact, Terms
from safeload.trust.schemes import verify
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore
from tests.forge_lanes import REPOSITORY, provenance

DIGEST = "ab" * 32
ARTIFACT = Artifact(path="a.pt", sha256=DIGEST, size=1)
Change = Callable[[dict[str, Any]], object]


class Made:
    """A Sigstore, its root, and one statement that was signed there."""

    def __init__(self, sigstore: FakeSigstore, folder: Path) -> None:
        self.sigstore = sigstore
        (folder / "config.json").write_text(sigstore.trust_config)
        self.anchor = Anchor(kind="sigstore", trusted_root=sigstore.trusted_root.encode(), identity=IDENTITY, issuer=ISSUER)
        payload = provenance(DIGEST, repository=REPOSITORY, ref="refs/tags/v1")
        self.bundle, self.other = (
            sign_keyless(payload, None, token=sigstore.token(), trust_config=folder / "config.json")[0] for _ in range(2)
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with FakeSigstore(tsa=False) as sigstore:
        yield Made(sigstore, tmp_path_factory.mktemp("made"))


def refused(bundle: bytes, anchor: Anchor) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        verify("slsa-provenance", ARTIFACT, bundle, anchor, Terms())
    return caught.value


def test_it_verifies_and_says_what_any_other_says(made: Made) -> None:
    found = verify("slsa-provenance", ARTIFACT, made.sigstore.as_intoto(made.bundle), made.anchor, Terms())
    assert found == verify("slsa-provenance", ARTIFACT, made.bundle, made.anchor, Terms())
    with FakeSigstore() as other:
        stranger = replace(made.anchor, trusted_root=other.trusted_root.encode())
    assert refused(made.sigstore.as_intoto(made.bundle), stranger).check == "chain"


def content(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Change:
    """Change what the entry says: its content, and its one signature."""
    return lambda body: change(body["spec"]["content"], body["spec"]["content"]["envelope"]["signatures"][0])


def again(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


OTHERWISE: dict[str, tuple[Change, str]] = {
    "another statement": (content(lambda held, _: held["payloadHash"].update(value="00" * 32)), "is about another statement: expected"),
    "another hash": (content(lambda held, _: held["payloadHash"].update(algorithm="sha512")), "is about another statement"),
    "no statement": (content(lambda held, _: held.pop("payloadHash")), "payloadHash is not an object"),
    "another type": (content(lambda held, _: held["envelope"].update(payloadType="text/plain")), "is about another type: expected"),
    "another signature": (content(lambda _, signed: signed.update(sig=again(again("x")))), "is about another signature"),
    "a signature that is encoded once": (
        content(lambda _, signed: signed.update(sig=base64.b64decode(signed["sig"]).decode())), "is about another signature",
    ),
    "no signature": (content(lambda held, _: held["envelope"].update(signatures=[])), "has 0 signatures"),
    "two signatures": (content(lambda held, signed: held["envelope"]["signatures"].append(signed)), "has 2 signatures"),
    "no certificate": (content(lambda _, signed: signed.pop("publicKey")), "certificate is not a string"),
    "a key for a certificate": (
        content(lambda _, signed: signed.update(publicKey=again("-----BEGIN PUBLIC KEY-----"))), "is about another certificate",
    ),
    "the version before": (lambda body: body.update(apiVersion="0.0.1"), "of a kind that is not read: intoto 0.0.1"),
    "another kind": (lambda body: body.update(kind="rekord"), "only supported for dsse/hashedrekord"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERWISE)
def test_an_entry_that_says_something_else_is_refused(what: str, made: Made) -> None:
    """The log signed it all the same: an entry proves only what it says."""
    change, message = OTHERWISE[what]
    error = refused(made.sigstore.as_intoto(made.bundle, change), made.anchor)
    assert message in error.message


def test_the_entry_of_another_signature_is_refused(made: Made) -> None:
    """Of the same signer, over the same statement, with another certificate."""
    document, other = json.loads(made.sigstore.as_intoto(made.bundle)), json.loads(made.sigstore.as_intoto(made.other))
    document["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    assert "is about another signature" in refused(json.dumps(document).encode(), made.anchor).message
    logged = other["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
    theirs = json.loads(base64.b64decode(logged))["spec"]["content"]["envelope"]["signatures"][0]["publicKey"]
    bundle = made.sigstore.as_intoto(made.bundle, content(lambda _, signed: signed.update(publicKey=theirs)))
    assert "is about another certificate" in refused(bundle, made.anchor).message


def hint(kind: str, version: str) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update(kindVersion={"kind": kind, "version": version})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (hint("intoto", "0.0.1"), "of a kind that is not read: intoto 0.0.1"), (hint("dsse", "0.0.1"), "invalid DSSE log entry"),
        (hint("hashedrekord", "0.0.1"), "Unsupported DSSE log entry type"),
        (lambda entry: entry.pop("inclusionPromise"), "nothing in the bundle says when it was signed"),
        (lambda entry: entry.pop("inclusionProof"), "inclusionProof: Field required"),
        (lambda entry: entry.update(integratedTime="1"), "not valid when it signed"),
        (lambda entry: entry.update(canonicalizedBody=again("{}")), "does not prove itself"),
        (lambda entry: entry.pop("kindVersion"), "kindVersion: Field required"),
    ],
)  # fmt: skip
def test_the_rest_of_the_entry_counts_as_for_any_other(made: Made, change: Callable[[dict[str, Any]], object], message: str) -> None:
    document = json.loads(made.sigstore.as_intoto(made.bundle))
    change(document["verificationMaterial"]["tlogEntries"][0])
    assert message in refused(json.dumps(document).encode(), made.anchor).message


def test_a_statement_of_anothers_with_a_known_hint_is_not_taken(made: Made) -> None:
    """What an ordinary entry says under the hint of this kind is not read as one of this kind."""
    document = json.loads(made.bundle)
    hint("intoto", "0.0.2")(document["verificationMaterial"]["tlogEntries"][0])
    assert "of a kind that is not read: dsse 0.0.1" in refused(json.dumps(document).encode(), made.anchor).message
    twice = json.loads(made.sigstore.as_intoto(made.bundle))
    twice["verificationMaterial"]["tlogEntries"] *= 2
    assert refused(json.dumps(twice).encode(), made.anchor).check == "log"
