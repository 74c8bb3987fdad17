"""The pure and the compiled machine give the same answer for every byte string; the build does what the walk listed.

SAFELOAD_FUZZ sets how many streams (a few thousand by default; `nox -s fuzz` takes 100,000).
"""

from __future__ import annotations

import os
import random
from types import ModuleType
from typing import Any

import pytest

from safeload.source import Limits
from safeload.walk import _machine, kinds, python3_name
from safeload.walk.signatures import BUILD_STATE, MODELLED
from tests import forge
from tests.forge_tensors import random_tensors

try:
    from safeload.walk import _machine_c
except ImportError:
    _machine_c = None  # type: ignore[assignment]

COUNT = int(os.environ.get("SAFELOAD_FUZZ", "4000"))
Outcome = tuple[Any, ...]


def classify(module: str | None, attribute: str) -> tuple[str, int, Any]:
    name = f"{module}.{attribute}"
    modelled = MODELLED.get(name) if module is not None else None
    return name, modelled.kind if modelled else kinds.UNKNOWN, modelled


def walked(machine: ModuleType, data: bytes, persistent: int) -> tuple[Any, Outcome]:
    """Everything that a walk says, and where it stopped."""
    walker = machine.Walker(memoryview(data), 0, classify, python3_name, "utf-8", Limits(), persistent)
    error: tuple[Any, ...] = ()
    try:
        walker.run(BUILD_STATE)
    except machine.Malformed as problem:
        error = problem.args
    names = [entry[4] for entry in walker.globals]
    storages = (walker.storage_ids(), walker.plain_ids(), walker.plain_tensors()) if walker.end >= 0 else walker.storage_ids()
    return walker, (error, walker.end, walker.opcodes, names, walker.events, walker.notes, storages, walker.checked, walker.protocol)


class Recorder:
    """A model that makes nothing, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def call(self, op: str, callee: Any, args: Any, kwargs: Any, at: int) -> Any:
        self.asked.append(("call", op, at))
        return object()

    def build(self, target: Any, state: Any, at: int) -> Any:
        self.asked.append(("build", at))
        return target

    def extend(self, target: Any, items: list[Any], name: str, at: int) -> None:
        self.asked.append(("extend", at))

    def set_items(self, target: Any, items: list[Any], name: str, at: int) -> None:
        self.asked.append(("set_items", at))

    def spread(self, keys: Any) -> None:
        self.asked.append(("spread", len(keys)))

    def gathered(self, keys: Any) -> None:
        self.asked.append(("gathered", len(keys)))

    def persistent(self, pid: Any, at: int) -> Any:
        self.asked.append(("persistent", at))
        return object()


def built(machine: ModuleType, walker: Any) -> Outcome:
    """What a build asks for, and how it ends."""
    recorder = Recorder()
    values = [object() for _ in walker.globals]
    try:
        machine.Builder(walker, values, recorder).run()
    except machine.Malformed as problem:
        return ("malformed", *problem.args[:2], recorder.asked)
    except TypeError:
        return ("unhashable", recorder.asked)
    return ("built", recorder.asked)


@pytest.mark.skipif(_machine_c is None, reason="the compiled machine was not built here; the pure one has its own tests")
def test_pure_and_compiled_agree_on_random_streams() -> None:
    """A forged length that wraps in one build only would let a stream through there (same decision, error and offset)."""
    rng = random.Random(20261123)
    endings = {"stop": 0, "broken": 0}
    for number in range(COUNT):
        data = forge.random_stream(rng)
        persistent = number % 3
        pure, said = walked(_machine, data, persistent)
        compiled, answer = walked(_machine_c, data, persistent)
        assert said == answer, data
        endings["broken" if said[0] else "stop"] += 1
        if not said[0]:
            assert built(_machine, pure) == built(_machine_c, compiled), data
    assert min(endings.values()) > COUNT // 10, endings


@pytest.mark.skipif(_machine_c is None, reason="the compiled machine was not built here; the pure one has its own tests")
def test_pure_and_compiled_agree_on_streams_of_tensors() -> None:
    """Which tensors may be made at once, and what of the stream may be left out, is said by both alike."""
    rng = random.Random(20261126)
    found = 0
    for number in range(COUNT // 4):
        data = random_tensors(rng)
        pure, said = walked(_machine, data if number % 2 else forge.mutate(rng, data), 1)
        _, answer = walked(_machine_c, bytes(pure.raw), 1)
        assert said == answer, bytes(pure.raw)
        found += pure.end >= 0 and len(pure.plain_tensors()[0])
    assert found > COUNT // 50


def test_a_walked_stream_never_breaks_in_the_build_machine() -> None:
    """What the walk passed, the build can read: same operands, same stack, same memo."""
    machine = _machine_c or _machine
    rng = random.Random(7)
    for _ in range(COUNT // 2):
        data = forge.random_stream(rng)
        walker, said = walked(machine, data, 0)
        if said[0]:
            continue
        outcome = built(machine, walker)
        # Text computed by the model's own calls is no text here, so names that hang on it are the walk's "<computed …>".
        assert outcome[0] in ("built", "unhashable"), (data, outcome)
