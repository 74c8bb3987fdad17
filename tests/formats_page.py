"""docs/formats.md: per format what is read, what is refused and by which rule, made by scanning one file of each kind.

How to add rows: put a module into `tests/format_rows/` (any name; one per family of formats) with

    ROWS = [FormatRow(format="gguf", title="GGUF", written_by="llama.cpp", reads="…", benign={…}, hostile={…})]

and run `SAFELOAD_UPDATE_DOCS=1 python -m pytest tests/unit/test_formats_page.py`. Nothing else has to be registered. `benign` maps
what a file is ("a vocabulary and two tensors") to a function that makes it; `hostile` maps a technique to (function, rule). A
function returns the bytes of a file, or a dict of relative path → bytes for a directory. Every benign one must be allowed, every
hostile one refused with (at least) its rule; the page prints what came out. Files are made without torch and numpy, because the
tests also run where there are none; torch-only rows have no place here.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safeload.context import Context
from safeload.findings import Level, Outcome, Report
from safeload.rules import RULES
from safeload.scanning import Job, Settings, Skipped, collect, scan_file

__all__ = ["FormatRow", "Made", "Maker", "Verdict", "all_rows", "quoted", "render", "update", "verdict"]

Made = bytes | Mapping[str, bytes]
Maker = Callable[[], Made]

PAGE: Final = Path(__file__).parents[1] / "docs" / "formats.md"
BEGIN: Final = "<!-- formats: SAFELOAD_UPDATE_DOCS=1 python -m pytest tests/unit/test_formats_page.py -->"
END: Final = "<!-- end of formats -->"
_UPDATE: Final = bool(os.environ.get("SAFELOAD_UPDATE_DOCS"))  # read once: tests run without any SAFELOAD_ variable


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatRow:
    """One format.

    Attributes:
        format: As it stands in reports ("gguf").
        title: As people call it.
        written_by: Which programs write it.
        reads: What is looked at, half a sentence.
        loads: What `safeload.load` does with it.
        extra: The extra of pyproject.toml that a part of it needs ("jinja"), or "".
        order: Rows are sorted by it, then by title. Torch's own formats have 0 to 9.
        benign: What it is → a function that makes one. All are allowed.
        hostile: Technique → (a function that makes one, the rule that names it). All are refused.
    """

    format: str
    title: str
    written_by: str
    reads: str
    loads: str = "no: scanned, locked and verified"
    extra: str = ""
    order: int = 50
    benign: Mapping[str, Maker] = field(default_factory=dict)
    hostile: Mapping[str, tuple[Maker, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scan said of one file or directory.

    Attributes:
        outcome: The worst of its files: error, then refused, then allowed.
        formats: Of every file that some reader claims.
        rules: Of every finding above level note, sorted.
        level: The worst level of a finding, or None.
    """

    outcome: Outcome
    formats: frozenset[str]
    rules: tuple[str, ...]
    level: Level | None


def all_rows() -> list[FormatRow]:
    """Return the rows of every module in `tests/format_rows`."""
    from tests import format_rows

    found: list[FormatRow] = []
    for module in pkgutil.iter_modules(format_rows.__path__):
        found += importlib.import_module(f"{format_rows.__name__}.{module.name}").ROWS
    return sorted(found, key=lambda row: (row.order, row.title.casefold()))


def verdict(made: Made) -> Verdict:
    """Scan a file, or a directory of files, as the command does."""
    with tempfile.TemporaryDirectory(prefix="safeload-formats-") as scratch:
        top = Path(scratch, "model")
        if isinstance(made, Mapping):
            top.mkdir()
            for name, data in made.items():
                path = top / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        else:
            top.write_bytes(made)
        context = Context.of({}, False)
        jobs = collect([str(top)], include=(), exclude=())
        results = [scan_file(job, context, Settings()) for job in jobs if isinstance(job, Job)]
    return _worst([report for report in results if not isinstance(report, Skipped)])


def _worst(reports: Iterable[Report]) -> Verdict:
    reports = list(reports)
    outcomes = {report.decision.outcome for report in reports}
    outcome = next((worst for worst in (Outcome.ERROR, Outcome.REFUSED) if worst in outcomes), Outcome.ALLOWED)
    heard = [found for report in reports for found in report.findings if found.level is not Level.NOTE]
    level = None if not heard else Level.ERROR if any(found.level is Level.ERROR for found in heard) else Level.WARNING
    return Verdict(outcome, frozenset(report.format for report in reports), tuple(sorted({found.rule for found in heard})), level)


# ---- the page


def _table(headings: Iterable[str], lines: Iterable[Iterable[str]]) -> Iterator[str]:
    titles = list(headings)
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


def _linked(rules: Iterable[str]) -> str:
    return ", ".join(f"[{rule}](rules/{rule}.md) {RULES[rule].name}" for rule in rules)


def _said(found: Verdict) -> str:
    if found.outcome is Outcome.ALLOWED:
        return "allowed"
    return f"{found.outcome}, {found.level}: {_linked(found.rules)}" if found.rules else str(found.outcome)


def _section(row: FormatRow) -> Iterator[str]:
    yield f"### {row.title}"
    yield ""
    yield f"Written by {row.written_by}. Read: {row.reads}."
    yield ""
    makers = [*row.benign.items(), *((name, maker) for name, (maker, _) in row.hostile.items())]
    yield from _table(("a file with", "verdict"), ((name, _said(verdict(maker()))) for name, maker in makers))


def render() -> str:
    """Return the generated part, without its markers."""
    rows = all_rows()
    lines = [
        *_table(
            ("format", "in reports", "extra", "`safeload.load`"),
            ((row.title, f"`{row.format}`", f"`safeload[{row.extra}]`" if row.extra else "–", row.loads) for row in rows),
        )
    ]
    for row in rows:
        lines += _section(row)
    return "\n".join(lines).strip()


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
