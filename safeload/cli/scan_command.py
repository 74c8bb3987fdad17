"""`safeload scan`: say what files would do, and whether policy allows them, without loading them."""

from __future__ import annotations

from typing import Any

import click

from safeload.cli.options import BYTES, PATH, force_option, format_option, lock_option, output_option, policy_option, quiet_option
from safeload.cli.scan_run import ScanOptions, run_scan

__all__ = ["command"]


@click.command(name="scan")
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PATH...")
@format_option("text", "json", "jsonl", "sarif", "markdown", "html")
@output_option
@click.option(
    "--report", type=click.Path(path_type=str, dir_okay=False), metavar="FILE", help="Also write a page for people into FILE (HTML)."
)
@force_option("Overwrite the files that --output and --report name.")
@quiet_option
@click.option("--digest", is_flag=True, help="Hash every file. Otherwise only what the verdict needs is read.")
@click.option("--strict", is_flag=True, help="Refuse on notes, too.")
@click.option(
    "--baseline", type=click.Path(path_type=str, dir_okay=False), metavar="FILE",
    help="An earlier result with --format json: findings in it do not count again.",
)  # fmt: skip
@click.option("--include", multiple=True, metavar="GLOB", help="In directories, scan only files that match. May be repeated.")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="In directories, leave out files and directories that match. May be repeated."
)
@click.option("--max-size", type=BYTES, metavar="SIZE", help="Do not analyse larger files (as in 500MB, 2GiB): each is an error.")
@click.option("--timeout", type=click.FloatRange(min=0.001), metavar="SECONDS", help="Give a file up after so long: it is an error.")
@click.option(
    "--jobs", "-j", type=click.IntRange(min=0), default=1, show_default=True, metavar="N", help="Scan in N processes; 0: one on each core."
)
@click.option("--engine", metavar="URL", help="Scan on a Dask cluster: dask://host:port of its scheduler.")
@click.option(
    "--journal", type=click.Path(path_type=str, dir_okay=False), metavar="FILE",
    help="Keep what was found in FILE: a scan that was interrupted goes on from there, and only what changed is scanned again.",
)  # fmt: skip
@policy_option
@lock_option
def command(**options: Any) -> int:
    """Say what files would do if they were loaded. Nothing in them is run, imported or built.

    PATH is a file, a directory, a model's name, the address of a file (https://, s3://, gs://, hf://…), of which only the
    ranges are read that the verdict needs, or that of a prefix or repository.

    Directories are walked, hidden ones too; links out of them are errors. Files that are plainly no model are listed as
    skipped; a file that is named here and that no reader claims is an error.

    Exit status: 0 all allowed, 1 a file is refused, 2 a file could not be analysed.
    """
    return run_scan(ScanOptions(**options))
