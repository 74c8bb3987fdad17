"""The tables that `./run real` prints and docs/compatibility.md quotes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

__all__ = ["FILES", "LIBRARIES", "PROGRAMS", "ROWS", "RUNS", "WRITERS", "Library", "Program", "Row", "Table"]

_END: Final = "<!-- end of table -->"
_UPDATE: Final = bool(os.environ.get("SAFELOAD_UPDATE_DOCS"))  # tests see none of the person's settings
_PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"


@dataclass(slots=True)
class Row:
    """What came of one file; nothing that changes from run to run.

    Attributes:
        file: Package and path.
        format: As the report says.
        torch: "loads", or what torch refuses.
        safeload: What was compared, and that it is the same.
        tensors: Tensors in the state dict, "–" without one.
        converted: What of it was found again in the safetensors file.
    """

    file: str
    format: str = "?"
    torch: str = "?"
    safeload: str = "?"
    tensors: str = "–"
    converted: str = "–"


@dataclass(slots=True)
class Program:
    """What came of one program.

    Attributes:
        package: With its version.
        what: The program's docstring without the package's name.
        loads: The model files that it loads, as `safeload trace` lists them.
        run: What `safeload run` gave, compared with the program by itself.
        pinned: The same with every file pinned, and nothing else allowed.
    """

    package: str
    what: str
    loads: str = "?"
    run: str = "?"
    pinned: str = "?"


@dataclass(slots=True)
class Library:
    """What came of one library's own checkpoints.

    Attributes:
        library: With its version.
        what: What its program does.
        loads: Files that went through `torch.load`, as `safeload trace` lists them.
        run: What `safeload run` gave, compared with the program by itself.
    """

    library: str
    what: str
    loads: str = "?"
    run: str = "?"


ROWS: Final[dict[str, Row]] = {}
PROGRAMS: Final[dict[str, Program]] = {}
LIBRARIES: Final[dict[str, Library]] = {}


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the page.

    Attributes:
        begin: The comment in front of it.
        headings: Of its columns.
    """

    begin: str
    headings: tuple[str, ...]

    def render(self, rows: Iterable[Row | Program | Library]) -> str:
        """Return the rows as a Markdown table with aligned columns."""
        cells = [self.headings, *(astuple(row) for row in rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(self.headings))]
        lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(lines)

    def quoted(self) -> str:
        """Return the table that the page quotes."""
        return _PAGE.read_text(encoding="utf-8").partition(self.begin)[2].partition(_END)[0].strip()

    def agrees(self, rows: Iterable[Row | Program | Library]) -> bool:
        """Whether the page quotes what came of this run; `SAFELOAD_UPDATE_DOCS=1` makes it do so."""
        made = self.render(rows)
        if _UPDATE:
            head, begin, rest = _PAGE.read_text(encoding="utf-8").partition(self.begin)
            _PAGE.write_text(f"{head}{begin}\n\n{made}\n\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
        return self.quoted() == made


FILES: Final = Table(
    "<!-- table: ./run real -->", ("file", "format", "torch.load(weights_only=True)", "safeload.load", "tensors", "as safetensors")
)
RUNS: Final = Table(
    "<!-- programs: ./run real -->", ("package", "program", "model files that it loads", "under `safeload run`", "all pinned")
)
WRITERS: Final = Table("<!-- libraries: ./run real -->", ("library", "what it reads back", "through `torch.load`", "under `safeload run`"))
