"""TensorFlow Lite models: indices and pointers lead to what is there, custom and Flex operators are named for what they are."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Mapping

import pytest

import safeload
from safeload.findings import Level, Outcome, Report
from safeload.formats.flexbuffer import texts_of
from safeload.inspection import inspect
from tests.forge_tensorflow import node
from tests.forge_tflite import (
    Numbers,
    Table,
    Tables,
    flatbuffer,
    flex_options,
    int32,
    kind,
    model,
    numbers,
    operator,
    tensor,
    uint8,
    uint32,
    uint64,
)  # fmt: skip

GOOD = model(operator(), operator(1), kinds=[kind(0), kind(32, "TFLite_Detection_PostProcess"), kind(150)])


def scan(data: bytes) -> Report:
    return safeload.scan(data, policy={}, lock=False)


def rules(data: bytes, outcome: Outcome = Outcome.REFUSED) -> set[str]:
    report = scan(data)
    assert report.format == "tflite"
    assert report.decision.outcome is outcome, report.decision
    return {item.rule for item in report.findings if item.level is not Level.NOTE}


def test_a_model_of_builtin_operators_is_allowed_and_listed() -> None:
    assert rules(GOOD, Outcome.ALLOWED) == set()
    shown = inspect(GOOD, lock=False)
    assert [(one.name, one.dtype, one.shape, one.nbytes) for one in shown.tensors] == [("t", "FLOAT32", (2,), 8)]
    assert (shown.metadata["operators"], shown.metadata["subgraphs"], shown.metadata["description"]) == ("2", "1", "forged")


@pytest.mark.parametrize(
    ("code", "custom", "rule"),
    [(32, "MyOperator", "SL727"), (32, "", "SL726"), (32, None, "SL726"), (51, None, "SL727"), (173, None, "SL727"), (210, None, "SL727"),
     (1 << 30, None, "SL727"), (32, "Flex", "SL727"), (32, "FlexErf", "SL727"), (32, "FlexReadFile", "SL721"), (32, "FlexPyFunc", "SL721"),
     (32, "FlexDatasetFromGraph", "SL725")],
)  # fmt: skip
def test_an_operator_that_is_not_the_runtimes_own(code: int, custom: str | None, rule: str) -> None:
    assert rules(model(operator(), kinds=[kind(code, custom)])) == {rule}


def test_a_flex_operator_runs_what_its_options_say() -> None:
    """Its name is for people; the runtime takes the other one."""
    given = {5: flex_options("Erf", node("Erf", "x"))}
    assert rules(model(operator(more=given), kinds=[kind(32, "FlexErf")])) == {"SL727"}
    given = {5: flex_options("Erf", node("WriteFile", "x"))}
    assert rules(model(operator(more=given), kinds=[kind(32, "FlexErf")])) == {"SL721", "SL726", "SL727"}


def test_options_of_a_flex_operator_are_read_as_the_converter_writes_them() -> None:
    held = flex_options("Erf", b"node")
    assert texts_of(held.data) == [b"Erf", b"node"]
    rng = random.Random(2)
    for _ in range(5000):
        bad = bytearray(held.data)
        bad[rng.randrange(len(bad))] = rng.randrange(256)
        texts_of(bytes(bad[: rng.randrange(len(bad) + 1)]))


@pytest.mark.parametrize(
    "data",
    [
        model(operator(1)),
        model(operator(inputs=(1,))),
        model(operator(outputs=(-2,))),
        model(operator(more={8: numbers(5)})),
        model(operator(), version=2),
        model(operator(), tensors=[tensor(buffer=9)]),
        model(operator(), kinds=[kind(-5)]),
        model(operator(more={3: uint8(92), 4: Table({0: int32(0), 1: int32(7)})}), kinds=[kind(118)]),
        model(operator(more={3: uint8(93), 4: Table({0: int32(-1), 1: int32(0)})}), kinds=[kind(119)]),
        model(operator(more={11: uint8(23), 12: Table({0: numbers(0, 3)})}), kinds=[kind(209)]),
        model(operator(more={9: uint64(1 << 40), 10: uint64(8)}), kinds=[kind(32, "X")]),
        model(operator(), more={6: Tables([Table({0: "m", 1: uint32(77)})])}),
        model(operator(), more={7: Tables([Table({2: "s", 4: uint32(7)})])}),
        model(operator(), more={1: Tables([], count=1 << 31)}),
        model(operator(), more={2: Tables([], count=5)}),
        model(operator(), more={3: Numbers(b"", 1 << 30)}),
        b"\x08\0\0\0TFL3",
        b"\xff\xff\xff\x7fTFL3" + bytes(64),
        b"\0\0\0\0TFL3" + bytes(64),
        b"\x0c\0\0\0TFL3\xff\xff\xff\xff\x04\0\0\0" + bytes(8),
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_an_error(data: bytes) -> None:
    """The runtime takes indices and pointers as they are."""
    assert "SL726" in rules(data)


def test_subgraphs_in_a_circle_are_an_error() -> None:
    def run(target: int) -> Table:
        return operator(more={3: uint8(103), 4: Table({0: int32(target)})})

    assert rules(model(run(0), kinds=[kind(129)])) == {"SL726"}
    assert rules(model(run(1), kinds=[kind(129)], graphs=[[run(2)], [run(1)]])) == {"SL726"}
    assert rules(model(run(1), kinds=[kind(129)], graphs=[[run(2)], [operator()]]), Outcome.ALLOWED) == set()


@pytest.mark.parametrize(
    "bad",
    [tensor(shape=(3,)), tensor(shape=(1 << 30, 1 << 30)), tensor(shape=(-5,)), tensor(dtype=77), tensor(shape=(2,), dtype=4, buffer=1),
     tensor(shape=(17,), dtype=17)],
)  # fmt: skip
def test_a_tensor_that_its_buffer_cannot_hold_is_an_error(bad: Table) -> None:
    assert rules(model(operator(), tensors=[bad], buffers=(b"", bytes(8)))) == {"SL728"}


@pytest.mark.parametrize(
    "good",
    [tensor(), tensor(shape=(16,), dtype=17), tensor(shape=(-1, 2)), tensor(shape=(100,), buffer=0), tensor(shape=(9,), dtype=5)],
)
def test_a_tensor_that_fits_is_none(good: Table) -> None:
    assert rules(model(operator(), tensors=[good]), Outcome.ALLOWED) == set()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [({1: uint64(1 << 40), 2: uint64(8)}, "SL728"), ({0: Numbers(bytes(4), 4), 1: uint64(8), 2: uint64(8)}, "SL726")],
)
def test_bytes_behind_the_flatbuffer_lie_in_the_file(fields: Mapping[int, object], rule: str) -> None:
    """Models of more than two gigabytes keep their numbers there."""
    assert rules(model(operator(), more={4: Tables([Table(), Table(fields)])})) == {rule}
    assert rules(model(operator(), more={4: Tables([Table(), Table({1: uint64(8), 2: uint64(8)})])}), Outcome.ALLOWED) == set()


def test_numbers_in_another_file_lie_beside_the_model() -> None:
    assert rules(model(operator(), more={8: Tables([Table({0: "weights.bin"})])}), Outcome.ALLOWED) == set()
    assert rules(model(operator(), more={8: Tables([Table({0: "../../etc/passwd"})])})) == {"SL724"}


def test_tables_that_are_visited_over_and_over_are_bounded() -> None:
    """Two pointers may meet: a file of some megabytes can stand for billions of tables."""
    one = tensor()
    held = Table({0: Tables([one] * 3000), 1: numbers(0), 2: numbers(0), 3: Tables([operator()])})
    fields = {0: uint32(3), 1: Tables([kind(0)]), 2: Tables([held] * 3000), 4: Tables([Table(), Table({0: Numbers(bytes(8), 8)})])}
    report = scan(flatbuffer(Table(fields)))
    assert report.decision.outcome is Outcome.REFUSED
    assert "tables are visited" in (report.error or "")


def test_files_that_are_packed_behind_a_model_are_read() -> None:
    """The metadata's writer appends labels as a ZIP archive; anything else may lie there, too."""

    def packed(name: str, data: bytes) -> bytes:
        file = io.BytesIO(GOOD)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, data)
        return file.getvalue()

    assert rules(packed("labels.txt", b"cat\ndog\n"), Outcome.ALLOWED) == set()
    assert "SL101" in rules(packed("labels.pkl", b"cos\nsystem\n(S'true'\ntR."))


def test_damaged_models_end_in_findings() -> None:
    rng = random.Random(17)
    seed = model(operator(), operator(1, more={5: flex_options("Erf", node("Erf"))}), kinds=[kind(0), kind(32, "FlexErf")])
    for count in range(3000):
        data = bytearray(seed)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if count % 4 == 0:
            del data[rng.randrange(len(data)) :]
        assert scan(bytes(data)).decision.reasons != ("not decided",)
