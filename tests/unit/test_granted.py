"""Classes that policy allows are built from the installed package as pickle would; nothing else is imported for a file."""

from __future__ import annotations

import collections
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

from safeload.build.granted import resolve, safe_global_names  # noqa: E402
from safeload.errors import MalformedError, RefusedError, SafeloadError, UnsupportedError  # noqa: E402
from tests.compare import assert_same  # noqa: E402
from tests.forge_build import build, saved  # noqa: E402

pytestmark = pytest.mark.torch

HERE = __name__


class Plain:
    def __init__(self, value: object = None) -> None:
        self.value = value


class Slots:
    __slots__ = ("a", "b")
    a: int
    b: list[int]


class WithState:
    def __getstate__(self) -> Any:
        return ("a", 1)

    def __setstate__(self, state: Any) -> None:
        self.seen = state


class WithNew:
    def __new__(cls, one: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        made.args, made.kwargs = (one,), kwargs
        return made

    args: Any
    kwargs: Any

    def __getnewargs_ex__(self) -> Any:
        return self.args, self.kwargs


class Items(list):  # type: ignore[type-arg]
    pass


class Pairs(dict):  # type: ignore[type-arg]
    pass


class Reduced:
    def __init__(self, *args: Any) -> None:
        self.args = args

    def __reduce__(self) -> Any:
        return Reduced, self.args


class Outer:
    class Inner:
        pass


class Calls:
    def __call__(self) -> None:
        raise AssertionError("called")


class Raises:
    def __setstate__(self, state: Any) -> None:
        raise KeyError("version")

    def __getstate__(self) -> Any:
        return {"a": 1}


class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 3)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        return self.linear(x)


def grants(*names: str) -> frozenset[str]:
    return frozenset(f"{HERE}.{name}" for name in names)


def slots() -> Slots:
    made = Slots()
    made.a, made.b = 1, [2]
    return made


def both() -> Any:
    made = WithNew(1, two=2)
    made.extra = made  # type: ignore[attr-defined]
    return made


EXAMPLES: dict[str, Callable[[], Any]] = {
    "Plain": lambda: Plain([1, 2]),
    "Slots": slots,
    "WithState": WithState,
    "WithNew": both,
    "Items": lambda: Items([1, [2]]),
    "Pairs": lambda: Pairs(a=1, b={}),
    "Reduced": lambda: Reduced(1, "two"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", EXAMPLES)
def test_same_as_pickle(name: str, protocol: int) -> None:
    """All protocols; 0 and 1 make objects by way of `copyreg._reconstructor`."""
    if (name == "Slots" and protocol < 2) or (name == "WithNew" and protocol in (2, 3)):
        pytest.skip("the protocol has no way for it, or one through functools.partial")
    value = EXAMPLES[name]()
    raw = pickle.dumps([value, value], protocol)
    assert_same(pickle.loads(raw), build(raw, grants=grants(name)))


def test_a_whole_module_is_built() -> None:
    net = Net()
    raw = saved(net)
    names = frozenset({f"{HERE}.Net", "torch.nn.modules.linear.Linear"})
    found = build(raw, grants=names)
    assert type(found) is Net
    assert_same(net.state_dict(), found.state_dict())
    assert found(torch.ones(1, 2)).shape == (1, 3)


def test_a_grant_is_asked_for_after_the_verification() -> None:
    """The grants of a pin are known only when the digest is."""
    order = []

    def names() -> frozenset[str]:
        order.append("grants")
        return grants("Plain")

    build(saved(Plain()), grants=names, before_build=lambda: order.append("verify"))
    assert order == ["verify", "grants"]


def test_what_is_not_granted_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = pickle.dumps(Plain()).replace(HERE.encode(), b"x" * len(HERE))
    with pytest.raises(RefusedError):
        build(raw)
    assert "x" * len(HERE) not in sys.modules


@pytest.fixture
def smuggler(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module of harmless name that hands on what is not harmless."""
    module = types.ModuleType("smuggler")
    module.run = __import__("os").system  # type: ignore[attr-defined]
    module.pick = pickle.loads  # type: ignore[attr-defined]
    module.number = 5  # type: ignore[attr-defined]
    module.inner = __import__("subprocess")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "smuggler", module)
    return module


def test_a_granted_name_may_not_stand_for_something_denied(smuggler: types.ModuleType) -> None:
    """What counts is what the object is, not what a module calls it."""
    for name in ("run", "pick"):
        with pytest.raises(RefusedError, match="may not be granted"):
            resolve("smuggler", name)
    with pytest.raises(RefusedError, match="not a class or function"):
        resolve("smuggler", "number")
    with pytest.raises(RefusedError):
        resolve("smuggler", "inner.Popen")


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "functools.partial", "subprocess.Popen", "pickle.loads", "torch.load"])
def test_the_denylist_is_asked_again(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(RefusedError, match="may not be granted"):
        resolve(module, attribute)
    raw = f"c{module}\n{attribute}\n(tR.".encode()
    with pytest.raises(RefusedError):
        build(raw, grants={name})


def test_dots_lead_through_classes_only() -> None:
    assert resolve(HERE, "Outer.Inner") is Outer.Inner
    with pytest.raises(SafeloadError):
        resolve(HERE, "io.BytesIO")
    with pytest.raises(UnsupportedError, match="has no Missing"):
        resolve(HERE, "Missing")
    with pytest.raises(UnsupportedError, match="cannot be imported"):
        resolve("no_such_package_of_ours", "Thing")


def test_what_a_class_raises_names_the_class() -> None:
    with pytest.raises(UnsupportedError, match="Raises failed: KeyError") as caught:
        build(pickle.dumps(Raises()), grants=grants("Raises"))
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("state", [{"__class__": 1}, {"__dict__": 1}, {1: 2}, [1]])
def test_state_may_not_change_what_python_owns(state: Any) -> None:
    raw = pickle.dumps((Plain(), state), 2)
    forged = pickle.dumps(Plain(), 2)[:-1]
    # Plain() without its own state, then BUILD with the forged one
    head = forged[: forged.index(b"\x81") + 1]
    body = pickle.dumps(state, 2)[2:-1]
    assert raw
    with pytest.raises(SafeloadError):
        build(head + body + b"b.", grants=grants("Plain"))


def test_a_class_itself_may_not_be_changed() -> None:
    """BUILD on what a grant returned as shared: everybody in the process would see it."""
    raw = f"\x80\x02c{HERE}\nPlain\n}}X\x05\x00\x00\x00valueK\x01sb.".encode("latin-1")
    with pytest.raises(SafeloadError):
        build(raw, grants=grants("Plain"))
    assert not hasattr(Plain, "value")


def test_an_object_is_not_called() -> None:
    """Not even one of a granted class: what was granted is the class."""
    raw = b"c" + HERE.encode() + b"\nCalls\n)\x81)R."
    with pytest.raises(RefusedError, match="REDUCE of an object of Calls; only classes and functions are called") as caught:
        build(raw, grants=grants("Calls"))
    assert caught.value.globals == ()


def test_newobj_of_a_function_is_refused() -> None:
    raw = f"\x80\x02c{HERE}\nslots\n)\x81.".encode("latin-1")
    with pytest.raises(RefusedError, match="no class"):
        build(raw, grants=grants("slots"))


def test_safe_globals_of_torch_count_by_name() -> None:
    with torch.serialization.safe_globals([Plain, (Outer, "elsewhere.Outer")]):
        assert {f"{HERE}.Plain", "elsewhere.Outer"} <= safe_global_names()
        assert resolve("elsewhere", "Outer") is Outer
        raw = saved(Plain(3))
        expected = torch.load(io.BytesIO(raw), weights_only=True)
        assert_same(expected, build(raw, grants=safe_global_names()))
    with torch.serialization.safe_globals([exec]):
        assert "builtins.exec" not in safe_global_names()


def test_inert_nodes_go_into_granted_classes() -> None:
    value = Plain(Reduced(1))
    found = build(pickle.dumps(value), grants=grants("Plain"), unknown="inert")
    assert found.value.global_name == f"{HERE}.Reduced"


def test_a_subclass_that_is_no_tensor_is_refused() -> None:
    raw = (
        f"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_meta_tensor_no_storage\nc{HERE}\nPlain\n"
        "(ctorch\nfloat32\nK\x01\x85K\x01\x85\x89t}tR."
    ).encode("latin-1")
    with pytest.raises(MalformedError, match="no tensor"):
        build(raw, grants=grants("Plain"))


def nothing() -> int:
    return 0


@pytest.mark.parametrize("protocol", range(6))
def test_a_granted_function_may_fill_a_defaultdict(protocol: int) -> None:
    """A GradScaler keeps one. Inert is the whole dictionary, or none of it."""
    raw = pickle.dumps(collections.defaultdict(nothing, a=[1]), protocol)
    found = build(raw, grants=grants("nothing"))
    assert (type(found), found.default_factory, found) == (collections.defaultdict, nothing, {"a": [1]})
    with pytest.raises(RefusedError):
        build(raw)
    inert = build(raw, unknown="inert")
    assert (inert.global_name, inert.args[0].global_name, inert.items) == ("collections.defaultdict", f"{HERE}.nothing", [("a", [1])])


def test_what_is_granted_and_cannot_be_called_is_no_factory() -> None:
    raw = f"ccollections\ndefaultdict\n(c{HERE}\nPlain\n)RtR.".encode()
    with pytest.raises(MalformedError, match="callable"):
        build(raw, grants=grants("Plain"))


class Counted(np.ndarray):  # type: ignore[misc, name-defined]
    """An array with a word of its own, which it carries in its state as numpy's manual says."""

    word = "none"

    def __reduce__(self) -> Any:
        make, arguments, state = super().__reduce__()
        return make, arguments, (*state, self.word)

    def __setstate__(self, state: Any) -> None:
        self.word = state[-1]
        super().__setstate__(state[:-1])


class Picky(np.ndarray):  # type: ignore[misc, name-defined]
    def __array_finalize__(self, before: Any) -> None:
        if before is None:
            raise RuntimeError("only from other arrays")


def counted() -> Any:
    made = np.arange(6.0).reshape(2, 3).view(Counted)
    made.word = "mine"
    return made


ARRAYS: dict[str, tuple[Callable[[], Any], str]] = {
    "matrix": (lambda: np.arange(6).reshape(2, 3).view(np.matrix), "numpy.matrix"),
    "of objects": (lambda: np.array([1, "a"], object).view(np.matrix), "numpy.matrix"),
    "in Fortran's order": (lambda: np.asfortranarray(np.ones((2, 3))).view(np.matrix), "numpy.matrix"),
    "with a state of its own": (counted, f"{HERE}.Counted"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_a_granted_class(name: str, protocol: int) -> None:
    """With the checks of every other array, unless the class takes its state itself; the same as pickle gives."""
    make, granted = ARRAYS[name]
    raw = pickle.dumps(make(), protocol)
    found = build(raw, grants=frozenset({granted}))
    assert_same(found, pickle.loads(raw))
    with pytest.raises(RefusedError):
        build(raw)
    assert build(raw, unknown="inert").args[0].global_name == granted


FORGED: dict[str, tuple[str, str]] = {
    "no array": (f"c{HERE}\nPlain", "no array"),
    "class that raises": (f"c{HERE}\nPicky", "only from other arrays"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_class_that_gives_no_array_is_refused(name: str) -> None:
    cls, match = FORGED[name]
    raw = f"cnumpy.core.multiarray\n_reconstruct\n({cls}\n(I0\ntS'b'\ntR.".encode()
    with pytest.raises(SafeloadError, match=match):
        build(raw, grants=grants("Plain", "Picky"))


@pytest.mark.parametrize("times", [1, 2])
def test_the_state_of_a_granted_array_is_checked_and_given_once(times: int) -> None:
    """numpy would read past short bytes' end if it trusted them, and free memory under views the second time."""
    state = b"(I1\n(I4\nt" + b"cnumpy\ndtype\n(S'f4'\ntR" + b"I00\nS'" + (b"A" * (15 if times == 1 else 16)) + b"'\nt"
    raw = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nmatrix\n(I0\ntS'b'\ntR" + (state + b"b") * times + b"."
    with pytest.raises(MalformedError, match="15" if times == 1 else "BUILD gives"):
        build(raw, grants=frozenset({"numpy.matrix"}), encoding="latin1")
