"""numpy's files: object arrays are streams, whatever their header says, and plain ones end where they should."""

from __future__ import annotations

import io
import pickle
import random
import struct

import pytest

from safeload.formats.base import Contents
from safeload.formats.npy_file import NpyFile
from safeload.source import Reading, Source
from tests.effort import within

READER = NpyFile()
HOSTILE = b"cos\nsystem\n(S'true'\ntR."


def array(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    """A file with any header, of any version."""
    raw = header if isinstance(header, bytes) else header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + data


def described(descr: str, shape: str = "(2,)", data: bytes = bytes(8)) -> bytes:
    return array(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}   \n", data)


def read(data: bytes) -> Contents:
    return READER.read(Source.open(data), Reading())


def rules(contents: Contents) -> set[str]:
    return {found.rule for found in contents.findings} | {found.rule for part in contents.parts for found in part.walk.findings}


@pytest.mark.parametrize(
    ("descr", "shape", "nbytes"),
    [
        ("'<f4'", "(2, 3)", 24),
        ("'|b1'", "()", 1),
        ("'?'", "(3,)", 3),
        ("'>c16'", "(1,)", 16),
        ("'<U3'", "(2,)", 24),
        ("'|S5'", "(0, 4611686018427387903)", 0),
        ("'<M8[D]'", "(1,)", 8),
        ("'<m8[25ns]'", "(1,)", 8),
        ("'|V7'", "(2,)", 14),
        ("[('a', '<f4', (2,)), ('b', '|u1')]", "(2,)", 18),
        ("[(('title', 'a'), '<i2'), ('', '|V6')]", "(1L,)", 8),
        ("[('a', [('b', '<f8'), ('c', '<f8', 3)])]", "(1,)", 32),
        ("('<f4', (2, 2))", "(1,)", 16),
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_plain_arrays_are_read_to_their_last_byte(descr: str, shape: str, nbytes: int, version: int) -> None:
    header = f"{{'descr': {descr}, 'fortran_order': True, 'shape': {shape}, }}\n"
    contents = read(array(header, bytes(nbytes), version))
    assert contents.error is None
    assert not contents.findings
    assert not contents.parts
    assert contents.metadata["fortran_order"] == "True"
    assert rules(read(array(header, bytes(nbytes) + b"x", version))) == {"SL302"}
    if nbytes:
        assert rules(read(array(header, bytes(nbytes - 1), version))) == {"SL502"}


@pytest.mark.parametrize("descr", ["'|O'", "'O'", "'|O8'", "[('a', '<f4'), ('b', '|O')]", "[('a', [('b', '|O', (1,))])]", "('|O', (2,))"])
def test_objects_anywhere_in_a_dtype_make_it_a_stream(descr: str) -> None:
    """Numpy unpickles the data as soon as one field holds objects."""
    contents = read(described(descr, data=HOSTILE))
    assert [part.walk.globals for part in contents.parts] == [("os.system",)]
    assert "SL101" in rules(contents)
    assert contents.parts[0].offset == contents.parts[0].walk.walker.start
    assert contents.error is None


def test_a_harmless_object_array_has_a_part_and_no_finding() -> None:
    contents = read(described("'|O'", data=pickle.dumps(["a", 1])))
    assert len(contents.parts) == 1
    assert not rules(contents)


@pytest.mark.parametrize(
    "descr",
    [
        "'object'", "'o'", "'|' 'O'", "'\\x4f'", "u'O'", "'f4,O'", "'O4'[:1]", "{'names': ['a'], 'formats': ['O']}", "'|O' # x\n", "None",
        "3", "('|O',)", "['|O']", "[('a',)]", "[(1, '|O')]", "'f3'", "'<M8[D]x'", "'S'", "[[[[('a', '|O')]]]]",
    ],
)  # fmt: skip
def test_a_dtype_that_numpy_may_take_for_objects_hides_no_stream(descr: str) -> None:
    """`numpy.dtype` understands many spellings; what is not the usual one is refused, and what follows is walked."""
    contents = read(described(descr, data=HOSTILE))
    assert contents.error is not None
    assert {"SL303", "SL125", "SL101"} <= rules(contents) or descr == "'O4'"


@pytest.mark.parametrize(
    "header",
    [
        "  ",
        "{ ",
        "{}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [2]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (02,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} {}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ((((((((((((((((((((((2,))))))))))))))))))))))}",
        "__import__('os')",
        "(" * 60_000,
        "[" * 60_000 + "'|O'",
        "{" * 60_000,
        "[('a','|V999999999999999999',(" + "9999999999999999999," * 2_000 + "))]",
    ],
)
def test_a_header_that_numpy_does_not_write(header: str) -> None:
    with within(5):
        assert rules(read(array(header))) == {"SL303"}


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_a_file_that_ends_early(cut: int) -> None:
    whole = described("'<f4'")
    contents = read(whole[: min(cut, len(whole) - 1)])
    assert contents.error is not None
    assert rules(contents) <= {"SL502", "SL303"}


def test_arrays_behind_one_another_are_all_read() -> None:
    """np.save appends to an open file."""
    contents = read(described("'<f4'") + described("'|O'", data=HOSTILE) + described("'<f4'"))
    assert contents.error is None
    assert len(contents.parts) == 1
    contents = read(described("'<f4'") + HOSTILE)
    assert {"SL302", "SL125", "SL101"} <= rules(contents)


def test_the_stream_of_an_object_array_that_breaks_is_kept() -> None:
    """What comes before the break has been run by then."""
    contents = read(described("'|O'", data=HOSTILE[:-1] + b"\xff"))
    assert contents.error is not None
    assert {"SL129", "SL101"} <= rules(contents)


def test_damaged_files_end_in_contents() -> None:
    rng = random.Random(3)
    seeds = [
        described("'<f4'"),
        described("'|O'", data=pickle.dumps([1, "a"])),
        described("[('a', '<f4', (2,)), ('b', '|O')]", data=HOSTILE),
    ]
    for _ in range(1_500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            what = rng.randrange(3)
            if what == 0:
                data[at] = rng.choice(b"()[]{},:'\"0919OfL \n\\x")
            elif what == 1:
                data[at] ^= 1 << rng.randrange(8)
            else:
                del data[at : at + rng.randrange(1, 6)]
        contents = read(bytes(data))
        assert contents.error is None or contents.findings


def test_files_of_numpy_are_read() -> None:
    numpy = pytest.importorskip("numpy")
    arrays = [
        numpy.zeros((2, 3), "<f4"), numpy.array([1, "a"], object), numpy.zeros(2, [("a", "<f4", (2,)), ("b", "O")]),
        numpy.array(["2020"], "M8[D]"), numpy.zeros((), "U3"), numpy.asfortranarray(numpy.zeros((3, 2))), numpy.zeros(0, "S4"),
        numpy.zeros(1, {"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 32}),
        numpy.zeros(1, [("é", "f4")]), numpy.zeros(1, [(("t", "n"), "f2")]), numpy.zeros(2, "c16"), numpy.zeros(2, "?"),
        numpy.zeros(1, "g"),
    ]  # fmt: skip
    for value in arrays:
        for version in ((1, 0), (2, 0), (3, 0)):
            file = io.BytesIO()
            try:
                numpy.lib.format.write_array(file, value, version)
            except ValueError:
                continue  # a field name that version 1 cannot spell
            contents = read(file.getvalue())
            assert contents.error is None, value.dtype
            assert not contents.findings
            assert len(contents.parts) == value.dtype.hasobject
