"""`openpgp-sha256sums`: a signed list of digests, as `sha256sum` writes it: clear-signed, or with its signature beside it.

Of a model that is to be complete, every locked file must be in the list; else only the file at hand.
"""

from __future__ import annotations

import re
from typing import Final

from safeload.errors import SignatureError
from safeload.findings import escape
from safeload.trust.openpgp import check, check_inline
from safeload.trust.scheme import Anchor, Artifact, Terms, Verified, below, mismatch

__all__ = ["CLEAR_SIGNED", "parse_sums", "verify"]

CLEAR_SIGNED: Final = b"-----BEGIN PGP SIGNED MESSAGE-----"
_MOST_BYTES: Final = 32 << 20
_SHOWN: Final = 5
_LINE: Final = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", re.ASCII)


def verify(artifact: Artifact, bundle: bytes, anchor: Anchor, terms: Terms) -> Verified:
    """Check a list and its signature, and that the artifact stands in it; see `Scheme.verify`."""
    if bundle.lstrip().startswith(CLEAR_SIGNED):
        listed, who = check_inline(bundle, anchor)
    elif artifact.companion is None:
        raise SignatureError("the list that is signed does not lie beside its signature", check="content")
    else:
        listed = artifact.companion
        who = check(bundle, anchor, listed)
    sums = parse_sums(listed)
    base = artifact.base_in(sums)
    if base is None:
        raise SignatureError(f"the file is not in the signed list: {escape(artifact.path)}", check="coverage")
    signed = sums[below(base, artifact.path) or artifact.path]
    if signed != artifact.sha256:
        raise mismatch("digest", "the signature is over other bytes", f"sha256:{artifact.sha256}", f"sha256:{signed}")
    if artifact.complete:
        _check_model(artifact, sums, base)
    return who


def _check_model(artifact: Artifact, sums: dict[str, str], base: str) -> None:
    """Everything that is locked is in the list as it is locked, the list and signatures left out."""
    own = {path for bundle in artifact.bundles for path in (bundle, bundle.rpartition(".")[0])}
    unsigned = []
    for path, sha256 in artifact.files.items():
        signed = sums.get(below(base, path) or "")
        if signed is None and path not in own:
            unsigned.append(path)
        elif signed is not None and signed != sha256:
            text = f"'{escape(path)}' is locked with other bytes than were signed"
            raise mismatch("digest", text, f"sha256:{sha256}", f"sha256:{signed}")
    if unsigned:
        more = f" and {len(unsigned) - _SHOWN} more" if len(unsigned) > _SHOWN else ""
        shown = ", ".join(map(escape, sorted(unsigned)[:_SHOWN])) + more
        raise SignatureError(f"locked, and not in the signed list: {shown}", check="coverage")


def parse_sums(data: bytes) -> dict[str, str]:
    """Return name → SHA-256 of a list whose signature was verified.

    Raises:
        SignatureError: a line is something else, a name stands there twice, or leaves the directory.
    """
    if len(data) > _MOST_BYTES:
        raise SignatureError(f"the signed list has {len(data)} bytes, and at most {_MOST_BYTES} are read", check="format")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SignatureError(f"the signed list is not UTF-8 at byte {error.start}", check="format") from None
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip("\r")
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise SignatureError(f"line {number} of the signed list is not 'digest  name': {escape(line, 80)}", check="format")
        name = match[2]
        if name.startswith("/") or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise SignatureError(f"line {number} of the signed list has a name that is not relative: {escape(name, 80)}", check="names")
        if name in found:
            raise SignatureError(f"line {number} of the signed list names a file again: {escape(name, 80)}", check="names")
        found[name] = match[1].lower()
    return found
