"""`pumphouse verify`: compare a tenant at both clouds."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pumphouse.cli.options import cloud_options, clouds, format_option, load, refuse_other_clouds
from pumphouse.errors import EXIT_DIFFERENT, EXIT_DONE

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.config.settings import Config
    from pumphouse.model import Plan, Ref
    from pumphouse.run.record import Run
    from pumphouse.verify import Known


@click.group()
def verify() -> None:
    """Compare what a migration moved; nothing is written to either cloud."""


@verify.command()
@click.argument("tenant", metavar="ID_OR_NAME")
@click.option("--run", metavar="RUN", help="Take the ids from this recorded run, not from stamps and names.")
@click.option("--deep", is_flag=True, help="Read the bytes of the tenant's images at both clouds.")
@format_option
@cloud_options
def tenant(
    tenant: str,
    run: str | None,
    deep: bool,
    output_format: str,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
) -> None:
    """Read a tenant and its twin afresh and compare them field by field; exit code 6 when anything differs."""
    from pumphouse.plan.lookup import find_tenant
    from pumphouse.show import verification as text
    from pumphouse.show.report import console, dump
    from pumphouse.verify import verify as compare

    config = load(config_path, source_cloud, destination_cloud)
    source, destination = clouds(config)
    tenant_id = find_tenant(source, tenant)
    known = _known(config, source, destination, tenant_id, run)
    found = compare(source, destination, tenant_id, asdict(config.mappings), known, deep=deep)
    if output_format != "table":
        click.echo(dump(text.data(found), output_format))
    else:
        text.show(found, console())
    sys.exit(EXIT_DONE if found.is_equal else EXIT_DIFFERENT)


def _known(config: Config, source: Cloud, destination: Cloud, tenant_id: str, wanted: str | None) -> Known:
    """What the state store tells of the tenant: of one run all, of the others which servers they stopped."""
    from pumphouse.plan.make import title
    from pumphouse.run.record import find_book, load_run, tenant_books
    from pumphouse.store import open_store
    from pumphouse.verify import Known

    with closing(open_store(config.state_url)) as store:
        books = tenant_books(store, tenant_id, title(source), title(destination))
        recorded = [load_run(store, book) for book in books]
        statuses = {
            step.ref: step.record.data["status"]
            for run in recorded
            for step in run.plan.steps()
            if step.ref.kind == "server" and step.destination_id is None and "status" in step.record.data
        }
        if wanted is None:
            return Known(statuses=statuses)
        run = load_run(store, find_book(store, wanted))
        refuse_other_clouds(run.plan, source, destination, f"run {run.id}")
        return _of_run(run, tenant_id, statuses)


def _of_run(run: Run, tenant_id: str, statuses: dict) -> Known:  # type: ignore[type-arg]
    from pumphouse.errors import UsageError
    from pumphouse.run.outcomes import build_report
    from pumphouse.verify import Known

    if run.plan.tenant.id != tenant_id:
        raise UsageError(
            f"run {run.id} is of tenant {run.plan.tenant_name}", "name that tenant, or another run"
        )
    outcomes = build_report(run.id, run.book.meta["state"], run.plan, run.all_details()).outcomes
    ids = {outcome.ref: outcome.destination_id for outcome in outcomes if outcome.destination_id}
    names = {step.ref: step.name for step in run.plan.steps() if step.name != step.record.name}
    return Known(ids, names, statuses, _chosen(run.plan))


def _chosen(plan: Plan) -> set[Ref] | None:
    """What a plan was to migrate; None when that is all of the tenant."""
    from pumphouse.plan.decide import LEFT_OUT
    from pumphouse.plan.selection import not_made

    left_out = {step.ref for step in plan.steps() if step.reason in (LEFT_OUT, not_made(step.ref.kind))}
    if not (plan.selection or plan.left_out or left_out):
        return None
    return {step.ref for step in plan.steps()} - left_out
