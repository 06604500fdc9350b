"""`pumphouse migrate`: plan, show, ask, run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pumphouse.cli.invocation import (
    Invocation,
    invocation_options,
    migration_of,
    refuse_same_cloud,
)
from pumphouse.cli.kinds import NAMEABLE_KINDS, OWNED_KINDS
from pumphouse.cli.options import (
    Command,
    detail_options,
    force_option,
    keep_running_option,
    limit_options,
    plan_output_option,
    until_option,
    yes_option,
)
from pumphouse.cli.planning import (
    is_several,
    plan_after_runs,
    plan_tenant,
    read_plan,
    selection_options,
    show_plan,
    show_plans,
    tenant_ids,
    tenants_argument,
)
from pumphouse.cli.running import (
    has_work,
    locked_tenant,
    nothing_done,
    print_result,
    record_run,
    work_and_report,
)
from pumphouse.cli.several import migrate_several
from pumphouse.cli.telling import log_json_option
from pumphouse.errors import EXIT_DECLINED, EXIT_DONE, StalePlanError
from pumphouse.model import Selection

if TYPE_CHECKING:
    from pumphouse.model import Plan, Ref
    from pumphouse.tasks.base import Before

Planner = Callable[[Mapping["Ref", "Before"]], "Plan"]


def _run_options(command: Command) -> Command:
    """`--dry-run`, `--yes`, `-o`, the limits and the options that make an Invocation."""
    command = plan_output_option(detail_options(limit_options(force_option(invocation_options()(command)))))
    command = log_json_option(until_option(keep_running_option(command)))
    return _dry_run_option(yes_option("before the run")(command))


def _dry_run_option(command: Command) -> Command:
    help_text = "Print the plan and stop; nothing is written to either cloud."
    return click.option("--dry-run", is_flag=True, help=help_text)(command)


@click.group("migrate", invoke_without_command=True)
@click.option(
    "--plan", "plan_path", type=click.Path(path_type=Path), metavar="FILE", help="Run the plan in this file."
)
@_dry_run_option
@yes_option("before the run")
@until_option
@log_json_option
@detail_options
@limit_options
@force_option
@invocation_options()
@click.pass_context
def migrate_command(
    context: click.Context, plan_path: Path | None, dry_run: bool, invocation: Invocation
) -> None:
    """Move resources to the destination: tenants, one resource with what it needs, or what a plan file says."""
    if context.invoked_subcommand:
        _refuse_options(context)
        return
    if plan_path is None:
        raise click.UsageError("expected a command or --plan FILE; see pumphouse migrate --help")
    sys.exit(_migrate_file(invocation, plan_path, dry_run))


def _migrate_file(invocation: Invocation, path: Path, dry_run: bool) -> int:
    """Run the plan in a file, unless the clouds have changed since it was made; returns the exit code."""
    if not dry_run:
        invocation.refuse_unasked()
    file = read_plan(invocation, path)

    def plan_again(before: Mapping[Ref, Before] | None = None) -> Plan:
        plan = file.replan(before)
        if found := file.changes(plan):
            raise StalePlanError(path, found)
        return plan

    if dry_run:
        show_plan(file.invocation, plan_again(), None, "TASKS")
        return EXIT_DONE
    return _migrate(file.invocation, file.plan.tenant.id, plan_again)


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


@migrate_command.command("tenant")
@tenants_argument
@click.option(
    "--parallel",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Move so many of the tenants beside each other, each with the limits of the configuration.",
)
@selection_options
@_run_options
def tenant_command(
    tenants: tuple[str, ...],
    all_tenants: bool,
    selection: Selection,
    parallel: int,
    dry_run: bool,
    output: Path | None,
    invocation: Invocation,
) -> None:
    """Move tenants with all that they own, or what of them is selected.

    Several tenants are planned first, then moved one after the other, or some at once. What something selected
    needs is moved with it; the plan says why.
    """
    _refuse_output(output, dry_run)
    several = is_several(tenants, all_tenants, selection, output)
    if not dry_run:
        invocation.refuse_unasked()
    refuse_same_cloud(invocation)
    ids = tenant_ids(invocation.source, tenants, all_tenants)
    if not several:
        _plan_or_migrate(invocation, ids[0], selection, dry_run, output)
    elif dry_run:
        show_plans(invocation, ids, selection, "TASKS")
    else:
        sys.exit(migrate_several(invocation, ids, selection, at_once=parallel))


def _refuse_output(output: Path | None, dry_run: bool) -> None:
    if output and not dry_run:
        raise click.UsageError("-o goes with --dry-run: the plan of a run is in the state store")


def _add_resource_command(kind: str) -> None:
    """Add the command that moves one resource of a kind."""
    owned = kind in OWNED_KINDS
    tenant_help = f"The tenant of the {kind}: " + (
        "wanted where several have one of this name." if owned else "what is moved is moved for it."
    )

    def resource_command(
        resource: str, tenant: str | None, dry_run: bool, output: Path | None, invocation: Invocation
    ) -> None:
        _refuse_output(output, dry_run)
        if not dry_run:
            invocation.refuse_unasked()
        refuse_same_cloud(invocation)
        tenant_id, selection = _select_one(invocation, kind, resource, tenant)
        _plan_or_migrate(invocation, tenant_id, selection, dry_run, output)

    resource_command.__doc__ = f"Move one {kind} of a tenant, with what it needs and nothing else."
    option = click.option("--tenant", required=not owned, metavar="ID_OR_NAME", help=tenant_help)
    argument = click.argument("resource", metavar="ID_OR_NAME")
    migrate_command.command(kind)(argument(option(_run_options(resource_command))))


for _kind in NAMEABLE_KINDS:
    _add_resource_command(_kind)


def _select_one(
    invocation: Invocation, kind: str, resource: str, tenant: str | None
) -> tuple[str, Selection]:
    """The tenant that a single resource is moved with, and the selection of only that resource."""
    from pumphouse.plan.lookup import find_owner, find_tenant

    if tenant is not None:
        return find_tenant(invocation.source, tenant), Selection(names=((kind, resource),))
    found = find_owner(invocation.source, kind, resource)
    return found.tenant_id, Selection(names=((kind, found.id),))


def _plan_or_migrate(
    invocation: Invocation, tenant_id: str, selection: Selection, dry_run: bool, output: Path | None
) -> None:
    """Move a tenant, or only print its plan."""
    if dry_run:
        show_plan(invocation, plan_tenant(invocation, tenant_id, selection), output, "TASKS")
        return
    planner = partial(plan_after_runs, invocation=invocation, tenant_id=tenant_id, selection=selection)
    sys.exit(_migrate(invocation, tenant_id, planner))


def _migrate(invocation: Invocation, tenant_id: str, planner: Planner) -> int:
    """Plan a tenant, show the plan, ask and run it, with the tenant locked; returns the exit code.

    planner: makes the plan, given what earlier runs of the tenant have done.
    """
    from pumphouse.run.execute import execute_run
    from pumphouse.show.ending import question
    from pumphouse.show.plan import Detail, print_plan

    with locked_tenant(invocation, tenant_id) as (store, before):
        plan = planner(before)
        if not has_work(store, plan):
            return print_result(invocation, nothing_done(plan))
        print_plan(plan, invocation.messages, Detail[invocation.detail or "PROBLEMS"])
        invocation.refuse_obstacles([plan])
        if not invocation.confirm(question([plan])):
            return EXIT_DECLINED
        run = record_run(invocation, store, plan)
        work = partial(execute_run, run, migration_of(invocation, plan), until=invocation.until)
        return work_and_report(invocation, run, work, "resume")
