"""What people allow, and what follows from it.

`Policy` is frozen data, `load_policy` reads what people wrote, `decide` turns a report into a decision, and
`denied_reason` knows the names that nobody may grant.
"""

from typing import TYPE_CHECKING

from safeload.policy.data import CHOICES, Policy, Rule, SignerRule, Suppression, glob_match
from safeload.policy.decision import INERT_RULES, decide, expired_suppressions, signer_reasons, snippet, unpinned_finding
from safeload.policy.file import load_policy, parse_policy, read_policy
from safeload.policy.signing import IdentityRule, LockSigner, ProvenanceRule

if TYPE_CHECKING:
    from safeload.denied import DENIED, denied_reason

__all__ = [
    "CHOICES",
    "DENIED",
    "INERT_RULES",
    "IdentityRule",
    "LockSigner",
    "Policy",
    "ProvenanceRule",
    "Rule",
    "SignerRule",
    "Suppression",
    "decide",
    "denied_reason",
    "expired_suppressions",
    "glob_match",
    "load_policy",
    "parse_policy",
    "read_policy",
    "signer_reasons",
    "snippet",
    "unpinned_finding",
]


def __getattr__(name: str) -> object:
    if name in ("DENIED", "denied_reason"):  # a long table, and most scans have no grants to hold against it
        from safeload import denied

        return getattr(denied, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
