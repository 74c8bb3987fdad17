"""A scan's command line is read without click where it is written plainly, and says the same."""

from __future__ import annotations

from typing import Any
from unittest import mock

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeload.cli import scan_command
from safeload.cli.plain_line import plain_scan
from safeload.cli.scan_run import ScanOptions

PLAIN = ["--quiet", "-q", "--digest", "--strict", "--format", "json", "sarif", "text", "markdown", "--policy", "--lock", "a.pt", "b", "."]
OTHER = ["", "-", "--", "-x", "--qui", "--format=json", "-o", "--output", "--help", "-h", "--force", "--include", "*.pt", "xml", "1"]
WORDS = st.sampled_from([*PLAIN, *OTHER])


def by_click(line: list[str]) -> ScanOptions | None:
    """What click reads, or None where it does not get as far as the scan."""
    read: list[ScanOptions] = []

    def keep(options: ScanOptions) -> int:
        read.append(options)
        return 0

    with mock.patch.object(scan_command, "run_scan", keep):
        try:
            scan_command.command.main(args=line, prog_name="scan", standalone_mode=False)
        except (click.ClickException, click.exceptions.Exit):
            return None
    return read[0] if read else None


@given(st.lists(WORDS, max_size=6))
def test_a_line_that_is_read_plainly_means_what_click_reads(line: list[str]) -> None:
    """Two readings of one line must not differ; what the short one does not know is left to click."""
    found = plain_scan(["scan", *line])
    if found is not None:
        assert found == by_click(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["a.pt"], {"paths": ("a.pt",)}),
        (["a", "-q", "b", "--format", "json"], {"paths": ("a", "b"), "quiet": True, "kind": "json"}),
        (["--strict", "--digest", ".", "--policy", "p.toml", "--lock", "l"], {
            "paths": (".",), "strict": True, "digest": True, "policy": "p.toml", "lock": "l",
        }),
    ],
)  # fmt: skip
def test_plain_lines_are_read(line: list[str], expected: dict[str, Any]) -> None:
    """The common ones, or the short reading would be for nothing."""
    assert plain_scan(["scan", *line]) == ScanOptions(**expected)


@pytest.mark.parametrize("line", [[], ["inspect", "a"], ["scan"], ["scan", "--help"], ["scan", "a", "--format"], ["scan", "--", "-a"]])
def test_other_lines_are_clicks(line: list[str]) -> None:
    assert plain_scan(line) is None


def test_shell_completion_is_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell asks by an environment variable."""
    monkeypatch.setenv("_SAFELOAD_COMPLETE", "bash_complete")
    assert plain_scan(["scan", "a"]) is None
