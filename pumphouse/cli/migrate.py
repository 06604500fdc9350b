"""`pumphouse migrate`: plan, show, ask, run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pumphouse.cli.options import cloud_options, clouds, format_option, load, migration, refuse_other_clouds
from pumphouse.cli.planning import (
    Way,
    is_several,
    make,
    plan_output_option,
    plan_tenant,
    selection_options,
    show_plan,
    show_plans,
    tenant_ids,
    tenants_argument,
    way,
)
from pumphouse.cli.running import perform, recorded, turn
from pumphouse.cli.several import migrate_several
from pumphouse.errors import StalePlanError
from pumphouse.model import Selection
from pumphouse.plan.selection import NAMED_KINDS, OWNED_KINDS

if TYPE_CHECKING:
    from pumphouse.model import Plan


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--dry-run`, `--yes`, `-o`, `-f` and the options of the clouds."""
    command = plan_output_option(format_option(cloud_options(command)))
    command = click.option("--yes", is_flag=True, help="Do not ask before the run.")(command)
    help_text = "Print the plan and stop; nothing is written to either cloud."
    return click.option("--dry-run", is_flag=True, help=help_text)(command)


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
    """Move resources to the destination: tenants, one resource with what it needs, or what a plan file says."""
    if context.invoked_subcommand:
        _refuse_options(context)
        return
    if plan_path is None:
        raise click.UsageError("expected a command or --plan FILE; see pumphouse migrate --help")
    from pumphouse.plan.file import load as load_plan
    from pumphouse.plan.make import planned_config
    from pumphouse.plan.staleness import changes, edits

    loaded = load_plan(plan_path)
    config = planned_config(load(config_path, source_cloud, destination_cloud), loaded.plan)
    chosen = Way(config, *clouds(config))
    refuse_other_clouds(loaded.plan, chosen.source, chosen.destination, str(plan_path))
    names, left_out = edits(loaded.plan)
    wanted = {"names": names, "left_out": left_out, "selection": loaded.plan.selection}

    def planned(before: Any) -> Plan:
        plan = make(chosen, loaded.plan.tenant.id, before, **wanted)
        if found := changes(loaded.plan, plan, edited=loaded.edited):
            raise StalePlanError(plan_path, found)
        return plan

    sys.exit(_migrate(chosen, loaded.plan.tenant.id, planned, yes, output_format))


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
@tenants_argument
@selection_options
@run_options
def tenant(
    tenants: tuple[str, ...],
    all_tenants: bool,
    selection: Selection,
    dry_run: bool,
    yes: bool,
    output: Path | None,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Move tenants with all that they own, or what of them is selected.

    Several tenants are planned first, then moved one after the other. What something selected needs is moved
    with it; the plan says why.
    """
    _refuse_output(output, dry_run)
    several = is_several(tenants, all_tenants, selection, output)
    chosen = way(config_path, source_cloud, destination_cloud)
    ids = tenant_ids(chosen.source, tenants, all_tenants)
    if not several:
        _move(chosen, ids[0], selection, dry_run, yes, output, output_format)
    elif dry_run:
        show_plans(chosen, ids, selection, output_format)
    else:
        sys.exit(migrate_several(chosen, ids, selection, yes, output_format))


def _refuse_output(output: Path | None, dry_run: bool) -> None:
    if output and not dry_run:
        raise click.UsageError("-o goes with --dry-run: the plan of a run is in the state store")


def _resource_command(kind: str) -> None:
    """Add the command that moves one resource of a kind."""
    owned = kind in OWNED_KINDS
    tenant_help = f"The tenant of the {kind}: " + (
        "wanted where several have one of this name." if owned else "what is moved is moved for it."
    )

    def resource(
        resource: str,
        tenant: str | None,
        dry_run: bool,
        yes: bool,
        output: Path | None,
        output_format: str,
        config_path: Path | None,
        source_cloud: str | None,
        destination_cloud: str | None,
    ) -> None:
        _refuse_output(output, dry_run)
        chosen = way(config_path, source_cloud, destination_cloud)
        tenant_id, selection = _subject(chosen, kind, resource, tenant)
        _move(chosen, tenant_id, selection, dry_run, yes, output, output_format)

    resource.__doc__ = f"Move one {kind} of a tenant, with what it needs and nothing else."
    option = click.option("--tenant", required=not owned, metavar="ID_OR_NAME", help=tenant_help)
    argument = click.argument("resource", metavar="ID_OR_NAME")
    migrate.command(kind)(argument(option(run_options(resource))))


for _kind in NAMED_KINDS:
    _resource_command(_kind)


def _subject(chosen: Way, kind: str, resource: str, tenant: str | None) -> tuple[str, Selection]:
    """The tenant that a single resource is moved with, and the selection of only that."""
    from pumphouse.plan.lookup import find_owner, find_tenant

    if tenant is not None:
        return find_tenant(chosen.source, tenant), Selection(names=((kind, resource),))
    found = find_owner(chosen.source, kind, resource)
    return found.tenant_id, Selection(names=((kind, found.id),))


def _move(
    chosen: Way,
    tenant_id: str,
    selection: Selection,
    dry_run: bool,
    yes: bool,
    output: Path | None,
    output_format: str,
) -> None:
    """Move a tenant, or print the plan of it."""
    if dry_run:
        show_plan(plan_tenant(chosen, tenant_id, selection), output, output_format)
        return
    planned = partial(make, chosen, tenant_id, selection=selection)
    sys.exit(_migrate(chosen, tenant_id, planned, yes, output_format))


def _migrate(
    chosen: Way, tenant_id: str, planned: Callable[[Any], Plan], yes: bool, output_format: str
) -> int:
    """Plan, show, ask and run, while nobody else works on that tenant; returns the exit code."""
    from pumphouse.run.execute import execute_run
    from pumphouse.show.report import console, print_plan

    out = console(stderr=output_format != "table")
    with turn(chosen, tenant_id, out) as (store, before):
        plan = planned(before)
        tasks = migration(plan, chosen.source, chosen.destination)
        print_plan(plan, out)
        if not yes and not click.confirm("Start?", err=output_format != "table"):
            return 0
        run = recorded(chosen, store, plan, out)
        return perform(
            run,
            lambda listener, stop: execute_run(run, tasks, listener, stop),
            out,
            output_format,
            resume=f"pumphouse resume {run.id}",
        )
