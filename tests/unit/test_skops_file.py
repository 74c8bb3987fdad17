"""skops files: what each kind of node may name, where it stands, and what contradicts itself."""

from __future__ import annotations

import io
import json
import warnings
from typing import Any

import pytest

import safeload
from safeload.errors import UnsupportedError
from safeload.findings import Level, Outcome, Report
from tests.forge_skops import array_file, estimator, node, skops, skops_of_schema, text
from tests.forge_zip import Part, forge

Node = dict[str, Any]
STREAM = b"cos\nsystem\n(S'true'\ntR."


def scanned(data: bytes) -> Report:
    report = safeload.scan(data, policy={}, lock=False)
    assert report.format == "skops"
    return report


def rules(data: bytes) -> dict[str, Level]:
    return {found.rule: found.level for found in scanned(data).findings if found.level is not Level.NOTE}


def array(file: str = "1.npy", name: str = "numpy.ndarray") -> Node:
    return node("NdArrayNode", name, type="numpy", file=file)


BENIGN = {
    "plain values": estimator(a=text(1), b=text(None), c=text("x")),
    "an array": estimator(a=array()),
    "a scalar": estimator(a=array(name="numpy.float64")),
    "an object array": estimator(a=node("NdArrayNode", "numpy.ndarray", type="json", content=[], shape=text(0))),
    "a ufunc": estimator(f=node("FunctionNode", "numpy.log1p")),
    "a ufunc as older versions name it": estimator(f=node("FunctionNode", "numpy.core._multiarray_umath.log1p")),
    "a loss of older versions": estimator(
        f=node("SGDNode", "sklearn.linear_model._sgd_fast.Hinge", content=text({}), __reduce__={"args": text([])})
    ),
    "a score function": estimator(f=node("FunctionNode", "sklearn.feature_selection._univariate_selection.f_classif")),
    "a dtype": estimator(d=node("DTypeNode", "numpy.dtype", content=array())),
    "an ordered dict": estimator(d=node("DictNode", "collections.OrderedDict", content={}, key_types=text([]))),
    "a bunch": estimator(d=node("DictNode", "sklearn.utils._bunch.Bunch", content={}, key_types=text([]))),
    "a tree": estimator(t=node("TreeNode", "sklearn.tree._tree.Tree", content=text({}), __reduce__={"args": text([])})),
    "a random state": estimator(r=node("RandomStateNode", "numpy.random.mtrand.RandomState", content=text({}))),
    "a generator": estimator(
        r=node(
            "RandomGeneratorNode",
            "numpy.random._generator.Generator",
            content={"bit_generator": node("DictNode", "builtins.dict", content={"bit_generator": text("PCG64")}), "seed_seq": text({})},
        )
    ),
    "an object twice": estimator(a={**text(1), "__id__": 7}, b={**text(1), "__id__": 7}),
    "a reference": estimator(a={"__loader__": "CachedNode", "__module__": None, "__class__": None, "__id__": 7}),
}


@pytest.mark.parametrize("root", BENIGN.values(), ids=BENIGN)
def test_what_scikit_learn_is_made_of_is_allowed(root: Node) -> None:
    report = scanned(skops(root, {"1.npy": array_file()}))
    assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons
    assert report.findings == ()
    assert report.metadata["protocol"] == "2"


DANGEROUS = {
    "a function": node("FunctionNode", "os.system"),
    "a function of protocol 0": node("FunctionNode", "builtins.function", content={"module_path": "os", "function": "system"}),
    "a type": node("TypeNode", "builtins.eval"),
    "what a list is made with": node("ListNode", "subprocess.Popen", content=[text("true")]),
    "what a dict is made with": node("DictNode", "code.interact", content={}, key_types=text([])),
    "what keys are made with": node(
        "DictNode",
        "builtins.dict",
        content={"true": text(1)},
        key_types=node("ListNode", "builtins.list", content=[node("TypeNode", "os.system")]),
    ),
    "what an array is made with": node("NdArrayNode", "os.system", type="numpy", file="1.npy"),
    "a constructor": node("ConstructorFromReduceNode", "subprocess.Popen", content=node("TupleNode", "builtins.tuple", content=[])),
    "a loss": node("LossNode", "os.system", content=text({}), __reduce__={"args": text(["true"])}),
    "an attribute getter": node("OperatorFuncNode", "operator.attrgetter", attrs=text([])),
    "a method that leads to the machinery": node(
        "MethodNode", "builtins.list", content={"func": "__reduce_ex__", "obj": node("ListNode", "builtins.list", content=[])}
    ),
    "a default factory": node(
        "DefaultDictNode", "collections.defaultdict", content={"main": text({}), "default_factory": node("FunctionNode", "os.getcwd")}
    ),
    "a partial's function": node("PartialNode", "functools.partial", content={"func": node("FunctionNode", "os.system")}),
    "a place where no version looks": {**estimator(), "spare": {"deep": [[node("FunctionNode", "os.system")]]}},
    "a file that is loaded by scikit-learn": node("FunctionNode", "sklearn.datasets._base.load_files"),
}


@pytest.mark.parametrize("root", DANGEROUS.values(), ids=DANGEROUS)
def test_what_is_known_to_be_dangerous_is_an_error_wherever_it_stands(root: Node) -> None:
    """The loader's own bypasses were nodes that it looked at in one place and used in another."""
    assert rules(skops(estimator(a=root), {"1.npy": array_file()}))["SL841"] is Level.ERROR


CONFUSED = {
    # CVE-2025-54413
    "a method of another object": node(
        "MethodNode", "sklearn.svm._classes.SVC", content={"func": "x", "obj": node("ObjectNode", "my.Model", content=text({}))}
    ),
    # CVE-2025-54412
    "an operator under another name": node("OperatorFuncNode", "sklearn.linear_model.call", attrs=text([])),
    "bytes that call themselves text": node("BytesNode", "builtins.str", file="1.npy"),
    "a bit generator that is none": node(
        "RandomGeneratorNode",
        "numpy.random._generator.Generator",
        content={"bit_generator": node("DictNode", "builtins.dict", content={"bit_generator": text("seed")}), "seed_seq": text({})},
    ),
    "a bit generator of protocol 0": node(
        "RandomGeneratorNode", "numpy.random._generator.Generator", content={"bit_generator": {"bit_generator": "set_state"}}
    ),
    "two objects with one identity": estimator(a={**text(1), "__id__": 7}, b={**node("TypeNode", "builtins.int"), "__id__": 7}),
}


@pytest.mark.parametrize("root", CONFUSED.values(), ids=CONFUSED)
def test_a_node_that_contradicts_itself_is_an_error(root: Node) -> None:
    assert rules(skops(estimator(a=root), {"1.npy": array_file()}))["SL843"] is Level.ERROR


def test_a_key_that_stands_twice_is_an_error() -> None:
    """Python takes the last, other readers the first."""
    schema = json.dumps({**estimator(), "protocol": 2}).replace('"protocol": 2', '"__class__": "SVC", "protocol": 2')
    assert rules(skops_of_schema(schema.encode()))["SL843"] is Level.ERROR


UNKNOWN = {
    "a class": node("ObjectNode", "my_package.Model", content=text({})),
    "a class of another library": node("ObjectNode", "xgboost.sklearn.XGBClassifier", content=text({})),
    "a function": node("FunctionNode", "my_package.score"),
    "a function of numpy": node("FunctionNode", "numpy.apply_along_axis"),
    "a bound method": node(
        "MethodNode",
        "sklearn.svm._classes.SVC",
        content={"func": "predict", "obj": node("ObjectNode", "sklearn.svm._classes.SVC", content=text({}))},
    ),
    "a partial": node("PartialNode", "functools.partial", content={"func": node("FunctionNode", "numpy.add")}),
    "an item getter": node("OperatorFuncNode", "operator.itemgetter", attrs=text([])),
    "a test helper": node("ObjectNode", "sklearn.externals._packaging.Version", content=text({})),
}


@pytest.mark.parametrize("root", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_a_warning(root: Node) -> None:
    """Refused, and not called dangerous: nobody shall learn to ignore errors."""
    assert rules(skops(estimator(a=root))) == {"SL842": Level.WARNING}


ODD = {
    "an unknown kind of node": skops(estimator(a=node("ShellNode", "builtins.str"))),
    "a member that is not there": skops(estimator(a=array("2.npy"))),
    "a member of another archive": skops(estimator(a=array("../1.npy"))),
    "no class": skops(estimator(a={"__loader__": "ObjectNode", "__module__": "x"})),
    "a newer protocol": skops(estimator(), protocol=3),
    "a protocol that is a bool": skops(estimator(), protocol=True),
    "no protocol": skops_of_schema(json.dumps(estimator()).encode()),
    "not JSON": skops_of_schema(b'{"__loader__": "DictNode", '),
    "nested too deep": skops_of_schema(b'{"__loader__": ' + b"[" * 200_000),
    "a number without end": skops_of_schema(b'{"__loader__": ' + b"9" * 100_000 + b"}"),
    "a list": skops_of_schema(b'[{"__loader__": "DictNode"}]'),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_not_as_skops_writes_it_is_a_warning(data: bytes) -> None:
    found = rules(data)
    assert found["SL844"] is Level.WARNING
    assert "SL841" not in found
    assert scanned(data).decision.outcome is not Outcome.ALLOWED


def test_members_are_read_as_files_of_their_own() -> None:
    report = scanned(skops(estimator(), {"1.npy": array_file(), "spare.bin": STREAM}))
    assert [(found.rule, found.member) for found in report.findings if found.level is Level.ERROR] == [("SL101", "spare.bin")]


def test_a_deflated_schema_is_unpacked_within_bounds() -> None:
    schema = json.dumps({**estimator(f=node("FunctionNode", "os.system")), "protocol": 2, "pad": " " * 100_000}).encode()
    assert rules(forge(Part("schema.json", schema, method=8)))["SL841"] is Level.ERROR


def test_the_mark_may_stand_anywhere_and_be_escaped() -> None:
    """Claimed by what the JSON says, not by how its first bytes look."""
    plain = json.dumps({"pad": "x" * 100_000, **node("FunctionNode", "os.system"), "protocol": 2})
    assert rules(skops_of_schema(plain.replace("__loader__", "\\u005f_loader__").encode()))["SL841"] is Level.ERROR


def test_an_archive_whose_schema_is_of_something_else_is_a_plain_zip() -> None:
    report = safeload.scan(skops_of_schema(b'{"type": "object", "properties": {}}'), policy={}, lock=False)
    assert (report.format, report.decision.outcome) == ("zip", Outcome.ALLOWED)


def test_many_nodes_are_told_once() -> None:
    """A report of a million equal lines helps nobody."""
    many = node("ListNode", "builtins.list", content=[node("TypeNode", f"a{number % 3}.B") for number in range(5_000)])
    assert len(scanned(skops(many)).findings) == 3


def test_a_load_says_what_can_be_done() -> None:
    with pytest.raises(UnsupportedError, match="scanned, locked and verified"):
        safeload.load(io.BytesIO(skops(estimator())), policy={"unpinned": "allow"}, lock=False)


@pytest.mark.filterwarnings("ignore")
def test_what_skops_itself_writes_is_allowed() -> None:
    """Every family of estimators, as the library stores it today."""
    sio = pytest.importorskip("skops.io", reason="its writer is not installed")
    np = pytest.importorskip("numpy")

    def part(module: str, name: str, *args: Any, **named: Any) -> Any:
        return getattr(pytest.importorskip(f"sklearn.{module}"), name)(*args, **named)

    def pipeline(*steps: Any) -> Any:
        return part("pipeline", "make_pipeline", *steps)

    def linear(name: str) -> Any:
        return part("linear_model", name)

    x, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaled = part("preprocessing", "StandardScaler"), part("preprocessing", "FunctionTransformer", np.abs)
        fitted = [
            pipeline(*scaled, linear("LogisticRegression")).fit(x, y),
            part("ensemble", "RandomForestClassifier", 2).fit(x, y),
            part("ensemble", "GradientBoostingClassifier", n_estimators=2, random_state=np.random.RandomState(0)).fit(x, y),
            part("neighbors", "KNeighborsClassifier", algorithm="kd_tree").fit(x, y),
            part("ensemble", "StackingClassifier", [("a", linear("SGDClassifier")), ("b", linear("RidgeClassifier"))], cv=2).fit(x, y),
            pipeline(part("feature_extraction.text", "TfidfVectorizer"), linear("SGDClassifier")).fit(["a bb", "bb cc", "d"], [0, 1, 0]),
        ]
    for model in fitted:
        report = scanned(sio.dumps(model))
        assert report.decision.outcome is Outcome.ALLOWED, (model, report.decision.reasons)
