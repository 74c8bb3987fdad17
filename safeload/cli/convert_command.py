"""placeholder"""

import click


@click.command(name="convert")
def command() -> int:
    return 2
