"""What the command line does before it talks to a cloud."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from bench.commands import PAGE, page
from pumphouse import __version__, errors
from pumphouse.cli import COMMANDS, cli, kinds, several
from pumphouse.cli.invocation import Invocation
from pumphouse.cli.migrate import tenant_command
from pumphouse.model import Ref, Selection
from pumphouse.plan.file import save_plan
from pumphouse.run.events import Noted
from pumphouse.run.record import create_run
from pumphouse.store import open_store
from pumphouse.tasks import KINDS
from tests.unit.memory import TENANT, World, execute, planned

HEAVY = (
    "keystoneauth1", "keystoneclient", "novaclient", "glanceclient", "openstack", "taskflow", "networkx",
    "sqlalchemy", "rich", "yaml", "jsonschema", "requests",
)  # fmt: skip


@pytest.mark.parametrize("arguments", [["--help"], ["migrate", "tenant", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom pumphouse.cli import cli\n"
        f"try:\n    cli({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('loaded:', *sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY!r})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "loaded:"


def test_the_list_of_commands_has_the_help_of_each() -> None:
    with click.Context(cli) as context:
        commands = {name: cli.get_command(context, name) for name in COMMANDS}
    said = {name: command.get_short_help_str(200) for name, command in commands.items()}
    assert said == {name: text for name, (_, text) in COMMANDS.items()}
    assert {name: command.name for name, command in commands.items()} == {name: name for name in COMMANDS}


def loaded_by(*arguments: str) -> set[str]:
    """What a command that succeeds has imported, and not put off."""
    code = (
        "import sys\nfrom pumphouse.cli import main\nfrom importlib.util import _LazyModule\n"
        f"sys.argv = {['pumphouse', *arguments]!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', *(name for name, module in sys.modules.items() if type(module) is not _LazyModule))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split()[1:])


def test_to_look_at_runs_takes_no_client_no_kind_and_no_engine(world: World, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    with closing(open_store(url)) as store:
        execute(create_run(store, planned(TENANT)), world)
    config = tmp_path / "pumphouse.yaml"
    config.write_text(f"state: {{url: '{url}'}}\n")
    unused = {*HEAVY, "alembic", "pumphouse.tasks", "pumphouse.cloud", "taskflow.engines"} - {
        "taskflow", "rich", "yaml", "jsonschema",
    }  # fmt: skip
    for command in (["list"], ["show", "last"]):
        loaded = loaded_by("runs", *command, "--config", str(config))
        assert "pumphouse.run.summary" in loaded
        assert loaded & unused == set()


def test_to_show_a_plan_takes_no_client_no_kind_and_no_engine(world: World, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    save_plan(planned(TENANT), file)
    loaded = loaded_by("plan", "show", str(file))
    assert "pumphouse.show.plan" in loaded
    unused = {*HEAVY, "alembic", "pumphouse.tasks", "pumphouse.cloud", "pumphouse.plan.file"} - {
        "rich",
        "yaml",
    }
    assert loaded & unused == set()


def test_a_migration_takes_no_engine_and_no_client_of_a_service_to_its_first_request(tmp_path: Path) -> None:
    auth = {"auth_url": "http://127.0.0.1:1/v3", "username": "u", "password": "p", "project_name": "p"}
    cloud = {"auth": {**auth, "user_domain_name": "Default", "project_domain_name": "Default"}}
    config = tmp_path / "pumphouse.yaml"
    config.write_text(json.dumps({"source": cloud, "destination": cloud}))
    # The process says what it has loaded, and ends, when its first request begins.
    code = (
        "import os, sys, requests\nfrom pumphouse.cli import main\n"
        "def send(*_, **__):\n    os.write(1, ' '.join(sys.modules).encode())\n    os._exit(0)\n"
        "requests.Session.send = send\n"
        f"sys.argv = ['pumphouse', 'migrate', 'tenant', 't', '--yes', '--config', {str(config)!r}]\nmain()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "pumphouse.cloud.login" in loaded
    clients = {f"{service}client" for service in ("keystone", "nova", "glance", "cinder", "neutron")}
    assert loaded & {*clients, "alembic", "networkx", "sqlalchemy", "taskflow"} == set()


def test_a_shell_completes_the_ids_of_runs(world: World, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    with closing(open_store(url)) as store:
        runs = [create_run(store, planned(TENANT)).id for _ in range(2)]
    config = tmp_path / "pumphouse.yaml"
    config.write_text(f"state: {{url: '{url}'}}\n")
    complete = ShellComplete(cli, {}, "pumphouse", "_COMPLETE").get_completions
    for command in (["runs", "show"], ["resume"], ["revert"], ["report"]):
        arguments = [*command, "--config", str(config)]
        assert [item.value for item in complete(arguments, "")] == runs[::-1]
        assert [item.value for item in complete(arguments, runs[0][:6])] == runs[:1]
        assert complete([*command, "--config", str(tmp_path)], "") == []


def test_the_help_names_the_kinds_that_say_they_can_be_named() -> None:
    assert set(kinds.NAMEABLE_KINDS) == {name for name, kind in KINDS.items() if kind.nameable}
    assert set(kinds.OWNED_KINDS) == {name for name, kind in KINDS.items() if kind.find_anywhere}


def test_version() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"pumphouse, version {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        ["migrate", "tenant"],
        ["migrate", "tenant", "x", "-f", "xml"],
        ["chek"],
        ["migrate", "tenant", "a", "--all-tenants"],
        ["plan", "tenant", "a", "b", "--server", "web"],
        ["plan", "tenant", "a", "b", "-o", "plan.yaml"],
        ["migrate", "tenant", "--all-tenants", "--dry-run", "-o", "plan.yaml"],
        ["migrate", "server", "web", "-o", "plan.yaml"],
        ["migrate", "keypair", "key"],
    ],
)
def test_usage_errors_exit_2(command: list[str]) -> None:
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2
    assert "Error:" in result.output


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pumphouse", *arguments], capture_output=True, text=True, check=False
    )


def test_a_process_of_one_of_several_tenants_is_given_what_all_were() -> None:
    invocation = Invocation(
        Path("p.yaml"),
        keep_running=True,
        force_start=True,
        limits={"workers": 3},
        until=datetime(2030, 1, 2, 4, 30).astimezone(),
    )
    selection = Selection(("server",), ("volume",), conditions=("tag=wave-1",))
    plan: Any = SimpleNamespace(tenant=Ref("tenant", "t1"))
    command = several._command(invocation, plan, selection)
    assert command[1:4] == ["-m", "pumphouse", "migrate"]
    parsed = tenant_command.make_context("tenant", command[5:]).params
    assert (parsed["tenants"], parsed["yes"], parsed["output_format"]) == (("t1",), True, "json")
    assert (parsed["only"], parsed["skip"]) == (("server",), ("volume",))
    assert (parsed["servers"], parsed["workers"], parsed["until"]) == (("tag=wave-1",), 3, invocation.until)
    assert parsed["keep_running"]
    assert parsed["force_start"]


def test_of_several_tenants_every_exit_code_has_its_place() -> None:
    assert set(several._WORSE) == errors.EXIT_CODES.keys()
    assert len(several._WORSE) == len(errors.EXIT_CODES)


def test_missing_configuration_is_one_message_with_a_hint(tmp_path) -> None:
    result = run("migrate", "tenant", "x", "--yes", "--config", str(tmp_path / "none.yaml"))
    assert result.returncode == 2
    assert "none.yaml" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_every_problem_of_a_configuration_is_said_at_once(tmp_path) -> None:
    path = tmp_path / "pumphouse.yaml"
    path.write_text("source:\n  regoin: x\ndestination: 3\nlimits:\n  workers: many\n")
    result = run("check", "--config", str(path))
    assert result.returncode == 2
    assert f"{path}:2: unknown setting 'regoin'" in result.stderr
    assert f"{path}:3:" in result.stderr
    assert f"{path}:5:" in result.stderr
    assert "Traceback" not in result.stderr


def test_cloud_that_does_not_answer_is_exit_4(tmp_path) -> None:
    path = tmp_path / "pumphouse.yaml"
    cloud = (
        "{auth: {auth_url: 'http://127.0.0.1:9/v3', username: u, password: hush-hush, project_name: p,"
        " user_domain_name: Default, project_domain_name: Default}}"
    )
    path.write_text(f"source: {cloud}\ndestination: {cloud}\n")
    path.chmod(0o600)
    result = run("check", "--config", str(path))
    assert result.returncode == 4
    assert "http://127.0.0.1:9" in result.stderr
    assert "hush-hush" not in result.stderr + result.stdout
    assert "Traceback" not in result.stderr


def test_tenants_are_moved_by_processes_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; print('working', file=sys.stderr); print('the end', file=sys.stderr); print('{\"run\": \"r\"}'); sys.exit(3)"
    monkeypatch.setattr(several, "_command", lambda *_: [sys.executable, "-c", code])
    plans = [replace(planned(TENANT), tenant=Ref("tenant", i), tenant_name=f"shop {i}") for i in "abc"]
    results = several._migrate_at_once(Invocation(), plans, Selection(), 2)
    assert [(r.plan, r.code, r.problem) for r in results] == [(plan, 3, "the end") for plan in plans]
    assert several._data(results[0]) == {"exit_code": 3, "run": "r"}
    assert several._sentence(results[0]) == "run r: the end"
    assert "shop a: working\n" in capsys.readouterr().err


def test_what_the_processes_tell_of_their_runs_is_in_one_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = '{"event": "note", "line": "x"}'
    code = f"import sys; open(sys.argv[-1], 'a').write({line!r} + chr(10))"
    monkeypatch.setattr(several, "_command", lambda *_: [sys.executable, "-c", code])
    plans = [replace(planned(TENANT), tenant=Ref("tenant", i), tenant_name=i) for i in "ab"]
    told: list[Any] = []
    monkeypatch.setattr(
        "pumphouse.show.tenants.TenantsProgress.tell", lambda _, plan, event: told.append((plan, event))
    )
    with (tmp_path / "log").open("a") as log:
        monkeypatch.setattr(several, "log_json_file", lambda: log)
        several._migrate_at_once(Invocation(), plans, Selection(), 1)
    assert (tmp_path / "log").read_text().splitlines() == [line] * 2
    assert told == [(plan, Noted("x")) for plan in plans]


def test_an_interruption_reaches_every_process_and_no_other_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = (
        "import signal, sys, time, pathlib; signal.signal(signal.SIGINT, lambda *_: sys.exit(130));"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch(); time.sleep(60)"
    )
    monkeypatch.setattr(several, "_command", lambda *_: [sys.executable, "-c", code])

    def interrupt() -> None:
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    plans = [replace(planned(TENANT), tenant=Ref("tenant", i), tenant_name=i) for i in "ab"]
    results = several._migrate_at_once(Invocation(), plans, Selection(), 1)
    assert [result.code for result in results] == [130, 130]
    assert "not started" in results[1].problem


def test_the_page_of_commands_is_what_they_say_of_themselves() -> None:
    assert PAGE.read_text() == page(), "make it again with python -m bench.commands"
