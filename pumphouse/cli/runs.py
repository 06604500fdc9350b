"""`pumphouse runs`, `pumphouse resume` and `pumphouse revert`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pumphouse.cli.completion import complete_runs, complete_tenants
from pumphouse.cli.invocation import Invocation, invocation_options, migration_of, refuse_other_clouds
from pumphouse.cli.options import limit_options, transfer_options, until_option, yes_option
from pumphouse.cli.running import RESUME, REVERT, Ended, exit_code, work_and_report
from pumphouse.cli.telling import log_json_option
from pumphouse.errors import EXIT_DECLINED, EXIT_DONE
from pumphouse.show.text import printable

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend

    from pumphouse.model import Json
    from pumphouse.run.record import Run


# Those of TaskFlow that a run can have, those of pumphouse.run.record and of pumphouse.run.summary.
STATES = (
    *("PENDING", "RUNNING", "SUCCESS", "CONFLICT", "FAILURE", "SUSPENDED", "INTERRUPTED"),
    *("REVERTING", "REVERTED", "REVERT_FAILURE", "FINALIZING", "FINALIZED", "FINALIZE_FAILURE"),
)


run_argument = click.argument("run", shell_complete=complete_runs)


@click.group("runs")
def runs_command() -> None:
    """Look at the runs that the state store has; also while they go on."""


@runs_command.command("list")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only runs in this state.")
@click.option(
    "--tenant", metavar="ID_OR_NAME", help="Only runs of this tenant.", shell_complete=complete_tenants
)
@click.option("--since", type=click.DateTime(), help="Only runs that began then or later, local time.")
@invocation_options(clouds=False)
def list_command(
    state: str | None, tenant: str | None, since: datetime | None, invocation: Invocation
) -> None:
    """List the runs, the newest first."""
    from pumphouse.run.summary import list_runs
    from pumphouse.show.runs import print_list

    with open_recorded(invocation.config_path) as store:
        found = list_runs(store, state=state, tenant=tenant, since=since.astimezone() if since else None)
    if invocation.is_table:
        print_list(found, invocation.console)
    else:
        invocation.print_data(found)


@runs_command.command("show")
@run_argument
@click.option(
    "--tasks", is_flag=True, help="List every task with its state, times, the id it made and why it failed."
)
@click.option("--watch", is_flag=True, help="Show it again every two seconds until no process works on it.")
@invocation_options(clouds=False)
def show_command(run: str, tasks: bool, watch: bool, invocation: Invocation) -> None:
    """Show what a run has come to so far, what failed and what is under way."""
    from pumphouse.run.record import find_book, load_run
    from pumphouse.run.summary import run_data
    from pumphouse.show.runs import print_run, watch_run

    with open_recorded(invocation.config_path) as store:
        uuid = find_book(store, run).uuid

        def read() -> Json:
            return run_data(load_run(store, find_book(store, uuid)))

        if not invocation.is_table:
            invocation.print_data(read())
        elif watch and invocation.console.is_terminal:
            watch_run(read, invocation.console, with_tasks=tasks)
        else:
            print_run(read(), invocation.console, with_tasks=tasks)


@runs_command.command("limit")
@run_argument
@transfer_options
@invocation_options(clouds=False)
def limit_command(run: str, invocation: Invocation) -> None:
    """Change how much a run copies at a time, and how fast, while it goes on; what is under way goes on, too."""
    from pumphouse.run.record import ask_limits, find_book, run_id

    if not invocation.limits:
        raise click.UsageError("expected --transfers N or --limit-rate BYTES, or both")
    with open_recorded(invocation.config_path, only_read=False) as store:
        book = find_book(store, run)
        ask_limits(store, book, invocation.limits)
    if not invocation.is_table:
        invocation.print_data({"run": run_id(book), **invocation.limits})
        return
    click.echo(
        printable(
            f"run {run_id(book)} is asked to: within a few seconds it says that it goes on with these limits"
        ),
        err=True,
    )


@runs_command.command("prune")
@click.option(
    "--older-than", "days", type=click.IntRange(0), metavar="DAYS", required=True, help="Only runs that old."
)
@click.option(
    "--force", is_flag=True, help="Remove also what could be resumed, reverted or verified by its ids."
)
@yes_option("before it begins")
@invocation_options(clouds=False)
def prune_command(days: int, force: bool, invocation: Invocation) -> None:
    """Remove the records of old runs that were reverted or made nothing; nothing is changed at any cloud."""
    from pumphouse.run.prune import old_runs, remove_runs
    from pumphouse.run.record import run_id
    from pumphouse.run.summary import run_summary
    from pumphouse.show.runs import print_list

    invocation.refuse_unasked()
    with open_recorded(invocation.config_path, only_read=False) as store:
        found = old_runs(store, datetime.now(UTC) - timedelta(days), force=force)
        removed = [run for run in found if not run.kept_reason]
        data = [run_summary(store, run.book) for run in removed]
        for run in found:
            if run.kept_reason:
                invocation.messages.print(
                    f"note: run {run_id(run.book)} is kept: {run.kept_reason}", style="yellow"
                )
        print_list(data, invocation.messages)
        if removed and not invocation.confirm(f"Remove the records of {len(removed)} runs?"):
            sys.exit(EXIT_DECLINED)
        gone = {run_id(run.book) for run in remove_runs(store, removed)}
    if not invocation.is_table:
        invocation.print_data([item for item in data if item["run"] in gone])
    elif gone:
        click.echo(printable(f"removed: {', '.join(sorted(gone))}"))


@click.command("resume")
@run_argument
@yes_option("before it goes on")
@until_option
@log_json_option
@limit_options
@invocation_options()
def resume_command(run: str, invocation: Invocation) -> None:
    """Go on with a run that was interrupted, or try again what failed in it."""
    from pumphouse.plan.make import cfg_of
    from pumphouse.run.execute import execute_run
    from pumphouse.run.resume import (
        differences,
        is_closed,
        left_to_do,
        refuse_finalized,
        refuse_reverted,
        refuse_superseded,
        report_so_far,
        with_limits,
    )
    from pumphouse.show.ending import resume_question
    from pumphouse.show.runs import print_left

    invocation.refuse_unasked()
    with locked_run(invocation, run) as recorded:
        refuse_reverted(recorded)
        refuse_finalized(recorded)
        refuse_superseded(recorded)
        report, out = report_so_far(recorded), invocation.console
        left = left_to_do(report)
        if not left and is_closed(recorded):
            ended = Ended(report, recorded, RESUME, exit_code(report, RESUME))
            if not invocation.is_table:
                invocation.print_data(ended.data)
            out.print(
                f"nothing is left to do of run {recorded.id}; see it with: pumphouse report {recorded.id}"
            )
            sys.exit(ended.code)
        found = with_limits(recorded, cfg_of(invocation.config)["limits"])
        migration = migration_of(invocation, found.plan)
        for line in differences(found, migration):
            invocation.messages.print(f"note: {line}", style="yellow")
        print_left(found, left, invocation.messages)
        if left and not invocation.confirm(resume_question(found.plan, left)):
            sys.exit(EXIT_DECLINED)
        work = partial(execute_run, found, migration, until=invocation.until)
        code = work_and_report(invocation, found, work, RESUME)
    sys.exit(code)


@click.command("revert")
@run_argument
@yes_option("before it begins")
@log_json_option
@click.option(
    "--force", is_flag=True, help="Remove also what was changed since, and undo a run that is not the newest."
)
@invocation_options()
def revert_command(run: str, force: bool, invocation: Invocation) -> None:
    """Undo a run: remove what it made, keep what it found, start the servers that it stopped."""
    from pumphouse.model import Report
    from pumphouse.run.resume import refuse_finalized, refuse_superseded
    from pumphouse.run.revert import close_run, plan_revert, revert_run
    from pumphouse.run.summary import report_data
    from pumphouse.show.runs import print_revert

    invocation.refuse_unasked()
    with locked_run(invocation, run) as found:
        refuse_finalized(found)
        if not force:
            refuse_superseded(found)
        migration = migration_of(invocation, found.plan)
        units = plan_revert(found, migration, force=force)
        print_revert(found, units, invocation.messages if units else invocation.console)
        if not units:
            close_run(found)
            if not invocation.is_table:
                invocation.print_data(report_data(Report(found.plan, (), found.id), found))
            sys.exit(EXIT_DONE)
        if not invocation.confirm(f"Undo run {found.id} of tenant {found.plan.tenant_name} as listed?"):
            sys.exit(EXIT_DECLINED)
        code = work_and_report(invocation, found, partial(revert_run, found, migration, units), REVERT)
    sys.exit(code)


@contextmanager
def open_recorded(config_path: Path | None, *, only_read: bool = True) -> Iterator[Backend]:
    """The state store of a configuration, for commands that need no cloud."""
    from pumphouse.config.settings import load_state_url
    from pumphouse.store import open_store

    with closing(open_store(load_state_url(config_path), only_read=only_read)) as store:
        yield store


@contextmanager
def locked_run(invocation: Invocation, wanted: str) -> Iterator[Run]:
    """A recorded run, with its tenant locked for as long as the context lasts.

    wanted: its id, the beginning of it, or `last`.
    """
    from pumphouse.run.lock import locked
    from pumphouse.run.record import describe_owner, find_book, load_run, lock_name
    from pumphouse.store import open_store

    with closing(open_store(invocation.config.state_url)) as store:
        book = find_book(store, wanted)
        with locked(store, lock_name(book.meta), lambda: describe_owner(store, book.meta)):
            # Once more, because another process may have changed it before the lock was taken.
            run = load_run(store, find_book(store, book.uuid))
            refuse_other_clouds(invocation, run.plan, f"run {run.id}")
            yield run
