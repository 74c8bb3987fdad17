"""Many files: the same results whoever scans them, a journal that an interruption does not harm, nothing forgotten."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.api import scan_source
from safeload.cli import run
from safeload.context import Context
from safeload.errors import ArgumentError, SafeloadError, UnsupportedError, UsageError
from safeload.findings import Decision, Finding, Level, Origin, Outcome, Report, Stream
from safeload.scanning import Job, Skipped, collect, many, one_file, ruleset
from safeload.scanning.journal import Journal
from safeload.scanning.one_file import Batch, Done
from safeload.scanning.records import from_record, to_record
from tests.forge_cli import CALL, DATA, UNKNOWN, make_tree, write_checkpoint
from tests.range_server import Served, serve

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def registry(top: Path, count: int, seed: int = 1) -> None:
    """A tree with many small files of all sorts, some hostile, some no models, some broken."""
    rng = random.Random(seed)
    write_checkpoint(top.parent / "one.pt")
    checkpoint = (top.parent / "one.pt").read_bytes()
    kinds = [DATA, CALL, UNKNOWN, checkpoint, b"# text\n", b"\0\1\2\3junk", checkpoint[:-30]]
    for number in range(count):
        folder = top / f"{number % 7}" / f"{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.bin").write_bytes(rng.choice(kinds))
    old()


def old() -> None:
    """Let the clock tick on: a file that changed this moment might change again without its times showing it."""
    time.sleep(0.15)


def scan(capsys: Capture, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = run(["scan", "--format", "json", *arguments])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, document


# ---- whoever scans


def test_every_engine_gives_the_same_results_in_the_same_order(here: Path) -> None:
    registry(here / "hub", 150)
    (here / "hub" / "link").symlink_to("/etc")
    alone = list(safeload.scan_many(["hub"]))
    assert {type(found) for found in alone} == {Report, Skipped}
    assert len(alone) == 151
    assert list(safeload.scan_many(["hub"], jobs=2)) == alone
    with ThreadPoolExecutor(3) as threads:
        assert list(safeload.scan_many(["hub"], executor=threads)) == alone
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert list(safeload.scan_many(iter([Path("hub")]), executor=processes)) == alone


def test_jobs_change_nothing_that_is_printed(here: Path, capsys: Capture) -> None:
    make_tree(here)
    one = scan(capsys, ".")
    assert scan(capsys, "--jobs", "2", ".") == one
    assert scan(capsys, "-j", "0", ".") == one
    status, document = one
    lines = run(["scan", "--format", "jsonl", "."]), [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == status
    assert [line for line in lines[1] if line["kind"] == "file"] == [{"kind": "file", **entry} for entry in document["files"]]
    assert [line["path"] for line in lines[1] if line["kind"] == "skipped"] == [entry["path"] for entry in document["skipped"]]
    last = lines[1][-1]
    assert last == {"kind": "summary", "version": 1, **document["summary"], "skipped": len(document["skipped"])}


def test_a_relative_path_and_a_lock_hold_in_another_directory(here: Path) -> None:
    """A worker stands elsewhere: it must open the same files, and find the same pins."""
    (here / "unknown.pkl").write_bytes(UNKNOWN)
    run(["lock", "--allow-global", "acme.models.Net", "unknown.pkl"])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=os.chdir, initargs=("/",)) as elsewhere:
        (report,) = safeload.scan_many(["unknown.pkl"], executor=elsewhere)
    assert isinstance(report, Report)
    assert (report.path, report.decision.outcome) == ("unknown.pkl", Outcome.ALLOWED)


class _Dying(Executor):
    """Stands in for a cluster whose workers die of one file, time and again."""

    def submit(self, function: Any, /, jobs: Any, *rest: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        if any("poison" in job.path for job in jobs):
            future.set_exception(RuntimeError("worker died"))
        else:
            future.set_result(function(jobs, *rest))
        return future


def test_one_file_that_brings_workers_down_takes_no_other_with_it(here: Path) -> None:
    for name in ("a", "b", "poison", "z"):
        (here / f"{name}.pkl").write_bytes(DATA)
    found = list(safeload.scan_many(["."], executor=_Dying()))
    assert [report.decision.outcome.value for report in found if isinstance(report, Report)] == ["allowed", "allowed", "error", "allowed"]
    poison = found[2]
    assert isinstance(poison, Report)
    assert "the worker that scanned it failed (RuntimeError)" in str(poison.error)


class _Broken(Executor):
    def submit(self, function: Any, /, *rest: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenProcessPool("gone"))
        return future


class _Other(Executor):
    def submit(self, function: Any, /, *rest: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(replace(function(*rest), rules="0.0.1+0"))
        return future


@pytest.mark.parametrize(
    ("executor", "message"), [(_Broken(), "the executor broke: BrokenProcessPool"), (_Other(), "by other rules: 0.0.1")]
)
def test_an_executor_that_cannot_be_relied_on_is_an_error(executor: Executor, message: str, here: Path) -> None:
    (here / "a.pkl").write_bytes(DATA)
    with pytest.raises(UnsupportedError, match=message):
        list(safeload.scan_many(["a.pkl"], executor=executor))


def test_a_defect_of_ours_is_one_files_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (here / f"{name}.pkl").write_bytes(DATA)
    real = scan_source

    def failing(source: Any, *rest: Any, **more: Any) -> Report:
        if source.name == "a.pkl":
            raise ZeroDivisionError("oh\x1b[2J")
        return real(source, *rest, **more)

    monkeypatch.setattr(one_file, "scan_source", failing)
    first, second = safeload.scan_many(["."])
    assert isinstance(first, Report)
    assert first.error == r"not analysed: internal error: ZeroDivisionError: oh\x1b[2J"
    assert isinstance(second, Report)
    assert second.decision.outcome is Outcome.ALLOWED


def test_a_process_that_dies_is_started_again(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """--jobs with a file that kills its process: the others have their verdicts."""
    from tests.unit import test_cli_scan

    names = [f"{number:02}.pkl" for number in range(20)]
    for name in [*names, "10dies.pkl"]:
        (here / name).write_bytes(CALL)
    monkeypatch.setattr("safeload.scanning.worker._serve", test_cli_scan._serve_slowly)
    status, document = scan(capsys, "--jobs", "2", ".")
    assert status == 2
    outcomes = {entry["path"]: entry["decision"] for entry in document["files"]}
    assert outcomes == {**dict.fromkeys(names, "refused"), "10dies.pkl": "error"}


def test_a_process_that_somebody_kills_costs_no_file(here: Path) -> None:
    """A kernel that is out of memory kills whom it likes: the file that was being scanned is innocent, and is scanned again."""
    registry(here / "hub", 200)
    expected = list(safeload.scan_many(["hub"]))
    found: list[Report | Skipped] = []
    for result in safeload.scan_many(["hub"], jobs=2):
        found.append(result)
        if len(found) in (5, 100):
            for child in multiprocessing.active_children():
                child.kill()
    assert found == expected


def test_who_stops_early_waits_for_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the process that is at it for an hour nor its thread stays behind."""
    from tests.unit import test_cli_scan

    for name in ("a.pkl", "slow.pkl"):
        (here / name).write_bytes(DATA)
    monkeypatch.setattr("safeload.scanning.worker._serve", test_cli_scan._serve_slowly)
    monkeypatch.setattr("safeload.scanning.processes.InProcesses.most", 1)
    results = safeload.scan_many(["."], jobs=2)
    next(iter(results))
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
    assert not [thread for thread in threading.enumerate() if thread.name == "safeload-scan"]


@pytest.mark.parametrize("paths", ["model.pt", b"model.pt", Path("model.pt")])
def test_one_path_is_not_several(paths: Any) -> None:
    with pytest.raises(ArgumentError, match="it takes several"):
        safeload.scan_many(paths)


def test_what_is_no_executor_is_said_at_once() -> None:
    with pytest.raises(ArgumentError, match="is a Client, no concurrent") as caught:
        safeload.scan_many(["x"], executor=type("Client", (), {})())
    assert "get_executor" in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [["--engine", "dask://x:1", "--jobs", "2"], ["--engine", "dask://x:1", "--timeout", "3"], ["--engine", "x"], ["--engine", "http://x"],
     ["--journal", "j", "--output", "j"], ["--report", "r", "--output", "./r"]],
)  # fmt: skip
def test_calls_that_contradict_themselves(arguments: list[str], here: Path, capsys: Capture) -> None:
    assert run(["scan", ".", *arguments]) == 2
    assert capsys.readouterr().out.strip() in ("", '{\n  "version": 1,\n  "files": [')


# ---- what there is to scan


@pytest.mark.skipif(os.name != "posix", reason="names and file types of Unix")
def test_a_tree_with_everything_that_a_tree_can_have(here: Path, capsys: Capture) -> None:
    """Links, loops, pipes, sockets, names that are no text: each is there with a verdict, an error, or the reason to skip it."""
    top = here / "t"
    (top / "real").mkdir(parents=True)
    (top / "real" / "m.pkl").write_bytes(DATA)
    for name in (b"a\nb.pkl", b"\xff\xfe.pkl", b"-rf.pkl", b" .pkl", "\u202egpj.pkl".encode(), b"x" * 250 + b".pkl"):
        (top / os.fsdecode(name)).write_bytes(DATA)
    (top / "inside.pkl").symlink_to("real/m.pkl")
    (top / "outside.pkl").symlink_to("/etc/hostname")
    (top / "dangling.pkl").symlink_to("nowhere")
    (top / "self.pkl").symlink_to("self.pkl")
    (top / "up").symlink_to("..")
    (top / "loop").symlink_to(".")
    (top / "real" / "loop").symlink_to("../real")
    os.mkfifo(top / "pipe.pkl")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("t/socket.pkl")
    try:
        status, document = scan(capsys, "t", "--jobs", "2")
    finally:
        listening.close()
    assert status == 2
    errors = {entry["path"]: entry["error"] for entry in document["files"] if entry["decision"] == "error"}
    assert set(errors) == {"t/outside.pkl", "t/dangling.pkl", "t/self.pkl", "t/up", "t/pipe.pkl", "t/socket.pkl"}
    assert document["summary"] == {"allowed": 8, "refused": 0, "error": 6}
    assert {entry["path"] for entry in document["skipped"]} == {"t/loop", "t/real/loop"}
    assert len(document["files"]) == 14


def test_a_file_that_vanishes_is_an_error(here: Path) -> None:
    for name in ("a.pkl", "b.pkl"):
        (here / name).write_bytes(DATA)
    found = safeload.scan_many(["."])
    first = next(found)
    (here / "b.pkl").unlink()
    assert isinstance(first, Report)
    (second,) = found
    assert isinstance(second, Report)
    assert second.decision.outcome is Outcome.ERROR
    assert "no such file" in str(second.error).lower()


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["d", "d/e"], ["d/a", "d/e/b"]),
        (["d/e", "d"], ["d/e/b", "d/a"]),
        (["d", "./d", "d/"], ["d/a", "d/e/b"]),
        (["d/a", "d"], ["d/a", "d/e/b"]),
        (["d", "d/a", "d/a"], ["d/e/b", "d/a"]),
        (["f", "d/e"], ["f/c", "d/e/b"]),
        ([".", "d"], ["d/a", "d/e/b", "f/c"]),
        (["d/../f", "f"], ["d/../f/c"]),
    ],
)
def test_each_file_once_however_often_it_is_meant(paths: list[str], expected: list[str], here: Path) -> None:
    for name in ("d/a", "d/e/b", "f/c"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(DATA)
    assert [job.path for job in collect(paths)] == expected


def test_what_one_walk_leaves_out_another_may_name(here: Path) -> None:
    (here / "d" / "e").mkdir(parents=True)
    (here / "d" / "e" / "b").write_bytes(DATA)
    found = list(collect(["d", "d/e"], exclude=["e"]))
    assert found[0] == Skipped("d/e", "left out by --exclude")
    assert [job.path for job in found if isinstance(job, Job)] == ["d/e/b"]


# ---- the journal


def rows(path: Path) -> dict[str, tuple[int, str]]:
    base = sqlite3.connect(path)
    try:
        return {os.fsdecode(name): (times, rules) for name, times, rules in base.execute("SELECT path, times, rules FROM scanned")}
    finally:
        base.close()


def count_scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is really scanned, in this process."""
    names: list[str] = []
    real = one_file._scan

    def counted(job: Job, *rest: Any) -> Done:
        names.append(job.path)
        return real(job, *rest)

    monkeypatch.setattr(one_file, "_scan", counted)
    return names


def test_nothing_that_is_known_is_scanned_again(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    registry(here / "hub", 60)
    plain = scan(capsys, "hub")
    scans = count_scans(monkeypatch)
    assert scan(capsys, "--journal", "j.db", "hub") == plain
    assert len(scans) == 60
    scans.clear()
    assert scan(capsys, "--journal", "j.db", "hub") == plain
    assert not scans
    (here / "hub" / "0" / "0" / "0.bin").write_bytes(CALL)
    (here / "hub" / "new.pkl").write_bytes(DATA)
    old()
    assert scan(capsys, "--journal", "j.db", "hub") == scan(capsys, "hub")
    assert scans[:2] == ["hub/new.pkl", "hub/0/0/0.bin"]
    assert len(scans) == 2 + 61


def test_a_journal_in_the_tree_is_not_scanned(here: Path, capsys: Capture) -> None:
    (here / "a.pkl").write_bytes(DATA)
    status, document = scan(capsys, "--journal", "j.db", ".")
    assert status == 0
    assert {entry["path"] for entry in document["skipped"]} == {"j.db", "j.db-wal", "j.db-shm"}


def test_new_rules_scan_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(here / "hub", 20)
    before = list(safeload.scan_many(["hub"], journal="j.db"))
    scans = count_scans(monkeypatch)
    monkeypatch.setattr(ruleset, "ruleset", lambda: "9+new")
    assert list(safeload.scan_many(["hub"], journal="j.db")) == before
    assert len(scans) == 20
    assert {rules for _, rules in rows(here / "j.db").values()} == {"9+new"}


def test_the_ruleset_is_of_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A version under development has rules of its own each time somebody edits a reader."""
    first = ruleset.ruleset()
    assert first.startswith(f"{safeload.__version__}+")
    package = tmp_path / "safeload"
    shutil.copytree(Path(safeload.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    monkeypatch.setattr(safeload, "__file__", str(package / "__init__.py"))
    assert ruleset.ruleset.__wrapped__() == first
    with (package / "formats" / "pickle_file.py").open("a") as file:
        file.write("# edited\n")
    second = ruleset.ruleset.__wrapped__()
    assert second != first
    with (package / "cli" / "output.py").open("a") as file:
        file.write("# edited\n")
    assert ruleset.ruleset.__wrapped__() == second


def test_a_decision_is_taken_anew_and_evidence_is_not(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Policy and lock may have changed since: what was found has not."""
    (here / "unknown.pkl").write_bytes(UNKNOWN)
    old()
    assert scan(capsys, "--journal", "j.db", "unknown.pkl")[0] == 1
    scans = count_scans(monkeypatch)
    (here / "safeload.toml").write_text('allow-globals = ["acme.models.Net"]\n')
    assert scan(capsys, "--journal", "j.db", "unknown.pkl")[0] == 0
    assert not scans
    (here / "safeload.toml").unlink()
    assert scan(capsys, "--journal", "j.db", "unknown.pkl")[0] == 1
    assert not scans
    run(["lock", "--allow-global", "acme.models.Net", "unknown.pkl"])
    capsys.readouterr()
    assert scan(capsys, "--journal", "j.db", "unknown.pkl")[0] == 0
    assert scans == ["unknown.pkl"]  # what the pin grants is for a digest, and none was known
    assert scan(capsys, "--journal", "j.db", "unknown.pkl")[0] == 0
    assert scan(capsys, "--digest", "--journal", "j.db", "unknown.pkl")[1]["files"][0]["sha256"]
    assert scans == ["unknown.pkl"]


def test_a_file_that_was_passed_by_is_an_error_when_it_is_named(here: Path, capsys: Capture) -> None:
    (here / "d").mkdir()
    (here / "d" / "README.md").write_text("text")
    old()
    assert scan(capsys, "--journal", "j.db", "d")[0] == 0
    assert scan(capsys, "--journal", "j.db", "d/README.md")[0] == 2
    assert scan(capsys, "--journal", "j.db", "d")[0] == 0


def test_a_file_that_changed_this_moment_is_not_believed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a tick of the clock a second change would leave the same times."""
    (here / "a.pkl").write_bytes(DATA)
    os.utime(here / "a.pkl", ns=(1_000_000_000, 1_000_000_000))  # whole seconds: the clock may be that coarse
    scans = count_scans(monkeypatch)
    for _ in range(2):
        list(safeload.scan_many(["a.pkl"], journal="j.db"))
    assert len(scans) == 2


def test_errors_that_are_not_the_files_are_tried_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(DATA, status=500)
    (here / "a.pkl").write_bytes(DATA)
    old()
    from safeload.remote import patience

    monkeypatch.setattr(patience, "PATIENCE", patience.Patience(attempts=1))
    with serve({"/m.pkl": served}) as at:
        (found,) = safeload.scan_many([f"{at}/m.pkl"], journal="j.db")
        assert isinstance(found, Report)
        assert found.decision.outcome is Outcome.ERROR
        served.status = None
        (found,) = safeload.scan_many([f"{at}/m.pkl"], journal="j.db")
        assert isinstance(found, Report)
        assert found.decision.outcome is Outcome.ALLOWED
        scans = count_scans(monkeypatch)
        (again,) = safeload.scan_many([f"{at}/m.pkl?signature=another"], journal="j.db")
        assert isinstance(again, Report)
        assert replace(again, path="", origin=None) == replace(found, path="", origin=None)
        assert not scans
        served.etag = '"changed"'
        list(safeload.scan_many([f"{at}/m.pkl"], journal="j.db"))
        assert len(scans) == 1


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\0" + bytes(100)])
def test_what_is_no_journal_is_left_alone(content: bytes, here: Path) -> None:
    (here / "j.db").write_bytes(content)
    with pytest.raises(UsageError, match="journal"):
        list(safeload.scan_many(["."], journal="j.db"))
    assert (here / "j.db").read_bytes() == content


def test_a_database_of_another_program_is_left_alone(here: Path) -> None:
    base = sqlite3.connect(here / "j.db")
    base.execute("CREATE TABLE mine (a)")
    base.close()
    with pytest.raises(UsageError, match="another program"):
        Journal("j.db", "r")
    with Journal("k.db", "r"):
        pass
    base = sqlite3.connect(here / "k.db")
    base.execute("PRAGMA user_version = 2")
    base.close()
    with pytest.raises(UsageError, match="version 2"):
        Journal("k.db", "r")
    with pytest.raises(UsageError, match="cannot be"):
        Journal("no/such/place.db", "r")
    with pytest.raises(UsageError, match="is no file"):
        Journal(here, "r")


def test_a_damaged_record_is_scanned_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(here / "hub", 8)
    before = list(safeload.scan_many(["hub"], journal="j.db"))
    base = sqlite3.connect(here / "j.db")
    for number, damage in enumerate(['"', "{}", "[1]", '{"decision": 1}', '{"path": 1, "format": "x", "decision": {}}']):
        base.execute("UPDATE scanned SET record = ? WHERE mark = (SELECT mark FROM scanned LIMIT 1 OFFSET ?)", (damage, number))
    base.commit()
    base.close()
    scans = count_scans(monkeypatch)
    assert list(safeload.scan_many(["hub"], journal="j.db")) == before
    assert len(scans) == 5


def test_a_record_gives_back_what_was_written() -> None:
    finding = Finding(rule="SL101", level=Level.ERROR, message="a\ud800\n", member="x!\udcff", offset=7, subject="os.system")
    report = Report(
        path="a\udcff", format="pickle", size=0, sha256="0" * 64, globals=("a.b",), unmodelled=("a.b",), findings=(finding,),
        streams=(Stream(member=None, offset=0, nbytes=1, protocol=2, opcodes=3),), metadata={"k": "v"}, error="e",
        decision=Decision(outcome=Outcome.REFUSED, reasons=("r",), refused_globals=("a.b",)),
        origin=Origin(version="v", fetched=1, requests=2),
    )  # fmt: skip
    for result in (report, Skipped("p\udcff", "w"), Report(path="", format="unknown", decision=Decision(outcome=Outcome.ALLOWED))):
        assert from_record(to_record(result)) == result


_LOOP = """
import sys, json
from safeload import scan_many, Report
for found in scan_many([sys.argv[1]], journal=sys.argv[2], jobs=1):
    print(found.path, flush=True)
    if sys.argv[3] == "stays":
        sys.stdin.read()
"""


_POLITE = ("interrupted: with the same --journal the next scan goes on from here",)


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and so would every process that a test starts from there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_interrupted_at_ten_moments_and_resumed(here: Path) -> None:
    """Ctrl-C, SIGTERM, SIGKILL: in the end the output is that of one run, byte by byte; nothing was scanned twice, nothing lies about."""
    registry(here / "hub", 900)  # more than ten runs get through before they are stopped
    base = [sys.executable, "-m", "safeload", "scan", "hub", "--format", "jsonl", "-o", "out.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([*base, "--quiet"], env=environment, check=False).returncode == 2
    expected = (here / "out.jsonl").read_bytes()
    (here / "out.jsonl").unlink()
    rng = random.Random(7)
    kept: dict[str, tuple[int, str]] = {}
    for number in range(10):
        how = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[number % 3]
        command = [*base, "--journal", "j.db", "--jobs", "2" if number in (2, 4) else "1", "--quiet"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, start_new_session=True) as child:
            goal = len(kept) + rng.randrange(1, 20)
            while child.poll() is None and (not (here / "j.db").exists() or _count(here / "j.db") < goal):
                time.sleep(0.002)
            if child.returncode is not None and number >= 3:
                break  # on a busy machine it can be through before anybody looks
            os.killpg(child.pid, how)
            _, said = child.communicate()
        now = rows(here / "j.db")
        assert kept.keys() <= now.keys()
        kept = now
        if how is signal.SIGKILL:
            for part in here.glob(".out.jsonl.*.part"):
                part.unlink()
        else:
            # Python says so where a signal came in one of its own callbacks.
            assert (child.returncode, *said.decode().strip().splitlines()[-1:]) == (2, *_POLITE)
        assert [path.name for path in here.iterdir() if "out.jsonl" in path.name] == []
    (here / "out.jsonl").unlink(missing_ok=True)
    assert subprocess.run([*base, "--quiet", "--journal", "j.db"], env=environment, check=False).returncode == 2
    assert (here / "out.jsonl").read_bytes() == expected
    assert {times for times, _ in rows(here / "j.db").values()} == {1}


def _count(journal: Path) -> int:
    base = sqlite3.connect(journal)
    try:
        return int(base.execute("SELECT count(*) FROM scanned").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it is being made
    finally:
        base.close()


def test_two_scans_may_share_a_journal(here: Path) -> None:
    registry(here / "hub", 120)
    expected = list(safeload.scan_many(["hub"]))
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: list(safeload.scan_many(["hub"], journal="j.db")), range(2)))
    assert both == [expected, expected]


def test_two_commands_share_a_journal(here: Path) -> None:
    """Two processes, begun together on a journal that is not there yet; one of them is killed."""
    registry(here / "hub", 200)
    expected = list(safeload.scan_many(["hub"]))
    command = [sys.executable, "-c", _LOOP, "hub", "j.db"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [subprocess.Popen([*command, how], env=environment, **pipes) for how in ("goes", "goes", "stays")]
    assert children[2].stdout is not None
    children[2].stdout.readline()
    children[2].kill()
    said = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, -signal.SIGKILL]
    assert said[0] == said[1] == "".join(f"{found.path}\n" for found in expected).encode()
    assert list(safeload.scan_many(["hub"], journal="j.db")) == expected


def test_a_journal_that_somebody_else_holds_is_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.pkl").write_bytes(DATA)
    list(safeload.scan_many(["a.pkl"], journal="j.db"))
    monkeypatch.setattr("safeload.scanning.journal._PATIENCE", 0.05)
    holder = sqlite3.connect(here / "j.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(UsageError, match=r"j\.db: the journal cannot be used: database is locked"):
            list(safeload.scan_many(["a.pkl"], journal="j.db"))
    finally:
        holder.close()


@pytest.mark.parametrize("cut", [False, True])
def test_a_journal_with_damaged_pages_is_an_error(cut: bool, here: Path) -> None:
    """Whatever SQLite makes of it, it is an error of ours, or every verdict is right all the same."""
    registry(here / "hub", 60)
    old()
    expected = list(safeload.scan_many(["hub"], journal="j.db"))
    good = (here / "j.db").read_bytes()
    rng = random.Random(3)
    errors = 0
    for _ in range(30):
        bad = bytearray(good[: rng.randrange(17, len(good))] if cut else good)
        for _ in range(0 if cut else 40):
            bad[rng.randrange(16, len(bad))] = rng.randrange(256)
        for leftover in here.glob("j.db-*"):
            leftover.unlink()
        (here / "j.db").write_bytes(bad)
        try:
            assert [_bare(found) for found in safeload.scan_many(["hub"], journal="j.db")] == [_bare(found) for found in expected]
        except UsageError:
            errors += 1
    assert errors


def _bare(found: Report | Skipped) -> tuple[str, object]:
    return found.path, found.decision.outcome if isinstance(found, Report) else "skipped"


# ---- memory


def test_no_more_is_under_way_than_keeps_the_engine_busy(here: Path) -> None:
    """Whoever reads slowly must not make everything wait in memory."""
    drawn = 0

    def entries() -> Iterator[Job | Skipped]:
        nonlocal drawn
        for number in range(100_000):
            drawn += 1
            yield Job(str(number), problem="made up") if number % 2 else Skipped(str(number), "made up")

    class Waiting(Executor):
        def submit(self, function: Any, /, jobs: Any, *rest: Any) -> Future[Batch]:  # type: ignore[override]
            raise AssertionError

    found = many.results(entries(), many.Plan(context=Context.of({}, False), executor=Waiting()))
    next(found)
    assert drawn <= 2000
    assert sum(1 for _ in found) == 99_999


def test_batches_end_by_bytes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "BATCH_BYTES", 1000)
    for number in range(10):
        (here / f"{number}.bin").write_bytes(DATA + bytes(600))
    sizes: list[int] = []

    class Counting(_Dying):
        def submit(self, function: Any, /, jobs: Any, *rest: Any) -> Future[Any]:  # type: ignore[override]
            sizes.append(len(jobs))
            return super().submit(function, jobs, *rest)

    assert len(list(safeload.scan_many(["."], executor=Counting()))) == 10
    assert sizes == [2] * 5


def test_an_output_file_appears_only_when_it_is_complete(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    (here / "a.pkl").write_bytes(DATA)

    def failing(*_: Any, **__: Any) -> Iterator[Any]:
        yield from ()
        raise SafeloadError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr("safeload.cli.scan_run.results", failing)
        assert run(["scan", "a.pkl", "--format", "json", "-o", "out.json"]) == 2
    assert sorted(path.name for path in here.iterdir()) == ["a.pkl"]
    assert run(["scan", "a.pkl", "--format", "json", "-o", "out.json", "--report", "out.html"]) == 0
    assert json.loads((here / "out.json").read_text())["summary"]["allowed"] == 1
    assert "safeload scan" in (here / "out.html").read_text()
    assert run(["scan", "a.pkl", "-o", "out.json"]) == 2
    assert run(["scan", "a.pkl", "-o", "out.json", "--force"]) == 0
    assert (here / "out.json").read_text() == "a.pkl  pickle  allowed\n"
    (here / "link").symlink_to("target.txt")
    (here / "target.txt").write_text("")
    assert run(["scan", "a.pkl", "-o", "link", "--force"]) == 0
    assert (here / "target.txt").read_text() == "a.pkl  pickle  allowed\n"
    capsys.readouterr()


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"a":' * 100_000, '""', "[]", "null", "5", '{"decision":5}', '{"path":"a"}'])
def test_a_record_that_is_none_is_damage_and_nothing_else(text: str) -> None:
    """A journal is input: what cannot be read is scanned again."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_record(text)


@pytest.mark.parametrize(
    "change",
    [
        {"path": 1}, {"format": None}, {"size": "7"}, {"size": True}, {"size": -1}, {"sha256": 7}, {"globals": "os"}, {"globals": [1]},
        {"findings": [{"rule": "SL101", "level": "note", "message": 7}]}, {"findings": {}}, {"findings": [[]]}, {"error": []},
        {"streams": [{"member": None, "offset": 0, "nbytes": 1, "protocol": 2, "opcodes": "3"}]}, {"metadata": {"k": 1}}, {"metadata": []},
        {"decision": {"outcome": "allowed", "reasons": "", "refused_globals": []}}, {"origin": {"version": 1, "fetched": 1, "requests": 2}},
        {"more": 1},
    ],
)  # fmt: skip
def test_a_record_whose_fields_are_of_other_types_is_damage(change: dict[str, Any]) -> None:
    """It would be taken for evidence, and fail wherever that is read."""
    record = json.loads(to_record(Report(path="a", format="pickle", size=7, decision=Decision(outcome=Outcome.ALLOWED))))
    assert from_record(json.dumps(record)).path == "a"
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_record(json.dumps({**record, **change}))
