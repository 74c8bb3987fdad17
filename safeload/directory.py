"""Which files lie below a directory: in a stable order, links never followed out of it, and nothing passed by in silence."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from safeload.lean_dataclass import dataclass
from safeload.policy import glob_match

__all__ = ["OUTSIDE", "Found", "files_below", "matches"]

OUTSIDE: Final = "a link that leads out of the directory: name the place it leads to"


@dataclass(frozen=True, slots=True)
class Found:
    """One entry below a directory that is not a directory itself.

    Attributes:
        path: The directory as it was named, and the entry below it.
        relative: Below the directory, with "/".
        skipped: Why it is not looked at, or None. It needs no look: somebody left it out, or it is looked at elsewhere.
        problem: Why it cannot be looked at, or None. It would need a look.
        info: What `stat` says of a file that is to be looked at.
    """

    path: str
    relative: str
    skipped: str | None = None
    problem: str | None = None
    info: os.stat_result | None = None


def matches(patterns: Sequence[str], relative: str) -> bool:
    """Whether one of the globs is about a path: a glob without "/" about its last part, any other about the whole path."""
    name = relative.rpartition("/")[2]
    return any(glob_match(pattern, relative if "/" in pattern else name) for pattern in (text.rstrip("/") for text in patterns))


def files_below(top: str | os.PathLike[str], *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Iterator[Found]:
    """Yield every file below a directory, dot-files and dot-directories too: by name, a directory's files before its directories.

    Args:
        top: The directory. When it is a link itself, it is followed: somebody named it.
        include: Globs as for `matches`; when there are any, other files are skipped.
        exclude: Globs of files and whole directories to leave out; they win over `include`.
    """
    root = os.fspath(top)
    real = os.path.realpath(root)
    todo = [""]
    while todo:
        below = todo.pop()
        folder = f"{root}/{below}" if root != "." else below or "."
        try:
            # Only names are kept: a directory may hold a hundred thousand.
            listed = sorted(os.listdir(folder.rstrip("/") or "/"))
        except OSError as error:
            yield Found(_joined(root, below.rstrip("/")), below.rstrip("/"), problem=f"the directory cannot be listed: {error.strerror}")
            continue
        later: list[str] = []
        for name in listed:
            relative = below + name
            if matches(exclude, relative):
                yield Found(_joined(root, relative), relative, skipped="left out by --exclude")
                continue
            path = _joined(root, relative)
            try:
                info = os.lstat(path)
            except OSError as error:
                yield Found(path, relative, problem=f"cannot be looked at: {error.strerror}")
                continue
            if stat.S_ISDIR(info.st_mode):
                later.append(f"{relative}/")
            else:
                found = _entry(info, path, relative, real)
                if found.skipped is None and found.problem is None and include and not matches(include, relative):
                    found = Found(found.path, relative, skipped="left out by --include")
                yield found
        todo.extend(reversed(later))


def _within(target: str, real: str) -> bool:
    """Whether a link's target belongs to a directory: it lies in it, or is a file of the hub's cache around it.

    That cache keeps a repository's files once, in `blobs`, and each revision in `snapshots/REVISION` as links to them.
    """
    if target == real or target.startswith(os.path.join(real, "")):
        return True
    above, _, revision = real.rpartition(os.sep)
    repository, _, snapshots = above.rpartition(os.sep)
    return bool(revision) and snapshots == "snapshots" and os.path.dirname(target) == os.path.join(repository, "blobs")


def _joined(root: str, relative: str) -> str:
    if root == ".":
        return relative or "."
    return f"{root.rstrip('/') or ''}/{relative}" if relative else root


def _entry(info: os.stat_result, path: str, relative: str, real: str) -> Found:
    """Say what a file, link or special file is; a link counts only when it leads to a file of the same tree."""
    try:
        if not stat.S_ISLNK(info.st_mode):
            if stat.S_ISREG(info.st_mode):
                return Found(path, relative, info=info)
            return Found(path, relative, problem="not a regular file: a pipe, socket or device has no bytes to look at")
        target = os.path.realpath(path, strict=True)
        if not _within(target, real):
            return Found(path, relative, problem=OUTSIDE)
        leads = os.stat(target)
        if stat.S_ISDIR(leads.st_mode):
            return Found(path, relative, skipped="a link to a directory of the same tree, which is looked at there")
    except OSError as error:
        return Found(path, relative, problem=f"cannot be followed: {error.strerror}")
    return Found(path, relative, info=leads)
