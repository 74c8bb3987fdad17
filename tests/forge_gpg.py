"""gpg as its users have it: keys of every sort in a home of their own, made once for all tests that ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final

import pytest

__all__ = ["OLD", "gpg", "gpg_home", "signed_commit"]

OLD: Final = "20200601T000000"
"""A day on which the key of old@example.org was valid, as gpg reads it."""


def gpg(home: Path, *arguments: str, data: bytes | None = None) -> bytes:
    quiet = ["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
    command = ["gpg", "--homedir", str(home), *quiet, *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=600).stdout


@lru_cache(maxsize=1)
def gpg_home() -> Path:
    """Return a home with the keys of now@, old@ (expired by now) and weak@example.org (RSA of 1024 bits); skip without gpg."""
    if shutil.which("gpg") is None:
        pytest.skip("needs gpg")
    home = Path(tempfile.mkdtemp(prefix="g"))  # gpg's socket needs a short path
    home.chmod(0o700)
    gpg(home, "--faked-system-time", "20200101T000000", "--quick-gen-key", "old@example.org", "ed25519", "sign", "1y")
    gpg(home, "--quick-gen-key", "now@example.org", "ed25519", "sign", "never")
    gpg(home, "--quick-gen-key", "weak@example.org", "rsa1024", "sign", "never")
    return home


def signed_commit(repository: Path, home: Path, user: str, message: str) -> str:
    """Commit everything below a directory, signed, and return the commit's id."""
    settings = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", f"user.signingkey={user}", "-c", "commit.gpgsign=true"]
    env = {**os.environ, "GNUPGHOME": str(home), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for command in (["init", "-q"], ["add", "-A"], [*settings, "commit", "-q", "-m", message], ["rev-parse", "HEAD"]):
        done = subprocess.run(["git", "-C", str(repository), *command], check=True, capture_output=True, timeout=600, env=env)
    return done.stdout.decode().strip()
