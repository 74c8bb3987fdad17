"""Whatever `torch.save` writes, both loaders agree on, or safeload loads what torch refuses, or docs/compatibility.md says why not."""

from __future__ import annotations

import difflib

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

from tests.matrix.files import FILES, file_result  # noqa: E402
from tests.matrix.outcome import NEITHER, THEIRS, WRONG  # noqa: E402
from tests.matrix.page import about, quoted, render, update  # noqa: E402
from tests.matrix.rows import ROWS  # noqa: E402
from tests.matrix.running import FORMATS, dtype_result, result  # noqa: E402
from tests.matrix.tensors import DENSE, DTYPES  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.mark.parametrize("index", range(len(ROWS)), ids=[row.label for row in ROWS])
def test_one_kind_of_object_in_both_formats_with_every_argument(index: int) -> None:
    """Values to the bit, strides, aliasing, identity, types, devices; or the same error; or a reason."""
    found = result(index)
    assert not found.wrong, "\n".join(found.wrong)
    assert set(found.cells) == set(FORMATS)
    assert all(outcome.why for outcome in found.cells.values() if outcome.word in (NEITHER, THEIRS))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_dtype_in_every_form(dtype: str) -> None:
    """Every dtype that this torch has: also those that torch writes into legacy streams and cannot read from there."""
    results = {(kind, form): dtype_result(dtype, kind, form) for kind in DENSE for form in FORMATS}
    assert not {key: str(outcome) for key, outcome in results.items() if outcome.word in (WRONG, THEIRS, NEITHER)}


@pytest.mark.parametrize("name", FILES)
def test_other_files(name: str) -> None:
    """What torch reads in other ways, and what it is handed by mistake."""
    assert WRONG not in file_result(name)


def test_the_page_says_what_was_found() -> None:
    """A table that no run made is a claim. `SAFELOAD_UPDATE_DOCS=1` writes it anew."""
    if update():
        return
    if f"Measured with {about()}." not in quoted():
        pytest.skip(f"docs/compatibility.md holds for other versions than {about()}")
    written, found = quoted(), render()
    differs = [line for line in difflib.ndiff(written.splitlines(), found.splitlines()) if line[0] in "+-"] if written != found else []
    assert not differs, "\n".join(["SAFELOAD_UPDATE_DOCS=1 python -m pytest tests/matrix", *differs[:20]])


def test_no_row_of_the_page_is_untried() -> None:
    """Every kind has a result for each format, whatever the result is."""
    page = quoted()
    assert "not tried" not in page
    assert WRONG not in page
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert all(cell.strip("| ") for line in lines for cell in line)
    named = {line[0].removeprefix("| ") for line in lines}
    assert {row.name for row in ROWS} <= named or about() not in page
    assert {dtype.removeprefix("torch.") for dtype in DTYPES} <= named or about() not in page
