"""`safeload verify`: compare files with their pins."""

from __future__ import annotations

from pathlib import Path

import click

from safeload.cli.lock_command import STATUS
from safeload.cli.options import PATH, force_option, format_option, lock_option, output_option, policy_option, quiet_option
from safeload.cli.output import check_output, emit, summary
from safeload.cli.progress import Progress, bytes_of
from safeload.cli.render.json_output import verify_json
from safeload.cli.render.text_output import verify_lines, verify_summary
from safeload.pinning import verify as verify_files

__all__ = ["command"]


@click.command(name="verify")
@click.argument("paths", nargs=-1, type=PATH, metavar="[PATH]...")
@format_option("text", "json")
@output_option
@force_option("Overwrite the file that --output names.")
@quiet_option
@policy_option
@lock_option
def command(paths: tuple[str, ...], kind: str, output: Path | None, force: bool, quiet: bool, policy: str | None, lock: str | None) -> int:
    """Compare files with their pins in the lockfile in force, and check the signatures that it stores.

    PATH is a file, a directory or a model's name; without one, everything that the lock pins is compared, and the
    directories of complete models are searched for files that it does not list.

    Exit status: 0 everything matches, 1 a file differs, is missing or is not pinned, or a signature does not verify, 2 a file
    could not be read, or a signature not be checked.
    """
    check_output(output, force=force)
    with Progress("hashing", bytes_of(paths, lock), unit="bytes", quiet=quiet) as progress:
        result = verify_files(*paths, lock=lock, policy=policy, progress=progress.hashed)
    emit(verify_json(result) if kind == "json" else verify_lines(result), output, force=force)
    summary(verify_summary(result), quiet=quiet)
    return STATUS[result.outcome]
