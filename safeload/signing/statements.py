"""What is signed: a statement about one file, or about every file of a model (OMS v1.0)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safeload.directory import files_below
from safeload.errors import UsageError
from safeload.findings import escape
from safeload.source import Source
from safeload.trust.model_list import PREDICATE_TYPE
from safeload.trust.oms import ALWAYS_IGNORED
from safeload.trust.sigstore_blob import PREDICATE_TYPE as PLAIN
from safeload.trust.statement import STATEMENT_TYPE

__all__ = ["file_digest", "file_statement", "model_digests", "model_statement"]


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return a file's SHA-256, hex."""
    with Source.open(path) as source:
        return source.sha256


def file_statement(path: str | os.PathLike[str]) -> bytes:
    """Return a statement that only names a file's digest, for keys that cannot sign a digest."""
    subject = {"name": Path(path).name, "digest": {"sha256": file_digest(path)}}
    return _json({"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": PLAIN, "predicate": {}})


def model_digests(folder: str | os.PathLike[str], *, leave_out: tuple[Path, ...] = ()) -> dict[str, str]:
    """Return name → SHA-256 of every file below a directory, sorted by name.

    Args:
        folder: The model. What the model signature format leaves out of every model is not looked at.
        leave_out: The signature, and what it is made over.

    Raises:
        UsageError: there is no file, or something that is none (a link out of the directory, a pipe).
    """
    top = Path(folder)
    own = {_below(path, top) for path in leave_out}
    digests: dict[str, str] = {}
    for found in files_below(top):
        if found.relative in own or found.relative.split("/", 1)[0] in ALWAYS_IGNORED:
            continue
        if found.problem is not None or found.skipped is not None or Path(found.path).is_symlink():
            why = found.problem or found.skipped or "a link: a signed model holds files"
            raise UsageError(f"cannot be signed: {why}", where=escape(found.path, 1000))
        digests[found.relative] = file_digest(found.path)
    if not digests:
        raise UsageError("the directory holds no file to sign", where=escape(os.fspath(folder), 1000))
    # By code point, as the specification has it.
    return dict(sorted(digests.items()))


def model_statement(folder: str | os.PathLike[str], output: Path) -> bytes:
    """Return the statement that a model signature signs: every file below a directory, the signature itself left out.

    Raises:
        UsageError: as `model_digests`.
    """
    top = Path(folder)
    own = _below(output, top)
    ignored = [*ALWAYS_IGNORED, *([own] if own is not None else [])]
    digests = model_digests(top, leave_out=(output,))
    root = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values()))).hexdigest()
    predicate = {
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": sorted(ignored)},
        "resources": [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in digests.items()],
    }
    subject = {"name": top.resolve().name, "digest": {"sha256": root}}
    return _json({"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": PREDICATE_TYPE, "predicate": predicate})


def _below(path: Path, top: Path) -> str | None:
    try:
        return path.absolute().relative_to(top.absolute()).as_posix()
    except ValueError:
        return None


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
