"""Where results go: lines with styles to a terminal, plain text anywhere else, and files that are not overwritten."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

from safeload.errors import UsageError
from safeload.findings import Level, Outcome, escape

__all__ = [
    "Line",
    "as_json",
    "check_output",
    "coloured",
    "count",
    "emit",
    "on_terminal",
    "outcome_style",
    "place",
    "plain",
    "short_digest",
    "size_text",
    "summary",
]

Line = Sequence[tuple[str, str]]
"""Pieces of one line: (text, style). The text is escaped already; the style is rich's, or ""."""

_STYLES = {
    Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan",
    Outcome.ALLOWED: "green", Outcome.REFUSED: "bold red", Outcome.ERROR: "bold yellow",
}  # fmt: skip


def outcome_style(what: Level | Outcome) -> str:
    """The style of a level or an outcome."""
    return _STYLES[what]


def on_terminal(stream: IO[str]) -> bool:
    """Whether colour and bars have a place on this stream."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def plain(lines: Iterable[Line]) -> str:
    """Lines as text without styles."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def check_output(output: str | os.PathLike[str] | None, *, force: bool) -> None:
    """Refuse to overwrite before any work is done.

    Raises:
        UsageError: the file exists, and nobody said --force.
    """
    if output is not None and not force and os.path.lexists(output):
        raise UsageError("exists, and is not overwritten", where=escape(str(output), 1000), hint="--force overwrites it")


def emit(result: str | list[Line], output: str | os.PathLike[str] | None = None, *, force: bool = False) -> None:
    """Write a result to stdout or into a file; colour only where a person looks at it.

    Raises:
        UsageError: the file came to exist meanwhile.
    """
    if output is not None:
        text = result if isinstance(result, str) else plain(result)
        try:
            with open(output, "w" if force else "x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except FileExistsError:
            check_output(output, force=False)
            raise
        return
    if isinstance(result, str) or not on_terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        sys.stdout.write(result if isinstance(result, str) else plain(result))
    else:
        coloured(result, sys.stdout)
    sys.stdout.flush()


def summary(line: Line, *, quiet: bool = False) -> None:
    """Write one line to stderr."""
    if quiet:
        return
    if on_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
        coloured([line], sys.stderr)
    else:
        sys.stderr.write(plain([line]))
    sys.stderr.flush()


def coloured(lines: Iterable[Line], stream: IO[str], *, force: bool = False) -> None:
    """Write lines with their styles.

    Args:
        lines: The lines.
        stream: A terminal; or
        force: something that is shown on one later.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, soft_wrap=True, force_terminal=force or None)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)


def as_json(document: Any) -> str:
    """JSON that is plain ASCII, so that no terminal or log can be misled by what is in it."""
    import json

    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def place(path: str | os.PathLike[str]) -> str:
    """A path for people: relative where it lies below the working directory, and escaped."""
    from pathlib import Path

    shown = Path(path)
    if shown.is_absolute() and shown.is_relative_to(Path.cwd()):
        shown = shown.relative_to(Path.cwd())
    return escape(str(shown), 1000)


def count(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def short_digest(sha256: str) -> str:
    """`sha256:` and twelve digits."""
    from safeload.trust.digest import Digest

    return Digest("sha256", sha256).short


def size_text(nbytes: int) -> str:
    """`1.5 MB`: for people, never for comparison."""
    if nbytes < 1000:
        return f"{nbytes} B"
    value = float(nbytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            return f"{value:.1f} {unit}"
    return f"{nbytes} B"
