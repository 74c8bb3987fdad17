"""Pins are written for what may be loaded, and compared with what lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import safeload
from safeload.errors import LockfileError, PolicyError, UsageError
from safeload.findings import Outcome
from safeload.lockfile import Lockfile, read
from safeload.pinning import LockResult, VerifyResult, lock, verify
from tests.forge_cli import CALL, DATA, UNKNOWN, make_tree, write_checkpoint, write_safetensors

NET = "acme.models.Net"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory: nothing above it is in force."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def held() -> Lockfile:
    return read("safeload.lock")


def actions(result: LockResult) -> dict[str, str]:
    return {entry.path: entry.action for entry in result.entries}


def states(result: VerifyResult) -> dict[str, str]:
    return {entry.path: entry.status for entry in result.entries}


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# ---- lock


def test_a_pin_holds_size_both_digests_format_and_globals(here: Path) -> None:
    """All of it comes from one opening of the file."""
    write_checkpoint(here / "bert.pt")
    result = lock("bert.pt")
    assert (result.outcome, actions(result)) == (Outcome.ALLOWED, {"bert.pt": "added"})
    (model,) = held().models
    (file,) = model.files
    report = safeload.scan("bert.pt", digest=True, lock=False)
    assert (model.name, file.path, file.size) == ("bert", "bert.pt", (here / "bert.pt").stat().st_size)
    assert (file.sha256, file.sha256_tree, file.format, file.globals) == (
        report.sha256, report.sha256_tree, "torch-zip", report.globals,
    )  # fmt: skip


def test_locking_again_changes_nothing(here: Path) -> None:
    """The lockfile lies under version control: a run without news must give no diff."""
    write_checkpoint(here / "a.pt")
    lock("a.pt")
    before = (here / "safeload.lock").read_bytes()
    assert actions(lock("a.pt")) == {"a.pt": "unchanged"}
    assert actions(lock()) == {"a.pt": "unchanged"}
    assert (here / "safeload.lock").read_bytes() == before


def test_a_changed_file_is_renewed_and_the_change_is_told(here: Path) -> None:
    """Whoever reviews sees both digests, and every global that is new."""
    (here / "a.pkl").write_bytes(DATA)
    lock("a.pkl")
    (here / "a.pkl").write_bytes(b"\x80\x02ccollections\nOrderedDict\n)R.")
    (entry,) = lock().entries
    assert entry.action == "renewed"
    assert entry.before is not None
    assert entry.after is not None
    assert str(entry.before.digest) in entry.reasons[0]
    assert str(entry.after.digest) in entry.reasons[0]
    assert "names collections.OrderedDict now" in entry.reasons


def test_check_writes_nothing_and_says_what_differs(here: Path) -> None:
    """What CI runs."""
    write_checkpoint(here / "a.pt")
    missing = lock("a.pt", check=True)
    assert (missing.outcome, actions(missing)) == (Outcome.REFUSED, {"a.pt": "added"})
    assert not (here / "safeload.lock").exists()
    lock("a.pt")
    assert lock(check=True).outcome is Outcome.ALLOWED
    before = (here / "safeload.lock").read_bytes()
    (here / "a.pt").write_bytes(DATA)
    changed = lock(check=True)
    assert (changed.outcome, actions(changed)) == (Outcome.REFUSED, {"a.pt": "renewed"})
    assert (here / "safeload.lock").read_bytes() == before


@pytest.mark.parametrize("stream", [CALL, UNKNOWN])
def test_what_would_be_refused_is_not_pinned(here: Path, stream: bytes) -> None:
    """A pin says that the bytes are known here; nobody shall wonder whether that was meant."""
    (here / "bad.pkl").write_bytes(stream)
    result = lock("bad.pkl")
    assert (result.outcome, actions(result)) == (Outcome.REFUSED, {"bad.pkl": "refused"})
    assert result.entries[0].reasons
    assert not (here / "safeload.lock").exists()


def test_a_refused_file_does_not_keep_others_from_being_pinned(here: Path) -> None:
    """Each file gets its own answer."""
    write_checkpoint(here / "good.pt")
    (here / "bad.pkl").write_bytes(CALL)
    result = lock("good.pt", "bad.pkl")
    assert actions(result) == {"good.pt": "added", "bad.pkl": "refused"}
    assert [model.name for model in held().models] == ["good"]


def test_a_refused_change_keeps_the_old_pin(here: Path) -> None:
    """So that the tampered file goes on being refused."""
    write_checkpoint(here / "a.pt")
    lock("a.pt")
    old = held()
    (here / "a.pt").write_bytes(CALL)
    assert actions(lock()) == {"a.pt": "refused"}
    assert held() == old
    assert states(verify()) == {"a.pt": "differs"}


def test_a_grant_is_for_the_bytes_that_ask_for_it(here: Path) -> None:
    """Granted to this digest only: a file that does not name the global gets no grant, and new bytes have none."""
    (here / "net.pkl").write_bytes(UNKNOWN)
    (here / "data.pkl").write_bytes(DATA)
    result = lock("net.pkl", "data.pkl", allow_globals=[NET])
    assert actions(result) == {"net.pkl": "added", "data.pkl": "added"}
    assert {file.path: file.allow_globals for model in held().models for file in model.files} == {"net.pkl": (NET,), "data.pkl": ()}
    assert actions(lock()) == {"net.pkl": "unchanged", "data.pkl": "unchanged"}
    (here / "net.pkl").write_bytes(UNKNOWN[:-1] + b"}b.")
    assert actions(lock())["net.pkl"] == "refused"


def test_what_can_never_be_granted_is_not(here: Path) -> None:
    """Neither by argument nor, then, by the lockfile."""
    (here / "bad.pkl").write_bytes(CALL)
    with pytest.raises(PolicyError, match="can never be granted"):
        lock("bad.pkl", allow_globals=["os.system"])


def test_where_policy_makes_unknown_classes_inert_they_can_be_pinned(here: Path) -> None:
    """They load there; what is known to be hostile still needs somebody who insists."""
    (here / "net.pkl").write_bytes(UNKNOWN)
    (here / "bad.pkl").write_bytes(CALL)
    assert actions(lock("net.pkl", "bad.pkl", policy={"unknown-globals": "inert"})) == {"net.pkl": "added", "bad.pkl": "refused"}


def test_force_pins_a_refused_file_and_grants_nothing(here: Path) -> None:
    """To watch over bytes is one thing, to load them another."""
    pytest.importorskip("torch", reason="a load asks for torch before it asks for more")
    (here / "bad.pkl").write_bytes(CALL)
    assert actions(lock("bad.pkl", force=True)) == {"bad.pkl": "added"}
    assert states(verify()) == {"bad.pkl": "matches"}
    with pytest.raises(safeload.RefusedError):
        safeload.load("bad.pkl")


def test_a_named_file_that_no_reader_claims_is_an_error(here: Path) -> None:
    """It was named as a model, and it is none."""
    (here / "junk.bin").write_bytes(b"\x00\x01\x02 not a model")
    assert lock("junk.bin").outcome is Outcome.ERROR
    assert not (here / "safeload.lock").exists()


def test_a_directory_becomes_one_model_of_its_model_files(here: Path) -> None:
    """Shards belong together; text beside them is passed by."""
    (here / "m").mkdir()
    write_checkpoint(here / "m" / "a.pt")
    write_safetensors(here / "m" / "b.safetensors")
    (here / "m" / "README.md").write_text("# hello\n", encoding="utf-8")
    result = lock("m")
    assert actions(result) == {"m/README.md": "skipped", "m/a.pt": "added", "m/b.safetensors": "added"}
    (model,) = held().models
    assert (model.name, [file.path for file in model.files], model.complete) == ("m", ["m/a.pt", "m/b.safetensors"], False)


def test_a_complete_directory_pins_everything_and_lets_nothing_else_lie_there(here: Path) -> None:
    """Code and configuration beside the weights are part of what is loaded."""
    (here / "m").mkdir()
    write_checkpoint(here / "m" / "a.pt")
    (here / "m" / "config.json").write_text("{}", encoding="utf-8")
    assert set(actions(lock("m", complete=True)).values()) == {"added"}
    (model,) = held().models
    assert model.complete
    assert {file.path: file.format for file in model.files} == {"m/a.pt": "torch-zip", "m/config.json": None}
    assert verify()
    (here / "m" / ".hidden.py").write_text("import os\n", encoding="utf-8")
    assert states(verify())["m/.hidden.py"] == "unlocked"
    assert actions(lock(check=True))["m/.hidden.py"] == "added"
    assert actions(lock())["m/.hidden.py"] == "added"
    assert verify()


def test_the_lockfile_itself_is_not_part_of_a_complete_model(here: Path) -> None:
    """It changes whenever it is written."""
    write_checkpoint(here / "a.pt")
    lock(".", complete=True)
    assert [file.path for file in held().models[0].files] == ["a.pt"]
    assert verify()
    assert actions(lock()) == {"a.pt": "unchanged"}


def test_names_can_be_chosen_and_do_not_collide(here: Path) -> None:
    """`safeload.load(name)` must mean one file."""
    write_checkpoint(here / "a.pt")
    write_safetensors(here / "a.safetensors")
    lock("a.pt", "a.safetensors")
    assert [model.name for model in held().models] == ["a", "a.safetensors"]
    (here / "b.pkl").write_bytes(DATA)
    lock("b.pkl", name="acme/sentiment")
    assert held().model("acme/sentiment") is not None


def test_a_file_outside_the_lockfiles_directory_cannot_be_pinned(here: Path) -> None:
    """Paths in a lock never leave its directory."""
    (here / "project").mkdir()
    write_checkpoint(here / "a.pt")
    with pytest.raises(UsageError, match="lies outside"):
        lock("a.pt", lock=here / "project" / "safeload.lock")


def test_a_lockfile_that_is_named_is_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By argument or by SAFELOAD_LOCK."""
    write_checkpoint(here / "a.pt")
    assert lock("a.pt", lock="other.lock").lockfile == here / "other.lock"
    monkeypatch.setenv("SAFELOAD_LOCK", "third.lock")
    lock("a.pt")
    assert (here / "third.lock").exists()
    assert not (here / "safeload.lock").exists()


def test_a_missing_file_keeps_its_pin_until_it_is_pruned(here: Path) -> None:
    """A file that somebody forgot to fetch must not lose its pin."""
    write_checkpoint(here / "a.pt")
    (here / "b.pkl").write_bytes(DATA)
    lock("a.pt", "b.pkl")
    (here / "b.pkl").unlink()
    result = lock()
    assert (result.outcome, actions(result)) == (Outcome.REFUSED, {"a.pt": "unchanged", "b.pkl": "missing"})
    assert held().model("b") is not None
    assert actions(lock(prune=True))["b.pkl"] == "removed"
    assert held().model("b") is None


def test_nothing_to_renew_is_an_error_and_so_is_a_missing_name(here: Path) -> None:
    """A typing mistake must not look like success."""
    with pytest.raises(UsageError, match="no lockfile is in force"):
        lock()
    with pytest.raises(FileNotFoundError):
        lock("absent.pt")


def test_a_torn_lockfile_is_never_written_over(here: Path) -> None:
    """What it held would be lost."""
    write_checkpoint(here / "a.pt")
    lock("a.pt")
    torn = (here / "safeload.lock").read_bytes()[:40]
    (here / "safeload.lock").write_bytes(torn)
    for call in (lambda: lock("a.pt"), lock, verify):
        with pytest.raises(LockfileError):
            call()
    assert (here / "safeload.lock").read_bytes() == torn


def test_progress_hears_of_every_byte(here: Path) -> None:
    """A bar needs to know how far it is."""
    write_checkpoint(here / "a.pt")
    told: list[tuple[str, int, int]] = []
    lock("a.pt", progress=lambda *word: told.append(word))
    size = (here / "a.pt").stat().st_size
    assert told[-1] == ("a.pt", size, size)


# ---- verify


def test_what_was_not_changed_matches(here: Path) -> None:
    """True for whoever asks `if safeload.verify()`."""
    make_tree(here)
    lock("model.pt", "sub")
    result = verify()
    assert states(result) == {"model.pt": "matches", "sub/x.safetensors": "matches"}
    assert result


def test_a_changed_file_differs_with_both_digests(here: Path) -> None:
    """The two values that a person compares."""
    write_checkpoint(here / "a.pt")
    lock("a.pt")
    flip(here / "a.pt")
    (entry,) = verify().entries
    found = safeload.scan("a.pt", digest=True, lock=False).sha256
    assert (entry.status, entry.expected, entry.found) == ("differs", str(held().models[0].files[0].digest), f"sha256:{found}")
    assert entry.findings[0].rule == "SL601"
    assert not verify()


def test_a_missing_file_differs(here: Path) -> None:
    """The lock says that it is there."""
    write_checkpoint(here / "a.pt")
    lock("a.pt")
    (here / "a.pt").unlink()
    assert (states(verify()), verify().outcome) == ({"a.pt": "missing"}, Outcome.REFUSED)


def test_a_named_file_without_a_pin_is_unlocked(here: Path) -> None:
    """To ask about it and to be told that all is well would be a lie."""
    write_checkpoint(here / "a.pt")
    (here / "b.pkl").write_bytes(DATA)
    lock("a.pt")
    assert states(verify("a.pt", "b.pkl")) == {"a.pt": "matches", "b.pkl": "unlocked"}


def test_models_and_directories_can_be_named(here: Path) -> None:
    """By the name that load takes, or by where the files lie."""
    make_tree(here)
    lock("model.pt", name="acme/m")
    lock("sub")
    assert states(verify("acme/m")) == {"model.pt": "matches"}
    assert states(verify("sub")) == {"sub/x.safetensors": "matches"}
    assert set(states(verify("."))) == {"model.pt", "sub/x.safetensors"}


def test_without_a_lockfile_there_is_nothing_to_verify() -> None:
    """Never "everything matches"."""
    with pytest.raises(LockfileError, match="no lockfile is in force"):
        verify()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything can be read here")
def test_a_file_that_cannot_be_read_is_an_error(here: Path) -> None:
    """It neither matches nor differs."""
    write_checkpoint(here / "a.pt")
    lock("a.pt")
    (here / "a.pt").chmod(0)
    assert verify().outcome is Outcome.ERROR


def test_a_directory_in_a_files_place_is_an_error(here: Path) -> None:
    """Whatever lies there, it has no digest."""
    write_checkpoint(here / "a.pt")
    lock("a.pt")
    (here / "a.pt").unlink()
    (here / "a.pt").mkdir()
    assert verify().outcome is Outcome.ERROR


def test_what_a_pin_covers_loads_by_name(here: Path) -> None:
    """Lock, verify and load speak of the same file."""
    write_checkpoint(here / "a.pt")
    lock("a.pt", name="acme/a")
    assert safeload.scan("acme/a").format == "torch-zip"
    with pytest.raises(FileNotFoundError):
        safeload.scan("acme/b")
