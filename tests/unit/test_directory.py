"""Which files lie below a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safeload.directory import Found, files_below, matches


def names(found: list[Found]) -> list[str]:
    return [one.relative for one in found if one.skipped is None and one.problem is None]


def make(top: Path, *paths: str) -> None:
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(b"x")


def test_hidden_files_and_directories_are_walked_in_a_stable_order(tmp_path: Path) -> None:
    """A scanner that passes hidden places by tells people where to hide things."""
    make(tmp_path, "b.pt", "a.pt", ".hidden/c.pt", ".d.pt", "z/y.pt", "z/.x/w.pt")
    assert names(list(files_below(tmp_path))) == [".d.pt", "a.pt", "b.pt", ".hidden/c.pt", "z/y.pt", "z/.x/w.pt"]


def test_paths_are_named_as_the_directory_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed can be pasted into the next command."""
    make(tmp_path, "m/a.pt")
    monkeypatch.chdir(tmp_path)
    assert [one.path for one in files_below(".")] == ["m/a.pt"]
    assert [one.path for one in files_below("m")] == ["m/a.pt"]
    assert [one.path for one in files_below("m/")] == ["m/a.pt"]
    assert [one.path for one in files_below(tmp_path / "m")] == [f"{tmp_path}/m/a.pt"]


def test_a_link_out_of_the_directory_is_a_problem_and_is_not_followed(tmp_path: Path) -> None:
    """It would need a look, and following it would look at things that nobody named."""
    make(tmp_path, "outside/secret.pt", "top/a.pt")
    (tmp_path / "top" / "file").symlink_to(tmp_path / "outside" / "secret.pt")
    (tmp_path / "top" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "top" / "nowhere").symlink_to(tmp_path / "absent")
    found = {one.relative: one for one in files_below(tmp_path / "top")}
    assert set(found) == {"a.pt", "file", "folder", "nowhere"}
    assert "leads out" in str(found["file"].problem)
    assert "leads out" in str(found["folder"].problem)
    assert "cannot be followed" in str(found["nowhere"].problem)


def test_links_within_the_directory_do_not_loop(tmp_path: Path) -> None:
    """A link to a directory above is the oldest way to keep a walk busy for ever."""
    make(tmp_path, "a/b.pt")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "copy.pt").symlink_to(tmp_path / "a" / "b.pt")
    found = {one.relative: one for one in files_below(tmp_path)}
    assert set(found) == {"copy.pt", "a/b.pt", "a/up"}
    assert found["copy.pt"].problem is None
    assert "same tree" in str(found["a/up"].skipped)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_named_and_not_opened(tmp_path: Path) -> None:
    """Opening it would wait for a writer that never comes."""
    os.mkfifo(tmp_path / "pipe.pt")
    (found,) = files_below(tmp_path)
    assert "not a regular file" in str(found.problem)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything can be listed here")
def test_a_directory_that_cannot_be_listed_is_a_problem(tmp_path: Path) -> None:
    """What is in it is unknown."""
    make(tmp_path, "locked/a.pt")
    (tmp_path / "locked").chmod(0)
    try:
        (found,) = files_below(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert "cannot be listed" in str(found.problem)


def test_globs_choose_and_leave_out(tmp_path: Path) -> None:
    """What is left out is still said: a person who reads the result must see that it was not looked at."""
    make(tmp_path, "a.pt", "a.txt", "old/b.pt", "sub/c.pt")
    found = list(files_below(tmp_path, include=["*.pt"], exclude=["old"]))
    assert names(found) == ["a.pt", "sub/c.pt"]
    assert {one.relative: one.skipped for one in found if one.skipped} == {
        "a.txt": "left out by --include",
        "old": "left out by --exclude",
    }


@pytest.mark.parametrize(
    ("pattern", "path", "result"),
    [
        ("*.pt", "a/b/c.pt", True),
        ("*.pt", "a/b/c.bin", False),
        ("a/*.pt", "a/c.pt", True),
        ("a/*.pt", "a/b/c.pt", False),
        ("a/**/*.pt", "a/b/c.pt", True),
        ("old/", "x/old", True),
        ("[ab].pt", "x/a.pt", True),
        ("*.PT", "a.pt", False),
    ],
)
def test_a_glob_without_a_slash_is_about_names(pattern: str, path: str, result: bool) -> None:
    """As people know it from ignore files."""
    assert matches([pattern], path) is result
