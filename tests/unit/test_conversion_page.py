"""docs/conversion.md says enough: a reader written from that page gives back what torch loads from the source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safeload.conversion import convert, job  # noqa: E402
from tests.compare import assert_same  # noqa: E402
from tests.page_reader import read_page  # noqa: E402
from tests.unit.test_conversion_torch import CASES, saved  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(autouse=True)
def deeper() -> Iterator[None]:
    """That reader calls itself for every level."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 5000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("case", sorted(CASES))
def test_somebody_else_reads_it_by_the_page(case: str, tmp_path: Path) -> None:
    """Every kind of node, entry, dtype and layout."""
    torch.manual_seed(8)
    source = saved(tmp_path / "in.pt", CASES[case]())
    convert(source)
    assert_same(torch.load(source, weights_only=False), read_page(tmp_path / "in.safetensors"))


@pytest.mark.parametrize("case", ["sharing", "training"])
def test_several_files_and_a_manifest_beside_them(case: str, tmp_path: Path) -> None:
    """The index names the files; the header names the sidecar."""
    source = saved(tmp_path / "in.pt", CASES[case]())
    convert(source, max_shard_size=200)
    assert_same(torch.load(source, weights_only=False), read_page(tmp_path / "in.safetensors.index.json"))


def test_a_long_manifest_beside_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single file may have one, too."""
    monkeypatch.setattr(job, "SIDECAR_BYTES", 100)
    source = saved(tmp_path / "in.pt", CASES["containers"]())
    convert(source)
    assert_same(torch.load(source, weights_only=False), read_page(tmp_path / "in.safetensors"))


def test_slices_of_storages_in_the_oldest_files(tmp_path: Path) -> None:
    """A `base` and an `offset` are enough to find them."""
    from tests.forge_build import build
    from tests.forge_tar_checkpoint import example

    source = tmp_path / "old.tar"
    source.write_bytes(example().file())
    convert(source)
    found: Any = read_page(tmp_path / "old.safetensors")
    assert_same(build(source), found)
