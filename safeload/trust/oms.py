"""`oms`: an OpenSSF Model Signature, one signed list of all files of a model (v1.0, and the forms before it).

Stricter than the reference on purpose. The list must be sorted, without repetition, `..`, absolute or empty names, and not
empty. Every locked file must be in it with its locked digest; for a complete model, it may hold nothing else. What the signer
left out by `ignore_paths` is refused unless policy lists it. The model's name in the list is only reported: the lockfile
binds a name to bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.model_list import ALONE, Piece, SignedList, hasher_of, signed_list
from safeload.trust.scheme import Anchor, Artifact, Hasher, Terms, Verified, below, mismatch
from safeload.trust.sealed import signed_statement

__all__ = ["ALWAYS_IGNORED", "verify"]

ALWAYS_IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")
"""What the format leaves out of every model, at its top."""

_PLAIN_IGNORED: Final = (".gitattributes", ".gitignore")
_SIGNATURE_NAMES: Final = (".sig", ".sigstore", ".sigstore.json")
_EMPTY: Final = hashlib.sha256().hexdigest()
_SHOWN: Final = 5


def verify(artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Check a model signature, for one file at hand and against all that is locked; see `Scheme.verify`."""
    statement, who = signed_statement(bundle, anchor)
    signed = signed_list(statement)
    base = artifact.bases[0] if ALONE in signed.files else artifact.base_in(signed.files)
    names = {} if base is None else _names(artifact, signed, base)
    if base is None or artifact.path not in names:
        raise SignatureError(f"the file is not in the signed list: {escape(artifact.path)}", check="coverage")
    _check_file(artifact, signed, names[artifact.path])
    _check_ignored(artifact, signed, terms)
    may_lack = tuple(f"{base}/{name}" if base else name for name in (*_PLAIN_IGNORED, *terms.ignore_paths))
    remarks = _check_model(artifact, signed, names, may_lack)
    named = (f"signed as '{escape(signed.name)}'",) if signed.name else ()
    return Verified(identity=who.identity, issuer=who.issuer, facts=who.facts, remarks=(*who.remarks, *named, *remarks), until=who.until)


def _names(artifact: Artifact, signed: SignedList, base: str) -> dict[str, str]:
    """Return the locked files that are in the list → what they are called there.

    A signature over one file calls it "."; then the file at hand is meant, and its digest must say so.
    """
    if ALONE in signed.files:
        return {artifact.path: ALONE}
    found = {path: below(base, path) for path in (artifact.path, *artifact.files)}
    return {path: name for path, name in found.items() if name is not None and name in signed.files}


# ---- the list and what is there


def _check_file(artifact: Artifact, signed: SignedList, name: str) -> None:
    """The file at hand is what was signed."""
    whole = signed.whole_sha256(name)
    if whole is not None:
        if whole != artifact.sha256:
            raise mismatch("digest", "the signature is over other bytes", f"sha256:{artifact.sha256}", f"sha256:{whole}")
        return
    pieces = signed.files[name]
    if artifact.hash is None:
        raise SignatureError("the signature needs another digest, and the file's bytes are not at hand", check="digest")
    if pieces[-1].end not in (-1, artifact.size):
        raise mismatch("digest", "the signature is over another length", f"{artifact.size} bytes", f"{pieces[-1].end} bytes")
    make, ends = hasher_of(signed.algorithm), [piece.end for piece in pieces]
    taken = artifact.hash(f"oms-{signed.algorithm}-{_mark(pieces)}", lambda: _Pieces(make, ends)).split("/")
    for piece, found in zip(pieces, taken, strict=True):
        if piece.digest != found:
            part = "" if piece.end == -1 else f" from byte {piece.start} to {piece.end}"
            both = (f"{signed.algorithm}:{found}", f"{signed.algorithm}:{piece.digest}")
            raise mismatch("digest", f"the signature is over other bytes{part}", *both)


def _mark(pieces: Iterable[Piece]) -> str:
    """A name for a way to cut a file: two lists that cut it differently must not share what was hashed for one."""
    return hashlib.sha256(",".join(str(piece.end) for piece in pieces).encode()).hexdigest()[:16]


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


def _check_ignored(artifact: Artifact, signed: SignedList, terms: Terms) -> None:
    """What the signer left out must be what the format leaves out, a signature, or what policy lists."""
    own = {below(base, bundle) for base in artifact.bases for bundle in artifact.bundles}
    named = {bundle.rpartition("/")[2] for bundle in artifact.bundles}
    allowed = {*ALWAYS_IGNORED, *own, *named, *(path.rstrip("/") for path in terms.ignore_paths)}
    other = [path for path in signed.ignored if path.rstrip("/") not in allowed and not path.endswith(_SIGNATURE_NAMES)]
    if other:
        raise SignatureError(
            f"the signer left files out (ignore_paths) that policy does not list: {_listed(other)}", check="ignore-paths",
            hint="if that is meant, add them to ignore-paths in the policy", expected=", ".join(terms.ignore_paths), found=_listed(other),
        )  # fmt: skip


def _check_model(artifact: Artifact, signed: SignedList, names: dict[str, str], may_lack: tuple[str, ...]) -> tuple[str, ...]:
    """Everything that is locked is signed as it is locked; a complete model holds nothing that is not both."""
    unsigned, empty = [], []
    for path, sha256 in artifact.files.items():
        name = names.get(path)
        if name is None:
            if signed.sharded and sha256 == _EMPTY:
                empty.append(path)  # the format has no shard of it
            elif path not in artifact.bundles and not any(_within(path, allowed) for allowed in may_lack):
                unsigned.append(path)
            continue
        whole = signed.whole_sha256(name)
        if whole is not None and whole != sha256:
            raise mismatch("digest", f"'{escape(path)}' is locked with other bytes than were signed", f"sha256:{sha256}", f"sha256:{whole}")
    if unsigned:
        raise SignatureError(f"locked, and not in the signed list: {_listed(unsigned)}", check="coverage")
    unlocked = signed.files.keys() - names.values()
    if unlocked and artifact.complete:
        raise SignatureError(f"signed, and not locked, in a model that is to be complete: {_listed(unlocked)}", check="coverage")
    remarks = (f"signed, and not locked: {_listed(unlocked)}",) if unlocked else ()
    return (*remarks, *((f"without a byte, so not in a list of shards: {_listed(empty)}",) if empty else ()))


def _within(name: str, listed: str) -> bool:
    """Whether policy's entry, or one of the two files of git's that no tool loads, covers it; nothing is covered by lying hidden."""
    return name == listed or name.startswith(f"{listed.rstrip('/')}/")


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(escape(name) for name in found[:_SHOWN]) + more
