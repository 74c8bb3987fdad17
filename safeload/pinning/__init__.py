"""`safeload.lock` and `safeload.verify`: write down which bytes are known here, and compare with what was written down.

A file is opened once: what is examined is what is hashed, and both digests come from one pass. A file that would be
refused is not pinned: a pin says "these bytes are known here", and somebody who reads it must not have to ask whether
that was meant. To pin it all the same, grant its globals to its bytes (`allow_globals`), or say `force`.
"""

from safeload.pinning.locking import LockEntry, LockResult, lock
from safeload.pinning.looking import Progress
from safeload.pinning.signed import SignatureEntry
from safeload.pinning.signers import SignerEntry
from safeload.pinning.verifying import VerifyEntry, VerifyResult, verify

__all__ = ["LockEntry", "LockResult", "Progress", "SignatureEntry", "SignerEntry", "VerifyEntry", "VerifyResult", "lock", "verify"]
