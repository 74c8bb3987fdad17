"""Scan one file, or a batch of them, wherever that is done: in this process, in another, on another machine.

Whatever goes wrong with one file is in its report, and the others go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from safeload.api import scan_source
from safeload.context import Context
from safeload.errors import SafeloadError
from safeload.findings import Decision, Finding, Outcome, Report, escape
from safeload.lean_dataclass import dataclass, replace
from safeload.remote import is_address, shown
from safeload.rules import RULES
from safeload.scanning.jobs import Job, Settings, Skipped, stamp
from safeload.source import Source

__all__ = ["Batch", "Done", "failed", "scan_batch", "scan_file", "scanned", "unseen"]

_AT_ONCE: Final = 1 << 15

@dataclass(frozen=True, slots=True)
class Done:
    """What came of one file.

    Attributes:
        result: Its report, or why it needs none.
        mark: What tells the bytes that were scanned from any others; None where a later scan must look again.
    """

    result: Report | Skipped
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of several files.

    Attributes:
        done: In the order of the jobs.
        rules: `safeload.scanning.ruleset.ruleset()` where it was done.
    """

    done: tuple[Done, ...]
    rules: str


def scan_batch(jobs: Sequence[Job], context: Context, settings: Settings) -> Batch:
    """Scan files one after the other, in a process that knows nothing but its arguments."""
    from safeload.scanning.ruleset import ruleset

    return Batch(tuple(scanned(job, context, settings) for job in jobs), ruleset())


def scanned(job: Job, context: Context, settings: Settings) -> Done:
    """Scan one file; a defect of ours is one file's error, too."""
    try:
        return _scan(job, context, settings)
    except MemoryError:
        return Done(failed(job.path, "not analysed: out of memory"))
    except Exception as error:  # noqa: BLE001 - ten thousand results must not be lost for it
        if os.environ.get("SAFELOAD_DEBUG"):
            import traceback

            traceback.print_exc()
        text = "" if is_address(job.path) else f": {escape(str(error), 300)}"
        return Done(failed(job.path, f"not analysed: internal error: {type(error).__name__}{text}"))


def scan_file(job: Job, context: Context, settings: Settings) -> Report | Skipped:
    """Scan one file; whatever goes wrong is in the report."""
    return scanned(job, context, settings).result


def _scan(job: Job, context: Context, settings: Settings) -> Done:
    if job.problem is not None:
        return Done(unseen(job.path, job.problem))
    try:
        target = context.target(_place(job), remote=True)
        with Source.open(target.file, name=None if job.base == "" else escape(shown(job.path), 1000)) as source:
            if settings.max_size is not None and source.size > settings.max_size:
                why = f"not analysed: {source.size} bytes, and --max-size is {settings.max_size}"
                return Done(replace(failed(job.path, why), size=source.size))
            if source.size <= _AT_ONCE and source.path is not None:
                source.view(0, source.size)  # one read of a small file costs less than a second call
            report = scan_source(source, context, pin=target.pin, digest=settings.digest)
            if job.walked and report.format == "unknown" and report.decision.outcome is Outcome.ERROR and source.failure is None:
                from safeload.formats.not_a_model import plainly_no_model

                why_not = plainly_no_model(source)
                if why_not is not None:  # what lies beside code may be another thing next time
                    return Done(Skipped(shown(job.path), why_not), None if job.path.endswith(".py") else _mark(source))
                if source.path is not None:
                    from safeload.formats.beside import described_by

                    whose = described_by(source.path)
                    if whose is not None:  # another file says so, and may say something else next time
                        return Done(Skipped(shown(job.path), whose))
            return Done(replace(report, path=shown(job.path)), _mark(source) if _settled(report, job) else None)
    except SafeloadError as error:
        return Done(failed(job.path, error.message))
    except OSError as error:
        return Done(failed(job.path, (error.strerror or str(error)).lower()))


def _place(job: Job) -> str:
    """The path to open: in another working directory a relative one is another file."""
    if not job.base or is_address(job.path):
        return job.path
    return os.path.join(job.base, job.path)


def _settled(report: Report, job: Job) -> bool:
    """Whether the same bytes give the same report: not where something else was read too, a package was missing, or a name asked."""
    if report.format == "unknown" and not job.walked:
        return False
    beside = report.format in ("index", "openvino", "python-source") or any(found.rule == "SL718" for found in report.findings)
    return not beside and not (report.error is not None and "safeload[" in report.error)


def _mark(source: Source) -> str | None:
    """What tells the bytes that were scanned from any others; nothing when they changed since they were opened."""
    if source.failure is not None:
        return None
    if source.mark_elsewhere is not None:
        return source.mark_elsewhere or None
    if source.stat is None or source.fd is None:
        return None
    before = stamp(source.stat, source.opened_ns or time.time_ns())
    return before if before is not None and before == stamp(os.fstat(source.fd), time.time_ns()) else None


def unseen(path: str, why: str) -> Report:
    """The report of what a walk found and cannot look at."""
    from safeload.directory import OUTSIDE

    if why != OUTSIDE:
        return failed(path, why)
    return replace(failed(path, why), findings=(Finding(rule="SL825", level=RULES["SL825"].level, message=why),))


def failed(path: str, why: str) -> Report:
    """The report of a file that could not be analysed."""
    return Report(path=shown(path), format="unknown", error=why, decision=Decision(outcome=Outcome.ERROR, reasons=(why,)))
