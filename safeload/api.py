"""The pipeline, wired once: source → contents → report → decision → pin → objects."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safeload.context import Context, Target
from safeload.errors import (
    EmptyFileError,
    MalformedError,
    NotAModelError,
    PinError,
    SafeloadError,
    UnpinnedWarning,
    warn,
)
from safeload.findings import Outcome, Report
from safeload.formats import Contents
from safeload.policy import Policy, decide, denied_reason, unpinned_finding
from safeload.reporting import examine
from safeload.source import Limits, Reading, Source
from safeload.torch_arguments import Arguments

if TYPE_CHECKING:
    from safeload.lockfile import Pin

__all__ = ["Gate", "announced", "load", "load_with", "refuse_unreadable", "scan", "scan_source", "sha256_and_tree"]

_NOT_HERE = frozenset({"SL501", "SL502", "SL503"})


def sha256_and_tree(source: Source) -> tuple[str, str]:
    """Both digests of the whole file, in one pass, from the bytes that were used."""
    from safeload.trust.digest import file_digests

    return file_digests(source)


def tree_of(source: Source) -> str:
    """The tree digest of the whole file, from the bytes that were used, on several cores."""
    from safeload.trust.digest import tree_digest

    return tree_digest(source)


def _digests(pin: Pin) -> tuple[str, str | None]:
    return pin.file.sha256, pin.file.sha256_tree


def _leaf_bytes() -> int:
    from safeload.trust.digest import LEAF_BYTES

    return LEAF_BYTES


def scan(
    f: Any, *, policy: Any = None, lock: Any = None, digest: bool = False, limits: Limits | None = None, name: str | None = None
) -> Report:
    """Say what a file would do and whether policy allows it. Nothing in it is imported, called or built.

    Args:
        f: A path, a file object, bytes, a mapping, or a model's name in the lockfile.
        policy: A `Policy`, a mapping, a path, or None to look for one from the working directory upwards.
        lock: A lockfile's path; None to look for one; False for none. What a pin grants to these bytes counts.
        digest: Also hash the whole file.
        limits: Bounds on what reading may cost.
        name: What the report calls the file.

    Returns:
        The report, with its decision. Hostile or broken content is in the report, never an exception.

    Raises:
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
        PolicyError, LockfileError: what is in force is not valid.
    """
    context = Context.of(policy, lock)
    target = context.target(f)
    reading = Reading(limits=limits or Limits())
    with Source.open(target.file, name=name, limits=reading.limits) as source:
        return scan_source(source, context, pin=target.pin, reading=reading, digest=digest)


def scan_source(
    source: Source, context: Context, *, pin: Pin | None = None, reading: Reading | None = None, digest: bool = False
) -> Report:
    """Do what `scan` does, for a file that is open already.

    Args:
        source: The file.
        context: The policy and the lock in force.
        pin: The pin found by name or path; what it grants counts only for the bytes that it pins.
        reading: How.
        digest: Also hash the whole file.
    """
    import datetime as dt

    contents, report = examine(source, reading or Reading())
    if contents is not None and contents.manifest is not None and report.error is None:
        from safeload.conversion.opening import value_findings

        report = replace(report, findings=(*report.findings, *value_findings(contents, source)))
    grants: frozenset[str] = frozenset()
    if digest or (context.lock is not None and report.unmodelled):
        try:
            sha256, tree = sha256_and_tree(source)
        except SafeloadError as error:
            report = replace(report, error=report.error or str(error))
        else:
            report = replace(report, sha256=sha256, sha256_tree=tree)
            pin = context.by_digest(sha256)
            grants = frozenset(pin.file.allow_globals) if pin is not None else grants
    held = context.policy_for(pin)
    today = dt.datetime.now(tz=dt.UTC).date()
    return replace(report, decision=decide(report, held, pin_grants=grants, today=today))


@dataclass(slots=True)
class Gate:
    """Pin, grants and decision of one load. Everything that can refuse it goes through here."""

    context: Context
    target: Target
    source: Source
    report: Report
    inert: bool
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
                where=self.source.name,
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

        raise refusal(self.source, report, decision)

    def _signed(self, held: Policy) -> None:
        """Refuse a complete model with a file too many, and signatures that are demanded and do not verify."""
        pin, lock_path = self.pin, self.context.lock_path
        if pin is not None and pin.model.complete and pin.matched_by != "digest" and lock_path is not None:
            from safeload.lockfile import require_complete

            require_complete(pin.model, self.context.lock, lock_path, where=self.source.name)
        if held.signature == "off" or (held.signature is None and not held.rules and (pin is None or pin.model.require is None)):
            return
        from safeload.signatures import demanded, require_signers

        if demanded(held, pin.model if pin is not None else None):
            require_signers(held, self.context.lock, lock_path, pin, self.source)


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
    # A reader that names an error of its own is heard first: torch's callers catch that one.
    heard = contents is not None and contents.raises is not MalformedError
    if contents is not None and (report.error is None or (_has_verdict(report) and not heard)):
        return
    name = source.name
    found = next((finding for finding in report.findings if finding.rule in _NOT_HERE), None)
    message = report.error or "no reader claims the file"
    kind: type[MalformedError] = MalformedError
    if contents is not None:
        kind = contents.raises
    elif found is not None:
        kind = EmptyFileError if found.rule == "SL503" else NotAModelError
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
def _pinned_first(gate: Gate) -> Iterator[None]:
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


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: Any = None,
    mmap: Any = None,
    policy: Any = None,
    lock: Any = None,
    unknown: str | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Load a checkpoint: like `torch.load`, with the pin checked and nothing from the file ever run.

    Args:
        f: A path, an open binary file, or a model's name in the lockfile.
        map_location: As in torch: None, a device, a string, a dict of tags, or a callable.
        pickle_module: Has no meaning here, because no pickle module ever sees the file; anything but None is an error.
        weights_only: Accepted for compatibility. False does not run code: what policy allows is built, always.
        mmap: Map the file instead of copying it; None takes torch's configured default.
        policy: A `Policy`, a mapping, a path, or None to look for one from the working directory upwards.
        lock: A lockfile's path; None to look for one; False for none.
        unknown: "refuse" or "inert": what becomes of globals that are not modelled. Default: as policy says.
        **pickle_load_args: `encoding` for Python 2 files, as in torch.

    Returns:
        What `torch.load` would give for everything that it loads.

    Raises:
        RefusedError: policy does not allow the file; lists every refused global at once.
        PinError: the bytes are not the pinned bytes.
        MalformedError: the file is not what it claims to be.
        FileNotFoundError, IsADirectoryError, PermissionError: as `open` does.
    """
    arguments = Arguments.of(map_location, pickle_module, weights_only, mmap, unknown, pickle_load_args)
    return load_with(f, Context.of(policy, lock), arguments)


def load_with(
    f: Any, context: Context, arguments: Arguments, *, granted: bool = True, read: Callable[[Contents], None] | None = None
) -> Any:
    """Do what `load` does, with arguments that were checked and a context that is known.

    Args:
        f: As for `load`.
        context: The policy and the lock in force.
        arguments: Checked.
        granted: Whether classes that policy allows are made; without it they are inert data like all others.
        read: Told what the reader found, once the object is built.
    """
    target = context.target(f)
    with Source.open(target.file) as source, _no_collections():
        return _load(source, context, target, arguments, granted=granted, read=read)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Let the cycle collector rest while objects are only ever made.

    It would go through all of them again and again: a third of the time of a load of many small tensors.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _load(
    source: Source, context: Context, target: Target, arguments: Arguments, *, granted: bool, read: Callable[[Contents], None] | None
) -> Any:
    from safeload.build.torch_tensors import build_torch

    contents, report = examine(source, arguments.reading(), values=False)
    unknown = arguments.unknown or context.policy_for(target.pin).unknown_globals
    gate = Gate(context, target, source, report, inert=unknown == "inert")
    with announced(gate), _pinned_first(gate):
        refuse_unreadable(source, contents, report)
        if contents is None:
            raise MalformedError("no reader claims the file", where=source.name)
        # Without a lock nothing but the report decides, so a refusal comes before the tensors' bytes are read.
        if not gate.needs_digest:
            gate.match()
            gate.decide()

        gate.recall()

        def before_build() -> None:
            gate.match()
            gate.decide()

        try:
            value = build_torch(
                contents,
                source,
                map_location=arguments.map_location,
                mmap=arguments.mmap,
                unknown=unknown,
                grants=gate.grants if granted else (),
                before_build=before_build if gate.needs_digest else _nothing,
                leaf=_leaf_bytes() if gate.by_tree and not gate.stamped else None,
                check_crc=not (gate.by_tree or gate.stamped),
                described=_described(contents, source),
            )
        except SafeloadError as error:
            raise error.at(source.name) from error.__cause__
    if contents.end is not None:
        source.leave_at(contents.end)
    if read is not None:
        read(contents)
    return value


def _described(contents: Contents, source: Source) -> Any:
    """What a converted file says of the object that it was made from; None for any other."""
    if contents.format != "safetensors":
        return None
    from safeload.conversion import converted

    return converted(contents, source)


def _nothing() -> None:
    """The gate was passed before the bytes were read."""


def _has_verdict(report: Report) -> bool:
    """Whether there is a finding that refuses, besides that reading ended early."""
    return any(found.level != "note" and found.rule not in ("SL129", *_NOT_HERE) for found in report.findings)

