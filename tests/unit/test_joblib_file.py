"""joblib's files: where the bytes of arrays end follows from what is written, or the walk ends."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest

import safeload
from safeload.findings import Outcome, Report
from tests import forge
from tests.forge_attacks import PAYLOAD, refused, rules, scan
from tests.forge_joblib import WRAPPER, described, dtype, file_of, padded

NUMBERS = struct.pack("<2d", 1.5, 2.5)


def _load(data: bytes) -> Any:
    pytest.importorskip("torch")
    return safeload.load(io.BytesIO(data), policy={"unpinned": "allow"}, lock=False)


def _ends_early(data: bytes) -> Report:
    report = scan(data)
    assert report.decision.outcome is not Outcome.ALLOWED
    assert report.error is not None
    return report


@pytest.mark.parametrize(("padding", "raw"), [(None, NUMBERS), (16, padded(NUMBERS)), (16, padded(NUMBERS, 0)), (16, padded(NUMBERS, 255))])
def test_an_array_between_opcodes_is_stepped_over_and_built(padding: int | None, raw: bytes) -> None:
    """joblib 1.2 put a byte that counts padding in front; before there was none."""
    data = file_of(described(padding=padding), raw)
    report = scan(data)
    assert (report.format, report.decision.outcome) == ("joblib", Outcome.ALLOWED)
    assert report.metadata["arrays"] == "1"
    assert _load(data)["a"].tolist() == [1.5, 2.5]


def test_what_follows_an_array_is_walked() -> None:
    """A reader that takes the array for the end of what can be read sees no payload behind it."""
    data = file_of(forge.stream(described(), padded(NUMBERS), forge.POP), PAYLOAD)
    refused(data, "SL101", subject="os.system")


def test_what_lies_in_an_array_is_no_opcode() -> None:
    """Bytes of numbers that happen to read as opcodes are numbers, as long as no other reader comes to them."""
    data = file_of(described((2,)), padded(forge.stream(forge.EMPTY_LIST * 15, forge.STOP)))
    assert scan(data).decision.outcome is Outcome.ALLOWED


def test_bytes_that_a_reader_without_joblib_would_run_are_a_hidden_stream() -> None:
    """Without padding `pickle.load` goes on in the array's bytes; they may name anything."""
    payload = forge.stream(PAYLOAD, forge.STOP)
    data = file_of(described((len(payload),), dtype("u1", order="|"), padding=None), payload)
    refused(data, "SL101", "SL125", subject="os.system")


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(described(shape=(3,)), id="more elements than are there"),
        pytest.param(described(shape=(1 << 40, 1 << 40)), id="more than any file"),
        pytest.param(described(shape=(-1,)), id="a negative size"),
        pytest.param(described(shape=(1,) * 65), id="too many dimensions"),
        pytest.param(described(kind=dtype("f9")), id="a dtype that no numpy has"),
        pytest.param(described(kind=dtype("d")), id="a dtype by its letter"),
        pytest.param(described(kind=forge.GLOBAL("numpy", "float64")), id="a dtype by its class"),
        pytest.param(
            described(kind=forge.stream(dtype("f8"), forge.NONE * 8, forge.TUPLE3, forge.BUILD)), id="a dtype's state given twice"
        ),
        pytest.param(described(kind=dtype("V0")), id="elements of no bytes"),
        pytest.param(described(shape_=forge.NONE), id="a key that joblib has not"),
        pytest.param(described(order=forge.TEXT("C"), dtype=forge.NONE), id="a dtype that is None"),
        pytest.param(described(numpy_array_alignment_bytes=forge.TEXT("16")), id="an alignment that is text"),
        pytest.param(forge.stream(described(), padded(NUMBERS), forge.EMPTY_DICT, forge.BUILD), id="state for an array"),
        pytest.param(forge.stream(forge.FRAME(3), described()), id="inside a frame"),
        pytest.param(forge.stream(WRAPPER, forge.EMPTY_TUPLE, forge.NEWOBJ, forge.NONE, forge.TUPLE1, forge.BUILD), id="state in a tuple"),
        pytest.param(forge.stream(WRAPPER, forge.EMPTY_TUPLE, forge.NEWOBJ, forge.NONE, forge.BUILD), id="no state"),
    ],
)
def test_an_array_that_is_not_written_as_joblib_writes_it_ends_the_walk(array: bytes) -> None:
    """A guess would let joblib read other opcodes than those that were judged."""
    data = file_of(array, padded(NUMBERS))
    assert scan(data).decision.outcome is not Outcome.ALLOWED


def test_a_description_is_followed_once() -> None:
    """joblib reads an array behind every BUILD of a description, also of one from the memo with a state of nothing."""
    again = forge.stream(forge.GET(9), forge.EMPTY_DICT, forge.BUILD)
    head = forge.stream(WRAPPER, forge.EMPTY_TUPLE, forge.NEWOBJ, forge.PUT(9))
    report = _ends_early(file_of(forge.stream(described(head=head), padded(NUMBERS), forge.POP), again, padded(NUMBERS)))
    assert "described twice" in str(report.error)


def test_a_description_made_otherwise_is_refused() -> None:
    """A call could fill it with sizes that no opcode shows."""
    for call in (
        forge.stream(WRAPPER, forge.NONE, forge.TUPLE1, forge.REDUCE),
        forge.stream(WRAPPER, forge.NONE, forge.TUPLE1, forge.NEWOBJ),
        forge.stream(forge.MARK, WRAPPER, forge.OBJ),
        forge.stream(
            forge.GLOBAL("copyreg", "_reconstructor"),
            forge.GLOBAL("numpy", "ndarray"),
            forge.GLOBAL("builtins", "object"),
            forge.NONE,
            forge.TUPLE3,
            forge.REDUCE,
        ),
    ):
        assert scan(file_of(described(head=call), padded(NUMBERS))).decision.outcome is not Outcome.ALLOWED


def test_an_array_of_objects_is_a_stream_of_its_own() -> None:
    """It has its own memo and its own STOP; what it calls is found."""
    plain = forge.stream(forge.PROTO(2), forge.EMPTY_LIST, forge.STOP)
    data = file_of(described(kind=dtype("O8")), plain)
    report = scan(data)
    assert (report.decision.outcome, len(report.streams)) == (Outcome.ALLOWED, 2)
    assert _load(data) == {"a": []}
    hostile = forge.stream(forge.PROTO(2), PAYLOAD, forge.STOP)
    refused(file_of(described(kind=dtype("O8")), hostile), "SL101", subject="os.system")
    refused(file_of(described(kind=dtype("O8")), forge.stream(forge.PROTO(2), PAYLOAD, forge.POP)), "SL101", subject="os.system")


def test_objects_told_by_flags_alone_are_objects() -> None:
    """numpy asks a structure's flags, not its fields; so do we, in both directions."""
    flags = forge.stream(forge.MARK, forge.INT(3), forge.TEXT("|"), forge.NONE * 3, forge.INT(8), forge.INT(1), forge.INT(63), forge.TUPLE)
    hostile = forge.stream(forge.PROTO(2), PAYLOAD, forge.STOP)
    refused(file_of(described(kind=dtype("V8", state=flags)), hostile), "SL101", subject="os.system")
    assert scan(file_of(described(kind=dtype("f8", state=flags)), padded(NUMBERS))).decision.outcome is not Outcome.ALLOWED


def test_arrays_in_files_of_their_own_are_recognised_and_refused() -> None:
    """joblib before 0.10: `numpy.load` of a name in the stream, with `allow_pickle`."""
    for name in ("NDArrayWrapper", "ZNDArrayWrapper"):
        made = forge.stream(forge.GLOBAL("joblib.numpy_pickle", name), forge.EMPTY_TUPLE, forge.NEWOBJ, forge.EMPTY_DICT, forge.BUILD)
        report = scan(file_of(made))
        assert (report.format, report.decision.outcome) == ("joblib", Outcome.REFUSED)
        assert rules(report) == {"SL103", "SL215"}


def test_a_stream_that_only_mentions_joblib_is_a_pickle() -> None:
    report = scan(forge.stream(forge.PROTO(4), forge.TEXT("joblib.numpy_pickle"), forge.STOP))
    assert (report.format, report.decision.outcome) == ("pickle", Outcome.ALLOWED)


def test_a_plain_pickle_steps_over_nothing() -> None:
    """Only the name makes a stream joblib's: without it the bytes are opcodes, as they are for everybody."""
    data = file_of(
        described(head=forge.stream(forge.GLOBAL("other", "NumpyArrayWrapper"), forge.EMPTY_TUPLE, forge.NEWOBJ)), padded(NUMBERS)
    )
    report = scan(data)
    assert report.format == "pickle"
    assert "SL129" in rules(report)


COMPRESS: list[Any] = [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 1), ("xz", 1), ("lz4", 1)]


@pytest.mark.parametrize("compress", COMPRESS, ids=str)
@pytest.mark.parametrize("protocol", [None, 0, 2, 5])
def test_what_joblib_writes_is_read_as_joblib_reads_it(compress: Any, protocol: int | None, tmp_path: Path) -> None:
    """The witness: every array that joblib gives back, we give back."""
    joblib = pytest.importorskip("joblib")
    np = pytest.importorskip("numpy")
    if compress and compress[0] == "lz4":
        pytest.importorskip("lz4")
    value = {
        "numbers": np.arange(2000.0).reshape(40, 50),
        "columns": np.ones((3, 4), order="F"),
        "none": np.zeros((0, 3)),
        "one": np.array(7),
        "text": np.array(["abc", "d"]),
        "dates": np.array(["2020-01-01"], dtype="M8[D]"),
        "rows": np.zeros(3, dtype=[("x", "f4"), ("y", "i8")]),
        "big": np.arange(5, dtype=">i4"),
        "plain": [1, "x", None],
        "scalar": np.float32(1.5),
    }
    path = tmp_path / "value.joblib"
    joblib.dump(value, path, compress=compress, protocol=protocol)
    report = safeload.scan(path, policy={}, lock=False)
    assert (report.format, report.decision.outcome) == ("joblib", Outcome.ALLOWED), report
    pytest.importorskip("torch")
    ours = safeload.load(path, policy={"unpinned": "allow"}, lock=False)
    theirs = joblib.load(path)
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert type(ours[name]) is type(expected), name
        if isinstance(expected, np.ndarray):  # joblib brings numbers into the machine's byte order, we leave them as they are
            assert ours[name].dtype.newbyteorder("=") == expected.dtype, name
        assert np.array_equal(ours[name], expected), name


def test_a_damaged_file_ends_in_a_report() -> None:
    """Every prefix and every changed byte of a file with two arrays."""
    data = file_of(
        forge.stream(described(), padded(NUMBERS), forge.POP, described(kind=dtype("O8"))),
        forge.stream(forge.PROTO(2), forge.NONE, forge.STOP),
    )
    for end in (0, *range(2, len(data))):  # the first byte alone is an empty map of msgpack
        assert scan(data[:end]).decision.outcome is not Outcome.ALLOWED
    for at in range(len(data)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            scan(data[:at] + bytes([value]) + data[at + 1 :])
