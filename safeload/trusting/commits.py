"""Take a signed commit out of a repository, with what leads from it to files, so that it can be kept beside the lockfile."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable
from typing import Final

from safeload.errors import SafeloadError, UsageError
from safeload.findings import escape
from safeload.trust.git_commit import MEDIA_TYPE, commit_signature, lfs_pointer, tree_entries

__all__ = ["collect_commit"]

_TIMEOUT: Final = 60.0
_LARGEST_BLOB: Final = 16 << 20


def collect_commit(repository: str | os.PathLike[str], paths: Iterable[str] = (), *, revision: str = "HEAD") -> tuple[str, bytes]:
    """Return a commit's id, and the bundle of it and of what leads to the files.

    Args:
        repository: A git repository, without or with a working tree.
        paths: Files, relative to its top; by default all that Git LFS keeps.
        revision: Which commit.

    Raises:
        UsageError: it is no repository, or has no such commit or file.
        SignatureError: the commit is signed neither with OpenPGP nor with an SSH key.
    """
    commit_id = _git(repository, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    commit = _git(repository, "cat-file", "commit", commit_id)
    commit_signature(commit)
    tree = commit.split(b"\n", 1)[0].removeprefix(b"tree ").decode()
    wanted = set(paths)
    objects: dict[str, bytes] = {}
    reached: set[str] = set()
    _walk(repository, tree, "", wanted, objects, reached, width=len(tree) // 2)
    if missing := wanted - reached:
        raise UsageError(f"the commit has no such file: {', '.join(map(escape, sorted(missing)))}")
    if not reached:
        raise UsageError("the commit has no file that Git LFS keeps", hint="name the files")
    document = {
        "mediaType": MEDIA_TYPE, "commit": base64.b64encode(commit).decode(),
        "objects": [base64.b64encode(raw).decode() for raw in objects.values()],
    }  # fmt: skip
    return commit_id, json.dumps(document, indent=1).encode() + b"\n"


def _walk(
    repository: str | os.PathLike[str], tree: str, prefix: str, wanted: set[str], objects: dict[str, bytes], reached: set[str],
    *, width: int,
) -> bool:  # fmt: skip
    """Collect a tree when it leads to a wanted file (to any LFS file when none is named)."""
    data = _git(repository, "cat-file", "tree", tree)
    useful = False
    for name, (mode, oid) in tree_entries(data, width).items():
        path = prefix + name.decode("utf-8", "surrogateescape")
        if mode == b"40000":
            if not wanted or any(item.startswith(f"{path}/") for item in wanted):
                useful |= _walk(repository, oid, f"{path}/", wanted, objects, reached, width=width)
        elif mode.startswith(b"100") and (path in wanted or not wanted):
            if int(_git(repository, "cat-file", "-s", oid)) > _LARGEST_BLOB:
                if wanted:
                    raise UsageError(f"is kept in git itself and too large to keep beside the lockfile: {escape(path)}")
                continue
            blob = _git(repository, "cat-file", "blob", oid)
            if wanted or lfs_pointer(blob) is not None:
                objects[oid] = b"blob %d\0%s" % (len(blob), blob)
                reached.add(path)
                useful = True
    if useful:
        objects[tree] = b"tree %d\0%s" % (len(data), data)
    return useful


def _git(repository: str | os.PathLike[str], *arguments: str) -> bytes:
    command = ["git", "-C", os.fspath(repository), *arguments]
    env = {**os.environ, "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT, stdin=subprocess.DEVNULL, env=env)  # noqa: S603
    except FileNotFoundError:
        raise SafeloadError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise SafeloadError(f"git did not answer within {_TIMEOUT:g} seconds") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UsageError(f"git: {escape(said[-1] if said else 'failed', 300)}", where=escape(os.fspath(repository), 1000))
    return done.stdout
