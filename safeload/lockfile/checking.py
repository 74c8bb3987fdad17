"""Compare files with their pins: which pin covers a file, whether it holds, and whether something lies there that none covers."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Final, Literal

from safeload.errors import PinError, UsageError
from safeload.findings import Finding, escape
from safeload.lean_dataclass import dataclass, replace
from safeload.lockfile.data import ANY_SIZE, LockedFile, Lockfile, Model
from safeload.lockfile.reading import path_problem
from safeload.lockfile.writing import own_names
from safeload.rules import RULES
from safeload.trust.digest import Digest

__all__ = ["LOCK_SIGNATURES", "Pin", "compare", "complete_check", "locate", "lock_relative", "lookup", "require_complete", "require_match"]

LOCK_SIGNATURES: Final = (".sigstore.json", ".asc")
"""A signature of the lockfile itself lies beside it, under its name and one of these."""

_SHOWN: Final = 20
_INDEX: Final = ".index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One locked file that covers a file at hand.

    Attributes:
        model: The model it belongs to.
        file: What the lock says.
        path: Where the lock says it lies, absolute.
        matched_by: How it was found. By "digest" the file at hand lies elsewhere.
    """

    model: Model
    file: LockedFile
    path: Path
    matched_by: Literal["name", "path", "digest"]


def locate(lock_path: str | os.PathLike[str], relative: str) -> Path:
    """Return the absolute path of something that the lock names."""
    return Path(os.fspath(lock_path)).absolute().parent / relative


def lock_relative(lock_path: str | os.PathLike[str], path: str | os.PathLike[str]) -> str:
    """Return how a file is called in the lock: relative to it, with "/".

    Raises:
        UsageError: it lies outside the lockfile's directory, or has a name that no lockfile may hold.
    """
    found = next(_names(lock_path, path), None)
    if found is None:
        raise UsageError(
            f"lies outside {escape(os.fspath(locate(lock_path, '')), 1000)}, the lockfile's directory",
            where=escape(os.fspath(path), 1000),
            hint="put the lockfile into a directory above it, or name another with --lock",
        )
    if problem := path_problem(found):
        raise UsageError(f"cannot be locked under this name: '{escape(found)}' {problem}", where=escape(os.fspath(path), 1000))
    return found


def _names(lock_path: str | os.PathLike[str], path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield what a path may be called in the lock: as written, with links in its directories resolved, and all resolved."""
    folder = os.fspath(locate(lock_path, ""))
    real_folder = os.path.realpath(folder)
    absolute = os.path.normpath(Path.cwd() / path)
    parent, base = os.path.split(absolute)
    resolved_parent = os.fspath(Path(os.path.realpath(parent), base))
    for start, full in ((folder, absolute), (real_folder, resolved_parent), (real_folder, os.path.realpath(absolute))):
        try:
            yield PurePath(full).relative_to(start).as_posix()
        except ValueError:
            continue


def lookup(
    lock: Lockfile,
    lock_path: str | os.PathLike[str],
    *,
    name: str | None = None,
    path: str | os.PathLike[str] | None = None,
    sha256: str | None = None,
) -> Pin | None:
    """Return the pin that covers a file: by model name, else by path, else by digest wherever the file lies.

    A pin that was found by name or path says nothing yet about the bytes: `compare` does.

    Args:
        lock: The lock in force.
        lock_path: Where it lies; its paths are relative to that.
        name: A model's name. Nothing else is tried when it is one.
        path: Relative to the working directory, or absolute.
        sha256: Of the whole file, 64 hex digits.

    Raises:
        UsageError: the model has several weights files.
    """
    if name is not None and (model := lock.model(name)) is not None:
        return _pin(lock_path, model, _only_weights(model), "name")
    if path is not None:
        by_path = _places(lock)
        for candidate in _names(lock_path, path):
            if candidate in by_path:
                return _pin(lock_path, *by_path[candidate], "path")
    if sha256 is not None:
        same = [(model, file) for model in lock.models for file in _with_twins(model) if file.sha256 == sha256]
        if same:
            # The same bytes locked twice, with different grants: only what both grant is sure to be meant for this file.
            grants = set(same[0][1].allow_globals).intersection(*(file.allow_globals for _, file in same))
            return _pin(lock_path, same[0][0], replace(same[0][1], allow_globals=tuple(grants)), "digest")
    return None


class _Latest:
    """The lock that was asked last, and its files by path: a lock that has not changed is the same object at every load."""

    found: tuple[Lockfile, dict[str, tuple[Model, LockedFile]]] | None = None


def _places(lock: Lockfile) -> dict[str, tuple[Model, LockedFile]]:
    held = _Latest.found
    if held is None or held[0] is not lock:
        held = _Latest.found = (lock, {file.path: (model, file) for model in lock.models for file in _with_twins(model)})
    return held[1]


def _with_twins(model: Model) -> Iterator[LockedFile]:
    """Its files, and the files that were made from them: those are pinned, too."""
    for file in model.files:
        yield file
        if file.twin is not None:
            yield file.twin


def _pin(lock_path: str | os.PathLike[str], model: Model, file: LockedFile, matched_by: Literal["name", "path", "digest"]) -> Pin:
    return Pin(model=model, file=file, path=locate(lock_path, file.path), matched_by=matched_by)


def _only_weights(model: Model) -> LockedFile:
    if len(model.weights) == 1:
        return model.weights[0]
    index = _only_index(model)
    if index is not None:
        return index
    listed = ", ".join(escape(file.path) for file in model.weights[:_SHOWN])
    more = f" and {len(model.weights) - _SHOWN} more" if len(model.weights) > _SHOWN else ""
    raise UsageError(
        f"the model has {len(model.weights)} weights files: {listed}{more}", where=escape(model.name), hint="load one of them by its path"
    )


def _only_index(model: Model) -> LockedFile | None:
    """The index of a model whose weights are in several files, and in no others."""
    found = [file for file in model.weights if file.format == "index" and file.path.endswith(_INDEX)]
    if len(found) != 1:
        return None
    stem, dot, ending = found[0].path.removesuffix(_INDEX).rpartition(".")
    part = re.compile(rf"{re.escape(stem)}-[0-9]+-of-[0-9]+{re.escape(dot + ending)}", re.ASCII)
    return found[0] if all(part.fullmatch(file.path) for file in model.weights if file is not found[0]) else None


# ---- comparing


def compare(
    pin: Pin,
    *,
    size: int | None,
    sha256: str | None = None,
    tree: str | None = None,
    format: str | None = None,
    globals: Iterable[str] | None = None,
) -> list[Finding]:
    """Say how a file differs from its pin; only what is given is compared.

    Args:
        pin: What it should be.
        size: Bytes.
        sha256: Of the whole file.
        tree: Its `sha256-tree`.
        format: What the reader made of it.
        globals: Every global it names.

    Returns:
        SL601 for size and digests, SL603 for the format, SL605 for globals that are new. Empty when nothing differs,
        which means nothing when no digest was given: `require_match` insists on one.
    """
    file = pin.file
    found: list[Finding] = []
    if size is not None and file.size != ANY_SIZE and size != file.size:
        found.append(_finding("SL601", f"the file has {size} bytes, and the pinned one {file.size}"))
    if sha256 is not None and sha256 != file.sha256:
        found.append(_finding("SL601", _both(file.digest, Digest("sha256", sha256))))
    if tree is not None and file.sha256_tree is not None and tree != file.sha256_tree:
        found.append(_finding("SL601", _both(Digest("sha256-tree", file.sha256_tree), Digest("sha256-tree", tree))))
    if format is not None and file.format is not None and format != file.format:
        found.append(_finding("SL603", f"the file is {escape(format, 80)}, and was pinned as {file.format}"))
    if globals is not None and file.globals is not None:
        known = frozenset(file.globals)
        fresh = [name for name in dict.fromkeys(globals) if name not in known]
        found += [_finding("SL605", f"names {escape(name)}, which it did not name when it was pinned", name) for name in fresh]
    return found


def _both(pinned: Digest, found: Digest) -> str:
    return f"the bytes are not the pinned bytes: pinned {pinned}, found {found}"


def _finding(rule: str, message: str, subject: str | None = None) -> Finding:
    return Finding(rule=rule, level=RULES[rule].level, message=message, subject=subject)


def require_match(
    pin: Pin,
    *,
    size: int | None,
    sha256: str | None = None,
    tree: str | None = None,
    format: str | None = None,
    globals: Iterable[str] | None = None,
    where: str = "",
    hint: str = "",
) -> None:
    """Return when a file is what its pin says, else raise.

    The arguments are those of `compare`, and `where`: the file at hand, for the message, already escaped; `hint`: another one than to
    lock it again.

    Raises:
        PinError: it differs; `.expected` and `.found` hold both values, `.findings` every difference.
        UsageError: no digest was given that the pin has too, so nothing would have been proved.
    """
    if sha256 is None and (tree is None or pin.file.sha256_tree is None):
        raise UsageError("nothing to compare: a pin is matched by a digest", where=where)
    findings = compare(pin, size=size, sha256=sha256, tree=tree, format=format, globals=globals)
    if not findings:
        return
    expected, found = _values(pin.file, findings, size=size, sha256=sha256, tree=tree, format=format)
    error = PinError(
        findings[0].message if expected in findings[0].message else f"{findings[0].message}: pinned {expected}, found {found}",
        where=where,
        hint=hint or f"if the change is meant, run 'safeload lock {escape(pin.file.path)}' and review the difference",
        expected=expected,
        found=found,
    ).under(findings[0].rule)
    error.findings = tuple(findings)
    raise error


def _values(
    file: LockedFile,
    findings: list[Finding],
    *,
    size: int | None,
    sha256: str | None,
    tree: str | None,
    format: str | None,
) -> tuple[str, str]:
    """Return the two values that tell best what differs: digests where they do, else format, else globals."""
    if findings[0].rule == "SL601":
        if sha256 is not None:
            return str(file.digest), str(Digest("sha256", sha256))
        if tree is not None and file.sha256_tree is not None and tree != file.sha256_tree:
            return str(Digest("sha256-tree", file.sha256_tree)), str(Digest("sha256-tree", tree))
        return f"{file.size} bytes", f"{size} bytes"
    if findings[0].rule == "SL603":
        return file.format or "", escape(format or "", 80)
    return ", ".join(map(escape, file.globals or ())), escape(findings[0].subject or "")


# ---- completeness


def complete_check(
    model: Model,
    directory: str | os.PathLike[str],
    *,
    lock: Lockfile | None = None,
    lock_path: str | os.PathLike[str] | None = None,
) -> list[Finding]:
    """Say what lies in a complete model's directory and is not locked, dot-files and dot-directories included.

    Args:
        model: The model; its files are locked.
        directory: Where `model.directory` lies on this disk.
        lock: Whatever else this lock pins is locked too: other models, bundles, keys, converted files.
        lock_path: The lock in force. It and its writers' own files are passed by when they lie here; a file that only
            has such a name elsewhere is not.

    Returns:
        One SL604 for each entry, by path. Links to directories are entries, and are not followed.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError: a directory could not be listed; it is not passed by.
    """
    top = Path(directory)
    prefix = f"{model.directory}/" if model.directory else ""
    known = {file.path for file in model.files} | (lock.paths if lock is not None else frozenset())
    own = None if lock_path is None else Path(lock_path).absolute()
    found = []
    todo = [""]
    while todo:
        below = todo.pop()
        with os.scandir(top / below) as entries:
            for entry in entries:
                relative = below + entry.name
                if entry.is_dir(follow_symlinks=False):
                    todo.append(f"{relative}/")
                elif prefix + relative not in known and not _is_own(entry, own):
                    found.append((relative, _kind(entry)))
    return [
        _finding("SL604", f"{kind} that the lock does not list lies in the directory of '{escape(model.name)}': {escape(name, 1000)}")
        for name, kind in sorted(found)
    ]


def require_complete(model: Model, lock: Lockfile | None, lock_path: str | os.PathLike[str], *, where: str = "") -> None:
    """Return when nothing but locked files lies in a complete model's directory.

    Raises:
        PinError: something else does; `.findings` lists it.
        OSError: the directory cannot be listed.
    """
    findings = complete_check(model, locate(lock_path, model.directory), lock=lock, lock_path=lock_path)
    if findings:
        more = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
        error = PinError(
            f"{findings[0].message}{more}", where=where,
            hint="remove it, or run 'safeload lock' on the directory and review the difference",
        ).under("SL604")  # fmt: skip
        error.findings = tuple(findings)
        raise error


def _is_own(entry: os.DirEntry[str], lock: Path | None) -> bool:
    """Whether an entry is the lock in force, or what its writers leave beside it."""
    if lock is None:
        return False
    guard, spare = own_names(lock.name)
    mine = (lock.name, guard, *(lock.name + suffix for suffix in LOCK_SIGNATURES))
    if entry.name not in mine and not entry.name.startswith(spare):
        return False
    return Path(entry.path).parent.samefile(lock.parent) and entry.is_file(follow_symlinks=False)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "a link"
    return "a file" if stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode) else "a special file"
