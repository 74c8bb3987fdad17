"""Documents whose values were exchanged for others of any type: a reader says something about each, and raises about none.

Damage to bytes mostly breaks the syntax of JSON, UBJSON, YAML and msgpack; here the syntax stays and the types do not.
SAFELOAD_FUZZ sets how many documents are tried, a share of it.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from typing import Any, Final

import pytest

import safeload
from tests.forge_boosting import catboost_json, ubjson, xgboost, xgboost_json, xgboost_tree
from tests.forge_serving import mar, mlmodel
from tests.forge_skops import array_file, estimator, node, skops, text
from tests.forge_text_models import msgpack, object_array
from tests.watch import nothing_runs

COUNT: Final = int(os.environ.get("SAFELOAD_FUZZ", "4000")) // 40
VALUES: Final[list[Any]] = [
    None, 7, -1, 1.5, "x", "", [], {}, [None], True, 10**18, "os.system", {"a": 1}, [[]], "-1", "null", ["a", 1], 0,
    {"__loader__": "ListNode"}, {"__module__": "os", "__class__": ["system"], "__loader__": {}},
]  # fmt: skip

GENERATOR: Final = node(
    "RandomGeneratorNode",
    "numpy.random._generator.Generator",
    content={"bit_generator": node("DictNode", "builtins.dict", content={"bit_generator": text("PCG64")}), "seed_seq": text({})},
)
METHOD: Final = node("MethodNode", "a.B", content={"func": "x", "obj": node("ObjectNode", "a.B", content=text({}))})
LEAVES: Final = xgboost_tree(tree_param={"num_nodes": "3", "size_leaf_vector": "2"}, right_children=[2, 0, 1], leaf_weights=[0.5] * 4)
CATEGORIES: Final = xgboost_tree(categories=[1], categories_nodes=[0], categories_segments=[0], categories_sizes=[1])
FLAVORS: Final = {
    "python_function": {"loader_module": "mlflow.sklearn", "code": "code", "env": {"conda": "conda.yaml"}, "predict_fn": "predict"},
    "xgboost": {"model_class": "xgboost.core.Booster", "skops_trusted_types": ["a.b"], "data": "x"},
}
MODEL: Final = {"modelName": "m", "serializedFile": "model.pkl", "handler": "h.py:x", "extraFiles": "a,b", "modelFile": "x.py"}
CONFIGURATION: Final = {
    "a": {"_target_": "os.system", "_args_": [1]}, "target": "a.b.C", "params": {}, "loss_fn": "x.y", "trust_remote_code": "true",
    "dependencies": [{"pip": ["git+x"]}],
}  # fmt: skip


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


KINDS: Final[dict[str, tuple[list[Any], Callable[[Any], bytes]]]] = {
    "xgboost as JSON": ([xgboost(), xgboost(LEAVES, CATEGORIES), xgboost(booster="dart"), xgboost(booster="gblinear")], _json),
    "xgboost as UBJSON": ([xgboost(), xgboost(LEAVES, CATEGORIES)], ubjson),
    "catboost": ([json.loads(catboost_json())], _json),
    "skops": (
        [estimator(a=GENERATOR, b=METHOD, c=node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy"), d=text(1))],
        lambda value: skops(value, {"1.npy": array_file()}),
    ),
    "an MLmodel": ([{"flavors": FLAVORS, "mlflow_version": "3"}], _json),
    "a manifest": ([{"model": MODEL, "runtime": "python"}], lambda value: mar({"h.py": b"x = 1"}, manifest=_json(value))),
    "a configuration": ([CONFIGURATION], _json),
    "msgpack": ([{"a": [1, {"w": object_array(b"N.")}]}], msgpack),
}


def exchanged(rng: random.Random, value: Any) -> Any:
    """A copy in which some values are others, or gone."""
    made = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []
    todo = [made]
    while todo:
        item = todo.pop()
        if isinstance(item, (dict, list)):
            places += [(item, key) for key in (list(item) if isinstance(item, dict) else range(len(item)))]
            todo += list(item.values()) if isinstance(item, dict) else item
    for container, key in rng.sample(places, min(len(places), rng.choice([1, 1, 2, 4]))):
        if isinstance(container, dict) and rng.random() < 0.2:
            container.pop(key, None)
        else:
            container[key] = copy.deepcopy(rng.choice(VALUES))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_fuzz_exchanged_values_are_judged(kind: str) -> None:
    """No builtin exception, no import, no file, no process."""
    rng = random.Random(kind)
    documents, write = KINDS[kind]
    # Import late what is imported late: readers that look at such a file when its own does not want it any more.
    plain = (mlmodel(), xgboost_json(), mar(), b"{}", b'{"a": 1}', b"a: !x\n", b"N.", b'{"weight_map": 1}', b"\0", b"word\n", b"1 2\n")
    for made in (*plain, *map(write, documents), skops(estimator(f=node("FunctionNode", "os.system")))):
        safeload.scan(made, policy={}, lock=False)
    seen = set()
    for _ in range(COUNT):
        try:
            data = write(exchanged(rng, rng.choice(documents)))
        except (TypeError, AttributeError):
            continue  # what the format cannot say: a root that is no object, a key that is no text
        with nothing_runs():
            report = safeload.scan(data, policy={}, lock=False)
        assert report.decision.reasons != ("not decided",)
        seen.add(str(report.decision.outcome))
    assert "refused" in seen or kind == "msgpack"
