"""The scan itself, once its command line is understood: which files, each one's report, written as it comes."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from safeload.cli.output import check_output, on_terminal, summary
from safeload.cli.render.writers import writer
from safeload.cli.scanning import Baseline, Totals, judged
from safeload.cli.sink import Sink
from safeload.context import Context
from safeload.errors import UsageError
from safeload.lean_dataclass import dataclass
from safeload.remote import shown
from safeload.scanning import Job, Plan, Settings, Skipped, collect, results

if TYPE_CHECKING:
    from safeload.cli.render.writers import ScanWriter

__all__ = ["ScanOptions", "run_scan"]

_COUNTED: Final = 20_000  # entries that are looked for in advance, so that the bar knows how many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """The command line of `safeload scan`, as its help describes it.

    Attributes:
        kind: `--format`.
        report: A page for people is written there, too.
        max_size: Bytes.
        timeout: Seconds.
        jobs: Processes.
        engine: The address of a cluster.
        journal: What was found is kept there.
    """

    paths: tuple[str, ...]
    kind: str = "text"
    output: str | None = None
    report: str | None = None
    force: bool = False
    quiet: bool = False
    digest: bool = False
    strict: bool = False
    baseline: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_size: int | None = None
    timeout: float | None = None
    jobs: int = 1
    engine: str | None = None
    journal: str | None = None
    policy: str | None = None
    lock: str | None = None


def run_scan(options: ScanOptions) -> int:
    """Scan, write results as they come, and return the exit status.

    Raises:
        SafeloadError: policy, lockfile, baseline, journal or engine cannot be used, or an output exists.
        OSError: one of them cannot be read or written.
    """
    _check(options)
    context = Context.of(options.policy, options.lock)
    known = Baseline(options.baseline) if options.baseline is not None else None
    # A suppression by digest needs the digest.
    by_digest = any(entry.sha256 is not None for entry in context.policy.suppress)
    settings = Settings(digest=options.digest or by_digest, strict=options.strict, max_size=options.max_size, timeout=options.timeout)
    plan = Plan(context=context, settings=settings, jobs=options.jobs, engine=options.engine, journal=options.journal)
    totals = Totals()
    stopped: list[int] = []
    with ExitStack() as stack:
        if options.journal or options.output or options.report or options.jobs != 1 or options.engine is not None:
            stack.enter_context(_interruptible(options.journal, stopped))
        writers = [writer(options.kind, stack.enter_context(Sink(options.output, force=options.force)))]
        if options.report is not None:
            writers.append(writer("html", stack.enter_context(Sink(options.report, force=options.force))))
        _scan(options, plan, known, totals, writers, stopped)
        for one in writers:
            one.end(totals)
    if not options.quiet:
        from safeload.cli.render.text_output import scan_summary

        summary(scan_summary(totals))
    return totals.status


@contextmanager
def _interruptible(journal: str | None, stopped: list[int]) -> Iterator[None]:
    """Let SIGTERM end a scan as Ctrl-C does: no half file and no process stays behind. Says how to go on.

    Args:
        journal: Where a next scan goes on from.
        stopped: Signals that came are noted in it: where one comes while Python runs a callback, its exception is dropped there.
    """
    import signal
    import threading

    def stop(number: int, _: object) -> NoReturn:
        stopped.append(number)
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # who ignores it, or has a handler, keeps that
            before[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except KeyboardInterrupt:
        if journal is None:
            raise
        raise KeyboardInterrupt("with the same --journal the next scan goes on from here") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(options: ScanOptions) -> None:
    for file in (options.output, options.report):
        check_output(file, force=options.force)
    written = [os.path.realpath(file) for file in (options.output, options.report, options.journal) if file is not None]
    if len(set(written)) < len(written):
        raise UsageError("two of --output, --report and --journal are the same file")
    if options.engine is not None and (options.jobs != 1 or options.timeout is not None):
        raise UsageError("--jobs and --timeout are about processes of this machine, and --engine scans elsewhere")


def _scan(
    options: ScanOptions, plan: Plan, known: Baseline | None, totals: Totals, writers: list[ScanWriter], stopped: list[int]
) -> None:
    from safeload.cli.progress import Progress

    entries, total = _entries(options)
    with Progress("scanning", total, unit="files", quiet=options.quiet) as progress:
        for job, found in results(entries, plan):
            if stopped:
                raise KeyboardInterrupt
            if isinstance(found, Skipped):
                totals.skipped += 1
                for one in writers:
                    one.skipped(found)
            else:
                scanned = judged(found, plan.context, plan.settings, known)
                totals.add(scanned)
                for one in writers:
                    one.file(scanned)
            if job is not None:
                progress.advance(1, shown(job.path))


def _entries(options: ScanOptions) -> tuple[Iterator[Job | Skipped], int | None]:
    """What there is to scan; how many files, where a bar is drawn and they can be counted in advance."""
    found = collect(options.paths, include=options.include, exclude=options.exclude)
    if options.quiet or not on_terminal(sys.stderr):
        return found, None
    first: deque[Job | Skipped] = deque()
    for entry in found:
        first.append(entry)
        if len(first) == _COUNTED:
            return _chained(first, found), None
    return iter(first), sum(isinstance(entry, Job) for entry in first)


def _chained(first: deque[Job | Skipped], rest: Iterator[Job | Skipped]) -> Iterator[Job | Skipped]:
    while first:
        yield first.popleft()
    yield from rest
