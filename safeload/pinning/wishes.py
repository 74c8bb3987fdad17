"""Which files a call of `lock` is about, and which model each of them goes to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safeload.directory import files_below
from safeload.errors import SafeloadError, UsageError
from safeload.findings import escape
from safeload.formats.index_file import is_index, read_index
from safeload.lockfile import Lockfile, locate, lock_relative, own_names
from safeload.path_arguments import path_text
from safeload.pinning.elsewhere import file_name
from safeload.remote import Address, is_address

__all__ = ["Names", "Plan", "Wish", "plan_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One file that is to be pinned.

    Attributes:
        path: On the disk, or an address.
        relative: In the lock.
        model: The model it goes to when no pin covers it yet; None: chosen by its name.
        named: Somebody named this very file.
        all: Every file of the directory is to be pinned, models or not.
    """

    path: str | Address
    relative: str
    model: str | None
    named: bool = False
    all: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one call of `lock` is about, before any file was read."""

    wishes: tuple[Wish, ...]
    complete: frozenset[str]


def plan_of(paths: Sequence[str | os.PathLike[str]], where: Path, old: Lockfile, *, name: str | None, complete: bool) -> Plan:
    """Say what paths mean; without any, every pin there is.

    Raises:
        UsageError: a path lies outside the lockfile's directory, or the arguments contradict each other.
        FileNotFoundError: a path does not exist.
    """
    if not paths:
        if name is not None or complete:
            raise UsageError("name and complete say something about paths, and none was given")
        return _plan_all(where, old)
    wishes: dict[str, Wish] = {}
    whole: set[str] = set()
    for given in paths:
        path = path_text(given, "one of the paths")
        if isinstance(given, str) and is_address(given):
            found = Address.of(given)
            if isinstance(found, Address):
                relative = lock_relative(where, where.parent / file_name(found, complete=complete))
                _one_more(wishes, Wish(path=found, relative=relative, model=name, named=True), found)
                continue
            path = found
        if Path(path).is_dir():
            model = name or _directory_name(where, path, old)
            known = old.model(model)
            everything = complete or (known is not None and known.complete)
            if everything:
                whole.add(model)
            for wish in _below(path, where, model, everything=everything):
                wishes.setdefault(wish.relative, wish)
        elif complete:
            raise UsageError("only a directory can be complete", where=escape(path, 1000))
        else:
            Path(path).stat()
            for wish in _named(path, where, old, name):
                wishes[wish.relative] = wish
    return Plan(wishes=tuple(wishes.values()), complete=frozenset(whole))


def _named(path: str, where: Path, old: Lockfile, name: str | None) -> Iterable[Wish]:
    """A file that somebody named; an index stands for its files, too, and all of them are one model."""
    relative = lock_relative(where, path)
    files: list[Path] = []
    if is_index(path):
        try:
            files = read_index(Path(path))[1]
        except SafeloadError as error:
            yield Wish(path=path, relative=relative, model=name, named=True, problem=error.message)
            return
        short = relative.removesuffix(".index.json").rpartition(".")[0] or relative
        known = old.file(relative)
        name = name or (known[0].name if known is not None else short if old.model(short) is None else relative)
    for one in (path, *map(os.fspath, files)):
        yield Wish(path=one, relative=lock_relative(where, one), model=name, named=True)


def _one_more(wishes: dict[str, Wish], wish: Wish, address: Address) -> None:
    before = wishes.setdefault(wish.relative, wish)
    if before is not wish and before.path != wish.path:
        raise UsageError(f"two files would be pinned as '{escape(wish.relative, 200)}'", where=escape(address.shown, 1000))


def _plan_all(where: Path, old: Lockfile) -> Plan:
    """Every pin, and what lies unlocked in the directories of complete models."""
    wishes: dict[str, Wish] = {}
    for model in old.models:
        for file in model.files:
            path = os.fspath(locate(where, file.path))
            wishes[file.path] = Wish(path=path, relative=file.path, model=model.name, named=True, all=True)
        folder = locate(where, model.directory)
        if model.complete and folder.is_dir():
            for wish in _below(os.fspath(folder), where, model.name, everything=True):
                if wish.relative not in old.paths:
                    wishes.setdefault(wish.relative, wish)
    return Plan(wishes=tuple(wishes.values()), complete=frozenset(m.name for m in old.models if m.complete))


def _directory_name(where: Path, path: str, old: Lockfile) -> str:
    """The complete model that the directory is already, whatever its name; else it is called as the directory."""
    folder = where.parent
    top = os.path.realpath(path) == os.path.realpath(folder)
    relative = "" if top else lock_relative(where, path)
    known = next((model.name for model in old.models if model.complete and model.directory == relative), None)
    return known or relative or folder.name or "model"


def _below(path: str, where: Path, model: str, *, everything: bool) -> Iterable[Wish]:
    guard, spare = own_names(where.name)
    for found in files_below(path):
        base = Path(found.path).name
        beside = os.path.realpath(Path(found.path).parent) == os.path.realpath(where.parent)
        if beside and (base in (where.name, guard) or base.startswith(spare)):
            continue
        if found.skipped is not None:
            continue
        relative = lock_relative(where, found.path)
        yield Wish(path=found.path, relative=relative, model=model, all=everything, problem=found.problem)


class Names:
    """Chooses the model for files that no pin covers yet."""

    def __init__(self, held: Lockfile) -> None:
        self._taken = {model.name for model in held.models}
        self._complete = [model for model in held.models if model.complete]

    def model_for(self, wish: Wish) -> str:
        """The model that was asked for; the complete one whose directory it lies in; else a new one, called as the file."""
        if wish.model is not None:
            return wish.model
        around = [model for model in self._complete if wish.relative.startswith(f"{model.directory}/") or not model.directory]
        if around:
            return max(around, key=lambda model: len(model.directory)).name
        stem, dot, _ = wish.relative.rpartition(".")
        short = stem if dot and stem and not stem.endswith("/") else wish.relative
        name = short if short not in self._taken else wish.relative
        if name in self._taken:
            raise UsageError(f"a model is named '{escape(name)}' already", hint="choose another with --name")
        self._taken.add(name)
        return name
