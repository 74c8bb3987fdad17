"""`safeload trust`: whom the lockfile trusts, shown, added to and renewed. `update` is the one function that uses a network."""

from safeload.trusting.changing import add_signer, remove_signer, update_root
from safeload.trusting.commits import collect_commit
from safeload.trusting.showing import RootEntry, SignerLine, TrustResult, show

__all__ = ["RootEntry", "SignerLine", "TrustResult", "add_signer", "collect_commit", "remove_signer", "show", "update_root"]
