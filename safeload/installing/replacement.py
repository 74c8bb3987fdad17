"""The function that stands in for `torch.load`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

from safeload.installing.options import Options

__all__ = ["checked_load", "replacement_for"]

Function = Callable[..., Any]
_PLAIN_PICKLES: Final = ("pickle", "_pickle", "dill", "cloudpickle", "cloudpickle.cloudpickle")


def replacement_for(original: Function, current: Callable[[], Options | None]) -> Function:
    """Make a function with the signature, name and docstring of `torch.load` that loads with safeload.

    Args:
        original: torch's own. Whoever kept the replacement after `uninstall()` gets it again.
        current: The options in force, or None when safeload is not installed any more.
    """

    def load(
        f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: Any = None, mmap: Any = None, **pickle_load_args: Any
    ) -> Any:
        options = current()
        if options is None:
            return original(f, map_location, pickle_module, weights_only=weights_only, mmap=mmap, **pickle_load_args)
        caller = sys._getframe(1)  # noqa: SLF001 - see _is_storage_unpickling
        internal = _is_storage_unpickling(caller.f_globals, caller.f_code.co_name)
        return checked_load(options, f, map_location, pickle_module, weights_only, mmap, pickle_load_args, internal=internal)

    functools.update_wrapper(load, original)
    return load


def _is_storage_unpickling(caller: dict[str, Any], function: str) -> bool:
    """Whether torch itself asks, for the bytes of a storage inside somebody's own pickle (a tensor through a queue, `copy`)."""
    return function == "_load_from_bytes" and caller.get("__name__") == "torch.storage"


def checked_load(
    options: Options,
    f: Any,
    map_location: Any,
    pickle_module: Any,
    weights_only: Any,
    mmap: Any,
    rest: dict[str, Any],
    *,
    internal: bool = False,
) -> Any:
    """Do what `safeload.load` does, for a caller who thinks that it is `torch.load`.

    Such a caller cannot leave `pickle_module` out. The usual pickle modules say nothing that torch's default does not say,
    so they are passed over; one that changes what names mean is an error, as for `safeload.load`.
    """
    from safeload.api import load_with
    from safeload.torch_arguments import Arguments

    if pickle_module is not None and not weights_only and getattr(pickle_module, "__name__", None) in _PLAIN_PICKLES:
        pickle_module = None
    # Whatever torch.load does not know is torch's TypeError here too: policy and lock are no arguments of torch.load.
    arguments = Arguments.of(map_location, pickle_module, weights_only, mmap, options.unknown, rest)
    return load_with(f, options.internal_context() if internal else options.context(), arguments)
