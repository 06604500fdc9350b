"""Executing or reverting a run: under the lock of its tenant, with its progress shown, suspended by Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from pumphouse.cli.logs import log_file
from pumphouse.cli.telling import telling
from pumphouse.errors import (
    EXIT_CONNECTION,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    PumphouseError,
    http_status,
    is_connection_failure,
)
from pumphouse.show.text import printable

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend

    from pumphouse.cli.invocation import Invocation
    from pumphouse.model import Json, Plan, Ref, Report
    from pumphouse.run.events import Listener
    from pumphouse.run.record import Run
    from pumphouse.show.console import PrintableConsole
    from pumphouse.tasks.base import Before

Work = Callable[["Listener", threading.Event], "Report"]
RESUME, REVERT, FINALIZE = "resume", "revert", "finalize"
SUSPENDED = "SUSPENDED"  # as TaskFlow calls it


@dataclass(frozen=True)
class Ended:
    """How a process has ended its work on a run.

    run: None where there was nothing to do, so that there is none.
    again: the command that goes on with the run after an interruption, `resume` or `revert`.
    """

    report: Report
    run: Run | None
    again: str
    code: int

    @cached_property
    def data(self) -> Json:
        """The report as programs get it."""
        from pumphouse.run.summary import report_data

        return report_data(self.report, self.run)


@contextmanager
def locked_tenant(invocation: Invocation, tenant_id: str) -> Iterator[tuple[Backend, Mapping[Ref, Before]]]:
    """Lock a tenant; gives the state store, and what earlier runs of the tenant have done.

    Raises LockedError when another process works on the tenant.
    """
    from pumphouse.plan.make import title
    from pumphouse.run.lock import locked
    from pumphouse.run.record import describe_owner, done_before, lock_name, unfinished_notes
    from pumphouse.store import open_store

    clouds = {"source": title(invocation.source), "destination": title(invocation.destination)}
    subject = {"tenant": {"id": tenant_id}, **clouds}
    with (
        closing(open_store(invocation.config.state_url)) as store,
        locked(store, lock_name(subject), lambda: describe_owner(store, subject)),
    ):
        for note in unfinished_notes(store, subject):
            invocation.messages.print(f"note: {note}", style="yellow")
        yield store, done_before(store, tenant_id, **clouds)


def record_run(invocation: Invocation, store: Backend, plan: Plan) -> Run:
    """Record a new run of a plan, and print its id."""
    from pumphouse.run.record import create_run

    run = create_run(store, plan)
    invocation.messages.print(f"Run {run.id}", style="bold")
    return run


def makes_anything(plan: Plan) -> bool:
    """Whether a run of a plan would make anything."""
    from pumphouse.model import Action

    return any(step.action is Action.CREATE for step in plan.steps())


def has_work(store: Backend, plan: Plan) -> bool:
    """Whether there is anything to do for a plan: something to make, or what a dead run has borrowed to give back."""
    from pumphouse.run.record import has_loans, tenant_books

    books = tenant_books(store, plan.tenant.id, plan.source, plan.destination)
    return makes_anything(plan) or any(map(has_loans, books))


def nothing_done(plan: Plan) -> Ended:
    """The end of a plan for which nothing was to do."""
    from pumphouse.model import Report
    from pumphouse.run.outcomes import decided_outcomes

    report = Report(plan, tuple(outcome for unit in plan.units for outcome in decided_outcomes(unit)))
    return Ended(report, None, RESUME, exit_code(report, RESUME))


def work_and_report(invocation: Invocation, run: Run, work: Work, again: str) -> int:
    """Execute or revert a run, show its progress, and print the report; returns the exit code.

    work: what executes or reverts the run.
    again: the command that goes on with the run after an interruption, `resume` or `revert`.
    """
    return print_result(invocation, work_on(invocation, run, work, again))


def print_result(invocation: Invocation, ended: Ended) -> int:
    """Print the report where programs and people read it; returns the exit code."""
    if not invocation.is_table:
        invocation.print_data(ended.data)
    print_end(invocation, ended)
    if ended.code == EXIT_INTERRUPTED:
        click.echo(printable(f"interrupted: go on with pumphouse {ended.again} {ended.report.run}"), err=True)
    return ended.code


def work_on(invocation: Invocation, run: Run, work: Work, again: str) -> Ended:
    """Execute or revert a run and show its progress."""
    from pumphouse.show.ending import limits_line

    go_on = f"pumphouse {again} {run.id}"
    invocation.messages.print(limits_line(run.plan.cfg["limits"]), style="dim")
    with (
        _interruptible(invocation.messages, go_on) as stop,
        invocation.writable(),
        telling(invocation, run, again if again in (REVERT, FINALIZE) else "migrate", go_on) as listener,
    ):
        _begin(go_on)
        report = work(listener, stop)
    is_suspended = stop.is_set() or run.book.meta["state"] == SUSPENDED
    return Ended(report, run, again, EXIT_INTERRUPTED if is_suspended else exit_code(report, again))


def print_end(invocation: Invocation, ended: Ended) -> None:
    """The report where people read it, then what the run has cost, what to do next, and whether all has arrived."""
    from pumphouse.model import State
    from pumphouse.show.ending import completeness, print_ending, print_nothing
    from pumphouse.show.report import print_report

    report, out = ended.report, invocation.console
    if ended.run is None:
        print_nothing(report, out, is_done=ended.code == EXIT_DONE)
        return
    if invocation.is_table:
        print_report(ended.data, out)
    passwords_file = None if ended.again == REVERT else str(invocation.config.policies.passwords_file)
    print_ending(ended.data, out, passwords_file=passwords_file)
    if log_file() and State.FAILED in report.count():
        out.print(f"what failed is in the log: {log_file()}", soft_wrap=True)
    if ended.again != REVERT:
        is_complete = exit_code(report, ended.again) == EXIT_DONE
        out.print(completeness(report), style="bold green" if is_complete else "bold red")


def _begin(go_on: str) -> None:
    """Tell `main` that something may be changed from now on.

    go_on: the command that goes on with it.
    """
    context = click.get_current_context(silent=True)
    if context is not None and context.obj is not None:
        context.obj.append(go_on)


@contextmanager
def _interruptible(out: PrintableConsole, go_on: str) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one ends the process at once.

    out: where the progress of the run is shown.
    go_on: the command that goes on with the run.
    """
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(_number: int, _frame: object) -> None:
        if stop.is_set():
            # Threads are in the middle of calls, and an orderly exit would wait for them.
            # What they have done is in the state store, so that the run can be resumed.
            out.leave_terminal()
            os.write(sys.stderr.fileno(), f"stopped at once: go on with {go_on}\n".encode())
            os._exit(EXIT_INTERRUPTED)
        stop.set()  # those who wait for the end of the run say so

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(report: Report, again: str) -> int:
    """EXIT_DONE, or EXIT_INCOMPLETE when something of the tenant has not arrived that the operator did not leave out.

    For a revert: when something stays; for a finalize: when something failed.
    """
    from pumphouse.model import State
    from pumphouse.run.outcomes import left_behind

    stays = {State.FAILED, State.BLOCKED, State.CONFLICT, State.PENDING, State.KEPT}
    if again == FINALIZE:
        return EXIT_INCOMPLETE if (stays - {State.KEPT}) & set(report.count()) else EXIT_DONE
    if again == REVERT:
        return EXIT_INCOMPLETE if stays & set(report.count()) else EXIT_DONE
    return EXIT_INCOMPLETE if left_behind(report) or report.plan.uncarried else EXIT_DONE


def failure_code(error: Exception) -> int:
    """The exit code of a command that an exception has ended."""
    if isinstance(error, PumphouseError):
        return error.exit_code
    return EXIT_CONNECTION if http_status(error) == 401 or is_connection_failure(error) else EXIT_FAILED
