"""Conversion: pickle-based checkpoints into safetensors files that lose nothing, and back.

The tree of a checkpoint becomes a manifest (`tree`, `manifest`), its storages become entries (`plan`), which are copied in one
pass (`reading`, `writing`, `output`), proved (`proof`), and read back (`storages`, `rebuild`, `opening`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safeload.conversion.exporting import export
    from safeload.conversion.front import check, convert
    from safeload.conversion.many import TreeItem, convert_tree
    from safeload.conversion.opening import Converted, converted
    from safeload.conversion.results import CheckResult, ConvertResult, Written

# Resolved when first used: a load of a converted file needs no writer.
_HOME = {
    "Converted": "opening", "converted": "opening", "export": "exporting", "check": "front", "convert": "front",
    "TreeItem": "many", "convert_tree": "many", "CheckResult": "results", "ConvertResult": "results", "Written": "results",
}  # fmt: skip

__all__ = ["CheckResult", "ConvertResult", "Converted", "TreeItem", "Written", "check", "convert", "convert_tree", "converted", "export"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'safeload.conversion' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"safeload.conversion.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
