"""`safeload cache`: what is kept in the cache directory, and making room there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from safeload.cli.options import BYTES, format_option, quiet_option
from safeload.cli.output import Line, as_json, count, emit, outcome_style, place, short_digest, size_text, summary
from safeload.cli.render.json_output import path_text
from safeload.conversion.cache import Kept, TwinCache
from safeload.errors import UnsupportedError
from safeload.findings import Outcome, escape
from safeload.trust.cache import cache_directory, kinds_of, most_bytes

__all__ = ["command"]

_DAY = 86_400.0
_KINDS = {
    "converted": "files", "leaves": "lists of leaf digests", "stamps": "files that were verified",
    "signatures": "signatures that were verified",
}  # fmt: skip


@click.group(name="cache")
def command() -> None:
    """Show what the cache directory keeps, and make room there.

    It is the platform's directory for caches, or SAFELOAD_CACHE. Everything in it can be made again.
    """


def _root() -> Path:
    root = cache_directory()
    if root is None:
        raise UnsupportedError("no cache directory is in use", hint="it must be this user's own, and nobody else may write to it")
    return root


@command.command(name="list")
@format_option("text", "json")
@quiet_option
def list_command(kind: str, quiet: bool) -> int:
    """List converted files by when they were last loaded, and count everything else.

    Exit status: 0, or 2 when there is no cache directory.
    """
    root, cache = _root(), TwinCache.here()
    entries = cache.entries() if cache is not None else []
    others = {name: found for name, found in kinds_of(root, _KINDS).items() if name != "converted"}
    emit(_list_json(root, entries, others) if kind == "json" else _list_lines(entries, others))
    held = size_text(sum(entry.nbytes for entry in entries))
    text = f"{count(len(entries), 'converted file')} in {place(root)}: {held} of at most {size_text(most_bytes())}"
    summary([(text, "")], quiet=quiet)
    return 0


def _list_lines(entries: Sequence[Kept], others: dict[str, tuple[int, int]]) -> list[Line]:
    lines: list[Line] = []
    for entry in entries:
        days = max(0, int((time.time() - entry.used) // _DAY))
        when = "today" if not days else f"{count(days, 'day')} ago"
        made = f"  converted from {escape(entry.source_format, 40)}, {size_text(entry.nbytes)}, used {when}"
        lines.append([(short_digest(entry.source_sha256), "bold"), (made, "")])
    for name, (number, nbytes) in others.items():
        lines.append([(f"{escape(name, 60)}  ", "bold"), (f"{number:,} {_KINDS[name]}, {size_text(nbytes)}", "dim")])
    return lines


def _list_json(root: Path, entries: Sequence[Kept], others: dict[str, tuple[int, int]]) -> str:
    return as_json(
        {
            "version": 1,
            "directory": path_text(str(root)),
            "most": most_bytes(),
            "converted": [_entry(entry) for entry in entries],
            "others": {name: {"files": number, "nbytes": nbytes} for name, (number, nbytes) in others.items()},
        }
    )


def _entry(entry: Kept) -> dict[str, Any]:
    return {
        "source": f"sha256:{entry.source_sha256}", "format": entry.source_format, "path": path_text(str(entry.path)),
        "nbytes": entry.nbytes, "sha256": f"sha256:{entry.sha256}", "used": int(entry.used),
    }  # fmt: skip


@command.command(name="prune")
@click.option("--max-size", type=BYTES, metavar="SIZE", help="Leave no more than SIZE of converted files. Default: what a load leaves.")
@click.option("--unused", type=click.FloatRange(min=0), metavar="DAYS", help="Remove what was not loaded for so many days.")
@click.option("--all", "everything", is_flag=True, help="Remove all that is in the cache: leaves, stamps and verified signatures, too.")
@format_option("text", "json")
@quiet_option
def prune_command(max_size: int | None, unused: float | None, everything: bool, kind: str, quiet: bool) -> int:
    """Remove converted files, least recently loaded first, and what a process that was killed left behind.

    Exit status: 0, or 2 when there is no cache directory.
    """
    root, cache = _root(), TwinCache.here()
    limit = 0 if everything else most_bytes() if max_size is None else max_size
    gone = cache.prune(limit, unused=None if unused is None else unused * _DAY) if cache is not None else []
    freed = sum(entry.nbytes for entry in gone)
    if everything:
        for name, (_, nbytes) in kinds_of(root, _KINDS).items():
            with suppress(OSError):
                shutil.rmtree(root / name)
                freed += nbytes
    lines: list[Line] = [[(short_digest(entry.source_sha256), "bold"), (f"  removed, {size_text(entry.nbytes)}", "")] for entry in gone]
    emit(as_json({"version": 1, "removed": [_entry(entry) for entry in gone], "nbytes": freed}) if kind == "json" else lines)
    summary([(f"freed: {size_text(freed)} in {place(root)}", outcome_style(Outcome.ALLOWED))], quiet=quiet)
    return 0
