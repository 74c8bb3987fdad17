"""Forge skops files: a zip with a schema of nodes, each of which can say whatever it likes. Nothing here is ever loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from tests.forge_zip import Part, forge

__all__ = ["array_file", "estimator", "node", "skops", "skops_of_schema", "text"]

Node = dict[str, Any]


def node(loader: str, name: str, **more: Any) -> Node:
    """A node: `name` is "module.Class"."""
    module, _, attribute = name.rpartition(".")
    return {"__class__": attribute, "__module__": module, "__loader__": loader, **more}


def text(value: object) -> Node:
    """What skops writes of everything that JSON can say."""
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def estimator(**attributes: Node) -> Node:
    """A fitted estimator with attributes."""
    keys = node("ListNode", "builtins.list", content=[node("TypeNode", "builtins.str") for _ in attributes])
    held = node("DictNode", "builtins.dict", content=attributes, key_types=keys)
    return node("ObjectNode", "sklearn.linear_model._logistic.LogisticRegression", content=held)


def array_file(count: int = 2) -> bytes:
    """numpy's file of `count` doubles."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + struct.pack(f"<{count}d", *range(count))


def skops(root: Node, members: Mapping[str, bytes] | None = None, *, protocol: object = 2) -> bytes:
    """A whole file: the schema, and the members that its nodes name."""
    schema = json.dumps({**root, "protocol": protocol, "_skops_version": "0.16.0"})
    return skops_of_schema(schema.encode(), members)


def skops_of_schema(schema: bytes, members: Mapping[str, bytes] | None = None) -> bytes:
    """A zip with this schema.json."""
    return forge(*(Part(name, data) for name, data in {**(members or {}), "schema.json": schema}.items()))
