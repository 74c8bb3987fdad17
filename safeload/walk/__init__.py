"""Walk a pickle stream: what would it import, call and build? Nothing is imported, called or built to find out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from safeload.errors import UsageError
from safeload.findings import Finding, Level, escape
from safeload.lean_dataclass import dataclass, field
from safeload.rules import RULES
from safeload.source import Limits
from safeload.walk import kinds
from safeload.walk.signatures import BUILD_STATE, MODELLED, Modelled

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "FETCHER", "MACHINE", "PlainTensors", "Resolve", "Skip", "Walk", "Walker", "default_resolve", "machine", "python3_name", "walk",
]  # fmt: skip

Resolve = Callable[[str, str], Modelled | None]
"""Takes module and attribute of a global; returns what is modelled of it, or None."""


Skip = Callable[["Walker", int, int, int], "int | str"]
"""Takes the machine, a description's slot, its state's slot and an offset; returns where raw bytes end, or why it cannot be told."""


PlainTensors = tuple[dict[tuple[int, str, tuple[int, ...]], tuple[list[int], list[int], list[int], list[int]]], dict[int, int]]
"""Groups of tensors that can be made at once, and what of the stream they stand for; see `plain_tensors` in the machine."""


class Walker(Protocol):
    """What both builds of the machine offer once a stream was walked."""

    raw: memoryview
    start: int
    end: int
    opcodes: int
    protocol: int
    root: int
    checked: bool
    fetches_only: bool
    encoding: str
    globals: list[tuple[str | None, str, int, Modelled | None, str]]
    events: list[tuple[str, int, int, int, int]]
    notes: list[tuple[str, str, int]]
    by_name: dict[tuple[str | None, str], int]
    type_states: dict[int, int]
    skip: Skip | None

    def children(self, slot: int) -> tuple[list[int], int]:
        """Kept slots of a container, and how many it has."""
        ...

    def constant(self, slot: int) -> Any:
        """The value of a constant."""
        ...

    def storage_ids(self) -> list[tuple[int, int]]:
        """(slot of the persistent id, offset) of every storage that the stream names."""
        ...

    def plain_ids(self) -> list[tuple[int, str, str, int, int] | None]:
        """(index of its class among the globals, key, location, elements, offset) of every storage whose id says just that."""
        ...

    def plain_tensors(self) -> PlainTensors:
        """The dense tensors that are all of a storage that no other tensor is of, by what they have in common; see the machine."""
        ...


def _choose() -> ModuleType:
    """The compiled machine where there is one, unless SAFELOAD_MACHINE says otherwise."""
    wanted = os.environ.get("SAFELOAD_MACHINE", "")
    if wanted not in ("", "pure", "compiled"):
        raise UsageError(f"SAFELOAD_MACHINE is {escape(wanted)!r}", hint="it may be 'pure' or 'compiled'")
    if wanted != "pure":
        try:
            from safeload.walk import _machine_c
        except ImportError:
            if wanted == "compiled":
                raise UsageError("SAFELOAD_MACHINE asks for the compiled machine, and it was not built") from None
        else:
            return _machine_c
    from safeload.walk import _machine

    return _machine


FETCHER: Final = ("builtins", "getattr")
"""How pickle writes nested classes and methods below protocol 4. While it does nothing else, what it fetches counts, and not itself."""

machine: ModuleType = _choose()
MACHINE: str = "compiled" if machine.__name__.endswith("_c") else "pure"


@dataclass(slots=True, kw_only=True)
class Walk:
    """What one walk saw.

    Attributes:
        walker: The machine, for a build over the same bytes.
        end: Offset behind STOP, or None when the stream breaks before it.
        error: Why it breaks, with `error_offset`; None when it ends well.
        truncated: It breaks only because the data end there.
        globals: Every global, "module.attribute", in stream order, each once.
        unmodelled: Those that are not modelled.
        findings: Without a member; the reader that knows it adds it.
        searched: Whether the bytes that its calls get were looked at, see `formats.inner_bytes`.
    """

    walker: Walker
    end: int | None
    error: str | None
    error_offset: int
    truncated: bool
    globals: tuple[str, ...]
    unmodelled: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    searched: bool = False

    @property
    def has_calls(self) -> bool:
        """Whether anything that is not modelled would have been called."""
        return any(event[0] != "PERSID" for event in self.walker.events)

    @property
    def needs_build(self) -> bool:
        """Whether values must be looked at (sizes, bounds) before the stream is known to be harmless."""
        return self.walker.checked


def default_resolve(module: str, attribute: str) -> Modelled | None:
    """Look a global up in the table of signatures."""
    return MODELLED.get(f"{module}.{attribute}") if "." not in attribute else None


@functools.cache
def _python2_names() -> tuple[Mapping[str, str], Mapping[tuple[str, str], tuple[str, str]]]:
    """The standard library's own tables, read when a stream of protocols 0 to 2 first names a global."""
    from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

    return IMPORT_MAPPING, NAME_MAPPING


def python3_name(module: str, attribute: str) -> tuple[str, str]:
    """The name that Python 3 gives a global of protocols 0 to 2."""
    modules, names = _python2_names()
    if (module, attribute) in names:
        return names[(module, attribute)]
    return modules.get(module, module), attribute


def walk(
    data: memoryview | bytes,
    start: int = 0,
    *,
    limits: Limits | None = None,
    encoding: str = "utf-8",
    persistent: int = 0,
    resolve: Resolve = default_resolve,
    skip: Skip | None = None,
) -> Walk:
    """Walk the stream that begins at `start`.

    Args:
        data: Bytes; the stream may be followed by others.
        start: Offset in bytes.
        limits: Bounds.
        encoding: For Python 2 strings; "bytes" leaves them as bytes.
        persistent: What persistent ids mean: 0 nothing, 1 as in torch streams, 2 as in torch's old tar files.
        resolve: What is modelled; by default the table of `walk.signatures`.
        skip: Asked about raw bytes between opcodes, see `walk.raw_arrays`; without it there are none.

    Returns:
        The walk. A stream that breaks has `error`; what came before is kept, because an unpickler would have run it.
    """
    view = memoryview(data).cast("B").toreadonly()

    def classify(module: str | None, attribute: str) -> tuple[str, int, Modelled | None]:
        if module is None:
            return attribute, kinds.UNKNOWN, None
        modelled = resolve(module, attribute)
        unknown = kinds.FETCHER if (module, attribute) == FETCHER else kinds.UNKNOWN
        return f"{module}.{attribute}", modelled.kind if modelled else unknown, modelled

    walker = machine.Walker(view, start, classify, python3_name, encoding, limits or Limits(), persistent)
    walker.skip = skip
    error, at, truncated = None, 0, False
    try:
        walker.run(BUILD_STATE)
    except machine.Malformed as problem:
        error, at, truncated = (*problem.args, False)[:3]
    found = Walk(
        walker=walker,
        end=walker.end if error is None else None,
        error=error,
        error_offset=at,
        truncated=truncated,
        globals=tuple(entry[4] for entry in walker.globals if entry[0] is not None),
        unmodelled=tuple(
            entry[4]
            for entry in walker.globals
            if entry[3] is None and entry[0] is not None and not (walker.fetches_only and entry[:2] == FETCHER)
        ),
    )
    from safeload.walk.explain import findings_of

    found.findings = findings_of(walker)
    if error is not None:
        rule = "SL127" if "stand for more values" in error else "SL129"
        found.findings.append(Finding(rule=rule, level=RULES[rule].level, message=f"the stream breaks: {error}", offset=at))
    return found


def finding(rule: str, message: str, *, offset: int | None = None, level: Level | None = None, subject: str | None = None) -> Finding:
    """Make a finding with its rule's usual level."""
    return Finding(rule=rule, level=level or RULES[rule].level, message=message, offset=offset, subject=subject)
