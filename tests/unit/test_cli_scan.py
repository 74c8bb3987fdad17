"""`safeload scan`: which files, what is printed, and which status."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from safeload.cli import run, scanning
from safeload.context import Context
from safeload.findings import Finding, Level, Report
from safeload.scanning import Job, Settings, one_file, worker
from safeload.scanning.one_file import Done
from safeload.scanning.worker import Worker
from tests.forge_cli import CALL, DATA, UNKNOWN, make_tree, pickle_of_global, write_checkpoint

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scan(capsys: Capture, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return status and document."""
    status = run(["scan", "--format", "json", *arguments])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, document


def decisions(document: dict[str, Any]) -> dict[str, str]:
    return {entry["path"]: entry["decision"] for entry in document["files"]}


def policy(text: str) -> None:
    Path("safeload.toml").write_text(text, encoding="utf-8")


def test_the_contracts_object(here: Path, capsys: Capture) -> None:
    """Other programs read it: every key, every type."""
    make_tree(here)
    status, document = scan(capsys, "model.pt", "hostile.pt", "junk.bin")
    assert status == 2
    assert set(document) == {"version", "files", "skipped", "summary"}
    assert document["version"] == 1
    assert document["summary"] == {"allowed": 1, "refused": 1, "error": 1}
    good, bad, junk = document["files"]
    assert (good["path"], good["format"], good["decision"], good["sha256"]) == ("model.pt", "torch-zip", "allowed", None)
    assert good["size"] == (here / "model.pt").stat().st_size
    assert "torch._utils._rebuild_tensor_v2" in good["globals"]
    assert bad["globals"] == ["os.system"]
    finding = bad["findings"][0]
    assert {"rule", "level", "message", "member", "offset"} <= set(finding)
    assert (finding["rule"], finding["level"], finding["member"]) == ("SL101", "error", "hostile/data.pkl")
    assert isinstance(finding["offset"], int)
    assert junk["decision"] == "error"


@pytest.mark.parametrize(
    ("paths", "status"),
    [(["model.pt"], 0), (["hostile.pt"], 1), (["unknown.pkl"], 1), (["junk.bin"], 2), (["absent.pt"], 2), (["hostile.pt", "absent.pt"], 2)],
)  # fmt: skip
def test_the_status_is_that_of_the_worst_file(here: Path, capsys: Capture, paths: list[str], status: int) -> None:
    """What could not be analysed outweighs everything."""
    make_tree(here)
    assert scan(capsys, *paths)[0] == status


def test_a_directory_is_walked_with_its_hidden_places(here: Path, capsys: Capture) -> None:
    """Text is skipped and listed, with why; nothing else is passed by."""
    make_tree(here)
    status, document = scan(capsys, ".")
    assert status == 2
    assert decisions(document) == {
        "hostile.pt": "refused", "junk.bin": "error", "model.pt": "allowed", "unknown.pkl": "refused",
        ".cache/data.pkl": "allowed", "sub/x.safetensors": "allowed",
    }  # fmt: skip
    assert document["skipped"] == [{"path": "README.md", "why": "text"}]


def test_text_that_is_named_is_an_error_and_text_that_is_found_is_not(here: Path, capsys: Capture) -> None:
    """Who names a file wants to know about it."""
    (here / "README.md").write_text("# hello\n", encoding="utf-8")
    assert scan(capsys, "README.md")[0] == 2
    assert scan(capsys, ".")[0] == 0


def test_a_link_out_of_the_directory_makes_an_error(here: Path, capsys: Capture) -> None:
    """It was not analysed, and that is not passed by."""
    (here / "m").mkdir()
    (here / "m" / "link.pt").symlink_to("/etc/hostname")
    status, document = scan(capsys, "m")
    assert status == 2
    assert "leads out" in document["files"][0]["error"]


def test_a_file_that_is_named_twice_is_scanned_once(here: Path, capsys: Capture) -> None:
    """By its own name and through its directory."""
    make_tree(here)
    _, document = scan(capsys, "model.pt", "./model.pt", ".", "sub/../model.pt")
    assert [entry["path"] for entry in document["files"]].count("model.pt") == 1
    assert sum("model.pt" in entry["path"] for entry in document["files"]) == 1


def test_globs_are_about_directories_not_about_named_files(here: Path, capsys: Capture) -> None:
    """What is left out is listed."""
    make_tree(here)
    status, document = scan(capsys, "--include", "*.pt", "--include", "*.safetensors", "--exclude", "hostile*", ".", "unknown.pkl")
    assert status == 1
    assert set(decisions(document)) == {"model.pt", "sub/x.safetensors", "unknown.pkl"}
    assert {"path": "hostile.pt", "why": "left out by --exclude"} in document["skipped"]


def test_digest_hashes_every_file(here: Path, capsys: Capture) -> None:
    """Otherwise only what the verdict needs is read."""
    make_tree(here)
    _, document = scan(capsys, "--digest", "model.pt")
    raw = (here / "model.pt").read_bytes()
    assert document["files"][0]["sha256"] == hashlib.sha256(raw).hexdigest()
    assert len(document["files"][0]["sha256-tree"]) == 64


def test_a_larger_file_is_not_analysed_and_counts(here: Path, capsys: Capture) -> None:
    """A bound on work is no verdict."""
    make_tree(here)
    status, document = scan(capsys, "--max-size", "0.1kB", "model.pt")
    assert status == 2
    assert "--max-size is 100" in document["files"][0]["error"]
    assert scan(capsys, "--max-size", "1MiB", "model.pt")[0] == 0


def test_strict_refuses_on_notes(here: Path, capsys: Capture) -> None:
    """Two streams behind one another are worth knowing, and no more, without it."""
    (here / "two.pkl").write_bytes(DATA + DATA)
    assert scan(capsys, "two.pkl")[0] == 0
    status, document = scan(capsys, "--strict", "two.pkl")
    assert status == 1
    assert "[SL128]" in document["files"][0]["reasons"][0]


# ---- baseline and suppressions


def test_what_the_baseline_knows_does_not_count_again(here: Path, capsys: Capture) -> None:
    """A team can begin with what it has, and see only what is new."""
    make_tree(here)
    run(["scan", "--format", "json", "--output", "known.json", "unknown.pkl", "hostile.pt"])
    status, document = scan(capsys, "--baseline", "known.json", "unknown.pkl", "hostile.pt")
    assert status == 0
    assert all(finding["muted"] == "known: in the baseline" for entry in document["files"] for finding in entry["findings"])
    (here / "unknown.pkl").write_bytes(b"\x80\x02cacme.other\nNet\n)\x81.")
    status, document = scan(capsys, "--baseline", "known.json", "unknown.pkl", "hostile.pt")
    assert decisions(document) == {"unknown.pkl": "refused", "hostile.pt": "allowed"}


def test_a_baseline_with_digests_holds_for_the_same_bytes_only(here: Path, capsys: Capture) -> None:
    """The same finding in a file that was exchanged is news."""
    (here / "a.pkl").write_bytes(UNKNOWN)
    run(["scan", "--digest", "--format", "json", "--output", "known.json", "a.pkl"])
    assert scan(capsys, "--digest", "--baseline", "known.json", "a.pkl")[0] == 0
    (here / "a.pkl").write_bytes(UNKNOWN[:-1] + b"K\x010.")
    assert scan(capsys, "--digest", "--baseline", "known.json", "a.pkl")[0] == 1


LOUD = '{"rule": "SL101", "level": "loud", "message": "", "member": null}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "files": []}',
        '{"version": 1, "files": [{}]}',
        "[" * 100_000,
        f'{{"version": 1, "files": [{{"path": "a", "findings": [{LOUD}]}}]}}',
    ],
    ids=["empty", "list", "nothing", "version", "file", "deep", "level"],
)
def test_what_is_no_baseline_is_refused(here: Path, text: str, capsys: Capture) -> None:
    """A broken baseline must not look like an empty one, nor like one that knows everything."""
    (here / "known.json").write_text(text, encoding="utf-8")
    assert run(["scan", "--baseline", "known.json", "known.json"]) == 2
    assert "known.json" in capsys.readouterr().err


def test_a_suppression_holds_until_its_day_and_is_told(here: Path, capsys: Capture) -> None:
    """By path or by digest; the reason stands beside the finding."""
    (here / "a.pkl").write_bytes(UNKNOWN)
    today = dt.datetime.now(tz=dt.UTC).date()
    entry = '[[suppress]]\nrule = "SL103"\npath = "a.pkl"\nreason = "ours"\nexpires = '
    policy(entry + today.isoformat() + "\n")
    status, document = scan(capsys, "a.pkl")
    assert status == 0
    assert document["files"][0]["findings"][0]["muted"] == f"suppressed until {today.isoformat()}: ours"
    policy(entry + (today - dt.timedelta(days=1)).isoformat() + "\n")
    status, document = scan(capsys, "a.pkl")
    assert status == 1
    assert any("expired" in reason for reason in document["files"][0]["reasons"])
    assert run(["scan", "a.pkl"]) == 1
    assert "the suppression of SL103 for a.pkl expired on" in capsys.readouterr().out


def test_a_suppression_by_digest_takes_the_digest(here: Path, capsys: Capture) -> None:
    """Nobody has to say --digest for what the policy asks."""
    (here / "a.pkl").write_bytes(UNKNOWN)
    digest = hashlib.sha256(UNKNOWN).hexdigest()
    policy(f'[[suppress]]\nrule = "SL103"\nsha256 = "{digest}"\nreason = "ours"\nexpires = 2999-01-01\n')
    assert scan(capsys, "a.pkl")[0] == 0
    (here / "a.pkl").write_bytes(UNKNOWN + b"")
    assert scan(capsys, "a.pkl")[0] == 0
    (here / "a.pkl").write_bytes(UNKNOWN[:-1] + b"K\x010.")
    assert scan(capsys, "a.pkl")[0] == 1


def test_a_fingerprint_does_not_move_with_offsets() -> None:
    """Code scanning shows a finding as new when its fingerprint changes."""
    first = Finding(rule="SL101", level=Level.ERROR, message="calls os.system('a')", member="m/data.pkl", offset=1, subject="os.system")
    moved = Finding(rule="SL101", level=Level.ERROR, message="calls os.system('a')", member="m/data.pkl", offset=99, subject="os.system")
    other = Finding(rule="SL101", level=Level.ERROR, message="calls os.system('a')", member="n/data.pkl", offset=1, subject="os.system")
    assert scanning.fingerprint("a/b.pt", first) == scanning.fingerprint("./a/b.pt", moved)
    assert scanning.fingerprint("a/b.pt", first) != scanning.fingerprint("a/b.pt", other)
    assert scanning.fingerprint("a/b.pt", first) != scanning.fingerprint("a/c.pt", first)


# ---- time


def slow(job: Job, context: Context, settings: Settings) -> Done:
    """Stands in for a file that takes for ever."""
    if "slow" in job.path:
        time.sleep(600)
    if "dies" in job.path:
        os._exit(1)
    return one_file.scanned(job, context, settings)


def test_a_file_that_takes_too_long_is_given_up_and_the_others_are_not(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed: a thread could not be."""
    (here / "a.pkl").write_bytes(CALL)
    context = Context.of({}, False)
    # The other process imports this module anew, so what stands in must be named, not patched.
    monkeypatch.setattr(worker, "_serve", _serve_slowly)
    names = ["a.pkl", "slow.pkl", "a.pkl", "dies.pkl", "dies.pkl", "a.pkl"]
    with Worker(context, Settings(timeout=6.0)) as process:
        started = time.monotonic()
        reports = [done.result for done in process.scan([Job(name) for name in names], 6.0)]
        assert time.monotonic() - started < 300
    said = {"a.pkl": "None", "slow.pkl": "longer than 6 seconds", "dies.pkl": "died"}
    assert len(reports) == len(names)
    for name, report in zip(names, reports, strict=True):
        assert isinstance(report, Report)
        assert report.path == name
        assert said[name] in str(report.error)
        assert report.decision.outcome == ("refused" if name == "a.pkl" else "error")


def _serve_slowly(pipe: Any, context: Context, settings: Settings) -> None:
    """The worker's side, with `slow` in the place of a scan."""
    worker.scanned = slow  # type: ignore[attr-defined]  # in the other process only
    worker._serve(pipe, context, settings)


def test_a_timeout_changes_no_verdict(here: Path, capsys: Capture) -> None:
    """What comes back from the other process is the same report."""
    make_tree(here)
    assert scan(capsys, "--timeout", "60", ".")[1] == scan(capsys, ".")[1]


# ---- names


@pytest.mark.skipif(os.name != "posix", reason="names are text here")
def test_a_name_that_is_no_text_is_printed_in_every_format(here: Path, capsys: Capture) -> None:
    """Bytes that are no UTF-8, newlines and escapes in a file's own name."""
    name = os.fsdecode(b"a\xff\n\x1b[2J.pkl")
    (here / name).write_bytes(CALL)
    for kind in ("text", "json", "sarif", "markdown"):
        assert run(["scan", "--format", kind, "."]) == 1
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert out.encode("utf-8")


def test_text_shows_a_bounded_number_of_findings(here: Path, capsys: Capture) -> None:
    """A stream of a thousand globals must not push everything else off the screen."""
    body = b"".join(b"cacme.m\nC%d\n0" % number for number in range(1000))
    (here / "many.pkl").write_bytes(b"\x80\x02" + body + b"N.")
    assert run(["scan", "many.pkl"]) == 1
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 60
    assert "more findings" in out
    assert len(scan(capsys, "many.pkl")[1]["files"][0]["findings"]) >= 1000


def test_a_models_name_can_be_scanned(here: Path, capsys: Capture) -> None:
    """As load takes it."""
    write_checkpoint(here / "m.pt")
    run(["lock", "--name", "acme/m", "m.pt"])
    capsys.readouterr()
    assert scan(capsys, "acme/m")[0] == 0


def test_a_global_with_a_hostile_name_is_no_plain_text_in_json(here: Path, capsys: Capture) -> None:
    """Whoever prints the document's strings gets escapes."""
    (here / "a.pkl").write_bytes(pickle_of_global("acme", "x\x1b[2J\u202ey"))
    _, document = scan(capsys, "a.pkl")
    assert document["files"][0]["globals"] == [r"acme.x\x1b[2J\u202ey"]
