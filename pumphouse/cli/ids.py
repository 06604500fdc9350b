"""`pumphouse ids`: what became of what, over all runs."""

from __future__ import annotations

import click

from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.cli.runs import open_recorded
from pumphouse.errors import NotFoundError


@click.command("ids")
@click.argument("old", required=False)
@invocation_options(clouds=False)
def ids_command(old: str | None, invocation: Invocation) -> None:
    """Map the ids of the source to those of the destination, over all runs that were not reverted.

    OLD: the id, or the beginning of it, or the name of what is looked for; all without it.
    """
    from pumphouse.run.summary import all_ids
    from pumphouse.show.runs import print_ids

    with open_recorded(invocation.config_path) as store:
        found = [item for item in all_ids(store) if old is None or _is(item, old)]
    if old is not None and not found:
        raise NotFoundError(f"no run knows {old!r}", "list what they know with: pumphouse ids")
    if invocation.is_table:
        print_ids(found, invocation.console)
    else:
        invocation.print_data(found)


def _is(item: dict[str, str], wanted: str) -> bool:
    return wanted == item["name"] or item["source_id"].startswith(wanted)
