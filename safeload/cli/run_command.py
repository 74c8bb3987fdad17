"""`safeload run`: an unmodified program, with safeload in the place of torch.load."""

from __future__ import annotations

import os

import click

from safeload.cli.options import PATH, lock_option, policy_option
from safeload.cli.program import PROGRAM, ProgramCommand, interpreter, start
from safeload.installing.children import environment
from safeload.installing.options import Options

__all__ = ["command"]


@click.command(name="run", cls=ProgramCommand, options_metavar="[OPTION]...")
@click.option("--guard", type=click.Choice(["report", "enforce"]), help="Also watch other unpicklers in the program.")
@click.option("--unknown", type=click.Choice(["refuse", "inert"]), help="What becomes of globals that are not modelled.")
@policy_option
@lock_option
@click.argument("program", nargs=-1, type=PATH, metavar=PROGRAM)
def command(program: tuple[str, ...], guard: str | None, unknown: str | None, policy: str | None, lock: str | None) -> int:
    """Run a Python program with safeload in the place of torch.load.

    PROGRAM is a script, or -m and a module, as for python itself: safeload run train.py --epochs 3. The program is not
    changed and not wrapped: this process becomes it. Python processes that it starts are covered too.

    Exit status: the program's own; 2 when it could not be started.
    """
    line = interpreter(program)
    options = Options.of(policy, lock, unknown, guard)
    return start(line, environment(options, os.environ))
