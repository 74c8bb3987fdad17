"""The bill of materials says all that the lock says, validates against the official schemas, and is the same each time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from cyclonedx.validation.xml import XmlValidator

from safeload.bom import bill_of_materials
from safeload.cli import run
from safeload.errors import LockfileError, MissingExtraError
from tests.forge_cli import UNKNOWN, write_checkpoint, write_safetensors

A, B, C = "a" * 64, "b" * 64, "c" * 64
FULL = f"""lock-version = "1.0"
created-by = "safeload 0.1.0"

[trust-root.default]
kind = "sigstore"
path = "builtin:sigstore-public-good"
sha256 = "{A}"

[signer.acme]
kind = "sigstore"
trust-root = "default"
issuer = "https://issuer.example"
identity = "https://ci.example/acme/release@refs/tags/v1"

[[model]]
name = "acme/sentiment"
complete = true
require = {{ all = ["acme"] }}

[model.source]
kind = "huggingface"
repo = "acme/sentiment"
requested = "main"
revision = "{"1" * 40}"

[[model.file]]
path = "m/config.json"
size = 12
sha256 = "{B}"

[[model.file]]
path = "m/model.bin"
size = 4096
sha256 = "{A}"
sha256-tree = "{C}"
format = "torch-zip"
globals = ["collections.OrderedDict", "x.\\u202eevil<script>"]
allow-globals = ["acme.Net"]
converted = {{ path = "m/model.safetensors", sha256 = "{C}" }}

[[model.signature]]
signer = "acme"
kind = "sigstore-blob"
bundle = "signatures/a b.json"
bundle-sha256 = "{B}"

[[model]]
name = "other & <more>"

[model.source]
kind = "https"
url = "https://host.example/other.pt"

[[model.file]]
path = "other.pt"
size = 1
sha256 = "{B}"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path


def bill(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["bom", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def properties(component: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entry["name"], entry["value"]) for entry in component["properties"]]


def test_everything_that_the_lock_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "safeload.lock").write_text(FULL)
    document = bill(capsys)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    first, second = document["components"]
    assert (first["type"], first["name"], first["version"]) == ("machine-learning-model", "acme/sentiment", "1" * 40)
    assert first["purl"] == f"pkg:huggingface/acme/sentiment@{'1' * 40}"
    assert "hashes" not in first
    assert dict(properties(first)) == {
        "safeload:complete": "true", "safeload:require": "all of acme", "safeload:source:kind": "huggingface",
        "safeload:source:requested": "main",
        "safeload:signer": "acme: sigstore, identity https://ci.example/acme/release@refs/tags/v1, issuer https://issuer.example",
    }  # fmt: skip
    references = {entry["type"]: entry for entry in first["externalReferences"]}
    assert references["vcs"]["url"] == "hf://acme/sentiment"
    assert references["attestation"]["url"] == "signatures/a%20b.json"
    assert references["attestation"]["hashes"] == [{"alg": "SHA-256", "content": B}]
    config, weights = first["components"]
    assert (config["type"], config["name"], config["hashes"]) == ("file", "m/config.json", [{"alg": "SHA-256", "content": B}])
    assert sorted(properties(weights)) == [
        ("safeload:allow-global", "acme.Net"), ("safeload:format", "torch-zip"), ("safeload:global", "collections.OrderedDict"),
        ("safeload:global", r"x.\u202eevil<script>"), ("safeload:sha256-tree", C), ("safeload:size", "4096"),
    ]  # fmt: skip
    (made,) = weights["pedigree"]["descendants"]
    assert (made["name"], made["hashes"][0]["content"]) == ("m/model.safetensors", C)
    assert (second["name"], second["hashes"][0]["content"]) == ("other & <more>", B)
    assert second["externalReferences"][0]["url"] == "https://host.example/other.pt"


@pytest.mark.parametrize("content", [FULL, 'lock-version = "1.0"\ncreated-by = "safeload 0.1.0"\n'])
def test_it_validates_against_the_official_schemas(content: str, here: Path) -> None:
    (here / "safeload.lock").write_text(content)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill_of_materials()) is None
    assert XmlValidator(SchemaVersion.V1_6).validate_str(bill_of_materials(kind="xml")) is None


def test_what_lock_pins_is_in_the_bill(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(here / "model.pt")
    write_safetensors(here / "x.safetensors")
    (here / "unknown.pkl").write_bytes(UNKNOWN)
    assert run(["lock", "model.pt", "x.safetensors", "unknown.pkl", "--allow-global", "acme.models.Net"]) == 0
    capsys.readouterr()
    document = bill(capsys)
    assert [component["name"] for component in document["components"]] == ["model", "unknown", "x"]
    assert ("safeload:allow-global", "acme.models.Net") in properties(document["components"][1]["components"][0])
    (here / "model.pt").unlink()
    assert bill(capsys)["components"] == document["components"]


def test_the_same_lock_gives_the_same_text(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "safeload.lock").write_text(FULL)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1750000000")
    first = bill_of_materials()
    assert first == bill_of_materials("safeload.lock")
    assert "2025-06-15T15:06:40" in first
    (here / "safeload.lock").write_text(FULL.replace("size = 12", "size = 13"))
    assert json.loads(bill_of_materials())["serialNumber"] != json.loads(first)["serialNumber"]


def test_output_and_errors(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["bom"]) == 2
    assert "no lockfile is in force" in capsys.readouterr().err
    (here / "safeload.lock").write_text(FULL)
    assert run(["bom", "-o", "bom.json"]) == 0
    assert run(["bom", "-o", "bom.json"]) == 2
    assert run(["bom", "-o", "bom.json", "--force", "--format", "xml"]) == 0
    assert (here / "bom.json").read_text().startswith("<?xml")
    (here / "safeload.lock").write_text(FULL[:-20])
    with pytest.raises(LockfileError):
        bill_of_materials()
    (here / "safeload.lock").write_text(FULL)
    monkeypatch.setitem(sys.modules, "cyclonedx.model.bom", None)
    with pytest.raises(MissingExtraError) as caught:
        bill_of_materials()
    assert "safeload[bom]" in caught.value.hint
