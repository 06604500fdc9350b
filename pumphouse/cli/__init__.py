"""The command line: parse, call, print. Whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import logging
import re
import sys
from importlib import import_module

import click

from pumphouse import __version__
from pumphouse.cli.logs import log_file, log_warnings
from pumphouse.cli.options import logging_options
from pumphouse.errors import EXIT_CODES, EXIT_CONNECTION, EXIT_FAILED, EXIT_INTERRUPTED, explain
from pumphouse.show.text import printable

LOG = logging.getLogger(__name__)

# Each command's module, in which it is named `<command>_command`, and what the list of commands says of it: the
# beginning of its own help, which a test holds it to.
COMMANDS = {
    "check": ("check", "Log in to both clouds and say what they offer and what will not be possible."),
    "cleanup": (
        "cleanup",
        "Remove the temporary images, snapshots, volumes, roles and keypairs that runs have left at both clouds.",
    ),
    "completion": ("completion", "Print what makes a shell complete commands, options, runs and tenants."),
    "config": ("config", "Show the configuration that is in force, and every setting there is."),
    "doctor": (
        "doctor",
        "Print what to paste into a ticket: versions, settings, state and the end of the log, without secrets.",
    ),
    "finalize": (
        "finalize",
        "End a migration: take its marks off what it made, after which it cannot be reverted any more.",
    ),
    "ids": (
        "ids",
        "Map the ids of the source to those of the destination, over all runs that were not reverted.",
    ),
    "init": ("init", "Write a commented configuration for two clouds of the clouds.yaml that is found."),
    "migrate": (
        "migrate",
        "Move resources to the destination: tenants, one resource with what it needs, or what a plan file says.",
    ),
    "plan": ("plan", "Make plans and look at them; nothing is written to either cloud."),
    "report": (
        "report",
        "Give the report of a run again: all ids, hashes of what was copied, how long servers were down.",
    ),
    "resume": ("runs", "Go on with a run that was interrupted, or try again what failed in it."),
    "revert": (
        "runs",
        "Undo a run: remove what it made, keep what it found, start the servers that it stopped.",
    ),
    "runs": ("runs", "Look at the runs that the state store has; also while they go on."),
    "verify": ("verify", "Compare what a migration moved; nothing is written to either cloud."),
}


# Each option can be set by a variable, too, such as PUMPHOUSE_MIGRATE_TENANT_YES.
_SETTINGS = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PUMPHOUSE"}


class LateGroup(click.Group):
    """A group that imports a command when it is called, and none of them to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, imported; None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pumphouse.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with what they do."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])


def main() -> None:
    """Run the command line; errors become one clear message and the documented exit code."""
    log_warnings()
    begun: list[str] = []
    try:
        sys.exit(cli(standalone_mode=False, obj=begun))
    except click.ClickException as error:
        error.show()
        # Newer releases of click say it of commands themselves.
        if "Did you mean" not in error.format_message() and (meant := _meant(error)):
            click.echo(printable(f"hint: did you mean {meant!r}?"), err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        told = f"see what was done with pumphouse runs list, go on with {begun[-1]}" if begun else ""
        click.echo(printable(f"interrupted: {told or 'nothing was changed'}"), err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # no traceback reaches the operator
        _fail(error)


def _meant(error: click.ClickException) -> str | None:
    """What was probably meant by a command, or by the value of an option, that is not known."""
    from pumphouse.config.schema import closest

    found = re.search(r"^No such command '([^']*)'|^'(.*)' is not one of (.*)\.$", error.message)
    if found is None or not isinstance(error, click.UsageError) or error.ctx is None:
        return None
    known = re.findall(r"'([^']*)'", found[3] or "")
    if found[1] and isinstance(error.ctx.command, click.Group):
        known = error.ctx.command.list_commands(error.ctx)
    return closest((found[1] or found[2]).lower(), known)


def _fail(error: Exception) -> None:
    from pumphouse.cli.running import failure_code

    LOG.debug("the command failed", exc_info=error)
    explanation = explain(error)
    for line in explanation.what.split("\n"):
        click.echo(printable(f"error: {line}"), err=True)
    if explanation.hint:
        click.echo(printable(f"hint: {explanation.hint}"), err=True)
    if explanation.request_id:
        click.echo(printable(f"request: {explanation.request_id}"), err=True)
    code = failure_code(error)
    if code in (EXIT_FAILED, EXIT_CONNECTION) and log_file():
        click.echo(printable(f"log: {log_file()}"), err=True)
    sys.exit(code)


@click.group(cls=LateGroup, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="pumphouse")
@logging_options
def cli() -> None:
    """Move a tenant from one OpenStack cloud to another."""
