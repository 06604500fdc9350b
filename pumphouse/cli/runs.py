"""`pumphouse runs`, `pumphouse resume` and `pumphouse revert`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pumphouse.cli.options import (
    cloud_options,
    clouds,
    config_option,
    format_option,
    load,
    migration,
    refuse_other_clouds,
)
from pumphouse.cli.running import perform

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend

    from pumphouse.cloud import Cloud
    from pumphouse.run.record import Run


@click.group()
def runs() -> None:
    """Look at the runs that the state store has; also while they go on."""


@runs.command("list")
@click.option("--state", metavar="STATE", help="Only runs in this state, such as RUNNING or FAILURE.")
@click.option("--tenant", metavar="ID_OR_NAME", help="Only runs of this tenant.")
@click.option("--since", type=click.DateTime(), help="Only runs that began then or later, local time.")
@format_option
@config_option
def list_runs(
    state: str | None,
    tenant: str | None,
    since: datetime | None,
    output_format: str,
    config_path: Path | None,
) -> None:
    """List the runs, the newest first."""
    from pumphouse.run import summary
    from pumphouse.show.report import console, dump
    from pumphouse.show.runs import print_list

    with _store(config_path) as store:
        found = summary.list_runs(
            store, state=state, tenant=tenant, since=since.astimezone() if since else None
        )
    if output_format != "table":
        click.echo(dump(found, output_format))
    else:
        print_list(found, console())


@runs.command()
@click.argument("run")
@format_option
@config_option
def show(run: str, output_format: str, config_path: Path | None) -> None:
    """Show a run: its units and tasks with their states, times, ids and failures."""
    from pumphouse.run.record import find_book, load_run
    from pumphouse.run.summary import run_data
    from pumphouse.show.report import console, dump
    from pumphouse.show.runs import print_run

    with _store(config_path) as store:
        data = run_data(load_run(store, find_book(store, run)))
    if output_format != "table":
        click.echo(dump(data, output_format))
    else:
        print_run(data, console())


@click.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask before it goes on.")
@format_option
@cloud_options
def resume(
    run: str,
    yes: bool,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Go on with a run that was interrupted, or try again what failed in it."""
    from pumphouse.run.execute import execute_run
    from pumphouse.run.resume import differences, refuse_reverted, refuse_superseded
    from pumphouse.show.report import console

    with _held(run, config_path, source_cloud, destination_cloud) as (found, source, destination):
        refuse_reverted(found)
        refuse_superseded(found)
        out = console(stderr=output_format != "table")
        tasks = migration(found.plan, source, destination)
        for line in differences(found, tasks):
            out.print(f"note: {line}", markup=False, style="yellow")
        out.print(f"Resume run {found.id} of tenant {found.plan.tenant_name}", style="bold", markup=False)
        if not yes and not click.confirm("Start?", err=output_format != "table"):
            return
        source.session.read_only = destination.session.read_only = False
        code = perform(
            found,
            lambda listener, stop: execute_run(found, tasks, listener, stop),
            out,
            output_format,
            resume=f"pumphouse resume {found.id}",
        )
    sys.exit(code)


@click.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask before it begins.")
@click.option(
    "--force", is_flag=True, help="Remove also what was changed since, and undo a run that is not the newest."
)
@format_option
@cloud_options
def revert(
    run: str,
    yes: bool,
    force: bool,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Undo a run: remove what it made, keep what it found, start the servers that it stopped."""
    from pumphouse.run.resume import refuse_superseded
    from pumphouse.run.revert import plan_revert, revert_run
    from pumphouse.show.report import console
    from pumphouse.show.runs import print_undos

    with _held(run, config_path, source_cloud, destination_cloud) as (found, source, destination):
        out = console(stderr=output_format != "table")
        if not force:
            refuse_superseded(found)
        tasks = migration(found.plan, source, destination)
        undos = plan_revert(found, tasks, force=force)
        print_undos(found, undos, out)
        if undos and not yes and not click.confirm("Undo this?", err=output_format != "table"):
            return
        source.session.read_only = destination.session.read_only = False
        code = perform(
            found,
            lambda listener, stop: revert_run(found, tasks, undos, listener, stop),
            out,
            output_format,
            resume=f"pumphouse revert {found.id}",
        )
    sys.exit(code)


@contextmanager
def _store(config_path: Path | None) -> Iterator[Backend]:
    from pumphouse.config.settings import load_state_url
    from pumphouse.store import open_store

    with closing(open_store(load_state_url(config_path))) as store:
        yield store


@contextmanager
def _held(
    wanted: str, config_path: Path | None, source_cloud: str | None, destination_cloud: str | None
) -> Iterator[tuple[Run, Cloud, Cloud]]:
    """A recorded run that nobody else works on meanwhile, with the clouds it moves its tenant between."""
    from pumphouse.run.lock import locked
    from pumphouse.run.record import describe_owner, find_book, load_run, lock_name
    from pumphouse.store import open_store

    config = load(config_path, source_cloud, destination_cloud)
    with closing(open_store(config.state_url)) as store:
        book = find_book(store, wanted)
        name = lock_name(book.meta)
        with locked(store, name, lambda: describe_owner(store, book.meta)):
            run = load_run(store, find_book(store, book.uuid))
            source, destination = clouds(config)
            refuse_other_clouds(run.plan, source, destination, f"run {run.id}")
            yield run, source, destination
