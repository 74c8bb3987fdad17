"""Remember what was verified: in the process always, in the cache directory where policy says `verify = "cached"`.

The key is SHA-256 over everything that the answer depends on: the artifact and all that is locked with it, the stored
signature, the signer's block, every byte of its trust material, the policy's terms, and the installed files of what verified it.
An entry repeats its key, so a torn or copied file is no answer. It is not signed: a key for that would lie beside it. Whoever can
write a user's cache directory could add entries, and that is what `verify = "cached"` trusts (docs/decisions/0007); a directory
that others may write to is not used.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final

from safeload.trust.cache import cache_directory, read_entry, replace_file
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified

__all__ = ["forget", "key_of", "lookup", "remember"]

_MOST: Final = 4096
_FORMAT: Final = 2
_VERIFIERS: Final = ("sigstore", "cryptography", "pysequoia")
_LARGEST: Final = 1 << 20
_memory: OrderedDict[str, Verified] = OrderedDict()
_guard: Final = Lock()


def key_of(kind: str, artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> str:
    """Return the digest that stands for one question."""
    from safeload import __version__

    def sha(data: bytes | None) -> str | None:
        return None if data is None else hashlib.sha256(data).hexdigest()

    question = [
        _FORMAT, __version__, _installed(), kind, sha(bundle),
        [artifact.path, artifact.sha256, artifact.size, sorted(artifact.files.items()), artifact.complete, sorted(artifact.bundles),
         list(artifact.bases), artifact.revision, sha(artifact.companion)],
        [anchor.kind, anchor.name, sha(anchor.trusted_root), anchor.issuer, anchor.identity, sha(anchor.certificate), anchor.fingerprint,
         sha(anchor.public_key), anchor.subject, anchor.eku, anchor.any_identity],
        list(terms.ignore_paths),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(question, ensure_ascii=True).encode()).hexdigest()


def lookup(key: str, *, disk: bool) -> Verified | None:
    """Return the answer, when it is known and still holds."""
    with _guard:
        found = _memory.get(key)
    if found is None and disk:
        found = _from_disk(key)
    return found if found is not None and (found.until is None or time.time() < found.until) else None


def remember(key: str, verified: Verified, *, disk: bool) -> None:
    """Keep an answer. A cache that cannot be written is no error."""
    with _guard:
        _memory[key] = verified
        while len(_memory) > _MOST:
            _memory.popitem(last=False)
    if disk:
        _to_disk(key, verified)


def forget() -> None:
    """Forget what this process knows."""
    with _guard:
        _memory.clear()


@lru_cache(maxsize=1)
def _installed() -> list[list[object]]:
    """Marks of the packages that verify: a newer one may refuse what an older one took. None of them is imported for it."""
    found: list[list[object]] = []
    for name in _VERIFIERS:
        try:
            spec = find_spec(name)
            info = Path(spec.origin).stat() if spec is not None and spec.origin is not None else None
        except (ImportError, ValueError, OSError):
            info = None
        found.append([name] if info is None else [name, info.st_ino, info.st_size, info.st_mtime_ns])
    return found


def _path(key: str) -> Path | None:
    root = cache_directory()
    return None if root is None else root / "signatures" / key[:2] / key


def _from_disk(key: str) -> Verified | None:
    path = _path(key)
    if path is None:
        return None
    try:
        found: Any = json.loads(read_entry(path, _LARGEST)[0])
        if found["key"] != key:
            return None
        until = found["until"]
        if until is not None and not isinstance(until, (int, float)):
            return None
        return Verified(
            identity=str(found["identity"]), issuer=str(found["issuer"]),
            facts=tuple((str(name), str(value)) for name, value in found["facts"]), remarks=tuple(map(str, found["remarks"])), until=until,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _to_disk(key: str, verified: Verified) -> None:
    path = _path(key)
    entry = {
        "key": key, "identity": verified.identity, "issuer": verified.issuer, "facts": list(verified.facts),
        "remarks": list(verified.remarks), "until": verified.until,
    }  # fmt: skip
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, json.dumps(entry).encode())
    except OSError:
        pass
