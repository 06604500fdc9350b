"""The commands around a migration: a configuration to begin with, what is in force, what a ticket wants, completion."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
import yaml
from click.shell_completion import ShellComplete, get_completion_class

from pumphouse import errors
from pumphouse.cli import cli, main
from pumphouse.config.settings import load
from pumphouse.run.record import create_run
from pumphouse.show.console import console
from pumphouse.store import open_store
from tests.unit.memory import TENANT, World, planned

SECRET = "hunter2"
CLOUD = (
    f"{{auth: {{auth_url: 'https://me:{SECRET}@old:5000/v3', username: me, password: {SECRET}, project_name: p,"
    " user_domain_name: Default, project_domain_name: Default}}"
)


@pytest.fixture(autouse=True)
def folder(home: Path) -> Iterator[Path]:
    """The home; what a command was told of colours is forgotten."""
    yield home
    os.environ.pop("PUMPHOUSE_COLOR", None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """Runs a command, which has to end with that exit code; gives what it printed on stdout and stderr."""

    def call(*arguments: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["pumphouse", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.err
        return said.out, said.err

    return call


def write_config(folder: Path) -> None:
    path = folder / "pumphouse.yaml"
    state = f"state: {{url: 'sqlite:///{folder}/s.db'}}\n"
    path.write_text(f"source: {CLOUD}\ndestination: {CLOUD}\n{state}notify: tell --token={SECRET}\n")
    path.chmod(0o600)


# init


def test_a_configuration_is_written_that_can_be_used(folder: Path, run) -> None:
    (folder / "clouds.yaml").write_text("clouds: {old: {}, 'new one': {}, other: {}}\n")
    out, err = run("init")
    assert out == ""
    assert "to move from old to new one" in err
    assert stat.S_IMODE((folder / "pumphouse.yaml").stat().st_mode) == 0o600
    found = load()
    assert (found.source.cloud, found.destination.cloud) == ("old", "new one")
    assert "# Of the clouds of clouds.yaml: old, new one, other." in (folder / "pumphouse.yaml").read_text()


def test_the_clouds_can_be_named(folder: Path, run) -> None:
    (folder / "clouds.yaml").write_text("clouds: {a: {}, b: {}, c: {}}\n")
    run("init", "--destination-cloud", "a", "-o", "p.yaml")
    assert [load(Path("p.yaml")).source.cloud, load(Path("p.yaml")).destination.cloud] == ["b", "a"]
    assert "has no cloud 'x'" in run("init", "--source-cloud", "x", "-o", "q.yaml", code=2)[1]


def test_a_file_that_is_there_is_left_alone(folder: Path, run) -> None:
    (folder / "clouds.yaml").write_text("clouds: {a: {}, b: {}}\n")
    (folder / "pumphouse.yaml").write_text("mine\n")
    assert "is there already" in run("init", code=2)[1]
    assert (folder / "pumphouse.yaml").read_text() == "mine\n"


def test_without_clouds_the_example_is_named(run) -> None:
    assert "pumphouse config example" in run("init", code=2)[1]


# config and doctor


def test_the_example_is_printed(run) -> None:
    example = (Path(__file__).parents[2] / "config.example.yaml").read_text()
    assert run("config", "example")[0] == example


def test_what_is_in_force_is_printed_without_secrets(folder: Path, run) -> None:
    write_config(folder)
    out, err = run("config", "show")
    assert SECRET not in out + err
    data = yaml.safe_load(out)
    assert data["limits"]["login_s"] == 30
    assert data["source"]["auth"]["username"] == "me"
    assert data["source"]["auth"]["password"] == "***"
    assert json.loads(run("config", "show", "-f", "json")[0]) == data


def test_a_ticket_gets_versions_settings_and_the_log_and_no_secret(folder: Path, run) -> None:
    write_config(folder)
    (folder / "pumphouse.log").write_text(f"X-Auth-Token: {SECRET}\nthe end\n")
    out, _ = run("doctor")
    for part in ("keystoneauth1: ", "username: me", "the end", "X-Auth-Token: ***", "runs: -"):
        assert part in out
    assert SECRET not in out
    assert json.loads(run("doctor", "-f", "json")[0])["configuration"]["limits"]["workers"] == 16


def test_a_ticket_can_be_written_where_nothing_works(folder: Path, run) -> None:
    (folder / "pumphouse.yaml").write_text("source: 3\n")
    out, _ = run("doctor")
    assert "problem: pumphouse.yaml" in out
    assert "no log: " in out


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_the_script_of_click(shell: str, run) -> None:
    made = get_completion_class(shell)
    assert made is not None
    out, _ = run("completion", shell)
    assert out.split() == made(cli, {}, "pumphouse", "_PUMPHOUSE_COMPLETE").source().split()
    assert "\\t" not in out.replace("\\t'", "")


def completed(*words: str) -> list[str]:
    *before, begun = words
    found = ShellComplete(cli, {}, "pumphouse", "_PUMPHOUSE_COMPLETE").get_completions(before, begun)
    return [item.value for item in found]


def test_runs_and_tenants_of_the_store_and_clouds_are_completed(folder: Path, world: World) -> None:
    write_config(folder)
    with closing(open_store(f"sqlite:///{folder}/s.db")) as store:
        made = create_run(store, planned(TENANT))
    (folder / "clouds.yaml").write_text("clouds: {alpha: {}, beta: {}}\n")
    for command in (["resume"], ["revert"], ["report"], ["runs", "show"], ["verify", "tenant", "x", "--run"]):
        assert completed(*command, made.id[:2]) == [made.id]
    assert completed("migrate", "tenant", "") == ["t"]
    assert completed("runs", "list", "--tenant", "") == ["t"]
    assert completed("check", "--source-cloud", "a") == ["alpha"]
    assert "revert" in completed("re")


def test_what_cannot_be_read_completes_nothing(folder: Path) -> None:
    (folder / "pumphouse.yaml").write_text("source: [\n")
    assert completed("resume", "") == []


# colours, variables, exit codes


@pytest.mark.parametrize(
    ("given", "coloured"), [("always", True), ("never", False), ("auto", False), (None, False)]
)
def test_colours_are_what_was_asked_for(
    given: str | None, coloured: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if given:
        monkeypatch.setenv("PUMPHOUSE_COLOR", given)
    console().print("text", style="red")
    assert ("\x1b[" in capsys.readouterr().out) == coloured


def test_every_option_can_be_given_by_a_variable(folder: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(folder)
    monkeypatch.setenv("PUMPHOUSE_RUNS_LIST_OUTPUT_FORMAT", "json")
    assert run("runs", "list")[0] == "[]\n"
    monkeypatch.setenv("PUMPHOUSE_RUNS_LIST_STATE", "XX")
    assert "'XX' is not one of" in run("runs", "list", code=2)[1]


def test_every_exit_code_is_in_the_help() -> None:
    codes = {
        value for name, value in vars(errors).items() if name.startswith("EXIT_") and name != "EXIT_CODES"
    }
    assert codes == errors.EXIT_CODES.keys()
    with click.Context(cli) as context:
        said = cli.get_help(context).partition("Exit codes:")[2]
    assert {str(code) for code in codes} == set(re.findall(r"(?m)^  (\d+) ", said))


def leaves(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """All commands that are not groups, by their names."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    for name in command.list_commands(click.Context(command)):
        found = command.get_command(click.Context(command), name)
        assert found is not None
        yield from leaves(found, *path, name)


def test_every_command_that_has_a_table_has_formats_and_columns() -> None:
    options = {name: {opt for p in command.params for opt in p.opts} for name, command in leaves(cli)}
    without = {name for name, has in options.items() if not {"-f", "-c"} <= has}
    # They print a script or a file as it is, or only that a file was written.
    assert without == {"completion", "config example", "init"}
