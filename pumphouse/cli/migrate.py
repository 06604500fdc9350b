"""`pumphouse migrate`: plan, show, ask, run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pumphouse.cli.options import (
    cloud_options,
    clouds,
    format_option,
    load,
    migration,
    refuse_other_clouds,
    refuse_same_cloud,
)
from pumphouse.cli.running import perform
from pumphouse.errors import StalePlanError

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.config import Config
    from pumphouse.model import Plan


def plan_output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-o`."""
    help_text = "Write the plan to this file, YAML or JSON by its name."
    return click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help=help_text)(
        command
    )


@click.group(invoke_without_command=True)
@click.option(
    "--plan", "plan_path", type=click.Path(path_type=Path), metavar="FILE", help="Run the plan in this file."
)
@click.option("--yes", is_flag=True, help="Do not ask before the run.")
@format_option
@cloud_options
@click.pass_context
def migrate(
    context: click.Context,
    plan_path: Path | None,
    yes: bool,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Move resources to the destination: a tenant, or what a plan file says."""
    if context.invoked_subcommand:
        _refuse_options(context)
        return
    if plan_path is None:
        raise click.UsageError("expected a command or --plan FILE; see pumphouse migrate --help")
    from pumphouse.plan import planned_config
    from pumphouse.planfile import changes, edits
    from pumphouse.planfile import load as load_plan

    loaded = load_plan(plan_path)
    config = planned_config(load(config_path, source_cloud, destination_cloud), loaded.plan)
    source, destination = clouds(config)
    refuse_other_clouds(loaded.plan, source, destination, str(plan_path))
    names, left_out = edits(loaded.plan)

    def planned(before: Any) -> Plan:
        plan = _plan(
            config, source, destination, loaded.plan.tenant.id, before, names=names, left_out=left_out
        )
        if found := changes(loaded.plan, plan, edited=loaded.edited):
            raise StalePlanError(plan_path, found)
        return plan

    sys.exit(_migrate(config, source, destination, loaded.plan.tenant.id, planned, yes, output_format))


def _refuse_options(context: click.Context) -> None:
    """Options before a command would be without effect, so they are refused."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        command = context.invoked_subcommand
        raise click.UsageError(f"{given[0]} has to stand behind {command}: pumphouse migrate {command} ...")


@migrate.command()
@click.argument("tenant", metavar="ID_OR_NAME")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; nothing is written to either cloud.")
@click.option("--yes", is_flag=True, help="Do not ask before the run.")
@plan_output_option
@format_option
@cloud_options
def tenant(
    tenant: str,
    dry_run: bool,
    yes: bool,
    output: Path | None,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Move a tenant: users, roles, images, flavors, keypairs, networks, security groups and servers."""
    if output and not dry_run:
        raise click.UsageError("-o goes with --dry-run: the plan of a run is in the state store")
    from pumphouse.plan import find_tenant

    config = load(config_path, source_cloud, destination_cloud)
    source, destination = clouds(config)
    refuse_same_cloud(config, source, destination)
    tenant_id = find_tenant(source, tenant)
    if dry_run:
        show_plan(
            plan_tenant(config, source, destination, tenant_id), source, destination, output, output_format
        )
        return
    planned = partial(_plan, config, source, destination, tenant_id)
    sys.exit(_migrate(config, source, destination, tenant_id, planned, yes, output_format))


def plan_tenant(config: Config, source: Cloud, destination: Cloud, tenant_id: str) -> Plan:
    """The plan of a tenant, with what the state store knows of earlier runs."""
    from pumphouse.plan import title
    from pumphouse.runs import done_before
    from pumphouse.store import open_store

    with closing(open_store(config.state_url)) as store:
        before = done_before(store, tenant_id, title(source), title(destination))
    return _plan(config, source, destination, tenant_id, before)


def _plan(
    config: Config, source: Cloud, destination: Cloud, tenant_id: str, before: Any, **edits: Any
) -> Plan:
    from pumphouse.plan import make_plan

    with ThreadPoolExecutor(config.limits.workers) as pool:
        return make_plan(source, destination, tenant_id, config, pool, before=before, **edits)


def show_plan(plan: Plan, source: Cloud, destination: Cloud, output: Path | None, output_format: str) -> None:
    """Print a plan, and write it to a file if one is named."""
    from pumphouse.planfile import plan_data, save, with_tasks
    from pumphouse.report import console, dump, print_plan

    tasks = migration(plan, source, destination)
    data = with_tasks(plan_data(plan), plan, tasks)
    if output:
        save(data, output)
    if output_format != "table":
        click.echo(dump(data, output_format))
    else:
        print_plan(plan, tasks, console())


def _migrate(
    config: Config,
    source: Cloud,
    destination: Cloud,
    tenant_id: str,
    planned: Callable[[Any], Plan],
    yes: bool,
    output_format: str,
) -> int:
    """Plan, show, ask and run, while nobody else works on that tenant; returns the exit code."""
    from pumphouse import runs
    from pumphouse.lock import locked
    from pumphouse.plan import title
    from pumphouse.report import console, print_plan
    from pumphouse.run import execute
    from pumphouse.store import open_store

    subject = {"tenant": {"id": tenant_id}, "source": title(source), "destination": title(destination)}
    out = console(stderr=output_format != "table")
    with (
        closing(open_store(config.state_url)) as store,
        locked(store, runs.lock_name(subject), lambda: runs.holder(store, subject)),
    ):
        for unfinished in runs.unfinished(store, subject):
            out.print(f"note: {unfinished}", markup=False, style="yellow")
        plan = planned(runs.done_before(store, tenant_id, title(source), title(destination)))
        tasks = migration(plan, source, destination)
        print_plan(plan, tasks, out)
        if not yes and not click.confirm("Start?", err=output_format != "table"):
            return 0
        source.session.read_only = destination.session.read_only = False
        run = runs.record(store, plan)
        out.print(f"Run {run.id}", style="bold", markup=False)
        return perform(
            run,
            lambda listener, stop: execute(run, tasks, listener, stop),
            out,
            output_format,
            resume=f"pumphouse resume {run.id}",
        )
