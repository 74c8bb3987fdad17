"""The table that `./run real` prints and docs/compatibility.md quotes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["BEGIN", "END", "ROWS", "Row", "quoted", "render"]

BEGIN: Final = "<!-- table: ./run real -->"
END: Final = "<!-- end of table -->"
HEADINGS: Final = ("file", "format", "torch.load(weights_only=True)", "safeload.load", "tensors", "as safetensors")


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


ROWS: Final[dict[str, Row]] = {}


def render(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table with aligned columns."""
    cells = [HEADINGS, *((row.file, row.format, row.torch, row.safeload, row.tensors, row.converted) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def quoted(page: Path) -> str | None:
    """Return the table that a page quotes, or None when it quotes none."""
    if not page.is_file():
        return None
    _, found, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    return rest.partition(END)[0].strip() if found else None
