"""The scan itself, once its command line is understood: which files, each one's report, the result in the form that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from safeload.cli.output import check_output, emit, summary
from safeload.cli.scanning import Baseline, Scanned, ScanResult, Settings, Skipped, collect, judged, scan_all
from safeload.context import Context
from safeload.lean_dataclass import dataclass
from safeload.remote import shown

if TYPE_CHECKING:
    from safeload.cli.output import Line

__all__ = ["ScanOptions", "run_scan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """The command line of `safeload scan`, as its help describes it.

    Attributes:
        kind: `--format`.
        max_size: Bytes.
        timeout: Seconds.
    """

    paths: tuple[str, ...]
    kind: str = "text"
    output: str | None = None
    force: bool = False
    quiet: bool = False
    digest: bool = False
    strict: bool = False
    baseline: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_size: int | None = None
    timeout: float | None = None
    policy: str | None = None
    lock: str | None = None


def run_scan(options: ScanOptions) -> int:
    """Scan, write the result, and return the exit status.

    Raises:
        SafeloadError: policy, lockfile or baseline are not valid, or the output exists.
        OSError: one of them cannot be read or written.
    """
    check_output(options.output, force=options.force)
    context = Context.of(options.policy, options.lock)
    known = Baseline(options.baseline) if options.baseline is not None else None
    # A suppression by digest needs the digest.
    by_digest = any(entry.sha256 is not None for entry in context.policy.suppress)
    settings = Settings(digest=options.digest or by_digest, strict=options.strict, max_size=options.max_size, timeout=options.timeout)
    result = _scan(options, context, settings, known)
    emit(RENDERERS[options.kind](result), options.output, force=options.force)
    if not options.quiet:
        from safeload.cli.render.text_output import scan_summary

        summary(scan_summary(result))
    return result.status


def _scan(options: ScanOptions, context: Context, settings: Settings, known: Baseline | None) -> ScanResult:
    """Collect first, so that there is a total; then scan one file after the other."""
    from safeload.cli.progress import Progress

    entries = list(collect(options.paths, include=options.include, exclude=options.exclude))
    jobs = [entry for entry in entries if not isinstance(entry, Skipped)]
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    files: list[Scanned] = []
    with Progress("scanning", len(jobs), unit="files", quiet=options.quiet) as progress:
        for job, found in zip(jobs, scan_all(jobs, context, settings), strict=True):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                files.append(judged(found, context, settings, known))
            progress.advance(1, shown(job.path))
    return ScanResult(files=tuple(files), skipped=tuple(sorted(skipped, key=lambda item: item.path)))


def _text(result: ScanResult) -> list[Line]:
    from safeload.cli.render.text_output import scan_lines

    return scan_lines(result)


def _json(result: ScanResult) -> str:
    from safeload.cli.render.json_output import scan_json

    return scan_json(result)


def _sarif(result: ScanResult) -> str:
    from safeload.cli.render.sarif_output import scan_sarif

    return scan_sarif(result)


def _markdown(result: ScanResult) -> str:
    from safeload.cli.render.markdown_output import scan_markdown

    return scan_markdown(result)


RENDERERS: Final[dict[str, Callable[[ScanResult], str | list[Line]]]] = {
    "text": _text,
    "json": _json,
    "sarif": _sarif,
    "markdown": _markdown,
}
