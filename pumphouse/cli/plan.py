"""`pumphouse plan`: make a plan, or show one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pumphouse.cli.invocation import Invocation, invocation_options, refuse_same_cloud
from pumphouse.cli.options import (
    column_option,
    detail_options,
    format_option,
    keep_running_option,
    logging_options,
    plan_output_option,
)
from pumphouse.cli.planning import (
    is_several,
    plan_tenant,
    read_plan,
    selection_options,
    show_plan,
    show_plans,
    tenant_ids,
    tenants_argument,
)
from pumphouse.model import Selection

if TYPE_CHECKING:
    from pumphouse.model import Plan


@click.group("plan")
def plan_command() -> None:
    """Make plans and look at them; nothing is written to either cloud."""


@plan_command.command("tenant")
@tenants_argument
@selection_options
@plan_output_option
@keep_running_option
@detail_options
@invocation_options()
def tenant_command(
    tenants: tuple[str, ...],
    all_tenants: bool,
    selection: Selection,
    output: Path | None,
    invocation: Invocation,
) -> None:
    """Plan the migration of tenants, or of what of them is selected; run it with `pumphouse migrate --plan FILE`."""
    several = is_several(tenants, all_tenants, selection, output)
    refuse_same_cloud(invocation)
    ids = tenant_ids(invocation.source, tenants, all_tenants)
    if several:
        show_plans(invocation, ids, selection)
    else:
        show_plan(invocation, plan_tenant(invocation, ids[0], selection), output)


@plan_command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@format_option("dot")
@column_option
@detail_options
@logging_options
def show_command(file: Path, output_format: str, columns: tuple[str, ...], detail: str | None) -> None:
    """Print a plan file; `-f dot` draws its units for Graphviz."""
    from pumphouse.show.dot import plan_dot

    plan = _recorded(file)
    if output_format == "dot":
        click.echo(plan_dot(plan))
    else:
        show_plan(Invocation(output_format=output_format, columns=columns, detail=detail), plan, None)


def _recorded(file: Path) -> Plan:
    """The plan in a file, with its tasks: those that stand there, unless anybody has edited it."""
    from pumphouse.config import yamlfile
    from pumphouse.plan.data import as_written

    document = yamlfile.load(yamlfile.read(file), str(file))
    if not document.problems and (plan := as_written(document.data)):
        return plan
    from pumphouse.plan.file import load
    from pumphouse.plan.task_lines import with_tasks

    return with_tasks(load(file).plan)


@plan_command.command("refresh")
@click.argument("file", type=click.Path(path_type=Path))
@invocation_options()
def refresh_command(file: Path, invocation: Invocation) -> None:
    """Make the plan in a file again of both clouds as they are now, and keep what was edited in it."""
    from pumphouse.plan.file import save_plan

    found = read_plan(invocation, file)
    plan = found.replan()
    changes = found.changes(plan)
    save_plan(plan, file)
    if not invocation.is_table:
        invocation.print_data({"changes": list(changes)})
        return
    for change in changes:
        invocation.console.print(change)
    path = shlex.quote(str(file))
    state = "is up to date again, with your edits" if changes else "was up to date"
    invocation.console.print(f"{file} {state}; run it with: pumphouse migrate --plan {path}")
