"""A terminal in which commands are run against a lab as an operator runs them, in a home of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lab import Lab

ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 80, 24
# What would have a command look elsewhere than into its home, or print otherwise than on a terminal of this width.
_OTHERS = ("COLUMNS", "LINES", "NO_COLOR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "PUMPHOUSE_CONFIG")


class Ran(NamedTuple):
    """What a command has printed, line by line, and its exit code."""

    lines: list[str]
    code: int


class Terminal:
    """Runs commands of the shell, one after the other.

    home: the folder that they run in; what is in it is called `~`.
    kind: what is in $TERM; `dumb` knows neither colours nor how to move.
    """

    def __init__(self, lab: Lab, home: Path, kind: str = "dumb", rows: int = ROWS) -> None:
        self.home, self.columns, self.rows = home, COLUMNS, rows
        self.environment = {name: value for name, value in os.environ.items() if name not in _OTHERS}
        self.environment |= {
            "HOME": str(home),
            "TERM": kind,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PUMPHOUSE_LAB_DIR": str(lab.dir),
            "OS_CLIENT_CONFIG_FILE": str(lab.clouds_yaml),
        }

    def run(self, command: str, until: Callable[[str], bool] | None = None) -> Ran:
        """Run a command to its end.

        until: the line after which Ctrl-C is pressed.
        """
        process, ours = self.start(command)
        said = []
        for line in _lines(ours):
            said.append(line.replace(str(self.home), "~").rstrip())
            if until and until(line):
                said.append("^C")
                process.send_signal(signal.SIGINT)
                until = None
        return Ran(said, process.wait())

    def start(self, command: str) -> tuple[subprocess.Popen[bytes], int]:
        """Start a command; what it prints can be read from the file descriptor, until reading fails."""
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (self.rows, self.columns))
        process = subprocess.Popen(
            f"exec {command}",
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            cwd=self.home,
            env=self.environment,
        )
        os.close(theirs)
        return process, ours


def _lines(terminal: int) -> Iterator[str]:
    """What is written to a terminal, until whoever writes has ended."""
    with open(terminal, encoding="utf-8", errors="replace") as reader, suppress(OSError):
        yield from reader
