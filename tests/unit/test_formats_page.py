"""Every row of docs/formats.md: benign files are allowed, hostile ones refused by the rule that names them, and the page says so."""

from __future__ import annotations

import gzip

import pytest

from safeload.findings import Outcome
from tests.forge_serving import tar
from tests.forge_zip import Part, forge
from tests.formats_page import FormatRow, Maker, all_rows, quoted, render, update, verdict

ROWS = all_rows()
BENIGN = [pytest.param(row, maker, id=f"{row.format}-{name}") for row in ROWS for name, maker in row.benign.items()]
HOSTILE = [pytest.param(row, maker, rule, id=f"{row.format}-{name}") for row in ROWS for name, (maker, rule) in row.hostile.items()]


@pytest.mark.parametrize(("row", "maker"), BENIGN)
def test_what_the_format_is_for_is_allowed(row: FormatRow, maker: Maker) -> None:
    """A reader that refuses ordinary files teaches people to ignore it."""
    found = verdict(maker())
    assert found.outcome is Outcome.ALLOWED, found
    assert row.format in found.formats


@pytest.mark.parametrize(("row", "maker", "rule"), HOSTILE)
def test_a_documented_technique_is_refused(row: FormatRow, maker: Maker, rule: str) -> None:
    """By the rule that explains it, and not by chance."""
    found = verdict(maker())
    assert found.outcome is Outcome.REFUSED, found
    assert rule in found.rules
    assert row.format in found.formats


FILES = [param for param in HOSTILE if isinstance(param.values[1](), bytes)]  # type: ignore[operator]


@pytest.mark.parametrize(("row", "maker", "rule"), FILES)
def test_a_technique_is_named_under_any_name_and_within_anything(row: FormatRow, maker: Maker, rule: str) -> None:
    """A reader is chosen by content: as a picture, and as a note packed in an archive in an archive, the file is what it is."""
    made = maker()
    assert isinstance(made, bytes)
    for disguised in ({"x.png": made}, {"README.md": gzip.compress(tar({"notes.txt": forge(Part("x.json", made, method=8))}))}):
        found = verdict(disguised)
        assert found.outcome is not Outcome.ALLOWED, found
        assert {rule, "SL217"} & {*found.rules}  # or it is deeper than anybody looks, which refuses, too


def test_every_format_has_both_kinds_of_file() -> None:
    """A row without a hostile file shows nothing."""
    assert [row.title for row in ROWS if not row.benign or not row.hostile] == []


def test_the_page_says_what_was_found() -> None:
    """A table that no run made is a claim. `SAFELOAD_UPDATE_DOCS=1` writes it anew."""
    if update():
        return
    assert quoted() == render(), "SAFELOAD_UPDATE_DOCS=1 python -m pytest tests/unit/test_formats_page.py"
