"""What all tests share: a way to tell figures, which are worth reading when nothing fails, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from _pytest.terminal import TerminalReporter

SEEN = "seen"
Seen = Callable[[str], None]


@pytest.fixture
def seen(record_property: Callable[[str, object], None]) -> Seen:
    """Says in the summary of the session what a test has seen."""
    return partial(record_property, SEEN)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what the tests have seen, whichever process they ran in."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [
        f"{report.nodeid}: {text}"
        for report in reports
        for key, text in report.user_properties
        if key == SEEN
    ]
    if lines:
        terminalreporter.section("what was seen")
    for line in lines:
        terminalreporter.line(line)
