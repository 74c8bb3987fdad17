"""Print the table when the session ends, whatever failed."""

from __future__ import annotations

import pytest

from tests.real.table import ROWS, render


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what came of each file."""
    if ROWS:
        terminalreporter.section("real files")
        terminalreporter.write_line(render(ROWS.values()))
