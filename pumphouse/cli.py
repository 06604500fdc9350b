"""The command line: parse, call, print. Whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pumphouse import __version__
from pumphouse.errors import (
    EXIT_CONNECTION,
    EXIT_FAILED,
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    ConfigError,
    PumphouseError,
    explain,
    http_status,
)

if TYPE_CHECKING:
    from rich.console import Console

    from pumphouse.cloud import Cloud
    from pumphouse.config import Config
    from pumphouse.model import Plan, Report
    from pumphouse.tasks.base import Migration

LOG = logging.getLogger(__name__)
FORMATS = click.Choice(["table", "json", "yaml"])


def main() -> None:
    """Run the command line; errors become one clear message and the documented exit code."""
    try:
        cli()
    except PumphouseError as error:
        _fail(error, error.exit_code)
    except Exception as error:  # the last line of defence: no traceback reaches the operator
        _fail(error, EXIT_CONNECTION if http_status(error) == 401 or _is_connection(error) else EXIT_FAILED)


def _fail(error: Exception, exit_code: int) -> None:
    LOG.debug("the command failed", exc_info=error)
    explanation = explain(error)
    for line in explanation.what.splitlines():
        click.echo(f"error: {line}", err=True)
    if explanation.hint:
        click.echo(f"hint: {explanation.hint}", err=True)
    if explanation.request_id:
        click.echo(f"request: {explanation.request_id}", err=True)
    sys.exit(exit_code)


def _is_connection(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectionError", "ConnectFailure", "ConnectTimeout", "SSLFailure"})


def _set_logging(_context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Log to stderr: ours from `-v` on, the clients' too with `--debug`, never a secret."""
    if not value:
        return
    from pumphouse.transport import SecretFilter

    handler = logging.StreamHandler()
    handler.addFilter(SecretFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    debug = parameter.name == "debug"
    logger = logging.getLogger() if debug else logging.getLogger("pumphouse")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)


def _logging_options(command: Callable[..., Any]) -> Callable[..., Any]:
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


def _cloud_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--destination-cloud", metavar="NAME", help="A cloud of clouds.yaml, instead of the file's."
        ),
        click.option("--source-cloud", metavar="NAME", help="A cloud of clouds.yaml, instead of the file's."),
        click.option(
            "--config",
            "config_path",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="The configuration; else $PUMPHOUSE_CONFIG, ./pumphouse.yaml, ~/.config/pumphouse/pumphouse.yaml.",
        ),
        click.option("-f", "--format", "output_format", type=FORMATS, default="table", show_default=True),
    ):
        command = option(command)
    return _logging_options(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pumphouse")
@_logging_options
def cli() -> None:
    """Move a tenant from one OpenStack cloud to another.

    Exit codes: 0 done or nothing to do, 1 failed, 2 usage or configuration, 3 finished but some resources
    failed or need a decision, 4 authentication or connection, 130 interrupted.
    """


@cli.command()
@_cloud_options
def check(
    config_path: Path | None, source_cloud: str | None, destination_cloud: str | None, output_format: str
) -> None:
    """Log in to both clouds and say what they offer and what will not be possible."""
    from pumphouse.check import check as check_clouds
    from pumphouse.report import check_data, console, dump, print_check

    config = _load(config_path, source_cloud, destination_cloud)
    found = check_clouds(*_clouds(config, read_only=True))
    if output_format != "table":
        click.echo(dump(check_data(found), output_format))
    else:
        print_check(found, console())


@cli.group()
def migrate() -> None:
    """Move resources to the destination."""


@migrate.command()
@click.argument("tenant", metavar="ID_OR_NAME")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; nothing is written to either cloud.")
@click.option("--yes", is_flag=True, help="Do not ask before the run.")
@_cloud_options
def tenant(
    tenant: str,
    dry_run: bool,
    yes: bool,
    config_path: Path | None,
    source_cloud: str | None,
    destination_cloud: str | None,
    output_format: str,
) -> None:
    """Move a tenant: users, roles, images, flavors, keypairs, networks, security groups and servers."""
    from pumphouse.plan import find_tenant, make_plan
    from pumphouse.report import console, dump, plan_data, print_plan, print_report, report_data

    config = _load(config_path, source_cloud, destination_cloud)
    source, destination = _clouds(config, read_only=True)
    _refuse_same_cloud(config, source, destination)
    with ThreadPoolExecutor(config.limits.workers) as pool:
        plan = make_plan(source, destination, find_tenant(source, tenant), config, pool)
    migration = _migration(config, source, destination, plan)
    if dry_run and output_format != "table":
        click.echo(dump(plan_data(plan, migration), output_format))
        return
    out = console(stderr=output_format != "table")
    print_plan(plan, migration, out)
    if dry_run:
        return
    if not yes and not click.confirm("Start?", err=output_format != "table"):
        return
    source.session.read_only = destination.session.read_only = False
    report, interrupted = _run(plan, migration, config, out)
    if output_format != "table":
        click.echo(dump(report_data(report), output_format))
    else:
        print_report(report, out)
    sys.exit(EXIT_INTERRUPTED if interrupted else _exit_code(report))


def _load(path: Path | None, source_cloud: str | None, destination_cloud: str | None) -> Config:
    from pumphouse.config import load

    config = load(path, source_cloud=source_cloud, destination_cloud=destination_cloud)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    return config


def _clouds(config: Config, read_only: bool) -> tuple[Cloud, Cloud]:
    """Both clouds, logged in."""
    from pumphouse.cloud import Cloud

    pairs = (("source", config.source), ("destination", config.destination))
    source, destination = (
        Cloud(cloud, name=name, limits=config.limits, read_only=read_only) for name, cloud in pairs
    )
    source.login()
    destination.login()
    return source, destination


def _refuse_same_cloud(config: Config, source: Cloud, destination: Cloud) -> None:
    from pumphouse.cloud import same_keystone

    if not config.policies.allow_same_cloud and same_keystone(source, destination):
        raise ConfigError(
            [f"source and destination are the same cloud ({source.auth_url})"],
            "set policies.allow_same_cloud to true if you mean it",
        )


def _migration(config: Config, source: Cloud, destination: Cloud, plan: Plan) -> Migration:
    from pumphouse.tasks.base import Migration
    from pumphouse.transfer import TransferLimits

    transfers = TransferLimits(config.limits.transfers, config.limits.bytes_per_second)
    return Migration(source, destination, plan.settings, transfers)


def _run(plan: Plan, migration: Migration, config: Config, out: Console) -> tuple[Report, bool]:
    """Run the plan; returns the report, and whether it was interrupted."""
    from pumphouse.progress import shown
    from pumphouse.run import run
    from pumphouse.store import open_store

    with (
        closing(open_store(config.state_url)) as store,
        _interruptible() as stop,
        shown(plan, out) as listener,
    ):
        report = run(plan, migration, config.limits, listener, stop, store)
    return report, stop.is_set()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one ends the process as usual."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(number: int, _frame: object) -> None:
        stop.set()
        click.echo(
            "interrupted: what runs is finished, nothing else is started; again to stop at once", err=True
        )
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(report: Report) -> int:
    from pumphouse.model import State

    bad = {State.FAILED, State.BLOCKED, State.CONFLICT}
    return EXIT_INCOMPLETE if bad & set(report.count()) else 0
