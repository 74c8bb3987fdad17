"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from safeload.byte_sizes import size_of

__all__ = ["BYTES", "PATH", "Bytes", "force_option", "format_option", "lock_option", "output_option", "policy_option", "quiet_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

PATH: Final = click.Path(path_type=str)


if TYPE_CHECKING:
    _Size = click.ParamType[int]
else:
    _Size = click.ParamType  # generic for type checkers only in older releases


class Bytes(_Size):
    """A size: "500000", "10 MB", "2GiB"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        if isinstance(value, int):
            return value
        found = size_of(str(value))
        if found is None:
            self.fail(f"'{value}' is not a size such as 500000, 10MB or 2GiB", param, ctx)
        return found


BYTES: Final = Bytes()


def format_option(*names: str) -> Callable[[_Command], _Command]:
    """`--format`: the first name is the default."""
    return click.option(
        "--format", "kind", type=click.Choice(names), default=names[0], show_default=True, help="How the result is written."
    )  # fmt: skip


def output_option(command: _Command) -> _Command:
    """`--output`."""
    return click.option(
        "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the result to FILE, not to stdout."
    )(command)  # fmt: skip


def force_option(text: str) -> Callable[[_Command], _Command]:
    """`--force`, and what it means here."""
    return click.option("--force", is_flag=True, help=text)


def quiet_option(command: _Command) -> _Command:
    """`--quiet`."""
    return click.option("--quiet", "-q", is_flag=True, help="No progress and no summary on stderr.")(command)


def policy_option(command: _Command) -> _Command:
    """`--policy`."""
    text = "The policy, instead of the nearest safeload.toml or pyproject.toml."
    return click.option("--policy", type=PATH, metavar="FILE", help=text)(command)


def lock_option(command: _Command) -> _Command:
    """`--lock`."""
    text = "The lockfile, instead of $SAFELOAD_LOCK or the nearest safeload.lock."
    return click.option("--lock", type=PATH, metavar="FILE", help=text)(command)
