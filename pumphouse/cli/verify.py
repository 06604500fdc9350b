"""`pumphouse verify`: compare a tenant at both clouds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from pumphouse.cli.completion import complete_runs, complete_tenants
from pumphouse.cli.invocation import Invocation, invocation_options, refuse_other_clouds
from pumphouse.errors import EXIT_DIFFERENT, EXIT_DONE, UsageError
from pumphouse.model import Ref

if TYPE_CHECKING:
    from pumphouse.model import Plan, Step
    from pumphouse.run.record import Run
    from pumphouse.verify import Known, Verification


@click.group("verify")
def verify_command() -> None:
    """Compare what a migration moved; nothing is written to either cloud."""


@verify_command.command("tenant")
@click.argument("tenant", metavar="ID_OR_NAME", shell_complete=complete_tenants)
@click.option(
    "--run",
    metavar="RUN",
    shell_complete=complete_runs,
    help="Take the ids from this recorded run, not from stamps and names.",
)
@click.option("--deep", is_flag=True, help="Read the bytes of the tenant's images at both clouds.")
@click.option(
    "--all/--only-differences",
    "show_equal",
    help="List what is equal as well; it is only counted by default, except in JSON and YAML.",
)
@invocation_options()
def tenant_command(
    tenant: str, run: str | None, deep: bool, show_equal: bool, invocation: Invocation
) -> None:
    """Read a tenant and its twin afresh and compare them field by field; exit code 6 when anything differs."""
    from pumphouse.plan.lookup import find_tenant
    from pumphouse.show.verification import print_verification, verification_data

    found = _verified(invocation, find_tenant(invocation.source, tenant), run, deep=deep)
    if invocation.is_table:
        print_verification(found, invocation.console, show_equal=show_equal)
    else:
        invocation.print_data(verification_data(found))
    sys.exit(EXIT_DONE if found.is_equal else EXIT_DIFFERENT)


def verify_run(invocation: Invocation, run: Run) -> Verification:
    """Compare what a run moved at both clouds."""
    return _verified(invocation, run.plan.tenant.id, run.id, deep=False)


def _verified(invocation: Invocation, tenant_id: str, run: str | None, *, deep: bool) -> Verification:
    from pumphouse.show.status import status_line
    from pumphouse.verify import verify

    known, mappings = _known(invocation, tenant_id, run), asdict(invocation.config.mappings)
    with status_line("reading both clouds", piped=True) as say:
        return verify(
            *invocation.clouds,
            tenant_id,
            mappings,
            known,
            deep=deep,
            progress=lambda what: say(f"read {what}"),
        )


def _known(invocation: Invocation, tenant_id: str, wanted: str | None) -> Known:
    """What the operator chose, and what the state store knows of a tenant.

    wanted: the run to take the ids, the policies and the choice from; of the other runs only the names that their plans
    gave and the statuses of servers are taken.
    """
    from pumphouse.plan.make import title
    from pumphouse.run.record import find_book, load_run, tenant_books
    from pumphouse.store import open_store
    from pumphouse.verify import Known

    with closing(open_store(invocation.config.state_url)) as store:
        books = tenant_books(store, tenant_id, title(invocation.source), title(invocation.destination))
        steps = [step for book in books for step in load_run(store, book).plan.steps()]
        known = Known(
            names={step.ref: step.name for step in steps},
            statuses=_statuses(steps),
            policies=asdict(invocation.config.policies),
        )
        if wanted is None:
            return known
        run = load_run(store, find_book(store, wanted))
        refuse_other_clouds(invocation, run.plan, f"run {run.id}")
        return _known_of_run(run, tenant_id, known)


def _statuses(steps: Iterable[Step]) -> dict[Ref, str]:
    """The statuses that the servers of the source had before the runs of the tenant stopped them."""
    return {
        step.ref: step.record.data["status"]
        for step in steps
        if step.ref.kind == "server" and step.destination_id is None and "status" in step.record.data
    }


def _known_of_run(run: Run, tenant_id: str, known: Known) -> Known:
    from pumphouse.run.outcomes import build_report

    if run.plan.tenant.id != tenant_id:
        raise UsageError(
            f"run {run.id} is of tenant {run.plan.tenant_name}", "name that tenant, or another run"
        )
    outcomes = build_report(run.id, run.book.meta["state"], run.plan, run.all_details()).outcomes
    return replace(
        known,
        ids={outcome.ref: outcome.destination_id for outcome in outcomes if outcome.destination_id},
        names={step.ref: step.name for step in run.plan.steps()},
        chosen=_chosen(run.plan),
        policies=run.plan.settings["policies"],
    )


def _chosen(plan: Plan) -> set[Ref] | None:
    """What a plan was to migrate; None when that is all of the tenant."""
    from pumphouse.model import LEFT_OUT, not_made
    from pumphouse.verify import COUNTED

    left_out = {step.ref for step in plan.steps() if step.reason in (LEFT_OUT, not_made(step.ref.kind))}
    if not (plan.selection or plan.left_out or left_out):
        return None
    # No plan has these, so that only a selection leaves them out.
    counted = (
        [] if plan.selection.is_narrow else [kind for kind in COUNTED if kind not in plan.selection.skip]
    )
    return {step.ref for step in plan.steps()} - left_out | {Ref(kind, plan.tenant.id) for kind in counted}
