"""Where a long result goes while it is made: to stdout, or into a file that has its name only when it is complete.

At a terminal it waits until the end, because the bar is drawn there meanwhile; what does not fit into memory waits on the disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Final, Self

from safeload.cli.output import Line, check_output, coloured, on_terminal, plain

__all__ = ["Sink", "Spool"]

_IN_MEMORY: Final = 1 << 20  # characters


class Spool:
    """Text that is written now and given back later."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    @property
    def file(self) -> IO[str]:
        """To write into."""
        if self._file is None:
            import tempfile

            self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - open until the end
                _IN_MEMORY, "w+", encoding="utf-8", errors="surrogatepass", newline=""
            )
        return self._file

    def pieces(self) -> Iterator[str]:
        """Everything, in pieces."""
        if self._file is not None:
            self._file.seek(0)
            while piece := self._file.read(1 << 16):
                yield piece

    def close(self) -> None:
        """Forget it."""
        if self._file is not None:
            self._file.close()


class Sink:
    """Use as a context manager; nothing is kept of a file when an error leaves it.

    Args:
        output: The file, or None for stdout.
        force: Overwrite the file.
    """

    def __init__(self, output: str | os.PathLike[str] | None, *, force: bool) -> None:
        self._output, self._force = None if output is None else os.fspath(output), force
        self._part: str | None = None
        self._spool: Spool | None = None
        self._file: IO[str]
        self._coloured = False

    def __enter__(self) -> Self:
        if self._output is None:
            if on_terminal(sys.stdout):
                self._spool = Spool()
                self._coloured = not os.environ.get("NO_COLOR")
            self._file = self._spool.file if self._spool is not None else sys.stdout
            return self
        check_output(self._output, force=self._force)
        if os.path.lexists(self._output) and (os.path.islink(self._output) or not os.path.isfile(self._output)):
            self._file = open(self._output, "w", encoding="utf-8", errors="backslashreplace")  # a pipe, a device, a link: written through
            return self
        folder, name = os.path.split(self._output)
        self._part = os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}.part")
        self._file = open(self._part, "x", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._output is None:
            if self._spool is not None:
                for piece in self._spool.pieces() if kind is None else ():
                    sys.stdout.write(piece)
                self._spool.close()
            if kind is None:
                sys.stdout.flush()
            return
        try:
            self._file.close()
            if kind is None and self._part is not None:
                self._name(self._part, self._output)
        finally:
            if self._part is not None and os.path.lexists(self._part):
                os.unlink(self._part)

    def _name(self, part: str, output: str) -> None:
        """Give the file its name; without --force never that of another."""
        if self._force:
            os.replace(part, output)
            return
        try:
            os.link(part, output)
        except FileExistsError:
            check_output(output, force=False)
            raise
        except OSError:  # a file system without such links
            check_output(output, force=False)
            os.replace(part, output)

    def write(self, text: str) -> None:
        """Write text as it is."""
        self._file.write(text)

    def lines(self, lines: Iterable[Line]) -> None:
        """Write lines for people, in colour where one looks at them."""
        if self._coloured:
            coloured(lines, self._file, force=True)
        else:
            self._file.write(plain(lines))

    def spooled(self, spool: Spool) -> None:
        """Write what waited."""
        for piece in spool.pieces():
            self._file.write(piece)
        spool.close()
