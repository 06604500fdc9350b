"""What `pumphouse migrate` and `pumphouse plan` share: which tenants, what of them, and their plans."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pumphouse.cli.completion import complete_tenants
from pumphouse.cli.invocation import refuse_other_clouds
from pumphouse.cli.kinds import NAMEABLE_KINDS
from pumphouse.cli.options import Command
from pumphouse.cli.waves import servers_of_wave, wave_options
from pumphouse.model import Selection
from pumphouse.show.text import printable

if TYPE_CHECKING:
    from pumphouse.cli.invocation import Invocation
    from pumphouse.cloud import Cloud
    from pumphouse.model import Plan, Ref
    from pumphouse.tasks.base import Before


def tenants_argument(command: Command) -> Command:
    """One tenant or several, or `--all-tenants`."""
    help_text = (
        "All tenants of all domains, disabled ones too, but not the operator's own project and not service."
    )
    command = click.option("--all-tenants", is_flag=True, help=help_text)(command)
    argument = click.argument("tenants", nargs=-1, metavar="ID_OR_NAME...", shell_complete=complete_tenants)
    return argument(command)


def selection_options(command: Command) -> Command:
    """`--only`, `--skip` and an option for each kind that can be named; the command is given a Selection."""

    @functools.wraps(command)
    def select(
        *args: Any,
        only: Sequence[str],
        skip: Sequence[str],
        servers: tuple[str, ...],
        wave: str | None,
        waves: Path | None,
        **kwargs: Any,
    ) -> Any:
        names = tuple((kind, name) for kind in NAMEABLE_KINDS for name in kwargs.pop(kind))
        if waves:
            if wave is None:
                raise click.UsageError("--waves FILE has several waves: say by --wave which is meant")
            names += tuple(("server", name) for name in servers_of_wave(waves, wave))
        elif wave is not None:
            servers += (f"wave={wave}",)
        kinds = tuple(map(_kind_name, only)), tuple(map(_kind_name, skip))
        selection = Selection(*kinds, names, conditions=servers)
        return command(*args, selection=selection, **kwargs)

    for kind in reversed(NAMEABLE_KINDS):
        help_text = f"Only this {kind}, and what it needs; may be repeated."
        option = click.option(f"--{kind}", multiple=True, metavar="NAME_OR_ID", help=help_text)
        select = option(select)
    servers_help = "Only servers that meet this, and what they need: tag, metadata, name, zone, host or wave, as tag=web, "
    servers_help += "metadata=tier=db or name=web-*; if repeated, those that meet all."
    select = click.option("--servers", multiple=True, metavar="CONDITION", help=servers_help)(select)
    skip_help = "Make nothing of this kind: what needs it is skipped too, unless the destination has it."
    select = click.option("--skip", multiple=True, metavar="KIND", help=f"{skip_help} May be repeated.")(
        select
    )
    only_help = "Only what is of this kind, as the plan names kinds, and what it needs; may be repeated."
    select = click.option("--only", multiple=True, metavar="KIND", help=only_help)(select)
    return wave_options(select)


def _kind_name(text: str) -> str:
    return text.strip().lower().replace("-", "_").replace(" ", "_")


def is_several(
    tenants: Sequence[str], all_tenants: bool, selection: Selection, output: Path | None = None
) -> bool:
    """Whether a command is about several tenants.

    Raises click.UsageError when no tenant is given, or an option that is for one tenant only.
    """
    if bool(tenants) == all_tenants:
        raise click.UsageError("expected the tenants by their ids or names, or --all-tenants")
    several = all_tenants or len(tenants) > 1
    if several and output:
        raise click.UsageError("-o writes one plan: expected one tenant; give a command for each")
    if several and selection.names:
        options = ", ".join(dict.fromkeys(f"--{kind}" for kind, _ in selection.names))
        raise click.UsageError(f"{options} names what is in one tenant: expected one tenant")
    return several


def tenant_ids(source: Cloud, tenants: Sequence[str], all_tenants: bool) -> list[str]:
    """The ids of the tenants that were named, or of all; prints which ones `--all-tenants` leaves out."""
    from pumphouse.plan.lookup import all_tenants as find_all
    from pumphouse.plan.lookup import find_tenant, find_tenants

    if not all_tenants:
        return [find_tenant(source, tenants[0])] if len(tenants) == 1 else find_tenants(source, tenants)
    found = find_all(source)
    for text in found.left_out:
        click.echo(printable(f"note: left out of --all-tenants: {text}"), err=True)
    return found.ids


def plan_tenant(invocation: Invocation, tenant_id: str, selection: Selection, **choices: Any) -> Plan:
    """The plan of a tenant that is only shown; the tenant is not locked.

    choices: as those of `plan_after_runs`.
    """
    from pumphouse.plan.make import title
    from pumphouse.run.record import done_before
    from pumphouse.store import open_store

    with closing(open_store(invocation.config.state_url)) as store:
        before = done_before(store, tenant_id, title(invocation.source), title(invocation.destination))
    return plan_after_runs(before, invocation, tenant_id, selection=selection, **choices)


@dataclass(frozen=True)
class PlanFile:
    """A plan file, and how it is planned again: with what a person edited in it.

    invocation: that of the command, with the settings of the file.
    """

    path: Path
    plan: Plan
    edited: bool
    invocation: Invocation

    def replan(self, before: Mapping[Ref, Before] | None = None) -> Plan:
        """The plan of both clouds as they are now.

        before: what earlier runs of the tenant have done; None to look.
        """
        from pumphouse.plan.staleness import edits

        names, left_out = edits(self.plan)
        choices: dict[str, Any] = {"names": names, "left_out": left_out, "selection": self.plan.selection}
        tenant_id = self.plan.tenant.id
        if before is None:
            return plan_tenant(self.invocation, tenant_id, **choices)
        return plan_after_runs(before, self.invocation, tenant_id, **choices)

    def changes(self, now: Plan) -> tuple[str, ...]:
        """What has changed since the plan was made."""
        from pumphouse.plan.staleness import changes

        return changes(self.plan, now, edited=self.edited)


def read_plan(invocation: Invocation, path: Path) -> PlanFile:
    """Read a plan file that is for the clouds of the configuration."""
    from pumphouse.plan.file import load

    loaded = load(path)
    invocation = replace(invocation, plan=loaded.plan)
    refuse_other_clouds(invocation, loaded.plan, str(path))
    return PlanFile(path, loaded.plan, loaded.edited, invocation)


def plan_after_runs(
    before: Mapping[Ref, Before], invocation: Invocation, tenant_id: str, **choices: Any
) -> Plan:
    """The plan of a tenant, made of both clouds as they are now.

    before: what earlier runs of the tenant have done.
    choices: what the operator chose: `selection`, `names`, `left_out`.
    """
    from pumphouse.cloud.outage import not_waited_for
    from pumphouse.plan.make import make_plan
    from pumphouse.show.status import status_line

    source, destination = invocation.clouds
    with (
        source.session.reading_once(),
        destination.session.reading_once(),
        ThreadPoolExecutor(invocation.config.limits.workers) as pool,
        not_waited_for(source.outages, destination.outages),
        status_line("planning: reading both clouds"),
    ):
        return make_plan(source, destination, tenant_id, invocation.config, pool, before=before, **choices)


def show_plan(invocation: Invocation, plan: Plan, output: Path | None, detail: str = "RESOURCES") -> None:
    """Print a plan, and write it to a file if one is named.

    detail: how much of it is printed unless an option says so, by the names of `pumphouse.show.plan.Detail`.
    """
    from pumphouse.plan.data import plan_data
    from pumphouse.show.plan import Detail, print_plan

    if output:
        from pumphouse.plan.file import save_plan

        save_plan(plan, output)
    if not invocation.is_table:
        invocation.print_data(plan_data(plan))
        return
    with invocation.console.paged():
        print_plan(plan, invocation.console, Detail[invocation.detail or detail])


def show_plans(
    invocation: Invocation, ids: Sequence[str], selection: Selection, detail: str = "RESOURCES"
) -> None:
    """Plan several tenants and print the plans: one after the other as tables, else as one list."""
    from pumphouse.plan.data import plan_data

    plans = (plan_tenant(invocation, tenant_id, selection) for tenant_id in ids)
    if not invocation.is_table:
        invocation.print_data([plan_data(plan) for plan in plans])
        return
    for plan in plans:
        show_plan(invocation, plan, None, detail)
        click.echo()
