"""How loads are to be done while safeload is installed, fixed at the moment of installing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from safeload.errors import UsageError
from safeload.findings import escape

if TYPE_CHECKING:
    from safeload.context import Context

__all__ = ["GUARDS", "Options"]

GUARDS: Final = (None, "report", "enforce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `safeload.install` was told.

    Attributes:
        policy: As for `safeload.load`; a path is absolute.
        lock: Likewise.
        unknown: "refuse", "inert", or None when policy decides.
        guard: "report", "enforce", or None.
        unpinned: What becomes of files that no pin covers, where that is not the policy's to say (`safeload trace`).
        directory: Where a policy and a lockfile are looked for when none was given: the working directory of that moment. A
            program that later changes into a model's directory must not come under the policy that lies there.
    """

    policy: Any = None
    lock: Any = None
    unknown: str | None = None
    guard: str | None = None
    unpinned: Literal["refuse", "warn", "allow"] | None = None
    directory: Path = field(default_factory=Path.cwd)

    @classmethod
    def of(cls, policy: Any, lock: Any, unknown: str | None, guard: str | None) -> Options:
        """Check what a caller passed; what is in force is read once, so that a mistake shows here and not at the first load.

        Raises:
            UsageError: a value is not one of its words.
            ArgumentError, PolicyError, LockfileError: as for `safeload.load`.
        """
        if unknown not in (None, "refuse", "inert"):
            raise UsageError(f"unknown is {escape(repr(unknown), 80)}", hint="it may be 'refuse' or 'inert'")
        if guard not in GUARDS:
            raise UsageError(f"guard is {escape(repr(guard), 80)}", hint="it may be 'report', 'enforce' or None")
        if lock is None and "SAFELOAD_LOCK" in os.environ:
            lock = os.environ["SAFELOAD_LOCK"] or False  # a relative path means the directory of this moment
        options = cls(policy=_absolute(policy), lock=_absolute(lock), unknown=unknown, guard=guard)
        options.context()
        return options

    def context(self) -> Context:
        """What is in force now: places are fixed, contents are read again, so that `safeload lock` helps a running program."""
        # Imported here, because every Python that a covered program starts imports this module first.
        from safeload.context import Context

        policy, lock = self.policy, self.lock
        if policy is None:
            from safeload.policy import load_policy

            policy = load_policy(self.directory)
        if lock is None:
            from safeload.lockfile import find

            lock = find(self.directory) or False
        context = Context.of(policy, lock)
        return context if self.unpinned is None else replace(context, policy=replace(context.policy, unpinned=self.unpinned))

    def internal_context(self) -> Context:
        """For bytes that the process made itself: judged like all others, but no pin or signature can exist for them."""
        found = self.context()
        return replace(found, policy=replace(found.policy, unpinned="allow", signature="off"), lock=None, lock_path=None)


def _absolute(place: Any) -> Any:
    """A path as an absolute one; anything else as it is."""
    return str(Path(os.fsdecode(place)).absolute()) if isinstance(place, (str, os.PathLike)) else place
