"""The one object that commands are given: what it reads and when, and when clouds may be written to."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from contextlib import suppress
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

import pumphouse.cli
from pumphouse.cli.invocation import Invocation, invocation_options, refuse_other_clouds, refuse_same_cloud
from pumphouse.cli.options import until_option, yes_option
from pumphouse.cloud import Cloud
from pumphouse.config.settings import CloudConfig, Config, Policies
from pumphouse.errors import CloudError, ConfigError
from pumphouse.run.execute import is_past


def cloud(name: str) -> Any:
    session = SimpleNamespace(read_only=True, auth=None)
    return SimpleNamespace(
        name=name, auth_url=f"https://{name}", session=session, region="One", is_admin=True
    )


@pytest.fixture
def invocation(monkeypatch: pytest.MonkeyPatch) -> Invocation:
    """An invocation whose clouds are logged in."""
    monkeypatch.setattr(Invocation, "clouds", (cloud("old"), cloud("new")))
    return Invocation()


def given(*arguments: str, **options: bool) -> Invocation:
    """What a command is given when it is called with these arguments."""
    found: list[Invocation] = []

    @click.command()
    @yes_option("before it begins")
    @invocation_options(**options)
    def command(invocation: Invocation) -> None:
        found.append(invocation)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return found[0]


def test_a_command_is_given_its_options_and_nothing_is_read() -> None:
    clouds = ("--source-cloud", "old", "--destination-cloud", "new")
    assert given("--yes", "-f", "json", "--config", "none.yaml", *clouds) == Invocation(
        Path("none.yaml"), "old", "new", "json", yes=True
    )
    assert given() == Invocation()
    assert given(clouds=False) == Invocation()


def test_servers_go_on_running_where_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(CloudConfig(), CloudConfig(), policies=Policies(source_servers="stop"))
    monkeypatch.setattr("pumphouse.config.settings.load", lambda *_, **__: config)
    assert Invocation().config.policies.source_servers == "stop"
    assert Invocation(keep_running=True).config.policies.source_servers == "leave"


@pytest.mark.parametrize("given", ["00:00", "04:30", "23:59"])
def test_a_time_of_day_is_the_next_one(given: str) -> None:
    found: list[Invocation] = []

    @click.command()
    @until_option
    @invocation_options()
    def command(invocation: Invocation) -> None:
        found.append(invocation)

    assert CliRunner().invoke(command, ["--until", given]).exit_code == 0
    until, now = found[0].until, datetime.now().astimezone()
    assert until is not None
    assert f"{until:%H:%M}" == given
    assert now < until <= now + timedelta(days=1)
    assert not is_past(until)
    assert CliRunner().invoke(command, ["--until", "2020-01-01 04:00"]).exit_code == 0
    assert is_past(found[1].until)


def test_an_invocation_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Invocation().yes = True  # type: ignore[misc]


def test_the_configuration_is_read_once_and_its_warnings_are_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pumphouse.yaml"
    login = "{auth: {auth_url: 'http://127.0.0.1:9/v3', username: u, password: p, project_name: p,"
    login += " user_domain_name: Default, project_domain_name: Default}}"
    path.write_text(f"source: {login}\ndestination: {login}\n")
    path.chmod(0o644)
    invocation = Invocation(path)
    assert invocation.config is invocation.config
    assert capsys.readouterr().err.count("warning: ") == 1


def both_clouds(folder: Path) -> Invocation:
    auth = (
        "{auth: {auth_url: 'http://127.0.0.1:1/v3', username: u, password: p, project_name: p,"
        " user_domain_name: Default, project_domain_name: Default}}"
    )
    config = folder / "pumphouse.yaml"
    config.write_text(f"source: {auth}\ndestination: {auth}\nstate: {{url: 'sqlite:///{folder}/s.db'}}\n")
    config.chmod(0o600)
    return Invocation(config)


def test_both_clouds_are_logged_in_to_at_the_same_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(Cloud, "login", lambda _cloud: both.wait())
    assert [each.name for each in both_clouds(home).clouds] == ["source", "destination"]


def test_of_two_logins_that_are_refused_that_of_the_source_is_said_and_the_other_not_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()

    def refuse(cloud: Cloud) -> None:
        if cloud.name == "destination":
            let_go.wait(10)
        raise CloudError(f"{cloud.name} is not there")

    monkeypatch.setattr(Cloud, "login", refuse)
    with pytest.raises(CloudError, match="source is not there"):
        _ = both_clouds(home).clouds
    assert not let_go.is_set()
    let_go.set()


def test_clouds_are_writable_for_as_long_as_the_context_lasts(invocation: Invocation) -> None:
    def read_only() -> list[bool]:
        return [cloud.session.read_only for cloud in invocation.clouds]

    with suppress(KeyboardInterrupt), invocation.writable():
        assert read_only() == [False, False]
        raise KeyboardInterrupt
    assert read_only() == [True, True]


@pytest.mark.parametrize("ending", ["", "/", ":443/v3", "/v3/ region One", " region One"])
def test_a_plan_for_the_same_clouds_is_taken_however_they_are_written(
    invocation: Invocation, ending: str
) -> None:
    plan = SimpleNamespace(source="old https://OLD", destination=f"new HTTPS://new{ending}")
    refuse_other_clouds(invocation, plan, "p")


@pytest.mark.parametrize(
    "other", ["new https://third", "new https://new/v3 region Two", "new https://new:5000"]
)
def test_a_plan_for_other_clouds_is_refused(invocation: Invocation, other: str) -> None:
    plan = SimpleNamespace(source="old https://old", destination=other)
    with pytest.raises(ConfigError) as caught:
        refuse_other_clouds(invocation, plan, "run 12ab")
    expected = f"run 12ab is for {other}, but the configuration names new https://new region One"
    assert caught.value.problems == (expected,)


@pytest.mark.parametrize("is_allowed", [True, False])
def test_the_same_cloud_twice_is_refused_unless_it_is_allowed(
    invocation: Invocation, monkeypatch: pytest.MonkeyPatch, is_allowed: bool
) -> None:
    config = SimpleNamespace(policies=SimpleNamespace(allow_same_cloud=is_allowed))
    monkeypatch.setattr(Invocation, "config", config)
    monkeypatch.setattr("pumphouse.cloud.same_keystone", lambda one, other: True)
    if is_allowed:
        refuse_same_cloud(invocation)
        return
    with pytest.raises(ConfigError, match="source and destination are the same cloud"):
        refuse_same_cloud(invocation)


@pytest.mark.parametrize("name", [found.name for found in pkgutil.iter_modules(pumphouse.cli.__path__)])
def test_no_command_hides_the_module_it_is_in(name: str) -> None:
    importlib.import_module(f"pumphouse.cli.{name}")
    assert isinstance(getattr(pumphouse.cli, name), ModuleType)
