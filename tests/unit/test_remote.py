"""Files that are not on this machine: what is read of them, what goes wrong with servers, and what is never printed."""

from __future__ import annotations

import copy
import json
import struct
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.registry import _registry as REGISTRY  # noqa: N812 - what it has imported before stands in there

import safeload
from safeload.api import scan_source
from safeload.cli import run
from safeload.context import Context
from safeload.errors import MissingExtraError, RemoteError, UsageError
from safeload.findings import Outcome
from safeload.remote import Address, is_address, patience, shown
from safeload.remote.http_ranges import HttpRanges
from safeload.remote.patience import Patience
from safeload.remote.ranges import AHEAD, SMALL, Ranges
from safeload.source import Source
from tests import forge, forge_gguf, forge_onnx, forge_safetensors
from tests.forge_attacks import legacy
from tests.forge_cli import CALL, make_tree, write_checkpoint, write_safetensors
from tests.large_files import write_large
from tests.range_server import Served, serve

Capture = pytest.CaptureFixture[str]
SECRET = "hunter2"
NO_PAUSES = Patience(attempts=3, slowest=1 << 30, pause=0.001, longest=0.01)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory, and make no pauses; what is on its way is waited for, however busy the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(patience, "PATIENCE", NO_PAUSES)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def checkpoint(here: Path) -> bytes:
    write_checkpoint(here / "model.pt")
    return (here / "model.pt").read_bytes()


def said(error: BaseException) -> str:
    """All that a traceback could show of an error: its text, and that of whatever stands behind it."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(f"{cause!r} {cause}")
        cause = cause.__cause__ or cause.__context__
    return "\n".join(texts)


# ---- how much is read


def test_a_stream_in_a_gigabyte_is_reached_in_a_few_kilobytes(here: Path) -> None:
    """Apart from the last 72 KiB, where a second end record would stand, only headers and the stream are fetched."""
    size = write_large(here / "big.pt", storages=4, nbytes=256 << 20)
    served = Served(here / "big.pt")
    with serve({"/big.pt": served}) as at:
        report = safeload.scan(f"{at}/big.pt")
    assert size > 1 << 30
    assert report.decision.outcome is Outcome.ALLOWED
    assert served.sent < 80 << 10
    assert len(served.requests) <= 6
    assert report.unhashed
    assert report.sha256 is None
    assert report.origin is not None
    assert (report.origin.fetched, report.origin.version) == (served.sent, '"one"')


def test_the_verdict_is_the_one_of_the_file_on_the_disk(here: Path) -> None:
    make_tree(here)
    write_large(here / "large.pt", storages=3, nbytes=1 << 20, hostile=True)
    names = ["model.pt", "hostile.pt", "unknown.pkl", "README.md", "junk.bin", "sub/x.safetensors", "large.pt"]
    files = {f"/{name}": Served(here / name) for name in names}
    with serve(files) as at:
        for name in names:
            there, local = safeload.scan(f"{at}/{name}"), safeload.scan(str(here / name))
            assert (there.format, there.size, there.globals) == (local.format, local.size, local.globals), name
            assert there.findings == local.findings, name
            assert there.decision.outcome is local.decision.outcome, name
            assert there.path == f"{at}/{name}"


NUMEL = 2 << 20  # elements of four bytes
NUMBERS = bytes(range(256)) * (NUMEL // 64)


def _legacy() -> bytes:
    storage = b"(" + forge.TEXT("storage") + forge.GLOBAL("torch", "FloatStorage") + forge.TEXT("0") + forge.TEXT("cpu")
    storage += forge.INT(NUMEL) + b"NtQ"
    tensor = forge.GLOBAL("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"K\x00" + forge.INT(NUMEL) + b"\x85K\x01\x85\x89}tR"
    keys = forge.PROTO(2) + b"]" + forge.TEXT("0") + b"a."
    stream = forge.PROTO(2) + b"}" + forge.TEXT("weight") + tensor + b"s."
    return legacy(stream, keys=keys) + struct.pack("<q", NUMEL) + NUMBERS


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("torch-legacy", _legacy),
        ("safetensors", lambda: forge_safetensors.file_of({"w": forge_safetensors.entry("F32", [NUMEL], 0, 4 * NUMEL)}, NUMBERS)),
        ("gguf", lambda: forge_gguf.gguf(tensors=[forge_gguf.Tensor("w", (NUMEL,), 0, NUMBERS)])),
        ("onnx", lambda: forge_onnx.model(forge_onnx.node(), tensors=[forge_onnx.tensor("w", (NUMEL,), raw=NUMBERS)])),
    ],
)
def test_a_verdict_skips_the_tensors_of_every_format(kind: str, make: Callable[[], bytes], here: Path) -> None:
    """Headers and streams are read, what lies between is not, and the verdict is that of the file on the disk."""
    (here / "m").write_bytes(make())
    served = Served(here / "m")
    with serve({"/m": served}) as at:
        report = safeload.scan(f"{at}/m")
    local = safeload.scan(str(here / "m"))
    assert (report.format, report.decision.outcome, report.error) == (kind, Outcome.ALLOWED, None)
    assert (report.globals, report.findings, report.size) == (local.globals, local.findings, local.size)
    assert report.unhashed
    assert served.sent < 300 << 10


def test_headers_of_many_members_are_asked_for_together(here: Path) -> None:
    """Sixty round trips one after the other would be what a scan takes its time for."""
    write_large(here / "big.pt", storages=60, nbytes=1 << 20)
    served = Served(here / "big.pt")
    busy, most = 0, 0
    lock = threading.Lock()
    read = served.read

    def counted(start: int, stop: int) -> bytes:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        data = read(start, stop)
        threading.Event().wait(0.002)
        with lock:
            busy -= 1
        return data

    served.read = counted  # type: ignore[method-assign]
    with serve({"/big.pt": served}) as at:
        report = safeload.scan(f"{at}/big.pt")
    assert report.decision.outcome is Outcome.ALLOWED
    assert served.sent < 60 * 400 + (90 << 10)
    assert most > 2


def test_a_digest_reads_every_byte_once(here: Path) -> None:
    write_large(here / "big.pt", storages=2, nbytes=20 << 20)
    served = Served(here / "big.pt")
    with serve({"/big.pt": served}) as at:
        report = safeload.scan(f"{at}/big.pt", digest=True)
    local = safeload.scan(str(here / "big.pt"), digest=True)
    assert (report.sha256, report.sha256_tree) == (local.sha256, local.sha256_tree)
    assert not report.unhashed
    assert served.sent < served.size + 2 * AHEAD
    assert len(served.requests) < 30


def test_ranges_give_the_files_bytes_in_any_order(here: Path) -> None:
    """Small reads are rounded up, long ones run ahead, many are joined: none of it may show."""
    import random

    rng = random.Random(7)
    content = rng.randbytes(300_000)
    asked: list[tuple[int, int]] = []

    class Backend:
        size, version, mark, head, place = len(content), "1", "", content[:SMALL], dict[str, str]()

        def get(self, start: int, stop: int) -> bytes:
            asked.append((start, stop))
            return content[start:stop]

        def close(self) -> None:
            pass

    for _ in range(30):
        ranges = Ranges(Backend(), "x", "x")
        ranges.expect([(rng.randrange(-5, len(content)), rng.randrange(400)) for _ in range(rng.randrange(50))])
        for _ in range(60):
            offset = rng.randrange(len(content))
            view = memoryview(bytearray(min(rng.choice([1, 30, 5000, 80_000]), len(content) - offset)))
            assert ranges.into(offset, view) == len(view)
            assert bytes(view) == content[offset : offset + len(view)]
        assert ranges.into(len(content) - 1, memoryview(bytearray(5))) == 1
    assert all(0 <= start < stop <= len(content) for start, stop in asked)


# ---- servers that go wrong


@pytest.mark.parametrize("fail", [[503], [0], [-1], [429, 500], [502, 0]])
def test_what_another_attempt_may_mend_is_asked_for_again(fail: list[int], checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if -1 in fail:
        monkeypatch.setattr(patience, "PATIENCE", replace(NO_PAUSES, stall=0.5))
    served = Served(checkpoint, fail=list(fail))
    with serve({"/m.pt": served}) as at:
        report = safeload.scan(f"{at}/m.pt")
    assert report.decision.outcome is Outcome.ALLOWED
    assert not served.fail


def test_patience_ends(checkpoint: bytes) -> None:
    served = Served(checkpoint, fail=[503] * 20)
    with serve({"/m.pt": served}) as at, pytest.raises(RemoteError, match="asked 3 times: the server says 503"):
        safeload.scan(f"{at}/m.pt")
    assert len(served.requests) == 3


def test_a_server_that_does_not_answer_is_given_up(checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", replace(NO_PAUSES, stall=0.5))
    with serve({"/m.pt": Served(checkpoint, fail=[-1] * 20)}) as at, pytest.raises(RemoteError, match="no answer in time"):
        safeload.scan(f"{at}/m.pt")


def test_a_server_that_trickles_is_given_up(checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every read alive and the scan for ever."""
    monkeypatch.setattr(patience, "PATIENCE", replace(NO_PAUSES, grace=0.5))
    served = Served(checkpoint, slow=0.15)
    with serve({"/m.pt": served}) as at, pytest.raises(RemoteError, match=r"bytes came in 0 seconds|bytes came in 1 seconds"):
        safeload.scan(f"{at}/m.pt")


def test_nobody_listens() -> None:
    with serve({}) as at:
        pass
    with pytest.raises(RemoteError, match="no connection"):
        safeload.scan(f"{at}/m.pt")


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (Served(ranges=False), "does not give ranges"),
        (Served(short=10), "broke off|the answer ended after"),
        (Served(lie={"Content-Range": ""}), "does not say which"),
        (Served(lie={"Content-Range": "bytes 5-9/10"}), "asked for bytes 0 to 4095 of the file, got 5 to 9 of 10"),
        (Served(lie={"Content-Range": "bytes 0-99/*"}), "does not say which"),
        (Served(lie={"Content-Range": "bytes 0-9999/10000"}), "asked for bytes 0 to 4095"),
        (Served(lie={"Content-Encoding": "gzip"}), "packs the answer"),
        (Served(status=418), "the server says 418"),
        (Served(redirect="/m.pt"), "redirects more than 5 times"),
        (Served(redirect="ftp://127.0.0.1/m.pt"), "redirects from http to ftp"),
        (Served(redirect="file:///etc/passwd"), "redirects from http to file"),
    ],
)
def test_an_answer_that_is_not_the_range_is_an_error(served: Served, message: str, checkpoint: bytes) -> None:
    """Whatever a server makes of the question, less than the file is never taken for the file."""
    served.content = checkpoint
    with serve({"/m.pt": served}) as at, pytest.raises(RemoteError, match=message):
        safeload.scan(f"{at}/m.pt")


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_file_that_changes_meanwhile_has_no_verdict(conditional: bool, after: int, here: Path) -> None:
    """Half of one file and half of another would be judged as one; whether the server keeps to If-Match or not."""
    write_large(here / "big.pt", storages=3, nbytes=1 << 20, hostile=after == 3)
    served = Served(here / "big.pt", change_after=after, conditional=conditional)
    with serve({"/big.pt": served}) as at:
        report = safeload.scan(f"{at}/big.pt")
    assert report.error is not None
    assert "changed while it was read" in report.error
    assert report.decision.outcome is Outcome.ERROR
    assert not report.findings


@pytest.mark.parametrize("change", ["etag", "modified", "size"])
@pytest.mark.parametrize("etag", ['"one"', 'W/"one"', ""])
def test_whatever_tells_a_change_is_looked_at(change: str, etag: str, here: Path) -> None:
    """Weak tags bind no server, dates are all that some give, and a size is the least that every answer has."""
    write_large(here / "big.pt", storages=3, nbytes=1 << 20)
    served = Served(here / "big.pt", change_after=1, conditional=False, etag=etag, change=change)
    with serve({"/big.pt": served}) as at:
        report = safeload.scan(f"{at}/big.pt")
    assert "changed while it was read" in str(report.error)
    assert report.decision.outcome is Outcome.ERROR


def test_what_was_seen_before_the_connection_broke_stays(here: Path) -> None:
    """A failure makes no finding, and takes none away."""
    write_large(here / "big.pt", storages=1, nbytes=1 << 20, hostile=True)
    served = Served(here / "big.pt")
    context = Context.of({}, False)
    with serve({"/big.pt": served}) as at, Source.open(Address.of(f"{at}/big.pt")) as source:
        scan_source(source, context)
        served.status = 500
        report = scan_source(source, context, digest=True)
    assert report.error is not None
    assert "500" in report.error
    assert report.decision.outcome is Outcome.REFUSED
    assert [finding.rule for finding in report.findings] == ["SL101"]


@pytest.mark.parametrize(
    ("status", "kind"), [(404, FileNotFoundError), (410, FileNotFoundError), (401, PermissionError), (403, PermissionError)]
)
def test_what_open_would_raise_is_raised(status: int, kind: type[OSError]) -> None:
    with serve({"/m.pt": Served(b"x", status=status)}) as at, pytest.raises(kind, match=str(status)):
        safeload.scan(f"{at}/m.pt?token={SECRET}")


def test_an_empty_file_is_an_empty_file() -> None:
    with serve({"/m.pt": Served(b"")}) as at:
        report = safeload.scan(f"{at}/m.pt")
    assert [finding.rule for finding in report.findings] == ["SL503"]


def test_a_redirect_is_followed_and_asked_anew_when_it_expired(checkpoint: bytes, here: Path) -> None:
    """Hubs lead to signed addresses of a store, which are good for a while only."""
    write_large(here / "big.pt", storages=2, nbytes=1 << 20)
    store = Served(here / "big.pt")
    front = Served()
    with serve({"/m.pt": front, "/store": store}) as at:
        front.redirect = f"{at}/store?signature={SECRET}"
        backend = HttpRanges(f"{at}/m.pt", "m.pt")
        store.status = 403
        with pytest.raises(RemoteError, match="403"):
            backend.get(0, 10)
        store.status = None
        assert backend.get(0, 4) == b"PK\3\4"
        assert len(front.requests) == 2


def test_a_token_is_for_its_own_host_only(checkpoint: bytes) -> None:
    store, front = Served(checkpoint), Served()
    with serve({"/store": store}) as other, serve({"/m.pt": front}) as at:
        front.redirect = f"{other.replace('127.0.0.1', 'localhost')}/store"
        HttpRanges(f"{at}/m.pt", "m.pt", headers={"Authorization": f"Bearer {SECRET}"}).close()
    assert front.requests[0]["authorization"] == f"Bearer {SECRET}"
    assert "authorization" not in store.requests[0]


# ---- what is never printed


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://user:hunter2@host/m.pt", "https://…@host/m.pt"),
        ("https://hunter2@host/m.pt", "https://…@host/m.pt"),
        ("https://host/m.pt?X-Amz-Signature=hunter2&x=hunter2", "https://host/m.pt?X-Amz-Signature=…&x=…"),
        ("https://host/m.pt?hunter2", "https://host/m.pt?…"),
        ("https://host/m.pt#hunter2", "https://host/m.pt#…"),
        ("https://host?hunter2", "https://host?…"),
        ("https://a@b:hunter2@host/x@y", "https://…@host/x@y"),
        ("s3://hunter2:hunter2@bucket/key", "s3://…@bucket/key"),
        ("hf://owner/repo@main/m.pt", "hf://owner/repo@main/m.pt"),
        ("HTTPS://u:hunter2@h/", "HTTPS://…@h/"),
        ("m.pt", "m.pt"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, text: str) -> None:
    assert shown(url) == text
    if is_address(url):
        assert SECRET not in repr(Address.of(url))


@pytest.mark.parametrize(
    "how",
    [{}, {"status": 500}, {"status": 404}, {"status": 403}, {"ranges": False}, {"fail": [0] * 9}, {"fail": [-1] * 9}, {"change_after": 1},
     {"redirect": "https://127.0.0.1:1/?token=hunter2"}, {"redirect": "http://[bad/?token=hunter2"}],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["text", "json", "sarif", "markdown"])
def test_no_credential_reaches_any_output(how: dict[str, Any], kind: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_large(here / "big.pt", storages=2, nbytes=1 << 20, hostile=True)
    served = Served(here / "big.pt", **copy.deepcopy(how))
    with serve({"/m.pt": served}) as at:
        url = at.replace("//", f"//user:{SECRET}@") + f"/m.pt?X-Amz-Signature={SECRET}"
        status = run(["scan", "--format", kind, url])
        assert status == (2 if how else 1)
        out = capfd.readouterr()
        assert SECRET not in out.out + out.err
        told = ""
        try:
            safeload.inspect(url)
        except (safeload.SafeloadError, OSError) as error:
            told = said(error)
        assert SECRET not in told


def test_a_name_that_does_not_resolve_says_no_secret() -> None:
    with pytest.raises(RemoteError) as caught:
        safeload.scan(f"http://user:{SECRET}@no-such-host.invalid/m.pt?x={SECRET}")
    assert SECRET not in said(caught.value)
    assert "no connection" in caught.value.message


# ---- any file system


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def test_a_file_system_of_fsspec(memory: Any, checkpoint: bytes, capsys: Capture) -> None:
    memory.pipe_file("/models/m.pt", checkpoint)
    report = safeload.scan("memory://models/m.pt")
    assert (report.decision.outcome, report.format, report.path) == (Outcome.ALLOWED, "torch-zip", "memory://models/m.pt")
    assert report.unhashed
    assert safeload.scan("memory://models/m.pt", digest=True).sha256 == safeload.scan("model.pt", digest=True).sha256
    assert run(["inspect", "memory://models/m.pt"]) == 0
    assert "weight" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        safeload.scan("memory://models/none.pt")
    with pytest.raises(IsADirectoryError):
        safeload.scan("memory://models")


def test_a_file_that_changes_in_a_file_system(memory: Any, here: Path) -> None:
    write_large(here / "big.pt", storages=2, nbytes=1 << 16)
    memory.pipe_file("/m.pt", (here / "big.pt").read_bytes())
    with Source.open(Address.of("memory://m.pt")) as source:
        source.head(10)
        memory.pipe_file("/m.pt", b"another")
        with pytest.raises(RemoteError, match="changed while it was read: its size was"):
            source.read(50_000, 10)
        memory.rm("/m.pt")
        with pytest.raises(RemoteError):
            source.read(60_000, 10)


@pytest.mark.parametrize("wrong", ["short", "long", "text"])
def test_a_file_system_that_gives_something_else(wrong: str, memory: Any, checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    content = checkpoint + bytes(10_000)
    memory.pipe_file("/m.pt", content)
    answers: dict[str, Any] = {"short": b"abc", "long": content, "text": "text"}
    monkeypatch.setattr(type(memory), "cat_file", lambda self, path, start=None, end=None, **more: answers[wrong])
    message = {"short": "3 of", "long": "it gives no ranges", "text": "something other than bytes"}[wrong]
    with Source.open(Address.of("memory://m.pt")) as source, pytest.raises(RemoteError, match=message):
        source.read(0, 4)


def test_a_library_that_tells_secrets_is_not_repeated(memory: Any, checkpoint: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/m.pt", checkpoint)

    def failing(self: Any, path: str, **more: Any) -> bytes:
        raise ValueError(f"https://{SECRET}@host refused {SECRET}")

    for name in ("cat_file", "info"):
        monkeypatch.setattr(type(memory), name, failing)
        with pytest.raises(RemoteError, match="reading failed: ValueError") as caught, Source.open(Address.of("memory://m.pt")) as source:
            source.read(0, 10)
        assert SECRET not in said(caught.value)
        monkeypatch.undo()
        monkeypatch.setattr(patience, "PATIENCE", Patience(attempts=1))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("zip://m.pt::https://host/m.zip", "chain of file systems"),
        ("simplecache::s3://bucket/m.pt", "chain of file systems"),
        ("memory://a::memory://b", "chain of file systems"),
        ("tar://m.pt", "reads inside files"),
        ("reference://x", "reads inside files"),
        ("nonesuch://x", "knows no file system"),
        ("file://relative", "only absolute paths"),
        ("https://host/a\0b", "NUL"),
        ("https://[bad/m.pt", "not a valid address"),
    ],
)
def test_addresses_that_are_refused(url: str, message: str) -> None:
    """Nobody but safeload reads inside a model file, and a chain would."""
    if "::" in url and not is_address(url):
        with pytest.raises(FileNotFoundError):
            safeload.scan(url)
        return
    with pytest.raises(UsageError, match=message):
        safeload.scan(url)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for url, extra, module in (("s3://b/k", "s3", "s3fs"), ("gs://b/k", "gcs", "gcsfs"), ("hf://o/r/f", "hf", "huggingface_hub"),
                               ("memory://x", "remote", "fsspec")):  # fmt: skip
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(REGISTRY, url.partition(":")[0], raising=False)
        with pytest.raises(MissingExtraError) as caught:
            safeload.scan(url)
        assert f"safeload[{extra}]" in caught.value.hint


def test_a_file_address_is_a_path(here: Path, checkpoint: bytes) -> None:
    report = safeload.scan(f"file://{here}/model.pt")
    assert report.decision.outcome is Outcome.ALLOWED
    assert report.origin is None


# ---- pins and loads


def test_lock_pins_what_lies_elsewhere_with_its_source(here: Path, checkpoint: bytes, capsys: Capture) -> None:
    """The publisher's bytes are pinned before anybody fetched them; credentials stay out of the lock."""
    served = Served(checkpoint)
    with serve({"/x/m.pt": served}) as at:
        url = at.replace("//", f"//user:{SECRET}@") + f"/x/m.pt?sig={SECRET}"
        assert run(["lock", url]) == 0
        text = (here / "safeload.lock").read_text()
        assert SECRET not in text + capsys.readouterr().out
        model = tomllib.loads(text)["model"][0]
        assert (model["name"], model["file"][0]["path"], model["file"][0]["size"]) == ("m", "m.pt", len(checkpoint))
        assert run(["verify"]) == 1
        (here / "m.pt").write_bytes(checkpoint)
        assert run(["verify"]) == 0
        assert safeload.scan(url, digest=True).decision.outcome is Outcome.ALLOWED
        assert run(["lock", url, f"{at}/y/m.pt"]) == 2
        assert run(["lock", f"{at}/"]) == 2
        assert run(["lock", f"{at}/none.pt"]) == 2
        served.content = checkpoint[:-1]
        assert run(["lock", "--check", url]) != 0


@pytest.mark.torch
def test_load_takes_an_address_and_a_pin_by_digest(here: Path, checkpoint: bytes) -> None:
    from tests.compare import assert_same

    served = Served(checkpoint)
    with serve({"/m.pt": served}) as at:
        with pytest.warns(safeload.SafeloadWarning, match="no pin covers"):
            value = safeload.load(f"{at}/m.pt")
        assert_same(value, safeload.load("model.pt"))
        assert_same(safeload.state_dict(f"{at}/m.pt"), value)
        with safeload.open(f"{at}/m.pt") as lazy:
            assert lazy.get_tensor("weight").shape == (2, 3)
        run(["lock", "model.pt"])
        assert_same(safeload.load(f"{at}/m.pt"), value)
        served.content = CALL
        with pytest.raises(safeload.RefusedError):
            safeload.load(f"{at}/m.pt")


@pytest.mark.torch
def test_what_stands_in_for_torch_load_fetches_nothing(checkpoint: bytes) -> None:
    """A program that hands texts from strangers to torch.load must not become one that fetches what they name."""
    import torch

    served = Served(checkpoint)
    with serve({"/m.pt": served}) as at, safeload.installed(), pytest.raises(FileNotFoundError):
        torch.load(f"{at}/m.pt")
    assert not served.requests


def test_json_says_unhashed(here: Path, checkpoint: bytes, capsys: Capture) -> None:
    write_safetensors(here / "x.safetensors")
    with serve({"/m.pt": Served(checkpoint), "/x": Served(here / "x.safetensors")}) as at:
        assert run(["scan", "--format", "json", f"{at}/m.pt", f"{at}/x"]) == 0
        entries = json.loads(capsys.readouterr().out)["files"]
        assert [entry["unhashed"] for entry in entries] == [True, True]
        assert entries[0]["origin"] == {"version": '"one"', "fetched": len(checkpoint), "requests": entries[0]["origin"]["requests"]}
        assert run(["scan", f"{at}/m.pt"]) == 0
        assert "unhashed" in capsys.readouterr().out
        assert run(["scan", "--digest", f"{at}/m.pt"]) == 0
        assert "unhashed" not in capsys.readouterr().out
