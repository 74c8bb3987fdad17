"""`safeload export`: from a converted file back to a torch zip, for programs that read nothing else."""

from __future__ import annotations

import click

from safeload.cli.options import PATH, force_option, policy_option, quiet_option
from safeload.cli.output import emit, outcome_style, place, short_digest, size_text, summary
from safeload.findings import Outcome

__all__ = ["command"]


@click.command(name="export")
@click.argument("src", type=PATH)
@click.argument("dst", type=PATH)
@force_option("Overwrite DST.")
@quiet_option
@policy_option
def command(src: str, dst: str, force: bool, quiet: bool, policy: str | None) -> int:
    """Write SRC, a converted file or any other checkpoint, as a torch zip.

    For programs that read nothing else. The stream is written anew from what safeload read: it asks for tensors, plain data,
    and classes that the policy grants. What else SRC names is refused, because torch would import and call it.

    Exit status: 0 written, 1 SRC is refused, 2 it could not be written.
    """
    from safeload.conversion import export

    written = export(src, dst, force=force, policy=policy)
    emit([[(place(written.path), "bold"), (f"  {size_text(written.size)}  {short_digest(written.sha256)}", "")]])
    summary([(f"written: {place(written.path)}", outcome_style(Outcome.ALLOWED))], quiet=quiet)
    return 0
