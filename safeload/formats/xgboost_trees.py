"""The indices of an XGBoost model: children, features, categories and counts, compared with what the model has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from safeload.findings import escape
from safeload.formats.container import Notes
from safeload.formats.json_tree import whole

__all__ = ["check_children", "check_model"]

_MOST: Final = 1 << 31
_BOOSTERS: Final = frozenset(("gbtree", "gblinear", "dart"))
# Arrays with one entry for each node, as far as a version writes them.
_PER_NODE: Final = ("left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left", "split_type")


def check_model(root: Any, notes: Notes) -> dict[str, str]:
    """Check a model that was parsed from JSON or UBJSON.

    Args:
        root: The document.
        notes: Takes findings: SL851 for what leaves the model, SL855 for what XGBoost does not write.

    Returns:
        Small facts: version, objective, booster, trees, features.
    """
    learner = root.get("learner") if isinstance(root, dict) else None
    if not isinstance(learner, dict):
        notes.add("SL855", "the model has no learner")
        return {}
    facts = _facts(root, learner)
    booster = learner.get("gradient_booster")
    if booster is None and "learner_train_param" in learner:
        return facts  # a configuration alone
    if not isinstance(booster, dict):
        notes.add("SL855", "the learner has no booster")
        return facts
    name = booster.get("name")
    if not isinstance(name, str) or name not in _BOOSTERS:
        notes.add("SL855", f"the booster is {escape(repr(name), 40)}; known are {', '.join(sorted(_BOOSTERS))}")
        return facts
    facts["booster"] = name
    inner = booster.get("gbtree") if name == "dart" else booster
    model = inner.get("model") if isinstance(inner, dict) else None
    params = learner.get("learner_model_param")
    features = whole(params.get("num_feature"), 0, _MOST) if isinstance(params, dict) else None
    if name == "gblinear":
        _linear(model, params, features, notes)
    elif isinstance(model, dict):
        facts["trees"] = str(_trees(model, features, notes))
    elif not (isinstance(inner, dict) and "gbtree_train_param" in inner):
        notes.add("SL855", "the booster has no model")
    return facts


def _facts(root: dict[str, Any], learner: dict[str, Any]) -> dict[str, str]:
    facts: dict[str, str] = {}
    version, objective, params = root.get("version"), learner.get("objective"), learner.get("learner_model_param")
    if isinstance(version, Sequence) and not isinstance(version, str):
        facts["version"] = ".".join(str(part)[:8] for part in version[:4] if isinstance(part, int))
    if isinstance(objective, dict) and isinstance(objective.get("name"), str):
        facts["objective"] = escape(objective["name"], 60)
    if isinstance(params, dict) and isinstance(params.get("num_feature"), str):
        facts["features"] = escape(params["num_feature"], 20)
    return facts


def _linear(model: Any, params: Any, features: int | None, notes: Notes) -> None:
    weights = model.get("weights") if isinstance(model, dict) else None
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        notes.add("SL855", "the linear model has no weights")
        return
    if not isinstance(params, dict):
        notes.add("SL855", "the linear model has no parameters")
        return
    groups = max(1, whole(params.get("num_class"), 0, _MOST) or 1, whole(params.get("num_target"), 0, _MOST) or 1)
    if features is not None and len(weights) != (features + 1) * groups:
        notes.add("SL851", f"{len(weights)} weights for {features} features and {groups} outputs")


def _trees(model: dict[str, Any], features: int | None, notes: Notes) -> int:
    """Check the trees and what is said of them; returns how many there are."""
    trees, info, params = model.get("trees"), model.get("tree_info"), model.get("gbtree_model_param")
    if not isinstance(trees, list) or not isinstance(params, dict):
        notes.add("SL855", "the model has no list of trees, or no parameters")
        return 0
    stated = whole(params.get("num_trees"), 0, _MOST)
    if stated != len(trees) or (info is not None and (not _is_list(info) or len(info) != len(trees))):
        notes.add("SL851", f"{escape(str(params.get('num_trees')), 20)} trees are stated, and there are {len(trees)}")
    starts = model.get("iteration_indptr")
    if starts is not None:
        numbers = [whole(number, 0, len(trees)) for number in starts] if _is_list(starts) else [None]
        if any(number is None for number in numbers) or numbers != sorted(numbers, key=lambda number: number or 0):
            notes.add("SL851", "the iterations begin at trees that are not there")
    for index, tree in enumerate(trees):
        _tree(tree, f"tree {index}", features, notes)
    return len(trees)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _tree(tree: Any, shown: str, features: int | None, notes: Notes) -> None:
    params = tree.get("tree_param") if isinstance(tree, dict) else None
    count = whole(params.get("num_nodes"), 1, _MOST) if isinstance(params, dict) else None
    if not isinstance(tree, dict) or not isinstance(params, dict) or count is None:
        notes.add("SL855", f"{shown} does not say how many nodes it has")
        return
    for name in _PER_NODE:
        held: Any = tree.get(name)
        if held is None and name in ("default_left", "split_type"):
            continue
        if not _is_list(held) or len(held) != count:
            notes.add("SL851", f"{shown} has {count} nodes, and {len(held) if _is_list(held) else 'no'} {name}")
            return
    left, right, parents = tree["left_children"], tree["right_children"], tree["parents"]
    try:
        width = whole(params.get("size_leaf_vector"), 0, _MOST) or 1
        problem = _leaf_vectors(tree, width) if width > 1 else None
        if width > 1:  # where a leaf has several values, its right child is their number
            right = [-1 if one == -1 else two for one, two in zip(left, right, strict=True)]
        problem = problem or check_children(left, right, count)
        inner = [number for number, child in zip(tree["split_indices"], left, strict=True) if child != -1]
        if problem is None and inner and (min(inner) < 0 or (features and max(inner) >= features)):
            problem = f"splits by feature {max(inner)} of {features}"
        if problem is None and max(parents) > _MOST:
            problem = "has a parent that is not there"
    except TypeError:
        problem = "has an index that is no number"
    problem = problem or _categories(tree)
    if problem is not None:
        notes.add("SL851", f"{shown} {problem}")


def _leaf_vectors(tree: dict[str, Any], width: int) -> str | None:
    """What is wrong with the leaves of a tree with several outputs, or None."""
    weights = tree.get("leaf_weights")
    if weights is not None and not _is_list(weights):
        return "has leaves that are no list"
    leaves = [two for one, two in zip(tree["left_children"], tree["right_children"], strict=True) if one == -1 and two != -1]
    held = len(weights) // width if weights is not None else 0
    if leaves and (min(leaves) < 0 or max(leaves) >= held):
        return f"has {held} leaves of {width} values, and names leaf {max(leaves)}"
    return None


def check_children(left: Sequence[int], right: Sequence[int], count: int) -> str | None:
    """Say what is wrong with the children of a tree's nodes: every node has one parent at most, the root none.

    So no walk from the root can leave the tree, or go round in it for ever.

    Args:
        left: The left child of each node, -1 for none.
        right: Likewise.
        count: Nodes.

    Raises:
        TypeError: an index is no number.
    """
    lows, highs = (min(left), min(right)), (max(left), max(right))
    low, high = min(lows), max(highs)
    if low < -1 or high >= count:
        return f"has {count} nodes, and one of its children is node {low if low < -1 else high}"
    children = [child for side in (left, right) for child in side if child != -1]
    if any(type(child) is not int for child in children):
        return "has an index that is no whole number"
    if len(set(children)) != len(children) or 0 in children:
        return "has a node with two parents: a walk through it may never end"
    if sum(1 for one, two in zip(left, right, strict=True) if (one == -1) != (two == -1)):
        return "has a node with one child"
    return None


def _categories(tree: dict[str, Any]) -> str | None:
    """What is wrong with the categories of a tree: a segment of them that reaches too far."""
    values, nodes = tree.get("categories"), tree.get("categories_nodes")
    starts, sizes = tree.get("categories_segments"), tree.get("categories_sizes")
    if values is None or not (_is_list(values) and _is_list(nodes) and _is_list(starts) and _is_list(sizes)):
        return None if values is None else "has categories that are no lists"
    assert nodes is not None
    assert starts is not None
    assert sizes is not None
    if not len(nodes) == len(starts) == len(sizes):
        return "has categories whose parts differ in length"
    try:
        bad = any(start < 0 or size < 0 or start + size > len(values) for start, size in zip(starts, sizes, strict=True))
    except TypeError:
        return "has a category that is no number"
    return "has a segment of categories that is not there" if bad else None
