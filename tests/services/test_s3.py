"""Buckets of a real server that speaks S3 (moto's): ranges on condition, prefixes, credentials, objects that are replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs

import safeload
from safeload.cli import run
from safeload.errors import RemoteError
from safeload.findings import Outcome, Report
from safeload.remote import Address
from safeload.source import Source
from tests.forge_cli import CALL, DATA, make_tree
from tests.large_files import write_large
from tests.services.starting import free_port, python, running

SECRET = "wJalrXUtnFEMI"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    with running(python("-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)), log, port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket "models", and the environment that leads s3fs there."""
    environment = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
                   "AWS_ENDPOINT_URL": server, "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3fs.S3FileSystem.clear_instance_cache()
    found = boto3.resource("s3").create_bucket(Bucket="models")
    bucket = boto3.resource("s3").Bucket("models")
    yield bucket
    bucket.objects.all().delete()
    bucket.object_versions.all().delete()
    found.delete()


def put(bucket: Any, key: str, data: bytes) -> None:
    bucket.put_object(Key=key, Body=data)


def test_an_object_by_ranges(bucket: Any, here: Path) -> None:
    size = write_large(here / "big.pt", storages=3, nbytes=8 << 20)
    bucket.upload_file(str(here / "big.pt"), "a b/big.pt")
    report = safeload.scan("s3://models/a b/big.pt")
    assert (report.decision.outcome, report.size, report.path) == (Outcome.ALLOWED, size, "s3://models/a b/big.pt")
    assert report.origin is not None
    assert report.origin.fetched < 80 << 10
    assert report.unhashed
    local = safeload.scan(str(here / "big.pt"), digest=True)
    assert safeload.scan("s3://models/a b/big.pt", digest=True).sha256 == local.sha256


def test_an_object_that_is_replaced_between_two_ranges(bucket: Any, here: Path) -> None:
    write_large(here / "big.pt", storages=1, nbytes=1 << 20)
    data = (here / "big.pt").read_bytes()
    put(bucket, "m.pt", data)
    with Source.open(Address.of("s3://models/m.pt")) as source:
        source.read(0, 10)
        put(bucket, "m.pt", data[:-1] + b"x")
        with pytest.raises(RemoteError, match="changed while it was read"):
            source.read(1 << 20, 10)
    with Source.open(Address.of("s3://models/m.pt")) as source:
        source.read(0, 10)
        bucket.Object("m.pt").delete()
        with pytest.raises(RemoteError, match="went away"):
            source.read(1 << 20, 10)


def test_a_prefix_is_walked_like_the_directory(bucket: Any, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "tree").mkdir()
    make_tree(here / "tree")
    for path in sorted((here / "tree").rglob("*")):
        if path.is_file():
            put(bucket, f"hub/{path.relative_to(here / 'tree').as_posix()}", path.read_bytes())
    put(bucket, "hub/sub/", b"")  # how consoles make a directory
    put(bucket, "elsewhere/x.pkl", CALL)
    status = run(["scan", "--format", "json", "s3://models/hub/", "--jobs", "2", "--journal", "j.db"])
    there = json.loads(capsys.readouterr().out)
    assert run(["scan", "--format", "json", "tree"]) == status == 2
    local = json.loads(capsys.readouterr().out)
    assert {entry["path"].removeprefix("s3://models/hub/"): entry["decision"] for entry in there["files"]} == {
        entry["path"].removeprefix("tree/"): entry["decision"] for entry in local["files"]
    }
    assert [entry["path"] for entry in there["skipped"]] == ["s3://models/hub/README.md"]
    assert run(["scan", "--format", "json", "s3://models/hub/", "--include", "*.pt", "--journal", "j.db"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in again["files"]] == ["s3://models/hub/hostile.pt", "s3://models/hub/model.pt"]


def test_a_long_listing_comes_in_pages(bucket: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix with a million objects is never in memory as a whole, and its order is that of one page."""
    from safeload.remote import listing

    names = [f"hub/{number:02}.pkl" for number in range(25)] + ["hub/sub/a.pkl", "hub/sub/b/c.pkl", "hub/07b/x.pkl"]
    for name in names:
        put(bucket, name, CALL if name == "hub/13.pkl" else DATA)
    put(bucket, "hub/sub/", b"")
    whole = list(safeload.scan_many(["s3://models/hub/"]))
    monkeypatch.setattr(listing, "_PAGE", 4)
    pages = list(listing.Listing(Address.of("s3://models/hub/"), "hub").pages(""))  # type: ignore[arg-type]  # it is one
    assert len(pages) == 7
    assert list(safeload.scan_many(["s3://models/hub/"])) == whole
    assert [found.path.removeprefix("s3://models/") for found in whole] == [
        *names[:25], "hub/07b/x.pkl", "hub/sub/a.pkl", "hub/sub/b/c.pkl"
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError):
        list(listing.Listing(Address.of("s3://models/none/"), "none").pages(""))  # type: ignore[arg-type]


def test_a_key_with_an_empty_part_is_not_passed_by(bucket: Any, here: Path) -> None:
    """Stores take any text as a key; whoever hides a file behind two slashes has it counted."""
    put(bucket, "hub/a.pkl", DATA)
    put(bucket, "hub//b.pkl", CALL)
    put(bucket, "hub/sub//c.pkl", CALL)
    reports = [found for found in safeload.scan_many(["s3://models/hub/"]) if isinstance(found, Report)]
    outcomes = {report.path.removeprefix("s3://models/hub/"): report.decision.outcome.value for report in reports}
    assert outcomes == {"a.pkl": "allowed", "": "error", "sub/": "error"}


def test_the_journal_knows_objects_by_their_tags(bucket: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safeload.scanning import one_file

    for name in ("a", "b", "c"):
        put(bucket, f"{name}.pkl", DATA)
    first = list(safeload.scan_many(["s3://models/"], journal="j.db"))
    scans: list[str] = []
    real = one_file._scan

    def counted(job: Any, *rest: Any) -> Any:
        scans.append(job.path)
        return real(job, *rest)

    monkeypatch.setattr(one_file, "_scan", counted)
    assert list(safeload.scan_many(["s3://models/"], journal="j.db")) == first
    assert list(safeload.scan_many(["s3://models/b.pkl"], journal="j.db")) == first[1:2]
    assert not scans
    put(bucket, "b.pkl", CALL)
    second = list(safeload.scan_many(["s3://models/"], journal="j.db"))
    assert scans == ["s3://models/b.pkl"]
    assert [report.decision.outcome.value for report in second if isinstance(report, Report)] == ["allowed", "refused", "allowed"]


def test_a_version_is_read_as_that_version(bucket: Any, here: Path) -> None:
    bucket.Versioning().enable()
    first = bucket.put_object(Key="m.pkl", Body=DATA).version_id
    put(bucket, "m.pkl", CALL)
    assert safeload.scan("s3://models/m.pkl").decision.outcome is Outcome.REFUSED
    assert first is not None


@pytest.mark.parametrize(("url", "kind"), [("s3://models/none.pt", FileNotFoundError), ("s3://none/m.pt", FileNotFoundError)])
def test_what_is_not_there(url: str, kind: type[Exception], bucket: Any) -> None:
    with pytest.raises(kind):
        safeload.scan(url)


def test_an_address_of_a_directory_says_so(bucket: Any, capsys: pytest.CaptureFixture[str]) -> None:
    put(bucket, "d/m.pkl", DATA)
    assert run(["scan", "s3://models/d"]) == 2
    assert 'end its address with "/"' in capsys.readouterr().out
    assert run(["scan", "s3://models/d/"]) == 0


def test_no_secret_is_told(bucket: Any, server: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "m.pkl", DATA)
    assert run(["scan", "s3://models/m.pkl", "s3://models/none.pkl", f"s3://key:{SECRET}@models/m.pkl"]) == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    assert run(["scan", "s3://models/m.pkl"]) == 2
    out = capfd.readouterr()
    assert SECRET not in out.out + out.err
    assert "no connection" in out.out
