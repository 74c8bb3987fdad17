"""Repositories on a hub, through huggingface_hub itself and a small server of its API: one commit, ranges, tokens for the hub alone."""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

import safeload
from safeload.cli import run
from safeload.findings import Outcome, Report
from tests.forge_cli import CALL, DATA, write_checkpoint
from tests.large_files import write_large
from tests.range_server import Served
from tests.services.hub_server import TOKEN, Repo, hub

OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture
def repos(here: Path) -> dict[str, Repo]:
    write_checkpoint(here / "model.pt")
    write_large(here / "big.pt", storages=2, nbytes=1 << 20)
    model = (here / "model.pt").read_bytes()
    files = {"model.pt": model, "big.pt": (here / "big.pt").read_bytes(), "README.md": b"# model\n", "sub/bad.pkl": CALL}
    return {"acme/net": Repo({"main": NEW, "v1": OLD}, {OLD: {"model.pt": model}, NEW: files}),
            "acme/own": Repo({"main": OLD}, {OLD: {"a.pkl": DATA}}, private=True)}  # fmt: skip


@pytest.fixture
def stored(repos: dict[str, Repo], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Served]]:
    """The hub, in force: huggingface_hub reads its endpoint when it is imported."""
    constants = importlib.import_module("huggingface_hub.constants")
    with hub(repos) as (endpoint, served):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


def test_a_file_of_a_repository_by_ranges(stored: dict[str, Served], repos: dict[str, Repo]) -> None:
    report = safeload.scan("hf://acme/net/big.pt")
    assert (report.error, report.decision.outcome, report.format) == (None, Outcome.ALLOWED, "torch-zip")
    assert report.origin is not None
    assert (report.origin.repo, report.origin.requested, report.origin.revision) == ("acme/net", "main", NEW)
    assert report.origin.fetched < 80 << 10
    assert sum(served.sent for served in stored.values()) < 80 << 10
    assert safeload.scan("hf://acme/net@v1/model.pt", digest=True).sha256 == safeload.scan("model.pt", digest=True).sha256
    assert huggingface_hub.__version__


def test_a_repository_is_walked_at_one_commit(
    stored: dict[str, Served], repos: dict[str, Repo], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scan", "--format", "json", "hf://acme/net", "--journal", "j.db"]) == 1
    document = json.loads(capsys.readouterr().out)
    front = f"hf://acme/net@{NEW}/"
    assert {entry["path"].removeprefix(front): entry["decision"] for entry in document["files"]} == {
        "big.pt": "allowed", "model.pt": "allowed", "sub/bad.pkl": "refused",
    }  # fmt: skip
    assert [entry["path"] for entry in document["skipped"]] == [f"{front}README.md"]
    requests = sum(len(served.requests) for served in stored.values())
    # the same content is known, at whatever commit it is
    repos["acme/net"].commits["3" * 40] = repos["acme/net"].commits[NEW]
    repos["acme/net"].revisions["main"] = "3" * 40
    assert run(["scan", "--format", "json", "hf://acme/net/", "--journal", "j.db"]) == 1
    assert json.loads(capsys.readouterr().out)["files"][0]["path"].startswith(f"hf://acme/net@{'3' * 40}/")
    assert sum(len(served.requests) for served in stored.values()) == requests


def test_a_token_goes_to_the_hub_and_not_to_its_store(
    stored: dict[str, Served], repos: dict[str, Repo], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["scan", "hf://acme/own/a.pkl"]) == 2
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert run(["scan", "hf://acme/own/a.pkl"]) == 0
    assert any(token for _, token in repos["acme/own"].seen)
    requests = [request for served in stored.values() for request in served.requests]
    assert requests
    assert not any("authorization" in request for request in requests)
    out = capfd.readouterr()
    assert TOKEN not in out.out + out.err
    assert "hunter2" not in out.out + out.err


def test_lock_keeps_repository_and_commit(stored: dict[str, Served], here: Path) -> None:
    (here / "model.pt").unlink()
    assert run(["lock", "hf://acme/net@v1/model.pt"]) == 0
    source = tomllib.loads((here / "safeload.lock").read_text())["model"][0]["source"]
    assert source == {"kind": "huggingface", "repo": "acme/net", "requested": "v1", "revision": OLD}
    assert run(["load", "hf://acme/net/model.pt"]) == 0


@pytest.mark.parametrize("url", ["hf://acme/none/m.pt", "hf://acme/net@v9/model.pt", "hf://acme/net/none.pt"])
def test_what_is_not_there(url: str, stored: dict[str, Served]) -> None:
    with pytest.raises(FileNotFoundError):
        safeload.scan(url)
    (report,) = safeload.scan_many([url])
    assert isinstance(report, Report)
    assert "not found" in str(report.error)
