"""The command `safeload`. Every way out ends in status 0 (allowed, matches), 1 (refused, differs) or 2 (could not say)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

__all__ = ["main", "run"]

ALLOWED, REFUSED, UNCLEAR = 0, 1, 2


def main() -> NoReturn:
    """Run the command line of this process, and end it."""
    status = run(sys.argv[1:])
    # Whoever reads our output may be gone already; the interpreter's own flush at exit would complain about that.
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()
        status = UNCLEAR
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End the process; where nothing waits for that, without taking the interpreter apart first: it takes longer than a small scan."""
    import atexit

    program = getattr(sys.modules["__main__"], "__file__", None) or ""
    ours = program.endswith(("/safeload", "/safeload/__main__.py"))  # and not somebody's script that calls `main`
    waiting = getattr(atexit, "_ncallbacks", lambda: 1)() or "threading" in sys.modules or sys.gettrace() is not None
    if not ours or waiting or sys.flags.interactive or os.name != "posix":
        sys.exit(status)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command line in this process.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit status: 0, 1 or 2. Nothing is raised for anything that a user or a file can cause.
    """
    if list(arguments) == ["--version"]:
        from safeload import __version__

        print(f"safeload {__version__}")
        return ALLOWED
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _guarded(arguments)
    except BrokenPipeError:
        _drop_stdout()
        return UNCLEAR
    except KeyboardInterrupt as stopped:
        _say(f"interrupted{f': {stopped}' if stopped.args else ''}")
        # A Ctrl-C that came while Python ran a text, as its decorators for classes do, stays noted, and `python -m` ends with that signal.
        exec("")  # noqa: S102 - the next text clears the note
        return UNCLEAR
    except MemoryError:
        _say("out of memory")
        return UNCLEAR
    except Exception as error:  # noqa: BLE001 — whatever it is, the status must not read as "refused", let alone "allowed"
        if os.environ.get("SAFELOAD_DEBUG"):
            import traceback

            traceback.print_exc()
        else:
            from safeload.findings import escape

            _say(f"internal error: {type(error).__name__}: {escape(str(error), 500)}\n  hint: set SAFELOAD_DEBUG=1 to see where")
        return UNCLEAR


def _guarded(arguments: Sequence[str]) -> int:
    """Run, with what a user or a file can cause turned into a message and a status."""
    import warnings

    from safeload.cli.plain_line import plain_scan
    from safeload.errors import RefusedError, SafeloadError, SafeloadWarning
    from safeload.findings import escape

    with warnings.catch_warnings():
        warnings.simplefilter("always", SafeloadWarning)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, SafeloadWarning):
                _say(f"warning: {message}")
            else:
                shown(message, category, *rest, **more)

        warnings.showwarning = show
        try:
            options = plain_scan(arguments)
            if options is None:
                return _by_click(arguments)
            from safeload.cli.scan_run import run_scan

            return run_scan(options)
        except SafeloadError as error:
            _say(str(error))
            return REFUSED if isinstance(error, RefusedError) else UNCLEAR
        except BrokenPipeError:
            raise
        except OSError as error:
            name = f"{escape(str(error.filename), 1000)}: " if error.filename is not None else ""
            _say(f"{name}{(error.strerror or str(error)).lower()}")
            return UNCLEAR


def _by_click(arguments: Sequence[str]) -> int:
    """Have click read the line: every command, every way to write it, help and mistakes."""
    import click

    from safeload.cli.commands import safeload

    try:
        status = safeload.main(args=list(arguments), prog_name="safeload", standalone_mode=False)
        return status if isinstance(status, int) else ALLOWED
    except click.exceptions.Exit as stop:
        return UNCLEAR if stop.exit_code else ALLOWED
    except click.Abort as stopped:  # what click makes of Ctrl-C
        raise KeyboardInterrupt(*getattr(stopped.__cause__, "args", ())) from None
    except click.ClickException as error:
        error.show()
        return UNCLEAR


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _drop_stdout() -> None:
    """Point stdout at nothing, so that nobody flushes into a closed pipe."""
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
    except (OSError, ValueError):
        pass
