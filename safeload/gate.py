"""What stands between a file and its objects: the pin, the digest, the decision, the signatures.

A `Gate` is made for every load. Everything that can refuse one goes through it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from safeload.context import Context, Target
from safeload.errors import (
    EmptyFileError,
    MalformedError,
    NotAModelError,
    PinError,
    SafeloadError,
    SignatureError,
    TruncatedError,
    UnpinnedWarning,
    warn,
)
from safeload.findings import Outcome, Report, escape
from safeload.formats import Contents
from safeload.lean_dataclass import dataclass, replace
from safeload.policy import Policy, decide, denied_reason, unpinned_finding
from safeload.source import Source

if TYPE_CHECKING:
    from safeload.build.ranks import Ranks
    from safeload.lockfile import Pin

__all__ = ["Gate", "Original", "announced", "leaf_bytes", "pinned_first", "refuse_unreadable", "sha256_and_tree", "torch_safe_globals"]

_NOT_HERE = frozenset({"SL501", "SL502", "SL503"})
_ENDS: Final = {"SL502": TruncatedError, "SL503": EmptyFileError}


def sha256_and_tree(source: Source) -> tuple[str, str]:
    """Both digests of the whole file, in one pass, from the bytes that were used."""
    from safeload.trust.both_digests import file_digests

    return file_digests(source)


def tree_of(source: Source) -> str:
    """The tree digest of the whole file, from the bytes that were used, on several cores."""
    from safeload.trust.digest import tree_digest

    return tree_digest(source)


def _digests(pin: Pin) -> tuple[str, str | None]:
    return pin.file.sha256, pin.file.sha256_tree


def leaf_bytes() -> int:
    """Bytes of a leaf of the tree digest."""
    from safeload.trust.digest import LEAF_BYTES

    return LEAF_BYTES


@dataclass(frozen=True, slots=True)
class Original:
    """The pinned file in whose place its converted twin is loaded.

    Attributes:
        pin: Its pin.
        source: The open file, whose bytes were compared with the pin; None when it is not there any more.
    """

    pin: Pin
    source: Source | None

    @property
    def hint(self) -> str:
        """What to do about a twin that is not what it should be."""
        path = escape(self.pin.file.path)
        return f"'safeload lock --convert {path}' makes it again, 'safeload lock --no-convert {path}' forgets it"


@dataclass(slots=True)
class Gate:
    """Pin, grants and decision of one load. Everything that can refuse it goes through here.

    Attributes:
        context: The policy and the lock in force.
        target: What was asked for.
        source: What is loaded.
        report: What is in it.
        inert: Whether unknown globals become inert data.
        original: When `source` is a converted twin: what it was made from, which is what people sign.
        built: Whether a load has something to make of the format.
        pin: The pin that covers `source`, once it is known.
        matched: Whether the bytes were compared with it.
        stamped: Whether a stamp says that they were, before.
    """

    context: Context
    target: Target
    source: Source
    report: Report
    inert: bool
    original: Original | None = None
    built: bool = True
    pin: Pin | None = None
    matched: bool = False
    stamped: bool = False

    @property
    def needs_digest(self) -> bool:
        """Whether the bytes must be hashed: a pin to compare with, or a lock to look the digest up in."""
        return self.target.pin is not None or self.context.lock is not None

    @property
    def by_tree(self) -> bool:
        """Whether the pin is known already and holds a tree digest: then the serial one is not taken."""
        pin = self.target.pin
        return pin is not None and pin.file.sha256_tree is not None

    def match(self) -> None:
        """Hash what was read and compare it with the pin, or find the pin by the digest."""
        if self.matched or not self.needs_digest:
            self.matched = True
            return
        if self.stamped and self._still_stamped():
            return
        if self.by_tree:
            # The tree covers every byte, from the first header to the last gap, and its leaves were hashed by several cores.
            sha256, tree = None, tree_of(self.source)
            if self.target.pin is not None and tree != self.target.pin.file.sha256_tree:
                sha256 = self.source.sha256  # people know a file by this one, so the message should show it
        else:
            sha256, tree = sha256_and_tree(self.source)
        self.report = replace(self.report, sha256=sha256, sha256_tree=tree)
        self.pin = self.target.pin or (self.context.by_digest(sha256) if sha256 is not None else None)
        if self.pin is not None:
            from safeload.lockfile import require_match

            require_match(
                self.pin, size=self.source.size, sha256=sha256, tree=tree, format=self.report.format, globals=self.report.globals,
                where=self.source.name, hint="" if self.original is None else self.original.hint,
            )  # fmt: skip
        self.matched = True
        if self.pin is not None:  # by its tree the file is the one that was locked under both digests
            self.report = replace(self.report, sha256=self.pin.file.sha256)
        if self.pin is not None and self.pin is self.target.pin and self.context.policy_for(self.pin).verify == "cached":
            from safeload.trust.cache import Stamps

            if (stamps := Stamps.here()) is not None:
                stamps.keep(self.source, _digests(self.pin), self.source.opened_ns)

    def recall(self) -> None:
        """See whether policy lets this file go without hashing, because it was verified before and has not changed."""
        pin = self.target.pin
        if pin is None or self.context.policy_for(pin).verify != "cached":
            return
        from safeload.trust.cache import Stamps

        stamps = Stamps.here()
        self.stamped = stamps is not None and stamps.holds(self.source, _digests(pin))

    def meet(self, ranks: Ranks) -> None:
        """Agree with the other processes of a group on what is loaded, and on who hashes what.

        Raises:
            PinError: they load something else.
            SafeloadError: one of them failed.
        """
        pin = self.target.pin
        agreed = ranks.meet(self.source.size, pin.file.sha256_tree if pin is not None else None, stamped=self.stamped)
        self.stamped, self.source.together = agreed.stamped, agreed.shared

    def _still_stamped(self) -> bool:
        """All that the stamp does not stand for is compared; then the file must not have changed while it was read."""
        from safeload.lockfile import require_match
        from safeload.trust.cache import unchanged

        pin = self.target.pin
        if pin is None or not unchanged(self.source):
            return False
        require_match(
            pin, size=self.source.size, sha256=pin.file.sha256, format=self.report.format, globals=self.report.globals,
            where=self.source.name,
        )  # fmt: skip
        self.pin, self.matched = pin, True
        self.report = replace(self.report, sha256=pin.file.sha256, sha256_tree=pin.file.sha256_tree)
        return True

    def grants(self) -> frozenset[str]:
        """Globals that may be built from the installed packages: by policy, by the pin of these bytes, by torch's own list."""
        held = self.context.policy_for(self.pin)
        names = {*held.allow_globals, *(self.pin.file.allow_globals if self.pin else ()), *torch_safe_globals()}
        return frozenset(name for name in names if denied_reason(name) is None)

    def decide(self) -> None:
        """Raise unless policy allows the file."""
        held = self.context.policy_for(self.pin)
        report = self.report
        if self.pin is None:
            finding = unpinned_finding(held, lock_in_force=self.context.lock is not None)
            if finding is not None:
                report = replace(report, findings=(*report.findings, finding))
        decision = decide(report, held, pin_grants=self.grants(), pinned=self.pin is not None, inert=self.inert)
        if decision.outcome is Outcome.ALLOWED:
            self._signed(held)
            if self.pin is None and self.target.path is not None and (held.unpinned or "warn") == "warn":
                _warn_unpinned(self.source.name)
            return
        from safeload.refusal import refusal

        raise refusal(self.source, report, decision, built=self.built)

    def _signed(self, held: Policy) -> None:
        """Refuse a complete model with a file too many, and signatures that are demanded and do not verify."""
        pin, source, lock_path = self.pin, self.source, self.context.lock_path
        if self.original is not None:
            pin = self.original.pin
        if pin is not None and pin.model.complete and pin.matched_by != "digest" and lock_path is not None:
            from safeload.lockfile import require_complete

            require_complete(pin.model, self.context.lock, lock_path, where=self.source.name)
        if held.signature == "off" or (held.signature is None and not held.rules and (pin is None or pin.model.require is None)):
            return
        from safeload.signatures import demanded, require_signers

        if not demanded(held, pin.model if pin is not None else None):
            return
        if self.original is not None:
            if self.original.source is None:
                where, hint = escape(str(self.original.pin.path), 1000), "signatures are checked over its bytes: put it back"
                raise SignatureError("the file that was signed is not there", where=where, hint=hint, check="missing")
            source = self.original.source
        require_signers(held, self.context.lock, lock_path, pin, source, matched=self.matched)


def _warn_unpinned(name: str) -> None:
    warn(f"{name}: no pin covers the file; run 'safeload lock' to pin it, or set unpinned = \"allow\"", UnpinnedWarning)


def torch_safe_globals() -> frozenset[str]:
    """Names that the program itself gave to `torch.serialization.add_safe_globals`; none when torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return frozenset()
    from safeload.build.granted import safe_global_names

    return safe_global_names()


def refuse_unreadable(source: Source, contents: Contents | None, report: Report) -> None:
    """Raise for a file that no reader could read to its end, unless a finding refuses it anyway.

    Raises:
        MalformedError: or the kind under it that says what the file is.
    """
    if source.failure is not None:
        raise source.failure
    # A reader that names an error of its own is heard first: torch's callers catch that one.
    heard = contents is not None and contents.raises not in (MalformedError, TruncatedError)
    if contents is not None and (report.error is None or (_has_verdict(report) and not heard)):
        return
    name = source.name
    found = next((finding for finding in report.findings if finding.rule in _NOT_HERE), None)
    message = report.error or "no reader claims the file"
    kind: type[MalformedError] = MalformedError
    if contents is not None:
        kind = contents.raises
    elif found is not None:
        kind = _ENDS.get(found.rule, NotAModelError)
    where = name + (found.where if found is not None else "")
    raise kind(message, where=where, hint=f"'safeload scan {name}' says what was seen").under(found.rule if found else "SL501")


@contextmanager
def announced(gate: Gate) -> Iterator[None]:
    """Tell audit hooks how a load ends: "safeload.load" with the Source, the Report, and the SafeloadError or None.

    A hook may take digests of the source; they are of the bytes that were used.
    """
    try:
        yield
    except SafeloadError as error:
        sys.audit("safeload.load", gate.source, gate.report, error)
        raise
    sys.audit("safeload.load", gate.source, gate.report, None)


@contextmanager
def pinned_first(gate: Gate) -> Iterator[None]:
    """When anything fails on a pinned file, say first whether these are the pinned bytes at all."""
    try:
        yield
    except PinError:
        raise
    except SafeloadError as error:
        if gate.target.pin is None or gate.matched:
            raise
        try:
            gate.match()
        except PinError as mismatch:
            raise mismatch from error
        raise


def _has_verdict(report: Report) -> bool:
    """Whether there is a finding that refuses, besides that reading ended early."""
    return any(found.level != "note" and found.rule not in ("SL129", *_NOT_HERE) for found in report.findings)
