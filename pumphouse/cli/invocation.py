"""What every command is given besides its own arguments: one Invocation."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pumphouse.cli.logs import keep_log
from pumphouse.cli.options import Command, cloud_options, column_option, config_option, format_option
from pumphouse.errors import ConfigError, ObstacleError, UsageError
from pumphouse.show.text import printable

if TYPE_CHECKING:
    from datetime import datetime

    from pumphouse.cloud import Cloud
    from pumphouse.config.settings import Config
    from pumphouse.model import Plan
    from pumphouse.show.console import PrintableConsole
    from pumphouse.tasks.base import Migration

_OF_SOME_COMMANDS = ("yes", "detail", "force_start", "keep_running", "columns", "until")
_LIMITS = ("workers", "transfers", "bytes_per_second")


@dataclass(frozen=True)
class Invocation:
    """The options that commands share, and what they stand for.

    The configuration is read, and the clouds are logged in to, when they are asked for the first time: a command
    first refuses what is wrong with its arguments, and some commands need neither.

    config_path: the file of the configuration; None for the places where it is looked for.
    source_cloud, destination_cloud: clouds of clouds.yaml, instead of those of the configuration.
    output_format: `table`, `json`, `yaml`, `csv` or `value`.
    columns: of what is listed, only these.
    yes: whether to start without asking.
    detail: how much of a plan is printed, by the names of `pumphouse.show.plan.Detail`; None as the command has it.
    limits: what replaces limits of the configuration and of the plan.
    force_start: whether to start although something stands in the way.
    plan: the plan whose mappings, policies and limits replace those of the configuration.
    keep_running: whether servers of the source go on running, whatever the configuration says.
    until: an aware time: a run begins with nothing that will not be done by then; None for no end.
    """

    config_path: Path | None = None
    source_cloud: str | None = None
    destination_cloud: str | None = None
    output_format: str = "table"
    yes: bool = False
    detail: str | None = None
    force_start: bool = False
    plan: Plan | None = None
    keep_running: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    until: datetime | None = None

    @cached_property
    def config(self) -> Config:
        """The configuration; its warnings are printed."""
        from pumphouse.config.settings import load

        config = load(
            self.config_path, source_cloud=self.source_cloud, destination_cloud=self.destination_cloud
        )
        for warning in config.warnings:
            click.echo(printable(f"warning: {warning}"), err=True)
        if self.keep_running:
            config = replace(config, policies=replace(config.policies, source_servers="leave"))
        if self.plan is not None:
            from pumphouse.plan.make import planned_config

            config = planned_config(config, self.plan)
        return replace(config, limits=replace(config.limits, **self.limits))

    @cached_property
    def clouds(self) -> tuple[Cloud, Cloud]:
        """The source and the destination, logged in; both refuse every write unless they are made `writable`."""
        from pumphouse.cloud import Cloud
        from pumphouse.show.status import status_line

        config = self.config
        keep_log(config.state_folder)
        source = Cloud(config.source, name="source", limits=config.limits, read_only=True)
        destination = Cloud(config.destination, name="destination", limits=config.limits, read_only=True)
        for cloud in (source, destination):
            cloud.outages.say = lambda line: click.echo(printable(f"note: {line}"), err=True)
        for cloud, login in [(cloud, _begun_login(cloud)) for cloud in (source, destination)]:
            with status_line(f"logging in to the {cloud.name}, {cloud.auth_url}"):
                login.result()
        if config.policies.user_passwords == "hash":
            from pumphouse.tasks.keystone.password_hashes import check_databases

            check_databases(source, destination)
        return source, destination

    @property
    def source(self) -> Cloud:
        """The cloud that the tenant is moved from."""
        return self.clouds[0]

    @property
    def destination(self) -> Cloud:
        """The cloud that the tenant is moved to."""
        return self.clouds[1]

    @contextmanager
    def writable(self) -> Iterator[None]:
        """Let both clouds be written to for as long as the context lasts."""
        sessions = [cloud.session for cloud in self.clouds]
        for session in sessions:
            session.read_only = False
        try:
            yield
        finally:
            for session in sessions:
                session.read_only = True

    @property
    def is_table(self) -> bool:
        """Whether the output is for people, as the command lays it out."""
        return self.output_format == "table" and not self.columns

    @cached_property
    def console(self) -> PrintableConsole:
        """Where people read the result of a command: stdout, or stderr where stdout is for data."""
        from pumphouse.show.console import console

        return console(stderr=not self.is_table)

    @cached_property
    def messages(self) -> PrintableConsole:
        """Where people read all that is no result: what is about to be done, how far it is, notes."""
        from pumphouse.show.console import console

        return console(stderr=True)

    def print_data(self, data: Any) -> None:
        """Print plain data in the format that was asked for."""
        if self.columns or self.output_format in ("csv", "value"):
            from pumphouse.show.rows import print_rows

            print_rows(data, self.output_format, self.columns)
        else:
            from pumphouse.show.report import dump

            click.echo(dump(data, self.output_format))

    def refuse_unasked(self) -> None:
        """Raise UsageError when nobody can answer what a command asks before it begins."""
        if not self.yes and not (sys.stdin and sys.stdin.isatty()):
            raise UsageError(
                "stdin is not a terminal: there is nobody to ask whether to start",
                "give --yes to start without being asked",
            )

    def refuse_obstacles(self, plans: Sequence[Plan]) -> None:
        """Raise ObstacleError when a run of one of the plans would fail over something, unless `--force` was given."""
        count = sum(obstacle.is_certain for plan in plans for obstacle in plan.obstacles)
        if count and not self.force_start:
            raise ObstacleError(count)

    def confirm(self, question: str) -> bool:
        """Whether to go on: `--yes` was given, or the operator says so; prints what a no means."""
        if self.yes or click.confirm(printable(question), err=True):
            return True
        click.echo("nothing was changed", err=True)
        return False


def _begun_login(cloud: Cloud) -> Future[None]:
    """A login that has begun; a command that ends does not wait for it."""
    login: Future[None] = Future()

    def log_in() -> None:
        try:
            cloud.login()
        except BaseException as error:  # for whoever asks for the result
            login.set_exception(error)
        else:
            login.set_result(None)

    threading.Thread(target=log_in, name=f"login-{cloud.name}", daemon=True).start()
    return login


def invocation_options(*formats: str, clouds: bool = True) -> Callable[[Command], Command]:
    """`--format`, `--config`, the logging options and those of the clouds.

    The command is given their values, and those of the other options of an Invocation that it has, as one Invocation.

    formats: those that the command has besides those of all.
    clouds: whether the command has the options of the clouds.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def invoke(
            *args: Any,
            output_format: str,
            config_path: Path | None,
            source_cloud: str | None = None,
            destination_cloud: str | None = None,
            **kwargs: Any,
        ) -> Any:
            own = {name: kwargs.pop(name) for name in _OF_SOME_COMMANDS if name in kwargs}
            limits = {name: kwargs.pop(name) for name in _LIMITS if name in kwargs}
            own["limits"] = {name: value or None for name, value in limits.items() if value is not None}
            invocation = Invocation(config_path, source_cloud, destination_cloud, output_format, **own)
            return command(*args, invocation=invocation, **kwargs)

        with_clouds = cloud_options(invoke) if clouds else invoke
        return format_option(*formats)(column_option(config_option(with_clouds)))

    return decorate


def refuse_same_cloud(invocation: Invocation) -> None:
    """Raise ConfigError when both clouds are the same and the configuration does not allow that."""
    from pumphouse.cloud import same_keystone

    source, destination = invocation.clouds
    if not invocation.config.policies.allow_same_cloud and same_keystone(source, destination):
        raise ConfigError(
            [f"source and destination are the same cloud ({source.auth_url})"],
            "set policies.allow_same_cloud to true if you mean it",
        )


def refuse_other_clouds(invocation: Invocation, plan: Plan, what: str) -> None:
    """Raise ConfigError when a plan was made for other clouds than those of the configuration.

    what: how the message calls the plan.
    """
    from pumphouse.model import place
    from pumphouse.plan.make import title

    for planned, cloud in zip((plan.source, plan.destination), invocation.clouds, strict=True):
        if not place(planned).is_same(place(title(cloud))):
            raise ConfigError(
                [f"{what} is for {planned}, but the configuration names {title(cloud)}"],
                "give the configuration it was made with, by --config",
            )


def migration_of(invocation: Invocation, plan: Plan) -> Migration:
    """What the tasks of a plan are made with: its settings, and the configuration's file of passwords."""
    from pumphouse.model import Settings
    from pumphouse.plan.make import PASSWORDS_FILE
    from pumphouse.tasks.base import Migration
    from pumphouse.tasks.glance.transfer import TransferLimits

    limits = plan.cfg["limits"]
    transfers = TransferLimits(limits["transfers"], limits["bytes_per_second"])
    file = {PASSWORDS_FILE: str(invocation.config.policies.passwords_file)}
    settings = Settings(mappings=plan.settings["mappings"], policies={**plan.settings["policies"], **file})
    read_at_s = plan.read_at_s
    fresh_until_s = 0.0 if read_at_s is None else read_at_s + invocation.config.limits.plan_fresh_s
    return Migration(*invocation.clouds, settings, transfers, fresh_until_s)
