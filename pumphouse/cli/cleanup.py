"""`pumphouse cleanup`: remove what runs have left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

import click

from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.cli.options import yes_option
from pumphouse.errors import EXIT_DECLINED, EXIT_DONE, EXIT_INCOMPLETE

if TYPE_CHECKING:
    from pumphouse.run.cleanup import Leftover
    from pumphouse.show.console import PrintableConsole


@click.command("cleanup")
@click.option("--dry-run", is_flag=True, help="List it and stop; nothing is removed.")
@yes_option("before it begins")
@invocation_options()
def cleanup_command(dry_run: bool, invocation: Invocation) -> None:
    """Remove the temporary images, snapshots, volumes, roles and keypairs that runs have left at both clouds.

    Only what a run of this state store has noted, and that run is over; what else looks like it is listed.
    """
    from pumphouse.plan.make import title
    from pumphouse.run.cleanup import find_leftovers, remove_leftovers
    from pumphouse.store import open_store
    from pumphouse.words import counted

    if not dry_run:
        invocation.refuse_unasked()
    out = invocation.console
    source, destination = invocation.clouds
    with closing(open_store(invocation.config.state_url)) as store:
        found = find_leftovers(store, source, destination, (title(source), title(destination)))
        wanted = [leftover for leftover in found if not leftover.kept_reason]
        _print(found, out if dry_run or not wanted else invocation.messages)
        stays: dict[str, str] = {}
        if wanted and not dry_run:
            if not invocation.confirm(f"Remove {counted(len(wanted), 'leftover')}?"):
                sys.exit(EXIT_DECLINED)
            with invocation.writable():
                for leftover, why in remove_leftovers(store, wanted):
                    stays |= {leftover.title: why} if why else {}
                    text = f"  {leftover.title} stays: {why}" if why else f"  removed {leftover.title}"
                    out.print(text, style="red" if why else "default")
    if not invocation.is_table:
        invocation.print_data([{**leftover.data, "stays": stays.get(leftover.title)} for leftover in found])
    sys.exit(EXIT_INCOMPLETE if stays else EXIT_DONE)


def _print(found: Iterable[Leftover], out: PrintableConsole) -> None:
    for leftover in found:
        action = "keep" if leftover.kept_reason else "remove"
        made_by = f", by run {leftover.run.id}" if leftover.run else ""
        out.print(f"  {action} {leftover.title}, made for {leftover.made_for}{made_by}", soft_wrap=True)
        if leftover.kept_reason:
            out.print(f"    because {leftover.kept_reason}", style="yellow", soft_wrap=True)
    if not found:
        out.print("nothing is left behind", style="green")
