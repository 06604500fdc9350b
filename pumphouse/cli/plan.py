"""`pumphouse plan`: make a plan, or show one."""

from __future__ import annotations

from pathlib import Path

import click

from pumphouse.cli.options import cloud_options, format_option, logging_options
from pumphouse.cli.planning import (
    is_several,
    plan_output_option,
    plan_tenant,
    selection_options,
    show_plan,
    show_plans,
    tenant_ids,
    tenants_argument,
    way,
)
from pumphouse.model import Selection


@click.group()
def plan() -> None:
    """Make plans and look at them; nothing is written to either cloud."""


@plan.command()
@tenants_argument
@selection_options
@plan_output_option
@format_option
@cloud_options
def tenant(
    tenants: tuple[str, ...],
    all_tenants: bool,
    selection: Selection,
    output: Path | None,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Plan the migration of tenants, or of what of them is selected; run it with `pumphouse migrate --plan FILE`."""
    several = is_several(tenants, all_tenants, selection, output)
    chosen = way(config_path, source_cloud, destination_cloud)
    ids = tenant_ids(chosen.source, tenants, all_tenants)
    if several:
        show_plans(chosen, ids, selection, output_format)
    else:
        show_plan(plan_tenant(chosen, ids[0], selection), output, output_format)


@plan.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "yaml", "dot"]),
    default="table",
    show_default=True,
)
@logging_options
def show(file: Path, output_format: str) -> None:
    """Print a plan file; `-f dot` draws its units for Graphviz."""
    from pumphouse.plan.data import plan_data
    from pumphouse.plan.dot import plan_dot
    from pumphouse.plan.file import load as load_plan
    from pumphouse.plan.task_lines import with_tasks
    from pumphouse.show.report import console, dump, print_plan

    plan = with_tasks(load_plan(file).plan)
    if output_format == "dot":
        click.echo(plan_dot(plan))
    elif output_format == "table":
        print_plan(plan, console())
    else:
        click.echo(dump(plan_data(plan), output_format))
