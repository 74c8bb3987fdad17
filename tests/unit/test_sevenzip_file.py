"""7z archives: every coder that is read, every field that can lie, streams that break right behind what they run."""

from __future__ import annotations

import random
import zlib

import pytest

from safeload.findings import Level, Outcome
from safeload.formats import sevenzip_file
from tests import forge
from tests.forge_7z import BZIP2, COPY, DEFLATE, DELTA, LZMA, LZMA2, MAGIC, Folder, Step, bits, forge_7z, number, prop
from tests.forge_attacks import HOSTILE, PLAIN, refused, rules, scan
from tests.forge_zip import TAR_END, Part, tar_member
from tests.forge_zip import forge as forge_zip

X86 = Step(b"\3\3\1\3", b"", lambda data: data)  # without a jump in them, bytes stay what they are
CHAINS = {
    "copy": [COPY], "lzma": [LZMA], "lzma2": [LZMA2], "deflate": [DEFLATE], "bzip2": [BZIP2], "delta and lzma": [DELTA, LZMA],
    "branches and lzma2": [X86, LZMA2], "branches and lzma": [X86, LZMA], "delta alone": [DELTA],
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("encode", [False, True])
def test_members_are_read_through_every_coder(chain: str, encode: bool) -> None:
    """Benign ones are allowed, a hostile one is found where it lies."""
    steps = CHAINS[chain]
    report = scan(forge_7z([Folder([("a.pkl", PLAIN), ("b.txt", b"text\n")], steps)], encode=encode))
    assert (report.format, report.decision.outcome) == ("7z", Outcome.ALLOWED), report
    report = refused(forge_7z([Folder([("a.pkl", PLAIN), ("x/b", HOSTILE), ("c.pkl", PLAIN)], steps)], encode=encode), "SL101")
    assert {found.member for found in report.findings if found.rule == "SL101"} == {"x/b"}


def test_many_folders_empty_members_and_directories() -> None:
    """What 7-Zip writes for a tree."""
    folders = [Folder([("a", PLAIN)], [LZMA2]), Folder([("b", PLAIN), ("c", PLAIN)], [DELTA, LZMA])]
    data = forge_7z(folders, empty=[("empty", False), ("folder", True)], modes={"a": 0o100644}, encode=True)
    report = scan(data)
    assert report.decision.outcome is Outcome.ALLOWED, report
    assert [part.member for part in report.streams] == ["a", "b", "c"]
    assert report.metadata["members"] == "5"
    assert scan(forge_7z([], header=b"")).decision.outcome is Outcome.ALLOWED


@pytest.mark.parametrize("steps", [[LZMA2], [DEFLATE], [BZIP2], [COPY], [LZMA]], ids=["lzma2", "deflate", "bzip2", "copy", "lzma"])
@pytest.mark.parametrize("cut", [0, 1, 7])
def test_what_runs_before_a_stream_breaks_is_found(steps: list[Step], cut: int) -> None:
    """nullifAI: the pickle ends in nonsense behind its payload, and so may the packed stream around it.

    https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face
    """
    broken = HOSTILE[:-1] + b"\xff\xfe not an opcode" + random.Random(1).randbytes(2_000)
    report = refused(forge_7z([Folder([("data.pkl", broken)], steps)]), "SL101")
    assert any("breaks" in found.message for found in report.findings)
    if cut:
        stream, _ = Folder([("data.pkl", broken)], steps).packed()
        # bzip2 gives nothing of a block that is not complete
        level = Level.ERROR if steps != [BZIP2] else None
        found = scan(forge_7z([Folder([("data.pkl", broken)], steps, stream=stream[:-cut])]))
        assert found.decision.outcome is Outcome.REFUSED, found
        assert level is None or "SL101" in rules(found, level), found


def test_a_wrong_crc_hides_nothing() -> None:
    """Some loaders do not compare it."""
    refused(forge_7z([Folder([("a", HOSTILE)], crcs=[1])]), "SL101", "SL209")
    refused(forge_7z([Folder([("a", PLAIN)], crcs=[1])]), "SL209")


@pytest.mark.parametrize(
    ("name", "rule"),
    [("../a", "SL210"), ("/etc/a", "SL210"), ("a\\b", "SL210"), ("C:x", "SL210"), ("a\nb", "SL210"), ("", "SL210")],
)
def test_names_that_leave_are_refused(name: str, rule: str) -> None:
    refused(forge_7z([Folder([(name, PLAIN)])]), rule)


def test_two_members_of_one_name_are_refused() -> None:
    """One that differs only in case is another file to one system and the same to the next."""
    refused(forge_7z([Folder([("a", PLAIN), ("A", PLAIN)])]), "SL202")


def test_links_devices_and_removals_are_named() -> None:
    refused(forge_7z([Folder([("a", b"/etc/passwd")])], modes={"a": 0o120777}), "SL212", level=Level.WARNING)
    refused(forge_7z([Folder([("a", PLAIN)])], modes={"a": 0o020644}), "SL212")
    refused(forge_7z([], empty=[("a", False)], anti=True), "SL221", says="removal")


def test_bytes_that_belong_to_nothing_are_refused() -> None:
    """Between the streams and the header, behind it, and in front when the streams are said to lie elsewhere."""
    folder = Folder([("a", PLAIN)])
    refused(forge_7z([folder], between=b"x"), "SL205")
    refused(forge_7z([folder], behind=b"x"), "SL205")
    refused(forge_7z([Folder([("a", PLAIN)], stream=b"x" + PLAIN)], offset=1), "SL221")
    refused(forge_7z([folder, Folder([("b", PLAIN)])], offset=1), "SL204")


def test_a_bomb_costs_what_is_granted() -> None:
    """LZMA makes some seven thousand bytes of one."""
    zeros = bytes(1 << 22)
    packed = LZMA2.pack(zeros)
    folder = Folder([("a", zeros)], [LZMA2], stream=packed, sizes=[1 << 50])
    report = scan(forge_7z([folder]))
    assert report.decision.outcome is not Outcome.ALLOWED
    huge = Folder([("a", b"")], [LZMA2], stream=packed, sizes=[1 << 40])
    assert scan(forge_7z([huge])).decision.outcome is not Outcome.ALLOWED


@pytest.mark.parametrize(
    ("method", "name"),
    [(b"\3\4\1", "PPMd"), (b"\4\1\t", "Deflate64"), (b"\4\xf7\x11\1", "Zstandard"), (b"\x12\x34", "1234")],
)
def test_what_is_not_unpacked_is_named_and_counts(method: bytes, name: str) -> None:
    """Not a word about what is in it: status 2."""
    report = scan(forge_7z([Folder([("a", PLAIN)], [Step(method, b"", lambda data: data)])]))
    assert report.decision.outcome is Outcome.ERROR, report
    assert rules(report) == {"SL222"}
    assert any(name in found.message for found in report.findings)


def test_encryption_is_named() -> None:
    """As in a zip file."""
    aes = Step(b"\6\xf1\7\1", bytes(18), lambda data: data)
    refused(forge_7z([Folder([("a", PLAIN)], [COPY, aes])]), "SL206", level=Level.WARNING)


def test_what_can_be_unpacked_is_read_beside_what_cannot() -> None:
    """An unknown coder must not end the archive."""
    other = Folder([("a", PLAIN)], [Step(b"\3\4\1", b"", lambda data: data)])
    refused(forge_7z([other, Folder([("b", HOSTILE)], [LZMA])]), "SL101", "SL222")


_FOLDER = Folder([("a", PLAIN)])
_COPY = bytes([1]) + b"\0"
BROKEN = {
    "another version": forge_7z([_FOLDER])[:6] + b"\1" + forge_7z([_FOLDER])[7:],
    "start header CRC": forge_7z([_FOLDER])[:9] + b"\0" + forge_7z([_FOLDER])[10:],
    "header CRC": forge_7z([_FOLDER], wrong_crc=True),
    "no more than the magic": MAGIC,
    "a header that is cut off": forge_7z([_FOLDER])[:-1],
    "no header property": forge_7z([_FOLDER], header=b"\x02"),
    "bytes behind the header's end": forge_7z([_FOLDER], header=number(1) + b"\0\0"),
    "additional streams": forge_7z([_FOLDER], header=number(1) + b"\3"),
    "2^60 members": forge_7z([_FOLDER], header=number(1) + number(5) + number(1 << 60)),
    "2^60 packed streams": forge_7z([_FOLDER], header=number(1) + number(4) + number(6) + number(0) + number(1 << 60)),
    "2^60 folders": forge_7z([_FOLDER], header=number(1) + number(4) + number(7) + number(11) + number(1 << 60)),
    "a property twice": forge_7z([_FOLDER], files=prop(17, b"\0a\0\0\0")),
    "a property that nobody knows": forge_7z([_FOLDER], files=prop(99, b"")),
    "padding with something in it": forge_7z([_FOLDER], files=prop(25, b"\0x")),
    "a vector with too many bits": forge_7z([_FOLDER], files=prop(14, b"\x7f")),
    "a name too few": forge_7z([_FOLDER], names=[]),
    "a name too many": forge_7z([_FOLDER], names=["a", "b"]),
    "half a character": forge_7z([_FOLDER], names=[], files=prop(17, b"\0a")),
    "no coder": forge_7z([Folder([("a", PLAIN)], coders=number(0))]),
    "reserved bits of a coder": forge_7z([Folder([("a", PLAIN)], coders=number(1) + b"\x81\0")]),
    "coders in a circle": forge_7z([Folder([("a", PLAIN)], [COPY, COPY], coders=number(2) + 2 * _COPY + number(0) + number(0))]),
    "a coder of a thousand inputs": forge_7z([Folder([("a", PLAIN)], coders=number(1) + b"\x11\0" + number(1000) + number(1))]),
    "bound to what is not there": forge_7z([Folder([("a", PLAIN)], [COPY, COPY], coders=number(2) + 2 * _COPY + number(7) + number(0))]),
    "more members than bytes": forge_7z([Folder([("a", PLAIN), ("b", PLAIN)], sizes=[1])]),
    "fewer bytes than are said": forge_7z([Folder([("a", PLAIN)], sizes=[len(PLAIN) + 1])]),
    "more bytes than are said": forge_7z([Folder([("a", PLAIN)], sizes=[len(PLAIN) - 1])]),
    "lzma2 of another size": forge_7z([Folder([("a", PLAIN)], [LZMA2], sizes=[len(PLAIN) - 1], crcs=[zlib.crc32(PLAIN[:-1])])]),
    "lzma of properties that do not exist": forge_7z([Folder([("a", PLAIN)], [Step(b"\3\1\1", b"\xff\0\0\0\0", LZMA.pack)])]),
    "lzma2 of properties that do not exist": forge_7z([Folder([("a", PLAIN)], [Step(b"\x21", b"\x29", LZMA2.pack)])]),
    "a stream that is no lzma2": forge_7z([Folder([("a", PLAIN)], [LZMA2], stream=b"\xff" * 20)]),
    "bytes behind the end of a stream": forge_7z([Folder([("a", PLAIN)], [LZMA2], stream=LZMA2.pack(PLAIN) + b"x")]),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_contradicts_itself_is_refused(what: str) -> None:
    """Each of these is a file that two readers can see differently, or that claims more than it has."""
    report = scan(BROKEN[what])
    assert report.decision.outcome is not Outcome.ALLOWED, report
    assert rules(report) & {"SL204", "SL205", "SL221", "SL222", "SL502"}, report


def test_a_header_that_is_packed_forever_is_refused() -> None:
    """A header may be packed; so may that header, and so on."""
    data = forge_7z([_FOLDER], encode=True)
    for _ in range(6):
        size = int.from_bytes(data[20:28], "little")
        data = forge_7z([], header=data[-size:], encode=True)
    report = scan(data)
    assert report.decision.outcome is not Outcome.ALLOWED


def test_mutated_archives_are_judged() -> None:
    """Whatever a byte is changed to, there is a verdict; CRCs are mended, so that the change is seen."""
    rng = random.Random(7)
    folders = [Folder([("a", PLAIN), ("b", b"text")], [DELTA, LZMA2]), Folder([("c", PLAIN)], [LZMA])]
    seeds = [forge_7z(folders, empty=[("d", True)], modes={"a": 0o100644}), forge_7z(folders, encode=True)]
    for _ in range(400):
        data = bytearray(rng.choice(seeds))
        header = int.from_bytes(data[20:28], "little")
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data) - header, len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        data[28:32] = zlib.crc32(data[-header:]).to_bytes(4, "little")
        data[8:12] = zlib.crc32(data[12:32]).to_bytes(4, "little")
        report = scan(bytes(data))
        assert report.format == "7z"
        assert "internal" not in str(report.error)


def test_large_members_are_unpacked_as_far_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a bound, a member is no longer kept as a whole."""
    monkeypatch.setattr(sevenzip_file, "_WHOLE", 64)
    inner = forge_zip(Part("m/data.pkl", HOSTILE), Part("m/version", b"3\n"), Part("m/data/0", bytes(4096)))
    data = forge_7z([Folder([("first", PLAIN), ("m.pt", inner), ("last", HOSTILE)], [LZMA2])])
    report = refused(data, "SL101")
    assert {found.member for found in report.findings if found.rule == "SL101"} == {"m.pt!m/data.pkl", "last"}


def test_archives_lie_in_archives() -> None:
    """A 7z in a tar in a 7z; too many around one another are refused."""
    inner = forge_7z([Folder([("evil", HOSTILE)], [LZMA])])
    data = forge_7z([Folder([("t.tar", tar_member(b"i.7z", inner) + TAR_END)], [LZMA2])])
    report = refused(data, "SL101")
    assert {found.member for found in report.findings if found.rule == "SL101"} == {"t.tar!i.7z!evil"}
    for _ in range(6):
        data = forge_7z([Folder([("more", data)])])
    refused(data, "SL217")


def test_numbers_and_bits_are_written_as_the_format_says() -> None:
    """The forger's own arithmetic, against values of the format's description."""
    assert [number(value) for value in (0, 0x7F, 0x80, 0x3FFF, 0x4000)] == [b"\0", b"\x7f", b"\x80\x80", b"\xbf\xff", b"\xc0\0\x40"]
    assert number(1 << 56) == b"\xff" + (1 << 56).to_bytes(8, "little")
    assert bits([True, False, False, False, False, False, False, False, True]) == b"\x80\x80"
    assert forge.STOP == b"."
