"""The list of a model's files that a model signature signs, in every form that was ever in use.

* `https://model_signing/signature/v1.0` (model-signing 0.3 and later): `predicate.resources`, whole files or shards.
* `https://model_signing/Digests/v0.1` and `…/ShardDigests/v0.1` (0.1 and 0.2): the files, or shards, are the subjects.
* `https://model_signing/DigestOfDigests/v0.1` and `…/DigestOfShardDigests/v0.1` (the same time): `predicate.files`, `.shards`.

The format is https://github.com/ossf/model-signing-spec; what is refused here beyond it is listed in docs/signing.md.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final, TypeVar, cast

from safeload.errors import MissingExtraError, SignatureError
from safeload.findings import escape
from safeload.trust.json_text import Object, member, objects, text
from safeload.trust.scheme import Hasher, mismatch
from safeload.trust.statement import Statement

__all__ = ["ALONE", "OLD_TYPES", "PREDICATE_TYPE", "Piece", "SignedList", "hasher_of", "signed_list"]

PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
ALONE: Final = "."
"""What the reference calls the file in a signature over one file, whatever the file is called."""

_SUBJECTS: Final = {"https://model_signing/Digests/v0.1": False, "https://model_signing/ShardDigests/v0.1": True}
_PREDICATES: Final = {"https://model_signing/DigestOfDigests/v0.1": "files", "https://model_signing/DigestOfShardDigests/v0.1": "shards"}
OLD_TYPES: Final = frozenset({*_SUBJECTS, *_PREDICATES})

_MOST_PIECES: Final = 200_000
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){16,64}", re.ASCII)
_SHARD: Final = re.compile(r"(.*):(0|[1-9][0-9]{0,18}):([1-9][0-9]{0,18})", re.DOTALL | re.ASCII)
_OLD_ALGORITHM: Final = re.compile(r"(?:file-|file-fd-)?sha256(?:-[0-9]{1,19})?", re.ASCII)
_HASHERS: Final[dict[str, Callable[[], Hasher]]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}
_ALGORITHMS: Final = (*_HASHERS, "blake3")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Piece:
    """What was signed of one file.

    Attributes:
        start, end: Bytes of the file; `end` is -1 for the whole of it.
        digest: Hex.
    """

    start: int
    end: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedList:
    """The signed list.

    Attributes:
        files: Path → what was signed of it, in order, without holes. One piece that ends at -1 stands for the whole file.
        algorithm: Of the digests: sha256, blake2b or blake3.
        sharded: Files are cut into shards, and files without bytes are not in the list.
        ignored: What the signer left out.
        name: What the signer called the model, or "".
    """

    files: dict[str, tuple[Piece, ...]]
    algorithm: str
    sharded: bool = False
    ignored: tuple[str, ...] = ()
    name: str = ""

    def whole_sha256(self, name: str) -> str | None:
        """Return the SHA-256 that was signed for a whole file, or None when something else was."""
        pieces = self.files[name]
        return pieces[0].digest if self.algorithm == "sha256" and pieces[0].end == -1 else None


def hasher_of(algorithm: str) -> Callable[[], Hasher]:
    """Return what makes a hasher.

    Raises:
        MissingExtraError: it needs a package that is not installed.
    """
    if algorithm in _HASHERS:
        return _HASHERS[algorithm]
    try:
        return cast("Callable[[], Hasher]", importlib.import_module(algorithm).blake3)
    except ImportError as error:
        text = f"the model signature holds {algorithm} digests, and that needs the package {algorithm}"
        raise MissingExtraError(text, hint="install it: pip install 'safeload[blake3]'") from error


@lru_cache(maxsize=4)
def signed_list(statement: Statement) -> SignedList:
    """Read the list out of a statement whose signature was verified; once for each statement, whose files come one by one.

    Raises:
        SignatureError: it is no list of a model's files, or one that could be understood in two ways.
    """
    kind = statement.predicate_type
    if kind in _SUBJECTS:
        return _of_subjects(statement, sharded=_SUBJECTS[kind])
    if kind in _PREDICATES:
        return _of_old_predicate(statement, _PREDICATES[kind])
    if kind != PREDICATE_TYPE:
        raise mismatch("content", "the statement is no model signature", PREDICATE_TYPE, kind)
    what = "the model signature"
    how = member(statement.predicate, "serialization", what)
    method, algorithm = text(how, "method", what), text(how, "hash_type", what)
    if method not in ("files", "shards"):
        raise SignatureError(f"{what} is made in a way that is not known: {escape(method, 40)}", check="content")
    if algorithm not in _ALGORITHMS:
        raise SignatureError(f"{what} holds {escape(algorithm, 40)} digests: {', '.join(_ALGORITHMS)} can be compared", check="algorithm")
    size = _shard_size(how) if method == "shards" else 0
    named = (algorithm, f"{algorithm}-sharded-{size}") if size else (algorithm,)
    entries = [(*_entry(entry, named), size) for entry in _bounded(objects(statement.predicate, "resources", what))]
    name = _subject(statement, [digest for _, digest, _ in entries])
    pieces = [_piece(entry, digest, sharded=bool(size)) for entry, digest, _ in entries]
    _check_sizes(pieces, size)
    return SignedList(files=_files(pieces), algorithm=algorithm, sharded=bool(size), ignored=_ignored(how), name=name)


# ---- forms before 1.0


def _of_subjects(statement: Statement, *, sharded: bool) -> SignedList:
    for said in statement.hashed_with:
        _check_old_algorithm(said)
    pieces = [_piece(name, digest, sharded=sharded) for name, digest in _bounded(statement.hashed())]
    return SignedList(files=_files(pieces), algorithm="sha256", sharded=sharded)


def _of_old_predicate(statement: Statement, key: str) -> SignedList:
    found = _bounded(objects(statement.predicate, key, "the model signature"))
    entries = [_entry(entry, ()) for entry in found]
    for entry in found:
        _check_old_algorithm(text(entry, "algorithm", "a file in the signed list"))
    name = _subject(statement, [digest for _, digest in entries])
    pieces = [_piece(entry, digest, sharded=key == "shards") for entry, digest in entries]
    return SignedList(files=_files(pieces), algorithm="sha256", sharded=key == "shards", name="" if name == ALONE else name)


def _check_old_algorithm(said: str) -> None:
    """The old forms call every digest "sha256", and say elsewhere what it really is."""
    if not _OLD_ALGORITHM.fullmatch(said):
        raise SignatureError(f"the model signature holds {escape(said, 40)} digests under the name of sha256", check="algorithm")


# ---- one entry


def _bounded(entries: Iterable[_T]) -> list[_T]:
    held = list(entries)
    if len(held) > _MOST_PIECES:
        raise SignatureError(f"the signed list has {len(held)} entries, and at most {_MOST_PIECES} are read", check="format")
    return held


def _subject(statement: Statement, digests: list[str]) -> str:
    """Return the model's name; the one subject's digest must be that of the list."""
    if len(statement.subjects) != 1:
        raise SignatureError(f"the model signature has {len(statement.subjects)} subjects, not 1", check="content")
    name, root = statement.hashed()[0]
    together = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()
    if together != root:
        text = "the model signature contradicts itself: its digest is not that of its list"
        raise mismatch("content", text, f"sha256:{root}", f"sha256:{together}")
    return name


def _shard_size(how: Object) -> int:
    size = how.get("shard_size")
    # The reference writes a protobuf number, which is a float.
    size = int(size) if isinstance(size, float) and size.is_integer() else size
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size < 1 << 62:
        raise SignatureError("the model signature's shard_size is not a positive number of bytes", check="format")
    return size


def _entry(entry: Object, named: tuple[str, ...]) -> tuple[str, str]:
    what = "a file in the signed list"
    name, digest, algorithm = text(entry, "name", what), text(entry, "digest", what), text(entry, "algorithm", what)
    if (named and algorithm not in named) or not _HEX.fullmatch(digest):
        raise SignatureError(f"{what} has no {named[0] if named else 'sha256'} digest in hex: {escape(name)}", check="format")
    return name, digest


def _piece(name: str, digest: str, *, sharded: bool) -> tuple[str, Piece]:
    if not sharded:
        return name, Piece(0, -1, digest)
    # A name may hold colons: the last two numbers are the range.
    found = _SHARD.fullmatch(name)
    if found is None:
        raise SignatureError(f"a file in the signed list is no shard (path:start:end): {escape(name)}", check="format")
    return found[1], Piece(int(found[2]), int(found[3]), digest)


def _check_sizes(pieces: list[tuple[str, Piece]], size: int) -> None:
    """Shards are cut where the size says; only the last of a file is shorter."""
    if size and any(piece.start % size or piece.end - piece.start > size for _, piece in pieces):
        raise SignatureError(f"the signed list has shards that are not of {size} bytes", check="format")


# ---- the list as a whole


def _files(pieces: list[tuple[str, Piece]]) -> dict[str, tuple[Piece, ...]]:
    """Check names, order and repetition of the list, and put it together by file."""
    if not pieces:
        raise SignatureError("the signed list is empty: it says nothing about any file", check="coverage")
    found: dict[str, list[Piece]] = {}
    for name, piece in pieces:
        found.setdefault(name, []).append(piece)
    alone = len(found) == 1 and ALONE in found
    for name, held in found.items():
        if not alone and (problem := _name_problem(name)):
            raise SignatureError(f"the signed list has a name that {problem}: {escape(name)}", check="names")
        _check_whole(name, held)
    if not _sorted(pieces):
        raise SignatureError("the signed list is not sorted by name", check="names")
    if len({name.casefold() for name in found}) != len(found):
        raise SignatureError("the signed list has two names that differ only in case", check="names")
    return {name: tuple(sorted(held, key=lambda piece: piece.start)) for name, held in found.items()}


def _check_whole(name: str, pieces: list[Piece]) -> None:
    """A file's pieces follow one another from its first byte on."""
    at = 0
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if piece.start != at or (piece.end != -1 and piece.end <= piece.start):
            raise SignatureError(f"the signed list has a file twice, or in pieces with holes: {escape(name)}", check="names")
        at = piece.end


def _sorted(pieces: list[tuple[str, Piece]]) -> bool:
    """Whether the list is sorted: by text, by name and place, or by the parts of paths; writers differ in that."""
    order = [(name, piece.start) for name, piece in pieces]
    by_parts = [(PurePosixPath(name).parts, start) for name, start in order]
    as_text = [f"{name}:{piece.start}:{piece.end}" if piece.end != -1 else name for name, piece in pieces]
    return order == sorted(order) or by_parts == sorted(by_parts) or as_text == sorted(as_text)


def _name_problem(name: str) -> str | None:
    if not name or name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:/", name):
        return "is not relative, with '/'"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "has an empty part, '.' or '..'"
    return None if name.isprintable() else "holds control characters"


def _ignored(how: Object) -> tuple[str, ...]:
    value = how.get("ignore_paths")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SignatureError("the model signature's ignore_paths is not an array of strings", check="format")
    return tuple(value)
