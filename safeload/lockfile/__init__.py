"""The lockfile: which bytes are known here.

`find` and `read` give a `Lockfile`, `lookup` the `Pin` that covers a file, `compare` and `require_match` say whether it
holds, `complete_check` whether something lies beside it, and `update` is the one way to write. See docs/lockfile.md.
"""

from safeload.lockfile.checking import (
    LOCK_SIGNATURES,
    Pin,
    compare,
    complete_check,
    locate,
    lock_relative,
    lookup,
    require_complete,
    require_match,
)
from safeload.lockfile.data import (
    LOCK_VERSION,
    Converted,
    LockedFile,
    Lockfile,
    Model,
    ModelSource,
    SignatureRef,
    Signer,
    TrustRoot,
)
from safeload.lockfile.reading import LOCK_NAME, find, loads, parse, path_problem, read
from safeload.lockfile.writing import dumps, own_names, update

__all__ = [
    "LOCK_NAME",
    "LOCK_SIGNATURES",
    "LOCK_VERSION",
    "Converted",
    "LockedFile",
    "Lockfile",
    "Model",
    "ModelSource",
    "Pin",
    "SignatureRef",
    "Signer",
    "TrustRoot",
    "compare",
    "complete_check",
    "dumps",
    "find",
    "loads",
    "locate",
    "lock_relative",
    "lookup",
    "own_names",
    "parse",
    "path_problem",
    "read",
    "require_complete",
    "require_match",
    "update",
]
