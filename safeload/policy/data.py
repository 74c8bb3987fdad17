"""What people allow, as frozen data that cannot be made invalid."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final, Literal

from safeload.errors import PolicyError
from safeload.findings import Report, escape
from safeload.lean_dataclass import dataclass, replace
from safeload.policy.signing import IdentityRule, LockSigner, ProvenanceRule
from safeload.rules import RULES

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["CHOICES", "Policy", "Rule", "SignerRule", "Suppression", "glob_match"]

Unpinned = Literal["refuse", "warn", "allow"]
Signature = Literal["off", "warn", "require"]
Verify = Literal["always", "cached"]
VerifySignature = Literal["load", "lock"]
UnknownGlobals = Literal["refuse", "inert"]
TrustDowngrade = Literal["refuse", "warn", "allow"]
Convert = Literal["off", "cache"]

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "unpinned": ("refuse", "warn", "allow"),
    "signature": ("off", "warn", "require"),
    "verify": ("always", "cached"),
    "verify-signature": ("load", "lock"),
    "unknown-globals": ("refuse", "inert"),
    "trust-downgrade": ("refuse", "warn", "allow"),
    "convert": ("off", "cache"),
}
"""Key as written in TOML → the words it takes."""

_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRule:
    """Whose signatures are wanted, by signer names of the lockfile.

    Attributes:
        all: Every one of these.
        any: And at least one of these, when there are any.

    Raises:
        PolicyError: it names nobody, which would be met by no signature at all.
    """

    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.all and not self.any:
            raise PolicyError("signers: names nobody, and so would ask for nothing", hint="name a signer in all or any")

    def met_by(self, verified: frozenset[str]) -> bool:
        """Whether the signers whose signatures were verified are enough."""
        return verified.issuperset(self.all) and (not self.any or not verified.isdisjoint(self.any))

    def __str__(self) -> str:
        parts = [f"all of {', '.join(map(escape, self.all))}"] if self.all else []
        parts += [f"any of {', '.join(map(escape, self.any))}"] if self.any else []
        return " and ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One finding that somebody looked at and takes out of scan results until a day.

    It never makes a file loadable: `decide` applies it only when it is told the date, and loads do not tell it.

    Attributes:
        rule: "SL126".
        reason: Why, for the next person.
        expires: The last day on which it applies.
        path: A glob over the path; None for any path.
        sha256: The file's digest, 64 hex digits; None for any bytes.

    Raises:
        PolicyError: it is for every file, or names no known rule, no reason or no digest.
    """

    rule: str
    reason: str
    expires: dt.date
    path: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise PolicyError(f"suppress: there is no rule '{escape(self.rule, 40)}'", hint="'safeload explain' lists them")
        if not self.reason.strip():
            raise PolicyError(f"suppress {self.rule}: a reason is needed")
        if self.path is None and self.sha256 is None:
            raise PolicyError(f"suppress {self.rule}: a path or a sha256 is needed", hint="a rule cannot be suppressed everywhere")
        if self.sha256 is not None and (len(self.sha256) != 64 or not _HEX.issuperset(self.sha256)):
            raise PolicyError(f"suppress {self.rule}: sha256 is 64 lower-case hex digits, not '{escape(self.sha256, 80)}'")

    def covers(self, report: Report, base: str | None = None) -> bool:
        """Whether it is about this file.

        Args:
            report: A report without a digest is covered by no suppression that names one.
            base: The policy's directory; absolute paths below it are matched relative to it.
        """
        if self.sha256 is not None and self.sha256 != report.sha256:
            return False
        if self.path is None:
            return True
        path = posixpath.normpath(report.path.replace("\\", "/"))
        below = f"{base.replace(chr(92), '/').rstrip('/')}/" if base else ""
        return glob_match(self.path, path.removeprefix(below) if below else path)

    def __str__(self) -> str:
        what = " and ".join(escape(part, 100) for part in (self.path, self.sha256 and f"sha256:{self.sha256[:12]}") if part)
        return f"{self.rule} for {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for the models whose name matches; None where it says nothing.

    Attributes:
        models: A glob over model names of the lockfile; "*" stays within one "/", "**" does not.
        signers: Whose signatures these models need. Every matching rule's demand holds.
        provenance: What attestations about these models must say. Every matching rule's demand holds.
        ignore_paths: What a signer may leave out of a model signature, besides the policy's own.
        allow_globals: Granted for these models, besides the policy's own.
        unpinned, signature, verify, verify_signature, unknown_globals, trust_downgrade, convert: As in `Policy`; of several
            matching rules the last one that says something counts.
    """

    models: str
    signers: SignerRule | None = None
    provenance: ProvenanceRule | None = None
    ignore_paths: tuple[str, ...] = ()
    allow_globals: tuple[str, ...] = ()
    unpinned: Unpinned | None = None
    signature: Signature | None = None
    verify: Verify | None = None
    verify_signature: VerifySignature | None = None
    unknown_globals: UnknownGlobals | None = None
    trust_downgrade: TrustDowngrade | None = None
    convert: Convert | None = None

    def __post_init__(self) -> None:
        _check(self, "rule", optional=True)
        if not self.models:
            raise PolicyError("rule: models is empty, and so matches nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be loaded here. The defaults are what holds without a policy file.

    Attributes:
        unpinned: What becomes of a file without a pin; None: refuse when a lockfile is in force, warn when none is.
        signature: Whether signatures are wanted; None: those that the lockfile's `require` and the rules demand, no others.
        verify: "cached" may skip hashing a file that did not change since it was hashed.
        verify_signature: Check the stored bundle at each load, or only when locking.
        unknown_globals: What becomes of a global that is not modelled.
        allow_globals: Globals that may be built from the installed packages: exact names.
        trust_downgrade: What becomes of a signer that changed or disappeared between two locks.
        convert: "cache" loads pinned pickles from converted files that are kept in the cache directory.
        ignore_paths: What a signer may leave out of a model signature (`ignore_paths` of OMS).
        identities: Who the lockfile's signers must be, by name.
        lock_signer: Who must have signed the lockfile, or None.
        rules: Per-model rules, in order.
        suppress: Findings taken out of scan results.
        origin: The file it was read from, or None.

    Raises:
        PolicyError: a value is not one of its words, or a global may never be granted.
    """

    unpinned: Unpinned | None = None
    signature: Signature | None = None
    verify: Verify = "always"
    verify_signature: VerifySignature = "load"
    unknown_globals: UnknownGlobals = "refuse"
    allow_globals: tuple[str, ...] = ()
    trust_downgrade: TrustDowngrade = "refuse"
    convert: Convert = "off"
    ignore_paths: tuple[str, ...] = ()
    identities: tuple[IdentityRule, ...] = ()
    lock_signer: LockSigner | None = None
    rules: tuple[Rule, ...] = ()
    suppress: tuple[Suppression, ...] = ()
    origin: str | None = None

    def __post_init__(self) -> None:
        _check(self, "policy", optional=False)

    @property
    def signers(self) -> tuple[SignerRule, ...]:
        """Every demand for signers that its rules make. Meant for what `for_model` returns."""
        return tuple(rule.signers for rule in self.rules if rule.signers is not None)

    @property
    def provenance(self) -> tuple[ProvenanceRule, ...]:
        """Every demand for provenance that its rules make. Meant for what `for_model` returns."""
        return tuple(rule.provenance for rule in self.rules if rule.provenance is not None)

    @property
    def caches(self) -> bool:
        """Whether it has converted files kept for any model."""
        return self.convert == "cache" or any(rule.convert == "cache" for rule in self.rules)

    def for_model(self, name: str | None) -> Policy:
        """Return what holds for one model: matching rules applied, the others gone.

        Args:
            name: Its name in the lockfile; None for a file that no model covers, which no rule matches.
        """
        rules = tuple(rule for rule in self.rules if name is not None and glob_match(rule.models, name))
        held = replace(self, rules=rules)
        # Who demands signers wants them checked; only a rule that says otherwise itself may switch that off.
        if held.signers:
            held = replace(held, signature="require")
        for rule in rules:
            held = replace(
                held,
                unpinned=rule.unpinned or held.unpinned,
                signature=rule.signature or held.signature,
                verify=rule.verify or held.verify,
                verify_signature=rule.verify_signature or held.verify_signature,
                unknown_globals=rule.unknown_globals or held.unknown_globals,
                trust_downgrade=rule.trust_downgrade or held.trust_downgrade,
                convert=rule.convert or held.convert,
                allow_globals=tuple(dict.fromkeys((*held.allow_globals, *rule.allow_globals))),
                ignore_paths=tuple(dict.fromkeys((*held.ignore_paths, *rule.ignore_paths))),
            )
        return held


def _check(held: Policy | Rule, what: str, *, optional: bool) -> None:
    """Refuse values that the types already exclude, for callers who do not check types, and grants that nobody may make."""
    for key, words in CHOICES.items():
        value = getattr(held, key.replace("-", "_"))
        if value not in words and not (value is None and (optional or key in ("unpinned", "signature"))):
            raise PolicyError(f"{what}: {key} is '{escape(str(value), 40)}', not one of {', '.join(words)}")
    if not held.allow_globals:
        return
    from safeload.denied import denied_reason

    for name in held.allow_globals:
        if reason := denied_reason(name):
            raise PolicyError(f"{what}: allow-globals: '{escape(name, 100)}' can never be granted: {reason}")


def glob_match(pattern: str, text: str) -> bool:
    """Match a "/"-separated name: "*", "?" and "[…]" within one part, "**" for any number of parts. Case counts.

    Takes time in proportion to the number of parts of both, whatever the pattern.
    """
    from fnmatch import fnmatchcase

    parts = text.split("/")
    # reach[i]: the pattern so far can end before parts[i].
    reach = [True] + [False] * len(parts)
    for wanted in pattern.split("/"):
        if wanted == "**":
            first = reach.index(True) if True in reach else len(reach)
            reach = [index >= first for index in range(len(reach))]
        else:
            reach = [False, *(ok and fnmatchcase(part, wanted) for ok, part in zip(reach, parts, strict=False))]
    return reach[-1]
