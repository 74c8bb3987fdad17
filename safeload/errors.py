"""Every way in which safeload says no.

```
SafeloadError                        the root: .message .where .hint
├── RefusedError                     also pickle.UnpicklingError: understood, and not allowed here
│   ├── ProgramError                 also RuntimeError: TorchScript, and weights_only=True was asked for in words
│   ├── PinError                     the bytes are not the bytes of the pin: .expected .found
│   └── SignatureError               a required signature is missing or does not verify
├── MalformedError                   also pickle.UnpicklingError and RuntimeError: not what it says it is
│   ├── TruncatedError               also EOFError: it ends too early
│   ├── EmptyFileError               also EOFError
│   ├── NotAModelError               a Git-LFS pointer, an HTML page, text: named as what it is
│   ├── LimitError                   would need more than `Limits` grants
│   ├── EndiannessError              also ValueError: a byteorder that does not exist
│   └── ContradictionError           also RefusedError: findings say that the file is not what it says it is
├── UnsupportedError                 also RuntimeError: understood, but not built by this version or on this machine
│   └── NotBuiltError                also pickle.UnpicklingError: a file of a format that is never built here
│       └── RefusedFormatError       also RefusedError: such a file, and refused besides
├── GroupError                       also RuntimeError: of processes that load together, one is lost or failed
├── RemoteError                      an address gave no bytes, too few, or others than a moment ago
├── LockfileError                    also ValueError: the lockfile is torn, unknown or contradictory
├── PolicyError                      also ValueError: the policy is not valid
├── UsageError                       also ValueError, and ArgumentError under it also TypeError
├── UnopenedError                    also OSError: the path cannot be opened, for another reason than the three below
│   └── NoDirectoryError             also NotADirectoryError: a part of the path is a file
├── NotSeekableError                 also AttributeError or io.UnsupportedOperation, as torch.load raises
└── MissingExtraError                also ImportError: names the extra to install
```

`FileNotFoundError`, `IsADirectoryError` and `PermissionError` pass through untouched, as they do from `open`.
"""

from __future__ import annotations

import io
import sys
from _pickle import UnpicklingError  # pickle's own class; the module around it costs every start milliseconds
from collections.abc import Callable, Sequence
from typing import Any, Self


def _remake(cls: type[SafeloadError], state: dict[str, Any]) -> SafeloadError:
    """Rebuild an error on the other side of a process boundary."""
    error = cls.__new__(cls)
    for name, value in state.items():
        setattr(error, name, value)  # some are slots of a second base
    error.args = (str(error),)
    return error


class SafeloadError(Exception):
    """The root of every error that safeload raises by itself.

    Attributes:
        message: What happened, with both values where two were compared. Lower case, no full stop.
        where: `path!member@offset`, as far as it is known, else "".
        hint: What to do next, else "".
        rule: The id of the rule that was broken ("SL301"), else "".
    """

    message: str
    where: str
    hint: str
    rule: str = ""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        self.message = message
        self.where = where
        self.hint = hint
        # OSError and friends among the second bases keep their own idea of args; ours is the text.
        Exception.__init__(self, str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Callable[..., SafeloadError], tuple[Any, ...]]:
        return (_remake, (type(self), dict(self.__dict__)))

    def under(self, rule: str) -> Self:
        """Name the rule that was broken, and return self."""
        self.rule = rule
        return self

    def at(self, where: str) -> Self:
        """Put `where` in front of what is known about the place, and return self."""
        if not self.where:
            self.where = where
        elif self.where.startswith(("!", "@")):
            if not where.startswith("@"):  # an offset that is known already is the more exact one
                self.where = where + self.where
        elif not self.where.startswith(where):
            self.where = f"{where}!{self.where}"
        self.args = (str(self),)
        return self


class RefusedError(SafeloadError, UnpicklingError):
    """The file was understood and may not be loaded here.

    Attributes:
        findings: The `Finding`s that led to it, as a tuple.
        globals: Every refused global at once, as "module.attribute", in the order of the stream.
    """

    def __init__(
        self, message: str, *, where: str = "", hint: str = "", findings: Sequence[Any] = (), globals: Sequence[str] = ()
    ) -> None:
        self.findings = tuple(findings)
        self.globals = tuple(globals)
        super().__init__(message, where=where, hint=hint)


class ProgramError(RefusedError, RuntimeError):
    """The file is a program with weights in it, and `weights_only=True` was asked for in words; torch raises RuntimeError."""


class PinError(RefusedError):
    """The bytes are not the bytes of the pin, or no pin covers them and policy wants one.

    Attributes:
        expected: What the lockfile says, for example "sha256:…".
        found: What the file is.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", expected: str = "", found: str = "") -> None:
        self.expected = expected
        self.found = found
        super().__init__(message, where=where, hint=hint)


class SignatureError(RefusedError):
    """A required signature is missing, or does not verify for the identity that was pinned.

    Attributes:
        check: Which check failed ("identity", "issuer", "digest", "certificate", …), else "".
        expected: What was pinned or wanted, when two values were compared.
        found: What the signature says.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", check: str = "", expected: str = "", found: str = "") -> None:
        self.check = check
        self.expected = expected
        self.found = found
        super().__init__(message, where=where, hint=hint)


class MalformedError(SafeloadError, UnpicklingError, RuntimeError):
    """The input is not what it claims to be: truncated, contradictory, out of bounds."""


class TruncatedError(MalformedError, EOFError):
    """The file ends too early. Where it ends decides which of its three kinds torch raises."""


class EmptyFileError(MalformedError, EOFError):
    """There are no bytes at all."""


class NotAModelError(MalformedError):
    """The file is something else, and it is known what: a Git-LFS pointer, an HTML page, text."""


class LimitError(MalformedError):
    """Reading on would take more than `Limits` grants."""


class EndiannessError(MalformedError, ValueError):
    """A checkpoint names a byte order that does not exist."""


class ContradictionError(RefusedError, MalformedError):
    """Refused, because what the file says about itself does not fit together: bounds, sizes, headers, checksums.

    Both of its kinds: a caller of torch.load who catches RuntimeError for a broken file catches it, too.
    """


class UnsupportedError(SafeloadError, RuntimeError):
    """The file is understood, but this version, torch or machine cannot build it."""


class NotBuiltError(UnsupportedError, UnpicklingError):
    """The file is of a format that safeload reads and never builds; torch.load takes it for a broken pickle or a broken archive."""


class RefusedFormatError(RefusedError, NotBuiltError):
    """The file is refused, and would not be built in any case: an archive of another program that asks for code."""


class RemoteError(SafeloadError):
    """An address gave no bytes, too few, or others than a moment ago. Nothing is known about the file then."""


class GroupError(SafeloadError, RuntimeError):
    """Of several processes that load one file together, one is lost, failed for a reason of its own, or does something else."""


class LockfileError(SafeloadError, ValueError):
    """The lockfile is torn, of an unknown major version, or contradicts itself."""


class PolicyError(SafeloadError, ValueError):
    """A policy file or a policy argument is not valid."""


class UsageError(SafeloadError, ValueError):
    """The call itself is wrong; nothing was read."""


class ArgumentError(UsageError, TypeError):
    """An argument is of a type that has no meaning here."""


class UnopenedError(SafeloadError, OSError):
    """The system does not open the path: links that lead to each other, a name that is too long, a socket, too many open files.

    Attributes:
        errno: The system's number.
        strerror: Its words.
        filename: The path.
    """

    def __init__(self, error: OSError, path: str, *, where: str) -> None:
        self.errno, self.strerror, self.filename = error.errno, error.strerror, path
        super().__init__(f"cannot be opened: {(error.strerror or 'for no reason that is given').lower()}", where=where)

    def __reduce__(self) -> tuple[Callable[..., SafeloadError], tuple[Any, ...]]:
        said = {"errno": self.errno, "strerror": self.strerror, "filename": self.filename}
        return (_remake, (type(self), {**self.__dict__, **said}))


class NoDirectoryError(UnopenedError, NotADirectoryError):
    """A part of the path that would have to be a directory is none."""


class NotSeekableError(SafeloadError, AttributeError):
    """The object has no `seek` or `tell`."""


class NotSeekableStreamError(SafeloadError, io.UnsupportedOperation):
    """The object has `seek`, and it does not work."""


class MissingExtraError(SafeloadError, ImportError):
    """A feature needs a package that is not installed; the hint names the extra."""


class SafeloadWarning(UserWarning):
    """Something that is worth saying and stops nothing: a lockfile of a newer minor version."""


class UnpinnedWarning(SafeloadWarning):
    """A file was loaded that no pin covers, and policy says to warn (its default where no lockfile is in force)."""


def warn(text: str, category: type[SafeloadWarning] = SafeloadWarning) -> None:
    """Warn at the line that called safeload, however many of its own functions lie between."""
    import warnings

    level, frame = 2, sys._getframe(1)  # noqa: SLF001 - warnings.warn counts the same frames
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in ("safeload", "contextlib"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
