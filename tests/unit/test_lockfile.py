"""The lockfile: read strictly, written canonically, found safely, compared exactly."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from safeload.errors import ArgumentError, LockfileError, PinError, SafeloadError, SafeloadWarning, UsageError
from safeload.lockfile import (
    Converted,
    LockedFile,
    Lockfile,
    Model,
    Pin,
    compare,
    complete_check,
    dumps,
    find,
    loads,
    lock_relative,
    lookup,
    own_names,
    read,
    require_match,
    update,
)
from safeload.policy import SignerRule

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
COMMIT = "0123456789abcdef0123456789abcdef01234567"

EXAMPLE = f"""
lock-version = "1.0"
created-by = "safeload 0.1.0"

[trust-root.default]
kind = "sigstore"
path = "builtin:sigstore-public-good"
sha256 = "{A}"

[signer.acme-release]
kind = "sigstore"
trust-root = "default"
issuer = "https://token.actions.githubusercontent.com"
identity = "https://github.com/acme/models/.github/workflows/release.yml@refs/tags/v1.2.0"

[signer.publisher]
kind = "openpgp"
fingerprint = "{COMMIT.upper()}"
certificate = "keys/publisher.asc"
certificate-sha256 = "{B}"

[[model]]
name = "acme/sentiment"
complete = true
require = {{ all = ["acme-release"] }}

[model.source]
kind = "huggingface"
repo = "acme/sentiment"
requested = "main"
revision = "{COMMIT}"

[[model.file]]
path = "models/sentiment/pytorch_model.bin"
size = 440473133
sha256 = "{A}"
sha256-tree = "{B}"
format = "torch-zip"
globals = ["collections.OrderedDict", "torch._utils._rebuild_tensor_v2"]
allow-globals = []
converted = {{ path = "models/sentiment/model.safetensors", sha256 = "{C}", sha256-tree = "{D}" }}

[[model.signature]]
signer = "acme-release"
kind = "sigstore-blob"
bundle = "signatures/sentiment.sigstore.json"
bundle-sha256 = "{C}"
"""

SMALL = f"""lock-version = "1.0"
[[model]]
name = "m"
[[model.file]]
path = "m.pt"
size = 3
sha256 = "{A}"
"""


def one_file(path: str = "m.pt", **values: object) -> LockedFile:
    return LockedFile(**{"path": path, "size": 3, "sha256": A, **values})  # type: ignore[arg-type]


def lock_of(*files: LockedFile, name: str = "m") -> Lockfile:
    return Lockfile(models=(Model(name=name, files=files),))


# ---- reading and writing


def test_every_key_of_the_contract_round_trips() -> None:
    """The contract shows this lock; what verification comes to need later must not be lost today."""
    lock = loads(EXAMPLE)
    model = lock.models[0]
    assert (model.name, model.complete, model.require) == ("acme/sentiment", True, SignerRule(all=("acme-release",)))
    assert model.source is not None
    assert (model.source.kind, model.source.requested, model.source.revision) == ("huggingface", "main", COMMIT)
    assert model.files == (
        LockedFile(
            path="models/sentiment/pytorch_model.bin",
            size=440473133,
            sha256=A,
            sha256_tree=B,
            format="torch-zip",
            globals=("collections.OrderedDict", "torch._utils._rebuild_tensor_v2"),
            converted=Converted(path="models/sentiment/model.safetensors", sha256=C, sha256_tree=D),
        ),
    )
    assert (model.signatures[0].signer, model.signatures[0].bundle_sha256) == ("acme-release", C)
    assert (lock.signers[1].fingerprint, lock.signers[1].certificate) == (COMMIT.upper(), "keys/publisher.asc")
    text = dumps(lock)
    assert loads(text) == lock
    for line in EXAMPLE.strip().splitlines():
        assert line in text.splitlines()


def test_the_written_lock_reads_like_this() -> None:
    """One diffable block a file, stable order, hostile characters as escapes."""
    lock = Lockfile(
        created_by="safeload 0.1.0",
        models=(
            Model(
                name="z", files=(one_file("z/b.bin", allow_globals=("q.B", "a.A")), one_file("z/a\u202e.bin", globals=(), format="pickle"))
            ),
            Model(name='a "quoted"', files=(one_file("a.pt", sha256_tree=B),)),
        ),
    )
    want = f"""\
# Written by safeload: 'safeload lock' renews it, 'safeload verify' compares. Keep it under version control.
# What each key means: docs/lockfile.md of safeload.
ends-with = "end"
lock-version = "1.0"
created-by = "safeload 0.1.0"

[[model]]
name = "a \\"quoted\\""

[[model.file]]
path = "a.pt"
size = 3
sha256 = "{A}"
sha256-tree = "{B}"
allow-globals = []

[[model]]
name = "z"

[[model.file]]
path = "z/a\\u202E.bin"
size = 3
sha256 = "{A}"
format = "pickle"
globals = []
allow-globals = []

[[model.file]]
path = "z/b.bin"
size = 3
sha256 = "{A}"
allow-globals = ["a.A", "q.B"]

[end]
"""
    assert dumps(lock) == want


def test_long_lists_go_one_item_a_line() -> None:
    """So that a review shows the one global that came."""
    names = tuple(f"package.module.Class{index}" for index in range(8))
    lock = lock_of(one_file(globals=names))
    assert '\n    "package.module.Class7",\n]' in dumps(lock)
    assert loads(dumps(lock)) == lock


def test_order_in_memory_makes_no_difference() -> None:
    one, two = one_file("a.pt"), one_file("b.pt", globals=("y.y", "x.x", "y.y"))
    left = Lockfile(models=(Model(name="m", files=(two, one)), Model(name="k", files=(one_file("c"),))))
    right = Lockfile(models=(Model(name="k", files=(one_file("c"),)), Model(name="m", files=(one, two))))
    assert left == right
    assert dumps(left) == dumps(right)
    assert left.models[1].files[1].globals == ("x.x", "y.y")


def test_an_empty_lock_is_a_lock() -> None:
    assert loads(dumps(Lockfile())) == Lockfile()


CASES = [
    ("", "lock-version: missing"),
    ('lock-version = "1.0', "not valid TOML"),
    ("lock-version." + "a." * 50_000 + "a = 1", "a key of more than 64 parts"),
    ('x = 1\n["a"' + " . 'a'" * 50_000 + "]", r"a key of more than 64 parts \(at line 2\)"),
    ("a = " + "[" * 100_000, "nested too deeply"),
    ("a = " + "9" * 100_000, "not valid TOML"),
    ("\ufefflock-version = '1.0'", "not valid TOML"),
    ("lock-version = '1.0'\0", "not valid TOML"),
    ("lock-version = 1", "lock-version: a string is needed, not an integer"),
    ("lock-version = 1.0", "lock-version: a string is needed, not a float"),
    ('lock-version = "1"', "lock-version: MAJOR.MINOR is needed"),
    ('lock-version = "2.0"', "lock-version: version 2.0 is not understood"),
    ('lock-version = "0.9"', "lock-version: version 0.9 is not understood"),
    ('lock-version = "1.0"\nmodell = 1', r"modell: unknown key\n  hint: did you mean model\?"),
    ('lock-version = "1.0"\nends-with = "end"', "end: missing: the lockfile ends too early"),
    ('lock-version = "1.0"\nends-with = "fin"', "ends-with: 'end' is needed"),
    ('lock-version = "1.0"\n[end]', "ends-with: missing"),
    ('lock-version = "1.0"\nends-with = "end"\n[end]\nx = 1', "end.x: unknown key"),
    ('lock-version = "1.0"\n[[model]]\nname = "m"', r"model\[0\].file: missing"),
    ('lock-version = "1.0"\n[[model]]\nname = ""', r"model\[0\].name: empty"),
    ('lock-version = "1.0"\nmodel = 1', "model: an array is needed"),
    ('lock-version = "1.0"\n[signer]\nx = 1', "signer.x: a table is needed, not an integer"),
    (SMALL.replace(A, A[1:]), r"model\[0\].file\[0\].sha256: 64 lower-case hex digits are needed, not 63"),
    (SMALL.replace(A, A.upper()), r"file\[0\].sha256: 64 lower-case"),
    (SMALL.replace(f'"{A}"', "3"), r"file\[0\].sha256: a string is needed"),
    (SMALL + f'sha256-tree = "{A}x"', r"file\[0\].sha256-tree: 64"),
    (SMALL.replace("size = 3", "size = -1"), r"file\[0\].size: a size in bytes is needed, not -1"),
    (SMALL.replace("size = 3", "size = true"), r"file\[0\].size: an integer is needed, not a boolean"),
    (SMALL.replace("size = 3", "size = 3.0"), r"file\[0\].size: an integer is needed, not a float"),
    (SMALL.replace("size = 3", "size = 9223372036854775808"), r"file\[0\].size: a size"),
    (SMALL.replace("size = 3\n", ""), r"file\[0\].size: missing"),
    (SMALL + 'sha-256 = "x"', r"file\[0\].sha-256: unknown key\n  hint: did you mean sha256\?"),
    (SMALL + 'format = "../x"', r"file\[0\].format: '../x' is not the name of a format"),
    (SMALL + 'globals = ["a.b", 1]', r"file\[0\].globals\[1\]: a string is needed"),
    (SMALL + 'allow-globals = ["os.system"]', r"file\[0\].allow-globals\[0\]: 'os.system' can never be granted"),
    (SMALL + 'converted = { path = "x" }', r"file\[0\].converted.sha256: missing"),
    (SMALL + f'converted = {{ path = "m.pt", sha256 = "{A}" }}', r"converted.path: the same path as in model\[0\].file\[0\].path"),
    (SMALL + SMALL.split("\n", 1)[1], r"model\[1\].name: a second model 'm' as in model\[0\].name"),
    (
        SMALL + SMALL.split("\n", 1)[1].replace('name = "m"', 'name = "n"'),
        r"model\[1\].file\[0\].path: the same path as in model\[0\].file\[0\]",
    ),
    (SMALL.replace('name = "m"', 'name = "m"\ncomplete = 1'), r"model\[0\].complete: a boolean is needed"),
    (SMALL.replace('name = "m"', 'name = "m"\nrequire = {}'), r"model\[0\].require: all or any is needed"),
    (SMALL.replace('name = "m"', 'name = "m"\nrequire = { any = [] }'), r"model\[0\].require.any: names nobody"),
    (SMALL.replace('name = "m"', 'name = "m"\nrequire = { any = ["x"] }'), r"model\[0\].require.any\[0\]: there is no \[signer.x\]"),
    (
        EXAMPLE.replace('trust-root = "default"', 'trust-root = "other"'),
        r"signer.acme-release.trust-root: there is no \[trust-root.other\]",
    ),
    (EXAMPLE.replace('signer = "acme-release"', 'signer = "x"'), r"model\[0\].signature\[0\].signer: there is no \[signer.x\]"),
    (EXAMPLE.replace('"sigstore-blob"', '"blob"'), r"signature\[0\].kind: 'blob' is not one of sigstore-blob, oms"),
    (EXAMPLE.replace('kind = "openpgp"', 'kind = "gpg"'), "signer.publisher.kind: 'gpg' is not one of"),
    (EXAMPLE.replace(COMMIT.upper(), "0123456789ABCDEF"), "signer.publisher.fingerprint: the full primary fingerprint is needed"),
    (EXAMPLE.replace("release.yml@refs/tags/v1.2.0", "*"), "identity: an identity is exact here"),
    (EXAMPLE.replace("builtin:sigstore-public-good", "builtin:../x"), r"trust-root.default.path: 'builtin:../x' names no trust root"),
    (EXAMPLE.replace(f'revision = "{COMMIT}"', 'revision = "main"'), r"model\[0\].source.revision: a full commit id is needed"),
    (EXAMPLE.replace(f'revision = "{COMMIT}"', f'revision = "{COMMIT[:7]}"'), "source.revision: a full commit id is needed"),
    (EXAMPLE.replace(f'revision = "{COMMIT}"', ""), "source.revision: a full commit id is needed"),
    (EXAMPLE.replace('kind = "huggingface"', 'kind = "oci"'), "source.revision: a manifest digest is needed"),
    (EXAMPLE.replace('kind = "huggingface"', 'kind = "https"'), "source.url: an https:// address is needed"),
    (EXAMPLE.replace('"signatures/sentiment.sigstore.json"', '"/etc/x"'), r"signature\[0\].bundle: '/etc/x' is not relative"),
    (EXAMPLE.replace('"keys/publisher.asc"', '"../publisher.asc"'), "signer.publisher.certificate: '../publisher.asc' leaves"),
    (EXAMPLE.replace("certificate-sha256", "certificate-sha"), "signer.publisher.certificate-sha256: missing"),
    (EXAMPLE + EXAMPLE[EXAMPLE.index("[[model.signature]]") :], "signature: the same signature stands there twice"),
]


@pytest.mark.parametrize(("text", "message"), CASES)
def test_a_broken_lock_names_the_key_path(text: str, message: str) -> None:
    """Torn, truncated or hand-broken is an error with a key path, never an empty lock."""
    with pytest.raises(LockfileError, match=message) as caught:
        loads(text, where="x/safeload.lock")
    assert caught.value.where == "x/safeload.lock"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/m.pt",
        "../m.pt",
        "a/../m.pt",
        "a/..",
        "..",
        ".",
        "./m.pt",
        "a//m.pt",
        "a/",
        "a\\\\m.pt",
        "C:/m.pt",
        "c:m.pt",
        "\\u0000",
        "a\\nb",
        "\\u0085",
        "x" * 5000,
    ],
)
def test_paths_stay_inside_and_have_one_spelling(path: str) -> None:
    """A lock from somebody else must not name files outside, nor one file in two ways."""
    with pytest.raises(LockfileError, match=r"model\[0\].file\[0\].path: "):
        loads(SMALL.replace("m.pt", path))


@pytest.mark.parametrize("path", ["m.pt", "a/b c/ü…模.bin", ".hidden/x", "a..b/c...pt", "xy:z"])
def test_ordinary_paths_are_fine(path: str) -> None:
    lock = loads(SMALL.replace("m.pt", path))
    assert lock.models[0].files[0].path == path
    assert loads(dumps(lock)) == lock


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x00" * 4096, b"lock-version = '1.0'\n" + b"\x00" * 100, b"\xef\xbb\xbf" + SMALL.encode(), b"a = " + b"[" * 9999]
)
def test_bytes_that_are_no_toml_are_an_error(data: bytes) -> None:
    """A crash can leave a file of zeros behind."""
    with pytest.raises(LockfileError):
        loads(data)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "safeload.lock"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(LockfileError, match="at most"):
        read(path)


def test_every_truncation_is_noticed() -> None:
    """Also one between two blocks, which is valid TOML and would silently unpin what is missing."""
    text = dumps(loads(EXAMPLE))
    assert loads(text.rstrip("\n")) == loads(text)
    for end in range(len(text) - 1):
        with pytest.raises(LockfileError):
            loads(text[:end])


def test_windows_line_ends_are_the_same_lock() -> None:
    """A checkout may have them."""
    lock = loads(EXAMPLE)
    assert loads(dumps(lock).replace("\n", "\r\n").encode()) == lock


def test_another_minor_version_warns_and_is_never_written_back(tmp_path: Path) -> None:
    """It may know more: reading on is useful, writing would drop what is new."""
    path = tmp_path / "safeload.lock"
    path.write_text(SMALL.replace('"1.0"', '"1.7"') + "novel = 1\n")
    with pytest.warns(SafeloadWarning, match=r"version 1.7, and this safeload knows 1.0"):
        lock = read(path)
    assert lock.version == "1.7"
    with pytest.warns(SafeloadWarning), pytest.raises(LockfileError, match="would lose what is new"):
        update(path, lambda old: replace(old, created_by="x"))
    assert "novel" in path.read_text()


def test_what_would_not_be_read_back_is_not_written() -> None:
    """Writing checks what it wrote, so an invalid lock never reaches the disk."""
    for bad in (
        one_file("../m.pt"),
        one_file(sha256="x"),
        one_file(allow_globals=("os.system",)),
        one_file(size=-1),
        one_file(globals=("",)),
    ):
        with pytest.raises(LockfileError):
            dumps(lock_of(bad))
    with pytest.raises(LockfileError):
        dumps(Lockfile(models=(Model(name="m", files=()),)))


def test_names_from_hostile_files_survive() -> None:
    """A global's name is the file's choice: quotes, newlines, controls."""
    lock = lock_of(one_file(globals=('a"\n[x]\\', "\x00\x1b[2J", "\U0001f600.\u202e")))
    assert loads(dumps(lock)) == lock


# ---- finding


def test_the_argument_beats_the_variable_beats_the_directory(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for name in ("arg.lock", "env.lock", "safeload.lock"):
        (tmp_path / name).write_text(SMALL)
    env = {"SAFELOAD_LOCK": str(tmp_path / "env.lock")}
    assert find(inner, env, argument=tmp_path / "arg.lock") == tmp_path / "arg.lock"
    assert find(inner, env) == tmp_path / "env.lock"
    assert find(inner, {}) == tmp_path / "safeload.lock"
    (tmp_path / "a" / "safeload.lock").write_text(SMALL)
    assert find(inner, {}) == tmp_path / "a" / "safeload.lock"


def test_an_empty_variable_means_no_lock(tmp_path: Path) -> None:
    (tmp_path / "safeload.lock").write_text(SMALL)
    assert find(tmp_path, {"SAFELOAD_LOCK": ""}) is None
    assert find(tmp_path, {}, argument="") is None


def test_a_named_lock_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Going on without it would load unpinned what was meant to be pinned."""
    with pytest.raises(LockfileError, match="SAFELOAD_LOCK names a lockfile that does not exist"):
        find(tmp_path, {"SAFELOAD_LOCK": "absent.lock"})
    with pytest.raises(LockfileError, match="argument names"):
        find(tmp_path, {}, argument=tmp_path / "absent.lock")
    with pytest.raises(ArgumentError, match="NUL"):
        find(tmp_path, {}, argument=tmp_path / "absent\0lock")


def test_a_dangling_link_is_not_passed_by(tmp_path: Path) -> None:
    (tmp_path / "safeload.lock").symlink_to("gone")
    found = find(tmp_path, {})
    assert found == tmp_path / "safeload.lock"
    with pytest.raises(FileNotFoundError):
        read(found)


def test_the_working_directory_is_searched_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never where the model lies: whoever ships it must not ship its lock."""
    model = tmp_path / "model"
    work = tmp_path / "work"
    model.mkdir()
    work.mkdir()
    (model / "safeload.lock").write_text(SMALL)
    monkeypatch.chdir(work)
    assert find(env={}) is None
    monkeypatch.chdir(model)
    assert find(env={}) == model / "safeload.lock"


# ---- writing


def test_update_creates_changes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "safeload.lock"
    lock = update(path, lambda old: old.with_model(Model(name="m", files=(one_file(),))))
    assert read(path) == lock
    update(path, lambda old: old.with_model(Model(name="n", files=(one_file("n.pt"),))))
    assert [model.name for model in read(path).models] == ["m", "n"]
    update(path, lambda old: old.with_model(Model(name="n", files=(one_file("k.pt"),))))
    assert [file.path for model in read(path).models for file in model.files] == ["m.pt", "k.pt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["safeload.lock"]


def test_a_lock_that_says_the_same_is_not_touched(tmp_path: Path) -> None:
    """Comments in a hand-made lock and its time stamp stay."""
    path = tmp_path / "safeload.lock"
    path.write_text("# mine\n" + SMALL)
    before = path.stat().st_mtime_ns
    update(path, lambda old: old)
    assert path.read_text().startswith("# mine")
    assert path.stat().st_mtime_ns == before


def test_update_refuses_to_replace_a_torn_lock(tmp_path: Path) -> None:
    """What it pinned would be lost without a word."""
    path = tmp_path / "safeload.lock"
    path.write_text(dumps(loads(EXAMPLE))[:40])
    with pytest.raises(LockfileError, match="lock-version: missing"):
        update(path, lambda old: old)
    assert len(path.read_text()) == 40


def test_update_does_not_write_through_a_link(tmp_path: Path) -> None:
    """A link in a shared directory would let somebody else choose the file."""
    target = tmp_path / "target.lock"
    target.write_text(SMALL)
    link = tmp_path / "safeload.lock"
    link.symlink_to(target)
    with pytest.raises(LockfileError, match="symbolic link"):
        update(link, lambda _: Lockfile())
    assert target.read_text() == SMALL
    assert link.is_symlink()


def test_update_does_not_open_a_guard_that_is_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    (tmp_path / own_names("safeload.lock")[0]).symlink_to(victim)
    with pytest.raises(LockfileError):
        update(tmp_path / "safeload.lock", lambda old: old, timeout=0.2)
    assert victim.read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="permission bits")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_mode_of_the_file_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "safeload.lock"
    path.write_text(SMALL)
    path.chmod(mode)
    update(path, lambda _: Lockfile())
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_failing_change_leaves_the_old_lock(tmp_path: Path) -> None:
    path = tmp_path / "safeload.lock"
    path.write_text(SMALL)

    def fail(_: Lockfile) -> Lockfile:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        update(path, fail)
    with pytest.raises(LockfileError, match="UTF-8"):
        update(path, lambda _: lock_of(one_file("\udc80")))
    assert path.read_text() == SMALL
    assert [entry.name for entry in tmp_path.iterdir()] == ["safeload.lock"]


def test_a_disk_that_refuses_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC comes at write or fsync, after the temporary file was made."""
    path = tmp_path / "safeload.lock"
    path.write_text(SMALL)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LockfileError, match="No space left"):
        update(path, lambda _: Lockfile())
    assert path.read_text() == SMALL
    assert [entry.name for entry in tmp_path.iterdir()] == ["safeload.lock"]


def test_a_directory_or_a_missing_one_is_said_as_open_says_it(tmp_path: Path) -> None:
    (tmp_path / "d.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        update(tmp_path / "d.lock", lambda old: old)
    with pytest.raises(FileNotFoundError):
        update(tmp_path / "absent" / "safeload.lock", lambda old: old, timeout=1)


def _add(path: str, name: str) -> None:
    for index in range(4):
        label = f"{name}-{index}"
        update(path, lambda old, label=label: old.with_model(Model(name=label, files=(one_file(f"{label}.pt"),))))  # type: ignore[misc]


@pytest.mark.skipif(os.name == "nt", reason="fork")
def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Each reads again under the file lock; removing the guard file must not let two in."""
    path = os.fspath(tmp_path / "safeload.lock")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(path, f"p{index}")) for index in range(2)]
    threads = [threading.Thread(target=_add, args=(path, f"t{index}")) for index in range(3)]
    for start in [each.start for each in workers] + [each.start for each in threads]:
        start()
    for join in [each.join for each in workers] + [each.join for each in threads]:
        join()
    assert len(read(path).models) == 20
    assert [entry.name for entry in tmp_path.iterdir()] == ["safeload.lock"]


def test_another_writer_that_does_not_finish_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "safeload.lock"
    raised = []

    def inner(old: Lockfile) -> Lockfile:
        def other() -> None:
            try:
                update(path, lambda lock: lock, timeout=0.1)
            except LockfileError as error:
                raised.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return old

    update(path, inner)
    assert "another process has been writing" in raised[0]


def test_reading_imports_no_writer() -> None:
    """Every load reads the lock; only writers need filelock, and nobody tomli_w."""
    code = "import sys, safeload.lockfile; print([m for m in ('filelock', 'tomli_w', 'difflib', 'torch', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# ---- lookup


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A lock directory with a model, its lock, and a directory elsewhere."""
    (tmp_path / "repo" / "models").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "repo" / "models" / "m.pt").write_bytes(b"abc")
    return tmp_path


LOCK = Lockfile(
    models=(
        Model(name="acme/m", files=(one_file("models/m.pt", format="torch-zip"), one_file("models/config.json", sha256=B))),
        Model(name="big", files=(one_file("big/1.bin", sha256=C, format="pickle"), one_file("big/2.bin", sha256=D, format="pickle"))),
    )
)


def test_lookup_by_name_finds_the_one_weights_file(place: Path) -> None:
    """Configuration beside the weights does not make the name ambiguous."""
    pin = lookup(LOCK, place / "repo" / "safeload.lock", name="acme/m")
    assert pin is not None
    assert (pin.file.path, pin.path, pin.matched_by) == ("models/m.pt", place / "repo" / "models" / "m.pt", "name")
    assert lookup(LOCK, place / "repo" / "safeload.lock", name="acme/other") is None


def test_a_name_with_several_weights_files_lists_them(place: Path) -> None:
    with pytest.raises(UsageError, match=r"2 weights files: big/1.bin, big/2.bin"):
        lookup(LOCK, place / "repo" / "safeload.lock", name="big")


def test_lookup_by_path_knows_every_spelling(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spelling that was missed would load as unpinned."""
    lock = place / "repo" / "safeload.lock"
    (place / "link").symlink_to(place / "repo")
    (place / "alias.pt").symlink_to(place / "repo" / "models" / "m.pt")
    monkeypatch.chdir(place / "repo" / "models")
    for spelling in ("m.pt", "./m.pt", "../models/m.pt", place / "repo/models/m.pt", place / "link/models/m.pt", place / "alias.pt"):
        pin = lookup(LOCK, lock, path=spelling)
        assert pin is not None, spelling
        assert (pin.file.path, pin.matched_by) == ("models/m.pt", "path")
    linked = lookup(LOCK, place / "link" / "safeload.lock", path=place / "repo/models/m.pt")
    assert linked is not None
    assert lookup(LOCK, lock, path="other.pt") is None


def test_a_pinned_link_is_known_by_its_own_name(place: Path) -> None:
    """Download caches keep names as links to blobs outside."""
    blob = place / "elsewhere" / "blob"
    blob.write_bytes(b"abc")
    (place / "repo" / "models" / "m.pt").unlink()
    (place / "repo" / "models" / "m.pt").symlink_to(blob)
    pin = lookup(LOCK, place / "repo" / "safeload.lock", path=place / "repo" / "models" / "m.pt")
    assert pin is not None
    assert pin.matched_by == "path"


def test_lookup_by_digest_works_wherever_the_file_lies(place: Path) -> None:
    pin = lookup(LOCK, place / "repo" / "safeload.lock", path=place / "elsewhere" / "copy.pt", sha256=C)
    assert pin is not None
    assert (pin.file.path, pin.matched_by) == ("big/1.bin", "digest")
    assert lookup(LOCK, place / "repo" / "safeload.lock", sha256="0" * 64) is None


def test_a_known_path_beats_a_known_digest(place: Path) -> None:
    """Two pinned files that were swapped are both refused."""
    pin = lookup(LOCK, place / "repo" / "safeload.lock", path=place / "repo" / "models" / "m.pt", sha256=C)
    assert pin is not None
    assert pin.file.path == "models/m.pt"
    with pytest.raises(PinError):
        require_match(pin, size=3, sha256=C)


def test_the_same_bytes_locked_twice_get_only_common_grants(place: Path) -> None:
    files = (one_file("x", allow_globals=("a.b", "c.d")), one_file("y", allow_globals=("c.d", "e.f")))
    pin = lookup(lock_of(*files), place / "safeload.lock", sha256=A)
    assert pin is not None
    assert pin.file.allow_globals == ("c.d",)


def test_lock_relative_names_files_below_the_lock_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = place / "repo" / "safeload.lock"
    monkeypatch.chdir(place / "repo" / "models")
    assert lock_relative(lock, "m.pt") == "models/m.pt"
    assert lock_relative(lock, "../models/./m.pt") == "models/m.pt"
    (place / "link").symlink_to(place / "repo")
    assert lock_relative(lock, place / "link" / "models" / "m.pt") == "models/m.pt"
    with pytest.raises(UsageError, match="outside"):
        lock_relative(lock, place / "elsewhere" / "x")
    with pytest.raises(UsageError, match="cannot be locked"):
        lock_relative(lock, "a\\b")


# ---- comparing


def pin_of(**values: object) -> Pin:
    file = replace(one_file(sha256_tree=B, format="torch-zip", globals=("a.b",)), **values)  # type: ignore[arg-type]
    return Pin(model=Model(name="m", files=(file,)), file=file, path=Path("/x/m.pt"), matched_by="path")


def test_what_matches_raises_nothing() -> None:
    assert compare(pin_of(), size=3, sha256=A, tree=B, format="torch-zip", globals=["a.b"]) == []
    require_match(pin_of(), size=3, sha256=A, globals=[])
    require_match(pin_of(), size=None, tree=B)


@pytest.mark.parametrize(
    ("values", "rule", "message"),
    [
        ({"size": 4}, "SL601", "the file has 4 bytes, and the pinned one 3"),
        ({"sha256": C}, "SL601", f"pinned sha256:{A}, found sha256:{C}"),
        ({"tree": C}, "SL601", f"pinned sha256-tree:{B}, found sha256-tree:{C}"),
        ({"format": "pickle"}, "SL603", "the file is pickle, and was pinned as torch-zip"),
        ({"globals": ["a.b", "c.\x1bd", "c.\x1bd"]}, "SL605", r"names c.\x1bd, which it did not name when it was pinned"),
    ],
)
def test_what_differs_is_named_by_rule(values: dict[str, object], rule: str, message: str) -> None:
    found = compare(pin_of(), **{"size": 3, "sha256": A, **values})  # type: ignore[arg-type]
    assert [entry.rule for entry in found] == [rule]
    assert message in found[0].message
    with pytest.raises(PinError) as caught:
        require_match(pin_of(), **{"size": 3, "sha256": A, **values})  # type: ignore[arg-type]
    assert caught.value.rule == rule
    assert caught.value.findings == tuple(found)


def test_a_mismatch_shows_both_digests() -> None:
    """Path known and digest different is refused, both digests shown."""
    with pytest.raises(PinError) as caught:
        require_match(pin_of(), size=4, sha256=C, where="m.pt")
    error = caught.value
    assert (error.expected, error.found, error.where) == (f"sha256:{A}", f"sha256:{C}", "m.pt")
    assert f"sha256:{A}" in str(error)
    assert f"sha256:{C}" in str(error)


def test_matching_without_a_digest_is_not_matching() -> None:
    """Equal size and format prove nothing."""
    with pytest.raises(UsageError, match="nothing to compare"):
        require_match(pin_of(), size=3, format="torch-zip")
    without = replace(pin_of(), file=one_file())
    with pytest.raises(UsageError, match="nothing to compare"):
        require_match(without, size=3, tree=B)


# ---- completeness


def test_complete_means_that_nothing_else_lies_there(tmp_path: Path) -> None:
    """Code beside the weights (modeling_x.py) is how a "complete" model was extended unseen."""
    folder = tmp_path / "models" / "s"
    (folder / ".git").mkdir(parents=True)
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"")
    model = Model(name="s", files=(one_file("models/s/a.bin"), one_file("models/s/sub/b.bin", sha256=B)), complete=True)
    assert model.directory == "models/s"
    assert complete_check(model, folder) == []
    (folder / "modeling_x.py").write_text("")
    (folder / ".git" / "hook").write_text("")
    (folder / "sub" / "deep" / "x\x1b").write_text("")
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe")
    found = complete_check(model, folder)
    assert {entry.rule for entry in found} == {"SL604"}
    assert [entry.message.rpartition(": ")[2] for entry in found] == [".git/hook", "linked", "modeling_x.py", "pipe", "sub/deep/x\\x1b"]
    assert found[1].message.startswith("a link that the lock does not list")
    assert found[3].message.startswith("a special file")


def test_complete_passes_by_the_lock_in_force_only(tmp_path: Path) -> None:
    """A file that is merely named like a lock may hold anything."""
    model = Model(name="m", files=(one_file("m.pt"),), complete=True)
    (tmp_path / "sub").mkdir()
    for name in ("m.pt", "safeload.lock", ".safeload.lock.guard", ".safeload.lock.tmp-12", "sub/safeload.lock", "sub/.safeload.lock.guard"):
        (tmp_path / name).write_text("")
    found = complete_check(model, tmp_path, lock_path=tmp_path / "safeload.lock")
    assert [entry.message.rpartition(": ")[2] for entry in found] == ["sub/.safeload.lock.guard", "sub/safeload.lock"]
    assert len(complete_check(model, tmp_path)) == 5


def test_complete_knows_whatever_the_lock_pins(tmp_path: Path) -> None:
    """Bundles, keys, converted files and other models are pinned by digest as well."""
    lock = loads(EXAMPLE)
    names = [
        "models/sentiment/pytorch_model.bin",
        "models/sentiment/model.safetensors",
        "keys/publisher.asc",
        "signatures/sentiment.sigstore.json",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert lock.paths == set(names)
    top = replace(lock.models[0], files=(*lock.models[0].files, one_file("root.bin")))
    (tmp_path / "root.bin").write_text("")
    assert top.directory == ""
    assert complete_check(top, tmp_path, lock=lock) == []


def test_a_directory_that_is_gone_is_not_complete(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        complete_check(Model(name="m", files=(one_file(),)), tmp_path / "absent")


def test_errors_survive_pickle_with_their_key_path() -> None:
    import pickle

    with pytest.raises(SafeloadError) as caught:
        loads("")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (LockfileError, str(caught.value))


def test_the_page_shows_a_lock_that_is_valid() -> None:
    """docs/lockfile.md is what others implement from."""
    page = (Path(__file__).parents[2] / "docs" / "lockfile.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    lock = loads(example.replace('revision = "…"', f'revision = "{COMMIT}"').replace("…", A))
    assert (len(lock.models), len(lock.signers), len(lock.trust_roots)) == (1, 1, 1)
    assert lock.models[0].files[0].converted is not None
