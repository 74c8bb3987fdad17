"""Every kind of argument, given to torch.load and to safeload.load in the same test: agreement, or a reason why not.

A row agrees when both give the same object, or both raise and whoever catches torch's exception type catches ours. A row that
does not agree says what is better here; when torch catches up, the row fails and is to be moved.
"""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import mmap
import os
import pathlib
import pickle
import shutil
import tempfile
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import safeload
from safeload.errors import SafeloadError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

ALLOW: dict[str, Any] = {"policy": {"unpinned": "allow"}, "lock": False}
Load = Callable[..., Any]
PASSED_THROUGH = (OSError, UnicodeDecodeError)
FILES = ("zip.pt", "legacy.pt")


@dataclass(frozen=True)
class Row:
    """One call, and why it does not agree with torch, if it does not."""

    call: Callable[[Load], Any]
    better: str | None = None


ROWS: dict[str, Row] = {}


def row(name: str, call: Callable[[Load], Any], better: str | None = None) -> None:
    assert name not in ROWS
    ROWS[name] = Row(call, better)


def value() -> dict[str, Any]:
    """Two tensors of one storage, a Parameter, and plain data."""
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    return {"w": base, "view": base.t()[1:], "p": torch.nn.Parameter(torch.ones(2)), "n": 3, "list": [1, "x", None]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The files that the rows name."""
    place = tmp_path_factory.mktemp("parity")
    torch.save(value(), place / "zip.pt")
    torch.save(value(), place / "legacy.pt", _use_new_zipfile_serialization=False)
    for name in FILES:
        data = (place / name).read_bytes()
        (place / f"{name}.gz").write_bytes(gzip.compress(data))
        (place / f"cut-{name}").write_bytes(data[: len(data) - 30])
        with zipfile.ZipFile(place / f"{name}.zip", "w") as archive:
            archive.write(place / name, name)
    (place / "empty.pt").touch()
    (place / "directory").mkdir()
    (place / "garbage.pt").write_bytes(b"\x00\x01\x02hello")
    (place / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    try:
        from safetensors.torch import save_file
    except ImportError:
        pass
    else:
        save_file({"w": torch.arange(6.0)}, place / "tensors.safetensors")
        shutil.copy(place / "tensors.safetensors", place / "tensors.pt")
    return place


@pytest.fixture(autouse=True)
def _here(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    for name in ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "SAFELOAD_LOCK"):
        monkeypatch.delenv(name, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- kinds of f


class Named:
    """An os.PathLike."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


class OnlyRead:
    def read(self, count: int = -1) -> bytes:
        return b""


class NoSeek(io.RawIOBase):
    def readable(self) -> bool:
        return True


class Minimal:
    """All that torch asks for, and nothing else."""

    def __init__(self, data: bytes) -> None:
        inner = io.BytesIO(data)
        self.read, self.readline, self.seek, self.tell = inner.read, inner.readline, inner.seek, inner.tell


class Part(io.BytesIO):
    """A part of a file as torch.distributed.checkpoint hands it on: what seek gives counts from the beginning of the whole."""

    def seek(self, *args: int) -> int:
        return super().seek(*args) + 1_000


def content(name: str) -> bytes:
    return pathlib.Path(name).read_bytes()


def filled(file: Any, data: bytes) -> Any:
    file.write(data)
    file.seek(0)
    return file


def skipped(data: bytes, offset: int) -> io.BytesIO:
    file = io.BytesIO(b"x" * offset + data)
    file.seek(offset)
    return file


def mapped(name: str) -> mmap.mmap:
    with pathlib.Path(name).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def closed() -> io.BytesIO:
    file = io.BytesIO()
    file.close()
    return file


def pipe() -> Any:
    reading, writing = os.pipe()
    os.close(writing)
    return os.fdopen(reading, "rb")


def loading(*args: Any, **options: Any) -> Callable[[Load], Any]:
    """A call with these arguments."""
    return lambda load: load(*args, **options)


def making(make: Callable[..., Any], *args: Any, **options: Any) -> Callable[[Load], Any]:
    """A call with what `make(*args)` opens; it is closed afterwards."""

    def inner(load: Load) -> Any:
        file = make(*args)
        try:
            return load(file, **options)
        finally:
            if hasattr(file, "close"):
                file.close()

    return inner


KINDS: dict[str, Callable[[str], Any]] = {
    "file": lambda name: open(name, "rb"),
    "file, unbuffered": lambda name: open(name, "rb", buffering=0),
    "file, to read and write": lambda name: open(name, "r+b"),
    "BytesIO": lambda name: io.BytesIO(content(name)),
    "at an offset": lambda name: skipped(content(name), 13),
    "gzip": lambda name: gzip.open(f"{name}.gz"),
    "zip member": lambda name: zipfile.ZipFile(f"{name}.zip").open(name),
    "mmap": mapped,
    "temporary file": lambda name: filled(tempfile.TemporaryFile(), content(name)),
    "spooled": lambda name: filled(tempfile.SpooledTemporaryFile(), content(name)),
    "reader": lambda name: io.BufferedReader(io.BytesIO(content(name))),
    "minimal": lambda name: Minimal(content(name)),
    "part": lambda name: Part(content(name)),
    "cut off": lambda name: open(f"cut-{name}", "rb"),
    "text file": lambda name: open(name, encoding="utf-8"),
}
BUFFERS: dict[str, Callable[[bytes], Any]] = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}

for _name in FILES:
    row(f"{_name}: str", loading(_name))
    row(f"{_name}: Path", loading(pathlib.Path(_name)))
    row(f"{_name}: PathLike", loading(Named(_name)))
    row(f"{_name}: PathLike of bytes", loading(Named(_name.encode())), better="torch looks for '.safetensors' in bytes")
    row(f"{_name}: keyword", loading(f=_name))
    for _kind, _make in KINDS.items():
        row(f"{_name}: {_kind}", making(_make, _name))
    for _kind, _buffer in BUFFERS.items():
        _call = making(lambda name, buffer: buffer(content(name)), _name, _buffer)
        row(f"{_name}: {_kind}", _call, better="the bytes themselves are read")

_THINGS: dict[str, Any] = {"int": 3, "None": None, "float": 1.5, "list": [1], "object": object(), "only read": OnlyRead()}
_THINGS["no seek"] = NoSeek()
for _kind, _thing in _THINGS.items():
    row(f"f: {_kind}", loading(_thing))
row("f: pipe", making(pipe))
row("f: closed", making(closed))
row("f: text in memory", loading(io.StringIO("text")), better="TypeError; torch: AssertionError")
for _path in ("missing.pt", "directory", "zip.pt/x", "a\0b", "", "empty.pt", "garbage.pt"):
    row(f"f: {_path!r}", loading(_path))
row("f: empty stream", making(io.BytesIO))
row("f: a plain pickle", loading("plain.pkl"), better="plain data are loaded; torch: RuntimeError")
row("f: too many positional arguments", loading("zip.pt", "cpu", None, True))


# ---- arguments

_TRUTHS: tuple[Any, ...] = (None, True, False, 0, 1, "yes", [])
for _truth in _TRUTHS:
    row(f"weights_only={_truth!r}", loading("zip.pt", weights_only=_truth))
row("pickle_module with weights_only=True", loading("zip.pt", pickle_module=pickle, weights_only=True))
for _truth in (None, False):
    row(
        f"pickle_module, weights_only={_truth}",
        loading("zip.pt", pickle_module=pickle, weights_only=_truth),
        better="no pickle module ever sees the file; install() passes the usual ones over",
    )
row("pickle_module without an Unpickler", loading("zip.pt", pickle_module=types.ModuleType("x"), weights_only=True))

for _name, _encoding in itertools.product(FILES, ("utf-8", "latin1", "bytes", "ascii")):
    row(f"{_name}: encoding={_encoding}", loading(_name, encoding=_encoding))
    row(f"{_name}: encoding={_encoding}, not weights_only", loading(_name, encoding=_encoding, weights_only=False))
for _name in FILES:
    row(f"{_name}: unknown keyword", loading(_name, foo=1))
    row(f"{_name}: unknown keyword, not weights_only", loading(_name, foo=1, weights_only=False))
    row(f"{_name}: errors=strict, not weights_only", loading(_name, errors="strict", weights_only=False))
    row(f"{_name}: fix_imports, not weights_only", loading(_name, fix_imports=True, weights_only=False))
    row(f"{_name}: encoding=3, not weights_only", loading(_name, encoding=3, weights_only=False))
    row(f"{_name}: errors=ignore", loading(_name, errors="ignore"))
    row(
        f"{_name}: errors=ignore, not weights_only",
        loading(_name, errors="ignore", weights_only=False),
        better="TypeError; text that does not decode is not guessed at, choose an encoding",
    )


def with_environment(call: Callable[[Load], Any], **names: str) -> Callable[[Load], Any]:
    def inner(load: Load) -> Any:
        os.environ.update(names)
        try:
            return call(load)
        finally:
            for name in names:
                del os.environ[name]

    return inner


for _flag, _given in itertools.product(("1", "y", "YES", "true", "0", "no", ""), (None, True, False)):
    for _variable in ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        _call = with_environment(loading("zip.pt", weights_only=_given), **{_variable: _flag})
        row(f"{_variable}={_flag!r}, weights_only={_given}", _call)
_both = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
row("both variables", with_environment(loading("zip.pt"), **_both))
row("forced, and a pickle module", with_environment(loading("zip.pt", pickle_module=pickle), TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"))


# ---- mmap

_MAPPINGS: tuple[Any, ...] = (None, True, False, 1)
for _name, _mmap in itertools.product(FILES, _MAPPINGS):
    row(f"{_name}: mmap={_mmap}", loading(_name, mmap=_mmap))
    row(f"{_name}: mmap={_mmap}, Path", loading(pathlib.Path(_name), mmap=_mmap))
    row(f"{_name}: mmap={_mmap}, BytesIO", making(KINDS["BytesIO"], _name, mmap=_mmap))
    row(f"{_name}: mmap={_mmap}, file", making(KINDS["file"], _name, mmap=_mmap))
    row(f"{_name}: mmap={_mmap}, weights_only=False", loading(_name, mmap=_mmap, weights_only=False))


def configured(call: Callable[[Load], Any]) -> Callable[[Load], Any]:
    """With torch's own default for mmap switched on."""

    def inner(load: Load) -> Any:
        config = pytest.importorskip("torch.utils.serialization").config.load
        before = config.mmap
        config.mmap = True
        try:
            return call(load)
        finally:
            config.mmap = before

    return inner


_DEFAULT = "a default is no demand: it is copied"
row("zip.pt: configured mmap", configured(loading("zip.pt")))
row("zip.pt: configured mmap, mmap=False", configured(making(KINDS["BytesIO"], "zip.pt", mmap=False)))
row("zip.pt: configured mmap, BytesIO", configured(making(KINDS["BytesIO"], "zip.pt")), better=_DEFAULT)
row("legacy.pt: configured mmap", configured(loading("legacy.pt")), better=_DEFAULT)


# ---- the archive itself


def rewritten(**changed: bytes | None) -> io.BytesIO:
    """The archive with records replaced (underscore for the slash) or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile("zip.pt") as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            key = name.split("/", 1)[1].replace("/", "_").replace(".", "_")
            data = changed.get(key, before.read(name))
            if data is not None:
                after.writestr(name, data)
    out.seek(0)
    return out


_CHANGES: dict[str, dict[str, bytes | None]] = {
    "written anew": {}, "no version": {"version": None}, "version 0": {"version": b"0\n"}, "version 11": {"version": b"11\n"},
    "version x": {"version": b"x\n"}, "no byteorder": {"byteorder": None}, "byteorder middle": {"byteorder": b"middle"},
    "byteorder big": {"byteorder": b"big"}, "no data.pkl": {"data_pkl": None}, "no storage": {"data_0": None},
    "short storage": {"data_0": b"123"},
}  # fmt: skip
for _kind, _changed in _CHANGES.items():
    row(f"archive: {_kind}", making(functools.partial(rewritten, **_changed)))
row("safetensors: by name", loading("tensors.safetensors"))
row("safetensors: by another name", loading("tensors.pt"), better="content counts, not the name")
row("safetensors: stream", making(KINDS["BytesIO"], "tensors.safetensors"), better="content counts, not the name")
row("safetensors: dict", loading("tensors.safetensors", map_location={"cpu": "cpu"}), better="all map_locations work")


def ours(*args: Any, **options: Any) -> Any:
    return safeload.load(*args, **{**options, **ALLOW})


def outcome(call: Callable[[Load], Any], load: Load) -> tuple[Any, BaseException | None]:
    try:
        return call(load), None
    except Exception as error:  # noqa: BLE001 - the exception is what is compared
        return None, error


@pytest.mark.parametrize("name", list(ROWS))
def test_torch_and_safeload_agree_or_it_is_said_why(name: str) -> None:
    """The whole of sections f, weights_only, environment, keywords, mmap and formats."""
    from tests.compare import difference

    given = ROWS[name]
    if name.startswith("safetensors"):
        pytest.importorskip("safetensors")
    theirs, their_error = outcome(given.call, torch.load)
    mine, my_error = outcome(given.call, ours)
    if my_error is not None:
        assert isinstance(my_error, (SafeloadError, *PASSED_THROUGH, TypeError, ValueError)), repr(my_error)
    if their_error is None:
        agree = my_error is None and difference(mine, theirs) is None
    else:
        agree = my_error is not None and isinstance(my_error, type(their_error))
    if given.better is None:
        assert agree, f"torch: {their_error!r:.300}; safeload: {my_error!r:.300}"
    elif tuple(map(int, torch.__version__.split(".")[:2])) == (2, 13):
        assert not agree, "torch agrees: the row needs no reason any more"


def test_no_other_exception_leaves_a_call() -> None:
    """Callers who catch SafeloadError and OSError have caught everything that a file or an argument can cause."""
    strays = set()
    for given in ROWS.values():
        _, error = outcome(given.call, ours)
        if error is not None and not isinstance(error, (SafeloadError, OSError)):
            strays.add(type(error).__name__)
    assert strays <= {"UnicodeDecodeError", "ValueError", "TypeError"}  # text file, closed file, too many positional arguments


# ---- positions in streams


@pytest.mark.parametrize("start", [0, 7])
def test_several_legacy_saves_in_one_stream(start: int) -> None:
    """The position is left right behind each, so that the next load goes on there; at the end there is an EOFError."""
    file = io.BytesIO(b"x" * start)
    file.seek(start)
    ends = []
    for number in range(4):
        torch.save({"n": number, "w": torch.full((number,), 1.5)}, file, _use_new_zipfile_serialization=False)
        ends.append(file.tell())
    file.seek(start)
    for number, end in enumerate(ends):
        found = ours(file)
        assert found["n"] == number
        assert found["w"].shape == (number,)
        assert file.tell() == end
    with pytest.raises(EOFError):
        ours(file)


def test_a_legacy_save_in_front_of_something_else() -> None:
    """What follows is somebody else's, and is not looked at."""
    file = io.BytesIO()
    torch.save([1], file, _use_new_zipfile_serialization=False)
    end = file.tell()
    file.write(b"footer")
    file.seek(0)
    assert ours(file) == [1]
    assert file.tell() == end
    assert file.read() == b"footer"


def test_a_stream_stays_open_and_a_path_is_closed() -> None:
    """Whoever opened a file closes it."""
    with pathlib.Path("zip.pt").open("rb") as file:
        ours(file)
        assert not file.closed
    descriptors = pathlib.Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("descriptors cannot be counted here")
    before = len(list(descriptors.iterdir()))
    ours("zip.pt")
    assert len(list(descriptors.iterdir())) == before


# ---- mmap that cannot lie


def test_a_deflated_member_is_not_mapped_as_it_lies() -> None:
    """torch 2.13 maps the packed bytes and says nothing."""
    with zipfile.ZipFile("zip.pt") as before, zipfile.ZipFile("deflated.pt", "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(name, before.read(name))
    found = ours("deflated.pt", mmap=True)
    assert torch.equal(found["w"], value()["w"])


def test_a_storage_that_claims_more_than_its_record_is_refused_when_mapped() -> None:
    """torch 2.13 maps the neighbour's bytes."""
    pathlib.Path("short.pt").write_bytes(rewritten(data_0=bytes(8)).getvalue())
    for mapping in (True, False):
        with pytest.raises(RuntimeError, match="48 bytes, and its record has 8"):
            ours("short.pt", mmap=mapping)


def test_offsets_are_read_and_not_calculated() -> None:
    """torch can be told to calculate where records lie, which is wrong for archives that another tool wrote."""
    pathlib.Path("again.pt").write_bytes(rewritten().getvalue())
    found = configured(loading("again.pt", mmap=True))(ours)
    assert torch.equal(found["w"], value()["w"])


def test_a_mapped_file_is_private() -> None:
    """Writing to a tensor does not write to the file."""
    shutil.copy("zip.pt", "copy.pt")
    found = ours("copy.pt", mmap=True)
    found["w"].fill_(7)
    assert torch.equal(ours("copy.pt")["w"], value()["w"])
