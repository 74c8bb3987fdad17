"""What was scanned already: one SQLite file, written as each result comes, so that a scan can end anywhere and go on later.

A result is kept under the *mark* of the bytes: device, inode, size and times of a file on this machine, entity tag or generation of
an object in a store. It counts for the rules that it was made by; under new rules a file is scanned again. Decisions are not
believed: they are taken anew from the evidence, by the policy and the lockfile that hold now.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from safeload.errors import UsageError
from safeload.findings import Report, escape
from safeload.scanning.jobs import Skipped
from safeload.scanning.records import from_record, to_record

__all__ = ["Journal"]

_APPLICATION: Final = 0x5AFE10AD
_VERSION: Final = 1
_PATIENCE: Final = 60.0  # seconds for another scan's write
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS scanned (
    mark    TEXT    NOT NULL PRIMARY KEY,
    rules   TEXT    NOT NULL,
    path    BLOB    NOT NULL,
    outcome TEXT    NOT NULL,
    sha256  TEXT,
    times   INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    record  TEXT    NOT NULL
) WITHOUT ROWID
"""


class Journal:
    """The journal in one file. Use as a context manager; safe to use from several threads, and by several scans at a time.

    Args:
        path: The file; made when it is not there.
        rules: By which results count.

    Raises:
        UsageError: the file is something else, of another version, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], rules: str) -> None:
        self._where = escape(os.fspath(path), 1000)
        self._rules = rules
        self._lock = threading.Lock()
        self.found = self.written = 0
        with self._told():
            _check_kind(Path(path), self._where)
            self._base = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._base.close()
                raise

    def _open(self) -> None:
        run = self._base.execute
        run("PRAGMA trusted_schema = OFF")
        # In a write-ahead log every statement that returned outlives the process; only a power cut may take the last ones.
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN IMMEDIATE")
        application, version = run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0]
        if application == 0 and version == 0 and not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            run(_TABLE)
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {_VERSION}")
        elif application != _APPLICATION:
            raise UsageError("is a database of another program", where=self._where, hint="name another file for the journal")
        elif version != _VERSION:
            raise UsageError(f"is a journal of version {version}, and this safeload knows {_VERSION}", where=self._where)
        run("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def get(self, mark: str, *, digest: bool) -> Report | Skipped | None:
        """Return what was found in these bytes, by the rules that hold.

        Args:
            mark: Of the bytes.
            digest: Only a result with digests will do.
        """
        with self._lock, self._told():
            row = self._base.execute("SELECT record, sha256 FROM scanned WHERE mark = ? AND rules = ?", (mark, self._rules)).fetchone()
        if row is None or not isinstance(row[0], str):
            return None
        try:
            result = from_record(row[0])
        except (ValueError, KeyError, TypeError):
            return None  # damaged: scanned again
        if digest and isinstance(result, Report) and result.sha256 is None:
            return None
        self.found += 1
        return result

    def put(self, mark: str, result: Report | Skipped) -> None:
        """Keep a result, in the place of an older one for the same bytes."""
        outcome = "skipped" if isinstance(result, Skipped) else result.decision.outcome.value
        sha256 = None if isinstance(result, Skipped) else result.sha256
        row = (mark, self._rules, os.fsencode(result.path) if _encodes(result.path) else result.path.encode("utf-8", "surrogatepass"),
               outcome, sha256, int(time.time()), to_record(result))  # fmt: skip
        with self._lock, self._told():
            self._base.execute(
                "INSERT INTO scanned (mark, rules, path, outcome, sha256, times, at, record) VALUES (?, ?, ?, ?, ?, 1, ?, ?) "
                "ON CONFLICT (mark) DO UPDATE SET times = CASE WHEN rules = excluded.rules THEN times + 1 ELSE 1 END, "
                "rules = excluded.rules, path = excluded.path, outcome = excluded.outcome, sha256 = excluded.sha256, at = excluded.at, "
                "record = excluded.record",
                row,
            )
            self.written += 1

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            text = escape(str(error), 200)
            raise UsageError(f"the journal cannot be used: {text}", where=self._where, hint="name a file on a local disk") from None


def _check_kind(path: Path, where: str) -> None:
    """Refuse a file that is no database before SQLite touches it."""
    try:
        if not path.is_file():
            if os.path.lexists(path):
                raise UsageError("is no file", where=where)
            return
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UsageError(f"the journal cannot be opened: {error.strerror}", where=where) from None
    if head and head != b"SQLite format 3\0":
        raise UsageError("is no journal of safeload", where=where, hint="name another file for the journal")


def _encodes(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
