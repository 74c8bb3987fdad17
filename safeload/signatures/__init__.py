"""Signatures where they count: what the lockfile stores is read, checked against pinned material, and held against demands.

`check_signatures` verifies what is stored about one file, `require_signers` refuses a load, `read_lock` reads a lockfile
that policy wants signed, and `found_beside` looks for signatures to record. The schemes themselves are in `safeload.trust`.
"""

from safeload.signatures.checking import (
    ABOUT_ONE,
    SignatureCheck,
    check_ref,
    check_signatures,
    demanded,
    refs_about,
    require_signers,
    unmet,
)
from safeload.signatures.lock_signature import check_lock, read_lock
from safeload.signatures.material import Materials, anchor_of, artifact_of
from safeload.signatures.searching import Candidate, found_beside, named_signers, odd_beside

__all__ = [
    "ABOUT_ONE",
    "Candidate",
    "Materials",
    "SignatureCheck",
    "anchor_of",
    "artifact_of",
    "check_lock",
    "check_ref",
    "check_signatures",
    "demanded",
    "found_beside",
    "named_signers",
    "odd_beside",
    "read_lock",
    "refs_about",
    "require_signers",
    "unmet",
]
