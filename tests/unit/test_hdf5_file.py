"""HDF5: the structure is read from the first byte to every attribute, and what leads out of the file or hides is named."""

from __future__ import annotations

import json
import pickle
import random
import struct
import zlib
from pathlib import Path

import pytest

from safeload import formats, inspect, load
from safeload.errors import UnsupportedError
from safeload.findings import Level, Outcome
from safeload.formats.base import Contents
from safeload.formats.hdf5.space import checksum
from safeload.source import Limits, Reading, Source
from tests import forge_hdf5 as f
from tests.effort import within
from tests.forge_attacks import scan
from tests.forge_hdf5 import Dataset, External, Group, Message, Soft, Virtual, hdf5
from tests.forge_zip import Part, forge

HOSTILE = b"cos\nsystem\n(S'true'\ntR."
PLAIN = pickle.dumps({"a": [1, 2]}, 2)
STYLES = pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])


def read(data: bytes | Path, **limits: int) -> Contents:
    with Source.open(data) as source:
        contents = formats.read(source, Reading(limits=Limits(**limits)))
    assert contents is not None
    return contents


def found(data: bytes, level: Level | None = None) -> list[tuple[str, str | None]]:
    """(rule, member) of findings, above level note unless a level is given."""
    report = scan(data)
    return [(item.rule, item.member) for item in report.findings if (item.level is level if level else item.level is not Level.NOTE)]


# ---- what is in it


@STYLES
def test_datasets_are_listed_as_tensors(newer: bool) -> None:
    """Names, types and shapes; no number is read."""
    root = Group({"a": Group({"w": Dataset(f.FLOAT32, (2, 3), bytes(24))}), "n": Dataset(f.INT64, (), bytes(8), compact=True)})
    found = inspect(hdf5(root, newer=newer))
    assert found.format == "hdf5"
    assert [(item.name, item.dtype, item.shape, item.nbytes) for item in found.tensors] == [
        ("a/w", "float32", (2, 3), 24),
        ("n", "int64", (), 8),
    ]


@STYLES
def test_an_ordinary_file_is_allowed(newer: bool) -> None:
    attrs = {"text": "value", "bytes": b"raw", "many": (f.INT64, (3,), bytes(24))}
    root = Group({"g": Group({"d": Dataset(f.variable(), (2,), [b"one", b"two"])}, attrs)}, {"keras_version": "3.0"})
    report = scan(hdf5(root, newer=newer))
    assert report.decision.outcome is Outcome.ALLOWED, report.findings
    assert report.metadata["keras_version"] == "3.0"
    assert not report.findings


@pytest.mark.torch
def test_a_load_says_what_can_be_done_instead() -> None:
    """It is no checkpoint; the error names what works."""
    with pytest.raises(UnsupportedError, match="scanned, locked and verified"):
        load(hdf5(), policy={}, lock=False)


# ---- what leads out of it


@STYLES
@pytest.mark.parametrize(
    ("link", "rule"),
    [
        (External("/etc/passwd", "/x"), "SL812"),
        (Dataset(f.UINT8, (4,), files=("/etc/passwd",), claims=4), "SL812"),
        (Dataset(f.UINT8, (4,), virtual=Virtual("../other.h5", "d")), "SL812"),
        (Dataset(f.FLOAT32, (1 << 40,), None, chunk=(1 << 20,)), "SL813"),
        (Dataset(f.FLOAT32, (1 << 62, 8), None), "SL811"),
        (Dataset(f.FLOAT32, (2,), bytes(8), filters=(40_000,), chunk=(2,)), "SL814"),
        (Dataset(f.opaque(4), (2,), bytes(8), filters=(32_000,), chunk=(2,)), "SL815"),
        (Dataset(f.FLOAT32, (8,), bytes(8), claims=8), "SL811"),
        (Dataset(f.FLOAT32, (8,), bytes(8), claims=1 << 40), "SL811"),
    ],
    ids=["link", "storage", "virtual", "bomb", "count", "filter", "packed", "short", "outside"],
)
def test_what_the_library_would_open_load_or_allocate_is_refused(newer: bool, link: object, rule: str) -> None:
    """CVE-2026-1669 and CVE-2026-0897: https://github.com/keras-team/keras/security/advisories."""
    report = scan(hdf5(Group({"layers": Group({"x": link})}), newer=newer))
    assert report.decision.outcome is Outcome.REFUSED
    assert (rule, "layers/x") in [(item.rule, item.member) for item in report.findings]


def test_the_file_that_is_meant_is_named_and_escaped() -> None:
    report = scan(hdf5(Group({"x": External("/etc/pass\x1b[2Jwd", "/x")})))
    assert "\\x1b[2J" in report.findings[0].message


def test_a_virtual_dataset_of_the_same_file_is_a_warning() -> None:
    """Keras refuses all of them, and no other file is read."""
    report = scan(hdf5(Group({"x": Dataset(f.UINT8, (4,), virtual=Virtual(".", "y"))})))
    assert [(item.rule, item.level) for item in report.findings] == [("SL812", Level.WARNING)]


def test_a_link_that_a_program_follows_itself_is_not_analysed() -> None:
    raw = bytes([1, 0x18, 99, 1, 1]) + b"u" + struct.pack("<H", 2) + b"ab"
    assert found(hdf5(Group(extra=(Message(0x06, raw),)))) == [("SL815", "u")]


def test_a_soft_link_is_worth_a_note() -> None:
    assert found(hdf5(Group({"s": Soft("/elsewhere")})), Level.NOTE) == [("SL817", "s")]


@pytest.mark.parametrize(("member", "level"), [(f.fixed(4), Level.NOTE), (f.opaque(4), Level.WARNING), (f.vlen_bytes(), Level.WARNING)])
def test_texts_in_the_columns_of_a_packed_table_are_worth_a_note(member: bytes, level: Level) -> None:
    """pandas packs tables with a filter of its own; what may be a stream among the columns counts."""
    size = 4 + struct.unpack("<I", member[4:8])[0]
    table = bytes([0x36, 2, 0, 0]) + struct.pack("<I", size) + b"n\0" + b"\0" + f.FLOAT32 + b"t\0" + b"\4" + member
    report = scan(hdf5(Group({"x": Dataset(table, (2,), bytes(2 * size), filters=(32_001,), chunk=(2,))})))
    assert [(item.rule, item.level) for item in report.findings] == [("SL815", level)]


@pytest.mark.parametrize("kind", [0x18, 0x40, 0xFF])
def test_a_message_of_an_unknown_type_counts(kind: int) -> None:
    assert ("SL815", None) in found(hdf5(Group(extra=(Message(kind, bytes(8)),))))


# ---- streams


@STYLES
@pytest.mark.parametrize(
    "dataset",
    [
        Dataset(f.fixed(40), (2,), HOSTILE.ljust(40, b"\0") + bytes(40)),
        Dataset(f.opaque(len(HOSTILE)), (), HOSTILE),
        Dataset(f.variable(), (2,), [b"text", HOSTILE]),
        Dataset(f.vlen_bytes(), (1,), [HOSTILE]),
        Dataset(f.fixed(len(HOSTILE)), (1,), HOSTILE, chunk=(1,)),
        Dataset(f.fixed(len(HOSTILE)), (1,), zlib.compress(HOSTILE), chunk=(1,), filters=(1,)),
        Dataset(f.opaque(len(HOSTILE)), (), HOSTILE, compact=True),
        Dataset(f.UINT8, (len(HOSTILE) + 2,), b"\x80\x02" + HOSTILE),
    ],
    ids=["fixed", "opaque", "text", "bytes", "chunk", "deflated", "compact", "octets"],
)
def test_a_stream_in_a_dataset_is_walked(newer: bool, dataset: Dataset) -> None:
    """PyTables and pandas unpickle elements; others keep objects as opaque bytes or rows of bytes."""
    report = scan(hdf5(Group({"x": dataset}), newer=newer))
    assert "os.system" in report.globals or "posix.system" in report.globals
    assert report.decision.outcome is Outcome.REFUSED
    assert ("SL101", "x") in [(item.rule, item.member) for item in report.findings]


@STYLES
@pytest.mark.parametrize("value", [HOSTILE, HOSTILE.decode()], ids=["fixed", "variable"])
def test_a_stream_in_an_attribute_is_walked(newer: bool, value: bytes | str) -> None:
    """PyTables unpickles attributes as it opens the file."""
    report = scan(hdf5(Group({"g": Group(attrs={"info": value})}), newer=newer))
    assert ("SL101", "g.attrs[info]") in [(item.rule, item.member) for item in report.findings]


def test_plain_data_as_a_stream_is_a_note() -> None:
    """pandas writes dicts and lists of names so."""
    report = scan(hdf5(Group({"x": Dataset(f.opaque(len(PLAIN)), (), PLAIN)}, {"axes": b"(lp0\nI1\na."})))
    assert report.decision.outcome is Outcome.ALLOWED
    assert {item.rule for item in report.findings} == {"SL816"}


@pytest.mark.parametrize("text", ["", ".", "N.", "I love this model.", "\x80\x04 is no stream", "(dp0", "{not json", '{"a": 1}'])
def test_text_is_no_stream(text: str) -> None:
    report = scan(hdf5(Group(attrs={"note": text.encode("latin-1")})))
    assert report.decision.outcome is Outcome.ALLOWED, report.findings


@STYLES
def test_an_object_that_only_a_reference_reaches_is_looked_at(newer: bool) -> None:
    """A group without a name is still in the file, and a program may follow the reference."""
    hidden = Group({"deep": Group(attrs={"info": HOSTILE})})
    report = scan(hdf5(Group({"r": Dataset(f.reference(), (1,), refers=(hidden,))}), newer=newer))
    assert ("SL101", "r[0]/deep.attrs[info]") in [(item.rule, item.member) for item in report.findings]


# ---- what is wrong with it


@pytest.mark.parametrize("newer", [False, True])
def test_every_truncation_is_refused_or_no_verdict(newer: bool) -> None:
    """Never allowed, never a builtin exception."""
    data = hdf5(Group({"a": Group({"w": Dataset(f.variable(), (1,), [b"value"])}, {"k": "v"})}), newer=newer)
    for size in range(8, len(data), 7):
        report = scan(data[:size])
        assert report.decision.outcome is not Outcome.ALLOWED, size


def test_bytes_behind_the_end_are_named() -> None:
    report = scan(hdf5(behind=b"more"))
    assert [(item.rule, item.level) for item in report.findings] == [("SL811", Level.WARNING)]


def test_a_changed_seal_is_named() -> None:
    """Of the newer style every structure is sealed; the library refuses a broken seal."""
    data = bytearray(hdf5(Group({"a": Group()}), newer=True))
    at = data.index(b"OHDR")
    data[at + 12] ^= 1
    assert any(rule == "SL811" for rule, _ in found(bytes(data)))


def test_a_group_that_holds_itself_ends() -> None:
    """Hard links may form circles; every object is looked at once."""
    first = hdf5(Group({"a": 96}))
    root = struct.unpack_from("<Q", first, 64)[0]
    report = scan(hdf5(Group({"a": root})))
    assert report.decision.outcome is Outcome.ALLOWED


def test_structures_that_lie_in_one_another_end_in_a_limit() -> None:
    """Each of thousands of links leads to another byte of the same large header: reading them all would take hours."""
    body = struct.pack("<HHB3x", 0, 8, 0) + bytes(8)
    inner = (struct.pack("<BxHII4x", 1, 1, 1, 1 << 16) + body * 8) * 4000
    base = hdf5(Group({"x": Dataset(f.UINT8, (len(inner),), inner)}))
    at = base.index(inner)
    links = {f"l{number}": at + number * 144 for number in range(3000)}
    data = hdf5(Group({"x": Dataset(f.UINT8, (len(inner),), inner), **links}))
    assert data.index(inner) == at
    with within(30):
        contents = read(data)
        assert contents.error is not None
        assert "lie in one another" in contents.error


@pytest.mark.parametrize("fill", [0, 0xFF, 0x41])
def test_overwritten_ranges_end_in_our_errors(fill: int) -> None:
    """Any eight bytes replaced: a finding, an error or nothing at all, and never anything else."""
    attrs = {"model_config": json.dumps({"class_name": "Sequential", "config": []}), "b": b"x"}
    for newer in (False, True):
        data = hdf5(Group({"a": Group({"w": Dataset(f.variable(), (1,), [b"value"]), "e": External("a", "b")}, attrs)}), newer=newer)
        for at in range(8, min(len(data), 6000), 40):
            bad = data[:at] + bytes([fill]) * 8 + data[at + 8 :]
            assert scan(bad).decision.reasons != ("not decided",)


def test_random_bytes_behind_a_signature_end_in_our_errors() -> None:
    rng = random.Random(7)
    for version in (0, 1, 2, 3, 4):
        for _ in range(50):
            report = scan(b"\x89HDF\r\n\x1a\n" + bytes([version]) + rng.randbytes(300))
            assert report.format == "hdf5"
            assert report.decision.outcome is not Outcome.ALLOWED


# ---- beside other formats


def test_data_behind_a_user_block_is_found() -> None:
    """The library looks for its signature at 0, 512, 1024, …"""
    report = scan(hdf5(Group({"e": External("/a", "b")}), user_block=b"MATLAB 7.3 MAT-file".ljust(600)))
    assert report.format == "hdf5"
    assert [(item.rule, item.member) for item in report.findings] == [("SL812", "e"), ("SL818", None)]


def test_a_stream_in_front_of_the_data_is_found() -> None:
    """The same file, given to an unpickler."""
    report = scan(hdf5(Group(), user_block=HOSTILE))
    assert {"SL101", "SL213"} <= {item.rule for item in report.findings}


def test_data_behind_a_pickle_is_a_second_face() -> None:
    """A plain pickle for one program, a model for another."""
    report = scan(hdf5(Group({"e": External("/a", "b")}), user_block=PLAIN))
    assert report.format == "pickle"
    assert {"SL213", "SL812"} <= {item.rule for item in report.findings}


def test_a_member_of_an_archive_is_read_as_what_it_is() -> None:
    data = forge(Part("a/weights.h5", hdf5(Group({"e": External("/a", "b")}))))
    assert ("SL812", "a/weights.h5!e") in found(data)


def test_a_packed_member_is_read_once() -> None:
    """Its structures lie anywhere; unpacking it anew for each step back would take for ever."""
    links = {f"d{number:04}": Dataset(f.FLOAT32, (256,), bytes(1024)) for number in range(1500)}
    with within(30):
        report = scan(forge(Part("weights.h5", hdf5(Group(links)), method=8)))
        assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons


def test_the_hash_is_the_librarys() -> None:
    """Values of Bob Jenkins' own test of lookup3 with an initial value of 0, and lengths around a block's."""
    assert checksum(b"") == 0xDEADBEEF
    assert checksum(b"Four score and seven years ago") == 0x17770551
    assert len({checksum(bytes(size)) for size in range(40)}) == 40


def test_types_have_names() -> None:
    """As people know them; what has no name is described by its size."""
    half = bytes([0x11, 0x20, 15, 0]) + struct.pack("<IHHBBBBI", 2, 0, 16, 10, 5, 0, 10, 15)
    brain = bytes([0x11, 0x20, 15, 0]) + struct.pack("<IHHBBBBI", 2, 0, 16, 7, 8, 0, 7, 127)
    array = bytes([0x3A, 0, 0, 0]) + struct.pack("<IBI", 8, 1, 2) + f.FLOAT32
    members = b"r\0" + b"\0" + f.FLOAT32 + b"i\0" + b"\4" + f.FLOAT32
    complex64 = bytes([0x36, 2, 0, 0]) + struct.pack("<I", 8) + members
    truth = bytes([0x38, 2, 0, 0]) + struct.pack("<I", 1) + f.UINT8 + b"FALSE\0TRUE\0" + b"\0\1"
    kinds = [half, brain, array, complex64, truth, f.reference(), f.fixed(5), f.variable(), f.opaque(3)]
    links = {f"{number}": Dataset(kind, (0,), None) for number, kind in enumerate(kinds)}
    names = [item.dtype for item in inspect(hdf5(Group(links))).tensors]
    expected = ["float16", "bfloat16", "float32[2]", "complex64", "bool", "reference", "string[5]", "string", "opaque[3]"]
    assert names == expected
