"""Every form in which a model signature lists files: what is read, what is refused, and how the bytes are compared."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from safeload.errors import MissingExtraError, SignatureError
from safeload.signing.with_key import load_private_key, sign_statement
from safeload.source import Source
from safeload.trust.model_list import PREDICATE_TYPE
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified
from safeload.trust.schemes import verify
from safeload.trust.statement import STATEMENT_TYPE
from tests.forge_signed import write_keys

DATA = bytes(range(256)) * 100  # 25,600 bytes
OLD = "https://model_signing/"
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("keys")
    write_keys(top, "k", ec.SECP384R1())
    return top


def digest(data: bytes, algorithm: str = "sha256") -> str:
    if algorithm == "blake3":
        return str(pytest.importorskip("blake3").blake3(data).hexdigest())
    return hashlib.new(algorithm, data).hexdigest()


def shards(name: str, size: int, data: bytes = DATA, algorithm: str = "sha256") -> list[tuple[str, str]]:
    cuts = range(0, len(data), size)
    return [(f"{name}:{at}:{min(at + size, len(data))}", digest(data[at : at + size], algorithm)) for at in cuts]


def statement(predicate_type: str, subjects: list[Any], predicate: Any) -> bytes:
    return json.dumps({"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": predicate_type, "predicate": predicate}).encode()


def root_of(digests: list[str]) -> str:
    return digest(b"".join(map(bytes.fromhex, digests)))


def listed(entries: list[tuple[str, str]], named: str = "sha256", subject: str = "m", **how: Any) -> bytes:
    """As v1.0 has it."""
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, **how}
    resources = [{"name": name, "algorithm": named, "digest": found} for name, found in entries]
    root = {"name": subject, "digest": {"sha256": root_of([found for _, found in entries])}}
    return statement(PREDICATE_TYPE, [root], {"serialization": serialization, "resources": resources})


def old_subjects(kind: str, entries: list[tuple[str, str]], said: str | None) -> bytes:
    notes = {"annotations": {"actual_hash_algorithm": said}} if said else {}
    subjects = [{"name": name, "digest": {"sha256": found}, **notes} for name, found in entries]
    return statement(OLD + kind, subjects, {"unused": "Unused"})


def old_predicate(kind: str, key: str, entries: list[tuple[str, str]], said: str) -> bytes:
    root = {"name": ".", "digest": {"sha256": root_of([found for _, found in entries])}}
    return statement(OLD + kind, [root], {key: [{"name": name, "digest": found, "algorithm": said} for name, found in entries]})


def check(keys: Path, tmp_path: Path, payload: bytes, *, data: bytes = DATA, **changes: Any) -> Verified:
    """Verify a signed list for the file "m/w.bin", which holds `data`."""
    bundle = sign_statement(load_private_key((keys / "k.pem").read_bytes(), None), payload)
    anchor = Anchor(kind="key", public_key=(keys / "k.pub").read_bytes())
    (tmp_path / "w.bin").write_bytes(data)
    files = {"m/w.bin": digest(data), **changes.pop("files", {})}
    with Source.open(tmp_path / "w.bin") as source:
        held = Artifact(path="m/w.bin", sha256=digest(data), size=len(data), files=files, bases=("m", ""), hash=source.digest)
        return verify("oms", replace(held, **changes), bundle, anchor, Terms())


WHOLE = [("w.bin", digest(DATA))]
FORMS = {
    "files": listed(WHOLE),
    "files, no ignore_paths": listed(WHOLE, ignore_paths=None),
    "blake2b": listed([("w.bin", digest(DATA, "blake2b"))], "blake2b", hash_type="blake2b"),
    "shards": listed(shards("w.bin", 10_000), method="shards", shard_size=10_000),
    "shards as the reference writes them": listed(shards("w.bin", 10_000), "sha256-sharded-10000", method="shards", shard_size=10_000.0),
    "shards sorted as text": listed(sorted(shards("w.bin", 1000)), method="shards", shard_size=1000),
    "shards sorted by place": listed(shards("w.bin", 1000), method="shards", shard_size=1000),
    "blake2b shards": listed(shards("w.bin", 9999, algorithm="blake2b"), "blake2b", method="shards", hash_type="blake2b", shard_size=9999),
    "one file": listed([(".", digest(DATA))], subject="w.bin"),
    "one file, renamed": listed([(".", digest(DATA))], subject="model"),
    "one file, in shards": listed(shards(".", 10_000), method="shards", shard_size=10_000),
    "no name": listed(WHOLE, subject=""),
    "Digests/v0.1": old_subjects("Digests/v0.1", WHOLE, "file-sha256"),
    "Digests/v0.1, nothing said": old_subjects("Digests/v0.1", WHOLE, None),
    "ShardDigests/v0.1": old_subjects("ShardDigests/v0.1", shards("w.bin", 10_000), "file-sha256-10000"),
    "DigestOfDigests/v0.1": old_predicate("DigestOfDigests/v0.1", "files", WHOLE, "file-sha256"),
    "DigestOfShardDigests/v0.1": old_predicate("DigestOfShardDigests/v0.1", "shards", shards("w.bin", 10_000), "file-sha256-10000"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_and_binds_every_byte(form: str, keys: Path, tmp_path: Path) -> None:
    """The same list over bytes of which the last differs is refused, whatever the form."""
    assert check(keys, tmp_path, FORMS[form]).identity.startswith("sha256:")
    with pytest.raises(SignatureError, match="the signature is over other bytes") as caught:
        check(keys, tmp_path, FORMS[form], data=DATA[:-1] + b"x")
    assert caught.value.check == "digest"
    assert caught.value.expected != caught.value.found
    with pytest.raises(SignatureError, match=r"is over (other bytes|another length)"):
        check(keys, tmp_path, FORMS[form], data=DATA + b"x")


def test_blake3_needs_its_package(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = listed([("w.bin", "00" * 32)], "blake3", hash_type="blake3")
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(MissingExtraError, match=r"safeload\[blake3\]"):
        check(keys, tmp_path, payload)


def test_blake3_is_compared(keys: Path, tmp_path: Path) -> None:
    payload = listed([("w.bin", digest(DATA, "blake3"))], "blake3", hash_type="blake3")
    assert check(keys, tmp_path, payload)
    with pytest.raises(SignatureError, match=r"over other bytes: expected blake3:.*, found blake3:"):
        check(keys, tmp_path, payload, data=b"x")


@pytest.mark.parametrize(
    ("payload", "problem", "message"),
    [
        (old_subjects("Digests/v0.1", WHOLE, "file-blake2b"), "algorithm", "holds file-blake2b digests under the name of sha256"),
        (old_predicate("DigestOfDigests/v0.1", "files", WHOLE, "md5"), "algorithm", "holds md5 digests"),
        (old_subjects("Digest/v0.1", [(".", digest(DATA))], "dfs"), "content", "is no model signature"),
        (listed(shards("w.bin", 10_000)[1:], method="shards", shard_size=10_000), "names", "in pieces with holes: w.bin"),
        (listed(shards("w.bin", 10_000)[::2], method="shards", shard_size=10_000), "names", "in pieces with holes: w.bin"),
        (listed(shards("w.bin", 10_000) * 2, method="shards", shard_size=10_000), "names", "a file twice"),
        (listed(shards("w.bin", 5000), method="shards", shard_size=10_000), "format", "shards that are not of 10000 bytes"),
        (listed(shards("w.bin", 10_000), method="shards", shard_size=5000), "format", "shards that are not of 5000 bytes"),
        (listed([("w.bin:5:5", EMPTY)], method="shards", shard_size=5), "names", "in pieces with holes"),
        (listed(WHOLE, method="shards", shard_size=5), "format", "no shard"),
        (listed(WHOLE, method="shards"), "format", "shard_size"),
        (listed(WHOLE, method="shards", shard_size=0), "format", "shard_size"),
        (listed(WHOLE, method="shards", shard_size=1.5), "format", "shard_size"),
        (listed([(".", digest(DATA)), *WHOLE]), "names", "an empty part, '.' or '..'"),
        (statement(PREDICATE_TYPE, [{"name": "m", "digest": {"sha512": "00"}}], {}), "format", "serialization is not an object"),
        (statement(OLD + "Digests/v0.1", [{"name": "w.bin", "digest": {"sha512": "00"}}], {}), "content", "has no sha256"),
    ],
)  # fmt: skip
def test_a_list_that_is_odd_is_refused(payload: bytes, problem: str, message: str, keys: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError) as caught:
        check(keys, tmp_path, payload)
    assert (caught.value.check, message in caught.value.message) == (problem, True), caught.value.message


def test_a_signature_over_one_file_covers_no_other(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match=r"locked, and not in the signed list: m/other\.bin"):
        check(keys, tmp_path, FORMS["one file"], files={"m/other.bin": "11" * 32})


def test_files_without_bytes_are_not_in_a_list_of_shards(keys: Path, tmp_path: Path) -> None:
    """The format has no shard of them, so they cannot be signed; whole-file lists name them like all others."""
    empty = {"m/__init__.py": EMPTY}
    found = check(keys, tmp_path, FORMS["shards"], files=empty)
    assert "without a byte, so not in a list of shards: m/__init__.py" in found.remarks
    with pytest.raises(SignatureError, match="locked, and not in the signed list"):
        check(keys, tmp_path, FORMS["files"], files=empty)


def test_two_ways_to_cut_a_file_share_no_digest(keys: Path, tmp_path: Path) -> None:
    """A snapshot keeps the digests that were taken of it, under names that must tell the cuts apart."""
    bundle = sign_statement(load_private_key((keys / "k.pem").read_bytes(), None), FORMS["shards"])
    wrong = sign_statement(
        load_private_key((keys / "k.pem").read_bytes(), None),
        listed([("w.bin:0:9000", digest(DATA[:10_000])), *shards("w.bin", 9000)[1:]], method="shards", shard_size=9000),
    )
    anchor = Anchor(kind="key", public_key=(keys / "k.pub").read_bytes())
    (tmp_path / "w.bin").write_bytes(DATA)
    with Source.open(tmp_path / "w.bin") as source:
        held = Artifact(path="w.bin", sha256=digest(DATA), size=len(DATA), files={"w.bin": digest(DATA)}, hash=source.digest)
        assert verify("oms", held, bundle, anchor, Terms())
        with pytest.raises(SignatureError, match="over other bytes from byte 0 to 9000"):
            verify("oms", held, wrong, anchor, Terms())
