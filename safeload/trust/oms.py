"""`oms`: an OpenSSF Model Signature, one signed list of all files of a model (v1.0, and v0.2 as it was used before).

Stricter than the reference on purpose. The list must be sorted, without repetition, `..`, absolute or empty names, and not
empty. Every locked file must be in it with its locked digest; for a complete model, it may hold nothing else. What the signer
left out by `ignore_paths` is refused unless policy lists it. The model's name in the list is only reported: the lockfile
binds a name to bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.json_text import Object, member, objects, text
from safeload.trust.scheme import Anchor, Artifact, Hasher, Terms, Verified, below, mismatch
from safeload.trust.sealed import signed_statement
from safeload.trust.statement import Statement

__all__ = ["ALWAYS_IGNORED", "PREDICATE_TYPE", "PREDICATE_V02", "verify"]

PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
PREDICATE_V02: Final = "https://model_signing/Digests/v0.1"
ALWAYS_IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")
"""What the format leaves out of every model, at its top."""

_PLAIN_IGNORED: Final = frozenset({".gitattributes", ".gitignore"})
_SIGNATURE_NAMES: Final = (".sig", ".sigstore", ".sigstore.json")
_MOST_FILES: Final = 200_000
_SMALLEST_SHARD: Final = 1 << 16
_SHOWN: Final = 5
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){16,64}", re.ASCII)
_SHARD: Final = re.compile(r"(.*):(0|[1-9][0-9]{0,18}):([1-9][0-9]{0,18})", re.DOTALL | re.ASCII)
_HASHERS: Final[dict[str, Callable[[], Hasher]]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    """The signed list.

    Attributes:
        files: Path → what was signed of it: (start, end, hex digest); one piece from 0 to -1 stands for the whole file.
        algorithm: Of the digests.
        ignored: What the signer left out.
        name: What the signer called the model, or "".
    """

    files: dict[str, list[tuple[int, int, str]]]
    algorithm: str
    ignored: tuple[str, ...]
    name: str


def verify(artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Check a model signature, for one file at hand and against all that is locked; see `Scheme.verify`."""
    statement, who = signed_statement(bundle, anchor)
    manifest = _manifest(statement)
    base = artifact.base_in(manifest.files)
    if base is None:
        raise SignatureError(f"the file is not in the signed list: {escape(artifact.path)}", check="coverage")
    _check_file(artifact, manifest, below(base, artifact.path) or artifact.path)
    _check_ignored(artifact, manifest, base, terms)
    remarks = _check_model(artifact, manifest, base, terms)
    named = (f"signed as '{escape(manifest.name)}'",) if manifest.name else ()
    return Verified(identity=who.identity, issuer=who.issuer, facts=who.facts, remarks=(*who.remarks, *named, *remarks), until=who.until)


# ---- the list


def _manifest(statement: Statement) -> _Manifest:
    if statement.predicate_type == PREDICATE_V02:
        pieces = [(name, 0, -1, digest) for name, digest in statement.subjects]
        return _Manifest(files=_files(pieces, sharded=False), algorithm="sha256", ignored=(), name="")
    if statement.predicate_type != PREDICATE_TYPE:
        raise mismatch("content", "the statement is no model signature", PREDICATE_TYPE, statement.predicate_type)
    what = "the model signature"
    how = member(statement.predicate, "serialization", what)
    method, algorithm = text(how, "method", what), text(how, "hash_type", what)
    if method not in ("files", "shards"):
        raise SignatureError(f"{what} is made in a way that is not known: {escape(method, 40)}", check="content")
    if algorithm not in _HASHERS:
        raise SignatureError(f"{what} holds {escape(algorithm, 40)} digests: {' or '.join(_HASHERS)} can be compared", check="algorithm")
    shard = _shard_size(how) if method == "shards" else 0
    resources = objects(statement.predicate, "resources", what)
    if len(resources) > _MOST_FILES:
        raise SignatureError(f"{what} lists {len(resources)} files, and at most {_MOST_FILES} are read", check="format")
    pieces = [_piece(entry, algorithm, shard) for entry in resources]
    if len(statement.subjects) != 1:
        raise SignatureError(f"{what} has {len(statement.subjects)} subjects, not 1", check="content")
    name, root = statement.subjects[0]
    together = hashlib.sha256(b"".join(bytes.fromhex(piece[3]) for piece in pieces)).hexdigest()
    if together != root:
        raise mismatch("content", f"{what} contradicts itself: its digest is not that of its list", f"sha256:{root}", f"sha256:{together}")
    return _Manifest(files=_files(pieces, sharded=bool(shard)), algorithm=algorithm, ignored=_ignored(how), name=name)


def _shard_size(how: Object) -> int:
    size = how.get("shard_size")
    size = int(size) if isinstance(size, float) and size.is_integer() else size
    if isinstance(size, bool) or not isinstance(size, int) or not _SMALLEST_SHARD <= size < 1 << 62:
        raise SignatureError(f"the model signature's shard_size is not a number from {_SMALLEST_SHARD} on", check="format")
    return size


def _piece(entry: Object, algorithm: str, shard: int) -> tuple[str, int, int, str]:
    what = "a file in the signed list"
    name, named, digest = text(entry, "name", what), text(entry, "algorithm", what), text(entry, "digest", what)
    if named not in (algorithm, f"{algorithm}-sharded-{shard}") or not _HEX.fullmatch(digest):
        raise SignatureError(f"{what} has no {algorithm} digest in hex: {escape(name)}", check="format")
    if not shard:
        return name, 0, -1, digest
    found = _SHARD.fullmatch(name)
    if found is None:
        raise SignatureError(f"{what} is no shard (path:start:end): {escape(name)}", check="format")
    return found[1], int(found[2]), int(found[3]), digest


def _files(pieces: list[tuple[str, int, int, str]], *, sharded: bool) -> dict[str, list[tuple[int, int, str]]]:
    """Check names, order and repetition of the list, and put it together by file."""
    if not pieces:
        raise SignatureError("the signed list is empty: it says nothing about any file", check="coverage")
    found: dict[str, list[tuple[int, int, str]]] = {}
    for name, start, end, digest in pieces:
        if problem := _name_problem(name):
            raise SignatureError(f"the signed list has a name that {problem}: {escape(name)}", check="names")
        held = found.setdefault(name, [])
        if held and (not sharded or start != held[-1][1]):
            raise SignatureError(f"the signed list has a file twice, or in pieces with holes: {escape(name)}", check="names")
        if (not held and start) or (sharded and end <= start):
            raise SignatureError(f"the signed list has a file in pieces with holes: {escape(name)}", check="names")
        held.append((start, end, digest))
    order = [(name, start, end) for name, start, end, _ in pieces]
    # By text, or by parts of the path: two ways to sort that differ only around characters below "/".
    by_parts = sorted(order, key=lambda piece: (PurePosixPath(piece[0]), *piece[1:]))
    if order != sorted(order) and order != by_parts:
        raise SignatureError("the signed list is not sorted by name", check="names")
    if len({name.casefold() for name in found}) != len(found):
        raise SignatureError("the signed list has two names that differ only in case", check="names")
    return found


def _name_problem(name: str) -> str | None:
    if not name or name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        return "is not relative, with '/'"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "has an empty part, '.' or '..'"
    return None if name.isprintable() else "holds control characters"


def _ignored(how: Object) -> tuple[str, ...]:
    value = how.get("ignore_paths", [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SignatureError("the model signature's ignore_paths is not an array of strings", check="format")
    return tuple(value)


# ---- the list and what is there


def _check_file(artifact: Artifact, manifest: _Manifest, name: str) -> None:
    """The file at hand is what was signed."""
    pieces = manifest.files[name]
    if manifest.algorithm == "sha256" and pieces[0][1] == -1:
        if pieces[0][2] != artifact.sha256:
            raise mismatch("digest", "the signature is over other bytes", f"sha256:{artifact.sha256}", f"sha256:{pieces[0][2]}")
        return
    if artifact.hash is None:
        raise SignatureError("the signature needs another digest, and the file's bytes are not at hand", check="digest")
    if pieces[-1][1] not in (-1, artifact.size):
        raise mismatch("digest", "the signature is over another length", f"{artifact.size} bytes", f"{pieces[-1][1]} bytes")
    ends = [end for _, end, _ in pieces]
    taken = artifact.hash(f"oms-{manifest.algorithm}-{len(ends)}", lambda: _Pieces(_HASHERS[manifest.algorithm], ends)).split("/")
    for (start, end, signed), found in zip(pieces, taken, strict=True):
        if signed != found:
            part = "" if end == -1 else f" from byte {start} to {end}"
            both = (f"{manifest.algorithm}:{found}", f"{manifest.algorithm}:{signed}")
            raise mismatch("digest", f"the signature is over other bytes{part}", *both)


class _Pieces:
    """Hashes a file in pieces, in one pass; the digests come joined with "/"."""

    def __init__(self, make: Callable[[], Hasher], ends: list[int]) -> None:
        self._make = make
        self._ends = [end for end in ends if end != -1]
        self._at = 0
        self._done: list[str] = []
        self._now = make()

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        view = memoryview(data).cast("B")
        while view:
            left = self._ends[0] - self._at if self._ends else len(view)
            part = view[:left] if left > 0 else view
            self._now.update(part)
            self._at += len(part)
            view = view[len(part) :]
            if self._ends and self._at == self._ends[0] and len(self._ends) > 1:
                self._done.append(self._now.hexdigest())
                self._now = self._make()
                self._ends.pop(0)

    def hexdigest(self) -> str:
        return "/".join([*self._done, self._now.hexdigest()])


def _check_ignored(artifact: Artifact, manifest: _Manifest, base: str, terms: Terms) -> None:
    """What the signer left out must be what the format leaves out, a signature, or what policy lists."""
    own = {below(base, bundle) for bundle in artifact.bundles}
    named = {bundle.rpartition("/")[2] for bundle in artifact.bundles}
    allowed = {*ALWAYS_IGNORED, *own, *named, *terms.ignore_paths}
    other = [path for path in manifest.ignored if path.rstrip("/") not in allowed and not path.endswith(_SIGNATURE_NAMES)]
    if other:
        raise SignatureError(
            f"the signer left files out (ignore_paths) that policy does not list: {_listed(other)}", check="ignore-paths",
            hint="if that is meant, add them to ignore-paths in the policy", expected=", ".join(terms.ignore_paths), found=_listed(other),
        )  # fmt: skip


def _check_model(artifact: Artifact, manifest: _Manifest, base: str, terms: Terms) -> tuple[str, ...]:
    """Everything that is locked is signed as it is locked; a complete model holds nothing that is not both."""
    unsigned, inside = [], set()
    for path, sha256 in artifact.files.items():
        name = below(base, path)
        if name is None:
            unsigned.append(path)
            continue
        inside.add(name)
        if name not in manifest.files:
            if path not in artifact.bundles and not _may_be_unsigned(name, terms):
                unsigned.append(name)
        elif manifest.algorithm == "sha256" and manifest.files[name][0][1] == -1 and manifest.files[name][0][2] != sha256:
            signed = f"sha256:{manifest.files[name][0][2]}"
            raise mismatch("digest", f"'{escape(name)}' is locked with other bytes than were signed", f"sha256:{sha256}", signed)
    if unsigned:
        raise SignatureError(f"locked, and not in the signed list: {_listed(unsigned)}", check="coverage")
    unlocked = [name for name in manifest.files if name not in inside]
    if unlocked and artifact.complete:
        raise SignatureError(f"signed, and not locked, in a model that is to be complete: {_listed(unlocked)}", check="coverage")
    return (f"signed, and not locked: {_listed(unlocked)}",) if unlocked else ()


def _may_be_unsigned(name: str, terms: Terms) -> bool:
    """Two files of git's at the top that no tool loads, and what policy lists; nothing below a dot-directory by itself."""
    return name in _PLAIN_IGNORED or any(name == path or name.startswith(f"{path.rstrip('/')}/") for path in terms.ignore_paths)


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(escape(name) for name in found[:_SHOWN]) + more
