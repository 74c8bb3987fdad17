"""`safeload.plain`: configuration objects of well-known libraries as plain data."""

from __future__ import annotations

import argparse
import collections
import enum
import io
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

import safeload
from safeload.profiles import PROFILES
from safeload.program import Inert
from safeload.source import Source
from tests.watch import nothing_runs


class _Classes:
    """Stand-ins for other people's classes: same name, same pickled form, found by pickle while a test saves."""

    def __init__(self) -> None:
        self.modules: dict[str, types.ModuleType] = {}

    def make(self, name: str, *bases: type, **body: Any) -> Any:
        module, _, attribute = name.rpartition(".")
        known = getattr(sys.modules.get(module), attribute, None)
        return known or self._add(module, attribute, type(attribute, bases, {"__module__": module, **body}))

    def member(self, name: str, value: Any) -> Any:
        module, _, attribute = name.rpartition(".")
        return self._add(module, attribute, enum.Enum(attribute, {"MEMBER": value}, module=module))(value)

    def _add(self, module: str, attribute: str, made: Any) -> Any:
        for end in range(1, module.count(".") + 2):
            part = ".".join(module.split(".")[:end])
            if part not in sys.modules:
                self.modules[part] = sys.modules[part] = types.ModuleType(part)
        setattr(sys.modules[module], attribute, made)
        return made

    def instance(self, name: str, **attributes: Any) -> Any:
        made = self.make(name)()
        made.__dict__.update(attributes)
        return made


@pytest.fixture
def classes() -> Iterator[_Classes]:
    made = _Classes()
    yield made
    for name in made.modules:
        sys.modules.pop(name, None)


def inert(value: Any, protocol: int = 2) -> Any:
    """Save with pickle and build without torch, every unknown global as an inert node."""
    from safeload.formats import read
    from safeload.source import Reading
    from safeload.walk.model import Model, build

    with Source.open(io.BytesIO(pickle.dumps(value, protocol))) as source:
        contents = read(source, Reading())
        assert contents is not None
        main = contents.main
        assert main is not None
        return build(main.walk, Model(main.walk, unknown="inert"))


PROTOCOLS = pytest.mark.parametrize("protocol", range(6))


@PROTOCOLS
def test_namespaces_are_their_attributes(protocol: int) -> None:
    """What a command line gave, in fairseq, RVC and most training scripts."""
    value = {"args": argparse.Namespace(lr=0.1, layers=[1, 2]), "more": types.SimpleNamespace(a={"b": None})}
    assert safeload.plain(inert(value, protocol)) == {"args": {"lr": 0.1, "layers": [1, 2]}, "more": {"a": {"b": None}}}


@PROTOCOLS
def test_an_empty_namespace_is_an_empty_dict(protocol: int) -> None:
    """Pickle leaves the state out when there is none."""
    assert safeload.plain(inert(argparse.Namespace(), protocol)) == {}


@PROTOCOLS
def test_dict_subclasses_are_their_items(protocol: int, classes: _Classes) -> None:
    """Lightning's hyper-parameters, yacs, easydict and their kind."""
    for name in (
        "pytorch_lightning.utilities.parsing.AttributeDict", "lightning.fabric.utilities.data.AttributeDict", "yacs.config.CfgNode",
        "easydict.EasyDict", "addict.addict.Dict", "mmengine.config.config.ConfigDict", "munch.Munch",
    ):  # fmt: skip
        made = classes.make(name, dict)
        value = made(lr=0.1, inner=made(a=1))
        value.__dict__["__immutable__"] = False
        assert safeload.plain(inert(value, protocol)) == {"lr": 0.1, "inner": {"a": 1}}


@PROTOCOLS
def test_what_mmengine_accelerate_and_diffusers_keep_beside_weights(protocol: int, classes: _Classes) -> None:
    """A configuration whose state is a tuple, a history of losses, the state of the processes, a scheduler's settings."""
    inner = classes.make("mmengine.config.config.ConfigDict", dict)(lr=0.1)
    state = classes.make("mmengine.config.config.Config", __getstate__=lambda self: (inner, None, "", {}, True, set()))
    history = classes.instance("mmengine.logging.history_buffer.HistoryBuffer", max_length=10)
    kind = classes.member("accelerate.utils.dataclasses.DistributedType", "NO")
    process = classes.instance("accelerate.state.PartialState", num_processes=1, distributed_type=kind)
    frozen = classes.make("diffusers.configuration_utils.FrozenDict", collections.OrderedDict)
    found = safeload.plain(inert([state(), history, process, frozen(beta=0.5)], protocol))
    assert found[:2] == [{"lr": 0.1}, {"max_length": 10}]
    assert found[2] == {"num_processes": 1, "distributed_type": "NO"}
    assert found[3] == {"beta": 0.5}


@PROTOCOLS
def test_omegaconf_containers_are_their_content(protocol: int, classes: _Classes) -> None:
    """Nodes know their parents, so all of it is circular; only the content counts. Interpolations stay text."""

    def node(kind: str, value: Any, parent: Any) -> Any:
        return classes.instance(f"omegaconf.nodes.{kind}", _metadata={"optional": True}, _parent=parent, _val=value)

    top = classes.instance("omegaconf.dictconfig.DictConfig", _parent=None)
    items = classes.instance("omegaconf.listconfig.ListConfig", _parent=top)
    items.__dict__["_content"] = [node("IntegerNode", 1, items), node("AnyNode", "${lr}", items)]
    missing = classes.instance("omegaconf.dictconfig.DictConfig", _parent=top, _content="???")
    top.__dict__["_content"] = {
        "lr": node("FloatNode", 0.1, top), "items": items, "later": missing, "none": node("AnyNode", None, top),
        "colour": node("EnumNode", classes.member("program.Colour", "r"), top),
    }  # fmt: skip
    wanted = {"lr": 0.1, "items": [1, "${lr}"], "later": "???", "none": None, "colour": "r"}
    assert safeload.plain(inert({"cfg": top}, protocol)) == {"cfg": wanted}


def test_fairseq_dictionaries_keep_their_symbols(classes: _Classes) -> None:
    """Tokenizers of speech and translation models: symbols, counts, indices."""
    value = classes.instance("fairseq.data.dictionary.Dictionary", symbols=["<s>", "a"], count=[1, 2], indices={"<s>": 0, "a": 1})
    assert safeload.plain(inert(value))["symbols"] == ["<s>", "a"]


def test_transformers_configurations(classes: _Classes) -> None:
    """Attributes as a dict; enum members inside as their values."""
    strategy = classes.member("transformers.trainer_utils.IntervalStrategy", "steps")
    config = classes.instance("transformers.models.bert.configuration_bert.BertConfig", hidden_size=8, id2label={0: "x"})
    arguments = classes.instance("transformers.training_args.TrainingArguments", lr=0.1, strategy=strategy, config=config)
    assert safeload.plain(inert(arguments)) == {"lr": 0.1, "strategy": "steps", "config": {"hidden_size": 8, "id2label": {0: "x"}}}


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - what checkpoints hold


@PROTOCOLS
def test_named_tuples_are_tuples(protocol: int) -> None:
    """The class is a matter of the program; the values are in order."""
    assert safeload.plain(inert({"p": Point(1, [2])}, protocol)) == {"p": (1, [2])}


class Unknown:
    def __init__(self) -> None:
        self.cfg = argparse.Namespace(a=1)


def test_what_is_not_known_stays_and_what_is_in_it_is_plain() -> None:
    """Nobody is told that an arbitrary object was a dict, unless the caller says so."""
    found = safeload.plain(inert(Unknown()))
    assert type(found) is Inert
    assert found.global_name == f"{__name__}.Unknown"
    assert found.state == {"cfg": {"a": 1}}
    assert safeload.plain(inert(Unknown()), also=[f"{__name__}.Unknown"]) == {"cfg": {"a": 1}}


def test_dangerous_names_never_become_plain() -> None:
    """A call that would have started a process is not tidied away, whatever the caller names."""
    node = Inert("subprocess.Popen", args=("sh", "-c"), via="NEWOBJ")
    assert safeload.plain([node], also=["subprocess.Popen"]) == [node]


def test_the_original_is_not_changed_and_leaves_are_the_same() -> None:
    """Tensors are not copied; sharing and order are kept."""
    leaf = object()
    shared = [leaf]
    value = {"a": Inert("argparse.Namespace", args=(), state={"x": shared}, via="NEWOBJ"), "b": (shared, leaf)}
    before = repr(value)
    found = safeload.plain(value)
    assert repr(value) == before
    assert found["a"]["x"] is found["b"][0]
    assert found["b"][1] is leaf
    assert list(found) == ["a", "b"]


def test_an_ordered_dict_keeps_its_metadata() -> None:
    """`state_dict()._metadata` says which versions the modules had."""
    weights: Any = collections.OrderedDict(w=1)
    weights._metadata = {"": {"version": 1}}
    found = safeload.plain({"state_dict": weights})["state_dict"]
    assert type(found) is collections.OrderedDict
    assert vars(found)["_metadata"] == {"": {"version": 1}}


def test_circles_close_again() -> None:
    """Also those that lead through tuples in both directions."""
    top: list[Any] = []
    outer = (top,)
    inner = (outer, Inert("argparse.Namespace", args=(), state={"up": top}, via="NEWOBJ"))
    top.append(inner)
    found = safeload.plain(outer)
    assert found[0][0][0] is found
    assert found[0][0][1]["up"] is found[0]


def test_a_wrapper_of_itself_stays_inert() -> None:
    """A forged value node that is its own value has no data in it."""
    node = Inert("omegaconf.nodes.AnyNode", args=(), via="NEWOBJ")
    node.state = {"_val": node}
    assert type(safeload.plain({"a": node})["a"]) is Inert


def test_keys_that_would_become_one_stay_apart() -> None:
    """An enum member and its value may both be keys."""
    member = Inert("transformers.trainer_utils.SchedulerType", args=("linear",), via="REDUCE")
    assert list(safeload.plain({member: 1})) == ["linear"]
    assert list(safeload.plain({member: 1, "linear": 2})) == [member, "linear"]


def test_depth_is_no_problem() -> None:
    """Nothing recurses."""
    value: Any = 1
    for _ in range(20_000):
        value = Inert("argparse.Namespace", args=(), state={"n": (value,)}, via="NEWOBJ")
    found = safeload.plain(value)
    for _ in range(20_000):
        found = found["n"][0]
    assert found == 1


def test_nothing_is_imported() -> None:
    """The names are compared, never looked up."""
    value = inert({"ns": argparse.Namespace(a=1)})
    safeload.plain(value)
    with nothing_runs():
        safeload.plain(value)


def test_every_profile_says_what_it_gives() -> None:
    """The table is documentation, too."""
    assert all(what and pattern.pattern for pattern, _, what in PROFILES)
