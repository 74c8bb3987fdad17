"""Trust roots that safeload carries, found by name and digest.

A lockfile pins the digest. A new safeload may carry a newer root besides the old ones, so that an update never turns
signatures that verified yesterday into failures, and never changes what a lockfile trusts.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from safeload.errors import SignatureError
from safeload.findings import escape

__all__ = ["PUBLIC_GOOD", "builtin_root", "builtin_roots"]

PUBLIC_GOOD: Final = "sigstore-public-good"
_FOLDER: Final = Path(__file__).parent / "roots"


@lru_cache(maxsize=4)
def builtin_roots(name: str) -> dict[str, bytes]:
    """Return SHA-256 → bytes of every version that is carried, the current one first."""
    paths = sorted(_FOLDER.glob(f"{name}*.json")) if name.replace("-", "").isalnum() else []
    data = [path.read_bytes() for path in paths if path.name.removeprefix(name)[0] in (".", "@")]
    return {hashlib.sha256(raw).hexdigest(): raw for raw in data}


def builtin_root(name: str, sha256: str) -> bytes:
    """Return the version with that digest.

    Raises:
        SignatureError: no such root is carried, or not in that version.
    """
    held = builtin_roots(name)
    if not held:
        raise SignatureError(f"safeload carries no trust root '{escape(name, 80)}'", check="trust-root")
    if sha256 not in held:
        carried = ", ".join(f"sha256:{digest}" for digest in held)
        raise SignatureError(
            f"the pinned trust root builtin:{name} is not carried: expected sha256:{sha256}, found {carried}", check="trust-root",
            hint="'safeload trust update' pins a current one; review the change", expected=f"sha256:{sha256}", found=carried,
        )  # fmt: skip
    return held[sha256]
