"""`verify`: compare what lies on the disk with what the lockfile says."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safeload.context import Context
from safeload.errors import ArgumentError, LockfileError, UsageError
from safeload.findings import Finding, Outcome, escape
from safeload.lockfile import Lockfile, Model, Pin, compare, complete_check, find, locate, lock_relative
from safeload.path_arguments import system_said
from safeload.pinning.looking import Progress, said, through
from safeload.pinning.signed import SignatureEntry, SigningCheck
from safeload.signatures import read_lock
from safeload.source import Source
from safeload.trust.digest import Digest

__all__ = ["SignatureEntry", "VerifyEntry", "VerifyResult", "verify"]

Status = Literal["matches", "differs", "missing", "unlocked", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyEntry:
    """How one file compares with its pin.

    Attributes:
        path: As the lock calls it; as it was named, when no pin covers it.
        model: The model that it belongs to, or "".
        status: matches; differs; missing: pinned and not there; unlocked: there and not pinned; error: it could not be read.
        expected: What the lock says, "sha256:…", or "".
        found: What the file is, "sha256:…", or "".
        findings: Every difference.
        reasons: Why no comparison was possible.
    """

    path: str
    model: str
    status: Status
    expected: str = ""
    found: str = ""
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What `verify` found.

    Attributes:
        lockfile: Where the lock lies, absolute.
        entries: By path.
        signatures: What came of every stored signature of the models that were compared, for each file that it is about.
    """

    lockfile: Path
    entries: tuple[VerifyEntry, ...]
    signatures: tuple[SignatureEntry, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Allowed when everything matches, refused when something differs, error when something could not be read."""
        states: set[str] = {entry.status for entry in self.entries} | {entry.status for entry in self.signatures}
        if "error" in states:
            return Outcome.ERROR
        return Outcome.ALLOWED if states <= {"matches", "verified"} else Outcome.REFUSED

    def __bool__(self) -> bool:
        """Whether everything matches."""
        return self.outcome is Outcome.ALLOWED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """One file that the lock pins by digest, in whatever role."""

    path: str
    model: str
    role: str
    pin: Pin | None
    sha256: str
    tree: str | None = None
    size: int | None = None


@system_said()
def verify(
    *paths: str | os.PathLike[str], lock: str | os.PathLike[str] | None = None, policy: Any = None, progress: Progress | None = None
) -> VerifyResult:
    """Compare files with their pins, and check the signatures that the lock stores; nothing is analysed, loaded or written.

    Args:
        *paths: Files, directories, or names of models; none: everything that the lock pins.
        lock: The lockfile; None: the one in force.
        policy: As for `safeload.load`; it says who must have signed, the lockfile itself among what is signed.
        progress: Told about every chunk that was hashed.

    Returns:
        How each file compares; files that are named and not pinned, and files in the directory of a complete model that
        the lock does not list, are "unlocked".

    Raises:
        LockfileError: no lock is in force, or it is not valid.
    """
    where = find(argument=lock)
    if where is None:
        raise LockfileError("no lockfile is in force", hint="run 'safeload lock PATH' to make one")
    rules = Context.of(policy, False).policy
    held = read_lock(where, rules)
    everything = _pinned_files(held, where)
    chosen, models, entries = (everything, list(held.models), []) if not paths else _choose(paths, held, where, everything)
    signing = SigningCheck(held, where, rules)
    entries += _compared(chosen, where, progress, signing)
    for model in models:
        if model.complete:
            entries += _extras(model, held, where)
    return VerifyResult(lockfile=where, entries=tuple(sorted(entries, key=lambda entry: entry.path)), signatures=signing.entries())


def _pinned_files(held: Lockfile, where: Path) -> list[_Held]:
    found: dict[str, _Held] = {}

    def add(path: str, model: str, role: str, sha256: str, **more: Any) -> None:
        found.setdefault(path, _Held(path=path, model=model, role=role, sha256=sha256, **{"pin": None, **more}))

    for model in held.models:
        for file in model.files:
            pin = Pin(model=model, file=file, path=locate(where, file.path), matched_by="path")
            add(file.path, model.name, "file", file.sha256, pin=pin, tree=file.sha256_tree, size=file.size)
            if file.converted is not None:
                add(file.converted.path, model.name, "converted file", file.converted.sha256, tree=file.converted.sha256_tree)
        for signature in model.signatures:
            add(signature.bundle, model.name, "signature bundle", signature.bundle_sha256)
    for signer in held.signers:
        for path, sha256 in ((signer.certificate, signer.certificate_sha256), (signer.public_key, signer.public_key_sha256)):
            if path is not None and sha256 is not None:
                add(path, "", f"certificate of {signer.name}", sha256)
    for root in held.trust_roots:
        if not root.path.startswith("builtin:"):
            add(root.path, "", f"trust root {root.name}", root.sha256)
    return list(found.values())


def _choose(
    paths: Sequence[str | os.PathLike[str]], held: Lockfile, where: Path, everything: list[_Held]
) -> tuple[list[_Held], list[Model], list[VerifyEntry]]:
    """What of the lock the paths mean: pins, models whose directory is checked as a whole, and what no pin covers."""
    by_path = {file.path: file for file in everything}
    chosen: dict[str, _Held] = {}
    models: dict[str, Model] = {}
    loose: list[VerifyEntry] = []
    for given in paths:
        if not isinstance(given, (str, os.PathLike)):
            raise ArgumentError(f"a path or a model's name is needed, not {escape(type(given).__name__)}")
        text = os.fspath(given)
        model = held.model(text) if not os.path.lexists(text) else None
        if model is not None:
            models[model.name] = model
            chosen.update((path, file) for path, file in by_path.items() if file.model == model.name)
            continue
        around = Path(text).is_dir() and where.parent.resolve().is_relative_to(Path(text).resolve())
        try:
            relative = "." if around else lock_relative(where, text)
        except UsageError as error:
            loose.append(VerifyEntry(path=text, model="", status="unlocked", reasons=(error.message,)))
            continue
        below = {path: file for path, file in by_path.items() if path == relative or path.startswith(f"{relative}/") or relative == "."}
        if below:
            chosen |= below
            names = {file.model for file in below.values()}
            models |= {model.name: model for model in held.models if model.name in names and Path(text).is_dir()}
        else:
            loose.append(VerifyEntry(path=text, model="", status="unlocked", reasons=("no pin covers it",)))
    return list(chosen.values()), list(models.values()), loose


def _compared(files: Sequence[_Held], where: Path, progress: Progress | None, signing: SigningCheck) -> list[VerifyEntry]:
    """Hash files and compare; their signatures are checked while they are open."""
    one_at_a_time = threading.Lock()

    def after(number: int, source: Source, found: tuple[str, str]) -> VerifyEntry:
        pin = files[number].pin
        if pin is not None:
            with one_at_a_time:
                signing.check(pin.model, replace(pin.file, sha256=found[0], size=source.size), source)
        return _entry(files[number], source.size, *found)

    def failed(number: int, error: Exception) -> VerifyEntry:
        entry = _unread(files[number])
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return replace(entry, status="missing", reasons=(f"the {files[number].role} is not there",))
        return replace(entry, reasons=(said(error),))

    paths = [locate(where, file.path) for file in files]
    return through(paths, [file.path for file in files], progress, after=after, failed=failed)


def _unread(file: _Held) -> VerifyEntry:
    return VerifyEntry(path=file.path, model=file.model, status="error", expected=str(Digest("sha256", file.sha256)))


def _entry(file: _Held, size: int, sha256: str, tree: str) -> VerifyEntry:
    """How a file of `size` bytes with these digests compares."""
    entry, found = _unread(file), Digest("sha256", sha256)
    if file.pin is not None:
        findings = tuple(compare(file.pin, size=size, sha256=sha256, tree=tree))
        return replace(entry, status="differs" if findings else "matches", found=str(found), findings=findings)
    same = Digest("sha256", file.sha256) == found and file.tree in (None, tree)
    return replace(
        entry,
        status="matches" if same else "differs",
        found=str(found),
        reasons=() if same else (f"the {file.role} has changed",),
    )


def _extras(model: Model, held: Lockfile, where: Path) -> list[VerifyEntry]:
    """What lies in a complete model's directory and is not locked."""
    folder = locate(where, model.directory)
    try:
        findings = complete_check(model, folder, lock=held, lock_path=where)
    except FileNotFoundError:
        return []  # its files are reported as missing
    except OSError as error:
        why = f"the directory cannot be listed: {error.strerror or error}"
        return [VerifyEntry(path=model.directory or ".", model=model.name, status="error", reasons=(why,))]
    prefix = f"{model.directory}/" if model.directory else ""
    before = f"'{escape(model.name)}': "
    return [
        VerifyEntry(path=f"{prefix}{finding.message.partition(before)[2]}", model=model.name, status="unlocked", findings=(finding,))
        for finding in findings
    ]
