"""`pumphouse check`: what both clouds offer."""

from __future__ import annotations

import click

from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.errors import PumphouseError


@click.command("check")
@invocation_options()
def check_command(invocation: Invocation) -> None:
    """Log in to both clouds and say what they offer and what will not be possible."""
    from pumphouse.cloud.check import check_clouds
    from pumphouse.show.report import check_data, print_check

    found = check_clouds(*invocation.clouds)
    if invocation.is_table:
        print_check(found, invocation.console)
    else:
        invocation.print_data(check_data(found))
    if found.too_old:
        raise PumphouseError("\n".join(found.too_old), "upgrade it first; Mitaka is the oldest that works")
