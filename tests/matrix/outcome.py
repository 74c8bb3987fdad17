"""One file, loaded by torch and by safeload with the same arguments: what came of it, in a word and a reason."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch as typed_torch

import safeload
from safeload.errors import PolicyError, SafeloadError
from tests.compare import assert_same

__all__ = [
    "BOTH", "CANNOT", "DIFFERS", "ERROR", "NEITHER", "OURS", "PLAIN", "THEIRS", "WRONG",
    "Argument", "File", "Outcome", "allowed", "inert", "judge", "quietly", "saved",
]  # fmt: skip

torch: Any = typed_torch  # torch.load and torch.save with arguments of every kind

BOTH: Final = "same"
OURS: Final = "safeload only"
THEIRS: Final = "torch only"
NEITHER: Final = "neither"
ERROR: Final = "same error"
DIFFERS: Final = "differs on purpose"
CANNOT: Final = "cannot be saved"
WRONG: Final = "WRONG"
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one load by both.

    Attributes:
        word: One of this module's words.
        why: The reason, or "".
        names: The globals that stand in the way.
    """

    word: str
    why: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.word}: {self.why}" if self.why else self.word


@dataclass(frozen=True, slots=True)
class File:
    """A checkpoint that torch wrote.

    Attributes:
        raw: Its bytes.
        original: What was saved.
        torch: Why torch is not asked, or "".
        zipped: The same object in a zip, for when torch cannot read its own legacy stream.
        path: Where it also lies, for arguments that want a path.
    """

    raw: bytes
    original: Any
    path: Path
    torch: str = ""
    zipped: bytes = b""


def _nothing() -> AbstractContextManager[Any]:
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One way to call both.

    Attributes:
        name: As the documentation writes it.
        given: Keyword arguments for both.
        around: What is in force during the loads.
        by_path: The file is named by its path.
        numberless: Nothing is read, or what is read is no number: structures that lie in numbers mean nothing.
        blank: Storages hold whatever memory held; they are wiped before they are compared.
        torch: What torch does with it, for the documentation.
        ours: What safeload does with it.
    """

    name: str
    given: dict[str, Any] = field(default_factory=dict)
    around: Callable[[], AbstractContextManager[Any]] = _nothing
    by_path: bool = False
    numberless: bool = False
    blank: bool = False
    torch: str = ""
    ours: str = ""


PLAIN: Final = Argument(name="(none)")


@contextmanager
def quietly() -> Iterator[None]:
    """Without warnings: torch warns about half of what it saves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def saved(value: Any, *, legacy: bool, protocol: int = 2) -> bytes:
    """Return what `torch.save` writes; its errors are torch's own."""
    buffer = io.BytesIO()
    with quietly():
        torch.save(value, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _attempt(load: Callable[[], Any], argument: Argument) -> tuple[Any, Exception | None]:
    try:
        with quietly(), argument.around():
            return load(), None
    except Exception as error:  # noqa: BLE001 - which one is the question
        return None, error
    finally:
        torch.serialization._serialization_tls.map_location = None  # torch leaves it behind when it fails


def _theirs(file: File, argument: Argument, *, weights_only: bool = True) -> tuple[Any, Exception | None]:
    if file.torch:
        return None, RuntimeError(file.torch)

    def load() -> Any:
        given = {**argument.given, "weights_only": weights_only and argument.given.get("weights_only", True)}
        return torch.load(file.path if argument.by_path else io.BytesIO(file.raw), **given)

    return _attempt(load, argument)


def _ours(file: File, argument: Argument, **more: Any) -> tuple[Any, Exception | None]:
    def load() -> Any:
        given = {"policy": {"unpinned": "allow"}, "lock": False, **argument.given, **more}
        return safeload.load(file.path if argument.by_path else io.BytesIO(file.raw), **given)

    return _attempt(load, argument)


def judge(file: File, argument: Argument = PLAIN, *, base: Outcome | None = None) -> Outcome:
    """Load with both and compare.

    Args:
        file: What torch wrote.
        argument: How.
        base: What came of the file without the argument, when there is one.
    """
    theirs, their_error = _theirs(file, argument)
    ours, our_error = _ours(file, argument)
    if our_error is not None and not isinstance(our_error, SafeloadError):
        return Outcome(WRONG, f"safeload raised {type(our_error).__name__}: {_line(our_error)}")
    if our_error is not None:
        names = tuple(getattr(our_error, "globals", ()))
        why = _some(names) or _line(our_error)
        if their_error is None:
            if file.zipped and _theirs(*_zip_of(file, argument))[1] is not None:
                return Outcome(DIFFERS, "an error, as torch raises for a zip")
            return Outcome(THEIRS, why, names)
        if base is not None and base.word != NEITHER:
            return _same_error(our_error, their_error) if base.word == BOTH else Outcome(ERROR, _line(our_error))
        return Outcome(NEITHER, why, names)
    if argument.blank:
        _wipe(ours)
        _wipe(theirs)
    if their_error is None:
        different = difference(ours, theirs)
        if different is None:
            return Outcome(BOTH)
        if file.zipped and difference(ours, _theirs(*_zip_of(file, argument))[0]) is None:
            return Outcome(DIFFERS, "as torch does for a zip")
        return Outcome(WRONG, different)
    return _like(ours, their_error, file, argument)


def _like(ours: Any, their_error: Exception, file: File, argument: Argument) -> Outcome:
    """Compare with what a file holds that torch refuses: by torch with everything allowed, from a zip of the same, or what was saved."""
    different: str | None = None
    for how in (argument, PLAIN):
        for candidate in ((file, how), *((_zip_of(file, how),) if file.zipped else ())):
            value, error = _theirs(*candidate, weights_only=False)
            if error is not None:
                continue
            if argument.blank:
                _wipe(value)
            found = difference(ours, value)
            if found is None:
                return Outcome(OURS, _refusal(file, their_error))
            different = different or found
    if different is None:
        different = difference(ours, file.original)
    return Outcome(OURS, _refusal(file, their_error)) if different is None else Outcome(WRONG, f"not what was saved: {different}")


def _zip_of(file: File, argument: Argument) -> tuple[File, Argument]:
    """The same object in a zip, and the argument without a path: that names the legacy stream."""
    return replace(file, raw=file.zipped, torch="", zipped=b""), replace(argument, by_path=False)


def difference(ours: Any, theirs: Any) -> str | None:
    """What tells two values apart, or None; objects of any class may be among them."""
    try:
        assert_same(ours, theirs)
    except Exception as error:  # noqa: BLE001 - a comparison that fails did not find them the same
        return f"{type(error).__name__}: {_line(error)}"
    return None


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _same_error(ours: Exception, theirs: Exception) -> Outcome:
    """Whether a program that catches torch's error catches ours."""
    kind = type(theirs)
    broken = isinstance(theirs, AssertionError)  # nobody catches those
    if broken or isinstance(ours, kind) or (isinstance(theirs, RuntimeError) and isinstance(ours, RuntimeError)):
        return Outcome(ERROR, _line(theirs))
    return Outcome(WRONG, f"{kind.__name__}: {_line(theirs)}, and here {type(ours).__name__}: {_line(ours)}")


def _wipe(value: Any) -> None:
    for storage in _storages(value):
        if storage.device.type == "cpu" and storage.nbytes():
            storage.fill_(0)


def _storages(value: Any) -> Iterator[Any]:
    todo, seen = [value], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            todo += item.__dict__.values()
            if item.layout is torch.strided:
                yield item.untyped_storage()
        elif isinstance(item, torch.UntypedStorage):
            yield item
        elif isinstance(item, torch.storage.TypedStorage):
            yield item._untyped_storage
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, (list, tuple)):
            todo += item


_LONGEST: Final = 120
_ADVICE: Final = re.compile(r"\x1b\[[0-9;]*m")


def _line(error: BaseException) -> str:
    """The first line of what an error says, without colours, places and numbers that change."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    text = _ADVICE.sub("", text).strip().partition("\n")[0]
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", re.sub(r" at (?:\S+@)?\d+$", "", text))
    return (text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…").replace("|", "\\|")


_UNSUPPORTED: Final = (
    (re.compile(r"Unsupported operand (\d+)"), "opcode {0}"),
    (re.compile(r"(?:GLOBAL|Unsupported global: GLOBAL) (\S+) was not an allowed global"), "`{0}`"),
    (re.compile(r"Unsupported class (\S+)"), "class `{0}`"),
    (re.compile(r"Can only (build|append|set\w*) .*"), "{0}"),
)


def _refusal(file: File, error: BaseException) -> str:
    """What torch has against a file, in a few words."""
    if file.torch:
        return file.torch
    text = _ADVICE.sub("", str(error))
    for pattern, words in _UNSUPPORTED:
        found = pattern.search(text)
        if found:
            what = found[1]
            if words == "opcode {0}":
                what = _OPCODES.get(int(what), what)
            return "torch does not know " + words.format(what) if "{0}" in words else words
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("Weights only load failed", "Please file"))]
    return f"torch: {type(error).__name__}" + (f", {lines[0].strip()[:100]}" if lines else "").replace("|", "\\|")


_OPCODES: Final = {
    value[0]: name for name, value in vars(pickle).items() if isinstance(value, bytes) and len(value) == 1 and name.isupper()
}


def inert(file: File) -> str | None:
    """Why a refused file does not load as inert data, or None when it does."""
    _, error = _ours(file, PLAIN, unknown="inert")
    return None if error is None else _line(error)


def allowed(file: File, names: tuple[str, ...]) -> str:
    """What comes of a refused file when policy grants exactly the refused names."""
    try:
        ours, error = _ours(file, PLAIN, policy={"unpinned": "allow", "allow-globals": list(names)})
    except PolicyError as refused:
        error = refused
    again = tuple(name for name in getattr(error, "globals", ()) if name not in names)
    if again:
        return allowed(file, (*names, *again))
    if error is not None:
        never = re.search(r"'([^']+)' can never be granted", str(error))
        return f"nobody may grant `{never[1]}`" if never else f"granted: {_line(error)}"
    outcome = _like(ours, RuntimeError(), file, PLAIN)
    return "granted: same" if outcome.word == OURS else f"granted: {WRONG}: {outcome.why}"
