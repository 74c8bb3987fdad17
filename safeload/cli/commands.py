"""The command group: which commands there are. Each lies in its own module, which is imported when it is called."""

from __future__ import annotations

import importlib
from typing import Final

import click

from safeload import __version__

__all__ = ["COMMANDS", "safeload"]

COMMANDS: Final[tuple[str, ...]] = (
    "scan", "lock", "verify", "sign", "trust", "convert", "inspect", "explain", "load", "run", "trace", "export", "bom", "cache", "demo",
)  # fmt: skip
"""In the order of the help; `NAME` is `command` in `safeload.cli.NAME_command`."""

SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Lazy(click.Group):
    """Imports the one command that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"safeload.cli.{cmd_name}_command").command
        return found if isinstance(found, click.Command) else None


@click.command(cls=_Lazy, name="safeload", context_settings=SETTINGS)
@click.version_option(__version__, message="safeload %(version)s")
def safeload() -> None:
    """Know a model file before it touches your process.

    Results go to stdout, progress and summaries to stderr. Exit status: 0 allowed or matching, 1 refused or differing,
    2 could not say. Nothing is ever sent anywhere.
    """
