"""`safeload scan`: say what files would do, and whether policy allows them, without loading them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from safeload.cli.options import BYTES, PATH, force_option, format_option, lock_option, output_option, policy_option, quiet_option
from safeload.cli.output import Line, check_output, emit, summary
from safeload.cli.progress import Progress
from safeload.cli.render.json_output import scan_json
from safeload.cli.render.text_output import scan_lines, scan_summary
from safeload.cli.scanning import Baseline, Scanned, ScanResult, Settings, Skipped, collect, judged, scan_all
from safeload.context import Context
from safeload.remote import shown

__all__ = ["command"]


@click.command(name="scan")
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PATH...")
@format_option("text", "json", "sarif", "markdown")
@output_option
@force_option("Overwrite the file that --output names.")
@quiet_option
@click.option("--digest", is_flag=True, help="Hash every file. Otherwise only what the verdict needs is read.")
@click.option("--strict", is_flag=True, help="Refuse on notes, too.")
@click.option(
    "--baseline", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="An earlier result with --format json: findings in it do not count again.",
)  # fmt: skip
@click.option("--include", multiple=True, metavar="GLOB", help="In directories, scan only files that match. May be repeated.")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="In directories, leave out files and directories that match. May be repeated."
)
@click.option("--max-size", type=BYTES, metavar="SIZE", help="Do not analyse larger files (as in 500MB, 2GiB): each is an error.")
@click.option("--timeout", type=click.FloatRange(min=0.001), metavar="SECONDS", help="Give a file up after so long: it is an error.")
@policy_option
@lock_option
def command(
    paths: tuple[str, ...], kind: str, output: Path | None, force: bool, quiet: bool, digest: bool, strict: bool, baseline: Path | None,
    include: tuple[str, ...], exclude: tuple[str, ...], max_size: int | None, timeout: float | None, policy: str | None, lock: str | None,
) -> int:  # fmt: skip
    """Say what files would do if they were loaded. Nothing in them is run, imported or built.

    Directories are walked, hidden ones too; links out of them are errors. Files that are plainly no model are listed as
    skipped; a file that is named here and that no reader claims is an error.

    Exit status: 0 all allowed, 1 a file is refused, 2 a file could not be analysed.
    """
    check_output(output, force=force)
    context = Context.of(policy, lock)
    known = Baseline(baseline) if baseline is not None else None
    # A suppression by digest needs the digest.
    by_digest = any(entry.sha256 is not None for entry in context.policy.suppress)
    settings = Settings(digest=digest or by_digest, strict=strict, max_size=max_size, timeout=timeout)
    result = _scan(paths, include, exclude, context, settings, known, quiet=quiet)
    emit(RENDERERS[kind](result), output, force=force)
    summary(scan_summary(result), quiet=quiet)
    return result.status


def _scan(
    paths: tuple[str, ...], include: tuple[str, ...], exclude: tuple[str, ...], context: Context, settings: Settings,
    known: Baseline | None, *, quiet: bool,
) -> ScanResult:  # fmt: skip
    """Collect first, so that there is a total; then scan one file after the other."""
    entries = list(collect(paths, include=include, exclude=exclude))
    jobs = [entry for entry in entries if not isinstance(entry, Skipped)]
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    files: list[Scanned] = []
    with Progress("scanning", len(jobs), unit="files", quiet=quiet) as progress:
        for job, found in zip(jobs, scan_all(jobs, context, settings), strict=True):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                files.append(judged(found, context, settings, known))
            progress.advance(1, shown(job.path))
    return ScanResult(files=tuple(files), skipped=tuple(sorted(skipped, key=lambda item: item.path)))


def _sarif(result: ScanResult) -> str:
    from safeload.cli.render.sarif_output import scan_sarif

    return scan_sarif(result)


def _markdown(result: ScanResult) -> str:
    from safeload.cli.render.markdown_output import scan_markdown

    return scan_markdown(result)


RENDERERS: Final[dict[str, Callable[[ScanResult], str | list[Line]]]] = {
    "text": scan_lines,
    "json": scan_json,
    "sarif": _sarif,
    "markdown": _markdown,
}
