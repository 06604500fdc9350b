"""`pumphouse verify`: compare a tenant at both clouds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pumphouse.cli.invocation import Invocation, invocation_options, refuse_other_clouds
from pumphouse.errors import EXIT_DIFFERENT, EXIT_DONE, UsageError

if TYPE_CHECKING:
    from taskflow.persistence.base import Backend

    from pumphouse.model import Plan, Ref
    from pumphouse.run.record import Run
    from pumphouse.verify import Known


@click.group("verify")
def verify_command() -> None:
    """Compare what a migration moved; nothing is written to either cloud."""


@verify_command.command("tenant")
@click.argument("tenant", metavar="ID_OR_NAME")
@click.option("--run", metavar="RUN", help="Take the ids from this recorded run, not from stamps and names.")
@click.option("--deep", is_flag=True, help="Read the bytes of the tenant's images at both clouds.")
@invocation_options()
def tenant_command(tenant: str, run: str | None, deep: bool, invocation: Invocation) -> None:
    """Read a tenant and its twin afresh and compare them field by field; exit code 6 when anything differs."""
    from pumphouse.plan.lookup import find_tenant
    from pumphouse.show.verification import print_verification, verification_data
    from pumphouse.verify import verify

    source, destination = invocation.clouds
    tenant_id = find_tenant(source, tenant)
    known = _known(invocation, tenant_id, run)
    mappings = asdict(invocation.config.mappings)
    found = verify(source, destination, tenant_id, mappings, known, deep=deep)
    if invocation.is_table:
        print_verification(found, invocation.console)
    else:
        invocation.print_data(verification_data(found))
    sys.exit(EXIT_DONE if found.is_equal else EXIT_DIFFERENT)


def _known(invocation: Invocation, tenant_id: str, wanted: str | None) -> Known:
    """What the state store knows of a tenant.

    wanted: the run to take the ids and names from; of the other runs only the statuses of servers are taken.
    """
    from pumphouse.run.record import find_book, load_run
    from pumphouse.store import open_store
    from pumphouse.verify import Known

    with closing(open_store(invocation.config.state_url)) as store:
        statuses = _statuses(invocation, store, tenant_id)
        if wanted is None:
            return Known(statuses=statuses)
        run = load_run(store, find_book(store, wanted))
        refuse_other_clouds(invocation, run.plan, f"run {run.id}")
        return _known_of_run(run, tenant_id, statuses)


def _statuses(invocation: Invocation, store: Backend, tenant_id: str) -> dict[Ref, str]:
    """The statuses that the servers of the source had before the runs of the tenant stopped them."""
    from pumphouse.plan.make import title
    from pumphouse.run.record import load_run, tenant_books

    books = tenant_books(store, tenant_id, title(invocation.source), title(invocation.destination))
    return {
        step.ref: step.record.data["status"]
        for book in books
        for step in load_run(store, book).plan.steps()
        if step.ref.kind == "server" and step.destination_id is None and "status" in step.record.data
    }


def _known_of_run(run: Run, tenant_id: str, statuses: Mapping[Ref, str]) -> Known:
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
