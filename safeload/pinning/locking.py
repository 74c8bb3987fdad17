"""`lock`: add or renew pins. What would be refused is not pinned, unless somebody grants its globals or insists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from safeload.context import Context
from safeload.errors import PolicyError, UsageError
from safeload.findings import Finding, Level, Outcome, Report, escape
from safeload.lockfile import LOCK_NAME, LockedFile, Lockfile, Model, find, read, update
from safeload.path_arguments import path_text, system_said
from safeload.pinning.elsewhere import with_sources
from safeload.pinning.looking import Progress, Seen, look
from safeload.pinning.signers import SignerEntry, renew_signers
from safeload.pinning.twins import Twins, twins_of
from safeload.pinning.wishes import Names, Plan, Wish, plan_of
from safeload.policy import Policy, SignerRule, decide, denied_reason
from safeload.remote import Address
from safeload.signatures import read_lock, refs_about
from safeload.trust.digest import Digest

__all__ = ["LockEntry", "LockResult", "lock"]

Action = Literal["added", "renewed", "unchanged", "removed", "missing", "refused", "skipped", "error"]
_ENVIRONMENT: Final = "SAFELOAD_LOCK"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockEntry:
    """What became of one file.

    Attributes:
        path: As the lock calls it: relative to the lockfile, with "/".
        model: The model that it belongs to, or "".
        action: added, renewed, unchanged, removed; missing: pinned and no longer there, its pin is kept; refused: it would
            not load, so it was not pinned (an old pin is kept); skipped: no model, and not asked for by name; error: no verdict.
        before: Its pin until now, or None.
        after: Its pin from now on, or None.
        reasons: Why, one line each.
        findings: What was seen in it.
    """

    path: str
    model: str
    action: Action
    before: LockedFile | None = None
    after: LockedFile | None = None
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockResult:
    """What `lock` did, or with `check` would do.

    Attributes:
        lockfile: Where the lock lies, absolute.
        entries: By path.
        check: Whether nothing was to be written.
        signers: What became of signatures and signers.
    """

    lockfile: Path
    entries: tuple[LockEntry, ...]
    check: bool = False
    signers: tuple[SignerEntry, ...] = ()

    @property
    def differs(self) -> tuple[LockEntry, ...]:
        """Everything that is not as the lock had it."""
        return tuple(entry for entry in self.entries if entry.action not in ("unchanged", "skipped"))

    @property
    def outcome(self) -> Outcome:
        """Allowed when all is pinned (with `check`: was pinned), refused when something is not, error when no verdict was possible."""
        actions = {entry.action for entry in self.entries}
        if "error" in actions:
            return Outcome.ERROR
        signers = {entry.action for entry in self.signers}
        if "vanished" in signers or (self.check and signers - {"kept", "not verified"}):
            return Outcome.REFUSED
        if actions & {"refused", "missing"} or (self.check and self.differs):
            return Outcome.REFUSED
        return Outcome.ALLOWED


@system_said()
def lock(
    *paths: str | os.PathLike[str],
    lock: str | os.PathLike[str] | None = None,
    check: bool = False,
    policy: Any = None,
    name: str | None = None,
    complete: bool = False,
    force: bool = False,
    allow_globals: Sequence[str] = (),
    prune: bool = False,
    require: Sequence[str] = (),
    accept_signer_change: bool = False,
    convert: bool | None = None,
    progress: Progress | None = None,
) -> LockResult:
    """Pin files: add them to the lockfile in force, or renew their pins.

    Args:
        *paths: Files, directories and addresses of files; none: every pin there is. A directory becomes one model. A file at an
            address is pinned under its own name beside the lockfile, with its source.
        lock: The lockfile, which need not exist; None: the one in force, or `safeload.lock` in the working directory.
        check: Write nothing; the result says what would be done.
        policy: As for `safeload.load`.
        name: The model that new files go to; by default a file's path without its ending, or a directory's path.
        complete: The directory's model is complete: all its files are pinned, and no other may lie there.
        force: Pin what would be refused, and what no reader claims.
        allow_globals: Granted to the bytes of the files that name them, and to no others.
        prune: Drop pins of files that are no longer there.
        require: Names of signers who must all have signed these models from now on.
        accept_signer_change: A signer that changed or vanished is no reason to refuse.
        convert: True makes a converted twin of every pickle that is pinned, and pins it, too; False forgets twins; None leaves
            them as they are. A pin of other bytes than before has none.
        progress: Told about every chunk that was hashed.

    Returns:
        What became of every file. Nothing is written when nothing changed.

    Raises:
        LockfileError, PolicyError: what is in force is not valid, or the lockfile could not be written.
        UsageError: a path lies outside the lockfile's directory, or the arguments contradict each other.
        FileNotFoundError: a path that was named does not exist.
    """
    for granted in allow_globals:
        if reason := denied_reason(granted):
            raise PolicyError(f"'{escape(granted, 100)}' can never be granted: {reason}")
    where = _lock_to_write(lock, exists=not paths)
    held = Context.of(policy, False).policy
    old = Lockfile()
    if os.path.lexists(where):
        # Whoever signs the new lock vouches for what is taken over from the old one.
        old = read(where) if accept_signer_change else read_lock(where, held)
    plan = plan_of(paths, where, old, name=name, complete=complete)
    readable = [wish for wish in plan.wishes if wish.problem is None]
    shown = [wish.relative for wish in readable]
    seen = dict(zip(shown, look([wish.path for wish in readable], shown, progress), strict=True))
    request = _Request(
        plan=plan, seen=seen, policy=held, force=force, granted=frozenset(allow_globals), prune=prune, where=where,
        require=tuple(require), accept=accept_signer_change,
    )  # fmt: skip
    _, entries, signers = request.apply(old)
    if convert is not None:
        request = replace(request, twins=twins_of(entries, plan, where, held, convert=convert, check=check, progress=progress))
        _, entries, signers = request.apply(old)
    if check:
        return LockResult(lockfile=where, entries=entries, check=True, signers=signers)

    def change(now: Lockfile) -> Lockfile:
        nonlocal entries, signers
        new, entries, signers = request.apply(now)
        return new

    if os.path.lexists(where) or any(entry.after is not None for entry in entries):
        update(where, change)
    return LockResult(lockfile=where, entries=entries, signers=signers)


def _lock_to_write(argument: str | os.PathLike[str] | None, *, exists: bool) -> Path:
    """The lockfile that is to be changed: named, in force, or new in the working directory."""
    named = path_text(argument, "lock") if argument is not None else os.environ.get(_ENVIRONMENT)
    # A lockfile that is named need not exist: it is made, in that place.
    path = Path(named).absolute() if named else find(argument=argument) or Path.cwd() / LOCK_NAME
    if exists and not os.path.lexists(path):
        raise UsageError("no lockfile is in force, so there is nothing to renew", hint="name the files to pin: safeload lock PATH")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """Everything that is known once the files were read: applied to the lock as it is when it is written."""

    plan: Plan
    seen: dict[str, Seen]
    policy: Policy
    force: bool
    granted: frozenset[str]
    prune: bool
    where: Path
    require: tuple[str, ...]
    accept: bool
    twins: Twins = field(default_factory=Twins)

    def apply(self, now: Lockfile) -> tuple[Lockfile, tuple[LockEntry, ...], tuple[SignerEntry, ...]]:
        """Return the new lock, what became of every file, and of every signer."""
        names = Names(now)
        entries = []
        for wish in self.plan.wishes:
            known = now.file(wish.relative)
            model = known[0].name if known is not None else names.model_for(wish)
            entries.append(self._entry(wish, model, known[1] if known is not None else None))
        entries = _without_twins(entries, now)
        new = now
        for entry in entries:
            if entry.action in ("added", "renewed", "removed"):
                new = _with_file(new, entry)
        new = self.twins.beside(new, entries)
        for name in self.plan.complete:
            made = new.model(name)
            if made is not None and not made.complete:
                new = new.with_model(replace(made, complete=True))
        pinned = [(entry.path, entry.model) for entry in entries if entry.after is not None]
        new = with_sources(new, pinned, self._found_elsewhere())
        new, entries, signers = self._with_signers(now, new, entries)
        if new != now:
            new = replace(new, created_by=_created_by())
        return new, tuple(sorted(entries, key=lambda entry: entry.path)), signers

    def _found_elsewhere(self) -> dict[str, tuple[Address, Report]]:
        wishes = [wish for wish in self.plan.wishes if isinstance(wish.path, Address)]
        reports = [(wish, self.seen[wish.relative].report) for wish in wishes]
        return {wish.relative: (wish.path, report) for wish, report in reports if isinstance(wish.path, Address) and report is not None}

    def _with_signers(
        self, now: Lockfile, new: Lockfile, entries: list[LockEntry]
    ) -> tuple[Lockfile, list[LockEntry], tuple[SignerEntry, ...]]:
        """Record signatures; a model whose signer changed or vanished stays as it was, all of it."""
        touched = {entry.model for entry in entries if entry.after is not None}
        new, signers, refused = renew_signers(now, new, self.where, touched, self.policy, accept=self.accept)
        for name in sorted(touched - refused):
            model = new.model(name)
            if self.require and model is not None:
                self._check_required(new, model, signers)
                new = new.with_model(replace(model, require=SignerRule(all=self.require)))
        for name in refused:
            before = now.model(name)
            if before is not None:
                new = new.with_model(before)
        why = "its signer changed or vanished: see below; --accept-signer-change accepts that"
        kept = [
            replace(entry, action="refused", after=entry.before, reasons=(why,)) if entry.model in refused else entry for entry in entries
        ]
        return new, kept, signers

    def _check_required(self, new: Lockfile, model: Model, signers: tuple[SignerEntry, ...]) -> None:
        for file in model.weights:
            signed = {ref.signer for ref in refs_about(model, file.path)}
            missing = [name for name in self.require if name not in signed]
            if not missing:
                continue
            about = f", which must be over {escape(file.path)}" if len(model.weights) > 1 else ""
            raise UsageError(
                f"'{escape(model.name)}' has no verified signature of {', '.join(map(escape, missing))}{about}",
                hint="\n  ".join(
                    [
                        f"signers in the lockfile: {', '.join(escape(signer.name) for signer in new.signers) or 'none'}",
                        *(f"{escape(entry.bundle)}: {reason}" for entry in signers if not entry.signer for reason in entry.reasons[:3]),
                    ]
                ),
            )

    def _entry(self, wish: Wish, model: str, before: LockedFile | None) -> LockEntry:
        seen = self.seen.get(wish.relative)
        made = LockEntry(path=wish.relative, model=model, action="error", before=before, after=before)
        if seen is None or seen.problem is not None:
            return replace(made, reasons=((seen.problem if seen is not None else None) or wish.problem or "",))
        if seen.report is None:
            if self.prune and before is not None:
                return replace(made, action="removed", after=None, reasons=("the file is not there",))
            return replace(made, action="missing", reasons=("the file is not there",))
        report = seen.report
        if report.sha256 is None or report.size is None:
            return replace(made, reasons=(report.error or "it could not be hashed",))
        return self._judged(wish, made, report, report.sha256, report.size)

    def _judged(self, wish: Wish, made: LockEntry, report: Report, sha256: str, size: int) -> LockEntry:
        before = made.before
        if report.format == "unknown":
            return self._no_model(wish, made, report, sha256, size)
        asked = frozenset(report.globals)
        grants = self.granted & asked
        if before is not None and before.sha256 == sha256:
            grants |= frozenset(before.allow_globals)
        held = self.policy.for_model(made.model)
        # Where policy loads unknown classes as inert data, they do not stand in the way of a pin; what is known to be hostile does.
        inert = held.unknown_globals == "inert" and not any(finding.level is Level.ERROR for finding in report.findings)
        decision = decide(report, held, pin_grants=grants, pinned=True, inert=inert)
        made = replace(made, reasons=decision.reasons, findings=report.findings)
        if decision.outcome is not Outcome.ALLOWED and not self.force:
            # The bytes that are pinned already stay pinned: what changed is the policy, and that is asked at every load.
            action: Action = "error" if decision.outcome is Outcome.ERROR else "refused"
            return replace(made, action=action)
        after = LockedFile(
            path=wish.relative, size=size, sha256=sha256, sha256_tree=report.sha256_tree, format=report.format, globals=report.globals,
            allow_globals=tuple(grants), converted=before.converted if before is not None and before.sha256 == sha256 else None,
        )  # fmt: skip
        problem = self.twins.problem(after)
        if problem is not None:
            return replace(made, action="error", reasons=(problem,))
        if after.path in self.twins.missing:
            why = "it has no converted twin, or that is not what it was"
            return replace(made, action="added" if before is None else "renewed", after=after, reasons=(why,))
        return _settled(made, self.twins.applied(after))

    def _no_model(self, wish: Wish, made: LockEntry, report: Report, sha256: str, size: int) -> LockEntry:
        """A file that no reader claims: pinned where all files are, or where somebody insists."""
        why = report.error or "no reader claims the file"
        was_data = made.before is not None and made.before.format is None
        if not (wish.all and (was_data or made.before is None)) and not self.force:
            return replace(made, action="error" if wish.named else "skipped", reasons=(why,), findings=report.findings)
        after = LockedFile(path=wish.relative, size=size, sha256=sha256, sha256_tree=report.sha256_tree)
        return _settled(made, after)


def _settled(made: LockEntry, after: LockedFile) -> LockEntry:
    if made.before == after:
        return replace(made, action="unchanged", after=after, reasons=())
    if made.before is None:
        return replace(made, action="added", after=after)
    return replace(made, action="renewed", after=after, reasons=(*_changes(made.before, after), *made.reasons))


def _changes(before: LockedFile, after: LockedFile) -> tuple[str, ...]:
    """What is new in a pin, for people who review it."""
    lines = []
    if before.sha256 != after.sha256:
        lines.append(f"{Digest('sha256', before.sha256)} became {Digest('sha256', after.sha256)}")
        lines += [f"the grant of {escape(name)} was for the old bytes" for name in before.allow_globals if name not in after.allow_globals]
    if before.size != after.size:
        lines.append(f"{before.size} bytes became {after.size}")
    if before.format != after.format:
        lines.append(f"format {before.format} became {after.format}")
    if before.converted != after.converted:
        lines.append(_twin_change(before, after))
    fresh = [name for name in after.globals or () if name not in (before.globals or ())]
    lines += [f"names {escape(name)} now" for name in fresh if before.globals is not None]
    lines += [f"grants {escape(name)} now" for name in after.allow_globals if name not in before.allow_globals]
    return tuple(lines)


def _twin_change(before: LockedFile, after: LockedFile) -> str:
    if after.converted is None:
        why = "forgotten" if before.sha256 == after.sha256 else "made from the old bytes"
        return f"the converted twin {escape(before.converted.path if before.converted else '')} was {why}"
    return f"has the converted twin {escape(after.converted.path)}, {Digest('sha256', after.converted.sha256).short}"


def _without_twins(entries: list[LockEntry], now: Lockfile) -> list[LockEntry]:
    """Take out files that are pinned as what was made from another one: they are renewed with it."""
    settled = {entry.path: entry.after for entry in entries}
    files = [file for model in now.models for file in model.files if file.path not in settled]
    files += [file for file in settled.values() if file is not None]
    twins = {file.converted.path: file.path for file in files if file.converted is not None}
    out = []
    for entry in entries:
        source = twins.get(entry.path)
        if source is None:
            out.append(entry)
            continue
        why = f"the converted twin of {escape(source)}"
        action: Action = "skipped" if entry.before is None else "removed"
        out.append(replace(entry, action=action, after=None, reasons=(why,), findings=()))
    return out


def _with_file(held: Lockfile, entry: LockEntry) -> Lockfile:
    """Return the lock with one pin put in, replaced or taken out; a model without files goes."""
    model = held.model(entry.model)
    others = tuple(file for file in model.files if file.path != entry.path) if model is not None else ()
    files = (*others, entry.after) if entry.after is not None else others
    if not files:
        return replace(held, models=tuple(other for other in held.models if other.name != entry.model))
    return held.with_model(replace(model, files=files) if model is not None else Model(name=entry.model, files=files))


def _created_by() -> str:
    from safeload import __version__

    return f"safeload {__version__}"
