"""Print the table when the session ends, whatever failed."""

from __future__ import annotations

import pytest

from tests.real.table import FILES, LIBRARIES, PROGRAMS, ROWS, RUNS, WRITERS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what came of each file and each program."""
    if ROWS:
        terminalreporter.section("real files")
        terminalreporter.write_line(FILES.render(ROWS.values()))
    if PROGRAMS:
        terminalreporter.section("real programs")
        terminalreporter.write_line(RUNS.render(PROGRAMS.values()))
    if LIBRARIES:
        terminalreporter.section("libraries")
        terminalreporter.write_line(WRITERS.render(LIBRARIES.values()))
