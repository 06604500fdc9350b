"""What runs: executed or reverted under a lock, shown while it goes on, suspended by Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import click

from pumphouse.errors import (
    EXIT_CONNECTION,
    EXIT_FAILED,
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    PumphouseError,
    http_status,
)

if TYPE_CHECKING:
    from rich.console import Console
    from taskflow.persistence.base import Backend

    from pumphouse.cli.planning import Way
    from pumphouse.model import Plan, Report
    from pumphouse.run.engine import Listener
    from pumphouse.run.record import Run

Work = Callable[["Listener", threading.Event], "Report"]


@contextmanager
def turn(way: Way, tenant_id: str, out: Console) -> Iterator[tuple[Backend, Any]]:
    """Have a tenant to oneself: gives the state store, and what earlier runs of the tenant have done."""
    from pumphouse.plan.make import title
    from pumphouse.run.lock import locked
    from pumphouse.run.record import describe_owner, done_before, lock_name, unfinished_notes
    from pumphouse.store import open_store

    ends = {"source": title(way.source), "destination": title(way.destination)}
    subject = {"tenant": {"id": tenant_id}, **ends}
    with (
        closing(open_store(way.config.state_url)) as store,
        locked(store, lock_name(subject), lambda: describe_owner(store, subject)),
    ):
        for unfinished in unfinished_notes(store, subject):
            out.print(f"note: {unfinished}", markup=False, style="yellow")
        try:
            yield store, done_before(store, tenant_id, **ends)
        finally:
            way.read_only(True)


def recorded(way: Way, store: Backend, plan: Plan, out: Console) -> Run:
    """The run of a plan that is about to begin: from now on both clouds are written to."""
    from pumphouse.run.record import create_run

    way.read_only(False)
    run = create_run(store, plan)
    out.print(f"Run {run.id}", style="bold", markup=False)
    return run


def perform(run: Run, work: Work, out: Console, output_format: str, resume: str) -> int:
    """Do something with a run, show it, print the report; returns the exit code.

    resume: the command that goes on with it after an interruption.
    """
    from pumphouse.run.summary import report_data
    from pumphouse.show.report import dump, print_report

    report, code = performed(run, work, out, resume)
    if output_format != "table":
        click.echo(dump(report_data(report), output_format))
    else:
        print_report(report, out)
    if code == EXIT_INTERRUPTED:
        click.echo(f"interrupted: go on with {resume}", err=True)
    return code


def performed(run: Run, work: Work, out: Console, resume: str) -> tuple[Report, int]:
    """Do something with a run and show it meanwhile; returns the report and the exit code."""
    from pumphouse.show.progress import shown

    with _interruptible(resume) as stop, shown(run.plan, out) as listener:
        report = work(listener, stop)
    return report, EXIT_INTERRUPTED if stop.is_set() else exit_code(report)


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


def failure_code(error: Exception) -> int:
    """The exit code of a command that an exception has ended."""
    if isinstance(error, PumphouseError):
        return error.exit_code
    return EXIT_CONNECTION if http_status(error) == 401 or _is_connection(error) else EXIT_FAILED


def _is_connection(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectionError", "ConnectFailure", "ConnectTimeout", "SSLFailure"})
