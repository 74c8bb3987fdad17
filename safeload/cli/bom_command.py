"""`safeload bom`: the lockfile as a bill of materials."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from safeload.cli.options import force_option, format_option, lock_option, output_option
from safeload.cli.output import check_output, emit

__all__ = ["command"]


@click.command(name="bom")
@format_option("json", "xml")
@output_option
@force_option("Overwrite the file that --output names.")
@lock_option
def command(kind: str, output: Path | None, force: bool, lock: str | None) -> int:
    """Write the lockfile as a CycloneDX bill of materials (ML-BOM).

    Every model with its files, digests, source, signers, formats and globals, as the lockfile has them. No file is opened and nothing
    is fetched: 'safeload verify' says whether they are still so.

    Exit status: 0 written, 2 there is no lockfile, or it is not valid.
    """
    from safeload.bom import bill_of_materials

    check_output(output, force=force)
    emit(bill_of_materials(lock, kind=cast('Literal["json", "xml"]', kind)), output, force=force)
    return 0
