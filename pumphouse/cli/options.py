"""What the commands share: options, the configuration, the clouds, the state store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pumphouse.errors import ConfigError

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud
    from pumphouse.config.settings import Config
    from pumphouse.model import Plan
    from pumphouse.tasks.base import Migration

FORMATS = click.Choice(["table", "json", "yaml"])


def _set_logging(_context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Log to stderr: ours from `-v` on, the clients' too with `--debug`, never a secret."""
    if not value:
        return
    from pumphouse.cloud.transport import SecretFilter

    handler = logging.StreamHandler()
    handler.addFilter(SecretFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    debug = parameter.name == "debug"
    logger = logging.getLogger() if debug else logging.getLogger("pumphouse")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)


def logging_options(command: Callable[..., Any]) -> Callable[..., Any]:
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


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--format`."""
    return click.option("-f", "--format", "output_format", type=FORMATS, default="table", show_default=True)(
        command
    )


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--config` and the logging options."""
    option = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The configuration; else $PUMPHOUSE_CONFIG, ./pumphouse.yaml, ~/.config/pumphouse/pumphouse.yaml.",
    )
    return logging_options(option(command))


def cloud_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--source-cloud`, `--destination-cloud` and the configuration's options."""
    for name in ("destination", "source"):
        help_text = "A cloud of clouds.yaml, instead of the file's."
        command = click.option(f"--{name}-cloud", metavar="NAME", help=help_text)(command)
    return config_option(command)


def load(path: Path | None, source_cloud: str | None, destination_cloud: str | None) -> Config:
    """The configuration; its warnings are printed."""
    from pumphouse.config.settings import load

    config = load(path, source_cloud=source_cloud, destination_cloud=destination_cloud)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    return config


def clouds(config: Config, *, read_only: bool = True) -> tuple[Cloud, Cloud]:
    """Both clouds, logged in."""
    from pumphouse.cloud import Cloud

    pairs = (("source", config.source), ("destination", config.destination))
    source, destination = (
        Cloud(cloud, name=name, limits=config.limits, read_only=read_only) for name, cloud in pairs
    )
    source.login()
    destination.login()
    if config.policies.user_passwords == "hash":
        from pumphouse.tasks.keystone.password_hashes import check_databases

        check_databases(source, destination)
    return source, destination


def refuse_same_cloud(config: Config, source: Cloud, destination: Cloud) -> None:
    """Raise ConfigError when both clouds are the same and nobody has said that this is meant."""
    from pumphouse.cloud import same_keystone

    if not config.policies.allow_same_cloud and same_keystone(source, destination):
        raise ConfigError(
            [f"source and destination are the same cloud ({source.auth_url})"],
            "set policies.allow_same_cloud to true if you mean it",
        )


def refuse_other_clouds(plan: Plan, source: Cloud, destination: Cloud, what: str) -> None:
    """Raise ConfigError when a plan was made for other clouds than those of the configuration."""
    from pumphouse.plan.make import title

    for planned, cloud in ((plan.source, source), (plan.destination, destination)):
        if planned != title(cloud):
            raise ConfigError(
                [f"{what} is for {planned}, but the configuration names {title(cloud)}"],
                "give the configuration it was made with, by --config",
            )


def migration(plan: Plan, source: Cloud, destination: Cloud) -> Migration:
    """What the tasks of a plan are made with."""
    from pumphouse.tasks.base import Migration
    from pumphouse.tasks.glance.transfer import TransferLimits

    limits = plan.cfg["limits"]
    transfers = TransferLimits(limits["transfers"], limits["bytes_per_second"])
    return Migration(source, destination, plan.settings, transfers)
