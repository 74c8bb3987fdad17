"""The generated part of docs/compatibility.md: what the matrix found, as tables."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch

from tests.matrix.arguments import ARGUMENTS
from tests.matrix.files import FILES, file_result
from tests.matrix.outcome import BOTH, CANNOT, DIFFERS, ERROR, NEITHER, OURS, THEIRS
from tests.matrix.rows import ROWS
from tests.matrix.running import FORMATS, PROTOCOLS, Result, dtype_result, result
from tests.matrix.tensors import DENSE, DTYPES

__all__ = ["BEGIN", "END", "PAGE", "about", "quoted", "render", "update"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN: Final = "<!-- matrix: SAFELOAD_UPDATE_DOCS=1 python -m pytest tests/matrix -->"
END: Final = "<!-- end of matrix -->"
_UPDATE: Final = bool(os.environ.get("SAFELOAD_UPDATE_DOCS"))  # read once: tests run without any SAFELOAD_ variable
_WORDS: Final = (BOTH, OURS, ERROR, DIFFERS, NEITHER, THEIRS, CANNOT)


def about() -> str:
    """What the tables hold for: other versions write and read other things."""
    python = platform.python_version().rpartition(".")[0]
    return f"torch {torch.__version__.partition('+')[0]}, numpy {np.__version__}, Python {python}, {platform.system()}"


def _table(headings: Iterable[str], lines: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = list(headings)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


def _tally(found: Counter[str]) -> str:
    return ", ".join(f"{word} {found[word]}" for word in _WORDS if found[word]) or "–"


def _cells(found: Result) -> Iterator[str]:
    """By format, with what comes of granting."""
    cells = [str(found.cells[form]) for form in FORMATS]
    for cell in cells:
        yield f"{cell}; {found.granted}" if cell.startswith(NEITHER) and found.granted else cell


def _summary() -> Iterator[str]:
    everything: Counter[str] = Counter()
    for index in range(len(ROWS)):
        found = result(index)
        everything.update(outcome.word for outcome in found.cells.values())
        for counts in found.counts.values():
            everything.update(counts)
    everything.update(dtype_result(dtype, kind, form).word for dtype in DTYPES for kind in DENSE for form in FORMATS)
    loads = sum(everything[word] for word in _WORDS if word != CANNOT)
    kinds = f"{len(ROWS)} kinds of objects and {len(DTYPES)} dtypes in {len(DENSE)} forms"
    yield f"{kinds}, {loads:,} loads by both: {_tally(everything)}."
    yield ""


def _varied(form: str, name: str) -> str:
    total: Counter[str] = Counter()
    for index in range(len(ROWS)):
        total.update(result(index).counts.get((name, form), {}))
    return _tally(total)


def _arguments() -> Iterator[str]:
    yield "### Arguments and settings, with every kind of object"
    yield ""
    lines = [(f"`{one.name}`", one.torch, one.ours, *(_varied(form, one.name) for form in FORMATS)) for one in ARGUMENTS]
    yield from _table(("argument", "torch", "safeload", *FORMATS), lines)
    yield "### Pickle protocols, with every kind of object"
    yield ""
    settings = [f"pickle_protocol={one}" for one in PROTOCOLS]
    yield from _table(("saved with", *FORMATS), [(f"`{name}`", *(_varied(form, name) for form in FORMATS)) for name in settings])


def _dtypes() -> Iterator[str]:
    yield "### Dtypes"
    yield ""
    yield "One line says both formats; where they differ, zip / legacy."
    yield ""
    short = {BOTH: "same", OURS: "only safeload", CANNOT: "not saved", "cannot be made": "no such tensor"}

    def cell(dtype: str, kind: str) -> str:
        words = [short.get(dtype_result(dtype, kind, form).word, dtype_result(dtype, kind, form).word) for form in FORMATS]
        return words[0] if words[0] == words[1] else " / ".join(words)

    yield from _table(("dtype", *DENSE), [(dtype.removeprefix("torch."), *(cell(dtype, kind) for kind in DENSE)) for dtype in DTYPES])


def _groups() -> Iterator[str]:
    groups = list(dict.fromkeys(row.group for row in ROWS))
    for group in groups:
        yield f"### {group[0].upper()}{group[1:]}"
        yield ""
        yield from _table(
            ("object", *FORMATS), [(row.name, *_cells(result(index))) for index, row in enumerate(ROWS) if row.group == group]
        )


def _files() -> Iterator[str]:
    yield "### Other files"
    yield ""
    yield from _table(("file", "result"), [(name, file_result(name)) for name in FILES])


def render() -> str:
    """Return the generated part, without its markers."""
    parts = [f"Measured with {about()}.", "", *_summary(), *_arguments(), *_dtypes(), *_files(), *_groups()]
    return "\n".join(parts).strip()


def quoted() -> str:
    """Return the generated part as the page has it."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def update() -> bool:
    """Write it into the page when SAFELOAD_UPDATE_DOCS is set; returns whether it did."""
    if not _UPDATE:
        return False
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{render()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return True
