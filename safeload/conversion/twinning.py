"""Converted twins for the lockfile: made, proved, and written down beside the pin of what they were made from."""

from __future__ import annotations

import os
from pathlib import Path

from safeload.conversion.converting import convert_file, default_destination
from safeload.conversion.job import Progress
from safeload.conversion.many import made_from
from safeload.conversion.results import ConvertResult
from safeload.errors import PinError, SafeloadError, UnsupportedError, UsageError
from safeload.findings import escape
from safeload.lean_dataclass import dataclass, replace
from safeload.lockfile import Converted, LockedFile, Lockfile, Model, locate, lock_relative, update
from safeload.policy import Policy
from safeload.source import Source
from safeload.trust.both_digests import file_digests

__all__ = ["Made", "is_there", "make_twin", "record", "with_twin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A converted file that holds all of its source.

    Attributes:
        sha256: Of the source.
        converted: The twin, as the lock calls it.
        beside: The file beside it that holds its manifest, when that is too long for the header.
    """

    sha256: str
    converted: Converted
    beside: LockedFile | None = None


def make_twin(
    path: Path, lock_path: Path, *, sha256: str, policy: Policy, known: Path | None = None, progress: Progress | None = None
) -> Made:
    """Convert a file that is pinned, beside it.

    A converted file that is there and says that it was made from these bytes is replaced, so that what is pinned is always what was
    written here: the same input gives the same file. A file of somebody else's is left alone, and another name is taken.

    Args:
        path: The file.
        lock_path: The lockfile.
        sha256: What its bytes must be.
        policy: What is allowed.
        known: Where the lock says its twin lies; what is there is replaced.
        progress: Told bytes done and bytes in all.

    Raises:
        PinError: its bytes changed.
        SafeloadError: it cannot be converted.
    """

    def gate(found: str) -> None:
        if found != sha256:
            raise _other_bytes(path, sha256, found)

    usual = [default_destination(path), path.with_name(f"{path.name}.safetensors")]
    for place in dict.fromkeys([known, *usual] if known is not None else usual):
        ours = place == known or (os.path.lexists(place) and made_from(place) == sha256)
        if not ours and os.path.lexists(place):
            continue
        result = convert_file(path, place, force=ours, policy=policy, gate=gate, progress=progress)
        if result.left_out:
            for written in result.files:
                Path(written.path).unlink()
            raise UnsupportedError(f"not all of it can be converted: {escape(result.left_out[0][0], 80)}", where=escape(str(path), 1000))
        return made_of(result, lock_path)
    names = " and ".join(escape(place.name) for place in usual)
    hint = "convert it elsewhere: safeload convert SRC DST --lock"
    raise UsageError(f"{names} are there, and were not made from it", where=escape(str(path), 1000), hint=hint)


def _other_bytes(path: str | Path, pinned: str, found: str) -> PinError:
    text = f"the bytes are not the pinned bytes: pinned sha256:{pinned}, found sha256:{found}"
    error = PinError(text, where=escape(str(path), 1000), expected=f"sha256:{pinned}", found=f"sha256:{found}")
    error.rule = "SL601"
    return error


def is_there(lock_path: Path, file: LockedFile) -> bool:
    """Whether the twin of a pinned file lies where the lock says, with the bytes that it says."""
    if file.converted is None:
        return False
    try:
        with Source.open(locate(lock_path, file.converted.path)) as source:
            return file_digests(source)[0] == file.converted.sha256
    except (SafeloadError, OSError):
        return False


def made_of(result: ConvertResult, lock_path: Path) -> Made:
    """What a conversion wrote, as the lock calls it.

    Raises:
        UsageError: it does not hold all of its source, or is more than one file.
    """
    where = escape(result.source, 1000)
    if result.dry_run or result.weights or result.left_out:
        raise UsageError("only a conversion that keeps everything makes a twin", where=where)
    first, *more = result.files
    if len(more) > 1:
        raise UsageError("a twin is one file: several are pinned as what they are", where=where, hint="leave --max-shard-size out")
    beside = None
    if more:
        beside = LockedFile(
            path=lock_relative(lock_path, more[0].path), size=more[0].size, sha256=more[0].sha256, sha256_tree=more[0].sha256_tree
        )
    made = Converted(path=lock_relative(lock_path, first.path), sha256=first.sha256, sha256_tree=first.sha256_tree)
    return Made(sha256=result.source_sha256, converted=made, beside=beside)


def with_twin(lock: Lockfile, path: str, made: Made) -> Lockfile:
    """Return a lock in which a pin has its twin. What was pinned by itself under the twin's path goes, when it is the same file.

    Args:
        lock: The lock.
        path: Of the source, as the lock calls it.
        made: Its twin.

    Raises:
        UsageError: another file is pinned under the twin's path.
        PinError: other bytes are pinned under `path`.
    """
    held = lock.file(path)
    if held is None:
        raise UsageError("no pin covers it", where=escape(path), hint=f"'safeload lock --convert {escape(path)}' pins and converts it")
    model, file = held
    if file.sha256 != made.sha256:
        raise _other_bytes(path, file.sha256, made.sha256)
    for one, digest in ((made.converted.path, made.converted.sha256), *([(made.beside.path, made.beside.sha256)] if made.beside else [])):
        lock = _freed(lock, one, digest)
    files = tuple(replace(other, converted=made.converted) if other.path == path else other for other in _model(lock, model.name).files)
    if made.beside is not None:
        files = (*files, made.beside)
    return lock.with_model(replace(_model(lock, model.name), files=files))


def _model(lock: Lockfile, name: str) -> Model:
    found = lock.model(name)
    if found is None:
        raise AssertionError
    return found


def _freed(lock: Lockfile, path: str, sha256: str) -> Lockfile:
    """The lock without a pin of its own for `path`, which is about to be pinned as what it is."""
    held = lock.file(path)
    if held is None:
        return lock
    model, file = held
    if file.sha256 != sha256:
        raise UsageError(f"'{escape(path)}' is pinned by itself, with another digest", hint="drop that pin, or convert to another place")
    rest = tuple(other for other in model.files if other.path != path)
    if rest:
        return lock.with_model(replace(model, files=rest))
    return replace(lock, models=tuple(other for other in lock.models if other.name != model.name))


def record(lock_path: Path, src: str | os.PathLike[str], result: ConvertResult) -> Lockfile:
    """Write the output of a conversion down as the twin of its source, which must be pinned.

    Args:
        lock_path: The lockfile.
        src: The source, as a path.
        result: What `convert` gave.

    Raises:
        UsageError: the source is not pinned, or the output is no twin.
        PinError: other bytes are pinned.
        LockfileError: the lockfile is not valid, or could not be written.
    """
    made = made_of(result, lock_path)
    path = lock_relative(lock_path, src)
    return update(lock_path, lambda now: with_twin(now, path, made))
