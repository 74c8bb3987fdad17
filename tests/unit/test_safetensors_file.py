"""The safetensors reader: what the written format says, no more, and never more than the reference."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from safeload.findings import Level
from safeload.formats.base import Contents
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.source import Limits, Reading, Source
from tests.effort import within
from tests.forge_safetensors import damaged, entry, file_of, random_file

READER = SafetensorsFile()


def read(data: bytes, **limits: int) -> Contents:
    return READER.read(Source.open(data), Reading(limits=Limits(**limits)))


def one(raw: bytes, data: bytes = bytes(4)) -> Contents:
    """A file whose only tensor, "a", is described by `raw`."""
    return read(file_of(b'{"a":' + raw + b"}", data))


def test_tensors_come_in_the_order_of_their_bytes() -> None:
    """So does the reference give them, whatever the order of the header."""
    header = {"b": entry("F32", [1], 4, 8), "__metadata__": {"k": "v"}, "a": entry("F32", [1, 1], 0, 4), "c": entry("BOOL", [0], 8, 8)}
    contents = read(file_of(header, bytes(8)))
    assert contents.error is None
    assert not contents.findings
    assert contents.table is not None
    assert list(contents.table) == ["a", "b", "c"]
    assert contents.metadata == {"k": "v"}
    spec = contents.table["b"]
    assert spec.storage.region is not None
    base = len(file_of(header))
    assert (spec.dtype, spec.shape, spec.stride, spec.storage.region.offset, spec.nbytes) == ("float32", (1,), (1,), base + 4, 4)
    assert contents.storages == [tensor.storage for tensor in contents.table.values()]


def test_strides_are_those_of_a_contiguous_tensor() -> None:
    contents = read(file_of({"a": entry("I16", [2, 3, 4], 0, 48)}, bytes(48)))
    assert contents.table is not None
    assert contents.table["a"].stride == (12, 4, 1)
    assert contents.table["a"].contiguous


def test_four_bit_values_are_counted_in_torch_elements() -> None:
    """The header counts values, torch counts bytes of two values."""
    contents = read(file_of({"a": entry("F4", [3, 4], 0, 6)}, bytes(6)))
    assert contents.table is not None
    assert (contents.table["a"].shape, contents.table["a"].nbytes, contents.table["a"].dtype) == ((3, 2), 6, "float4_e2m1fn_x2")
    assert read(file_of({"a": entry("F4", [4, 3], 0, 6)}, bytes(6))).error is not None


def test_a_dtype_without_a_torch_type_is_a_warning() -> None:
    """The file is right, and a table that leaves a tensor out in silence would be wrong."""
    contents = read(file_of({"a": entry("F6_E2M3", [4], 0, 3), "b": entry("U8", [1], 3, 4)}, bytes(4)))
    assert contents.error is None
    assert [(found.rule, found.level) for found in contents.findings] == [("SL401", Level.WARNING)]
    assert list(contents.table or ()) == ["b"]


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}', "just dtype"),
        (b'{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}', "just dtype"),
        (b'{"dtype":"F32","shape":[1],"shape":[1]}', "just dtype"),
        (b'{"dtype":"F32","shape":[1]}', "just dtype"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4],}', "just dtype"),
        (b'["F32",[1],[0,4]]', "just dtype"),
        (b'{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}', "just dtype"),
        (b'{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}', "just dtype"),
        (b'{"dtype":"F32","shape":[01],"data_offsets":[0,4]}', "just dtype"),
        (b'{"dtype":"F32","shape":[1,],"data_offsets":[0,4]}', "just dtype"),
        (b'{"dtype":"F32","shape":[1 1],"data_offsets":[0,4]}', "just dtype"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}', "just dtype"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"9" * 5000 + b"]}", "just dtype"),
        (b'{"dtype":"F33","shape":[1],"data_offsets":[0,4]}', "does not exist"),
        (b'{"dtype":"F32","shape":[' + b",".join([b"1"] * 65) + b'],"data_offsets":[0,4]}', "65 dimensions"),
        (b'{"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[0,0]}', "a shape of"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', "behind its object"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]},', "a text is due"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]} "b"', "a comma"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}', "two tensors"),
    ],
)
def test_a_header_that_the_format_does_not_have(raw: bytes, what: str) -> None:
    """What two JSON readers can disagree on, or one of them takes beyond the format, is refused."""
    contents = one(raw)
    assert what in (contents.error or "")
    assert contents.table is None
    assert [found.rule for found in contents.findings] == ["SL401"]


@pytest.mark.parametrize(
    ("header", "size", "what"),
    [
        ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, 12, "a hole"),
        ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, 4, "an overlap"),
        ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [2], 2, 10)}, 10, "an overlap"),
        ({"a": entry("F32", [1], 4, 0)}, 4, "a hole"),
        ({"a": entry("F32", [2], 0, 4)}, 4, "2 elements"),
        ({"a": entry("F4", [3], 0, 1)}, 1, "3 elements"),
        ({"a": entry("F32", [1], 0, 4)}, 5, "the file has"),
        ({"a": entry("F32", [1], 0, 4)}, 3, "the file has"),
        ({"q": entry("F32", [0], 2, 2), "a": entry("F32", [1], 0, 4)}, 4, "an overlap"),
        ({}, 1, "the file has"),
    ],
)
def test_tensors_must_cover_the_data_once(header: dict[str, object], size: int, what: str) -> None:
    """Bytes that belong to nothing can be another file; bytes that belong to two tensors can be changed behind one's back."""
    contents = read(file_of(header, bytes(size)))
    assert what in (contents.error or "")
    assert [found.rule for found in contents.findings] == ["SL402"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the header's length alone"),
        (file_of(b""), "does not begin"),
        (file_of(b" {}"), "does not begin"),
        (file_of(b"\xef\xbb\xbf{}"), "does not begin"),
        (file_of(b'{"\xff":1}'), "not UTF-8"),
        (file_of(b"{}\0"), "behind its object"),
        (file_of(b"{} {}"), "behind its object"),
        (file_of(b"{"), "a text is due"),
        (file_of(b'{"a'), "not valid JSON"),
        (file_of(b'{"a"'), "a colon"),
        (file_of(b'{"a\\x":1}'), "not valid JSON"),
        (file_of(b'{"\\ud800":1}'), "half a surrogate"),
        (file_of(b'{"__metadata__":null}'), "not an object"),
        (file_of(b'{"__metadata__":{"a":1}}'), "a text is due"),
        (file_of(b'{"__metadata__":{"a":"1","\\u0061":"2"}}'), "twice"),
        (file_of(b'{"__metadata__":{},"__metadata__":{}}'), "twice"),
        (file_of(b"{}", length=3), "ends at byte 11"),
        (file_of(b"{}", length=1 << 63), "are read"),
    ],
)
def test_a_broken_header_says_what_is_wrong(data: bytes, what: str) -> None:
    contents = read(data)
    assert what in (contents.error or "")
    assert [found.rule for found in contents.findings] == ["SL401"]


def test_escapes_in_names_are_undone() -> None:
    contents = read(file_of(b'{"\\u00e9\\n\\"":{"shape":[ ] , "data_offsets" : [0,4],\n"dtype":"F32"} } \n', bytes(4)))
    assert contents.error is None
    assert list(contents.table or ()) == ['é\n"']


def test_a_finding_gives_the_byte_also_behind_other_alphabets() -> None:
    raw = '{"é":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":7}'.encode()
    contents = read(file_of(raw, bytes(4)))
    assert contents.findings[0].offset == 8 + raw.index(b"7}")


@pytest.mark.parametrize("junk", [b"[", b'{"a":', b'{"a":{"dtype":', b'{"__metadata__":{"a":"\\"', b"[0,", b"{} ", b'"', b"1"])
def test_a_long_header_costs_no_more_than_its_text(junk: bytes) -> None:
    """Nesting must not recurse, and what is no tensor must not be kept."""
    header = b'{"a":' + junk * (4_000_000 // len(junk))
    data = file_of(header)
    tracemalloc.start()
    with within(10):
        contents = read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert contents.error is not None
    assert peak < 10 * len(data)


def test_the_number_of_tensors_is_bounded() -> None:
    header = {f"t{i}": entry("U8", [0], 0, 0) for i in range(11)}
    assert read(file_of(header), members=11).error is None
    assert "more than 10" in (read(file_of(header), members=10).error or "")
    assert "are read" in (read(file_of(header), header_bytes=100).error or "")


@pytest.mark.parametrize(
    ("data", "claimed"),
    [
        (file_of({}), True),
        (file_of({"a": entry("F32", [1 << 20], 0, 1 << 22)}), True),
        (file_of(b"  {}"), True),
        (file_of(b"{}", length=50_000), True),
        (b'{"a": 1, "b": {"c": 2}}', False),
        (b"", False),
        (b"PK\3\4" + bytes(40), False),
        (b"\x80\x02}q\x00.", False),
        (bytes(8) + b"{", False),
    ],
)
def test_only_content_is_claimed(data: bytes, claimed: bool) -> None:
    """A truncated file is still a safetensors file, and gets that reader's message."""
    assert READER.claims(Source.open(data)) is claimed


def test_whatever_is_accepted_the_reference_reads_the_same() -> None:
    """No file may be one thing here and another in the loader: 2,000 damaged files, the reference as the oracle."""
    safetensors = pytest.importorskip("safetensors")
    rng = random.Random(20240207)
    accepted = 0
    for _ in range(2_000):
        good = random_file(rng)
        data = damaged(rng, good) if rng.random() < 0.8 else good
        contents = read(data)
        if contents.table is None:
            assert contents.error
            assert contents.findings
            assert data != good
            continue
        accepted += 1
        theirs = {name: (view["shape"], bytes(view["data"])) for name, view in safetensors.deserialize(data)}
        ours = {}
        for name, spec in contents.table.items():
            region = spec.storage.region
            assert region is not None
            ours[name] = (list(spec.shape), data[region.offset : region.offset + region.nbytes])
        assert ours == theirs
    assert accepted > 400


@pytest.mark.torch
def test_files_of_the_reference_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    kinds = ["float64", "float16", "bfloat16", "int64", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "complex64"]
    kinds += ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]
    tensors = {f"t.{name}": torch.zeros(2, 3, dtype=torch.uint8).to(getattr(torch, name)) for name in kinds}
    tensors["packed"] = torch.zeros(2, 3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    path = tmp_path / "m.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    contents = READER.read(Source.open(path), Reading())
    loaded = load_file(path)
    assert contents.error is None
    assert contents.metadata == {"format": "pt"}
    assert contents.table is not None
    assert list(contents.table) == list(loaded)
    assert {name: (f"torch.{spec.dtype}", spec.shape) for name, spec in contents.table.items()} == {
        name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in loaded.items()
    }


@pytest.mark.torch
def test_the_order_is_that_of_the_reference(tmp_path: Path) -> None:
    """Headers in any order; among tensors without bytes at one place the reference's own order is by chance."""
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    rng = random.Random(11)
    for index in range(50):
        path = tmp_path / f"{index}.safetensors"
        path.write_bytes(random_file(rng))
        table = READER.read(Source.open(path), Reading()).table or {}
        assert [name for name, spec in table.items() if spec.nbytes] == [name for name, value in load_file(path).items() if value.nbytes]


def test_many_tensors_are_read_quickly() -> None:
    """20,000 tensors are an ordinary sharded model; the bound is loose, a quadratic reader misses it by far."""
    header = {f"model.layers.{i}.weight": entry("F32", [1], 4 * i, 4 * i + 4) for i in range(20_000)}
    data = file_of(header, bytes(80_000))
    with within(3):
        contents = read(data)
        assert contents.error is None


def test_a_file_that_an_unpickler_would_also_read_is_two_files() -> None:
    """The eight bytes of the length can be an opcode that swallows the front of the header."""
    record = b'":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    header = b'{"' + b"a" * 11 + b"cos" + record + b"\n,\n" + b'"b' + record + b"}"
    length = 0x1000 + ord("X")  # BINUNICODE of 16 bytes; GLOBAL stands behind them
    data = file_of(header.ljust(length))
    contents = read(data)
    assert contents.error is None
    assert list(contents.table or ()) == ["a" * 11 + "cos", "b"]
    assert [found.rule for found in contents.findings] == ["SL213"]
    assert len(contents.parts) == 1
    assert read(file_of({"a": entry("U8", [1], 0, 1)}, b"x")).parts == []
