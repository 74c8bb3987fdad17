"""Whatever a `concurrent.futures.Executor` is: a pool of processes or threads, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from pathlib import Path
from typing import Final

from safeload.context import Context
from safeload.errors import SafeloadError, UnsupportedError, UsageError
from safeload.findings import escape
from safeload.scanning.engines import Heard, Pending
from safeload.scanning.jobs import Job, Settings
from safeload.scanning.one_file import Batch, Done, failed, scan_batch
from safeload.scanning.ruleset import ruleset

__all__ = ["InExecutor"]


class InExecutor:
    """Somebody else's executor.

    The function and its arguments are pickled where the executor does that; paths are absolute, so that any machine with the same
    files can open them. A batch that fails, because a worker died of it time and again, is tried file by file.

    Args:
        executor: The caller's: it is not shut down.
        context: The policy and the lock in force.
        settings: Without a timeout: a thread or a task of somebody else's cannot be stopped.
        heard: Told about every result.
        width: How many batches keep it busy.

    Raises:
        UsageError: there is a timeout.
    """

    most: Final = 256

    def __init__(self, executor: Executor, context: Context, settings: Settings, heard: Heard, *, width: int | None = None) -> None:
        if settings.timeout is not None:
            raise UsageError("a timeout holds for processes of this machine only", hint="leave out the executor, or the timeout")
        self._executor, self.heard, self._settings = executor, heard, settings
        path = context.lock_path
        self._context = Context(context.policy, context.lock, path.absolute() if path is not None else None)
        workers = getattr(executor, "_max_workers", None)
        self.width = width or (workers if isinstance(workers, int) and workers > 0 else 4)
        self._base = str(Path.cwd())

    def close(self) -> None:
        """It is the caller's."""

    def submit(self, jobs: Sequence[Job]) -> Pending:
        """Give a batch to the executor."""
        return _Sent(self, jobs, self.send(jobs))

    def send(self, jobs: Sequence[Job]) -> Future[Batch]:
        """Give files to the executor; what comes back is heard the moment it comes.

        Raises:
            UnsupportedError: it takes nothing any more.
        """
        there = [Job(job.path, job.walked, job.problem, job.size, job.mark, self._base) for job in jobs]

        def arrived(answer: Future[Batch]) -> None:
            if not answer.cancelled() and answer.exception() is None and answer.result().rules == ruleset():
                for job, one in zip(jobs, answer.result().done, strict=True):
                    self.heard(job, one)

        try:
            future = self._executor.submit(scan_batch, there, self._context, self._settings)
        except (RuntimeError, OSError) as error:
            problem = _broken(error)
        else:
            future.add_done_callback(arrived)
            return future
        raise problem


class _Sent:
    """A batch at an executor."""

    def __init__(self, engine: InExecutor, jobs: Sequence[Job], future: Future[Batch]) -> None:
        self._engine, self._jobs, self._future = engine, jobs, future

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> list[Done]:
        try:
            return self._checked(self._future.result())
        except (BrokenExecutor, CancelledError, OSError) as error:
            problem = _broken(error)
        except SafeloadError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a worker died of
            kind = escape(type(error).__name__, 60)
            return self._alone(kind)
        raise problem

    def _alone(self, kind: str) -> list[Done]:
        """The batch failed: each file by itself, so that one is at fault and no other."""
        if len(self._jobs) == 1:
            done = Done(failed(self._jobs[0].path, f"not analysed: the worker that scanned it failed ({kind})"))
            self._engine.heard(self._jobs[0], done)
            return [done]
        return [one for job in self._jobs for one in _Sent(self._engine, [job], self._engine.send([job])).result()]

    def _checked(self, batch: Batch) -> list[Done]:
        if batch.rules != ruleset():
            message = f"a worker judges by other rules: {escape(batch.rules, 60)}, and here are {ruleset()}"
            raise UnsupportedError(message, hint="install the same version of safeload, with the same extras, on every worker")
        return list(batch.done)


def _broken(error: BaseException) -> UnsupportedError:
    kind = escape(type(error).__name__, 60)
    text = escape(str(error), 200)
    said = f"the executor broke: {kind}" + (f": {text}" if text else "")
    return UnsupportedError(said, hint="with a journal, the next run goes on from here")
