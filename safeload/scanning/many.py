"""Many files: batches by bytes, results in the order of the files as they come, memory that does not grow with their number."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from safeload.api import decided, needs_digest
from safeload.context import Context
from safeload.errors import ArgumentError, SafeloadError
from safeload.findings import Report, escape
from safeload.lean_dataclass import dataclass, field, replace
from safeload.parallel import workers
from safeload.remote import Address, shown
from safeload.scanning.engines import Engine, InThisProcess, Pending
from safeload.scanning.jobs import Job, Settings, Skipped, collect, stamp
from safeload.scanning.one_file import Done, unseen

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from safeload.scanning.journal import Journal

__all__ = ["Plan", "results", "scan_many"]

BATCH_BYTES: Final = 64 << 20
"""A batch ends with the file that makes it so large: what is lost with a worker, and waited for at the end, is bounded by it."""

_READY: Final = 1024  # results that need no scan, between two batches
_AHEAD: Final = 3  # batches for each of an engine's places


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many files are scanned.

    Attributes:
        context: The policy and the lock in force.
        settings: What holds for every file.
        jobs: Processes on this machine; 1 scans in this one, unless there is a timeout.
        executor: Where instead.
        engine: The address of a cluster instead.
        journal: Its file, or None.
    """

    context: Context
    settings: Settings = field(default_factory=Settings)
    jobs: int = 1
    executor: Executor | None = None
    engine: str | None = None
    journal: str | os.PathLike[str] | None = None

    @property
    def own_files(self) -> frozenset[str]:
        """Files that this scan itself writes while it walks."""
        if self.journal is None:
            return frozenset()
        base = os.path.realpath(self.journal)
        return frozenset(base + ending for ending in ("", "-wal", "-shm", "-journal"))


def scan_many(
    paths: Iterable[str | os.PathLike[str]],
    *,
    executor: Executor | None = None,
    jobs: int = 1,
    journal: str | os.PathLike[str] | None = None,
    policy: Any = None,
    lock: Any = None,
    digest: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Iterator[Report | Skipped]:
    """Scan files, directories and addresses, and yield what came of each file as it is known, in their order.

    Args:
        paths: Files, directories (walked; links out of them are errors), addresses of files, and of prefixes that end in "/".
            An iterator is drawn from as files are scanned.
        executor: Any `concurrent.futures.Executor`, such as that of a Dask cluster (`Client.get_executor()`). It must reach the same
            files by the same absolute paths, with the same version of safeload. It is not shut down.
        jobs: Without an executor: processes on this machine; 0 for one on each core.
        journal: A file that keeps what was found. A scan that was interrupted goes on from there; files that changed, and all files
            under new rules, are scanned again.
        policy: As for `safeload.scan`.
        lock: As for `safeload.scan`.
        digest: Hash every file.
        include: In directories, only files that match one of these globs.
        exclude: In directories, no files or directories that match one of these.

    Yields:
        A `Report` for each file, whatever went wrong with it, or a `Skipped` for one in a directory that is plainly no model.

    Raises:
        PolicyError, LockfileError: what is in force is not valid.
        UsageError: the journal cannot be used.
        UnsupportedError: the executor broke.
        ArgumentError: it is none, or paths is one path.
    """
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise ArgumentError("paths is one path; it takes several", hint="scan_many([path])")
    if executor is not None and not isinstance(executor, _executor_class()):
        kind = escape(type(executor).__name__, 60)
        raise ArgumentError(f"executor is a {kind}, no concurrent.futures.Executor", hint="a Dask client has get_executor(pure=False)")
    plan = Plan(context=Context.of(policy, lock), settings=Settings(digest=digest), jobs=jobs, executor=executor, journal=journal)
    return (found for _, found in results(_entries(paths, include, exclude), plan))


def _executor_class() -> type:
    from concurrent.futures import Executor

    return Executor


def _entries(paths: Iterable[str | os.PathLike[str]], include: Sequence[str], exclude: Sequence[str]) -> Iterator[Job | Skipped]:
    """What the paths mean; those of a list each once, of an iterator as they come."""
    if isinstance(paths, Sequence):
        yield from collect([os.fsdecode(os.fspath(path)) for path in paths], include=include, exclude=exclude)
        return
    for path in paths:
        yield from collect([os.fsdecode(os.fspath(path))], include=include, exclude=exclude)


def results(entries: Iterable[Job | Skipped], plan: Plan) -> Iterator[tuple[Job | None, Report | Skipped]]:
    """Yield what came of each entry, in their order; of what needed no job, None in its place."""
    with ExitStack() as stack:
        journal: Journal | None = None
        if plan.journal is not None:
            from safeload.scanning.journal import Journal as Kept
            from safeload.scanning.ruleset import ruleset

            journal = stack.enter_context(Kept(plan.journal, ruleset()))

        def heard(job: Job, done: Done) -> None:
            if journal is not None and done.mark is not None:
                journal.put(done.mark, done.result)

        engine = _engine(plan, heard, stack)
        stack.callback(engine.close)
        yield from _flow(entries, engine, _Known(plan, journal))


def _engine(plan: Plan, heard: Any, stack: ExitStack) -> Engine:
    if plan.engine is not None:
        from safeload.scanning.dask_engine import dask_executor
        from safeload.scanning.executors import InExecutor

        executor, width = stack.enter_context(dask_executor(plan.engine))
        return InExecutor(executor, plan.context, plan.settings, heard, width=width)
    if plan.executor is not None:
        from safeload.scanning.executors import InExecutor

        return InExecutor(plan.executor, plan.context, plan.settings, heard)
    if plan.jobs < 0:
        raise ArgumentError(f"{plan.jobs} processes; 0 stands for one on each core")
    count = plan.jobs or workers()
    if count > 1 or plan.settings.timeout is not None:
        from safeload.scanning.processes import InProcesses

        return InProcesses(count, plan.context, plan.settings, heard)
    return InThisProcess(plan.context, plan.settings, heard)


class _Known:
    """What needs no scan: because it has no bytes to look at, or because the journal knows them."""

    def __init__(self, plan: Plan, journal: Journal | None) -> None:
        self._plan, self._journal = plan, journal
        self._own = plan.own_files
        self._names = frozenset(map(os.path.basename, self._own))

    def answer(self, entry: Job | Skipped) -> tuple[Job, Report | Skipped | None]:
        """Return the job, with its mark where it was found out, and what is known of it."""
        assert isinstance(entry, Job)
        if entry.problem is not None:
            return entry, unseen(entry.path, entry.problem)
        if self._journal is None:
            return entry, None
        if entry.walked and os.path.basename(entry.path) in self._names and os.path.realpath(entry.path) in self._own:
            return entry, Skipped(entry.path, "the journal of this scan")
        job = entry if entry.mark is not None else replace(entry, mark=self._mark(entry))
        found = self._journal.get(job.mark, digest=self._plan.settings.digest) if job.mark is not None else None
        return job, None if found is None else self._again(job, found)

    def _mark(self, job: Job) -> str | None:
        """What tells the bytes behind a name from any others. Of an address it costs a question."""
        try:
            target = self._plan.context.target(job.path, remote=True)
            if isinstance(target.file, Address):
                ranges = target.file.open()
                ranges.close()
                return ranges.mark or None
            return stamp(os.stat(target.file), time.time_ns())
        except (SafeloadError, OSError, ValueError):
            return None  # whoever scans it says why

    def _again(self, job: Job, found: Report | Skipped) -> Report | Skipped | None:
        """What was found before, under the name that it has now, decided by what holds now; None when that takes a scan."""
        if isinstance(found, Skipped):
            return Skipped(shown(job.path), found.why) if job.walked else None
        context, settings = self._plan.context, self._plan.settings
        if found.sha256 is None and needs_digest(found, context, digest=settings.digest):
            return None
        if settings.max_size is not None and (found.size or 0) > settings.max_size:
            return None
        pin = context.target(job.path, remote=True).pin
        report = decided(replace(found, path=escape(shown(job.path), 1000)), context, pin)
        return replace(report, path=shown(job.path))


@dataclass(slots=True)
class _Chunk:
    """Some entries in their order: those that are answered, and numbers of those in the batch."""

    slots: list[tuple[Job | None, Report | Skipped | int]] = field(default_factory=list)
    batch: list[Job] = field(default_factory=list)
    nbytes: int = 0
    pending: Pending | None = None

    def take(self) -> Iterator[tuple[Job | None, Report | Skipped]]:
        """Wait for the batch, and give everything in order."""
        done = self.pending.result() if self.pending is not None else []
        for job, slot in self.slots:
            yield job, done[slot].result if isinstance(slot, int) else slot


def _flow(entries: Iterable[Job | Skipped], engine: Engine, known: _Known) -> Iterator[tuple[Job | None, Report | Skipped]]:
    """Keep the engine busy and no busier; give results in the order of the entries."""
    under_way: deque[_Chunk] = deque()
    most = max(1, _AHEAD * engine.width)
    for chunk in _chunks(entries, engine.most, known):
        if chunk.batch:
            chunk.pending = engine.submit(chunk.batch)
        under_way.append(chunk)
        while under_way and (len(under_way) > most or _ready(under_way[0])):
            yield from under_way.popleft().take()
    while under_way:
        yield from under_way.popleft().take()


def _ready(chunk: _Chunk) -> bool:
    return chunk.pending is None or chunk.pending.done()


def _chunks(entries: Iterable[Job | Skipped], most: int, known: _Known) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for entry in entries:
        if isinstance(entry, Skipped):
            chunk.slots.append((None, entry))
        else:
            job, answer = known.answer(entry)
            if answer is not None:
                chunk.slots.append((job, answer))
            else:
                chunk.slots.append((job, len(chunk.batch)))
                chunk.batch.append(job)
                chunk.nbytes += job.size or 0
        if len(chunk.batch) >= most or chunk.nbytes >= BATCH_BYTES or len(chunk.slots) >= (_READY if most > 1 else 1):
            yield chunk
            chunk = _Chunk()
    if chunk.slots:
        yield chunk
