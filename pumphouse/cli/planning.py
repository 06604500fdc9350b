"""What `pumphouse migrate` and `pumphouse plan` share: which tenants, what of them, and their plans."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pumphouse.cli.options import clouds, load, refuse_same_cloud
from pumphouse.model import Selection
from pumphouse.plan.selection import NAMED_KINDS

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.config.settings import Config
    from pumphouse.model import Plan


class Way(NamedTuple):
    """The configuration, and both clouds, logged in."""

    config: Config
    source: Cloud
    destination: Cloud

    def read_only(self, value: bool) -> None:
        """Have both clouds refuse every write, or not."""
        self.source.session.read_only = self.destination.session.read_only = value


def way(config_path: Path | None, source_cloud: str | None, destination_cloud: str | None) -> Way:
    """From which cloud to which, as the options say; ConfigError when they are the same and it is not meant."""
    config = load(config_path, source_cloud, destination_cloud)
    source, destination = clouds(config)
    refuse_same_cloud(config, source, destination)
    return Way(config, source, destination)


def plan_output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-o`."""
    help_text = "Write the plan to this file, YAML or JSON by its name."
    return click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help=help_text)(
        command
    )


def tenants_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """One tenant or several, or `--all-tenants`."""
    help_text = (
        "All tenants of all domains, disabled ones too, but not the operator's own project and not service."
    )
    command = click.option("--all-tenants", is_flag=True, help=help_text)(command)
    return click.argument("tenants", nargs=-1, metavar="ID_OR_NAME...")(command)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--only`, `--skip` and an option for each kind that can be named; the command is given a Selection."""

    @functools.wraps(command)
    def selecting(*args: Any, only: Sequence[str], skip: Sequence[str], **kwargs: Any) -> Any:
        names = tuple((kind, name) for kind in NAMED_KINDS for name in kwargs.pop(kind))
        selection = Selection(tuple(map(_kind, only)), tuple(map(_kind, skip)), names)
        return command(*args, selection=selection, **kwargs)

    for kind in reversed(NAMED_KINDS):
        help_text = f"Only this {kind}, and what it needs; may be repeated."
        option = click.option(f"--{kind}", multiple=True, metavar="NAME_OR_ID", help=help_text)
        selecting = option(selecting)
    skip_help = "Make nothing of this kind: what needs it is skipped too, unless the destination has it."
    selecting = click.option("--skip", multiple=True, metavar="KIND", help=f"{skip_help} May be repeated.")(
        selecting
    )
    only_help = "Only what is of this kind, as the plan names kinds, and what it needs; may be repeated."
    return click.option("--only", multiple=True, metavar="KIND", help=only_help)(selecting)


def _kind(text: str) -> str:
    return text.strip().lower().replace("-", "_").replace(" ", "_")


def is_several(
    tenants: Sequence[str], all_tenants: bool, selection: Selection, output: Path | None = None
) -> bool:
    """Whether a command is about several tenants; click.UsageError when its options do not fit that."""
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
    """The ids of the tenants that were named; what `--all-tenants` leaves out is said."""
    from pumphouse.plan.lookup import all_tenants as find_all
    from pumphouse.plan.lookup import find_tenant, find_tenants

    if not all_tenants:
        return [find_tenant(source, tenants[0])] if len(tenants) == 1 else find_tenants(source, tenants)
    found = find_all(source)
    for text in found.left_out:
        click.echo(f"note: left out of --all-tenants: {text}", err=True)
    return found.ids


def plan_tenant(way: Way, tenant_id: str, selection: Selection) -> Plan:
    """The plan of a tenant, with what the state store knows of earlier runs."""
    from pumphouse.plan.make import title
    from pumphouse.run.record import done_before
    from pumphouse.store import open_store

    with closing(open_store(way.config.state_url)) as store:
        before = done_before(store, tenant_id, title(way.source), title(way.destination))
    return make(way, tenant_id, before, selection=selection)


def make(way: Way, tenant_id: str, before: Any, **edits: Any) -> Plan:
    """The plan of a tenant, with what earlier runs of it have done and what a person wants otherwise."""
    from pumphouse.plan.make import make_plan

    with (
        way.source.session.one_look(),
        way.destination.session.one_look(),
        ThreadPoolExecutor(way.config.limits.workers) as pool,
    ):
        return make_plan(way.source, way.destination, tenant_id, way.config, pool, before=before, **edits)


def show_plan(plan: Plan, output: Path | None, output_format: str) -> None:
    """Print a plan, and write it to a file if one is named."""
    from pumphouse.plan.data import plan_data
    from pumphouse.plan.file import save
    from pumphouse.show.report import console, dump, print_plan

    if output:
        save(plan_data(plan), output)
    if output_format != "table":
        click.echo(dump(plan_data(plan), output_format))
    else:
        print_plan(plan, console())


def show_plans(way: Way, ids: Sequence[str], selection: Selection, output_format: str) -> None:
    """Plan several tenants and print the plans: one after the other as tables, else as one list."""
    from pumphouse.plan.data import plan_data
    from pumphouse.show.report import dump

    plans = (plan_tenant(way, tenant_id, selection) for tenant_id in ids)
    if output_format != "table":
        click.echo(dump([plan_data(plan) for plan in plans], output_format))
        return
    for plan in plans:
        show_plan(plan, None, output_format)
        click.echo()
