"""What readers share whose formats are gone through as a whole and never built: what breaks in one is a finding, not an exception."""

from __future__ import annotations

from safeload.errors import LimitError, MalformedError, SafeloadError
from safeload.formats.base import Contents
from safeload.formats.container import Notes
from safeload.formats.polyglot import second_stream
from safeload.formats.storages import as_finding
from safeload.source import Reading, Source

__all__ = ["CheckedFile"]


class CheckedFile:
    """A format whose `check` goes through the file.

    Attributes:
        name: As it stands in reports.
        broken: The rule of an error that names none.
        largest: Bytes of the largest file that is read.
    """

    name: str
    broken: str = "SL855"
    largest: int = 1 << 30

    def read(self, source: Source, reading: Reading) -> Contents:
        """Check the whole file, and look at its front as if it were a stream."""
        contents = Contents(format=self.name)
        second_stream(source, reading, contents)
        notes = Notes(None)
        try:
            if source.size > self.largest:
                raise LimitError(f"a model of {source.size} bytes; at most {self.largest} are read")
            self.check(source, notes, contents)
        except SafeloadError as error:
            broken = error if isinstance(error, MalformedError) else MalformedError(error.message)
            contents.findings.append(as_finding(broken.under(broken.rule or self.broken), None))
            contents.error = f"the model: {error.message}"
        contents.findings += notes.done()
        return contents

    def check(self, source: Source, notes: Notes, contents: Contents) -> None:
        """Go through the file; `contents.end` is set where its own bytes end, once that is known.

        Raises:
            MalformedError: it breaks; what was noted until then is kept.
        """
        raise NotImplementedError
