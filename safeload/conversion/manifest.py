"""Writing the manifest; `formats.manifest` reads it."""

from __future__ import annotations

from safeload.conversion.plan import Plan
from safeload.conversion.tree import Tree
from safeload.errors import LimitError
from safeload.formats.manifest import MANIFEST_BYTES, VERSION, Json, Origin, canonical

__all__ = ["write_manifest"]


def write_manifest(tree: Tree, plan: Plan, origin: Origin, *, script: bool = False, weights: bool = False) -> str:
    """Return the manifest of an output.

    Raises:
        LimitError: it is longer than `MANIFEST_BYTES`.
    """
    value: dict[str, Json] = {
        "version": VERSION,
        "source": {"format": origin.format, "size": origin.size, "sha256": origin.sha256},
        "globals": tree.globals,
        "storages": plan.storages,
        "payloads": plan.payloads,
        "nodes": tree.nodes,
        "root": tree.root,
    }
    for flag, on in (("script", script), ("weights", weights)):
        if on:
            value[flag] = True
    text = canonical(value)
    if len(text) > MANIFEST_BYTES:
        raise LimitError(f"the manifest has {len(text)} bytes; at most {MANIFEST_BYTES} are written").under("SL127")
    return text
