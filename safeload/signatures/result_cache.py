"""Remember what was verified: in the process always, in the cache directory where policy says `verify = "cached"`.

The key is SHA-256 over everything that the answer depends on: the artifact and all that is locked with it, the stored
signature, the signer's block, every byte of its trust material, the policy's terms, and the versions of what verified it. An
entry repeats its key, so a torn or copied file is no answer. It is not signed: a key for that would lie beside it. Whoever
can write a user's cache directory could add entries, and that is what `verify = "cached"` trusts (docs/decisions/0007).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any, Final

from safeload.trust.scheme import Anchor, Artifact, Terms, Verified

__all__ = ["forget", "key_of", "lookup", "remember"]

_MOST: Final = 4096
_FORMAT: Final = 1
_LARGEST: Final = 1 << 20
_memory: OrderedDict[str, Verified] = OrderedDict()
_guard: Final = Lock()


def key_of(kind: str, artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> str:
    """Return the digest that stands for one question."""
    from safeload import __version__

    def sha(data: bytes | None) -> str | None:
        return None if data is None else hashlib.sha256(data).hexdigest()

    question = [
        _FORMAT, __version__, kind, sha(bundle),
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
        with contextlib.suppress(OSError):
            _to_disk(key, verified)


def forget() -> None:
    """Forget what this process knows."""
    with _guard:
        _memory.clear()


def _folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("safeload", appauthor=False) / "signatures"


def _from_disk(key: str) -> Verified | None:
    path = _folder() / key[:2] / key
    try:
        with path.open("rb") as file:
            found: Any = json.loads(file.read(_LARGEST))
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
    folder = _folder() / key[:2]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    entry = {
        "key": key, "identity": verified.identity, "issuer": verified.issuer, "facts": list(verified.facts),
        "remarks": list(verified.remarks), "until": verified.until,
    }  # fmt: skip
    spare = folder / f".{key}.{secrets.token_hex(6)}"
    fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(entry, file)
        spare.replace(folder / key)
    except BaseException:
        with contextlib.suppress(OSError):
            spare.unlink()
        raise
