"""Watch other unpicklers: an audit hook on `pickle.find_class`.

Every unpickler of the standard library announces each global before it looks it up, and so do those that build on it (joblib,
numpy, pandas, torch.distributed.checkpoint, `torch.load` of somebody who kept torch's own). The hook sees a name and nothing
else: not what it is called with, not where the bytes come from. So it can only be as strict as an allowlist of names: modelled
globals and those that policy grants pass, all others are reported or stopped.

What processes of one program send each other passes untouched: whoever can write to their pipes runs in the program already.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from safeload.errors import RefusedError, warn
from safeload.findings import Level, escape
from safeload.installing.options import Options

__all__ = ["OWN_TRAFFIC", "listen", "verdict"]

OWN_TRAFFIC: Final = (
    "multiprocessing", "concurrent.futures.process", "torch.multiprocessing", "torch.distributed.distributed_c10d",
    "joblib.externals.loky", "loky", "safeload.installing.children",
)  # fmt: skip
"""Modules (with all below them) whose own unpickling is of what the program's processes send each other."""

_UNPICKLERS: Final = frozenset({"pickle", "_pickle"})
_MOST: Final = 10_000


class _Hook:
    """One in the process: an audit hook cannot be taken out again."""

    current: Callable[[], Options | None] | None = None
    inside = threading.local()
    judged: tuple[Options, dict[tuple[str, str], str | None]] | None = None
    reported: set[tuple[str, str]] = set()  # noqa: RUF012 - of the process


def listen(current: Callable[[], Options | None]) -> None:
    """Add the hook, once. It does nothing while `current` gives no options, or options without a guard."""
    if _Hook.current is None:
        _Hook.current = current
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # Called for every audit event of the process: what is not ours leaves on the first line.
    if event != "pickle.find_class":
        return
    options = _Hook.current() if _Hook.current is not None else None
    if options is None or options.guard is None or getattr(_Hook.inside, "yes", False):
        return
    _Hook.inside.yes = True
    try:
        _judge(options, str(arguments[0]), str(arguments[1]))
    finally:
        _Hook.inside.yes = False


def _judge(options: Options, module: str, attribute: str) -> None:
    reason = _remembered(options, module, attribute)
    if reason is None:
        return
    caller = _caller(sys._getframe(2))  # noqa: SLF001 - who unpickles is what the hook must know
    if _is_own_traffic(caller):
        return
    name = escape(f"{module}.{attribute}")
    if options.guard == "enforce":
        from safeload.policy import denied_reason

        never = denied_reason(f"{module}.{attribute}")
        raise RefusedError(
            f"refused: {escape(caller)} unpickles {reason}",
            hint=f"can never be granted: {never}" if never else f'to allow it, add "{name}" to allow-globals in the policy',
            globals=(f"{module}.{attribute}",),
        ).under("SL103")
    if (name, caller) not in _Hook.reported and len(_Hook.reported) < _MOST:
        _Hook.reported.add((name, caller))
        warn(f"{escape(caller)} unpickles {reason}")


def _remembered(options: Options, module: str, attribute: str) -> str | None:
    judged = _Hook.judged
    if judged is None or judged[0] is not options or len(judged[1]) > _MOST:
        judged = _Hook.judged = (options, {})
    key = (module, attribute)
    if key not in judged[1]:
        judged[1][key] = verdict(options, module, attribute)
    return judged[1][key]


def verdict(options: Options, module: str, attribute: str) -> str | None:
    """Say why a global must not be unpickled, or None when it may.

    Args:
        options: Their policy's grants count, and names that the program gave to `torch.serialization.add_safe_globals`.
        module: As the stream names it.
        attribute: Likewise.
    """
    from safeload.gate import torch_safe_globals
    from safeload.policy import denied_reason
    from safeload.walk import default_resolve, python3_name
    from safeload.walk.names import know

    knowledge = know(module, attribute)
    reason = f" ({knowledge.reason})" if knowledge.reason else ""
    if knowledge.level is Level.ERROR:
        return f"{knowledge.name}{reason}"
    modern = python3_name(module, attribute)
    if default_resolve(module, attribute) is not None or default_resolve(*modern) is not None:
        return None
    for spelling in {f"{module}.{attribute}", ".".join(modern)}:
        granted = spelling in options.context().policy.allow_globals or spelling in torch_safe_globals()
        if granted and denied_reason(spelling) is None:
            return None
    return f"{knowledge.name}, which is not modelled{reason}"


def _caller(frame: FrameType | None) -> str:
    """The module that unpickles: the nearest one that is not the unpickler itself."""
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name not in _UNPICKLERS:
            return name
        frame = frame.f_back
    return "<unknown>"


def _is_own_traffic(caller: str) -> bool:
    return any(caller == name or caller.startswith(f"{name}.") for name in OWN_TRAFFIC)
