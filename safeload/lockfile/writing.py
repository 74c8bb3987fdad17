"""Write a lockfile: one layout, read back before it is written, and never half of it on the disk.

A writer holds a file lock, reads again under it, writes a temporary file beside the old one, flushes it to the disk and
renames it into place. Whoever reads meanwhile sees the old lock or the new one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from safeload.errors import LockfileError
from safeload.findings import escape
from safeload.lockfile.data import LOCK_VERSION, LockedFile, Lockfile, Model, Signer
from safeload.lockfile.reading import loads, read
from safeload.policy import SignerRule
from safeload.toml_table import toml_string

__all__ = ["dumps", "own_names", "update"]

_HEAD: Final = """\
# Written by safeload: 'safeload lock' renews it, 'safeload verify' compares. Keep it under version control.
# What each key means: docs/lockfile.md of safeload.
"""
_WIDTH: Final = 100
_SIGNER_KEYS: Final = (
    "kind", "trust-root", "issuer", "identity", "fingerprint",
    "certificate", "certificate-sha256", "public-key", "public-key-sha256", "subject", "eku",
)  # fmt: skip


def dumps(lock: Lockfile) -> str:
    """Return a lock as text, in canonical order: the same lock always gives the same bytes.

    Raises:
        LockfileError: the lock is of a version whose keys are not all known here, or is not valid and would not be
            read back as it is.
    """
    if lock.version != LOCK_VERSION:
        raise LockfileError(
            f"the lock is of version {escape(lock.version, 40)}, and writing it as {LOCK_VERSION} would lose what is new in it",
            hint="use a safeload that knows that version",
        )
    text = "\n\n".join(_blocks(lock)) + "\n"
    try:
        same = loads(text) == lock
    except LockfileError as error:
        raise LockfileError(f"the new lock would not be valid: {error.message}") from None
    if not same:
        raise LockfileError("the new lock would not be read back as it is")
    return text


def _blocks(lock: Lockfile) -> Iterator[str]:
    # ends-with stands before lock-version: whatever part of the file is left, it has both or no version.
    head = ['ends-with = "end"', f"lock-version = {toml_string(lock.version)}", f"created-by = {toml_string(lock.created_by)}"]
    yield _HEAD + "\n".join(head)
    for root in lock.trust_roots:
        yield _block(f"[trust-root.{_key(root.name)}]", [("kind", root.kind), ("path", root.path), ("sha256", root.sha256)])
    for signer in lock.signers:
        yield _block(f"[signer.{_key(signer.name)}]", _signer_pairs(signer))
    for model in lock.models:
        yield from _model_blocks(model)
    yield "[end]"


def _model_blocks(model: Model) -> Iterator[str]:
    pairs: list[tuple[str, str | None]] = [("name", model.name)]
    lines = _block("[[model]]", pairs).split("\n")
    if model.complete:
        lines.append("complete = true")
    if model.require is not None:
        lines.append(f"require = {_require(model.require)}")
    yield "\n".join(lines)
    if model.source is not None:
        keys = ("kind", "repo", "url", "requested", "revision")
        yield _block("[model.source]", [(key, getattr(model.source, key)) for key in keys])
    for file in model.files:
        yield _file_block(file)
    for ref in model.signatures:
        keyed = [("signer", ref.signer), ("kind", ref.kind), ("bundle", ref.bundle), ("bundle-sha256", ref.bundle_sha256)]
        yield _block("[[model.signature]]", keyed)


def _file_block(file: LockedFile) -> str:
    lines = [_block("[[model.file]]", [("path", file.path)]), f"size = {file.size}", f"sha256 = {toml_string(file.sha256)}"]
    lines += _lines([("sha256-tree", file.sha256_tree), ("format", file.format)])
    if file.globals is not None:
        lines.append(f"globals = {_array(file.globals)}")
    lines.append(f"allow-globals = {_array(file.allow_globals)}")
    if file.converted is not None:
        made = _lines([("path", file.converted.path), ("sha256", file.converted.sha256), ("sha256-tree", file.converted.sha256_tree)])
        lines.append(f"converted = {{ {', '.join(made)} }}")
    return "\n".join(lines)


def _signer_pairs(signer: Signer) -> list[tuple[str, str | None]]:
    return [(key, getattr(signer, key.replace("-", "_"))) for key in _SIGNER_KEYS]


def _require(rule: SignerRule) -> str:
    parts = [f"{key} = {_array(names, width=1 << 30)}" for key, names in (("all", rule.all), ("any", rule.any)) if names]
    return f"{{ {', '.join(parts)} }}"


def _block(header: str, pairs: Sequence[tuple[str, str | None]]) -> str:
    return "\n".join([header, *_lines(pairs)])


def _lines(pairs: Sequence[tuple[str, str | None]]) -> list[str]:
    return [f"{key} = {toml_string(value)}" for key, value in pairs if value is not None]


def _array(items: Sequence[str], width: int = _WIDTH) -> str:
    """Write an array on one line where it fits, else one item a line, so that a diff shows the one that came."""
    written = [toml_string(item) for item in items]
    line = f"[{', '.join(written)}]"
    return line if len(line) <= width else "[\n" + "".join(f"    {item},\n" for item in written) + "]"


def _key(name: str) -> str:
    """Write a table name, quoted unless TOML reads it as it is."""
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else toml_string(name)


# ---- the disk


def own_names(lock_name: str) -> tuple[str, str]:
    """Return the name of the file that writers lock, and the prefix of their temporary files; both lie beside the lock."""
    return f".{lock_name}.guard", f".{lock_name}.tmp-"


def update(path: str | os.PathLike[str], change: Callable[[Lockfile], Lockfile], *, timeout: float = 60.0) -> Lockfile:
    """Change a lockfile, or create it: the one way in which safeload writes one.

    Args:
        path: The lockfile. Must not be a symbolic link.
        change: Gets what the file says now (an empty lock when there is none), returns what it shall say. Runs while
            the file lock is held, so it must be quick: digests are taken before.
        timeout: Seconds to wait for another writer.

    Returns:
        What the file says now. Nothing was written when that is what it said before.

    Raises:
        LockfileError: the old or the new lock is not valid, the path is a link, another writer did not finish, or the
            disk refused.
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
    """
    target = Path(path).absolute()
    where = escape(os.fspath(path), 1000)
    target.parent.stat()  # the file lock would make missing directories
    try:
        with _held(target, timeout, where):
            mode = _mode(target, where)
            old = Lockfile() if mode is None else read(target)
            new = change(old)
            try:
                text = dumps(new).encode("utf-8")
            except LockfileError as error:
                raise error.at(where) from None
            if mode is None or new != old:
                _replace(target, text, mode)
            return new
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except OSError as error:
        raise LockfileError(f"writing failed: {error.strerror or error}", where=where) from error


@contextlib.contextmanager
def _held(target: Path, timeout: float, where: str) -> Iterator[None]:
    """Hold the writers' lock beside `target`."""
    from filelock import FileLock, Timeout  # only writers pay for it

    guard = target.with_name(own_names(target.name)[0])
    lock = FileLock(guard, timeout=timeout)
    try:
        lock.acquire(poll_interval=0.02)
    except Timeout:
        raise LockfileError(
            f"another process has been writing for {timeout:g} seconds", where=where, hint=f"if none is, remove {guard.name}"
        ) from None
    try:
        yield
    finally:
        # Removed while it is held: one who waits for the old file notices that it has no name any more, and starts over.
        # That takes a filelock that looks (3.21.2) and that does not remove the next holder's file in turn (3.29.5).
        with contextlib.suppress(OSError):
            guard.unlink()
        lock.release()


def _mode(target: Path, where: str) -> int | None:
    """Return the permission bits of the file that is there, or None; refuse anything but a plain file."""
    try:
        info = target.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(info.st_mode):
        raise LockfileError("is a symbolic link, and is not written through", where=where, hint="name the file that it points to")
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(21, os.strerror(21), os.fspath(target))
    if not stat.S_ISREG(info.st_mode):
        raise LockfileError("is not a regular file", where=where)
    return stat.S_IMODE(info.st_mode)


def _replace(target: Path, data: bytes, mode: int | None) -> None:
    """Put `data` in the place of `target`, whole or not at all, with its mode."""
    spare = target.with_name(own_names(target.name)[1] + secrets.token_hex(8))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(spare, flags, 0o666)
    try:
        with os.fdopen(fd, "wb") as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        spare.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            spare.unlink()
        raise
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
