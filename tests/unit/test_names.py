"""What a global is known to do: gadgets are errors, ordinary classes never are, deceptive spellings are named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeload.findings import Level
from safeload.walk import names
from safeload.walk.names import CAPABILITIES, deception_level, deceptive, display, know, know_called, know_fetched

TABLE = Path(names.__file__).with_name("names.json")


def listed(name: str) -> list[str]:
    """The lines of a list beside this file."""
    text = (Path(__file__).parent / "data" / f"names_{name}.txt").read_text("ascii")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


ADVISORIES = listed("advisories")  # ids that start with GHSA or CVE are told at https://github.com/advisories
GADGETS = listed("gadgets")
ORDINARY = listed("ordinary")


def level(dotted: str) -> Level:
    """The level of a name written with dots, the last one before the attribute."""
    module, _, attribute = dotted.rpartition(".")
    return know(module, attribute).level


def test_gadgets_of_advisories_are_errors() -> None:
    """Each was published as something that a scanner did not know."""
    missed = [line for line in ADVISORIES if know(*line.split()[1:]).level is not Level.ERROR]
    assert not missed


@pytest.mark.parametrize("gadget", GADGETS)
def test_what_reaches_code_files_processes_or_network_is_an_error(gadget: str) -> None:
    """And it says by which of the known capabilities."""
    module, _, attribute = gadget.rpartition(".")
    found = know(module, attribute)
    assert (found.level, found.name) == (Level.ERROR, gadget)
    assert found.capability in CAPABILITIES
    assert found.reason


def test_ordinary_classes_are_never_errors() -> None:
    """A scanner that calls ordinary files dangerous is switched off."""
    assert len(set(ORDINARY)) > 300
    assert [name for name in ORDINARY if level(name) is not Level.WARNING] == []
    assert [name for name in ORDINARY if deceptive(*name.rsplit(".", 1))] == []


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("torch.nn.modules.linear.Linear", "a layer of a pickled module"),
        ("sklearn.ensemble._forest.RandomForestClassifier", "an ensemble of estimators"),
        ("argparse.Namespace", "command-line options"),
        ("omegaconf.dictconfig.DictConfig", "a configuration"),
        ("fairseq.data.dictionary.Dictionary", "vocabulary"),
        ("__main__.Net", "the script that saved the file"),
        ("functools.partial", "to be called later"),
        ("bisect.bisect_left", "standard library"),
    ],
)
def test_an_ordinary_global_says_what_it_is_for(name: str, purpose: str) -> None:
    """A person decides about a class better who knows why it is there."""
    found = know(*name.rsplit(".", 1))
    assert found.capability is None
    assert purpose in (found.reason or "")


def test_nothing_is_invented_about_an_unknown_package() -> None:
    assert know("nobody_knows_this", "Thing") == names.Knowledge("nobody_knows_this.Thing", Level.WARNING, None, None)


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("pathlib", "os.system"),
        ("collections", "_sys"),
        ("collections", "_sys.modules"),
        ("random", "_os.system"),
        ("logging", "os.system"),
        ("torch", "os.system"),
        ("torch", "serialization.pickle.loads"),
        ("torch", "_utils"),
        ("numpy", "__builtins__"),
        ("numpy", "__builtins__.eval"),
        ("numpy.size", "__globals__"),
        ("builtins", "eval.__call__"),
        ("builtins", "object.__subclasses__"),
        ("builtins", "str.format"),
        ("torch.nn.modules.module", "Module.__init__.__globals__"),
        ("dataclasses", "sys"),
        ("enum", "bltns.eval"),
        ("argparse", "_sys.exit"),
        ("torch.utils.data._utils.worker", "multiprocessing.Process"),
        ("sklearn.utils._testing", "check_output"),
        ("some.package", "subprocess.Popen"),
        ("some.package", "Popen"),
        ("some.package", "import_module"),
        ("some.package._vendor.requests", "get"),
        ("joblib.externals.cloudpickle.cloudpickle", "_make_function"),
        ("six.moves", "cPickle"),
        ("six.moves.builtins", "eval"),
        ("os.path", "os.system"),
        ("posixpath", "os"),
        ("torch._dynamo.guards.GuardBuilder", "get"),
        ("os", "no_such_function"),
        ("idlelib.no_such_module", "Thing"),
    ],
)
def test_a_name_is_followed_to_what_it_reaches(module: str, attribute: str) -> None:
    """Re-exports, dotted walks, vendored copies and submodules are as dangerous as what they lead to."""
    assert know(module, attribute).level is Level.ERROR


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os.path", "join"),
        ("posixpath", "basename"),
        ("datetime", "datetime.fromtimestamp"),
        ("builtins", "dict.fromkeys"),
        ("pkg.mod", "Outer.Inner"),
    ],
)
def test_dots_alone_are_no_danger(module: str, attribute: str) -> None:
    """Pickle spells nested classes and static methods with dots."""
    assert know(module, attribute).level is Level.WARNING
    assert deceptive(module, attribute) is None


def test_a_bound_method_is_told_from_a_way_into_the_machinery() -> None:
    """Pickle writes bound methods as getattr(object, name); the name decides."""
    assert know("builtins", "getattr").level is Level.ERROR
    assert know_fetched("models.yolo", "Model", "forward").level is Level.WARNING
    assert know_fetched("models.yolo", "Model", "__globals__").level is Level.ERROR
    assert know_fetched("pathlib", "Path", "unlink").level is Level.ERROR


@pytest.mark.parametrize(
    ("module", "attribute", "why"),
    [
        ("", "system", "empty"),
        ("os", "", "empty"),
        ("os ", "system", "white space"),
        ("os", "system\n", "control"),
        ("os\r", "system", "control"),
        ("o\u200bs", "system", "invisible"),
        ("o\u202es", "system", "invisible"),
        ("os", "sys\0tem", "control"),
        ("os.", "system", "two dots"),
        ("o-s", "system", "identifier"),
        ("pkg", "f.<locals>.g", "identifier"),
        ("pkg", "<lambda>", "identifier"),
        ("\uff4fs", "system", "fold"),
        ("\u043es", "system", "look like"),
        ("t\u03bfrch", "load", "look like"),
        ("os", "\ud800", "surrogate"),
        ("numpy", "__builtins__", "machinery"),
        ("pkg", "Class.method.__globals__", "machinery"),
        ("pathlib", "os.system", "by dots"),
        ("a" * 2000, "b", "characters"),
    ],
)
def test_deceptive_names_say_why(module: str, attribute: str, why: str) -> None:
    """What a reader sees and what an import finds must be the same."""
    assert why in (deceptive(module, attribute) or "")


@pytest.mark.parametrize(
    ("module", "attribute", "level"),
    [
        ("pathlib", "os.system", Level.ERROR),
        ("torch", "_sys.modules", Level.ERROR),
        ("pkg", "numpy.load", Level.ERROR),
        ("pkg", "Class.method.__globals__", Level.ERROR),
        ("pkg", "a b", Level.ERROR),
        ("scipy.signal._ltisys", "dlti._step", Level.WARNING),
        ("pkg", "helpers.function", Level.WARNING),
    ],
)
def test_dots_behind_what_may_be_a_class_are_a_warning(module: str, attribute: str, level: Level) -> None:
    """scipy writes bound methods of classes in lower case; a walk through a module that is known is a deception."""
    assert deceptive(module, attribute) is not None
    assert deception_level(module, attribute) is level


def test_a_name_in_another_language_deceives_nobody() -> None:
    """Python allows it, and people write it."""
    assert deceptive("modèle", "Réseau") is None
    assert deceptive("模型", "网络") is None


def test_names_are_escaped_for_printing() -> None:
    """A name comes out of a hostile file and goes to a terminal."""
    assert display("os", "sys\x1b[2Jtem") == "os.sys\\x1b[2Jtem"
    assert know("os", "sys\x1b[2Jtem").name == "os.sys\\x1b[2Jtem"


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_any_text_has_an_answer(module: str, attribute: str) -> None:
    """Names are whatever the file says they are."""
    assert know(module, attribute).level in (Level.ERROR, Level.WARNING)
    why = deceptive(module, attribute)
    assert why is None or why.isprintable()


@given(st.lists(st.sampled_from(["os", "system", "_sys", "a", "B", "__globals__", "", "pathlib", "vendor"]), min_size=2, max_size=12))
def test_every_split_of_a_path_is_judged_alike_in_kind(parts: list[str]) -> None:
    """Wherever the module ends and the attribute starts, a walk through the machinery is never a mere warning."""
    for split in range(1, len(parts)):
        module, attribute = ".".join(parts[:split]), ".".join(parts[split:])
        if "__globals__" in attribute.split("."):
            assert know(module, attribute).level is Level.ERROR


def test_very_long_names_cost_nothing() -> None:
    """A name of megabytes is refused before it is taken apart."""
    assert know("a." * 1_000_000, "b").level is Level.ERROR
    assert know("a", "b." * 40 + "c").level is Level.ERROR


@pytest.mark.parametrize("part", ["_vendor", "vendor", "os", "_sys", "a", "pathlib", "__class__"])
def test_repeated_parts_are_followed_once_each(part: str) -> None:
    """A search that branched at each copied package or module would double with every part."""
    for split in range(1, 30):
        know(".".join([part] * split), ".".join([part] * (30 - split)))
        deceptive(".".join([part] * split), ".".join([part] * (30 - split)))


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="the table speaks of CPython's library")
def test_every_module_of_the_standard_library_is_accounted_for() -> None:
    """A new Python brings new modules: somebody has to look at them, and say so in the table."""
    data = json.loads(TABLE.read_text("ascii"))
    tops = {*data["reviewed"].split()}
    for group in data["groups"]:
        entries = [*group.get("whole", "").split(), *group.get("functions", "").split(), *group.get("names", {})]
        tops.update(entry.split(".")[0] for entry in entries)
    platform_data = re.compile("_sysconfigdata_|__phello__")
    assert sorted(name for name in sys.stdlib_module_names if name not in tops and not platform_data.match(name)) == []


def test_a_class_that_opens_what_it_is_called_with_is_a_warning_to_name() -> None:
    """An array that was mapped from a file is pickled with the class as an argument, and a booster as an empty object with state."""
    for module, attribute in (("numpy", "memmap"), ("xgboost.core", "Booster"), ("ultralytics", "YOLO")):
        assert know(module, attribute).level is Level.WARNING
        called = know_called(module, attribute)
        assert called is not None
        assert called.level is Level.ERROR
    assert know_called("numpy", "ndarray") is None


def test_the_table_is_in_order() -> None:
    """Sorted words make readable diffs; a word twice would hide which reason counts."""
    data = json.loads(TABLE.read_text("ascii"))
    for group in data["groups"]:
        assert group["capability"] in CAPABILITIES
        lists = [group.get("whole", ""), group.get("functions", ""), *group.get("names", {}).values(), *group.get("called", {}).values()]
        assert [words for words in lists if words.split() != sorted(set(words.split()))] == []
        assert list(group.get("names", {})) == sorted(group.get("names", {}))
        assert list(group.get("called", {})) == sorted(group.get("called", {}))
    for key in ("harmless", "purposes"):
        assert list(data[key]) == sorted(data[key])
    whole = [entry for group in data["groups"] for entry in (*group.get("whole", "").split(), *group.get("functions", "").split())]
    assert len(whole) == len(set(whole))


def test_one_attribute_has_one_reason() -> None:
    """Two groups that list the same name would let their order decide."""
    data = json.loads(TABLE.read_text("ascii"))
    seen = [f"{module}.{word}" for group in data["groups"] for module, words in group.get("names", {}).items() for word in words.split()]
    assert sorted(name for name, count in Counter(seen).items() if count > 1) == []


def test_asking_imports_nothing_that_is_asked_about() -> None:
    """An import runs code; knowledge comes from the table alone."""
    script = (
        "import sys; from safeload.walk.names import know, deception_level, deceptive; know('os', 'x'); before = set(sys.modules)\n"
        "for m in ('torch', 'numpy', 'idlelib.run', 'this', 'antigravity', 'distutils.core'): know(m, 'f'); deceptive(m, 'f')\n"
        "assert set(sys.modules) == before, set(sys.modules) - before\n"
        "assert 'pickle' not in before or 'torch' not in before"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600)
