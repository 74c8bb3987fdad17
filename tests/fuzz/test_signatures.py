"""Mutated signatures: none is accepted for what it does not sign, and nothing but our own error comes out.

SAFELOAD_FUZZ=20000 for a long session; a few hundred otherwise.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from safeload.errors import SignatureError
from safeload.signing import sign
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified
from safeload.trust.schemes import verify
from tests.fake_sigstore import IDENTITY, ISSUER, FakeSigstore
from tests.forge_signed import make_model, sha256, write_keys

COUNT: Final = int(os.environ.get("SAFELOAD_FUZZ") or 400)
WORDS: Final[tuple[Any, ...]] = (None, True, 0, -1, 1 << 70, 1.5, "", "x", "A" * 50, [], {}, [[]], {"x": []},
                                "\x00", "é", "2020-01-01T00:00:00Z")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    artifact: Artifact
    bundle: bytes
    anchor: Anchor


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    top = tmp_path_factory.mktemp("fuzz")
    make_model(top / "m")
    path = top / "m/model.pt"
    files = {f"m/{item.name}": sha256(item) for item in (top / "m").iterdir()}
    artifact = Artifact(path="m/model.pt", sha256=sha256(path), size=path.stat().st_size, files=files, bases=("m",))
    found = []
    for rekor in (1, 2):
        with FakeSigstore(rekor=rekor) as sigstore:
            config = top / "config.json"
            config.write_text(sigstore.trust_config)
            anchor = Anchor(kind="sigstore", trusted_root=sigstore.trusted_root.encode(), issuer=ISSUER, identity=IDENTITY)
            for kind, target in (("sigstore-blob", path), ("oms", top / "m")):
                made = sign(target, token=sigstore.token(), trust_config=config, output=top / f"{kind}{rekor}.json")
                found.append(Case(kind, artifact, made.output.read_bytes(), anchor))
    write_keys(top, "k", ec.SECP256R1())
    key = Anchor(kind="key", public_key=(top / "k.pub").read_bytes())
    for kind, target in (("sigstore-blob", path), ("oms", top / "m")):
        found.append(Case(kind, artifact, sign(target, key=top / "k.pem", output=top / f"{kind}k.json").output.read_bytes(), key))
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Change bytes of the text, values of the document, or bytes inside a base64 value."""
    how = rng.randrange(4)
    if how == 0:
        raw = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        return bytes(raw)
    if how == 1:
        return data[: rng.randrange(len(data))]
    document = json.loads(data)
    path = rng.choice(places(document))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    value = holder[path[-1]]
    if how == 2 and isinstance(value, str):
        holder[path[-1]] = _inside(rng, value)
    elif rng.random() < 0.3 and isinstance(holder, dict):
        del holder[path[-1]]
    else:
        holder[path[-1]] = rng.choice(WORDS)
    return json.dumps(document).encode()


def _inside(rng: random.Random, value: str) -> str:
    try:
        raw = bytearray(base64.b64decode(value, validate=True))
    except ValueError:
        return value[::-1]
    if not raw:
        return "AAAA"
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return base64.b64encode(bytes(raw)).decode()


def test_no_mutation_is_accepted_for_other_bytes_or_raises_anything_else(cases: list[Case]) -> None:
    """A mutation of what nobody signed (hints) may still verify; it must then say the same, and never for other bytes."""
    rng = random.Random(7)
    truth: list[Verified] = [verify(case.kind, case.artifact, case.bundle, case.anchor, Terms()) for case in cases]
    other = "00" * 32
    kept = 0
    for _ in range(COUNT):
        index = rng.randrange(len(cases))
        case = cases[index]
        bundle = mutated(rng, case.bundle)
        wrong = Artifact(path="m/model.pt", sha256=other, size=case.artifact.size, files={"m/model.pt": other}, bases=("m",))
        with pytest.raises(SignatureError):
            verify(case.kind, wrong, bundle, case.anchor, Terms())
        try:
            found = verify(case.kind, case.artifact, bundle, case.anchor, Terms())
        except SignatureError:
            continue
        kept += 1
        assert (found.identity, found.issuer) == (truth[index].identity, truth[index].issuer)
    assert kept < COUNT // 3


def test_openpgp_mutations_are_refused() -> None:
    """One bit of a signature or of a certificate."""
    ps = pytest.importorskip("pysequoia")
    tsk = ps.Tsk.generate("Acme <release@example.org>")
    cert = tsk.extract_certificate()
    data = b"weights"
    signature = bytes(ps.sign(tsk.signer(), data, mode=ps.SignatureMode.DETACHED))
    artifact = Artifact(path="w", sha256="00" * 32, size=7, content=lambda: data)
    rng = random.Random(8)
    mutators: tuple[Callable[[bytes], bytes], ...] = (lambda raw: raw[: rng.randrange(len(raw))], lambda raw: _flipped(rng, raw))
    for _ in range(COUNT // 4):
        anchor = Anchor(kind="openpgp", certificate=bytes(cert), fingerprint=cert.fingerprint)
        wrong = Artifact(path="w", sha256="00" * 32, size=7, content=lambda: b"else")
        with pytest.raises(SignatureError):
            verify("openpgp", wrong, rng.choice(mutators)(signature), anchor, Terms())
        stale = Anchor(kind="openpgp", certificate=rng.choice(mutators)(bytes(cert)), fingerprint=cert.fingerprint)
        try:
            found = verify("openpgp", artifact, signature, stale, Terms())
        except SignatureError:
            continue
        assert found.identity == cert.fingerprint


def _flipped(rng: random.Random, raw: bytes) -> bytes:
    out = bytearray(raw)
    out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def test_fuzzing_leaves_no_file(cases: list[Case], tmp_path: Path) -> None:
    """Verification writes nothing."""
    case = cases[0]
    verify(case.kind, case.artifact, case.bundle, case.anchor, Terms())
    assert list(tmp_path.iterdir()) == []
