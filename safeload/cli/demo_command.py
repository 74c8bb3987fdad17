"""`safeload demo`: everything once, on a small checkpoint and a hostile one, in a temporary directory."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from safeload.cli import run
from safeload.cli.demo_files import write_checkpoint, write_hostile
from safeload.errors import SafeloadError

__all__ = ["command"]


@click.command(name="demo")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Work in DIR, a new one, and leave the files."
)
def command(keep: Path | None) -> int:
    """Show scan, lock, load, tampering, refusal and conversion on files that are made for it.

    Works in a temporary directory and without torch; with torch, tensors are loaded, too. Nothing hostile is run.

    Exit status: 0 when every step ended as it should, else 2.
    """
    with _workplace(keep):
        return 0 if _Show().run() else 2


@contextlib.contextmanager
def _workplace(keep: Path | None) -> Iterator[None]:
    """Stand in an empty directory, with nobody's lockfile in force."""
    before = Path.cwd()
    named = os.environ.pop("SAFELOAD_LOCK", None)
    with contextlib.ExitStack() as stack:
        if keep is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safeload-demo-")))
        else:
            keep.mkdir(parents=True)
            place = keep
        os.chdir(place)
        # An own, empty policy: one further up would change what is shown.
        Path("safeload.toml").write_text("# no rules of its own: the defaults hold\n", encoding="utf-8")
        try:
            yield
        finally:
            os.chdir(before)
            if named is not None:
                os.environ["SAFELOAD_LOCK"] = named


class _Show:
    """The steps; remembers whether each ended as it should."""

    def __init__(self) -> None:
        self.ok = True

    def run(self) -> bool:
        self.say("A checkpoint as torch.save writes it, and one that calls os.system while it is unpickled.")
        write_checkpoint(Path("model.pt"))
        write_hostile(Path("hostile.pt"))
        self.step(1, "scan", "model.pt", "hostile.pt")
        self.say("Pin what is known. From now on nothing else loads here.")
        self.step(0, "lock", "model.pt")
        self.step(0, "load", "model.pt")
        self.python("model.pt")
        self.say("Somebody changes one bit of a weight.")
        good = Path("model.pt").read_bytes()
        at = good.index(b"\x00\x00\x00\x3f\x00\x00\x80\xbf")
        Path("model.pt").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        self.step(1, "verify")
        self.step(1, "load", "model.pt")
        Path("model.pt").write_bytes(good)
        self.say("The hostile one: no switch loads it; its bytes can still be looked at.")
        self.step(1, "load", "hostile.pt")
        self.step(0, "inspect", "--decompile", "hostile.pt")
        self.say("Away from pickle: safetensors holds the same tensors and nothing that could run.")
        self.step(0, "convert", "model.pt", "model.safetensors")
        self.step(0, "convert", "--check", "model.pt", "model.safetensors")
        self.step(0, "inspect", "model.safetensors")
        if not self.ok:
            self.say("A step did not end as it should: see above.")
        return self.ok

    def say(self, text: str) -> None:
        """Say what comes next."""
        sys.stdout.write(f"\n# {text}\n")

    def step(self, expected: int, *arguments: str) -> None:
        """Run one command in this process, shown as a person would type it."""
        sys.stdout.write(f"\n$ safeload {shlex.join(arguments)}\n")
        sys.stdout.flush()
        status = run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        if status != expected:
            self.ok = False
            sys.stdout.write(f"[exit status {status}, and {expected} was expected]\n")
        elif status:
            sys.stdout.write(f"[exit status {status}]\n")

    def python(self, path: str) -> None:
        """Load for real where torch is installed."""
        sys.stdout.write(f'\n>>> safeload.load("{path}")\n')
        sys.stdout.flush()
        if importlib.util.find_spec("torch") is None:
            sys.stdout.write("(torch is not installed here, so no tensors are built)\n")
            return
        from safeload.api import load

        try:
            sys.stdout.write(f"{load(path)!r}\n")
        except SafeloadError as error:
            self.ok = False
            sys.stdout.write(f"{error}\n")
