"""`safeload inspect`: what a file holds."""

from __future__ import annotations

from pathlib import Path

import click

from safeload.cli.options import PATH, force_option, format_option, lock_option, output_option
from safeload.cli.output import check_output, emit
from safeload.cli.render.json_output import inspection_json
from safeload.cli.render.text_output import inspection_lines
from safeload.inspection import decompile as decompile_file
from safeload.inspection import inspect

__all__ = ["command"]


@click.command(name="inspect")
@click.argument("path", type=PATH)
@click.option("--decompile", is_flag=True, help="Show each pickle stream as Python code. None of it is run.")
@format_option("text", "json")
@output_option
@force_option("Overwrite the file that --output names.")
@lock_option
def command(path: str, decompile: bool, kind: str, output: Path | None, force: bool, lock: str | None) -> int:
    """Show a file's tensors, globals and metadata. Nothing in it is run, and no tensor's bytes are read.

    Exit status: 0, or 2 when the file could not be read.
    """
    check_output(output, force=force)
    if decompile:
        if kind != "text":
            raise click.UsageError("--decompile writes code, not JSON")
        emit(decompile_file(path, lock=lock), output, force=force)
        return 0
    found = inspect(path, lock=lock)
    emit(inspection_json(found) if kind == "json" else inspection_lines(found), output, force=force)
    return 0
