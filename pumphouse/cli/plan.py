"""`pumphouse plan`: make a plan, or show one."""

from __future__ import annotations

from pathlib import Path

import click

from pumphouse.cli.migrate import plan_output_option, plan_tenant, show_plan
from pumphouse.cli.options import (
    cloud_options,
    clouds,
    format_option,
    load,
    logging_options,
    refuse_same_cloud,
)


@click.group()
def plan() -> None:
    """Make plans and look at them; nothing is written to either cloud."""


@plan.command()
@click.argument("tenant", metavar="ID_OR_NAME")
@plan_output_option
@format_option
@cloud_options
def tenant(
    tenant: str,
    output: Path | None,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Plan the migration of a tenant; run it with `pumphouse migrate --plan FILE`."""
    from pumphouse.plan import find_tenant

    config = load(config_path, source_cloud, destination_cloud)
    source, destination = clouds(config)
    refuse_same_cloud(config, source, destination)
    planned = plan_tenant(config, source, destination, find_tenant(source, tenant))
    show_plan(planned, source, destination, output, output_format)


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
    from pumphouse.planfile import load as load_plan
    from pumphouse.planfile import offline_migration, plan_data, plan_dot, with_tasks
    from pumphouse.report import console, dump, print_plan

    plan = load_plan(file).plan
    tasks = offline_migration(plan)
    if output_format == "dot":
        click.echo(plan_dot(plan))
    elif output_format == "table":
        print_plan(plan, tasks, console())
    else:
        click.echo(dump(with_tasks(plan_data(plan), plan, tasks), output_format))
