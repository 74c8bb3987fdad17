"""Which build of the quick pass over plain archives runs: compiled where the pickle machine is, too."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from safeload.walk import MACHINE

__all__ = ["plain_reader"]


@cache
def plain_reader() -> ModuleType:
    """The module `_plain_zip`, or its compiled build."""
    if MACHINE == "compiled":
        try:
            from safeload.formats import _plain_zip_c
        except ImportError:
            pass
        else:
            return _plain_zip_c
    from safeload.formats import _plain_zip

    return _plain_zip
