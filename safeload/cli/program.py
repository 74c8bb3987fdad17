"""Commands that take another program's command line: where ours ends and the program's begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]
from typing import Any, Final

import click

from safeload.errors import UsageError

__all__ = ["PROGRAM", "ProgramCommand", "interpreter", "start"]

PROGRAM: Final = "PROGRAM [ARGUMENT]..."


class ProgramCommand(click.Command):
    """Takes its own options up to the program, and leaves everything from there on as it is.

    The program begins, as for `python` itself, with the first word that is no option, or with `-m`, `-c` or `--`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split the line; click sees our half only."""
        takes_value = {name for param in self.params if isinstance(param, click.Option) and not param.is_flag for name in param.opts}
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in ("--", "-") and args[at][:2] not in ("-m", "-c"):
            at += 2 if args[at] in takes_value else 1
        program = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
        return super().parse_args(ctx, [*args[:at], "--", *program])


def interpreter(program: tuple[str, ...]) -> list[str]:
    """The command line that runs a program as this very Python would.

    Raises:
        UsageError: no program is named, or this Python was started in a way that leaves the environment out.
    """
    if not program:
        raise UsageError("no program to run", hint="name a script, or -m and a module")
    flags = [name for name, on in (("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment), ("-S", sys.flags.no_site)) if on]
    if flags:
        raise UsageError(
            f"python was started with {' '.join(flags)}, and a program is covered through the environment",
            hint="call safeload.install() in the program instead",
        )
    if not sys.executable:
        raise UsageError("it is not known which python this is", hint="call safeload.install() in the program instead")
    return [sys.executable, *_args_from_interpreter_flags(), *program]


def start(command: list[str], environ: Mapping[str, str]) -> int:
    """Become the program. Returns only where a process cannot become another one (Windows), with the program's exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(command[0], command, dict(environ))  # noqa: S606 - this is what the command is for
    return run_to_end(command, environ)


def run_to_end(command: list[str], environ: Mapping[str, str], **more: Any) -> int:
    """Run the program as a child and wait for it; Ctrl-C is the program's to answer.

    Returns:
        Its exit status; 128 and the signal's number for one that a signal ended, as a shell says it.
    """
    import subprocess

    with subprocess.Popen(command, env=dict(environ), **more) as child:  # noqa: S603 - this is what the command is for
        while True:
            try:
                status = child.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:  # the terminal sent it to the program too
                continue
