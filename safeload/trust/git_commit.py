"""`git-commit`: a signed commit, followed to a file: commit → tree → LFS pointer → SHA-256.

The stored bundle holds the raw objects on that way, so that no repository and no git is needed:

    {"mediaType": "application/vnd.safeload.git-commit+json;version=1", "commit": base64, "objects": [base64, …]}

where an object is its type, a space, its length, a NUL and its bytes, as git hashes it. Ids are recomputed here. A SHA-1
repository's ids are as strong as SHA-1: who can make collisions *and* had the signer commit one half of them can put
another tree behind the signature. The lockfile's SHA-256 does not depend on that.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust import by_ssh
from safeload.trust.json_text import base64_bytes, parse_object, text
from safeload.trust.scheme import Anchor, AnchorKind, Artifact, Terms, Verified, below, mismatch

__all__ = ["MEDIA_TYPE", "commit_signature", "commit_signer", "lfs_pointer", "object_id", "tree_entries", "verify"]

MEDIA_TYPE: Final = "application/vnd.safeload.git-commit+json;version=1"
_MOST_OBJECTS: Final = 10_000
_POINTER: Final = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,18})\n")
_OPENPGP: Final = b"-----BEGIN PGP SIGNATURE-----"
_FILE_MODES: Final = (b"100644", b"100755", b"100664")


@dataclass(frozen=True, slots=True)
class _Objects:
    """Raw objects by id; the ids were computed here."""

    held: dict[str, tuple[str, bytes]]

    def need(self, oid: str, kind: str) -> bytes:
        if oid not in self.held:
            raise SignatureError(f"the stored commit lacks a {kind} on the way to the file: {oid}", check="coverage")
        found, data = self.held[oid]
        if found != kind:
            raise SignatureError(f"the object {oid} is a {escape(found, 20)}, not a {kind}", check="content")
        return data


def object_id(kind: str, data: bytes, *, sha256: bool = False) -> str:
    """Return git's id of an object."""
    hashed = b"%s %d\0%s" % (kind.encode(), len(data), data)
    return (hashlib.sha256(hashed) if sha256 else hashlib.sha1(hashed, usedforsecurity=False)).hexdigest()


def verify(artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Check a commit's signature, and that the file of the commit is the artifact; see `Scheme.verify`."""
    table = parse_object(bundle, "the stored commit")
    if text(table, "mediaType", "the stored commit") != MEDIA_TYPE:
        raise SignatureError("the stored commit has another mediaType", check="format")
    commit = base64_bytes(table.get("commit"), "the stored commit")
    signature, payload = commit_signature(commit)
    tree = _tree_of(payload)
    wide = len(tree) == 64
    revision = object_id("commit", commit, sha256=wide)
    if artifact.revision is not None and artifact.revision != revision:
        raise mismatch("revision", "the signature is of another commit", artifact.revision, revision)
    who = _who(signature, payload, anchor)
    objects = _objects(table.get("objects"), wide=wide)
    signed = _file_in(tree, artifact, objects, width=32 if wide else 20)
    if signed != artifact.sha256:
        raise mismatch("digest", "the signed commit has other bytes", f"sha256:{artifact.sha256}", f"sha256:{signed}")
    return Verified(identity=who.identity, remarks=(f"commit {revision}", *who.remarks), until=who.until)


def commit_signature(commit: bytes) -> tuple[bytes, bytes]:
    """Return a commit's signature, and the bytes that it signs.

    Raises:
        SignatureError: the commit is not signed, or neither with OpenPGP nor with an SSH key.
    """
    head, blank, message = commit.partition(b"\n\n")
    if not blank:
        raise SignatureError("the stored commit has no end of its header", check="format")
    kept, found, current = [], [], None
    for line in head.split(b"\n"):
        if not line.startswith(b" "):
            current = line.partition(b" ")[0]
        if current in (b"gpgsig", b"gpgsig-sha256"):
            found.append(line)
        else:
            kept.append(line)
    if sum(not line.startswith(b" ") for line in found) != 1:
        raise SignatureError("the commit is not signed" if not found else "the commit has several signatures", check="signature")
    signature = b"\n".join([found[0].partition(b" ")[2], *(line[1:] for line in found[1:])]) + b"\n"
    if not signature.startswith((_OPENPGP, by_ssh.BEGIN)):
        raise SignatureError("the commit is signed, but neither with OpenPGP nor with an SSH key", check="kind")
    return signature, b"\n".join(kept) + b"\n\n" + message


def commit_signer(bundle: bytes) -> tuple[AnchorKind, str]:
    """Return which kind of signer a stored commit says it has, and a name for it where there is one; nothing is verified.

    Raises:
        SignatureError: it is no stored commit, or not signed.
    """
    table = parse_object(bundle, "the stored commit")
    signature, _ = commit_signature(base64_bytes(table.get("commit"), "the stored commit"))
    if signature.startswith(_OPENPGP):
        return "openpgp", ""
    return "key", f"the SSH key {by_ssh.ssh_fingerprint(signature)}"


def _who(signature: bytes, payload: bytes, anchor: Anchor) -> Verified:
    if signature.startswith(by_ssh.BEGIN):
        return by_ssh.check_ssh(signature, anchor, payload, namespace="git")
    from safeload.trust.openpgp import check

    return check(signature, anchor, payload)


def _tree_of(payload: bytes) -> str:
    first = payload.split(b"\n", 1)[0]
    found = re.fullmatch(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})", first)
    if found is None:
        raise SignatureError("the stored commit names no tree first", check="format")
    return found[1].decode()


def _objects(value: object, *, wide: bool) -> _Objects:
    if not isinstance(value, list) or len(value) > _MOST_OBJECTS:
        raise SignatureError("the stored commit's objects are not an array, or too many", check="format")
    held = {}
    for entry in value:
        raw = base64_bytes(entry, "an object of the stored commit")
        head, nul, data = raw.partition(b"\0")
        found = re.fullmatch(rb"(tree|blob) (0|[1-9][0-9]{0,11})", head)
        if not nul or found is None or int(found[2]) != len(data):
            raise SignatureError("an object of the stored commit has a wrong header", check="format")
        kind = found[1].decode()
        held[object_id(kind, data, sha256=wide)] = (kind, data)
    return _Objects(held)


def tree_entries(data: bytes, width: int) -> dict[bytes, tuple[bytes, str]]:
    """Return name → (mode, id) of a tree object; `width` is an id's length in bytes."""
    found: dict[bytes, tuple[bytes, str]] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        end = data.find(b"\0", space)
        if space < 0 or end < 0 or end + 1 + width > len(data):
            raise SignatureError("a tree of the stored commit is torn", check="format")
        name = data[space + 1 : end]
        if name in found or not name or b"/" in name:
            raise SignatureError("a tree of the stored commit has a wrong or repeated name", check="format")
        found[name] = (data[at:space], data[end + 1 : end + 1 + width].hex())
        at = end + 1 + width
    return found


def _file_in(tree: str, artifact: Artifact, objects: _Objects, *, width: int) -> str:
    """Return the SHA-256 that the tree has for the artifact's path, below the first base where it has one."""
    for base in artifact.bases:
        name = below(base, artifact.path)
        oid = None if name is None else _walk(tree, name, objects, width)
        if oid is not None:
            blob = objects.need(oid, "blob")
            pointer = lfs_pointer(blob)
            if pointer is None:
                return hashlib.sha256(blob).hexdigest()
            if pointer[1] != artifact.size:
                raise mismatch("digest", "the signed commit has a file of another length", f"{artifact.size} bytes", f"{pointer[1]} bytes")
            return pointer[0]
    raise SignatureError(f"the signed commit has no such file: {escape(artifact.path)}", check="coverage")


def _walk(tree: str, name: str, objects: _Objects, width: int) -> str | None:
    parts = name.encode("utf-8", "surrogateescape").split(b"/")
    for index, part in enumerate(parts):
        entry = tree_entries(objects.need(tree, "tree"), width).get(part)
        last = index == len(parts) - 1
        if entry is None or (entry[0] not in _FILE_MODES if last else entry[0] != b"40000"):
            return None
        tree = entry[1]
    return tree


def lfs_pointer(blob: bytes) -> tuple[str, int] | None:
    """Return digest and size that a Git LFS pointer names, or None when the bytes are none."""
    found = _POINTER.fullmatch(blob)
    return None if found is None else (found[1].decode(), int(found[2]))
