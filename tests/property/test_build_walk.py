"""What the build resolves and calls, the walk listed; what the walk finds harmless, the build does not refuse as unknown.

Streams of real objects are changed at random, and both passes go over the same bytes. Only errors of ours come out, the build
with torch refuses whatever the build without refuses, and an audit hook sees nothing that a load has no business with.
"""

from __future__ import annotations

import os
import pickle
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

from safeload.build.storages import read_storages  # noqa: E402
from safeload.build.torch_model import TorchModel  # noqa: E402
from safeload.errors import MalformedError, RefusedError, SafeloadError  # noqa: E402
from safeload.formats import Contents, read  # noqa: E402
from safeload.source import Source  # noqa: E402
from safeload.walk.model import Model, build  # noqa: E402
from tests.forge_build import checkpoint, saved, torch_zip  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

# A few thousand where every push is tested; the fuzz session says how many more.
ROUNDS = int(os.environ.get("SAFELOAD_FUZZ", "0") or 0) // 8 or 300
EVENTS = ("import", "exec", "compile", "os.", "subprocess.", "socket.", "ctypes.dlopen", "pickle.find_class", "shutil.", "open")


class Stranger:
    def __init__(self) -> None:
        self.state = 1


def samples() -> list[tuple[bytes, dict[str, bytes]]]:
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.note = [1]
    values = [
        {"a": torch.arange(4.0), "b": torch.nn.Linear(2, 2).state_dict(), "c": (1, "x", None, 2.5, {1}, b"y")},
        [parameter, parameter.data, torch.ones(2, requires_grad=True), torch.tensor([1 + 2j]).conj()],
        [torch.eye(3).to_sparse_coo(), torch.eye(3).to_sparse_csr(), torch.eye(4).to_sparse_bsc((2, 2))],
        [torch.quantize_per_tensor(torch.rand(3), 0.1, 3, torch.quint8), torch.empty(2, device="meta")],
        torch.quantize_per_channel(torch.rand(2, 2), torch.rand(2), torch.zeros(2), 1, torch.qint8),
        torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]),
        [torch.float16, torch.Size([1]), torch.device("cpu"), torch.sparse_csr, torch.per_tensor_affine, torch.ones(2)._typed_storage()],
        {"x": Stranger(), "w": torch.ones(1)},
    ]
    found = [checkpoint(saved(value)) for value in values]
    arrays = [np.arange(6).reshape(2, 3).T, np.float32(1), np.dtype([("a", "f4"), ("b", ">i2")]), np.random.default_rng(1)]
    return found + [(pickle.dumps(arrays, protocol), {}) for protocol in (2, 4, 5)]


def mutated(stream: bytes, other: bytes, rnd: random.Random) -> bytes:
    data = bytearray(stream)
    for _ in range(rnd.choice((1, 1, 1, 2, 3))):
        at = rnd.randrange(len(data))
        way = rnd.random()
        if way < 0.4:
            data[at] = rnd.choice((0, 1, 2, 4, 127, 128, 255, rnd.randrange(256)))
        elif way < 0.65:
            data[at] = (data[at] + rnd.choice((-1, 1))) % 256
        elif way < 0.75:
            del data[at : at + rnd.randrange(1, 4)]
        elif way < 0.85:
            first = rnd.randrange(len(other))
            data[at:at] = other[first : first + rnd.randrange(1, 40)]
        else:
            first = rnd.randrange(len(data))
            data[at : at + 4] = data[first : first + 4]
        if not data:
            data = bytearray(b".")
    return bytes(data)


class Watched(TorchModel):
    """A build that keeps the names of what it resolves and calls."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.called: set[str] = set()
        super().__init__(*args, **keywords)

    def call(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        name = self.name_of(callee) or getattr(callee, "global_name", None)
        if name is not None:
            self.called.add(name)
        return super().call(op, callee, args, kwargs, at)


def outcome(make: Any) -> SafeloadError | None:
    """Any exception that is not ours fails the test by coming through."""
    try:
        make()
    except SafeloadError as error:
        return error
    return None


def check(contents: Contents, source: Source, unknown: str) -> str:
    main = contents.main
    if main is None or contents.error is not None or main.walk.end is None:
        return "unreadable"
    walk = main.walk
    without = outcome(lambda: build(walk, Model(walk, unknown=unknown, persistent=main.persistent)))
    model: list[Watched] = []

    def with_torch() -> None:
        bank = read_storages(source, contents.storages)
        model.append(Watched(walk, bank, unknown=unknown, persistent=main.persistent))
        build(walk, model[0])

    found = outcome(with_torch)
    if model:
        # a call on what is no global has no name; the walk lists it as an event
        assert {name for name in model[0].called if not name.startswith("<")} <= {entry[4] for entry in walk.walker.globals}
    if without is not None:
        assert found is not None, f"only without torch: {without}"
    if unknown == "inert":
        assert not isinstance(found, RefusedError), found
    if isinstance(found, RefusedError) and not isinstance(found, MalformedError):
        assert walk.walker.events or walk.unmodelled or walk.findings, found
    return "refused" if found is not None else "built"


@pytest.fixture(scope="module")
def pool() -> list[tuple[bytes, dict[str, bytes]]]:
    return samples()


@pytest.mark.parametrize("seed", range(8))
def test_both_passes_agree(seed: int, pool: list[tuple[bytes, dict[str, bytes]]]) -> None:
    rnd = random.Random(seed)
    seen: dict[str, int] = {}
    for turn in range(ROUNDS):
        stream, storages = rnd.choice(pool)
        raw = mutated(stream, rnd.choice(pool)[0], rnd)
        raw = torch_zip(raw, storages) if storages or rnd.random() < 0.5 else raw
        with Source.open(raw) as source:
            try:
                contents = read(source)
                kind = check(contents, source, rnd.choice(("refuse", "inert"))) if contents is not None else "unclaimed"
            except SafeloadError:
                kind = "unreadable"
            except Exception as error:
                raise AssertionError(f"seed {seed}, round {turn}: {raw!r}") from error
        seen[kind] = seen.get(kind, 0) + 1
    assert seen.get("built", 0) > ROUNDS // 50, seen


_WATCHING: list[list[tuple[str, Any]]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _WATCHING and event.startswith(EVENTS):
        _WATCHING[-1].append((event, args))


@pytest.fixture
def events() -> Iterator[list[tuple[str, Any]]]:
    """What the audit hook sees while the test runs; hooks cannot be taken away, so it is switched."""
    if not hasattr(sys, "_safeload_build_hook"):
        sys._safeload_build_hook = True  # type: ignore[attr-defined]
        sys.addaudithook(_hook)
    _WATCHING.append([])
    yield _WATCHING[-1]
    _WATCHING.pop()


def test_a_load_imports_runs_and_opens_nothing(pool: list[tuple[bytes, dict[str, bytes]]], events: list[tuple[str, Any]]) -> None:
    rnd = random.Random(99)
    files = [torch_zip(stream, storages) for stream, storages in pool]
    files += [torch_zip(mutated(stream, stream, rnd), storages) for stream, storages in pool * 20]
    for warm in (True, False):
        for raw in files:
            with Source.open(raw) as source:
                contents = read(source)
                if contents is not None:
                    outcome(lambda: check(contents, source, "inert"))  # noqa: B023 — called before the next turn
        if warm:  # what is imported lazily is ours, torch's or numpy's, and in place from now on
            events.clear()
    assert events == []
