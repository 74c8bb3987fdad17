"""Buckets of a server that speaks Google's storage API (gcp-storage-emulator): ranges of one generation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.findings import Outcome
from tests.forge_cli import DATA
from tests.large_files import write_large
from tests.services.starting import free_port, python, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    top = tmp_path_factory.mktemp("gcs")
    script = "from gcp_storage_emulator.server import create_server as make; "
    script += f"make('127.0.0.1', {port}, in_memory=True, default_bucket='models').run()"
    with running(python("-c", script), top / "log", port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def system(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks for the kind of bucket over gRPC
    import gcsfs

    gcsfs.GCSFileSystem.clear_instance_cache()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    return gcsfs.GCSFileSystem(token="anon", endpoint_url=server, skip_instance_cache=True)


def test_an_object_by_ranges(system: Any, here: Path) -> None:
    size = write_large(here / "big.pt", storages=2, nbytes=256 << 10)
    system.put_file(str(here / "big.pt"), "models/big.pt")
    report = safeload.scan("gs://models/big.pt")
    assert (report.error, report.decision.outcome, report.size) == (None, Outcome.ALLOWED, size)
    assert report.origin is not None
    assert report.origin.fetched < 80 << 10
    assert safeload.scan("gs://models/big.pt", digest=True).sha256 == safeload.scan(str(here / "big.pt"), digest=True).sha256
    with pytest.raises(FileNotFoundError):
        safeload.scan("gs://models/none.pt")
    names = [report.path for report in safeload.scan_many(["gs://models/"])]
    assert names == ["gs://models/big.pt"]


def test_a_long_listing_comes_in_pages(system: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safeload.remote import listing

    names = [f"hub/{number:02}.pkl" for number in range(7)] + ["hub/sub/a.pkl"]
    for name in names:
        system.pipe_file(f"models/{name}", DATA)
    monkeypatch.setattr(listing, "_PAGE", 3)
    found = list(safeload.scan_many(["gs://models/hub/"], journal="j.db"))
    assert [report.path.removeprefix("gs://models/") for report in found] == names
    assert list(safeload.scan_many(["gs://models/hub/"], journal="j.db")) == found
