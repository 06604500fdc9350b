"""`pumphouse check`: what both clouds offer, what stands in the way, and how fast bytes go."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace

import click

from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.cli.planning import plan_tenant
from pumphouse.errors import EXIT_FAILED, PumphouseError
from pumphouse.model import Selection


@click.command("check")
@click.option("--tenant", metavar="ID_OR_NAME", help="Also plan this tenant and say what stands in its way.")
@click.option(
    "--speed", is_flag=True, help="Also copy an image of 64 MiB there and back, and remove it again."
)
@invocation_options()
def check_command(tenant: str | None, speed: bool, invocation: Invocation) -> None:
    """Log in to both clouds and say what they offer and what will not be possible."""
    from pumphouse.cloud.check import check_clouds
    from pumphouse.plan.lookup import find_tenant
    from pumphouse.plan.preflight import of_clouds
    from pumphouse.show.plan import Detail, print_plan
    from pumphouse.show.report import check_data, print_check
    from pumphouse.show.status import status_line

    clouds = invocation.clouds
    with status_line("asking both clouds what they offer"):
        found = check_clouds(*clouds)
    is_usable = not found.too_old
    rates = _measure(invocation) if speed and is_usable else {}
    tenant_id = find_tenant(invocation.source, tenant) if tenant and is_usable else None
    plan = plan_tenant(invocation, tenant_id, Selection()) if tenant_id else None
    obstacles = plan.obstacles if plan else of_clouds(invocation.destination, invocation.config)
    if invocation.is_table:
        print_check(found, invocation.console, obstacles, rates)
        if plan:
            # What stands in its way has just been said.
            print_plan(replace(plan, obstacles=()), invocation.console, Detail.PROBLEMS)
    else:
        more = {"obstacles": [asdict(obstacle) for obstacle in obstacles], "bytes_per_s": rates}
        invocation.print_data({**check_data(found), **more})
    if found.too_old:
        raise PumphouseError("\n".join(found.too_old), "upgrade it first; Mitaka is the oldest that works")
    if any(obstacle.is_certain for obstacle in obstacles):
        sys.exit(EXIT_FAILED)


def _measure(invocation: Invocation) -> dict[str, float]:
    """The bytes per second of a copy, by the way it went; those there are remembered for estimates."""
    from pumphouse.plan.make import title
    from pumphouse.plan.speed import measure, remember

    source, destination = invocation.clouds
    with invocation.writable():
        there, back = measure(source, destination)
    remember(invocation.config.state_folder, title(source), title(destination), there)
    return {"source to destination": there, "destination to source": back}
