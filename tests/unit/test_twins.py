"""Safetensors first: a pinned pickle with a converted twin is never parsed again, and nothing stands for it that nobody pinned."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import safeload  # noqa: E402
from safeload.cli import run  # noqa: E402
from safeload.conversion.cache import TwinCache  # noqa: E402
from safeload.errors import LockfileError, PinError, RefusedError, SafeloadWarning, SignatureError, UsageError  # noqa: E402
from safeload.findings import Outcome  # noqa: E402
from tests import forge  # noqa: E402
from tests.compare import assert_same  # noqa: E402

pytestmark = pytest.mark.torch

CACHING = {"convert": "cache"}


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a lockfile, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFELOAD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "m").mkdir()
    return tmp_path


def state() -> dict[str, Any]:
    torch.manual_seed(5)
    weight = torch.randn(4, 6)
    return {"w": weight, "tied": weight, "t": weight.t(), "step": 7, "more": [0.5, {"p": torch.nn.Parameter(torch.ones(3))}]}


def saved(path: str = "m/model.pt", value: Any = None) -> Path:
    torch.save(state() if value is None else value, path)
    return Path(path)


def names() -> list[str]:
    return sorted(one.name for one in Path("m").iterdir())


def pin(path: str = "safeload.lock") -> dict[str, Any]:
    """The first pin of the lockfile, as it is written."""
    found: dict[str, Any] = tomllib.loads(Path(path).read_text())["model"][0]["file"][0]
    return found


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The format of every file that is parsed as a pickle of any kind, from now on."""
    from safeload import formats

    seen: list[str] = []
    whole = formats.detect

    def detect(source: Any) -> Any:
        found = whole(source)
        if found is not None and found.name not in ("safetensors", "index"):
            seen.append(found.name)
        return found

    monkeypatch.setattr(formats, "detect", detect)
    return seen


# ---- pinned twins


def test_the_twin_is_loaded_and_the_stream_is_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved()
    expected = torch.load(path)
    assert safeload.lock(path, convert=True).outcome is Outcome.ALLOWED
    assert pin()["converted"]["path"] == "m/model.safetensors"
    walked = parsed(monkeypatch)
    for name in (path, str(path.resolve()), "m/model"):
        assert_same(safeload.load(name), expected)
    assert_same(safeload.load(path, mmap=True), expected)
    assert_same(safeload.state_dict(path), safeload.state_dict("m/model.safetensors"))
    assert not walked
    safeload.load(path, lock=False, policy={"unpinned": "allow"})
    assert walked


def test_a_file_beside_it_that_nobody_pinned_is_never_preferred(top: Path) -> None:
    """Whoever can put a file into the directory could otherwise choose the weights."""
    path = saved()
    safeload.lock(path)
    torch.save({"w": torch.zeros(1)}, "other.pt")
    safeload.convert("other.pt", "m/model.safetensors", lock=False)
    assert_same(safeload.load(path), state())


@pytest.mark.parametrize("how", ["gone", "short", "changed", "longer", "empty", "another", "weights"])
def test_a_twin_that_is_not_what_it_was_is_an_error(how: str) -> None:
    """Nothing falls back to the pickle by itself."""
    path, twin = saved(), Path("m/model.safetensors")
    safeload.lock(path, convert=True)
    data = twin.read_bytes()
    if how == "gone":
        twin.unlink()
    elif how in ("another", "weights"):
        saved("m/other.pt", {"w": torch.zeros(2)})
        safeload.convert("m/other.pt" if how == "another" else path, twin, force=True, lock=False, state_dict=how == "weights")
    else:
        changed = {"short": data[:-5], "changed": data[:-1] + bytes([data[-1] ^ 1]), "longer": data + b"x", "empty": b""}
        twin.write_bytes(changed[how])
    with pytest.raises(PinError, match="is not there" if how == "gone" else "not the pinned bytes") as refused:
        safeload.load(path)
    assert "'safeload lock --convert m/model.pt' makes it again" in refused.value.hint
    assert safeload.verify().outcome is Outcome.REFUSED
    assert run(["load", str(path)]) == 1
    assert safeload.lock(path, convert=True).outcome is Outcome.ALLOWED
    assert_same(safeload.load(path), state())
    assert twin.read_bytes() == data


def test_a_lockfile_that_names_a_twin_of_other_bytes_is_refused(top: Path) -> None:
    """The manifest says what a twin was made from, and that must be what is pinned."""
    path = saved()
    safeload.lock(path)
    torch.save({"w": torch.zeros(1)}, "m/other.pt")
    made = safeload.convert("m/other.pt", lock=False).files[0]
    lock = top / "safeload.lock"
    text = lock.read_text()
    line = f'converted = {{ path = "m/other.safetensors", sha256 = "{made.sha256}", sha256-tree = "{made.sha256_tree}" }}\n'
    lock.write_text(text.replace("allow-globals = []\n", f"allow-globals = []\n{line}"))
    with pytest.raises(PinError, match="made from other bytes"):
        safeload.load(path)


def test_a_source_that_changed_is_still_refused() -> None:
    """Path known and digest different: what was pinned is not what lies there, whatever stands in its place."""
    path = saved()
    safeload.lock(path, convert=True)
    saved(value={"w": torch.zeros(4, 6)})
    with pytest.raises(PinError, match="pinned sha256"):
        safeload.load(path)
    assert safeload.lock(path).outcome is Outcome.ALLOWED
    assert "converted" not in pin()
    assert_same(safeload.load(path), {"w": torch.zeros(4, 6)})


def test_the_pickle_itself_may_be_gone() -> None:
    path = saved()
    safeload.lock(path, convert=True)
    path.unlink()
    assert_same(safeload.load(path), state())
    assert_same(safeload.load("m/model"), state())
    Path("m/model.safetensors").unlink()
    with pytest.raises(PinError, match="is not there"):
        safeload.load(path)


def test_a_copy_is_known_by_its_bytes(monkeypatch: pytest.MonkeyPatch, top: Path) -> None:
    """And a caller's stream is read as it is: it is left where such a load leaves it."""
    path = saved()
    safeload.lock(path, convert=True)
    (top / "elsewhere").mkdir()
    copy = shutil.copy(path, top / "elsewhere" / "x.bin")
    walked = parsed(monkeypatch)
    assert_same(safeload.load(copy), state())
    assert not walked
    with Path(copy).open("rb") as file:
        assert_same(safeload.load(file), state())
    assert walked


def test_another_way_of_reading_is_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twin was made by reading Python 2's strings as UTF-8, and stands for no other encoding."""
    path = Path("m/old.pkl")
    path.write_bytes(b"\x80\x02}U\x01aU\x02\xc3\xa9s.")
    safeload.lock(path, convert=True)
    walked = parsed(monkeypatch)
    assert safeload.load(path) == {"a": "é"}
    assert not walked
    assert safeload.load(path, encoding="latin1") == {"a": "Ã©"}
    assert walked


def test_classes_are_refused_granted_or_inert_as_in_the_pickle() -> None:
    stream = forge.stream(
        forge.PROTO(2), forge.GLOBAL("argparse", "Namespace"), forge.EMPTY_TUPLE, forge.NEWOBJ, forge.EMPTY_DICT, forge.TEXT("a"),
        forge.INT(3), forge.SETITEM, forge.BUILD, forge.STOP,
    )  # fmt: skip
    path = Path("m/args.pkl")
    path.write_bytes(stream)
    assert safeload.lock(path, convert=True).outcome is Outcome.REFUSED
    safeload.lock(path, convert=True, allow_globals=["argparse.Namespace"])
    assert safeload.load(path).a == 3
    safeload.lock(path, force=True)
    lock = Path("safeload.lock")
    lock.write_text(lock.read_text().replace('allow-globals = ["argparse.Namespace"]', "allow-globals = []"))
    with pytest.raises(RefusedError, match="Namespace"):
        safeload.load(path)
    assert safeload.load(path, unknown="inert").state == {"a": 3}
    assert safeload.load(path, policy={"allow-globals": ["argparse.Namespace"]}).a == 3


def test_a_twin_is_pinned_under_its_own_path_too() -> None:
    path = saved()
    safeload.lock(path, convert=True)
    assert_same(safeload.load("m/model.safetensors"), state())
    Path("m/model.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(PinError):
        safeload.load("m/model.safetensors")


def test_signatures_are_demanded_of_what_was_signed() -> None:
    path = saved()
    safeload.lock(path, convert=True)
    for _ in range(2):
        with pytest.raises(SignatureError):
            safeload.load(path, policy={"signature": "require"})
        path.unlink(missing_ok=True)
    with pytest.raises(SignatureError, match="the file that was signed is not there"):
        safeload.load(path, policy={"signature": "require"})


def test_legacy_tar_and_script_files_have_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state(), "m/legacy.pt", _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(torch.nn.Linear(2, 3)).save("m/script.pt")
    expected = [safeload.load(path, lock=False, policy={"unpinned": "allow"}) for path in ("m/legacy.pt", "m/script.pt")]
    names = list(safeload.state_dict("m/script.pt", lock=False, policy={"unpinned": "allow"}))
    safeload.lock("m", convert=True)
    assert len([file for file in tomllib.loads(Path("safeload.lock").read_text())["model"][0]["file"] if "converted" in file]) == 2
    assert list(safeload.state_dict("m/script.pt")) == names
    walked = parsed(monkeypatch)
    for path, before in zip(("m/legacy.pt", "m/script.pt"), expected, strict=True):
        assert_same(safeload.load(path), before)
    assert not walked


def test_files_of_an_index_have_twins_each(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"pytorch_model-00001-of-00002.bin": {"a": torch.ones(2)}, "pytorch_model-00002-of-00002.bin": {"b": torch.zeros(2)}}
    for name, part in parts.items():
        torch.save(part, f"m/{name}")
    table = {key: name for name, part in parts.items() for key in part}
    Path("m/pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    safeload.lock("m/pytorch_model.bin.index.json", convert=True)
    walked = parsed(monkeypatch)
    assert_same(safeload.load("m/pytorch_model.bin.index.json"), {"a": torch.ones(2), "b": torch.zeros(2)})
    assert not walked


# ---- writing them down


def test_the_commands_write_twins_down(capsys: pytest.CaptureFixture[str]) -> None:
    path = saved()
    assert run(["convert", str(path), "--lock"]) == 2, "nothing is pinned yet"
    assert "lock --convert" in capsys.readouterr().err
    assert run(["lock", str(path)]) == 0
    assert run(["lock", "--check", "--convert"]) == 1
    for arguments in (["--lock", str(path)], [str(path), "m/x.safetensors", "--lock"], [str(path), "--force", "--lock", "safeload.lock"]):
        assert run(["convert", *arguments]) == 0
        assert pin()["converted"]["path"] == ("m/x.safetensors" if "m/x.safetensors" in arguments else "m/model.safetensors")
        assert_same(safeload.load(path), state())
    assert run(["lock", "--check", "--convert"]) == 0
    assert run(["verify"]) == 0
    assert run(["load", str(path)]) == 0
    assert "is loaded in its place" in capsys.readouterr().out
    assert run(["lock", "--no-convert"]) == 0
    assert "converted" not in pin()


@pytest.mark.parametrize("more", [["--state-dict"], ["--dry-run"], ["--max-shard-size", "50"], ["--transformers"]])
def test_only_all_of_a_file_in_one_file_is_a_twin(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = saved()
    safeload.lock(path)
    assert run(["convert", str(path), "--lock", *more]) == 2
    assert "holds all" in capsys.readouterr().err
    assert names() == ["model.pt"]


def test_somebody_elses_file_of_that_name_is_left_alone() -> None:
    """As on the hub: pytorch_model.bin and the publisher's own model.safetensors lie side by side."""
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, "m/model.safetensors")
    path = saved("m/pytorch_model.bin")
    before = Path("m/model.safetensors").read_bytes()
    safeload.lock("m", convert=True)
    assert pin()["path"] == "m/model.safetensors"
    files = {file["path"]: file for file in tomllib.loads(Path("safeload.lock").read_text())["model"][0]["file"]}
    assert files["m/pytorch_model.bin"]["converted"]["path"] == "m/pytorch_model.bin.safetensors"
    assert Path("m/model.safetensors").read_bytes() == before
    assert_same(safeload.load(path), state())
    Path("m/model.bin.safetensors").write_bytes(b"somebody's")
    torch.save({}, "m/model.bin")
    assert safeload.lock("m/model.bin", convert=True).outcome is Outcome.ERROR


def test_a_file_that_was_converted_before_becomes_the_twin() -> None:
    """It is written anew, so that what is pinned is what was made from these bytes, whatever its manifest claimed."""
    path, twin = saved(), Path("m/model.safetensors")
    safeload.convert(path, lock=False)
    good = twin.read_bytes()
    safeload.lock("m")
    assert len(tomllib.loads(Path("safeload.lock").read_text())["model"][0]["file"]) == 2
    twin.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    safeload.lock("m/model.safetensors")
    with pytest.raises(UsageError, match="pinned by itself"):
        safeload.lock(path, convert=True)
    safeload.lock("m/model.safetensors")
    found = safeload.lock("m", convert=True)
    assert {entry.path: entry.action for entry in found.entries} == {"m/model.pt": "renewed", "m/model.safetensors": "removed"}
    assert len(tomllib.loads(Path("safeload.lock").read_text())["model"][0]["file"]) == 1
    assert twin.read_bytes() == good
    assert {entry.action for entry in safeload.lock("m").entries} == {"unchanged", "skipped"}


def test_a_long_manifest_beside_the_twin_is_pinned_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a complete model, where nothing may lie that is not locked."""
    from safeload.conversion import job

    monkeypatch.setattr(job, "SIDECAR_BYTES", 100)
    path = saved()
    safeload.lock("m", complete=True, convert=True)
    assert names() == ["model.pt", "model.safeload.json", "model.safetensors"]
    assert_same(safeload.load(path), state())
    assert safeload.verify().outcome is Outcome.ALLOWED
    sidecar = Path("m/model.safeload.json")
    sidecar.write_bytes(sidecar.read_bytes()[:-1] + b" ")
    with pytest.raises(RefusedError):
        safeload.load(path)


def test_a_source_that_cannot_be_converted_whole_is_said(top: Path) -> None:
    assert safeload.lock(saved(), convert=True).outcome is Outcome.ALLOWED
    Path("m/broken.pt").write_bytes(Path("m/model.pt").read_bytes())
    (top / "m/broken.safetensors").symlink_to("nowhere")
    (top / "m/broken.pt.safetensors").symlink_to("nowhere")
    found = safeload.lock("m/broken.pt", convert=True)
    assert [(entry.action, "were not made from it" in entry.reasons[0]) for entry in found.entries] == [("error", True)]


def test_a_lockfile_in_which_a_twin_is_a_file_as_well_is_none(top: Path) -> None:
    safeload.lock(saved(), convert=True)
    lock = top / "safeload.lock"
    text = lock.read_text()
    lock.write_text(text.replace('path = "m/model.safetensors"', 'path = "m/model.pt"'))
    with pytest.raises(LockfileError):
        safeload.load("m/model.pt")


# ---- the cache


def twins() -> list[Path]:
    return sorted(Path("cache/converted").glob("*.safetensors"))


def test_a_pinned_pickle_is_converted_once_and_loaded_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved()
    safeload.lock(path)
    assert_same(safeload.load(path), state())
    assert not Path("cache/converted").exists(), "only where policy says so"
    assert_same(safeload.load(path, policy=CACHING), state())
    assert [twin.stem for twin in twins()] == [pin()["sha256"]]
    walked = parsed(monkeypatch)
    assert_same(safeload.load(path, policy=CACHING), state())
    assert_same(safeload.load("m/model", policy={"rule": [{"models": "m/*", "convert": "cache"}]}), state())
    shutil.copy(path, "copy.pt")
    assert_same(safeload.load("copy.pt", policy=CACHING), state())
    assert not walked


def test_what_nobody_pinned_is_not_kept() -> None:
    path = saved()
    safeload.load(path, lock=False, policy={**CACHING, "unpinned": "allow"})
    safeload.lock(saved("m/other.pt"))
    torch.save({"w": 1}, "m/new.pt")
    safeload.load("m/new.pt", policy={**CACHING, "unpinned": "allow"})
    assert not twins()


def test_a_pinned_twin_comes_before_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved()
    safeload.lock(path, convert=True)
    safeload.load(path, policy=CACHING)
    assert not twins()


@pytest.mark.parametrize("how", ["changed", "short", "swapped", "record", "copied"])
def test_a_twin_in_the_cache_that_does_not_prove_itself_is_not_used(how: str, top: Path) -> None:
    """Neither damage nor a forgery that its record does not know changes what is loaded."""
    path = saved()
    safeload.lock(path)
    safeload.load(path, policy=CACHING)
    twin = twins()[0]
    record, data = twin.with_suffix(".json"), twin.read_bytes()
    if how == "changed":
        twin.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "short":
        twin.write_bytes(data[:-1])
    elif how == "swapped":  # the twin and the record of another file, under this one's name
        torch.save({"w": torch.zeros(1)}, "m/other.pt")
        safeload.convert("m/other.pt", twin, force=True, lock=False)
        made = safeload.scan(twin, digest=True, lock=False)
        found = json.loads(record.read_text()) | {"size": twin.stat().st_size, "sha256": made.sha256, "sha256-tree": made.sha256_tree}
        record.write_text(json.dumps(found))
    elif how == "record":
        record.write_text(record.read_text()[:-9])
    else:
        shutil.move("cache", "old")
        shutil.copytree("old", "cache")
        Path("cache").chmod(0o700)
    if how in ("changed", "short", "swapped"):
        with pytest.warns(SafeloadWarning, match="dropped from the cache"):
            assert_same(safeload.load(path, policy=CACHING), state())
        assert not twins()
    assert_same(safeload.load(path, policy=CACHING), state())
    assert twins()[0].read_bytes() == data


def test_the_cache_speaks_for_no_file_that_is_gone_or_changed() -> None:
    path = saved()
    safeload.lock(path)
    safeload.load(path, policy=CACHING)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PinError):
        safeload.load(path, policy=CACHING)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        safeload.load(path, policy=CACHING)


def test_a_directory_that_others_could_write_to_is_no_cache(top: Path) -> None:
    path = saved()
    safeload.lock(path)
    (top / "cache").mkdir()
    (top / "cache").chmod(0o777)
    assert_same(safeload.load(path, policy=CACHING), state())
    assert not twins()
    assert run(["cache", "list"]) == 2


def test_the_least_recently_loaded_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [saved(f"m/{number}.pt", {"w": torch.full((1000,), float(number))}) for number in range(4)]
    safeload.lock("m")
    for number, path in enumerate(paths[:3]):
        safeload.load(path, policy=CACHING)
        record = max(Path("cache/converted").glob("*.json"), key=lambda one: one.stat().st_mtime_ns)
        os.utime(record, (1000.0 + number, 1000.0 + number))
    safeload.load(paths[0], policy=CACHING)
    size = twins()[0].stat().st_size
    monkeypatch.setenv("SAFELOAD_CACHE_SIZE", str(3 * size + size // 2))
    safeload.load(paths[3], policy=CACHING)
    cache = TwinCache.here()
    assert cache is not None
    pins = {file["sha256"]: file["path"] for file in tomllib.loads(Path("safeload.lock").read_text())["model"][0]["file"]}
    assert sorted(pins[kept.source_sha256] for kept in cache.entries()) == ["m/0.pt", "m/2.pt", "m/3.pt"]
    monkeypatch.setenv("SAFELOAD_CACHE_SIZE", "100")
    big = saved("m/big.pt")
    safeload.lock(big)
    assert_same(safeload.load(big, policy=CACHING), state())
    assert len(twins()) == 3, "what never fits is not kept, and pushes nothing out"


def test_what_a_killed_process_left_behind_is_swept() -> None:
    path = saved()
    safeload.lock(path)
    safeload.load(path, policy=CACHING)
    folder, old = Path("cache/converted"), time.time() - 200_000
    for name in (f".{'0' * 64}.guard", f"{'1' * 64}.safetensors", f".{'2' * 64}.safetensors.0123.tmp"):
        (folder / name).write_bytes(b"left")
        os.utime(folder / name, (old, old))
    (folder / f"{'3' * 64}.safetensors").write_bytes(b"at work")
    assert run(["cache", "prune"]) == 0
    assert sorted(one.name[:5] for one in folder.iterdir() if one.stem != pin()["sha256"]) == ["33333"]


def test_the_commands_list_and_make_room(capsys: pytest.CaptureFixture[str]) -> None:
    path = saved()
    safeload.lock(path)
    safeload.load(path, policy=CACHING)
    assert run(["cache", "list", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["source"] for entry in listed["converted"]] == [f"sha256:{pin()['sha256']}"]
    assert run(["cache", "prune", "--unused", "1"]) == 0
    assert len(twins()) == 1
    Path("cache/mine").mkdir()
    Path("cache/mine/file").write_text("not the cache's")
    assert run(["cache", "prune", "--all"]) == 0
    assert not twins()
    assert Path("cache/mine/file").exists(), "only what safeload made is removed"
    assert run(["cache", "list"]) == 0


def test_many_processes_convert_a_file_once(top: Path) -> None:
    """Whoever comes second waits, and loads what the first one made."""
    path = saved(value={f"w{number}": torch.randn(200) for number in range(2000)})
    safeload.lock(path)
    results: list[Any] = []

    def load() -> None:
        results.append(safeload.load(path, policy=CACHING))

    before = TwinCache._convert
    calls: list[int] = []

    def counting(self: Any, *args: Any) -> Any:
        calls.append(1)
        return before(self, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TwinCache, "_convert", counting)
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(calls) == 1
    for found in results:
        assert_same(found, results[0])
    code = (
        "import sys\nfrom safeload.conversion.cache import TwinCache\n"
        "from safeload.policy import Policy\nfrom safeload.source import Source\n"
        "with Source.open('m/model.pt') as source: print(TwinCache.here().make(source, sys.argv[1], Policy()).sha256)"
    )
    shutil.rmtree("cache")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, pin()["sha256"]]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(3)]
    assert len({process.communicate(timeout=600)[0] for process in running}) == 1
    assert sorted(one.suffix for one in (top / "cache/converted").iterdir()) == [".json", ".safetensors"]
