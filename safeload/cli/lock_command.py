"""`safeload lock`: write down which bytes are known here."""

from __future__ import annotations

from pathlib import Path

import click

from safeload.cli.options import PATH, force_option, format_option, lock_option, output_option, policy_option, quiet_option
from safeload.cli.output import check_output, emit, summary
from safeload.cli.progress import Progress, bytes_of
from safeload.cli.render.json_output import lock_json
from safeload.cli.render.text_output import lock_lines, lock_summary
from safeload.findings import Outcome
from safeload.pinning import lock as lock_files

__all__ = ["STATUS", "command"]

STATUS = {Outcome.ALLOWED: 0, Outcome.REFUSED: 1, Outcome.ERROR: 2}


@click.command(name="lock")
@click.argument("paths", nargs=-1, type=PATH, metavar="[PATH]...")
@click.option("--check", is_flag=True, help="Write nothing, and say what differs.")
@click.option("--name", metavar="MODEL", help="The model that new files go to. By default a file's path without its ending.")
@click.option("--complete", is_flag=True, help="The directory is one complete model: pin all its files, and let no other lie there.")
@click.option(
    "--allow-global", "grants", multiple=True, metavar="NAME", help="Grant a global to the bytes that are pinned now. May be repeated."
)  # fmt: skip
@click.option(
    "--convert/--no-convert", default=None, help="Convert pickles to safetensors beside them, and pin that, too; or forget converted files."
)  # fmt: skip
@click.option("--prune", is_flag=True, help="Drop the pins of files that are no longer there.")
@click.option("--require", multiple=True, metavar="SIGNER", help="This signer must have signed these models from now on. May be repeated.")
@click.option("--accept-signer-change", is_flag=True, help="Pin although a signer changed or vanished.")
@force_option("Pin files that would be refused, and overwrite the file that --output names.")
@format_option("text", "json")
@output_option
@quiet_option
@policy_option
@lock_option
def command(
    paths: tuple[str, ...], check: bool, name: str | None, complete: bool, grants: tuple[str, ...], prune: bool, require: tuple[str, ...],
    accept_signer_change: bool, convert: bool | None, force: bool,
    kind: str, output: Path | None, quiet: bool, policy: str | None, lock: str | None,
) -> int:  # fmt: skip
    """Pin files: add them to the lockfile in force, or renew their pins.

    Without a path every pin is renewed. Without a lockfile in force, ./safeload.lock is created. A directory becomes one
    model. A file that would be refused is not pinned, unless --allow-global grants what it needs.

    Signatures that lie beside the files are verified and recorded. A signer whom the lockfile does not know is written down
    as found, and shown as "first use": compare it with what the publisher says. A signer that changed or vanished is refused.

    With --convert a load takes the converted file, and never parses the pickle again.

    Exit status: 0 all pinned (with --check: nothing differs), 1 a file was refused, is missing, or differs, 2 a file
    could not be analysed.
    """
    check_output(output, force=force)
    with Progress("hashing", bytes_of(paths, lock), unit="bytes", quiet=quiet) as progress:
        result = lock_files(
            *paths, lock=lock, check=check, policy=policy, name=name, complete=complete, force=force, allow_globals=grants,
            prune=prune, require=require, accept_signer_change=accept_signer_change, convert=convert, progress=progress.hashed,
        )  # fmt: skip
    emit(lock_json(result) if kind == "json" else lock_lines(result, verbose=bool(paths) and not check), output, force=force)
    summary(lock_summary(result), quiet=quiet)
    return STATUS[result.outcome]
