"""`pumphouse finalize`: the marks come off what a run made; what was moved is deleted at the source if asked for."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from pumphouse.cli.invocation import Invocation, invocation_options, migration_of
from pumphouse.cli.options import yes_option
from pumphouse.cli.running import FINALIZE, work_on
from pumphouse.cli.runs import locked_run, run_argument
from pumphouse.cli.telling import log_json_option
from pumphouse.errors import EXIT_DECLINED, EXIT_DIFFERENT, EXIT_DONE, EXIT_INTERRUPTED, UsageError
from pumphouse.show.text import printable

if TYPE_CHECKING:
    from pumphouse.run.finalize import Finalize
    from pumphouse.run.record import Run


@click.command("finalize")
@run_argument
@click.option(
    "--delete-source",
    is_flag=True,
    help="Verify, then delete at the source what was moved and nobody else uses.",
)
@click.option(
    "--confirm",
    metavar="NAME",
    help="The name of the tenant: --delete-source asks for it, and --yes does not do.",
)
@yes_option("before it begins")
@log_json_option
@invocation_options()
def finalize_command(run: str, delete_source: bool, confirm: str | None, invocation: Invocation) -> None:
    """End a migration: take its marks off what it made, after which it cannot be reverted any more."""
    from pumphouse.run.finalize import (
        begin_removal,
        begun_removal,
        finalize_run,
        plan_finalize,
        refuse_unready,
    )
    from pumphouse.show.report import print_report

    if not (delete_source and confirm):
        invocation.refuse_unasked()
    with locked_run(invocation, run) as found:
        refuse_unready(found)
        out, migration = invocation.console, migration_of(invocation, found.plan)
        begun = begun_removal(found)
        removes = delete_source or bool(begun)
        plan = plan_finalize(found, migration, remove=removes)
        _print(plan, invocation)
        if begun:
            invocation.messages.print(
                f"note: the deletion was begun at {begun}, after a verify that passed; it goes on"
            )
        elif plan.removed and not _is_equal(found, invocation):
            invocation.messages.print(
                "nothing is deleted: the destination is not what the source is", style="bold red"
            )
            sys.exit(EXIT_DIFFERENT)
        if not (_confirmed(found, confirm) if removes else invocation.confirm("Take the marks off?")):
            sys.exit(EXIT_DECLINED)
        if removes and not begun:
            begin_removal(found)
        ended = work_on(invocation, found, partial(finalize_run, plan, migration), FINALIZE)
    if not invocation.is_table:
        invocation.print_data(ended.data)
    else:
        print_report(ended.data, out)
    again = f"pumphouse finalize {found.id}"
    if ended.code == EXIT_INTERRUPTED:
        click.echo(printable(f"interrupted: go on with {again}"), err=True)
    elif ended.code == EXIT_DONE:
        out.print(f"run {found.id} is finalized", style="bold green")
    else:
        out.print(f"not all is done: see above; try it again with {again}", style="bold red")
    sys.exit(ended.code)


def _print(plan: Finalize, invocation: Invocation) -> None:
    out, planned = invocation.messages, plan.run.plan
    out.print(f"Finalize run {plan.run.id} of tenant {planned.tenant_name}", style="bold")
    out.print(f"  take the marks off {len(plan.unmarked)} resources at {planned.destination}")
    for step in reversed(plan.removed):
        out.print(f"  delete {step.record.title} ({step.ref.id}) at the source")
    for step in planned.steps():
        if step.ref in plan.kept:
            out.print(f"  keep {step.record.title}: {plan.kept[step.ref]}", style="yellow")


def _is_equal(run: Run, invocation: Invocation) -> bool:
    """Whether all that was moved is at the destination as it is at the source; prints what is not."""
    from pumphouse.cli.verify import verify_run
    from pumphouse.show.verification import print_verification

    found = verify_run(invocation, run)
    print_verification(found, invocation.messages, show_equal=False)
    return found.is_equal


def _confirmed(run: Run, given: str | None) -> bool:
    """Whether the operator has typed the name of the tenant."""
    name = run.plan.tenant_name
    if given is None:
        if not sys.stdin.isatty():
            raise UsageError(
                "stdin is not a terminal: there is nobody to type the name of the tenant",
                f"give it by --confirm {name}; --yes does not do where something is deleted at the source",
            )
        question = f"Type the name of the tenant ({name}) to delete at the source what is listed above"
        given = click.prompt(printable(question), default="", show_default=False, err=True)
    if given == name:
        return True
    click.echo(printable(f"the tenant is named {name!r}, not {given!r}: nothing was changed"), err=True)
    return False
