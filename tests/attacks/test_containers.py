"""Archives that a scanner and a loader read differently. Each holds the same payload; none may be allowed, and the trick has a name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import zlib

import pytest
import zstandard

from safeload.findings import Level, Outcome
from tests import forge
from tests.forge_7z import COPY, DEFLATE, LZMA, LZMA2, Folder, Step, forge_7z
from tests.forge_attacks import HOSTILE, PLAIN, checkpoint, refused, scan
from tests.forge_zip import TAR_END, Part, extra, long_name, pax, tar_member, torch_zip, zip64
from tests.forge_zip import forge as zip_file

DATA = "archive/data.pkl"
VERSION = Part("archive/version", b"3\n")


def _archive(*parts: Part, **how: object) -> bytes:
    return zip_file(*parts, VERSION, **how)  # type: ignore[arg-type]


# A hostile data.pkl in an archive that some reader refuses or reads otherwise, and the rule that names how.
ZIPS = {
    # CVE-2025-1944 (GHSA-7q5r-7gvp-wc82): https://nvd.nist.gov/vuln/detail/CVE-2025-1944
    "another name in the local header": (_archive(Part(DATA, HOSTILE, local={"name": b"archive/datap.kl"})), "SL203"),
    "another name in the directory": (_archive(Part(DATA, HOSTILE, central={"name": b"archive/datap.kl"})), "SL203"),
    # CVE-2025-1945 (GHSA-w8jq-xcqf-f792): https://nvd.nist.gov/vuln/detail/CVE-2025-1945
    "flagged as encrypted, in both": (_archive(Part(DATA, HOSTILE, flags=1)), "SL206"),
    "flagged as encrypted, locally": (_archive(Part(DATA, HOSTILE, local={"flags": 1})), "SL203"),
    "flagged as encrypted, in the directory": (_archive(Part(DATA, HOSTILE, central={"flags": 1})), "SL203"),
    "flagged as patched": (_archive(Part(DATA, HOSTILE, flags=0x20)), "SL206"),
    "flagged as strongly encrypted": (_archive(Part(DATA, HOSTILE, flags=0x41)), "SL206"),
    # CVE-2025-10156 (GHSA-mjqp-26hc-grxg): https://nvd.nist.gov/vuln/detail/CVE-2025-10156
    "a wrong CRC": (_archive(Part(DATA, HOSTILE, local={"crc": 1}, central={"crc": 1})), "SL209"),
    "a wrong CRC, locally": (_archive(Part(DATA, HOSTILE, local={"crc": 1})), "SL203"),
    "another size, locally": (_archive(Part(DATA, HOSTILE, local={"nbytes": 3, "packed": 3})), "SL203"),
    "another method, locally": (_archive(Part(DATA, HOSTILE, local={"method": 8})), "SL203"),
    # Duplicates: torch takes the first, Python's zipfile the last.
    "twice, hostile first": (_archive(Part(DATA, HOSTILE), Part(DATA, PLAIN)), "SL202"),
    "twice, hostile last": (_archive(Part(DATA, PLAIN), Part(DATA, HOSTILE)), "SL202"),
    "again in capitals": (_archive(Part("archive/DATA.PKL", HOSTILE), Part(DATA, PLAIN)), "SL202"),
    "in capitals only": (_archive(Part("ARCHIVE/DATA.PKL", HOSTILE), Part("archive/data.pkl", PLAIN)), "SL202"),
    "again with a backslash": (_archive(Part("archive\\data.pkl", HOSTILE), Part(DATA, PLAIN)), "SL202"),
    "again with a doubled slash": (_archive(Part("archive//data.pkl", HOSTILE), Part(DATA, PLAIN)), "SL202"),
    "again with a dot": (_archive(Part("archive/./data.pkl", HOSTILE), Part(DATA, PLAIN)), "SL202"),
    "climbing out": (_archive(Part(DATA, PLAIN), Part("archive/../../x.pkl", HOSTILE)), "SL210"),
    # modelscan#354: https://github.com/protectai/modelscan/issues/354
    "behind a member that cannot be read": (
        zip_file(VERSION, Part("archive/a", b"x", local={"signature": b"XXXX"}), Part(DATA, HOSTILE)),
        "SL203",
    ),
    "behind a member of an unknown method": (_archive(Part("archive/a", b"x", method=99), Part(DATA, HOSTILE)), "SL207"),
    "not in the directory": (_archive(Part(DATA, PLAIN), Part("archive/x.pkl", HOSTILE, listed=False)), "SL205"),
    "in front of the first member": (zip_file(Part(DATA, PLAIN), VERSION, prefix=HOSTILE, counted_prefix=True), "SL213"),
    "behind bytes that are nothing": (zip_file(Part(DATA, HOSTILE), VERSION, prefix=b"\x89PNG\r\n\x1a\n", counted_prefix=True), "SL213"),
    "between members": (_archive(Part(DATA, PLAIN, after=HOSTILE)), "SL205"),
    "behind the end record": (_archive(Part(DATA, PLAIN), suffix=HOSTILE), "SL205"),
    "two members in the same bytes": (_archive(Part("archive/a", HOSTILE), Part(DATA, PLAIN, central={"offset": 0})), "SL204"),
    "sizes in zip64 that disagree": (_archive(Part(DATA, HOSTILE, central={"nbytes": 0xFFFFFFFF}, central_extra=zip64(3))), None),
    "a Unicode path that is another name": (
        _archive(Part(DATA, HOSTILE, central_extra=extra(0x7075, b"\1" + zlib.crc32(DATA.encode()).to_bytes(4, "little") + b"archive/x"))),
        "SL218",
    ),
    "a descriptor that disagrees": (_archive(Part(DATA, HOSTILE, descriptor=b"PK\7\x08" + bytes(12))), "SL203"),
    "outside the top directory": (_archive(Part(DATA, PLAIN), Part("other/data.pkl", HOSTILE)), "SL211"),
    "a second archive in the comment": (_archive(Part(DATA, PLAIN), comment=zip_file(Part("data.pkl", HOSTILE))), None),
}


@pytest.mark.parametrize(("data", "rule"), ZIPS.values(), ids=ZIPS)
def test_an_archive_that_readers_disagree_on_is_refused(data: bytes, rule: str | None) -> None:
    """Parsers that disagree are how scanners are bypassed: the difference itself is the finding."""
    report = scan(data)
    seen = {found.rule for found in report.findings if found.level is not Level.NOTE}
    assert report.decision.outcome is Outcome.REFUSED, (report.error, report.findings)
    assert rule is None or rule in seen, report.findings


@pytest.mark.parametrize(
    "name", [name for name, (_, rule) in ZIPS.items() if rule in ("SL209", "SL202") or name.startswith("behind a member")]
)
def test_the_payload_is_shown_besides_the_trick(name: str) -> None:
    """A trick must not hide what it carries: the report names the call as well."""
    refused(ZIPS[name][0], "SL101", subject="os.system")


@pytest.mark.parametrize("method", [0, 8])
def test_a_wrong_crc_hides_nothing_in_an_ordinary_zip(method: int) -> None:
    """CVE-2025-10156 (GHSA-mjqp-26hc-grxg): the scan must not end at the checksum, because loaders do not compare it.

    https://nvd.nist.gov/vuln/detail/CVE-2025-10156
    """
    wrong = Part("data.pkl", HOSTILE, method=method, local={"crc": 1}, central={"crc": 1})
    refused(zip_file(wrong, Part("b.pkl", HOSTILE)), "SL101", "SL209", subject="os.system")


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(Part("archive/a", b"x", method=99), id="a method that nobody knows"),
        pytest.param(Part("archive/a", b"x" * 20, method=8, packed=b"\xff" * 20), id="deflate data that are none"),
        pytest.param(Part("archive/a", PLAIN, flags=1), id="encrypted"),
        pytest.param(Part("archive/a", b"\x80\x04\x95" + b"\xff" * 8), id="a stream that breaks"),
        pytest.param(Part("archive/a.7z", b"7z\xbc\xaf\x27\x1c"), id="an archive that breaks"),
    ],
)
def test_a_member_that_fails_does_not_end_the_look_at_the_others(first: Part) -> None:
    """modelscan#311: an entry that raised before data.pkl was reached ended the scan of the archive.

    https://github.com/protectai/modelscan/issues/311
    """
    refused(_archive(first, Part(DATA, HOSTILE)), "SL101", subject="os.system")
    refused(zip_file(first, Part("b", HOSTILE)), "SL101", subject="os.system")


@pytest.mark.parametrize("method", [0, 8])
def test_a_deflated_checkpoint_is_read_like_a_stored_one(method: int) -> None:
    """torch reads deflated records, some scanners only stored ones."""
    refused(_archive(Part(DATA, HOSTILE, method=method)), "SL101", subject="os.system")


@pytest.mark.parametrize("method", [1, 6, 9, 12, 14, 93, 95])
def test_a_method_that_is_not_read_is_no_way_in(method: int) -> None:
    """bzip2, lzma, zstd, xz and older ones: who reads them sees more than is seen here."""
    refused(_archive(Part(DATA, HOSTILE, method=method)), "SL207", level=Level.WARNING)


@pytest.mark.parametrize("method", [12, 14, 93, 95], ids=["bzip2", "lzma", "zstd", "xz"])
@pytest.mark.parametrize("name", [DATA, "notes.txt"])
def test_what_an_unread_method_hides_is_evidence(method: int, name: str) -> None:
    """torch does not unpack these, Python's zipfile does: refused for the method, and for what is in it."""
    packed = {12: bz2.compress, 14: _zip_lzma, 93: zstandard.ZstdCompressor().compress, 95: lzma.compress}[method](HOSTILE)
    refused(_archive(Part(name, HOSTILE, method=method, packed=packed)), "SL101", "SL207", subject="os.system")


def _zip_lzma(data: bytes) -> bytes:
    """As ZIP writes it: a version, the length of the properties, the properties, LZMA with its end marker."""
    alone = lzma.compress(data, lzma.FORMAT_ALONE)
    return b"\x09\x04\x05\0" + alone[:5] + alone[13:]


def test_an_archive_in_an_archive_in_an_archive() -> None:
    """Every level is opened, and the finding names each."""
    inner = zip_file(Part("b.zip", zip_file(Part("c.bin", HOSTILE))), Part("readme.txt", b"text"))
    report = refused(zip_file(Part("a.zip", inner)), "SL101", subject="os.system")
    assert "a.zip!b.zip!c.bin" in {found.member for found in report.findings}


def test_nesting_has_an_end_and_it_refuses() -> None:
    """What lies deeper was not looked at, and that is said."""
    data = HOSTILE
    for _ in range(12):
        data = zip_file(Part("x", data))
    refused(data, "SL217")


PACKERS = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("inner", [HOSTILE, checkpoint(HOSTILE), zip_file(Part("x.pkl", HOSTILE))], ids=["pickle", "torch-zip", "zip"])
def test_what_is_compressed_is_unpacked(pack: object, inner: bytes) -> None:
    """joblib, pandas and `torch.load(gzip.open(…))` unpack by the first bytes, whatever the file is called."""
    assert callable(pack)
    refused(pack(inner), "SL101", subject="os.system")


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_compressed_stream_that_breaks_behind_the_payload_is_still_a_payload(pack: object) -> None:
    """The reader inside stops at STOP and never comes to the checksum or the end of the compressed stream."""
    assert callable(pack)
    packed = pack(HOSTILE + forge.TEXT("x" * 50) * 10)
    report = scan(packed[:-2])
    assert report.decision.outcome is Outcome.REFUSED
    assert any(found.subject == "os.system" for found in report.findings)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_a_second_compressed_stream_behind_the_first(pack: object) -> None:
    """Such files may be put behind one another, and all of them are unpacked."""
    assert callable(pack)
    refused(pack(PLAIN) + pack(HOSTILE), "SL101", subject="os.system")
    assert scan(pack(PLAIN) + HOSTILE).decision.outcome is Outcome.REFUSED


# What nobody here reads is no silent pass.
@pytest.mark.parametrize("magic", [b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\0", b"\x28\xb5\x2f\xfd\x04\0"], ids=["rar4", "rar5", "zstd"])
def test_a_container_that_is_not_read_is_not_called_clean(magic: bytes) -> None:
    """What says "not analysed" is an outcome of its own, never "allowed"; in an archive that is read, too."""
    report = scan(magic + HOSTILE + bytes(64))
    assert report.decision.outcome is Outcome.ERROR
    assert report.error
    report = scan(zip_file(Part("inner", magic + HOSTILE + bytes(64))))
    assert report.decision.outcome is Outcome.ERROR
    assert "inner" in str(report.error)


# nullifAI: a 7z in the place of torch's zip, its pickle broken right behind the payload.
# https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face
@pytest.mark.parametrize("steps", [[LZMA], [LZMA2], [DEFLATE], [COPY]], ids=["lzma", "lzma2", "deflate", "stored"])
def test_a_7z_whose_stream_breaks_behind_the_payload(steps: list[Step]) -> None:
    """Whoever unpickles it has run the payload when the error comes; the same when the packed stream is what breaks."""
    broken = HOSTILE[:-1] + b"X" + random.Random(1).randbytes(4000)
    folder = Folder([("archive/data.pkl", broken), ("archive/version", b"3\n")], steps)
    refused(forge_7z([folder], encode=True), "SL101", subject="os.system")
    packed, sizes = folder.packed()
    cut = Folder(folder.members, steps, stream=packed[: len(packed) * 3 // 4], sizes=sizes)
    refused(forge_7z([cut]), "SL101", subject="os.system")


TARS = {
    "a link": tar_member(b"data.pkl", b"", b"2", link=b"/etc/passwd"),
    "a hard link": tar_member(b"data.pkl", b"", b"1", link=b"../x"),
    "a device": tar_member(b"data.pkl", b"", b"3"),
    "an absolute name": tar_member(b"/tmp/data.pkl", HOSTILE),
    "a climbing name": tar_member(b"../data.pkl", HOSTILE),
    "a sparse member": tar_member(b"data.pkl", HOSTILE, b"S"),
    "a long name that climbs": long_name(b"../" * 50 + b"x") + tar_member(b"data.pkl", HOSTILE),
    "a pax path that climbs": pax((b"path", b"../../x")) + tar_member(b"data.pkl", HOSTILE),
    "a pax size that is another": pax((b"size", b"5")) + tar_member(b"data.pkl", HOSTILE),
}


@pytest.mark.parametrize("data", TARS.values(), ids=TARS)
def test_a_tar_member_that_leaves_its_place_is_refused(data: bytes) -> None:
    """CVE-2025-12060 and CVE-2007-4559 (tarfile's extraction); https://nvd.nist.gov/vuln/detail/CVE-2025-12060."""
    report = scan(data + TAR_END)
    assert report.decision.outcome is Outcome.REFUSED, report
    assert {found.rule for found in report.findings} & {"SL212", "SL219", "SL220", "SL101"}


def test_torchs_old_tar_format_is_walked() -> None:
    """CVE-2025-32434: `weights_only=True` had no say on the tar path.

    https://nvd.nist.gov/vuln/detail/CVE-2025-32434
    """
    members = {b"storages": PLAIN, b"tensors": PLAIN, b"pickle": HOSTILE, b"sys_info": PLAIN}
    data = b"".join(tar_member(name, stream) for name, stream in members.items()) + TAR_END
    refused(data, "SL101", subject="os.system")


@pytest.mark.parametrize("name", ["handler.py", "MAR-INF/MANIFEST.json", "code/x.py"])
def test_a_model_archives_code_is_not_run_and_its_pickles_are_found(name: str) -> None:
    """TorchServe's archives (CVE-2023-48299) bring a handler: text here, never imported.

    https://nvd.nist.gov/vuln/detail/CVE-2023-48299
    """
    refused(zip_file(Part(name, b"print(1)\n"), Part("model.pt", checkpoint(HOSTILE))), "SL101", subject="os.system")


def test_members_without_a_version_record_or_top_directory() -> None:
    """torch refuses the archive, and another reader may not."""
    refused(zip_file(Part(DATA, HOSTILE)), "SL101", "SL214", subject="os.system")
    refused(zip_file(Part("data.pkl", HOSTILE)), "SL101", subject="os.system")
    refused(torch_zip({"data.pkl": HOSTILE, "version": b"99\n"}), "SL101", "SL214", subject="os.system")
