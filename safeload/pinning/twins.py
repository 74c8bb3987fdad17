"""`lock --convert`: pinned pickles get a converted twin, which is pinned with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safeload.errors import SafeloadError
from safeload.lockfile import LockedFile, Lockfile, locate
from safeload.pinning.looking import Progress
from safeload.policy import Policy

if TYPE_CHECKING:
    from safeload.conversion.twinning import Made
    from safeload.pinning.locking import LockEntry
    from safeload.pinning.wishes import Plan

__all__ = ["Twins", "twins_of"]


@dataclass(frozen=True, slots=True)
class Twins:
    """What is known about twins when pins are written.

    Attributes:
        made: By the path of the source.
        problems: Why a source has none, by its path.
        missing: Sources that have none, where nothing may be written.
        forget: Pins lose the twins that they have.
    """

    made: dict[str, Made] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    forget: bool = False

    def problem(self, file: LockedFile) -> str | None:
        """Why a file that is about to be pinned cannot have the twin that was asked for."""
        return self.problems.get(file.path)

    def applied(self, file: LockedFile) -> LockedFile:
        """The pin with its twin; one that was made from other bytes than are pinned now is none of it."""
        if self.forget:
            return replace(file, converted=None)
        made = self.made.get(file.path)
        return replace(file, converted=made.converted) if made is not None and made.sha256 == file.sha256 else file

    def beside(self, lock: Lockfile, entries: Sequence[LockEntry]) -> Lockfile:
        """The lock with the manifests that lie beside twins, and without pins of their own for what is a twin now."""
        from safeload.conversion.twinning import with_twin

        for entry in entries:
            made = self.made.get(entry.path)
            if made is not None and entry.after is not None and entry.after.converted == made.converted:
                lock = with_twin(lock, entry.path, made)
        return lock


def twins_of(
    entries: Sequence[LockEntry], plan: Plan, where: Path, policy: Policy, *, convert: bool, check: bool, progress: Progress | None
) -> Twins:
    """Make the twins of all pickles that are about to be pinned.

    Args:
        entries: What would become of every file.
        plan: Where the files lie.
        where: The lockfile.
        policy: In force.
        convert: False to forget twins.
        check: Write nothing; a twin that is not there is a problem.
        progress: Told how far each file is.
    """
    if not convert:
        return Twins(forget=True)
    from safeload.conversion.cache import CONVERTIBLE
    from safeload.conversion.twinning import is_there, make_twin

    paths = {wish.relative: wish.path for wish in plan.wishes}
    twins = Twins()
    for entry in entries:
        file = entry.after
        if entry.action not in ("added", "renewed", "unchanged") or file is None or file.format not in CONVERTIBLE:
            continue
        if is_there(where, file):
            continue
        if check:
            twins.missing.add(file.path)
            continue

        def told(done: int, total: int, name: str = file.path) -> None:
            if progress is not None:
                progress(name, done, total)

        path = paths[file.path]
        if not isinstance(path, str):
            twins.problems[file.path] = "cannot be converted: it is not on this machine; fetch it first"
            continue
        known = locate(where, file.converted.path) if file.converted is not None else None
        try:
            held = policy.for_model(entry.model)
            twins.made[file.path] = make_twin(
                Path(path), where, sha256=file.sha256, policy=held, known=known, progress=told
            )  # fmt: skip
        except SafeloadError as error:
            twins.problems[file.path] = f"cannot be converted: {error.message}"
        except OSError as error:
            twins.problems[file.path] = f"cannot be converted: {error.strerror or error}"
    return twins
