"""Conversion: pickle-based checkpoints into safetensors files that lose nothing, and back.

The tree of a checkpoint becomes a manifest (`tree`, `manifest`), its storages become entries (`plan`), which are copied in one
pass (`reading`, `writing`, `output`), proved (`proof`), and read back (`storages`, `rebuild`, `converted`).
"""

from __future__ import annotations

from safeload.conversion.converted import Converted, converted
from safeload.conversion.exporting import export
from safeload.conversion.front import check, convert
from safeload.conversion.many import TreeItem, convert_tree
from safeload.conversion.results import CheckResult, ConvertResult, Written

__all__ = ["CheckResult", "ConvertResult", "Converted", "TreeItem", "Written", "check", "convert", "convert_tree", "converted", "export"]
