"""Starts real servers on loopback and stops them again: by their own process, whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["free_port", "listens", "running", "tool", "waited"]


def tool(name: str) -> str:
    """Where a program of the system lies; the session installed it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    assert found is not None, f"{name} is not installed: './run services' does that"
    return found


def free_port() -> int:
    """A port on loopback that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody answers there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def waited(ready: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"it did not happen within {seconds} seconds"
        time.sleep(0.05)


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, *, port: int | None = None, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; with a port, wait until it listens."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            list(command), stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}, cwd=cwd, start_new_session=True
        )  # fmt: skip
    try:
        if port is not None:
            waited(lambda: child.poll() is not None or listens(port))
            assert child.poll() is None, log.read_text(errors="replace")[-2000:]
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def python(*words: str) -> list[str]:
    """This very Python."""
    return [sys.executable, *words]
