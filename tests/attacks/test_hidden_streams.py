"""Streams that lie where a scanner does not look: behind STOP, in a later pickle of a file, in members of any name, behind a container."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable

import pytest

from safeload.findings import Level
from tests import forge
from tests.forge_attacks import HOSTILE, PAYLOAD, PLAIN, checkpoint, legacy, refused, scan
from tests.forge_safetensors import file_of
from tests.forge_zip import Part, torch_zip
from tests.forge_zip import forge as zip_file


def test_a_second_pickle_behind_the_first() -> None:
    """`pickle.load` twice on one file is how several objects are kept in it."""
    refused(PLAIN + HOSTILE, "SL101", "SL128", subject="os.system")


@pytest.mark.parametrize("count", [2, 50])
def test_the_last_of_many_pickles(count: int) -> None:
    refused(PLAIN * count + HOSTILE, "SL101", subject="os.system")


def test_a_second_pickle_behind_stop_in_a_checkpoint() -> None:
    """torch reads one object; another program that goes on reading the member runs the second."""
    refused(checkpoint(PLAIN + HOSTILE), "SL101", "SL125", subject="os.system")


@pytest.mark.parametrize("gap", [b"\0", b"\n", bytes(16), b"some text ", b"\x80\x04 no stream", bytes(60_000)])
@pytest.mark.parametrize("wrap", [bytes, checkpoint], ids=["alone", "in a checkpoint"])
def test_a_stream_behind_a_gap_is_found(gap: bytes, wrap: Callable[[bytes], bytes]) -> None:
    """Whoever put it there knows how many bytes to step over; the bytes by themselves are a finding already."""
    refused(wrap(PLAIN + gap + HOSTILE), "SL125", subject="os.system")
    assert scan(wrap(PLAIN + gap + PLAIN)).decision.outcome != "allowed"


@pytest.mark.parametrize("gap", [b"\0\0", b"\n"])
def test_a_stream_of_protocol_0_behind_blanks_is_found(gap: bytes) -> None:
    """It has no mark of its own."""
    refused(PLAIN + gap + b"cos\nsystem\n(S'true'\ntR.", "SL125", subject="os.system")


LEGACY = {
    "the magic number": legacy(PLAIN, magic=HOSTILE),
    "the magic number, computed": legacy(
        PLAIN, magic=forge.stream(forge.PROTO(2), forge.call("builtins", "eval", forge.TEXT("0x1950a86a20f9469cfc6c")), forge.STOP)
    ),
    "the protocol version": legacy(PLAIN, version=HOSTILE),
    "the system information": legacy(PLAIN, info=HOSTILE),
    "the object": legacy(HOSTILE),
    "the storage keys": legacy(PLAIN, keys=HOSTILE),
}  # fmt: skip


@pytest.mark.parametrize("data", LEGACY.values(), ids=LEGACY)
def test_each_of_the_five_pickles_of_a_legacy_file_is_walked(data: bytes) -> None:
    """GHSA-97f8-7cmv-76j2 (CVE-2026-53875): the magic number produced by `eval`; modelscan reads only the first of the five.

    https://github.com/advisories/GHSA-97f8-7cmv-76j2
    """
    report = refused(data, "SL101")
    assert any(found.subject in ("os.system", "builtins.eval") for found in report.findings)


@pytest.mark.parametrize(
    "name", ["extra.pkl", "extra.txt", "code.py", "weights.json", "model.safetensors", "x", "data/payload", ".hidden", "README.md"]
)
def test_a_pickle_in_a_checkpoint_is_found_under_any_name(name: str) -> None:
    """CVE-2025-1889 (GHSA-769v-p64c-89pr): `torch.load(pickle_file="config.json")` reads a member that no scanner took for a pickle.

    https://nvd.nist.gov/vuln/detail/CVE-2025-1889
    """
    report = refused(torch_zip({"data.pkl": PLAIN, "version": b"3\n", name: HOSTILE}), "SL101", subject="os.system")
    assert any(found.member == f"archive/{name}" for found in report.findings if found.rule == "SL101")


@pytest.mark.parametrize(
    "inner",
    [HOSTILE, zlib.compress(HOSTILE), checkpoint(HOSTILE), legacy(PLAIN, keys=HOSTILE), gzip.compress(checkpoint(HOSTILE))],
    ids=["pickle", "zlib", "checkpoint", "later pickle of a legacy file", "checkpoint in gzip"],
)
def test_a_file_in_the_record_of_a_storage_that_nothing_names_is_found(inner: bytes) -> None:
    """The name of a storage's record excuses nothing: no tensor is made of it."""
    report = refused(torch_zip({"data.pkl": PLAIN, "version": b"3\n", "data/7": inner}), "SL101", "SL305", subject="os.system")
    assert all((item.member or "").startswith("archive/data/7") for item in report.findings if item.rule == "SL101")


@pytest.mark.parametrize(
    "start", [b"\x78\x9c", b"\x1f\x8b\x08", b"\x80\x02", b"BZh9", b"\x93NUMPY\x01\x00", b"\x89HDF\r\n\x1a\n", b"(", b"ustar"]
)
def test_numbers_that_nothing_names_and_that_begin_like_a_file_are_let_be(start: bytes) -> None:
    """Checkpoints with left-over storages exist, and any bytes may be numbers."""
    numbers = start + random.Random(5).randbytes(4000)
    assert scan(torch_zip({"data.pkl": PLAIN, "version": b"3\n", "data/7": numbers})).decision.outcome == "allowed"


def test_constants_pkl_is_walked() -> None:
    """CVE-2025-32434 (GHSA-53q9-r3pm-6pq6): with it the file is TorchScript, and `weights_only=True` was forgotten.

    https://nvd.nist.gov/vuln/detail/CVE-2025-32434
    """
    refused(torch_zip({"data.pkl": PLAIN, "constants.pkl": HOSTILE, "version": b"3\n"}), "SL101", subject="os.system")


@pytest.mark.parametrize("method", [0, 8])
def test_a_pickle_in_an_ordinary_zip_is_found_under_any_name(method: int) -> None:
    """GHSA-jgw4-cr84-mqxg, CVE-2025-10155: what a file or member is called decides nothing.

    https://nvd.nist.gov/vuln/detail/CVE-2025-10155
    """
    for name in ("a.pkl", "a.bin", "a.txt", "a.PT", "a"):
        refused(zip_file(Part(name, HOSTILE, method=method)), "SL101", subject="os.system")


def test_a_pickle_behind_a_zip() -> None:
    """What is appended to an archive belongs to no member, and other readers begin at the front or at the end."""
    refused(checkpoint(PLAIN) + HOSTILE, "SL205")
    report = scan(HOSTILE + checkpoint(PLAIN))
    assert report.decision.outcome == "refused"
    assert {found.rule for found in report.findings} >= {"SL101", "SL213"}


def test_a_pickle_in_front_of_a_zip() -> None:
    """A polyglot: a pickle to `pickle.load`, an archive to whoever looks for the directory at the end."""
    refused(HOSTILE + zip_file(Part("a.txt", b"text")), "SL101", "SL213", subject="os.system")


def test_an_archive_behind_safetensors() -> None:
    """To `zipfile` it is an archive, to safetensors it is tensors."""
    refused(file_of({}) + zip_file(Part("data.pkl", HOSTILE)), "SL402")


@pytest.mark.parametrize("before", [16, 1 << 12, 1 << 20, 3 << 20])
@pytest.mark.parametrize("second", [b"", b"I1\n."], ids=["the first stream", "the second"])
def test_a_stream_that_begins_with_the_length_of_a_safetensors_header(before: int, second: bytes) -> None:
    """The length's lowest byte is the opcode of a line of text, and the line ends wherever the tensors say."""
    data = bytes([1]) * before + b"\n0" + second + HOSTILE
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({"a": tensor}).encode().ljust(0x156)
    refused(len(header).to_bytes(8, "little") + header + data, "SL101", "SL213", subject="os.system")


@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"], ids=["v1", "v2", "v3"])
def test_the_stream_of_an_object_array_is_walked(version: bytes) -> None:
    """CVE-2019-6446: `numpy.load(allow_pickle=True)`; each version of the header has another length field.

    https://nvd.nist.gov/vuln/detail/CVE-2019-6446
    """
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    wide = version[0] > 1
    text = text.ljust(64 - (12 if wide else 10) + 63) + b"\n"
    data = b"\x93NUMPY" + version + len(text).to_bytes(4 if wide else 2, "little") + text + HOSTILE
    refused(data, "SL101", subject="os.system")
    refused(zip_file(Part("arr_0.npy", data)), "SL101", subject="os.system")


def test_a_stream_where_the_header_of_an_array_announces_numbers() -> None:
    """What numpy's `literal_eval` makes of an odd header need not be what another reader makes of it."""
    text = b"{'descr': ('|' 'O'), 'fortran_order': False, 'shape': (1,), }\n"
    refused(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + HOSTILE, "SL101", "SL125", subject="os.system")


@pytest.mark.parametrize("inner", [HOSTILE, checkpoint(HOSTILE), legacy(HOSTILE)], ids=["pickle", "torch-zip", "torch-legacy"])
def test_a_model_in_bytes_inside_a_stream_is_looked_at(inner: bytes) -> None:
    """`torch.storage._load_from_bytes` is how plain pickle keeps a storage, and it is `torch.load(weights_only=False)`."""
    outer = forge.stream(forge.PROTO(3), forge.call("torch.storage", "_load_from_bytes", forge.BYTES(inner)), forge.STOP)
    refused(outer, "SL101", "SL130", subject="os.system")


def _encoded(data: bytes) -> bytes:
    """Bytes as protocols 0 to 2 write them."""
    return forge.call("_codecs", "encode", forge.TEXT(data.decode("latin-1")), forge.TEXT("latin1"))


def _made(data: bytes) -> dict[str, bytes]:
    text = forge.TEXT(data.decode("latin-1"))
    return {
        "encoded": _encoded(data),
        "encoded, then bytes": forge.call("builtins", "bytes", _encoded(data)),
        "a bytearray of text": forge.call("builtins", "bytearray", text, forge.TEXT("latin-1")),
        "in a list": forge.stream(forge.EMPTY_LIST, _encoded(data), forge.APPEND),
        "from the memo": forge.stream(_encoded(data), forge.PUT(7), forge.POP, forge.GET(7)),
    }


@pytest.mark.parametrize("end", [forge.STOP, b"", b"\xff", b"a"], ids=["whole", "cut off", "no opcode", "a broken opcode"])
@pytest.mark.parametrize("framed", [False, True], ids=["protocol 2", "framed"])
@pytest.mark.parametrize("inner", [HOSTILE, checkpoint(HOSTILE), legacy(HOSTILE)], ids=["pickle", "torch-zip", "torch-legacy"])
def test_a_model_in_bytes_that_a_call_makes_is_looked_at(inner: bytes, end: bytes, framed: bool) -> None:
    """No constant holds them: the walk sees that a call gives bytes, and only making them shows which."""
    for argument in _made(inner).values():
        body = forge.stream(forge.call("torch.storage", "_load_from_bytes", argument), end)
        report = scan(forge.PROTO(4) + forge.FRAME(len(body)) + body if framed else forge.PROTO(2) + body)
        assert report.decision.outcome != "allowed"
        assert any(item.rule == "SL101" and item.subject == "os.system" and "bytes@" in (item.member or "") for item in report.findings)


def test_values_of_a_long_stream_are_not_made_to_explain_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value takes far more memory than its opcode, and the stream is refused anyway."""
    data = forge.stream(forge.PROTO(2), forge.call("torch.storage", "_load_from_bytes", _encoded(HOSTILE)), forge.STOP)
    refused(data, "SL101", subject="os.system")
    monkeypatch.setattr("safeload.formats.made_bytes._OPCODES", 3)
    refused(data, "SL103", level=Level.WARNING)


def test_bytes_that_calls_make_and_nobody_gets_are_data() -> None:
    """The same bytes in a list of the result."""
    data = forge.stream(forge.PROTO(2), forge.EMPTY_LIST, _encoded(HOSTILE), forge.APPEND, forge.STOP)
    assert scan(data).decision.outcome == "allowed"
    beside = forge.stream(forge.EMPTY_LIST, _encoded(HOSTILE), forge.APPEND, forge.call("some.package", "Thing"), forge.APPEND)
    refused(forge.stream(forge.PROTO(2), beside, forge.STOP), "SL103", level=Level.WARNING)


def test_bytes_that_are_a_stream_and_go_nowhere_are_data() -> None:
    """A pickle kept as bytes is inert: nobody calls anything with it."""
    report = scan(forge.stream(forge.PROTO(3), forge.EMPTY_LIST, forge.BYTES(HOSTILE), forge.APPEND, forge.STOP))
    assert report.decision.outcome == "allowed"


def test_nested_loads_are_shown_with_the_bytes_that_they_load() -> None:
    """GHSA-wccx-j62j-r448: `pickle.loads` inside a pickle.

    https://github.com/advisories/GHSA-wccx-j62j-r448
    """
    data = forge.stream(forge.PROTO(3), forge.call("pickle", "loads", forge.BYTES(forge.stream(PAYLOAD, forge.STOP))), forge.STOP)
    report = refused(data, "SL101", subject="pickle.loads")
    assert all(found.level is not Level.NOTE or found.rule == "SL130" for found in report.findings)
