"""What lands on the disk: whole or not at all, never over something else, and the same bytes every time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from safeload.cli import run
from safeload.conversion import check, convert, convert_tree, export
from safeload.conversion import job as job_module
from safeload.conversion.converting import default_destination
from safeload.errors import LimitError, MalformedError, PinError, RefusedError, SafeloadError, UnsupportedError, UsageError
from safeload.formats.safetensors_file import SafetensorsFile
from safeload.lockfile import Lockfile
from safeload.source import Reading, Source
from tests import forge
from tests.forge_build import torch_zip
from tests.forge_conversion import converted_file, manifest_text, plain_checkpoint, rebuilt, tensors, tree_of


def names_in(path: Path) -> list[str]:
    """Tensors that our strict reader sees, in the order of their bytes."""
    with Source.open(path) as source:
        contents = SafetensorsFile().read(source, Reading())
        assert contents.error is None, contents.error
        return list(contents.table or {})


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def only(directory: Path, *names: str) -> None:
    """Nothing else lies there, no temporary file either."""
    assert sorted(path.name for path in directory.iterdir()) == sorted(names)


def test_a_checkpoint_becomes_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    """Tensors under their names, `format: pt`, digests of what was read and of what was written."""
    source = plain_checkpoint(tmp_path / "model.pt")
    result = convert(source)
    made = tmp_path / "model.safetensors"
    assert result.paths == (str(made),)
    assert result.kept == ("layer0.weight", "layer1.weight", "layer2.weight")
    assert names_in(made) == list(result.kept)
    assert (result.source_sha256, result.files[0].sha256) == (sha256(source), sha256(made))
    assert check(source, made).same
    only(tmp_path, "model.pt", "model.safetensors")


def test_neither_torch_nor_numpy_is_imported(tmp_path: Path) -> None:
    """Converting works where torch is not installed, and is not slowed down by it where it is."""
    source = plain_checkpoint(tmp_path / "model.pt")
    code = (
        "import sys; from safeload.conversion import convert, check, export; import pathlib\n"
        f"convert({str(source)!r}); assert check({str(source)!r}, {str(tmp_path / 'model.safetensors')!r}).same\n"
        f"export({str(tmp_path / 'model.safetensors')!r}, {str(tmp_path / 'back.pt')!r})\n"
        "assert not {'torch', 'numpy', 'pickle'} & set(sys.modules) - {'pickle'}, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600, cwd=Path(__file__).parents[2])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """So that the output can be pinned and signed. Sets come in another order in each process."""
    members = [forge.TEXT(f"member {number}") for number in range(30)]
    stream = forge.stream(forge.PROTO(4), forge.EMPTY_SET, forge.MARK, *members, forge.ADDITEMS, forge.STOP)
    source = tmp_path / "set.pkl"
    source.write_bytes(stream)
    seen = set()
    for seed in ("1", "2", "3"):
        made = tmp_path / f"{seed}.safetensors"
        code = f"from safeload.conversion import convert; convert({str(source)!r}, {str(made)!r})"
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code], check=True, timeout=600, cwd=Path(__file__).parents[2], env=env)
        seen.add(sha256(made))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.pt", "model"),
        ("m.pth.tar", "m"),
        ("pytorch_model.bin", "model"),
        ("a.b.ckpt", "a.b"),
        ("plain", "plain"),
        (".pt", ".pt"),
        ("pytorch_model.bin.index.json", "model"),
        ("v1.2", "v1.2"),
    ],
)
def test_the_usual_name_of_the_output(name: str, expected: str) -> None:
    """The one that loaders look for."""
    assert default_destination(f"/x/{name}") == Path(f"/x/{expected}.safetensors")


def test_what_is_there_is_not_overwritten_without_force(tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "model.pt")
    made = tmp_path / "model.safetensors"
    made.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        convert(source)
    assert made.read_bytes() == b"mine"
    convert(source, force=True)
    assert check(source, made).same
    only(tmp_path, "model.pt", "model.safetensors")


@pytest.mark.parametrize("force", [False, True])
def test_the_source_and_links_are_never_written_to(tmp_path: Path, *, force: bool) -> None:
    """Not even when somebody insists."""
    source = plain_checkpoint(tmp_path / "model.pt")
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.link(source, tmp_path / "hard")
    for destination in ("model.pt", "hard", "link"):
        with pytest.raises(UsageError):
            convert(source, tmp_path / destination, force=force)
    assert source.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_destination_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    """Between the first look and the name there may be hours."""
    source = plain_checkpoint(tmp_path / "model.pt")
    made = tmp_path / "model.safetensors"

    def appear(done: int, total: int) -> None:
        made.write_bytes(b"theirs")

    with pytest.raises(UsageError, match="by now"):
        convert(source, progress=appear)
    assert made.read_bytes() == b"theirs"
    only(tmp_path, "model.pt", "model.safetensors")


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source and an old destination stay as they are."""
    source = plain_checkpoint(tmp_path / "model.pt")
    made = tmp_path / "model.safetensors"
    made.write_bytes(b"old")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("pwrite", "fsync", "ftruncate", "fstatvfs"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            with pytest.raises(UnsupportedError, match="no room"):
                convert(source, force=True)
        assert made.read_bytes() == b"old"
        only(tmp_path, "model.pt", "model.safetensors")


def test_a_system_without_nameless_files_works_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, a temporary file lies beside the destination, and goes when something fails."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    source = plain_checkpoint(tmp_path / "model.pt")
    convert(source)
    convert(source, force=True)
    monkeypatch.setattr(job_module, "prove", lambda *_, **__: (_ for _ in ()).throw(UnsupportedError("no")))
    with pytest.raises(UnsupportedError):
        convert(source, force=True)
    only(tmp_path, "model.pt", "model.safetensors")


def test_a_source_that_changes_while_it_is_copied_is_noticed(tmp_path: Path) -> None:
    """What is proved are the bytes that were hashed."""
    source = plain_checkpoint(tmp_path / "model.pt", numel=50_000)
    changed = False

    def change(done: int, total: int) -> None:
        nonlocal changed
        if not changed:
            changed = True
            with source.open("r+b") as file:
                file.seek(source.stat().st_size // 2)
                file.write(b"\xff" * 16)

    with pytest.raises(SafeloadError):
        convert(source, progress=change)
    only(tmp_path, "model.pt")


def test_check_finds_a_single_changed_bit(tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "model.pt")
    convert(source)
    made = tmp_path / "model.safetensors"
    data = bytearray(made.read_bytes())
    data[-1] ^= 1
    made.write_bytes(data)
    found = check(source, made)
    assert not found.same
    assert "bytes differ" in found.difference
    other = plain_checkpoint(tmp_path / "other.pt", numel=7)
    assert "it was made from" in check(other, made).difference
    (tmp_path / "bare.safetensors").write_bytes(tensors({"a": ("U8", [1], b"1")}))
    with pytest.raises(UsageError, match="no manifest"):
        check(source, tmp_path / "bare.safetensors")


def test_a_dry_run_writes_nothing_and_knows_the_size(tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "model.pt")
    planned = convert(source, dry_run=True)
    only(tmp_path, "model.pt")
    assert planned.dry_run
    assert [file.size for file in planned.files] == [file.size for file in convert(source).files]


def test_a_converted_file_is_not_converted_again(tmp_path: Path) -> None:
    convert(plain_checkpoint(tmp_path / "model.pt"))
    with pytest.raises(UsageError, match="already"):
        convert(tmp_path / "model.safetensors", tmp_path / "again.safetensors")


def test_the_output_is_as_private_as_the_source(tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "model.pt")
    source.chmod(0o600)
    convert(source)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o600


def test_globals_that_are_not_modelled_stay_inert_or_refuse(tmp_path: Path) -> None:
    """A full-module pickle keeps all that it says, and nothing of it runs."""
    source = tmp_path / "hostile.pkl"
    source.write_bytes(forge.stream(forge.PROTO(4), *call_of("os", "system"), forge.STOP))
    with pytest.raises(RefusedError):
        convert(source, strict=True)
    result = convert(source)
    assert result.inert == ("os.system",)
    found, _ = rebuilt(tmp_path / "hostile.safetensors")
    assert (found.global_name, found.args) == ("os.system", ("true",))
    with pytest.raises(RefusedError):
        rebuilt(tmp_path / "hostile.safetensors", unknown="refuse")


@pytest.mark.parametrize("data", [b"", b"text", b"\x80\x04}q\x00(", b"PK\x03\x04" + bytes(60)])
def test_what_is_no_checkpoint_is_an_error(tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "broken.pt"
    source.write_bytes(data)
    with pytest.raises(MalformedError):
        convert(source)
    only(tmp_path, "broken.pt")


def test_deflated_and_big_endian_storages_become_plain_ones(tmp_path: Path) -> None:
    """Whatever the archive does to its bytes, the output holds little-endian numbers."""
    import zipfile

    plain_checkpoint(tmp_path / "model.pt", names=1)
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        stream, data = archive.read("archive/data.pkl"), archive.read("archive/data/0")
    swapped = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    convert(tmp_path / "model.pt")
    expected = (tmp_path / "model.safetensors").read_bytes()[-len(data) :]
    for name, raw in (
        ("deflated", torch_zip(stream, {"0": data}, method=zipfile.ZIP_DEFLATED)),
        ("big", torch_zip(stream, {"0": swapped}, byteorder="big")),
    ):
        (tmp_path / f"{name}.pt").write_bytes(raw)
        convert(tmp_path / f"{name}.pt")
        assert (tmp_path / f"{name}.safetensors").read_bytes()[-len(data) :] == expected


def test_a_pin_that_the_bytes_do_not_match_stops_it(tmp_path: Path) -> None:
    """Converting must not launder a file that was tampered with."""
    from safeload.lockfile import update
    from safeload.lockfile.data import LockedFile, Model

    source = plain_checkpoint(tmp_path / "model.pt")
    file = LockedFile(path="model.pt", size=source.stat().st_size, sha256="0" * 64, format="torch-zip")

    def pin(lock: Lockfile) -> Lockfile:
        from dataclasses import replace

        return replace(lock, models=(Model(name="m", files=(file,)),))

    update(tmp_path / "safeload.lock", pin)
    with pytest.raises(PinError):
        convert(source, lock=tmp_path / "safeload.lock")
    assert not (tmp_path / "model.safetensors").exists()


# ---- several files


def test_a_large_checkpoint_becomes_shards_and_an_index(tmp_path: Path) -> None:
    """Names and index as the hub's tools write them; the index comes last."""
    source = plain_checkpoint(tmp_path / "pytorch_model.bin", names=6, numel=100)
    result = convert(source, max_shard_size=900)
    shards = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert [Path(path).name for path in result.paths] == [*shards, "model.safeload.json", "model.safetensors.index.json"]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 2400}
    assert index["weight_map"] == {f"layer{number}.weight": shards[number // 2] for number in range(6)}
    assert check(source, tmp_path / "model.safetensors.index.json").same


def test_a_checkpoint_in_several_files_is_read_as_one(tmp_path: Path) -> None:
    for number in (0, 1):
        raw = struct.pack("<2f", number, number)
        (tmp_path / "made.safetensors").write_bytes(tensors({f"w{number}": ("F32", [2], raw)}))
        export(tmp_path / "made.safetensors", tmp_path / f"part{number}.bin")
    table = {"w1": "part1.bin", "w0": "part0.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    result = convert(tmp_path / "pytorch_model.bin.index.json")
    assert result.paths == (str(tmp_path / "model.safetensors"),)
    assert check(tmp_path / "pytorch_model.bin.index.json", tmp_path / "model.safetensors").same
    assert sorted(names_in(tmp_path / "model.safetensors")) == ["w0", "w1"]


@pytest.mark.parametrize(
    "index",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../x.bin"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"missing": "part.bin"}}',
        '{"weight_map": {"layer0.weight": "part.bin", "more": "part.bin"}}',
        "[" * 10_000,
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, index: str) -> None:
    """It names files, and so must not be able to name any file."""
    plain_checkpoint(tmp_path / "part.bin", names=1)
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(index)
    with pytest.raises(SafeloadError):
        convert(path)
    only(tmp_path, "part.bin", path.name)


def test_a_long_manifest_lies_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header names it by digest, so it cannot be exchanged."""
    monkeypatch.setattr(job_module, "SIDECAR_BYTES", 10)
    source = plain_checkpoint(tmp_path / "model.pt")
    result = convert(source)
    only(tmp_path, "model.pt", "model.safetensors", "model.safeload.json")
    assert len(result.files) == 2
    assert check(source, tmp_path / "model.safetensors").same
    beside = tmp_path / "model.safeload.json"
    good = beside.read_bytes()
    beside.write_bytes(good.replace(b"layer0", b"layer9"))
    with pytest.raises(MalformedError, match="digest differs"):
        rebuilt(tmp_path / "model.safetensors")
    beside.unlink()
    with pytest.raises(MalformedError, match="not there"):
        rebuilt(tmp_path / "model.safetensors")


def test_a_manifest_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small stream can stand for a large tree: one long text, many times."""
    from safeload.conversion import tree

    monkeypatch.setattr(tree, "MANIFEST_BYTES", 1000)
    texts = [forge.TEXT("x" * 60)] * 50
    source = tmp_path / "long.pkl"
    source.write_bytes(forge.stream(forge.PROTO(4), forge.EMPTY_LIST, forge.MARK, *texts, forge.APPENDS, forge.STOP))
    with pytest.raises(LimitError):
        convert(source)


# ---- a directory


def test_a_directory_is_converted_and_the_second_run_finds_it_done(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    plain_checkpoint(tmp_path / "a.pt")
    plain_checkpoint(tmp_path / "a.bin", names=2)
    plain_checkpoint(tmp_path / "deep" / "b.pt")
    (tmp_path / "readme.txt").write_text("not a model")
    (tmp_path / "broken.pt").write_bytes(b"\x80\x02}q\x00(")
    outcomes = {Path(item.path).name: item.outcome for item in convert_tree(tmp_path)}
    assert outcomes == {"a.pt": "converted", "a.bin": "converted", "b.pt": "converted", "readme.txt": "skipped", "broken.pt": "refused"}
    assert (tmp_path / "a.safetensors").exists()
    assert (tmp_path / "a.pt.safetensors").exists()
    again = {Path(item.path).name: item.outcome for item in convert_tree(tmp_path)}
    assert {name: again[name] for name in ("a.pt", "a.bin", "b.pt")} == {"a.pt": "present", "a.bin": "present", "b.pt": "present"}


def test_what_is_left_of_a_checkpoint_is_not_passed_over(tmp_path: Path) -> None:
    """Who migrates a directory must hear of the download that broke off; text that ends in .pth is another thing."""
    plain_checkpoint(tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.ckpt").write_bytes(b"")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "a" + "\nsize 12\n"
    (tmp_path / "pytorch_model.bin").write_text(pointer)
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html><title>Sign in</title></html>")
    (tmp_path / "paths.pth").write_text("import site\n")
    (tmp_path / "raw.bin").write_bytes(bytes(range(7, 200)))
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    found = {Path(item.path).name: item for item in convert_tree(tmp_path)}
    refused = {name: item.why for name, item in found.items() if item.outcome == "refused"}
    assert refused.keys() == {"cut.pt", "empty.ckpt", "pytorch_model.bin", "page.pth"}
    assert "ends after" in refused["cut.pt"]
    assert "Git-LFS pointer" in refused["pytorch_model.bin"]
    assert {name for name, item in found.items() if item.outcome == "skipped"} == {"paths.pth", "raw.bin", "other.pt"}


def test_a_file_of_weights_alone_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    """Who has converted the weights, and then all of it, must not be told that all of it is there."""
    plain_checkpoint(tmp_path / "a.pt")
    assert [item.outcome for item in convert_tree(tmp_path, state_dict=True)] == ["converted"]
    assert next(item.outcome for item in convert_tree(tmp_path, state_dict=True)) == "present"
    again = {Path(item.path).name: item for item in convert_tree(tmp_path)}["a.pt"]
    assert (again.outcome, again.why) == ("refused", "the destination exists")
    assert {Path(item.path).name: item.outcome for item in convert_tree(tmp_path, force=True)}["a.pt"] == "converted"


# ---- and back


def test_export_gives_back_what_was_converted(tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "model.pt")
    convert(source)
    written = export(tmp_path / "model.safetensors", tmp_path / "back.pt")
    assert written.sha256 == sha256(tmp_path / "back.pt")
    convert(tmp_path / "back.pt")
    assert tree_of(tmp_path / "back.safetensors").described() == tree_of(tmp_path / "model.safetensors").described()
    with pytest.raises(UsageError, match="exists"):
        export(tmp_path / "model.safetensors", tmp_path / "back.pt")


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "functools.partial", "acme.Net", "torch._utils._rebuild_tensor_v2"])
def test_an_export_arms_nothing(name: str, tmp_path: Path, *, script: bool) -> None:
    """Inert data of a forged manifest, or of a hostile pickle, must not become calls that another loader makes."""
    text = manifest_text([0], [["call", {"global": 0}, ["true"]]], globals=[name], **({"script": True} if script else {}))
    source = tmp_path / "forged.safetensors"
    source.write_bytes(converted_file(text))
    with pytest.raises(SafeloadError):
        export(source, tmp_path / "out.pt")
    only(tmp_path, "forged.safetensors")


def test_an_export_writes_the_classes_that_policy_grants(tmp_path: Path) -> None:
    """They are in the archive as they were in the source; what nobody may grant never is."""
    source, made = tmp_path / "in.pkl", tmp_path / "in.safetensors"
    source.write_bytes(forge.stream(forge.PROTO(4), *call_of("acme", "Net"), forge.STOP))
    convert(source)
    with pytest.raises(RefusedError, match=r"acme\.Net") as refused:
        export(made, tmp_path / "back.pt")
    assert refused.value.globals == ("acme.Net",)
    assert 'allow-globals = [\n    "acme.Net",' in refused.value.hint
    export(made, tmp_path / "back.pt", policy={"allow-globals": ["acme.Net"]})
    convert(tmp_path / "back.pt")
    assert tree_of(tmp_path / "back.safetensors").described() == tree_of(made).described()


def test_what_is_dangerous_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hostile file is converted without running it, and nobody is left to think that it is a file like others."""
    source = tmp_path / "in.pkl"
    source.write_bytes(forge.stream(forge.PROTO(4), *call_of("os", "system"), forge.STOP))
    assert run(["convert", str(source)]) == 0
    shown = capsys.readouterr()
    assert "dangerous   calls os.system('true') (starts a process) [SL101]" in shown.out
    assert "find out who made it" in shown.err
    source.write_bytes(forge.stream(forge.PROTO(4), *call_of("acme", "Net"), forge.STOP))
    assert convert(source, force=True).dangers == ()


def call_of(module: str, name: str) -> list[bytes]:
    """A call of one text."""
    return [forge.TEXT(module), forge.TEXT(name), forge.STACK_GLOBAL, forge.TEXT("true"), forge.TUPLE1, forge.REDUCE]


def test_an_exported_archive_is_one_that_every_zip_reader_takes(tmp_path: Path) -> None:
    """CRCs, offsets and alignment, checked by another reader than ours."""
    import zipfile

    with zipfile.ZipFile(plain_checkpoint(tmp_path / "model.pt")) as archive:
        assert archive.testzip() is None
        assert archive.read("archive/byteorder") == b"little"
        assert archive.read("archive/data/0") == struct.pack("<6f", *(index / 8 for index in range(6)))
        for info in archive.infolist():
            with archive.open(info) as member:
                member.read(0)
    raw = (tmp_path / "model.pt").read_bytes()
    assert raw.index(struct.pack("<6f", *(index / 8 for index in range(6)))) % 64 == 0
