"""The options that several commands have, as decorators."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from pumphouse.cli.completion import complete_clouds
from pumphouse.cli.logs import log_more

# The year that a time of day is parsed with.
_NO_DAY = 1900
FORMATS = ("table", "json", "yaml", "csv", "value")

Command = Callable[..., Any]


def _set_logging(_context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Log to stderr: ours from `-v` on, the clients' too with `--debug`, never a secret."""
    if value:
        log_more(debug=parameter.name == "debug")


def logging_options(command: Command) -> Command:
    """`-v` and `--debug`."""
    options: dict[str, Any] = {
        "expose_value": False,
        "callback": _set_logging,
        "is_flag": True,
        "is_eager": True,
    }
    command = click.option("--debug", help="Log all that the clients do, without secrets.", **options)(
        command
    )
    return click.option("-v", "--verbose", help="Log what pumphouse does.", **options)(command)


def format_option(*more: str) -> Callable[[Command], Command]:
    """`--format`; more: the formats that a command has besides those of all."""
    formats = click.Choice([*FORMATS, *more])
    return click.option("-f", "--format", "output_format", type=formats, default="table", show_default=True)


def column_option(command: Command) -> Command:
    """`--column`."""
    help_text = "Only this column of the resources, runs or ids that are listed; may be repeated."
    return click.option("-c", "--column", "columns", multiple=True, metavar="COLUMN", help=help_text)(command)


def _set_color(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value:
        os.environ["PUMPHOUSE_COLOR"] = value


def color_option(command: Command) -> Command:
    """`--color`."""
    return click.option(
        "--color", type=click.Choice(["auto", "always", "never"]), envvar="PUMPHOUSE_COLOR", is_eager=True,
        expose_value=False, callback=_set_color, help="Whether to use colours; $NO_COLOR stands for never.",
    )(command)  # fmt: skip


def config_option(command: Command) -> Command:
    """`--config`, `--color` and the logging options."""
    option = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The configuration; else $PUMPHOUSE_CONFIG, ./pumphouse.yaml, ~/.config/pumphouse/pumphouse.yaml.",
    )
    return logging_options(color_option(option(command)))


def cloud_options(command: Command) -> Command:
    """`--source-cloud` and `--destination-cloud`."""
    for name in ("destination", "source"):
        help_text = "A cloud of clouds.yaml, instead of the file's."
        option = click.option(
            f"--{name}-cloud", metavar="NAME", help=help_text, shell_complete=complete_clouds
        )
        command = option(command)
    return command


def _bytes_per_second(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if text == "none":
        return 0
    if not re.fullmatch(r"[1-9][0-9]{0,14} ?(([kKMGT]i?)?B)?", text.removesuffix("/s")):
        raise click.BadParameter(
            f"{text!r}: expected bytes per second, alone or with a unit as in 100MiB, or none"
        )
    from pumphouse.config.settings import number

    digits = text.removesuffix("/s")
    return int(digits) if digits.isdigit() else number(digits)


def limit_options(command: Command) -> Command:
    """`--workers`, `--transfers` and `--limit-rate`, which are for this command instead of the configuration's limits."""
    workers = click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="API calls at a time.")
    return workers(transfer_options(command))


def transfer_options(command: Command) -> Command:
    """`--transfers` and `--limit-rate`."""
    rate = click.option(
        "--limit-rate",
        "bytes_per_second",
        callback=_bytes_per_second,
        metavar="BYTES",
        help="Bytes per second of all copies together, e.g. 100MiB; none for no limit.",
    )
    transfers = click.option(
        "--transfers", type=click.IntRange(1, 64), metavar="N", help="Image copies at a time."
    )
    return transfers(rate(command))


def yes_option(moment: str) -> Callable[[Command], Command]:
    """`--yes`; moment: when the command would ask, e.g. `before the run`."""
    return click.option("--yes", is_flag=True, help=f"Do not ask {moment}.")


def keep_running_option(command: Command) -> Command:
    """`--keep-running`."""
    help_text = "Leave the servers of the source running: their disks are copied as after a loss of power."
    return click.option("--keep-running", is_flag=True, help=help_text)(command)


def until_option(command: Command) -> Command:
    """`--until`."""

    def coming(
        _context: click.Context, _parameter: click.Parameter, given: datetime | None
    ) -> datetime | None:
        """The next time at which it is that o'clock, or that moment itself."""
        if given is None:
            return None
        now = datetime.now().astimezone()
        if given.year > _NO_DAY:
            return given.astimezone()
        today = now.replace(hour=given.hour, minute=given.minute, second=0, microsecond=0)
        return today if today > now else today + timedelta(days=1)

    return click.option(
        "--until",
        type=click.DateTime(["%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]),
        callback=coming,
        help="Begin with nothing that will not be done by this time, local time, as the plan estimates it; the run is "
        "then suspended and can be resumed.",
    )(command)


def plan_output_option(command: Command) -> Command:
    """`-o`."""
    help_text = "Write the plan to this file, YAML or JSON by its name."
    return click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help=help_text)(
        command
    )


def detail_options(command: Command) -> Command:
    """How much of a plan is printed: `--summary`, `--only-problems`, `--tasks`."""
    for flag, detail, help_text in (
        ("--tasks", "TASKS", "Print all of the plan: also every task, in the order of the run."),
        ("--only-problems", "PROBLEMS", "Print what matters and all notes, without resources and tasks."),
        ("--summary", "SUMMARY", "Print one page of what matters."),
    ):
        command = click.option(flag, "detail", flag_value=detail, help=help_text)(command)
    return command


def force_option(command: Command) -> Command:
    """`--force`."""
    return click.option(
        "--force", "force_start", is_flag=True, help="Start although something stands in the way."
    )(command)
