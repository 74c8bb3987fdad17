"""Forge boosted trees: XGBoost's three forms, LightGBM's text, CatBoost's two, and PMML. Every index may be any number."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "catboost",
    "catboost_json",
    "lightgbm",
    "lightgbm_tree",
    "pmml",
    "ubjson",
    "xgboost",
    "xgboost_binary",
    "xgboost_json",
    "xgboost_tree",
]

# ---- XGBoost


def xgboost_tree(**over: Any) -> dict[str, Any]:
    """A root that splits by feature 1, and two leaves."""
    plain = {
        "tree_param": {"num_nodes": "3", "num_deleted": "0", "num_feature": "4", "size_leaf_vector": "1"},
        "id": 0,
        "left_children": [1, -1, -1],
        "right_children": [2, -1, -1],
        "parents": [2147483647, 0, 0],
        "split_indices": [1, 0, 0],
        "split_conditions": [0.5, 0.1, -0.1],
        "split_type": [0, 0, 0],
        "default_left": [0, 0, 0],
        "base_weights": [0.0, 0.1, -0.1],
        "loss_changes": [1.0, 0.0, 0.0],
        "sum_hessian": [2.0, 1.0, 1.0],
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
    }
    return {**plain, **over}


def xgboost(
    *trees: dict[str, Any], booster: str = "gbtree", attributes: Mapping[str, str] | None = None, **over: Any
) -> dict[str, Any]:
    """A model; `over` replaces parts of its list of trees."""
    made = list(trees or [xgboost_tree()])
    model = {
        "gbtree_model_param": {"num_trees": str(len(made)), "num_parallel_tree": "1"},
        "trees": made,
        "tree_info": [0] * len(made),
        "iteration_indptr": list(range(len(made) + 1)),
        **over,
    }
    held: dict[str, Any] = {"name": booster, "model": model}
    if booster == "dart":
        held = {"name": "dart", "gbtree": {"name": "gbtree", "model": model}, "weight_drop": [1.0] * len(made)}
    if booster == "gblinear":
        held = {"name": "gblinear", "model": {"weights": [0.5] * 5, **over}}
    learner = {
        "attributes": dict(attributes or {}),
        "feature_names": ["a", "b", "c", "d"],
        "feature_types": ["float"] * 4,
        "gradient_booster": held,
        "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "4", "num_target": "1"},
        "objective": {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}},
    }
    return {"learner": learner, "version": [3, 2, 0]}


def xgboost_json(*trees: dict[str, Any], **more: Any) -> bytes:
    """A model as JSON."""
    return json.dumps(xgboost(*trees, **more), separators=(",", ":")).encode()


def ubjson(value: Any) -> bytes:
    """Any plain data as XGBoost writes it: counted lists, numbers of one type packed."""
    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    if isinstance(value, int):
        return b"L" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">f", value)
    if isinstance(value, str):
        return b"S" + _length(value)
    if isinstance(value, Mapping):
        return b"{" + b"".join(_length(key) + ubjson(item) for key, item in value.items()) + b"}"
    items = list(value)
    if items and all(type(item) is int and -(1 << 31) <= item < 1 << 31 for item in items):
        return b"[$l#L" + struct.pack(">q", len(items)) + struct.pack(f">{len(items)}i", *items)
    return b"[#L" + struct.pack(">q", len(items)) + b"".join(map(ubjson, items))


def _length(text: str) -> bytes:
    raw = text.encode()
    return b"L" + struct.pack(">q", len(raw)) + raw


def _text(raw: str) -> bytes:
    return struct.pack("<Q", len(raw)) + raw.encode()


def xgboost_binary(
    nodes: Sequence[tuple[int, int, int]] = ((1, 2, 1), (-1, -1, 0), (-1, -1, 0)),
    *,
    magic: bytes = b"binf",
    attributes: Mapping[str, str] | None = None,
    count: int | None = None,
    booster: str = "gbtree",
    trees: int = 1,
) -> bytes:
    """A model of version 2: each node is (left, right, feature); `count` is the number of nodes that is stated."""
    header = struct.pack("<fI3i3I", 0.5, 4, 0, 1 if attributes else 0, 0, 2, 1, 1)
    out = magic + header.ljust(136, b"\0") + _text("reg:squarederror") + _text(booster)
    if booster == "gblinear":
        out += bytes(136) + struct.pack("<Q5f", 5, *[0.5] * 5)
    else:
        out += struct.pack("<2i", trees, 1).ljust(160, b"\0")
        stated = len(nodes) if count is None else count
        out += struct.pack("<6i", 1, stated, 0, 0, 4, 1).ljust(148, b"\0")
        out += b"".join(struct.pack("<3iIf", -1 if not index else 0, *node, 0.5) for index, node in enumerate(nodes))
        out += bytes(16 * len(nodes)) + bytes(4)
        if booster == "dart":
            out += struct.pack("<Qf", 1, 1.0)
    if attributes:
        out += struct.pack("<Q", len(attributes)) + b"".join(_text(key) + _text(value) for key, value in attributes.items())
    return out


# ---- LightGBM


def lightgbm_tree(index: int = 0, **over: str) -> str:
    """Two splits and three leaves; `over` replaces the values of lines."""
    lines = {
        "num_leaves": "3",
        "num_cat": "0",
        "split_feature": "1 0",
        "split_gain": "1 0.5",
        "threshold": "0.5 1.5",
        "decision_type": "2 2",
        "left_child": "1 -1",
        "right_child": "-2 -3",
        "leaf_value": "0.1 -0.1 0.2",
        "shrinkage": "1",
        **over,
    }
    return f"Tree={index}\n" + "".join(f"{name}={value}\n" for name, value in lines.items()) + "\n\n"


def lightgbm(*trees: str, sizes: str | None = None, parameters: str = "[boosting: gbdt]", **over: str) -> bytes:
    """A whole model; `over` replaces the values of header lines."""
    made = list(trees or [lightgbm_tree()])
    header = {
        "version": "v4",
        "num_class": "1",
        "num_tree_per_iteration": "1",
        "label_index": "0",
        "max_feature_idx": "3",
        "objective": "regression",
        "feature_names": "a b c d",
        "feature_infos": "[0:1] [0:1] [0:1] none",
        "tree_sizes": " ".join(str(len(tree.encode())) for tree in made) if sizes is None else sizes,
        **over,
    }
    text = "tree\n" + "".join(f"{name}={value}\n" for name, value in header.items()) + "\n" + "".join(made)
    tail = f"feature_importances:\nb=1\n\nparameters:\n{parameters}\nend of parameters\n\npandas_categorical:null\n"
    return f"{text}end of trees\n\n{tail}".encode()


# ---- CatBoost


class _Flat:
    """A flatbuffer, written from its end to its beginning, as the real ones are."""

    def __init__(self) -> None:
        self.data = b""

    def put(self, raw: bytes) -> int:
        """Put bytes in front; returns how far from the end they begin."""
        self.data = raw + bytes(-(len(raw) + len(self.data)) % 4) + self.data if raw else self.data
        return len(self.data)

    def vector(self, raw: bytes, count: int) -> int:
        return self.put(struct.pack("<I", count) + raw)

    def text(self, text: str) -> int:
        return self.vector(text.encode() + b"\0", len(text.encode()))

    def offsets(self, targets: Sequence[int]) -> int:
        start = len(self.data) + 4 + 4 * len(targets)
        raw = b"".join(struct.pack("<I", start - 4 - 4 * index - target) for index, target in enumerate(targets))
        return self.vector(raw, len(targets))

    def table(self, fields: Sequence[int | None]) -> int:
        """A table of offsets; None leaves a field out."""
        held = [target for target in fields if target is not None]
        end = len(self.data) + 4 * len(held)
        body = b"".join(struct.pack("<I", end - 4 * index - target) for index, target in enumerate(held))
        self.data = body + self.data
        places, number = [], 0
        for target in fields:
            number += target is not None
            places.append(4 * number if target is not None else 0)
        vtable = struct.pack(f"<2H{len(fields)}H", 4 + 2 * len(fields), 4 + 4 * len(held), *places)
        vtable += bytes(-len(vtable) % 4)
        self.data = vtable + struct.pack("<i", len(vtable)) + self.data
        return len(self.data) - len(vtable)


def catboost(
    *,
    splits: Sequence[int] = (0, 1),
    sizes: Sequence[int] = (2,),
    starts: Sequence[int] = (0,),
    info: Mapping[str, str] | None = None,
    parts: Sequence[str] = (),
    version: str = "FlabuffersModel_v1",
    length: int | None = None,
    root: int | None = None,
    behind: bytes = b"",
) -> bytes:
    """A `.cbm` file; `length` and `root` are the core's length and first offset as stated."""
    flat = _Flat()
    named = [flat.text(part) for part in parts]
    listed = flat.offsets(named) if parts else None
    pairs = [flat.table([flat.text(key), flat.text(value)]) for key, value in (info or {"params": "{}"}).items()]
    infos = flat.offsets(pairs)
    vectors = [flat.vector(struct.pack(f"<{len(numbers)}i", *numbers), len(numbers)) for numbers in (splits, sizes, starts)]
    trees = flat.table([None, *vectors])
    core = flat.table([flat.text(version), trees, infos, listed])
    buffer = struct.pack("<I", len(flat.data) + 4 - core if root is None else root) + flat.data
    return b"CBM1" + struct.pack("<I", len(buffer) if length is None else length) + buffer + behind


def catboost_json(**over: Any) -> bytes:
    """A model as JSON: one tree of one split."""
    plain = {
        "features_info": {"float_features": [{"borders": [0.5], "feature_index": 0, "flat_feature_index": 0, "has_nans": False}]},
        "model_info": {"catboost_version_info": "1.2.10", "params": {"loss_function": {"type": "RMSE"}}},
        "oblivious_trees": [{"leaf_values": [0.1, -0.1], "leaf_weights": [1, 1], "splits": [{"split_index": 0}]}],
        "scale_and_bias": [1, [0]],
    }
    return json.dumps({**plain, **over}).encode()


# ---- PMML


def pmml(body: str = "", *, before: str = '<?xml version="1.0" encoding="UTF-8"?>', space: str = "http://www.dmg.org/PMML-4_4") -> bytes:
    """A document with a regression model and `body` behind its dictionary; `before` stands in front of the root."""
    return f"""{before}
<PMML xmlns="{space}" version="4.4">
<Header><Application name="x" version="1"/><Timestamp>2026-01-01T00:00:00Z</Timestamp></Header>
<DataDictionary><DataField name="a" optype="continuous" dataType="double"/></DataDictionary>
{body}
<RegressionModel functionName="regression"><MiningSchema><MiningField name="a"/></MiningSchema>
<RegressionTable intercept="1"><NumericPredictor name="a" coefficient="2"/></RegressionTable></RegressionModel>
</PMML>
""".encode()
