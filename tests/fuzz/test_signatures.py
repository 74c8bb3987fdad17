"""Mutated signatures: none is accepted for what it does not sign, and nothing but our own error comes out.

SAFELOAD_FUZZ=20000 for a long session; a few hundred otherwise.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from safeload.errors import SignatureError
from safeload.lockfile import read
from safeload.signatures import Materials, anchor_of, artifact_of, refs_about
from safeload.trust.scheme import Anchor, Artifact, Hasher, Terms, Verified
from safeload.trust.schemes import verify
from tests.forge_lanes import LANES

pytest.importorskip("pysequoia")

COUNT: Final = int(os.environ.get("SAFELOAD_FUZZ") or 2000) // 5  # each costs a curve or two
WORDS: Final[tuple[Any, ...]] = (None, True, 0, -1, 1 << 70, 1.5, "", "x", "A" * 50, [], {}, [[]], {"x": []},
                                "\x00", "é", "2020-01-01T00:00:00Z")  # fmt: skip
OTHER: Final = "00" * 32


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    artifact: Artifact
    bundle: bytes
    anchor: Anchor
    truth: Verified


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """One signature of every lane, as the lock stores it; and PyPI's form of an attestation."""
    found = []
    for name, lane in LANES.items():
        top = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(top)
            lane.make(top)
        found.append(_case(top))
        if name.startswith("slsa"):
            found.append(replace(found[-1], bundle=_as_pypi(found[-1].bundle)))
    return found


def _case(top: Path) -> Case:
    lock = read(top / "safeload.lock")
    materials, model = Materials.of(top / "safeload.lock"), lock.models[0]
    file = next(file for file in model.files if file.path == "m/a.pt")
    (ref,) = refs_about(model, file.path)
    anchor = anchor_of(lock, lock.signers[0], materials)
    companion = materials.beside(ref.bundle) if ref.kind == "openpgp-sha256sums" else None
    data = (top / file.path).read_bytes()
    artifact = holding(artifact_of(model, file, ref, data=None, companion=companion), data)
    bundle = (top / ref.bundle).read_bytes()
    return Case(ref.kind, artifact, bundle, anchor, verify(ref.kind, artifact, bundle, anchor, Terms()))


def holding(artifact: Artifact, data: bytes) -> Artifact:
    """Give it bytes, for schemes that ask for them."""

    def hashed(_: str, make: Callable[[], Hasher]) -> str:
        hasher = make()
        hasher.update(data)
        return hasher.hexdigest()

    return replace(artifact, content=lambda: data, hash=hashed)


def _as_pypi(bundle: bytes) -> bytes:
    held = json.loads(bundle)
    material, envelope = held["verificationMaterial"], held["dsseEnvelope"]
    about = {"certificate": material["certificate"]["rawBytes"], "transparency_entries": material["tlogEntries"]}
    signed = {"statement": envelope["payload"], "signature": envelope["signatures"][0]["sig"]}
    attestation = {"version": 1, "verification_material": about, "envelope": signed}
    return json.dumps({"version": 1, "attestation_bundles": [{"publisher": {}, "attestations": [attestation]}]}).encode()


def other(artifact: Artifact) -> Artifact:
    """Other bytes under the same name, locked so."""
    return holding(replace(artifact, sha256=OTHER, files={**artifact.files, artifact.path: OTHER}), b"\0" * artifact.size)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Change bytes of the text, values of the document, or bytes inside a base64 value."""
    how = rng.randrange(4) if data.lstrip().startswith(b"{") else rng.randrange(2)
    if how == 0:
        raw = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        return bytes(raw)
    if how == 1:
        return data[: rng.randrange(len(data))]
    try:
        document = json.loads(data)
    except ValueError:
        return data[::-1]
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
    if raw.startswith(b'{"') and rng.random() < 0.5:  # what is signed: a statement
        return base64.b64encode(mutated(rng, bytes(raw))).decode()
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return base64.b64encode(bytes(raw)).decode()


def test_no_mutation_is_accepted_for_other_bytes_or_raises_anything_else(cases: list[Case]) -> None:
    """A mutation of what nobody signed (hints) may still verify; it must then say the same, and never for other bytes."""
    rng = random.Random(7)
    kept = 0
    for _ in range(COUNT):
        case = rng.choice(cases)
        bundle = mutated(rng, case.bundle)
        with pytest.raises(SignatureError):
            verify(case.kind, other(case.artifact), bundle, case.anchor, Terms())
        try:
            found = verify(case.kind, case.artifact, bundle, case.anchor, Terms())
        except SignatureError:
            continue
        kept += 1
        assert (found.identity, found.issuer, found.facts) == (case.truth.identity, case.truth.issuer, case.truth.facts)
    assert kept < COUNT // 3


def test_no_mutated_trust_material_raises_anything_else(cases: list[Case]) -> None:
    """Roots, certificates and keys are pinned; one that is broken all the same is refused, or vouches for the same."""
    rng = random.Random(9)
    for _ in range(COUNT // 4):
        case = rng.choice(cases)
        for key in ("trusted_root", "certificate", "public_key"):
            material = getattr(case.anchor, key)
            if material is None:
                continue
            anchor = replace(case.anchor, **{key: mutated(rng, material)})  # type: ignore[arg-type]
            with pytest.raises(SignatureError):
                verify(case.kind, other(case.artifact), case.bundle, anchor, Terms())
            try:
                found = verify(case.kind, case.artifact, case.bundle, anchor, Terms())
            except SignatureError:
                continue
            assert (found.identity, found.issuer) == (case.truth.identity, case.truth.issuer)


def test_no_mutated_list_is_accepted(cases: list[Case]) -> None:
    """The file that a detached signature of a list signs."""
    rng = random.Random(10)
    case = next(case for case in cases if case.artifact.companion is not None)
    listed = case.artifact.companion or b""
    for _ in range(COUNT // 20):
        changed = mutated(rng, listed)
        if changed != listed:
            with pytest.raises(SignatureError):
                verify(case.kind, replace(case.artifact, companion=changed), case.bundle, case.anchor, Terms())


def test_openpgp_mutations_are_refused() -> None:
    """One bit of a signature or of a certificate, in their binary form."""
    import pysequoia as ps

    tsk = ps.Tsk.generate("Acme <release@example.org>")
    cert = tsk.extract_certificate()
    data = b"weights"
    signature = bytes(ps.sign(tsk.signer(), data, mode=ps.SignatureMode.DETACHED))
    artifact = Artifact(path="w", sha256=OTHER, size=7, content=lambda: data)
    rng = random.Random(8)
    mutators: tuple[Callable[[bytes], bytes], ...] = (lambda raw: raw[: rng.randrange(len(raw))], lambda raw: _flipped(rng, raw))
    for _ in range(COUNT // 4):
        anchor = Anchor(kind="openpgp", certificate=bytes(cert), fingerprint=cert.fingerprint)
        wrong = Artifact(path="w", sha256=OTHER, size=7, content=lambda: b"else")
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
