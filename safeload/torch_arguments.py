"""The arguments of `torch.load`, understood: what each means here, and torch's own errors where callers catch them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from safeload.errors import ArgumentError, UsageError, warn
from safeload.findings import escape
from safeload.lean_dataclass import dataclass
from safeload.source import Limits, Reading

if TYPE_CHECKING:
    from safeload.build.ranks import Ranks

__all__ = ["Arguments", "PickleModuleError"]

_TRUE: Final = frozenset({"1", "y", "yes", "true"})
_PICKLE_HINT: Final = (
    "no pickle module ever sees the file here, so there is nothing to choose: leave pickle_module out;"
    ' classes that are not modelled come as inert data with unknown="inert", or are granted by policy'
)


class PickleModuleError(UsageError, RuntimeError):
    """`pickle_module` was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One call's arguments, checked.

    Attributes:
        map_location: As given.
        mmap: True, False, or None when torch's configured default counts.
        unknown: "refuse", "inert", or None when policy decides.
        weights_only: Whether it was asked for in words: then an archive that is a program is refused, as in torch.
        encoding: For Python 2 strings.
        ranks: This process among those that load the file together.
    """

    map_location: Any
    mmap: bool | None
    unknown: str | None
    weights_only: bool = False
    encoding: str
    ranks: Ranks | None = None

    @classmethod
    def of(
        cls, map_location: Any, pickle_module: Any, weights_only: Any, mmap: Any, unknown: str | None, rest: Mapping[str, Any]
    ) -> Arguments:
        """Check the arguments of a call.

        Raises:
            PickleModuleError: a pickle module was given.
            ArgumentError: an argument that does not exist, or of a type that has no meaning.
            UsageError: the two environment variables contradict each other, or a value is not one of its words.
        """
        _environment(silent=weights_only is not None or pickle_module is not None or unknown == "inert")
        if pickle_module is not None:
            message = "Can not safely load weights when explicit pickle_module is specified" if weights_only else (
                "pickle_module has no meaning here"
            )  # fmt: skip
            raise PickleModuleError(message, hint=_PICKLE_HINT)
        if unknown not in (None, "refuse", "inert"):
            raise UsageError(f"unknown is {escape(repr(unknown), 80)}", hint="it may be 'refuse' or 'inert'")
        return cls(
            map_location=map_location, mmap=None if mmap is None else bool(mmap), unknown=unknown,
            weights_only=bool(weights_only) and unknown != "inert", encoding=_encoding(rest),
        )  # fmt: skip

    def reading(self) -> Reading:
        """How the file is to be read."""
        return Reading(limits=Limits(), encoding=self.encoding, byteorder=_byteorder())


def _environment(*, silent: bool) -> None:
    """torch's two variables contradict each other; either alone changes nothing, because no code runs in any mode.

    Where torch would say that it gives in to one of them, a warning says that nothing does so here, unless `silent`.
    """
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    if all(os.environ.get(name, "").lower() in _TRUE for name in names):
        raise PickleModuleError(
            "Only one of `TORCH_FORCE_WEIGHTS_ONLY_LOAD` or `TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD` should be set, but both were set."
        )
    if not silent and os.environ.get(names[1], "").lower() in _TRUE:
        warn(
            f"{names[1]} is set, which changes nothing here: no code of a file runs in any mode,"
            " and classes are made when policy grants them"
        )


def _encoding(rest: Mapping[str, Any]) -> str:
    known = {"encoding", "errors", "fix_imports", "buffers"}
    for name in rest:
        if name not in known:
            raise ArgumentError(f"Unpickler.__init__() got an unexpected keyword argument '{escape(name, 80)}'")
    if rest.get("errors", "strict") != "strict" or rest.get("buffers") is not None or not rest.get("fix_imports", True):
        raise ArgumentError("errors, buffers and fix_imports are understood in their default form only")
    encoding = rest.get("encoding", "utf-8")
    if type(encoding) is not str:
        raise ArgumentError(f"encoding is a {type(encoding).__name__}, not a string")
    return encoding


def _byteorder() -> str:
    """The byte order of archives that do not say it, as `torch.serialization.set_default_load_endianness` set it."""
    torch = sys.modules.get("torch")
    getter = getattr(getattr(torch, "serialization", None), "get_default_load_endianness", None)
    chosen = getter() if getter is not None else None
    name = getattr(chosen, "name", None)
    return {"BIG": "big", "NATIVE": sys.byteorder}.get(name or "", "little")
