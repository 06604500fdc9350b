"""What runs: executed or reverted under a lock, shown while it goes on, suspended by Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from pumphouse.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console

    from pumphouse.engine import Listener
    from pumphouse.model import Report
    from pumphouse.runs import Run

Work = Callable[["Listener", threading.Event], "Report"]


def perform(run: Run, work: Work, out: Console, output_format: str, resume: str) -> int:
    """Do something with a run, show it, print the report; returns the exit code.

    resume: the command that goes on with it after an interruption.
    """
    from pumphouse.progress import shown
    from pumphouse.report import dump, print_report, report_data

    with _interruptible(resume) as stop, shown(run.plan, out) as listener:
        report = work(listener, stop)
    if output_format != "table":
        click.echo(dump(report_data(report), output_format))
    else:
        print_report(report, out)
    if stop.is_set():
        click.echo(f"interrupted: go on with {resume}", err=True)
        return EXIT_INTERRUPTED
    return exit_code(report)


@contextmanager
def _interruptible(resume: str) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one ends the process at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(_number: int, _frame: object) -> None:
        if stop.is_set():
            # Threads are in the middle of calls: an orderly exit would wait for them. The store bears it.
            os.write(sys.stderr.fileno(), f"stopped at once: go on with {resume}\n".encode())
            os._exit(EXIT_INTERRUPTED)
        stop.set()
        text = f"interrupted: what runs is finished, nothing else is started; again to stop at once. Go on with {resume}\n"
        os.write(sys.stderr.fileno(), text.encode())

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(report: Report) -> int:
    """0, or EXIT_INCOMPLETE when something is not as it was to be."""
    from pumphouse.model import State

    bad = {State.FAILED, State.BLOCKED, State.CONFLICT, State.PENDING, State.KEPT}
    return EXIT_INCOMPLETE if bad & set(report.count()) else 0
