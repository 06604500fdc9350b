"""The command line: parse, call, print. Whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import logging
import sys

import click

from pumphouse import __version__
from pumphouse.cli.invocation import Invocation, invocation_options
from pumphouse.cli.migrate import migrate_command
from pumphouse.cli.options import logging_options
from pumphouse.cli.plan import plan_command
from pumphouse.cli.running import failure_code
from pumphouse.cli.runs import resume_command, revert_command, runs_command
from pumphouse.cli.verify import verify_command
from pumphouse.errors import EXIT_INTERRUPTED, explain
from pumphouse.show.text import printable

LOG = logging.getLogger(__name__)


def main() -> None:
    """Run the command line; errors become one clear message and the documented exit code."""
    # They log the traceback of every failure, which Python prints where no handler is set.
    for name in ("taskflow", "oslo_utils", "kazoo", "sqlalchemy", "alembic"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    begun: list[str] = []
    try:
        sys.exit(cli(standalone_mode=False, obj=begun))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        told = f"see what was done with pumphouse runs list, go on with {begun[-1]}" if begun else ""
        click.echo(printable(f"interrupted: {told or 'nothing was changed'}"), err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # no traceback reaches the operator
        _fail(error)


def _fail(error: Exception) -> None:
    LOG.debug("the command failed", exc_info=error)
    explanation = explain(error)
    for line in explanation.what.split("\n"):
        click.echo(printable(f"error: {line}"), err=True)
    if explanation.hint:
        click.echo(printable(f"hint: {explanation.hint}"), err=True)
    if explanation.request_id:
        click.echo(printable(f"request: {explanation.request_id}"), err=True)
    sys.exit(failure_code(error))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pumphouse")
@logging_options
def cli() -> None:
    """Move a tenant from one OpenStack cloud to another.

    Exit codes: 0 all is there or was left out by you, 1 failed, 2 usage or configuration, 3 finished but
    something of the tenant is not at the destination, 4 authentication or connection, 5 the plan is out of date, 6 verify
    found differences, 7 another run works on the tenant, 8 not started because you said no, 130 interrupted
    and can be resumed.
    """


@cli.command("check")
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


for command in (migrate_command, plan_command, runs_command, resume_command, revert_command, verify_command):
    cli.add_command(command)
